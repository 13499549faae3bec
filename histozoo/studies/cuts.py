"""How much of the trunk is needed: paper B's truncation, on tasks of lineages that the encoder never saw.

Shapes: N tiles, C cuts, R resamples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histozoo import durable
from histozoo.evaluate import statistics, truncate
from histozoo.evaluate.encoders import Encoder, digest
from histozoo.evaluate.few_groups import FEWEST, widened
from histozoo.evaluate.folds import grouped_folds
from histozoo.evaluate.labelled import LabelledTiles, read
from histozoo.evaluate.multiple import ALPHA
from histozoo.evaluate.resampling import Floats, Ints, percentiles
from histozoo.studies.comparing import Answer, Asked, decide, sentences
from histozoo.studies.document import Section, Table
from histozoo.studies.folder import Bench
from histozoo.studies.outcome import SEEN, differences, row, spelled
from histozoo.studies.settings import Slides

_METRIC = "balanced_accuracy"
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """What the cuts are worth: records, sections and sentences."""

    rows: tuple[Mapping[str, Any], ...]
    ran: tuple[str, ...]
    sections: tuple[Section, ...]
    follows: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Probed:
    """An encoder's cuts on a task."""

    one: Encoder
    labelled: LabelledTiles
    costs: tuple[truncate.Cut, ...]
    guesses_CN: Ints
    fold_N: Ints

    @property
    def seen(self) -> bool | None:
        return self.one.saw(self.labelled.lineage)

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.labelled.groups_N))


def cuts(one: Encoder, settings: Slides, bench: Bench) -> Cuts:
    """Returns the probe's balanced accuracy on the features of every stage, beside those of the deepest.

    Tasks of lineages that the encoder was trained on are left out: its deepest stage was fitted to them.
    """
    found = []
    for task in settings.cut_tasks:
        labelled = read(task, data_root=bench.data_root, tile_px=one.tile_px, cache=bench.cache / "tiles")
        if one.saw(labelled.lineage) is not True:
            found.append(_probed(one, labelled, settings, bench))
    if not found:
        return Cuts(rows=(), ran=(), sections=(), follows=())
    drawn = [_drawn(p, settings) for p in found]
    answers = decide([asked for p, d_RC in zip(found, drawn, strict=True) for asked in _asked(p, d_RC)])
    shorter = [_shorter(p, d_RC, settings) for p, d_RC in zip(found, drawn, strict=True)]
    names = ", ".join(dict.fromkeys(p.labelled.task for p in found))
    return Cuts(
        rows=(
            *(r for p, d_RC in zip(found, drawn, strict=True) for r in _values(p, d_RC)),
            *(row(a, "clean") for a in answers),
        ),
        ran=(
            f"Features of every stage of {one.name}, probed by logistic regression on {names}; Holm's correction is over all of these.",
        ),
        sections=(_section(found, drawn, answers),),
        follows=(*sentences(answers), *shorter),
    )


def _probed(one: Encoder, labelled: LabelledTiles, settings: Slides, bench: Bench) -> _Probed:
    """Returns the probe's guesses on every stage's features, from their file or made."""
    from histozoo.evaluate.logistic import VERSION
    from histozoo.evaluate.probe import probe

    costs = truncate.cuts(one.module(), tile_px=one.tile_px)
    facts = {"encoder": one.facts(), "task": labelled.fingerprint, "seed": settings.seed, "logistic": VERSION}
    key = digest(facts)
    path = bench.out / "cuts" / f"{labelled.task}-{key[:16]}.json"
    if path.is_file():
        guesses = json.loads(path.read_text(encoding="utf-8"))
    else:
        blocks = one.block_features(labelled.tiles_NHWC, device=bench.device)
        guesses = {}
        for cut in costs:
            bench.say(f"{labelled.task}: {one.label} up to {cut.after}")
            f_ND = blocks[cut.after]
            found = probe(f_ND, labelled.labels_N, labelled.groups_N, seed=settings.seed, folds=_FOLDS)
            guesses[cut.after] = found.guesses_N.tolist()
        durable.write_json(path, guesses)
    return _Probed(
        one=one,
        labelled=labelled,
        costs=costs,
        guesses_CN=np.array([guesses[c.after] for c in costs], dtype=np.int64),
        fold_N=grouped_folds(labelled.labels_N, labelled.groups_N, seed=settings.seed, folds=_FOLDS),
    )


def _drawn(p: _Probed, settings: Slides) -> Floats:
    return statistics.bootstrap(
        p.labelled.labels_N,
        p.guesses_CN,
        p.labelled.groups_N,
        classes=len(p.labelled.classes),
        fold_N=p.fold_N,
        seed=settings.seed,
        resamples=settings.resamples,
    )


def _value(p: _Probed, c: int) -> float:
    return statistics.balanced_accuracy(p.labelled.labels_N, p.guesses_CN[c], len(p.labelled.classes))


def _asked(p: _Probed, values_RC: Floats) -> list[tuple[Asked, float, Floats]]:
    deepest = len(p.costs) - 1
    return [
        (
            Asked(
                place=p.labelled.task,
                lineage=p.labelled.lineage,
                setting=f"{p.one.name} cut after {cut.after}",
                first=cut.after,
                second=p.costs[-1].after,
                metric=_METRIC,
                n=len(p.labelled.labels_N),
                n_groups=p.n_groups,
                seen=p.seen,
            ),
            _value(p, c) - _value(p, deepest),
            values_RC[:, c] - values_RC[:, deepest],
        )
        for c, cut in enumerate(p.costs[:-1])
    ]


def _together(p: _Probed, values_RC: Floats) -> list[tuple[float, float, float]]:
    """Returns every shorter cut's difference from the deepest with an interval that holds for all of them together (Bonferroni)."""
    deepest = len(p.costs) - 1
    tail, found = ALPHA / 2 / deepest, []
    for c in range(deepest):
        value = _value(p, c) - _value(p, deepest)
        d_R = widened(value, values_RC[:, c] - values_RC[:, deepest], p.n_groups)
        low, high = np.nanquantile(d_R, [tail, 1 - tail])
        found.append((value, float(low), float(high)))
    return found


def _shorter(p: _Probed, values_RC: Floats, settings: Slides) -> str:
    """Returns which cut with the fewest operations is shown to lose at most the margin; every cut is looked at, so the level is shared."""
    begin, cuts = f"{p.labelled.task}: ", p.costs[:-1]
    told = zip(cuts, _together(p, values_RC), strict=True)
    for cut, difference in sorted(told, key=lambda item: item[0].flops):
        if difference[1] > -settings.margin and p.n_groups >= FEWEST:
            cost = f"{cut.share:.0%} of its parameters, {cut.flops_share:.0%} of its operations"
            return (
                f"{begin}{p.one.name} cut after {cut.after} ({cost}) loses at most {settings.margin:g}: the interval of the difference, "
                f"{spelled(*difference, signed=True)} (95 % for all {len(cuts)} cuts together), lies above -{settings.margin:g}."
            )
    return f"{begin}no cut of {p.one.name} is shown to lose at most {settings.margin:g}."


def _values(p: _Probed, values_RC: Floats) -> list[dict[str, Any]]:
    """Returns records of every cut's value, and of the differences that `_shorter` judges by."""
    name, deepest = p.one.name, p.costs[-1].after
    values = [(_value(p, c), *percentiles(values_RC[:, c])) for c in range(len(p.costs))]
    rows = [(f"cut after {cut.after}", name, "", told) for cut, told in zip(p.costs, values, strict=True)]
    rows += [
        (
            f"{name} cut after {cut.after}, 95 % for all {len(p.costs) - 1} cuts together",
            cut.after,
            deepest,
            told,
        )
        for cut, told in zip(p.costs[:-1], _together(p, values_RC), strict=True)
    ]
    return [
        {
            "part": "clean",
            "task": p.labelled.task,
            "lineage": p.labelled.lineage,
            "setting": setting,
            "model": model,
            "minus": minus,
            "metric": _METRIC,
            "value": value,
            "low": low,
            "high": high,
            "n": len(p.labelled.labels_N),
            "n_groups": p.n_groups,
            "seen": SEEN[p.seen],
        }
        for setting, model, minus, (value, low, high) in rows
    ]


def _section(found: Sequence[_Probed], drawn: Sequence[Floats], answers: Sequence[Answer]) -> Section:
    lines = []
    for p, values_RC in zip(found, drawn, strict=True):
        for c, cut in enumerate(p.costs):
            value = spelled(_value(p, c), *percentiles(values_RC[:, c]))
            cost = (f"{cut.dim}", f"{cut.parameters:,}", f"{cut.share:.0%}", f"{cut.flops_share:.0%}")
            lines.append((p.labelled.task, cut.after, *cost, value))
    head = ("task", "cut after", "features", "parameters", "share", "operations", _METRIC)
    return Section(
        f"Shorter trunks of {found[0].one.name}",
        (Table(head, tuple(lines)), differences(answers, place="task")),
    )
