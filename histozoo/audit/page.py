"""The page of an audit: one table of everything, the gravest findings, and a section per task. Text in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from histozoo.audit import charts, style
from histozoo.audit.findings import SEVERITIES, AuditReport, Finding, TaskAudit
from histozoo.audit.overview import badges, overview

Sheets = Mapping[str, Mapping[str, str]]
"""Task -> class word -> picture in a data URI."""
Pairs = Mapping[str, Sequence[tuple[str, str]]]
"""Task -> (caption, picture of pairs of copies)."""

_GRAVEST = 14


def write_page(report: AuditReport, sheets: Sheets, pairs: Pairs) -> str:
    """Returns the page, with every picture inside it; names are escaped.

    Args:
        report: What was found.
        sheets: Contact sheets.
        pairs: Copies to show.
    """
    body = [_top(report), overview(report), _gravest(report), _licence(report)]
    body += [
        _section(report, task, sheets.get(task.name, {}), pairs.get(task.name, ())) for task in report.tasks
    ]
    return style.PAGE.format(n=len(report.tasks), css=style.CSS, body="\n".join(body))


def _top(report: AuditReport) -> str:
    tiles, read = sum(t.n for t in report.tasks), sum(t.n_read for t in report.tasks)
    counts = {s: sum(f.severity == s for f in report.findings) for s in SEVERITIES}
    shown = " ".join(
        f'<span class="badge {s}">{n} {s}{"s" if n != 1 else ""}</span>' for s, n in counts.items()
    )
    looked = f"all {tiles:,} tiles" if read == tiles else f"{read:,} of {tiles:,} tiles"
    of_all = "" if read == tiles else ", but for groups and splits, which are those of all"
    said = f"{looked} looked at; everything here was measured on them{of_all}{_draw(report)}"
    return f'<h1>Audit of {len(report.tasks)} tasks</h1><p>{shown} <span class="dim">&nbsp;{said}</span></p>'


def _draw(report: AuditReport) -> str:
    """Returns what must be said where copies were looked for among a draw only: a pair is found only if both its tiles were drawn."""
    n = sum(t.n_read for t in report.tasks)
    if not report.compared or report.compared >= n:
        return ""
    share = report.compared / n
    return (
        f", but for copies: near and turned ones were looked for among {report.compared:,} tiles drawn by chance ({share:.0%}), so that "
        f"about {share**2:.0%} of such pairs are seen; equal pixels were looked for among all"
    )


# -- findings --------------------------------------------------------------------------------------------------------------------------


def _gravest(report: AuditReport) -> str:
    grave = [f for f in report.findings if f.severity != "note"]
    if not grave:
        return "<section><h2>The gravest first</h2><p>No error and no warning.</p></section>"
    rest = len(grave) - _GRAVEST
    more = f'<p class="dim">and {rest} more, in the sections below</p>' if rest > 0 else ""
    items = "".join(_item(f, name=True) for f in grave[:_GRAVEST])
    return f'<section><h2>The gravest first</h2><ul class="gravest">{items}</ul>{more}</section>'


def _item(finding: Finding, *, name: bool = False) -> str:
    who = f'<a href="#{escape(finding.task)}"><b>{escape(finding.task)}</b></a>' if name else ""
    step = f' <span class="dim">&rarr; {escape(finding.next_step)}</span>' if finding.next_step else ""
    said = f"{who}<code>{escape(finding.code)}</code> {escape(finding.sentence)}{step}"
    badge = f'<span class="badge {finding.severity}">{finding.severity}</span>'
    return f"<li><span>{badge}</span><span>{said}</span></li>"


def _licence(report: AuditReport) -> str:
    chain = report.licence
    free = ", ".join(chain["free"]) or "no task"
    deciding = f"Decided by {escape(', '.join(chain['deciding']))}. " if chain["deciding"] else ""
    use, word = escape(chain["all"]["use"]), chain["all"]["licence"]
    return (
        f"<section><h2>Weights trained on all of these: {use} <code>{word}</code></h2>"
        f"<p>{deciding}Free for any use if trained on these alone: {escape(free)}.</p>"
        '<p class="dim">Computed from the licences that the tasks declare; not legal advice.</p></section>'
    )


# -- one task --------------------------------------------------------------------------------------------------------------------------


def _section(
    report: AuditReport, task: TaskAudit, sheets: Mapping[str, str], pairs: Sequence[tuple[str, str]]
) -> str:
    found = report.of(task.name)
    items = "".join(_item(f) for f in found) or "<li><span></span><span>Nothing found.</span></li>"
    bars = charts.class_bars(task.counts, task.groups["per_class"])
    spread = charts.spreads(task.statistics, task.classes)
    parts = [
        _head(task, found),
        f'<div class="two"><ul class="gravest">{items}</ul><div>{bars}',
        f"<h3>Tiles per group</h3>{charts.group_sizes(task.groups)}{_traps(task)}</div></div>",
        "<h3>Spread in each class: median, middle half, middle nine tenths</h3>",
        f'<div class="panels">{spread}</div>',
        "<h3>Tiles of each class, drawn at random</h3>",
        *(_strip(task, word, uri) for word, uri in sheets.items()),
        *(_copies(caption, uri) for caption, uri in pairs),
    ]
    return f'<section id="{escape(task.name)}">{"".join(parts)}</section>'


def _traps(task: TaskAudit) -> str:
    if not task.traps:
        return ""
    items = "".join(f"<li>{escape(trap)}</li>" for trap in task.traps)
    return f'<h3>What the declaration warns of (not measured here)</h3><ul class="traps">{items}</ul>'


def _head(task: TaskAudit, found: Sequence[Finding]) -> str:
    title = escape(task.licence, quote=True)
    chip = f'<span class="badge {task.licence_kind}" title="{title}">licence {task.licence_kind}</span>'
    facts = f'<span class="dim">{escape(" · ".join(_facts(task)))}</span>'
    return f'<div class="head"><h2>{escape(task.name)}</h2>{badges(found)}{chip}{facts}</div>'


def _strip(task: TaskAudit, word: str, uri: str) -> str:
    edge = charts.colour(task.classes.index(word))
    picture = f'<img alt="tiles of class {escape(word)}" src="{uri}">'
    return f'<div class="sheet"><b style="border-color:{edge}">{charts.breakable(word)}</b>{picture}</div>'


def _copies(caption: str, uri: str) -> str:
    picture = f'<img alt="{escape(caption)}" src="{uri}">'
    return f'<h3>{escape(caption)}</h3><div class="pairs">{picture}</div>'


def _facts(task: TaskAudit) -> list[str]:
    looked = (
        f"{task.n:,} tiles" if task.n == task.n_read else f"{task.n_read:,} of {task.n:,} tiles looked at"
    )
    files = (f"{key} {value}" for key, value in task.formats.get("summary", {}).items())
    facts = [task.organ, task.stain, looked, *files]
    if task.splits:
        sizes = ", ".join(f"{name} {sum(n.values()):,}" for name, n in task.splits.items())
        facts.append(f"official split {sizes}")
    return facts
