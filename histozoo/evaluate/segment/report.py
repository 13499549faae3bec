"""What a segmentation study found: values, paired differences from one initialisation, and from which size on they can be told apart."""

from __future__ import annotations

from typing import Any

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Estimate
from histozoo.evaluate.segment.curves import Difference, differences, estimate, smallest
from histozoo.evaluate.segment.study import Scores

RULES = ("excludes_zero", "excludes_zero_adjusted", "excludes_zero_with_seeds")
"""Which interval must exclude 0: over groups, the same adjusted for the number of sizes, over groups and seeds."""


def summarise(scores: Scores, *, baseline: str = "random", resamples: int = 10_000) -> dict[str, Any]:
    """Returns the study as JSON types.

    `values`: every initialisation at every size; `differences`: every other initialisation minus the baseline; `smallest`: by each of
    `RULES`, the smallest number of training groups at which the interval of the difference excludes 0, `null` where it does at none (no
    winner). `seen` marks scores on a lineage that the weights were trained on: they are not evidence about new tissue.

    Args:
        scores: What the study measured.
        baseline: Name of the initialisation that the others are compared with.
        resamples: Bootstrap resamples of every interval.

    Raises:
        UsageError: `HZ-I64` no initialisation of this name; `HZ-I63` a test set of fewer than two groups.
    """
    _known(scores, baseline)
    values, found, least = [], [], []
    for where in _places(scores):
        for begin in scores.starts:
            curve = scores.curve(begin.name, **where)
            told = {
                **where,
                "start": begin.name,
                "seen": scores.lineages[where["test_set"]] in begin.lineages,
            }
            groups_N = scores.groups[where["test_set"]]
            values += [
                {**told, "size": size, **_told(estimate(v, groups_N, resamples=resamples))}
                for size, v in curve.items()
            ]
            if begin.name != baseline:
                paired = _paired(scores, begin.name, baseline, where, resamples)
                found += [{**told, "size": d.size, **_difference(d)} for d in paired]
                least.append({**told, **{rule: smallest(paired, by=rule) for rule in RULES}})
    return {
        "schema": 1,
        "study": "segmentation",
        "train_set": scores.train_set,
        "baseline": baseline,
        "design": scores.design.settings(),
        "resamples": resamples,
        "values": values,
        "differences": found,
        "smallest": least,
    }


def _places(scores: Scores) -> list[dict[str, str]]:
    return [{"test_set": t, "metric": m} for t in scores.groups for m in scores.design.metrics]


def _paired(
    scores: Scores, start: str, baseline: str, where: dict[str, str], resamples: int
) -> list[Difference]:
    first, second = scores.curve(start, **where), scores.curve(baseline, **where)
    return differences(first, second, scores.groups[where["test_set"]], resamples=resamples)


def _known(scores: Scores, name: str) -> None:
    names = [s.name for s in scores.starts]
    if name not in names:
        raise UsageError(
            "HZ-I64",
            "the study has no initialisation of this name",
            expected=f"one of {', '.join(names)}",
            got=name,
        )


def _told(e: Estimate) -> dict[str, Any]:
    return {"value": round(e.value, 6), "interval": _rounded(e.interval), "n": e.n, "n_groups": e.n_groups}


def _difference(d: Difference) -> dict[str, Any]:
    return {
        **_told(d.estimate),
        "adjusted": _rounded(d.adjusted),
        "with_seeds": _rounded((d.seeds.total_low, d.seeds.total_high)) if d.seeds else None,
        "by_seed": [round(v, 6) for v in d.seeds.by_seed] if d.seeds else None,
        **{rule: getattr(d, rule) for rule in RULES},
    }


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(v, 6) for v in interval]
