"""Tables, curves and words of the study of segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from histozoo.evaluate.few_groups import FEWEST, NOT_CALLED
from histozoo.evaluate.resampling import Estimate
from histozoo.evaluate.segment.curves import estimate, of_groups
from histozoo.evaluate.segment.report import summarise
from histozoo.evaluate.segment.study import Scores
from histozoo.studies.comparing import Answer, sentences
from histozoo.studies.document import Block, Plot, Points, Section, Table
from histozoo.studies.drawing import curves
from histozoo.studies.machine import spell
from histozoo.studies.named import Named
from histozoo.studies.outcome import SEEN, Outcome, differences, row, spelled
from histozoo.studies.settings import Segmentation

BASELINE, FLOOR = "random", "every pixel foreground"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One set trained on in one mode, with what was measured."""

    mode: str
    scores: Scores

    @property
    def word(self) -> str:
        """The mode as it is written."""
        return {"finetuned": "fine-tuned"}.get(self.mode, self.mode)

    def says(self, test: str) -> str:
        """Returns mode, training set and test set in words."""
        train = self.scores.train_set
        where = train if test == train else f"{train}, tested on {test}"
        return f"{self.word} encoder, trained on {where}"


def group_words(size: int) -> str:
    """Returns a number of groups in words."""
    return f"{size:,} group{'s' * (size > 1)}"


def outcome(
    settings: Segmentation, parts: Sequence[Part], answers: Sequence[Answer], models: Sequence[Named]
) -> Outcome:
    """Returns numbers, sections and sentences of what was measured."""
    sections: dict[bool, list[Section]] = {False: [], True: []}
    for train in settings.sizes:
        some = [p for p in parts if p.scores.train_set == train]
        for test in some[0].scores.groups:
            for marked in sections:
                names = _on_side(models, some[0].scores.lineages[test], marked)
                if names:
                    sections[marked].append(_section(settings, some, test, answers, names, marked=marked))
    return Outcome(
        rows=[
            *_values(settings, parts, models),
            *_floors(settings, parts),
            *(row(a, _part_of(a)) for a in answers),
        ],
        ran=(*_ran(settings, parts, models), *(m.words() for m in models)),
        clean=tuple(sections[False]),
        marked=tuple(sections[True]),
        follows=(*sentences(answers, of="sizes"), *_smallest(answers)),
        limits=_LIMITS,
        facts={"parts": [_summary(p, settings) for p in parts]},
    )


def _on_side(models: Sequence[Named], lineage: str, marked: bool) -> list[str]:
    """Returns the models whose scores on a lineage stand among the clean, or among the contaminated ones."""
    return [m.one.name for m in models if (m.one.saw(lineage) is True) == marked]


def _part_of(a: Answer) -> str:
    return "marked" if a.seen is True else "clean"


def _summary(part: Part, settings: Segmentation) -> dict[str, Any]:
    return {"mode": part.mode, **summarise(part.scores, baseline=BASELINE, resamples=settings.resamples)}


def _values(
    settings: Segmentation, parts: Sequence[Part], models: Sequence[Named]
) -> Iterator[dict[str, Any]]:
    """Gives every net by every metric, and what it gains on calling every pixel foreground."""
    encoders = {m.one.name: m.one for m in models}
    how = {"seed": settings.seed, "resamples": settings.resamples}
    for part in parts:
        for test, groups_N in part.scores.groups.items():
            lineage, floor = part.scores.lineages[test], part.scores.floor[test]
            for begin in part.scores.starts:
                seen = encoders[begin.name].saw(lineage) if begin.name in encoders else False
                for metric in settings.metrics:
                    curve = part.scores.curve(begin.name, test_set=test, metric=metric)
                    for size, values_SN in curve.items():
                        same = {
                            "part": "marked" if seen is True else "clean",
                            "task": f"{test}, {group_words(size)} of {part.scores.train_set}",
                            "lineage": lineage,
                            "setting": part.says(test),
                            "model": begin.name,
                            "metric": metric,
                            "seen": SEEN[seen],
                        }
                        yield {**same, **_ends(estimate(values_SN, groups_N, **how))}
                        if metric in _gained(settings):
                            gain = estimate(values_SN - floor[metric], groups_N, **how)
                            yield {**same, "minus": FLOOR, **_ends(gain)}


def _ends(e: Estimate) -> dict[str, Any]:
    return {name: getattr(e, name) for name in ("value", "low", "high", "n", "n_groups")}


def _gained(settings: Segmentation) -> list[str]:
    """Returns the metrics by which more is better."""
    return [m for m in settings.metrics if m != "object_hausdorff"]


def _floors(settings: Segmentation, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Gives what calling every pixel foreground scores on the pictures that the nets of each training set are scored on."""
    for train in settings.sizes:
        part = next(p for p in parts if p.scores.train_set == train)
        for test, lineage in part.scores.lineages.items():
            for metric in _gained(settings):
                yield {
                    "part": "clean",
                    "task": test,
                    "lineage": lineage,
                    "setting": f"no net, the pictures of those trained on {train}",
                    "model": FLOOR,
                    "metric": metric,
                    "seen": SEEN[False],
                    **_ends(_floor_of(part, test, metric, settings)),
                }


def _section(
    settings: Segmentation,
    parts: Sequence[Part],
    test: str,
    answers: Sequence[Answer],
    names: Sequence[str],
    *,
    marked: bool,
) -> Section:
    """Returns the curves and differences of the models named, and of random weights, on one test set."""
    train, metric = parts[0].scores.train_set, settings.metrics[0]
    lines = [_line(p, name, test, metric, settings) for p in parts for name in (*names, BASELINE)]
    some = [a for a in answers if a.first in names and a.setting in [p.says(test) for p in parts]]
    title = f"{train}" if test == train else f"{train}, tested on {test} (out of domain)"
    sizes = tuple(map(group_words, settings.sizes[train]))
    blocks: list[Block] = [
        Table(
            ("initialisation", *sizes), tuple((x.label, *(spelled(*p[1:]) for p in x.points)) for x in lines)
        ),
        _floor(parts, names, test, settings),
        Plot(
            f"{'marked-' if marked else ''}{train}-{test}.svg",
            curves(
                {x.label: x.points for x in lines},
                label=metric,
                below=f"training groups of {train}",
                floor=(_floor_of(parts[0], test, metric, settings).value, FLOOR),
            ),
            f"{metric} on {test} over training groups of {train}",
        ),
        differences(some, place="trained on"),
        _by_seed(parts, names, test, settings),
    ]
    return Section(f"{title}: {metric}", tuple(blocks), marked=marked)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """An initialisation in one mode by one metric: (size, value, low, high) by size, and whether each is above the floor."""

    label: str
    points: tuple[tuple[int, float, float, float], ...]
    above: tuple[bool, ...]


def _line(part: Part, name: str, test: str, metric: str, settings: Segmentation) -> _Line:
    groups_N, floor_N = part.scores.groups[test], part.scores.floor[test][metric]
    points, above = [], []
    for size, values_SN in part.scores.curve(name, test_set=test, metric=metric).items():
        e = estimate(values_SN, groups_N, seed=settings.seed, resamples=settings.resamples)
        points.append((size, e.value, e.low, e.high))
        gain = estimate(values_SN - floor_N, groups_N, seed=settings.seed, resamples=settings.resamples)
        above.append(gain.low > 0)
    return _Line(label=f"{name}, {part.word}", points=tuple(points), above=tuple(above))


def _floor(parts: Sequence[Part], names: Sequence[str], test: str, settings: Segmentation) -> Points:
    """Returns what calling every pixel foreground scores by every metric (more is better), and which nets are not shown to be above."""
    said = []
    for metric in _gained(settings):
        lines = [_line(p, name, test, metric, settings) for p in parts for name in (*names, BASELINE)]
        said.append(_floor_words(parts[0], test, metric, lines, settings))
    return Points(tuple(said))


def _floor_of(part: Part, test: str, metric: str, settings: Segmentation) -> Estimate:
    floor_N, groups_N = part.scores.floor[test][metric], part.scores.groups[test]
    return estimate(floor_N, groups_N, seed=settings.seed, resamples=settings.resamples)


def _floor_words(part: Part, test: str, metric: str, lines: Sequence[_Line], settings: Segmentation) -> str:
    e = _floor_of(part, test, metric, settings)
    below = [
        f"{x.label}, {group_words(point[0])}"
        for x in lines
        for point, above in zip(x.points, x.above, strict=True)
        if not above
    ]
    said = f"Calling every pixel foreground scores {spelled(e.value, e.low, e.high)} of {metric}"
    if e.n_groups < FEWEST:
        return f"{said}; whether nets are above it is {NOT_CALLED}: {group_words(e.n_groups)}."
    nets = sum(len(x.points) for x in lines)
    verdict = f"not shown to be above it: {'; '.join(below)}" if below else f"all {nets} are above it"
    return f"{said}; by the 95 % interval of the paired difference, not corrected for the number of nets, {verdict}."


def _by_seed(parts: Sequence[Part], names: Sequence[str], test: str, settings: Segmentation) -> Table:
    """Returns the difference from random weights of each seed: how far trainings lie apart, which no interval here holds."""
    metric, rows = settings.metrics[0], []
    for part in parts:
        random = part.scores.curve(BASELINE, test_set=test, metric=metric)
        for name in names:
            for size, values_SN in part.scores.curve(name, test_set=test, metric=metric).items():
                by_seed = of_groups(values_SN - random[size], part.scores.groups[test]).mean(1)
                rows.append((f"{name}, {part.word}, {group_words(size)}", *(f"{d:+.3f}" for d in by_seed)))
    return Table((f"minus {BASELINE}", *(f"seed {seed}" for seed in settings.seeds)), tuple(rows))


def _smallest(answers: Sequence[Answer]) -> list[str]:
    """Returns for every curve on which somebody was called better the smallest training set at which that was so."""
    told: dict[tuple[str, str], Answer] = {}
    for a in answers:
        if a.counts and a.outcome in (a.first, a.second):
            told.setdefault((a.setting, a.first), a)
    return [
        f"{a.setting}: the smallest training set at which {a.first} and random weights can be told apart is {a.place} "
        f"({a.outcome} is better)."
        for a in told.values()
    ]


def _ran(settings: Segmentation, parts: Sequence[Part], models: Sequence[Named]) -> tuple[str, ...]:
    nets = sum(len(p.scores.cells) for p in parts)
    fewest = {t: len(set(map(str, g))) for p in parts for t, g in p.scores.groups.items()}
    tests = ", ".join(f"{t} ({n} groups)" for t, n in fewest.items())
    sizes = "; ".join(f"{name}: {', '.join(map(str, s))} groups" for name, s in settings.sizes.items())
    seeds = ", ".join(map(str, settings.seeds))
    modes = " and ".join(dict.fromkeys(p.word for p in parts))
    factors = ", ".join(f"{name} {factor} times" for name, factor in settings.shrink.items())
    reduced = f", pictures reduced ({factors})" if factors else ""
    seconds = sum(p.scores.seconds for p in parts)
    return (
        f"{nets} U-Nets: {', '.join(m.one.name for m in models)} against random weights, {modes}, seeds {seeds}; "
        f"{settings.steps:,} steps of {settings.batch_size} crops of {settings.px} px{reduced}; {spell(seconds)} of training and scoring.",
        f"Trained on {sizes}, nested; scored on {tests} by {', '.join(settings.metrics)}.",
        f"{settings.metrics[0]} decides: the mean over groups of each group's pictures and over seeds. Intervals are 95 % over groups "
        f"({settings.resamples:,} resamples); those of differences hold the seeds, too, each of which drew its training groups, with "
        f"Student's t for few of both; Holm's correction is over every size, set and mode that counts.",
    )


_LIMITS = (
    "Intervals of single values are over groups, for these nets; those of differences are over groups and seeds. With few seeds that lie "
    "far apart little can be called: more seeds would tell more than more pictures.",
    "Where a set knows no patients (dsb2018_stained: every picture a group; wbc_zheng: blocks of ten pictures) intervals are too short.",
    "A budget in steps trains small sets as long as large ones; how much longer training would help is not measured.",
    f"A comparison from fewer than six groups, or on a lineage that the encoder was trained on, is told and {NOT_CALLED}.",
    "Every net is compared with calling every pixel foreground by its own interval over groups: not corrected for the number of these "
    f"comparisons, not widened for few groups or other seeds, and {NOT_CALLED} from fewer than six groups.",
)
