"""Sentences of the study of segmentation: what follows, what ran, and what the numbers cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from histozoo.evaluate.few_groups import NOT_CALLED
from histozoo.evaluate.verdicts import NO_WINNER
from histozoo.studies.comparing import Answer, sentences
from histozoo.studies.machine import spell
from histozoo.studies.named import Named
from histozoo.studies.segmentation_part import BASELINE, COLOURS, FLOOR, Part
from histozoo.studies.settings import Segmentation


def follows(answers: Mapping[str, Sequence[Answer]]) -> tuple[str, ...]:
    """Returns what the intervals carry.

    Args:
        answers: Metric -> its comparisons, the metric that decides first.
    """
    first, *others = answers
    by_random = [a for a in answers[first] if a.second == BASELINE]
    found = [*sentences(by_random, of="sizes"), *smallest(by_random), uncorrected(by_random)]
    found += [_count_of(answers[first], second) for second in (COLOURS, FLOOR)]
    found += [_count_of(answers[metric], BASELINE) for metric in others]
    return tuple(found)


def fed(models: Sequence[Named]) -> tuple[str, ...]:
    """Returns which models differ from random weights by more than their weights: random ones are fed by the first's channel statistics."""
    first, *others = (m.one for m in models)
    unlike = [one.name for one in others if (one.mean, one.std) != (first.mean, first.std)]
    if not unlike:
        return ()
    return (
        f"Random weights are fed by the channel statistics of {first.name}; {', '.join(unlike)}: by others. What is compared there is a "
        "start, not its weights alone.",
    )


def smallest(answers: Sequence[Answer]) -> list[str]:
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


def uncorrected(answers: Sequence[Answer]) -> str:
    """Returns the comparisons that count whose interval, by itself, excludes 0 and that correction nevertheless leaves open."""
    some = [a for a in answers if a.counts]
    alone = [a for a in some if a.outcome == NO_WINNER and (a.low > 0 or a.high < 0)]
    if not some:
        return "Before correction: no comparison counts."
    return (
        f"Before correction, {len(alone)} of {len(some)} intervals of differences from random weights exclude 0 and are left open by it"
        f"{': ' + _names(alone) if alone else ''}; of {len(some)} that cover with 95 % each, one in twenty is to be expected by chance."
    )


def _count_of(answers: Sequence[Answer], second: str) -> str:
    """Returns in how many of the comparisons with `second` that count the net was called better, and where it was not."""
    some = [a for a in answers if a.second == second and a.counts]
    if not some:
        return f"Against {second}: no comparison counts."
    better, worse = ([a for a in some if a.outcome == getattr(a, side)] for side in ("first", "second"))
    open_ = [a for a in some if a.outcome == NO_WINNER]
    sure = f"p < 0.05 after Holm's correction over {some[0].family} comparisons by {some[0].metric}"
    text = f"By {some[0].metric}, against {second}: nets better on {len(better)} of {len(some)}, worse on {len(worse)} ({sure})"
    named = {"worse": worse} | ({"better": better} if len(better) <= len(open_) else {"no winner": open_})
    return text + "".join(f"; {word}: {_names(which)}" for word, which in named.items() if which) + "."


def _names(some: Sequence[Answer]) -> str:
    return ", ".join(
        f"{a.first} ({a.setting}, {a.place}) {a.difference:+.3f} [{a.low:+.3f}, {a.high:+.3f}]" for a in some
    )


def ran(settings: Segmentation, parts: Sequence[Part], models: Sequence[Named]) -> tuple[str, ...]:
    """Returns what was trained and scored, and how."""
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
        f"Student's t for few of both; Holm's correction is over every net, size, set and mode that counts, for each metric by itself and, "
        f"of the one that decides, apart for comparisons with {BASELINE} and with what is no net.",
        f"{COLOURS} calls each pixel by the share of foreground of its colour and those around it (32 bins a channel, smoothed) in the "
        f"same training pictures; {FLOOR} is a mask without a hole.",
    )


LIMITS = (
    "Intervals of single values are over groups, for these nets; those of differences are over groups and seeds. With few seeds that lie "
    "far apart little can be called: more seeds would tell more than more pictures.",
    "Where a set knows no patients (dsb2018_stained: every picture a group; wbc_zheng: blocks of ten pictures) intervals are too short.",
    "A budget in steps trains small sets as long as large ones; how much longer training would help is not measured.",
    f"A comparison from fewer than six groups, or on a lineage that the encoder was trained on, is told and {NOT_CALLED}.",
    "The colour histogram learns from every pixel of the same training pictures as they are; the nets from crops whose colours and "
    "stains are varied. Its 32 bins are those of Jones and Rehg (2002), its smoothing was not tuned.",
    "Distances are in pixels of the reduced pictures.",
)
