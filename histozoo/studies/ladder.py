"""Which pretraining method gives the best features for the same tiles, trunk and work? Each several times, on tasks it never saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.measure import measure
from histozoo.evaluate.compare.plan import Plan
from histozoo.evaluate.compare.standings import METRICS, Standings, resampled, standings
from histozoo.evaluate.encoders import Encoder, encoder
from histozoo.evaluate.resampling import Floats
from histozoo.studies import rungs
from histozoo.studies.comparing import Answer, Asked, decide, frail, sentences
from histozoo.studies.document import Block, Plot, Section, Table
from histozoo.studies.drawing import Dot, curves, forest
from histozoo.studies.folder import Bench
from histozoo.studies.outcome import Outcome, differences, row, spelled
from histozoo.studies.rungs import SUPERVISED, Rung
from histozoo.studies.settings import Ladder

RANDOM = "random"
_TWENTIETH = 5  # percent: methods of other lengths are evaluated at the same shares, but for rounding


def run(settings: Ladder, bench: Bench) -> Outcome:
    """Trains every rung that is not there, measures all of them, and returns what follows.

    Raises:
        UsageError, IntegrityError, Interrupted: What `pretrain.run` and `compare.measure` raise.
    """
    trained = rungs.train(settings, bench)
    plan = Plan(
        columns=_columns(settings, trained),
        tasks=settings.judged,
        protocols=settings.protocols,
        out=bench.out,
        cache=bench.cache,
        data_root=bench.data_root,
        seeds=settings.seeds[:1],
        device=bench.device,
    )
    cells = measure(plan, say=bench.say).cells
    bench.say(f"{len(trained)} rungs trained, {len(cells)} cells measured; resampling")
    seen = {c.task for c in cells if c.seen is True}
    clean, marked = ([c for c in cells if (c.task in seen) == side] for side in (False, True))
    found, told_apart = _standings(clean, settings), _standings(marked, settings)
    answers = [a for s in found for a in _answers(s, clean, settings)]
    return Outcome(
        rows=[r for s in found for r in _values(s, "clean")]
        + [r for s in told_apart for r in _values(s, "marked")]
        + [row(a, "clean") for a in answers],
        ran=_ran(settings, trained, cells),
        clean=(_work(trained), *(_section(s, answers) for s in found)),
        marked=tuple(_section(s, (), marked=True) for s in told_apart),
        follows=tuple(sentences(answers)),
        limits=(*_limits(settings), *frail(answers)),
        facts={
            "rungs": [
                {**vars(r), "folder": r.folder.name, "curve": [list(p) for p in r.curve]} for r in trained
            ]
        },
    )


def _columns(settings: Ladder, trained: Sequence[Rung]) -> Mapping[str, Sequence[Encoder]]:
    found = {
        recipe: [encoder(str(r.folder)) for r in trained if r.recipe == recipe] for recipe in settings.recipes
    }
    twin = trained[0].folder
    return {**found, RANDOM: [encoder(f"random:{twin}@{seed}") for seed in settings.seeds]}


def _standings(cells: Sequence[Cell], settings: Ladder) -> list[Standings]:
    found = []
    for protocol in dict.fromkeys(c.protocol for c in cells):
        some = [c for c in cells if c.protocol == protocol]
        found.append(standings(some, metric=METRICS[0], seed=settings.seeds[0], resamples=settings.resamples))
    return found


def _answers(found: Standings, cells: Sequence[Cell], settings: Ladder) -> list[Answer]:
    """Returns every method minus random weights, and minus supervised training, corrected for all by this classifier."""
    some = [c for c in cells if c.protocol == found.protocol]
    tasks = dict.fromkeys(r.task for r in found.rows)
    return decide([a for t in tasks for a in _asked(found, [c for c in some if c.task == t], settings)])


def _asked(
    found: Standings, cells: Sequence[Cell], settings: Ladder
) -> Iterator[tuple[Asked, float, Floats]]:
    one = cells[0]
    values_C, resampled_RC = resampled(
        cells, metric=found.metric, seed=settings.seeds[0], resamples=settings.resamples
    )
    places = {model: [i for i, c in enumerate(cells) if c.model == model] for model in found.models}
    for second in (RANDOM, SUPERVISED):
        for first in found.models:
            if first in (RANDOM, second) or second not in places:
                continue
            a, b = places[first], places[second]
            asked = Asked(
                place=one.task,
                lineage=one.lineage,
                setting=found.protocol,
                first=first,
                second=second,
                metric=found.metric,
                n=len(one.labels_N),
                n_groups=len(np.unique(one.groups_N)),
                seen=False if all(cells[i].seen is not None for i in (*a, *b)) else None,
                by_seed=tuple((values_C[a] - values_C[b]).tolist()),
            )
            difference = float(values_C[a].mean() - values_C[b].mean())
            yield asked, difference, resampled_RC[:, a].mean(1) - resampled_RC[:, b].mean(1)


# -- words, tables, plots --------------------------------------------------------------------------------------------------------------


def _ran(settings: Ladder, trained: Sequence[Rung], cells: Sequence[Cell]) -> tuple[str, ...]:
    tiles = {c.task: len(c.labels_N) for c in cells}
    judged = ", ".join(f"{task} ({tiles[task]:,} tiles)" for task in settings.judged if task in tiles)
    seeds = ", ".join(map(str, settings.seeds))
    return (
        f"{settings.architecture} from random weights by {', '.join(settings.recipes)}, seeds {seeds}, on the training tiles of "
        f"{', '.join(settings.train_tasks)}.",
        *_together(settings, trained),
        f"Work of every training: that of {settings.tiles:,} tiles passing once through the trunk with supervised heads, counted in "
        "floating point operations of forward and backward passes; augmentation is not in it.",
        f"Judged by {', '.join(settings.protocols)} on {judged}, each tile predicted by a classifier that saw no tile of its group.",
        f"A method is the mean over its seeds. Intervals of values are 95 % over groups ({settings.resamples:,} resamples), those of "
        "differences over groups and seeds; Holm's correction is over all comparisons by one classifier.",
    )


def _together(settings: Ladder, trained: Sequence[Rung]) -> tuple[str, ...]:
    """Returns how many processes trained a rung, where it was not always one."""
    counts = sorted({r.processes for r in trained})
    if counts == [1]:
        return ()
    spread = ", each holding a part of the weights" if settings.shard else ""
    numbers = " or ".join(map(str, counts))
    return (
        f"Every training by {numbers} processes together{spread}; {settings.batch_size} tiles a step in all.",
    )


def _work(trained: Sequence[Rung]) -> Section:
    """Returns what each method trained for, and its online score on the way."""
    first = {r.recipe: r for r in reversed(trained)}
    table = Table(
        ("method", "work of a tile", "steps", "tiles"),
        tuple((r.recipe, f"{r.work:.2f}", f"{r.steps:,}", f"{r.tiles:,}") for r in reversed(first.values())),
    )
    blocks: list[Block] = [table]
    lines = {
        r: _band([x for x in trained if x.recipe == r]) for r in dict.fromkeys(x.recipe for x in trained)
    }
    if lines := {recipe: line for recipe, line in lines.items() if len(line) > 1}:
        label = "online balanced accuracy on validation tiles of the sets trained on"
        picture = curves(lines, label=label, below="percent of the work; the bar is the range over seeds")
        told = f"{label}: nearest neighbours, or a recipe's own heads where it learns labels"
        blocks.append(Plot("curves.svg", picture, told))
    return Section("Training", tuple(blocks))


def _band(some: Sequence[Rung]) -> list[tuple[int, float, float, float]]:
    """Returns (percent of the work, mean, least, most) over the seeds, where all of them were evaluated."""
    by_share: dict[int, dict[int, float]] = {}
    for rung in some:
        for step, value in rung.curve:
            by_share.setdefault(_TWENTIETH * round(100 * step / rung.steps / _TWENTIETH), {})[rung.seed] = (
                value
            )
    return [
        (share, float(np.mean(list(v.values()))), min(v.values()), max(v.values()))
        for share, v in sorted(by_share.items())
        if len(v) == len(some)
    ]


def _section(found: Standings, answers: Sequence[Answer], *, marked: bool = False) -> Section:
    word = "marked-" if marked else ""
    models = sorted(found.models, key=lambda m: -np.mean([r.value for r in found.rows if r.model == m]))
    rows = {(r.task, r.model): r for r in found.rows}
    tasks = list(dict.fromkeys(r.task for r in found.rows))
    cells = {key: spelled(r.value, r.low, r.high) for key, r in rows.items()}
    table = Table(("method", *tasks), tuple((m, *(cells.get((t, m), "") for t in tasks)) for m in models))
    dots = [
        Dot(place=r.task, series=r.model, value=r.value, low=r.low, high=r.high)
        for m in models
        for r in found.rows
        if r.model == m
    ]
    blocks: list[Block] = [
        table,
        Plot(
            f"{word}{found.protocol}.svg",
            forest(dots, label=found.metric),
            f"{found.metric} by {found.protocol}",
        ),
    ]
    if some := [a for a in answers if a.setting == found.protocol]:
        blocks.append(differences(some, place="task"))
    blocks += [f"Undefined and not counted: {task}, {why}" for task, why in found.undefined.items()]
    return Section(f"{found.protocol}: {found.metric.replace('_', ' ')}", tuple(blocks), marked=marked)


def _values(found: Standings, side: str) -> list[dict[str, Any]]:
    names = ("task", "lineage", "model", "metric", "value", "low", "high", "n", "n_groups", "seen")
    return [{"part": side, "setting": r.protocol, **{n: getattr(r, n) for n in names}} for r in found.rows]


def _limits(settings: Ladder) -> tuple[str, ...]:
    return (
        "Settings of every method are its preset `small` or those of the study's file; none was tuned for these tiles, and a method that "
        "wants longer trainings or larger batches than this is not shown at its best.",
        f"Work is that of the trunk at {settings.px} px: methods that need more augmentation or memory for it are not charged for that.",
        "Tile sets are small, public and mostly resized; what holds on them need not hold on slides of a clinic.",
    )
