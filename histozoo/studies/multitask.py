"""Paper A's question on data at hand: does pretraining on many tasks pay on tasks of lineages that it never saw?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from histozoo.evaluate import histogram
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.measure import measure
from histozoo.evaluate.compare.plan import RANDOM_SEEDS, Plan, columns
from histozoo.evaluate.compare.standings import METRICS, Standings, offered, resampled, standings
from histozoo.evaluate.compare.table import crowned
from histozoo.evaluate.resampling import Floats
from histozoo.studies.comparing import Answer, Asked, decide, frail, sentences
from histozoo.studies.document import Block, Plot, Section, Table
from histozoo.studies.drawing import Dot, forest
from histozoo.studies.folder import Bench
from histozoo.studies.heads import word as name_of_file
from histozoo.studies.outcome import Outcome, differences, rank_row, row, spelled
from histozoo.studies.settings import Multitask


def run(settings: Multitask, bench: Bench) -> Outcome:
    """Measures every model on every task by every protocol, and returns what follows.

    Raises:
        UsageError, IntegrityError: What `compare.measure` raises.
    """
    plan = Plan(
        columns=columns(settings.models),
        tasks=settings.tasks,
        protocols=settings.protocols,
        out=bench.out,
        cache=bench.cache,
        data_root=bench.data_root,
        seeds=settings.seeds,
        preset=settings.finetune,
        device=bench.device,
    )
    measured = measure(plan, say=bench.say)
    cells = measured.cells
    bench.say(f"{len(cells)} cells measured; resampling")
    chance = {c.task: 1 / len(np.unique(c.labels_N)) for c in cells}
    dirty = {c.task for c in cells if c.seen is True}
    clean, marked = ([c for c in cells if (c.task in dirty) == side] for side in (False, True))
    parts = {side: _standings(some, settings) for side, some in (("clean", clean), ("marked", marked))}
    answers = {
        side: [
            a for s in found if s.metric == METRICS[0] for a in _answers(s, cells, settings, side == "marked")
        ]
        for side, found in parts.items()
    }
    return Outcome(
        rows=[r for side in parts for s in parts[side] for r in _values(s, side)]
        + [r for s in parts["clean"] for r in _ranks(s)]
        + [row(a, side) for side in answers for a in answers[side]],
        ran=_ran(settings, cells),
        clean=tuple(_section(s, answers["clean"], chance) for s in parts["clean"] if s.metric == METRICS[0]),
        marked=tuple(
            _section(s, answers["marked"], chance, marked=True)
            for s in parts["marked"]
            if s.metric == METRICS[0]
        ),
        follows=(
            *sentences(answers["clean"]),
            *_over_tasks(parts["clean"]),
        ),
        limits=(
            *_limits(settings),
            *frail(answers["clean"]),
            *(
                f"{label} on {task} has no number: {why}."
                for (label, task), why in measured.undefined.items()
            ),
        ),
        facts={
            "cells": [
                {"encoder": c.encoder, "task": c.task, "protocol": c.protocol, **c.facts} for c in cells
            ],
        },
    )


def _standings(cells: Sequence[Cell], settings: Multitask) -> list[Standings]:
    found = []
    for protocol in dict.fromkeys(c.protocol for c in cells):
        some = [c for c in cells if c.protocol == protocol]
        found += [
            standings(some, metric=metric, seed=settings.seeds[0], resamples=settings.resamples)
            for metric in offered(some)
        ]
    return found


def _answers(found: Standings, cells: Sequence[Cell], settings: Multitask, marked: bool) -> list[Answer]:
    """Returns the paired differences of `pairs` on every task, corrected for all of them together."""
    some = [c for c in cells if c.protocol == found.protocol]
    tasks = dict.fromkeys(r.task for r in found.rows)
    return decide(
        [
            asked
            for task in tasks
            for asked in _asked(found, [c for c in some if c.task == task], settings, marked)
        ]
    )


def _asked(
    found: Standings, cells: Sequence[Cell], settings: Multitask, marked: bool
) -> Iterator[tuple[Asked, float, Floats]]:
    one = cells[0]
    values_C, resampled_RC = resampled(
        cells, metric=found.metric, seed=settings.seeds[0], resamples=settings.resamples
    )
    places = {model: [i for i, c in enumerate(cells) if c.model == model] for model in found.models}
    fits = len({c.seed for c in cells})
    for first, second in pairs(found.models):
        a, b = places[first], places[second]
        known = all(cells[i].seen is not None for i in (*a, *b))
        asked = Asked(
            place=one.task,
            lineage=one.lineage,
            setting=found.protocol,
            first=first,
            second=second,
            metric=found.metric,
            n=len(one.labels_N),
            n_groups=len(np.unique(one.groups_N)),
            seen=True if marked else (False if known else None),
            by_seed=_by_seed(values_C[a], values_C[b], fits=fits),
        )
        difference = float(values_C[a].mean() - values_C[b].mean())
        yield asked, difference, resampled_RC[:, a].mean(1) - resampled_RC[:, b].mean(1)


def pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """Returns what is compared: every model with each baseline behind it, and the first with every other model."""
    first, *others = models
    plain = [m for m in others if m.startswith("random:") or m == histogram.NAME]
    rest = [m for m in others if m not in plain]
    return [(a, b) for a in (first, *rest) for b in plain] + [(first, b) for b in rest]


def _by_seed(first_C: Floats, second_C: Floats, *, fits: int) -> tuple[float, ...]:
    """Returns differences of which each is of another random twin and another fit, as far as there are several."""
    a_TF, b_TF = (
        first_C.reshape(-1, fits),
        second_C.reshape(-1, fits),
    )  # T encoders of a column, F fits of each
    draws = max(len(a_TF), len(b_TF), fits)
    return tuple(float(a_TF[i % len(a_TF), i % fits] - b_TF[i % len(b_TF), i % fits]) for i in range(draws))


# -- words, tables, plots --------------------------------------------------------------------------------------------------------------


def _ran(settings: Multitask, cells: Sequence[Cell]) -> tuple[str, ...]:
    tiles = {c.task: len(c.labels_N) for c in cells}
    tasks = ", ".join(f"{task} ({tiles[task]:,} tiles)" for task in settings.tasks)
    seeds = ", ".join(map(str, RANDOM_SEEDS))
    several = any(m.startswith("random:") and "@" not in m for m in settings.models)
    against: dict[str, list[str]] = {}
    for one, other in pairs(settings.models):
        against.setdefault(one, []).append(other)
    compared = "; ".join(f"{one} against {', '.join(others)}" for one, others in against.items())
    return (
        f"{compared}; by {', '.join(settings.protocols)}, each tile predicted by a "
        f"classifier that saw no tile of its group.",
        f"Tasks: {tasks}.",
        *((f"Random weights: the mean over seeds {seeds}.",) if several else ()),
        f"Balanced accuracy decides; intervals are 95 % over groups ({settings.resamples:,} resamples), those of differences widened for "
        f"few groups and for seeds that lie apart; Holm's correction is over all tasks and models of a protocol.",
    )


def _section(
    found: Standings, answers: Sequence[Answer], chance: Mapping[str, float], *, marked: bool = False
) -> Section:
    some = [a for a in answers if a.metric == found.metric and a.setting == found.protocol]
    word = "marked-" if marked else ""
    dots = [
        Dot(
            place=r.task,
            series=r.model,
            value=r.value,
            low=r.low,
            high=r.high,
            hollow=r.seen == "trained on it",
        )
        for r in found.rows
    ]
    blocks: list[Block] = [_numbers(found, chance)]
    if dots:
        blocks.append(
            Plot(
                f"{word}{found.protocol}.svg",
                forest(dots, label=found.metric),
                f"{found.metric} by {found.protocol}",
            )
        )
    for first in dict.fromkeys(a.first for a in some):
        blocks += _apart(found, [a for a in some if a.first == first], word)
    blocks += [f"Undefined and not counted: {task}, {why}" for task, why in found.undefined.items()]
    return Section(f"{found.protocol}: {found.metric.replace('_', ' ')}", tuple(blocks), marked=marked)


def _apart(found: Standings, some: Sequence[Answer], word: str) -> tuple[Block, ...]:
    """Returns how one model lies apart from others, in the colours that these have where values are drawn, and as a table."""
    first = some[0].first
    dots = [
        Dot(place=a.place, series=f"minus {a.second}", value=a.difference, low=a.low, high=a.high)
        for a in some
    ]
    label = f"{found.metric}: {first} minus the others"
    which = "" if first == found.models[0] else f"-{name_of_file(first)}"
    drawn = forest(dots, label=label, zero=True, first=found.models.index(some[0].second))
    plot = Plot(f"{word}{found.protocol}-differences{which}.svg", drawn, label)
    return plot, differences(some, place="task")


def _numbers(found: Standings, chance: Mapping[str, float]) -> Table:
    tasks = list(dict.fromkeys(r.task for r in found.rows))
    lines = []
    for task in tasks:
        rows = {r.model: r for r in found.rows if r.task == task}
        first = next(iter(rows.values()))
        values = [spelled(rows[m].value, rows[m].low, rows[m].high) for m in found.models]
        lines.append((task, f"{first.n:,}", f"{first.n_groups:,}", f"{chance[task]:.3f}", *values))
    return Table(("task", "tiles", "groups", "chance", *found.models), tuple(lines))


def _values(found: Standings, side: str) -> list[dict[str, Any]]:
    names = ("task", "lineage", "model", "metric", "value", "low", "high", "n", "n_groups", "seen")
    return [
        {"part": side, "setting": r.protocol, **{name: getattr(r, name) for name in names}}
        for r in found.rows
    ]


def _ranks(found: Standings) -> list[dict[str, Any]]:
    ranked = found.podium.standings if found.podium else ()
    return [
        rank_row(
            x.model, (x.rank, x.low, x.high), setting=found.protocol, tasks=len(found.clean), of=found.metric
        )
        for x in ranked
    ]


def _over_tasks(found: Sequence[Standings]) -> list[str]:
    said = []
    for s in found:
        if s.metric == METRICS[0] and s.podium is not None:
            ranks = ", ".join(f"{x.model} {spelled(x.rank, x.low, x.high)}" for x in s.podium.standings)
            said.append(
                f"{s.protocol}: mean rank over {len(s.clean)} tasks (1 is best): {ranks}. Better than every other: {crowned(s)}."
            )
    return said


def _limits(settings: Multitask) -> tuple[str, ...]:
    twin = any(m.startswith("random:") for m in settings.models)
    return (
        "Intervals are over groups for these classifiers; another training of the classifiers or of the model is not in them.",
        "Groups are patients, slides or photographs where the sets know them, else single tiles: there, intervals are too short.",
        *(
            (
                "Each pretrained model is one training, against the mean of random twins: another training of it is not in the interval.",
            )
            if twin
            else ()
        ),
        "The linear SVM is the paper's: features as they are, C at most 1. Features of small values, such as shares of colours, are held "
        "back by it; logistic regression standardises them.",
        "Tile sets are small, public and mostly resized; what holds on them need not hold on slides of a clinic.",
    )
