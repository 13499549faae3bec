"""Tables and curves of the study of segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histozoo.evaluate.resampling import Estimate
from histozoo.evaluate.segment.curves import of_groups
from histozoo.evaluate.segment.pictures import SETS
from histozoo.evaluate.segment.report import summarise
from histozoo.studies.comparing import Answer, frail
from histozoo.studies.document import Block, Plot, Section, Table
from histozoo.studies.drawing import curves
from histozoo.studies.named import Named
from histozoo.studies.outcome import SEEN, Outcome, differences, row, spelled
from histozoo.studies.segmentation_part import BASELINE, COLOURS, FLOOR, Part, group_words
from histozoo.studies.segmentation_words import LIMITS, fed, follows, ran
from histozoo.studies.settings import Segmentation

_BESIDE = {"gland": ("object_dice", "object_hausdorff"), "nucleus": ("aji", "pq")}
"""Objects -> metrics shown beside the one that decides (GlaS challenge; Kumar et al. 2017 and Kirillov et al. 2019)."""


def outcome(
    settings: Segmentation,
    parts: Sequence[Part],
    answers: Mapping[str, Sequence[Answer]],
    models: Sequence[Named],
) -> Outcome:
    """Returns numbers, sections and sentences of what was measured.

    Args:
        settings: Of the study.
        parts: What was measured.
        answers: Metric -> every comparison by it.
        models: The encoders.
    """
    sections: dict[bool, list[Section]] = {False: [], True: []}
    for train in settings.sizes:
        some = [p for p in parts if p.scores.train_set == train]
        for test in some[0].scores.groups:
            for marked in sections:
                names = _on_side(models, some[0].scores.lineages[test], marked)
                if names:
                    told = answers[settings.metrics[0]]
                    sections[marked].append(_section(settings, some, test, told, names, marked=marked))
    return Outcome(
        rows=[
            *_values(settings, parts, models),
            *(row(a, _part_of(a)) for told in answers.values() for a in told),
        ],
        ran=(*ran(settings, parts, models), *(m.words() for m in models)),
        clean=tuple(sections[False]),
        marked=tuple(sections[True]),
        follows=follows(answers),
        limits=(*LIMITS, *fed(models), *frail(answers[settings.metrics[0]])),
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
    """Gives every net, and what is none, by every metric."""
    encoders = {m.one.name: m.one for m in models}
    for part in parts:
        first = part.mode == settings.modes[0]
        names = (*encoders, BASELINE, *((COLOURS, FLOOR) if first else ()))
        for test, lineage in part.scores.lineages.items():
            for name in names:
                seen = encoders[name].saw(lineage) if name in encoders else False
                same = {
                    "part": "marked" if seen is True else "clean",
                    "lineage": lineage,
                    "setting": part.says(test) if name not in (COLOURS, FLOOR) else "no net",
                    "model": name,
                    "seen": SEEN[seen],
                }
                for metric in settings.metrics:
                    for size, e in part.estimates(
                        name, test_set=test, metric=metric, settings=settings
                    ).items():
                        where = f"{test}, {group_words(size)} of {part.scores.train_set}"
                        yield {**same, "task": where, "metric": metric, **_ends(e)}


def _ends(e: Estimate) -> dict[str, Any]:
    return {name: getattr(e, name) for name in ("value", "low", "high", "n", "n_groups")}


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A net in one mode, or what is none, on one test set: metric -> size -> value."""

    label: str
    by: Mapping[str, Mapping[int, Estimate]]

    def spelled(self, metric: str, size: int) -> str:
        """Returns a value in words."""
        e = self.by[metric][size]
        return spelled(e.value, e.low, e.high)


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
    metrics = (metric, *(m for m in _BESIDE[SETS[test].objects] if m in settings.metrics and m != metric))
    nets = [(p, name) for p in parts for name in (*names, BASELINE)]
    lines = [
        _Line(
            label=p.label(name),
            by={m: p.estimates(name, test_set=test, metric=m, settings=settings) for m in metrics},
        )
        for p, name in (*nets, (parts[0], COLOURS), (parts[0], FLOOR))
    ]
    said = [p.says(test) for p in parts]
    some = [a for a in answers if a.first in (*names, BASELINE) and a.setting in said]
    title = f"{train}" if test == train else f"{train}, tested on {test} (out of domain)"
    blocks: list[Block] = [
        _scores(lines, settings.sizes[train], metrics),
        _plot(lines, train, test, metric, marked=marked),
        differences([a for a in some if a.second == BASELINE], place="trained on"),
        _by_seed(parts, names, test, settings),
        _minus_none(parts, some, test),
    ]
    return Section(f"{title}: {', '.join(metrics)}", tuple(blocks), marked=marked)


def _scores(lines: Sequence[_Line], sizes: Sequence[int], metrics: Sequence[str]) -> Table:
    """Returns every line at every size by the metrics shown; what takes no pictures to learn from stands once."""
    rows = []
    for line in lines:
        for size in sizes if line.label != FLOOR else sizes[:1]:
            learnt = group_words(size) if line.label != FLOOR else ""
            rows.append((line.label, learnt, *(line.spelled(m, size) for m in metrics)))
    return Table(("initialisation", "trained on", *metrics), tuple(rows))


def _plot(lines: Sequence[_Line], train: str, test: str, metric: str, *, marked: bool) -> Plot:
    *drawn, floor = lines
    points = {x.label: [(size, e.value, e.low, e.high) for size, e in x.by[metric].items()] for x in drawn}
    level = next(iter(floor.by[metric].values())).value
    return Plot(
        f"{'marked-' if marked else ''}{train}-{test}.svg",
        curves(points, label=metric, below=f"training groups of {train}", floor=(level, FLOOR)),
        f"{metric} on {test} over training groups of {train}",
    )


def _minus_none(parts: Sequence[Part], answers: Sequence[Answer], test: str) -> Table:
    """Returns what each net gains on what is no net."""
    of = {part.says(test): part for part in parts}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for a in answers:
        if a.second != BASELINE:
            word = {a.first: "better", a.second: "worse"}.get(a.outcome, a.outcome)
            told = f"{spelled(a.difference, a.low, a.high, signed=True)}, {word}"
            cells.setdefault((of[a.setting].label(a.first), a.place), {})[a.second] = told
    rows = tuple((*net, by[COLOURS], by[FLOOR]) for net, by in cells.items())
    return Table(("net", "trained on", f"minus {COLOURS}", f"minus {FLOOR}"), rows)


def _by_seed(parts: Sequence[Part], names: Sequence[str], test: str, settings: Segmentation) -> Table:
    """Returns the difference from random weights of each seed: how far trainings lie apart."""
    metric, rows = settings.metrics[0], []
    for part in parts:
        random = part.curve(BASELINE, test_set=test, metric=metric)
        for name in names:
            for size, values_SN in part.curve(name, test_set=test, metric=metric).items():
                by_seed = of_groups(values_SN - random[size], part.scores.groups[test]).mean(1)
                rows.append((f"{part.label(name)}, {group_words(size)}", *(f"{d:+.3f}" for d in by_seed)))
    return Table((f"minus {BASELINE}", *(f"seed {seed}" for seed in settings.seeds)), tuple(rows))
