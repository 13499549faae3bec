"""Which differences count, and the sentences that follow from them: nothing is said that an interval does not carry.

Few groups are allowed for as in histozoo.evaluate.few_groups: a comparison of fewer than six is told and not called. Where trainings were
repeated with several seeds, how far these lie apart is in interval and p-value, too. A comparison on a lineage that one of the two was
trained on is told apart and never counted.

Shapes: R resamples, C comparisons, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from histozoo.evaluate.few_groups import FEWEST, NOT_CALLED, detectable, p_widened, widened
from histozoo.evaluate.multiple import ALPHA, holm
from histozoo.evaluate.resampling import Floats, percentiles
from histozoo.evaluate.verdicts import NO_WINNER


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question: is `first` better than `second` here?

    Args:
        place: Task or test set.
        lineage: Of the place.
        setting: Under which protocol, mode or size; comparisons of one setting are worded together.
        first, second: What is compared.
        metric: What is compared; in what `decide` decides, more is better.
        n, n_groups: Rows and groups scored.
        seen: Whether one of the two was trained on this lineage; None where that is not known.
        by_seed: The difference of each seed, where the question is about the method and not about these trained models only.
    """

    place: str
    lineage: str
    setting: str
    first: str
    second: str
    metric: str
    n: int
    n_groups: int
    seen: bool | None
    by_seed: tuple[float, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether an answer is evidence about new tissue, from enough groups."""
        return self.seen is not True and self.n_groups >= FEWEST


@dataclass(frozen=True, kw_only=True)
class Answer(Asked):
    """A question with its answer.

    Args:
        difference, low, high: `first` minus `second` with its 95 % interval over groups, and over seeds where they are given, widened for
            few of them, not corrected for many comparisons.
        p_holm: After Holm's correction over the family; None where the comparison does not count.
        family: Comparisons corrected together.
        detectable: True difference that would have shown in four of five cases.
        outcome: The better one, `no winner`, or `not called` where the comparison does not count.
    """

    difference: float
    low: float
    high: float
    p_holm: float | None
    family: int
    detectable: float
    outcome: str


def decide(drawn: Sequence[tuple[Asked, float, Floats]]) -> list[Answer]:
    """Returns answers, corrected by Holm's method over all questions that count.

    Args:
        drawn: Question, difference, and the difference on each resample of the groups `[R]`.
    """
    p_C = holm(
        [
            p_widened(value, d_R, asked.n_groups, seeds=[asked.by_seed])
            for asked, value, d_R in drawn
            if asked.counts
        ]
    )
    corrected = iter(p_C.tolist())
    found = []
    for asked, value, d_R in drawn:
        p = next(corrected) if asked.counts else None
        found.append(_answer(asked, value, d_R, p=p, family=len(p_C)))
    return found


def _answer(asked: Asked, value: float, d_R: Floats, *, p: float | None, family: int) -> Answer:
    groups, seeds = asked.n_groups, [asked.by_seed]
    low, high = percentiles(widened(value, d_R, groups, seeds=seeds))
    better = asked.first if low + high > 0 else asked.second
    called = better if p is not None and p < ALPHA else NO_WINNER
    return Answer(
        **vars(asked),
        difference=float(value),
        low=low,
        high=high,
        p_holm=p,
        family=family,
        detectable=detectable(d_R, groups, seeds=seeds, comparisons=max(1, family)),
        outcome=called if p is not None else NOT_CALLED,
    )


# -- words -----------------------------------------------------------------------------------------------------------------------------


def sentences(answers: Iterable[Answer], *, of: str = "tasks") -> list[str]:
    """Returns a sentence per setting and pair over those that count, and one for every comparison of too few groups.

    Args:
        answers: Of clean places; those on seen lineages are left out.
        of: What places are called, in the plural.
    """
    told: dict[tuple[str, str, str], list[Answer]] = {}
    for a in answers:
        if a.seen is not True:
            told.setdefault((a.setting, a.first, a.second), []).append(a)
    found = []
    for some in told.values():
        if counted := [a for a in some if a.counts]:
            found.append(_sentence(counted, of))
        if few := [a for a in some if not a.counts]:
            found.append(_not_called(few))
    return found


def frail(answers: Iterable[Answer]) -> tuple[str, ...]:
    """Returns a sentence for every place where somebody was called better and groups are so few that no sign test of them could have."""
    told = {}
    for a in answers:
        if a.counts and a.outcome in (a.first, a.second) and a.family * 2 / 2**a.n_groups >= ALPHA:
            told[a.place] = (
                f"That somebody is called better on {a.place} rests on Student's law for a mean over {a.n_groups} groups: a sign test of "
                f"so few, p = {2 / 2**a.n_groups:.4f} at best, would not have called anybody after the correction over {a.family} "
                "comparisons."
            )
    return tuple(told.values())


def _sentence(some: Sequence[Answer], of: str) -> str:
    a = some[0]
    better, worse, open_ = ([x for x in some if x.outcome == word] for word in (a.first, a.second, NO_WINNER))
    begin = f"{a.setting}: "
    if not better and not worse:
        return (
            f"{begin}no winner between {a.first} and {a.second} on {_count(len(some), of)}; {_would(open_)}."
        )
    parts = []
    if better:
        parts.append(
            f"{a.first} is better than {a.second} on {len(better)} of {len(some)} {of} ({_names(better)})"
        )
    if worse:
        parts.append(
            f"{a.second} is better than {a.first} on {len(worse)} of {len(some)} {of} ({_names(map(_turned, worse))})"
        )
    sure = "each interval excludes 0, and p < 0.05 after Holm's correction over"
    text = f"{begin}{' and '.join(parts)}: {sure} {_count(a.family, 'comparisons')}."
    if open_:
        text += f" No winner on {len(open_)} ({', '.join(x.place for x in open_)}); {_would(open_)}."
    return text


def _turned(a: Answer) -> Answer:
    """Returns the comparison as `second` minus `first`, so that the better one's difference is told with a plus."""
    return replace(a, first=a.second, second=a.first, difference=-a.difference, low=-a.high, high=-a.low)


def _names(some: Iterable[Answer]) -> str:
    return ", ".join(f"{a.place} {a.difference:+.3f} [{a.low:+.3f}, {a.high:+.3f}]" for a in some)


def _would(some: Sequence[Answer]) -> str:
    least, most = min(a.detectable for a in some), max(a.detectable for a in some)
    if least > 1:  # what is compared lies between 0 and 1
        return "no difference that is possible would have shown"
    if most > 1:
        return f"a difference of {least:.3f} would have shown at best, and none that is possible at worst"
    size = f"{least:.3f}" if f"{least:.3f}" == f"{most:.3f}" else f"{least:.3f} to {most:.3f}"
    return f"a difference of {size} would have shown"


def _not_called(some: Sequence[Answer]) -> str:
    a = some[0]
    told = ", ".join(f"on {x.place} is {x.difference:+.3f} [{x.low:+.3f}, {x.high:+.3f}]" for x in some)
    fewest, most = min(x.n_groups for x in some), max(x.n_groups for x in some)
    groups = _count(most, "groups") if fewest == most else f"{fewest:,} to {_count(most, 'groups')}"
    return (
        f"{a.setting}: {a.first} minus {a.second} {told}, from {groups}: not called, "
        f"{FEWEST} groups are the fewest that could show anything."
    )


def _count(n: int, of: str) -> str:
    return f"{n} {of.removesuffix('s') if n == 1 else of}"
