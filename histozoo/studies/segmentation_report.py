"""Tables, curves and words of the study of segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.segment.curves import estimate
from histozoo.evaluate.segment.report import summarise
from histozoo.evaluate.segment.study import Scores
from histozoo.studies.comparing import NOT_CALLED, Answer, sentences
from histozoo.studies.document import Block, Plot, Section, Table
from histozoo.studies.drawing import curves
from histozoo.studies.outcome import SEEN, Outcome, differences, row, spelled
from histozoo.studies.settings import Segmentation

BASELINE = "random"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One set trained on in one mode, with what was measured."""

    mode: str
    scores: Scores

    def says(self, test: str) -> str:
        """Returns mode, training set and test set in words."""
        train = self.scores.train_set
        where = train if test == train else f"{train}, tested on {test}"
        return f"{self.mode} encoder, trained on {where}"


def group_words(size: int) -> str:
    """Returns a number of groups in words."""
    return f"{size:,} group{'s' * (size > 1)}"


def outcome(
    settings: Segmentation, parts: Sequence[Part], answers: Sequence[Answer], encoders: dict[str, Encoder]
) -> Outcome:
    """Returns numbers, sections and sentences of what was measured."""
    sections: dict[bool, list[Section]] = {False: [], True: []}
    for train in settings.sizes:
        some = [p for p in parts if p.scores.train_set == train]
        for test in some[0].scores.groups:
            lineage = some[0].scores.lineages[test]
            marked = any(one.saw(lineage) is True for one in encoders.values())
            sections[marked].append(_section(settings, some, test, answers, marked=marked))
    return Outcome(
        rows=[*_values(settings, parts, encoders), *(row(a, _part_of(a)) for a in answers)],
        ran=_ran(settings, parts),
        clean=tuple(sections[False]),
        marked=tuple(sections[True]),
        follows=(*sentences(answers, of="sizes"), *_smallest(answers)),
        limits=_LIMITS,
        facts={"parts": [_summary(p, settings) for p in parts]},
    )


def _part_of(a: Answer) -> str:
    return "marked" if a.seen is True else "clean"


def _summary(part: Part, settings: Segmentation) -> dict[str, Any]:
    return {"mode": part.mode, **summarise(part.scores, baseline=BASELINE, resamples=settings.resamples)}


def _values(
    settings: Segmentation, parts: Sequence[Part], encoders: dict[str, Encoder]
) -> Iterator[dict[str, Any]]:
    for part in parts:
        for test, groups_N in part.scores.groups.items():
            lineage = part.scores.lineages[test]
            for begin in part.scores.starts:
                seen = encoders[begin.name].saw(lineage) if begin.name in encoders else False
                for metric in settings.metrics:
                    curve = part.scores.curve(begin.name, test_set=test, metric=metric)
                    for size, values_SN in curve.items():
                        e = estimate(values_SN, groups_N, seed=settings.seed, resamples=settings.resamples)
                        yield {
                            "part": "marked" if seen is True else "clean",
                            "task": f"{test}, {group_words(size)} of {part.scores.train_set}",
                            "lineage": lineage,
                            "setting": part.says(test),
                            "model": begin.name,
                            "metric": metric,
                            "value": e.value,
                            "low": e.low,
                            "high": e.high,
                            "n": e.n,
                            "n_groups": e.n_groups,
                            "seen": SEEN[seen],
                        }


def _section(
    settings: Segmentation, parts: Sequence[Part], test: str, answers: Sequence[Answer], *, marked: bool
) -> Section:
    train, metric = parts[0].scores.train_set, settings.metrics[0]
    lines: dict[str, list[tuple[int, float, float, float]]] = {}
    numbers = []
    for part in parts:
        groups_N = part.scores.groups[test]
        for begin in part.scores.starts:
            line = lines.setdefault(f"{begin.name}, {part.mode}", [])
            for size, values_SN in part.scores.curve(begin.name, test_set=test, metric=metric).items():
                e = estimate(values_SN, groups_N, seed=settings.seed, resamples=settings.resamples)
                line.append((size, e.value, e.low, e.high))
            told = tuple(spelled(*point[1:]) for point in line)
            numbers.append((f"{begin.name}, {part.mode}", *told))
    some = [a for a in answers if a.setting in [p.says(test) for p in parts]]
    title = f"{train}" if test == train else f"{train}, tested on {test} (out of domain)"
    sizes = settings.sizes[train]
    blocks: list[Block] = [
        Table(("initialisation", *map(group_words, sizes)), tuple(numbers)),
        Plot(
            f"{'marked-' if marked else ''}{train}-{test}.svg",
            curves(lines, label=metric, below=f"training groups of {train}"),
            f"{metric} on {test} over training groups of {train}",
        ),
        differences(some, place="trained on"),
    ]
    return Section(f"{title}: {metric}", tuple(blocks), marked=marked)


def _smallest(answers: Sequence[Answer]) -> list[str]:
    """Returns for every curve that counts the smallest training set at which somebody was called better."""
    told: dict[tuple[str, str], list[Answer]] = {}
    for a in answers:
        if a.counts:
            told.setdefault((a.setting, a.first), []).append(a)
    return [_smallest_of(setting, first, some) for (setting, first), some in told.items()]


def _smallest_of(setting: str, first: str, some: Sequence[Answer]) -> str:
    called = [a for a in some if a.outcome in (a.first, a.second)]
    if not called:
        sizes = ", ".join(a.place for a in some)
        return f"{setting}: {first} and random weights cannot be told apart at any size ({sizes})."
    least = f"{called[0].place} ({called[0].outcome} is better)"
    return f"{setting}: the smallest training set at which {first} and random weights can be told apart is {least}."


def _ran(settings: Segmentation, parts: Sequence[Part]) -> tuple[str, ...]:
    nets = sum(len(p.scores.cells) for p in parts)
    fewest = {t: len(set(map(str, g))) for p in parts for t, g in p.scores.groups.items()}
    tests = ", ".join(f"{t} ({n} groups)" for t, n in fewest.items())
    sizes = "; ".join(f"{name}: {', '.join(map(str, s))} groups" for name, s in settings.sizes.items())
    seeds = ", ".join(map(str, settings.seeds))
    return (
        f"{nets} U-Nets: {', '.join(settings.models)} against random weights, {' and '.join(settings.modes)}, seeds {seeds}; "
        f"{settings.steps:,} steps of {settings.batch_size} crops of {settings.px} px, pictures reduced {settings.shrink} times.",
        f"Trained on {sizes}, nested; scored on {tests}.",
        f"{settings.metrics[0]} decides: the mean over groups of each group's pictures and over seeds; intervals are 95 % over groups "
        f"({settings.resamples:,} resamples); Holm's correction is over every size, set and mode that counts.",
    )


_LIMITS = (
    "Intervals are over groups, for these nets; results.json has the intervals that add the seeds, which are wider.",
    "Where a set knows no patients (dsb2018_stained: every picture a group; wbc_zheng: blocks of ten pictures) intervals are too short.",
    "A budget in steps trains small sets as long as large ones; how much longer training would help is not measured.",
    f"A comparison from fewer than six groups, or on a lineage that the encoder was trained on, is told and {NOT_CALLED}.",
)
