"""Standings as one HTML file with its plots inside: nothing is loaded from anywhere, so that it can be sent to a pathologist by mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from histozoo.evaluate.compare import confusion
from histozoo.evaluate.compare.look_pages import section
from histozoo.evaluate.compare.looking import Looked
from histozoo.evaluate.compare.plots import colour, intervals
from histozoo.evaluate.compare.rows import Row
from histozoo.evaluate.compare.standings import METRICS, Standings
from histozoo.evaluate.compare.table import by_model, called, counted, crowned, interval
from histozoo.evaluate.verdicts import Verdict

PLAIN = {
    "balanced_accuracy": "the share of tiles called rightly, each class counting the same; guessing gives 1 by the number of classes",
    "roc_auc_ovr": "the chance that a tile of a class is scored higher than a tile of another; guessing gives 0.5",
    "log_loss": "how little probability was given to the right class; 0 is perfect",
    "brier_score_loss": "the squared distance of the probabilities from the truth; 0 is perfect",
    "expected_calibration_error": "how far stated certainty is from the share that was right, in 15 bins; 0 is perfect",
}
"""Metrics in words for readers who do not compute."""

CSS = """
:root { --ink: #1d1f27; --dim: #626878; --line: #e3e6ec }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); background: #f5f6f9; margin: 0 }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px }
h1 { font-size: 25px; margin: 0 0 6px } h2 { font-size: 19px; margin: 0 0 4px } h3 { font-size: 14px; margin: 20px 0 6px }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 18px 0 }
p { margin: 6px 0; max-width: 80ch } .dim { color: var(--dim); font-size: 13px }
table { border-collapse: collapse; width: 100%; font-size: 13px }
th { text-align: left; color: var(--dim); font-weight: 600 } th, td { padding: 4px 8px; border-bottom: 1px solid var(--line) }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums } td.n { white-space: nowrap }
th { vertical-align: bottom } table.narrow { width: auto; min-width: 420px } summary { cursor: pointer; margin: 8px 0 }
section.more { margin-top: -10px; padding: 4px 20px } section.more h2 { display: inline; font-size: 15px }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 6px }
.won { font-weight: 600 } .scroll { overflow-x: auto }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink) } svg .tick { fill: var(--dim); font-size: 11px }
code { font-size: 12px; background: #eef0f4; padding: 1px 5px; border-radius: 3px; overflow-wrap: anywhere }
@media print { body { background: #fff } section { break-inside: avoid-page } }
"""


def page(all_of: Sequence[Standings], looked: Sequence[Looked] = (), *, facts: Mapping[str, Any]) -> str:
    """Returns the page; names are escaped.

    Args:
        all_of: Standings, in the order they are shown.
        looked: Looks, shown below.
        facts: `command`, `version`, `seeds`, `resamples` of what made them.
    """
    models = list(dict.fromkeys(m for found in all_of for m in found.models))
    models = models or list(dict.fromkeys(s.model for found in looked for s in found.found))
    key = "".join(
        f'<span style="margin-right:18px"><span class="dot" style="background:{colour(i)}"></span>{escape(m)}</span>'
        for i, m in enumerate(models)
    )
    body = "".join(_section(found, models) for found in all_of) + "".join(map(section, looked))
    reading = _how_to_read(facts) if all_of else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>histozoo: models side by side</title>'
        f"<style>{CSS}</style></head><body><main><h1>Models side by side</h1><p>{key}</p>{reading}{body}"
        f"{_made_by(facts)}</main></body></html>\n"
    )


def _how_to_read(facts: Mapping[str, Any]) -> str:
    return f"""<section><h2>How to read this</h2>
<p>Every dot is a model on a task. The line through it is the 95&nbsp;% interval: {facts["resamples"]:,} times the patients (or slides, or
photographs) of the task were drawn anew and the score was taken again; where lines are long there are few patients. A difference counts
only where p, corrected for the number of comparisons, is below 0.05. Otherwise nobody has won, and the last column says how large a
difference would have shown in four of five cases. Hollow dots are models that were trained on the same slides or patients: such a score
says nothing about new tissue and takes no part in ranks. Pale dots are models of which nobody knows whether they were. A broken grey line
is what guessing gives.</p>
<p class="dim">Where every tile was predicted by folds, lines are 1.5 times as long as the drawing of patients alone would make them,
since the classifiers of the folds share most of their training tiles (Nadeau and Bengio, 2003). With fewer than about 30 patients lines are
still too short. Where a model is the mean of several seeds, its interval for other patients and other seeds is among all
numbers.</p></section>"""


def _section(found: Standings, models: Sequence[str]) -> str:
    words = PLAIN.get(found.metric, "").replace("tile", counted(found.protocol).removesuffix("s"))
    plain = f"<p>{escape(found.metric)}: {escape(words)}.</p>" if words else ""
    undefined = "".join(
        f"<p class='dim'>undefined and not counted: {escape(t)}, {escape(why)}</p>"
        for t, why in found.undefined.items()
    )
    direction = "higher is better" if found.higher_is_better else "lower is better"
    title = f"<h2>{escape(found.protocol)}: {escape(found.metric)}, {direction}</h2>"
    told = f"{plain}{intervals(found, models)}{_ranks(found)}{_differences(found)}{_shots(found)}{_numbers(found)}"
    told += f"{confusion.section(found.confusions)}{undefined}"
    if found.metric == METRICS[0]:
        return f"<section>{title}{told}</section>"
    # Further metrics of the same predictions are no further evidence: there for who asks.
    return f"<section class='more'><details><summary>{title}</summary>{told}</details></section>"


def _ranks(found: Standings) -> str:
    if found.podium is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(s.model)}</td><td class='n'>{interval(s.rank, s.low, s.high)}</td></tr>"
        for s in found.podium.standings
    )
    said = f"Better than every other: {escape(crowned(found))}."
    return (
        f"<h3>Mean rank over {len(found.clean)} tasks that no model is known to have been trained on (1 is best)</h3>"
        f"<table class='narrow'><tr><th>model</th><th class='n'>mean rank</th></tr>{rows}</table><p>{said}</p>"
    )


def _differences(found: Standings) -> str:
    if not found.verdicts:
        return ""
    rows = "".join(_difference(v, found) for v in found.verdicts)
    return (
        f"<h3>{escape(found.models[0])} minus each other model, on the same patients</h3><div class='scroll'><table><tr><th>task</th>"
        "<th>compared with</th><th class='n'>difference</th><th class='n'>p, corrected</th><th>better</th>"
        "<th class='n'>would have shown</th></tr>"
        f"{rows}</table></div>"
    )


def _difference(v: Verdict, found: Standings) -> str:
    won = " class='won'" if v.outcome in (v.first, v.second) else ""
    p = "" if v.p_holm is None else f"{v.p_holm:.4f}"
    return (
        f"<tr><td>{escape(v.task)}</td><td>{escape(v.second)}</td><td class='n'>{v.difference:+.3f} [{v.low:+.3f}, {v.high:+.3f}]</td>"
        f"<td class='n'>{p}</td><td{won}>{escape(called(v, found))}</td><td class='n'>{v.detectable:.3f}</td></tr>"
    )


def _shots(found: Standings) -> str:
    if not found.shots:
        return ""
    sizes = sorted({s.shots for s in found.shots})
    head = "".join(f"<th class='n'>{size}</th>" for size in sizes)
    rows = ""
    for (task, model), several in by_model(found.shots).items():
        told = {s.shots: interval(s.mean, s.low, s.high) for s in several}
        cells = "".join(f"<td class='n'>{told.get(size, '')}</td>" for size in sizes)
        rows += f"<tr><td>{escape(task)}</td><td>{escape(model)}</td>{cells}</tr>"
    left_out = "".join(f"<p>{escape(f'{task}: {why}.')}</p>" for task, why in found.shots_left_out.items())
    return (
        "<h3>How few tiles are enough: balanced accuracy by tiles of each class that were learnt from</h3><p class='dim'>The mean of many "
        "draws of these tiles, and where 95&nbsp;% of the draws lie: how much the choice of tiles matters. No interval over patients. The "
        "dots above are the vote of all draws of the largest number, a committee that has seen far more tiles than one draw.</p>"
        f"<div class='scroll'><table><tr><th>task</th><th>model</th>{head}</tr>{rows}</table></div>{left_out}"
    )


def _numbers(found: Standings) -> str:
    if not found.rows:
        return ""
    rows = "".join(_number(row) for row in found.rows)
    return (
        "<details><summary class='dim'>all numbers</summary><div class='scroll'><table><tr><th>task</th><th>model</th>"
        f"<th class='n'>value</th><th class='n'>seeds</th><th class='n'>with other seeds</th><th class='n'>{counted(found.protocol)}</th>"
        f"<th class='n'>groups</th><th>this lineage is</th></tr>{rows}</table></div></details>"
    )


def _number(row: Row) -> str:
    numbers = (
        interval(row.value, row.low, row.high),
        f"{row.n_models}",
        "" if row.total_low is None else f"[{row.total_low:.3f}, {row.total_high:.3f}]",
        f"{row.n:,}",
        f"{row.n_groups:,}",
    )
    cells = "".join(f"<td class='n'>{n}</td>" for n in numbers)
    return (
        f"<tr><td>{escape(row.task)}</td><td>{escape(row.model)}</td>{cells}<td>{escape(row.seen)}</td></tr>"
    )


def _made_by(facts: Mapping[str, Any]) -> str:
    seeds = ", ".join(map(str, facts["seeds"]))
    made = f"histozoo {escape(str(facts['version']))}, seed{'s' * (len(facts['seeds']) > 1)} {seeds}"
    return f"<p class='dim'>{made}; made by <code>{escape(facts['command'])}</code></p>"
