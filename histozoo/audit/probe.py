"""Does a family of trivial statistics tell the class? A linear probe on it alone, in grouped folds, against chance.

A class that can be predicted from the size of the files, their encoding or the tint of the tiles can be learnt from them, too, and then a
good score says little about tissue. What is claimed is just that: the family predicts the class in this set. It is not claimed that the
set is wrong; tint and sharpness differ between tissues.

A family is `telling` when the lower end of the 95 % interval over groups is above chance by `MARGIN` of the way from chance to 1, and the
value is above every one of 19 shufflings of the labels among groups, by `DEVIATIONS` of theirs: few groups make intervals too narrow. On
160 drawn tasks with nothing in them that is one false finding among 640 families. Logistic regression (`evaluate.logistic`) on ranks and
their squares, C fixed beforehand: with a dozen statistics there is little to choose.

Shapes: N tiles, G groups, K classes, D features of a probe, F folds, S shufflings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.audit.families import FAMILIES
from histozoo.errors import HistozooError
from histozoo.evaluate.logistic import fit_path
from histozoo.evaluate.statistics import balanced_accuracy, estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
MARGIN = 0.1
"""Share of the way from chance to 1 that the interval's lower end must be above chance."""
STRONG = 0.5
"""Share from which on a family tells the class by and large."""
DEVIATIONS = 3.0
"""How many standard deviations of the shuffled scores the value must be above their mean."""
_C = 0.1
_RESAMPLES = 2_000
_SHUFFLES = 19
_MOST_ROWS = 6_000
_LEAST_TILES, _LEAST_GROUPS = 5, 2


@dataclass(frozen=True, kw_only=True)
class Probed:
    """How well one family of statistics predicts the class.

    Args:
        family: Key of `FAMILIES`.
        value, low, high: Balanced accuracy and its 95 % interval over groups.
        chance: 1 / K over the classes that were scored.
        classes: Number of classes scored: those with tiles enough and in groups enough.
        n, n_groups: Tiles and groups scored.
        p: Share of label shufflings that did as well, counting the true one; None where there was no need to ask.
        deviations: How many standard deviations of the shuffled scores the value is above their mean; None as for `p`.
        best: The single statistic that separates the classes most.
        separation: Share of its rank variance that lies between classes, in [0, 1].
        medians: Its median in each class.
        told: Index of the class that the probe tells best from the rest, -1 where nothing was scored.
        told_value: Balanced accuracy of that class against the rest.
        reason: Why the family could not be scored; empty where it was.
    """

    family: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    chance: float = float("nan")
    classes: int = 0
    n: int = 0
    n_groups: int = 0
    p: float | None = None
    deviations: float | None = None
    best: str = ""
    separation: float = 0.0
    medians: tuple[float, ...] = ()
    told: int = -1
    told_value: float = float("nan")
    reason: str = ""

    @property
    def strength(self) -> float:
        """How far the interval's lower end is above chance, 0 at chance and 1 at a perfect score; not below 0."""
        return max(0.0, (self.low - self.chance) / (1 - self.chance)) if not self.reason else 0.0

    @property
    def telling(self) -> bool:
        """Whether the family tells the class, as the module's head says."""
        if self.p is None or self.deviations is None:
            return False
        return self.strength >= MARGIN and self.p <= 0.05 and self.deviations >= DEVIATIONS

    def to_json(self) -> dict[str, Any]:
        """Returns the fields and the verdict as JSON types; what is not a number becomes None."""
        fields = {key: _finite(value) for key, value in asdict(self).items()}
        # A family that tells one class of many perfectly is as grave as one that tells all of two.
        weight = max(self.strength, 2 * self.told_value - 1) if self.told >= 0 else 0.0
        verdict = {"strength": round(self.strength, 4), "weight": round(weight, 4), "telling": self.telling}
        return {**fields, **verdict}


def probe_family(
    family: str,
    values: Mapping[str, Floats],
    labels_N: Ints,
    groups: Sequence[str],
    *,
    classes: int,
    seed: int = 0,
) -> Probed:
    """Probes one family.

    Args:
        family: Key of `FAMILIES`.
        values: Statistic -> `[N]`.
        labels_N: Class indices.
        groups: Name of each row's group.
        classes: Number of classes of the task.
        seed: Draws folds, resamples and shufflings.
    """
    names = [name for name in FAMILIES[family] if np.ptp(values[name]) > 0] if len(labels_N) else []
    if not names:
        return Probed(family=family, reason="the same in every tile")
    rows = _scored_rows(labels_N, np.asarray(groups), seed)
    kept_K, label_N = np.unique(labels_N[rows], return_inverse=True)
    group_N = np.unique(np.asarray(groups)[rows], return_inverse=True)[1]
    if len(kept_K) < 2:
        return Probed(family=family, reason="fewer than two classes have five tiles in two groups")
    table_ND = np.stack([values[name][rows] for name in names], axis=1)
    best, separation, medians = _best(table_ND, names, label_N, values, labels_N, classes)
    facts: dict[str, Any] = {
        "best": best, "separation": separation, "medians": medians, "family": family,
        "chance": 1 / len(kept_K), "classes": len(kept_K), "n": len(rows), "n_groups": int(group_N.max()) + 1,
    }  # fmt: skip
    x_ND = _features(table_ND)
    try:
        guess_N = predict(x_ND, label_N, group_N, seed=seed)
        found = estimate(label_N, guess_N, group_N, classes=len(kept_K), seed=seed, resamples=_RESAMPLES)
    except HistozooError as error:
        return Probed(**facts, reason=error.what)
    told, told_value = _told(label_N, guess_N)
    facts |= {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "told": int(kept_K[told]),
        "told_value": told_value,
    }
    scored = Probed(**facts)
    return _confirmed(scored, x_ND, label_N, group_N, seed) if scored.strength >= MARGIN else scored


def _confirmed(scored: Probed, x_ND: Floats, label_N: Ints, group_N: Ints, seed: int) -> Probed:
    """Returns the probe with what shuffled labels score."""
    try:
        shuffled_S = _shuffled(x_ND, label_N, group_N, seed)
    except HistozooError as error:
        return replace(scored, reason=error.what)
    p = (1 + int((shuffled_S >= scored.value).sum())) / (1 + len(shuffled_S))
    spread = max(float(shuffled_S.std(ddof=1)), 1e-9)
    return replace(scored, p=p, deviations=(scored.value - float(shuffled_S.mean())) / spread)


def predict(x_ND: Floats, label_N: Ints, group_N: Ints, *, seed: int) -> Ints:
    """Returns for each row the class that a probe predicts which saw no row of its group.

    Raises:
        UsageError: `HZ-U51`, a fit did not converge.
    """
    fold_N = folds(label_N, group_N, seed=seed)
    guess_N = np.zeros(len(label_N), dtype=np.int64)
    for fold in np.unique(fold_N):
        train = fold_N != fold
        [(_, linear)] = fit_path(x_ND[train], label_N[train], [_C])
        guess_N[~train] = linear.predict(x_ND[~train])
    return guess_N


def folds(label_N: Ints, group_N: Ints, *, seed: int) -> Ints:
    """Returns the fold of each row: groups whole, largest first, each to the fold that lacks most of its classes."""
    groups, classes = int(group_N.max()) + 1, int(label_N.max()) + 1
    counts_GK = np.zeros((groups, classes))
    np.add.at(counts_GK, (group_N, label_N), 1)
    share_GK = counts_GK / counts_GK.sum(axis=0)
    n_folds = int(min(FOLDS, groups))
    filled_FK = np.zeros((n_folds, classes))
    order = np.random.default_rng(seed).permutation(groups)
    fold_G = np.zeros(groups, dtype=np.int64)
    for g in order[np.argsort(-share_GK[order].max(axis=1), kind="stable")]:
        fold_G[g] = fold = int(np.argmin(filled_FK @ share_GK[g] + 1e-9 * filled_FK.sum(axis=1)))
        filled_FK[fold] += share_GK[g]
    return fold_G[group_N]


def _scored_rows(labels_N: Ints, groups_N: NDArray[Any], seed: int) -> Ints:
    """Returns the rows of classes with enough tiles and groups, at most `_MOST_ROWS`, each class by its share."""
    kept = []
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        if len(rows) >= _LEAST_TILES and len(np.unique(groups_N[rows])) >= _LEAST_GROUPS:
            kept.append(rows)
    if not kept:
        return np.empty(0, dtype=np.int64)
    share = min(1.0, _MOST_ROWS / sum(map(len, kept)))
    random = np.random.default_rng([seed, 2])
    drawn = [random.permutation(rows)[: max(50, round(share * len(rows)))] for rows in kept]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _features(table_ND: Floats) -> Floats:
    """Returns each statistic as its rank in [-1, 1], and the square of that: outliers pull nothing, and a class may lie in the middle."""
    ranks_ND = np.stack([_ranks(column) for column in table_ND.T], axis=1) * 2 - 1
    return np.concatenate([ranks_ND, ranks_ND**2], axis=1)


def _ranks(column_N: Floats) -> Floats:
    """Returns mid-ranks in [0, 1]; equal values share one."""
    _, place_N, count = np.unique(column_N, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2
    return np.asarray(middle[place_N] / max(1, len(column_N) - 1), dtype=np.float64)


def _best(
    table_ND: Floats,
    names: Sequence[str],
    label_N: Ints,
    values: Mapping[str, Floats],
    labels_N: Ints,
    classes: int,
) -> tuple[str, float, tuple[float, ...]]:
    """Returns the statistic with the largest share of rank variance between classes (classes weighted alike), and its medians."""
    shares = [_between(_ranks(column), label_N) for column in table_ND.T]
    name = names[int(np.argmax(shares))]
    of_class = [values[name][labels_N == k] for k in range(classes)]
    medians = [float(np.median(found)) if len(found) else float("nan") for found in of_class]
    return name, float(max(shares)), tuple(medians)


def _between(rank_N: Floats, label_N: Ints) -> float:
    counts = np.bincount(label_N)
    means = np.bincount(label_N, weights=rank_N) / counts
    within = np.bincount(label_N, weights=(rank_N - means[label_N]) ** 2) / counts
    between = float(means.var())
    return between / max(between + float(within.mean()), 1e-12)


def _told(label_N: Ints, guess_N: Ints) -> tuple[int, float]:
    """Returns the class that is told best from all others, and the mean of its recall and of theirs."""
    values = [
        ((guess_N[label_N == k] == k).mean() + (guess_N[label_N != k] != k).mean()) / 2
        for k in np.unique(label_N)
    ]
    return int(np.argmax(values)), float(max(values))


def _shuffled(x_ND: Floats, label_N: Ints, group_N: Ints, seed: int) -> Floats:
    """Returns the balanced accuracies after shuffling the labels: they move between groups as groups hold them."""
    random = np.random.default_rng([seed, 3])
    scores = []
    for _ in range(_SHUFFLES):
        shuffled_N = _shuffle(label_N, group_N, random)
        guess_N = predict(x_ND, shuffled_N, group_N, seed=seed)
        scores.append(balanced_accuracy(shuffled_N, guess_N, int(label_N.max()) + 1))
    return np.array(scores)


def _shuffle(label_N: Ints, group_N: Ints, random: np.random.Generator) -> Ints:
    """Returns labels of the same frequencies that know nothing of the tiles: groups of one class swap classes, mixed groups mix anew."""
    groups = int(group_N.max()) + 1
    first_G = np.zeros(groups, dtype=np.int64)
    first_G[group_N] = label_N
    mixed_G = np.bincount(group_N, weights=(label_N != first_G[group_N]).astype(float), minlength=groups) > 0
    pure = np.flatnonzero(~mixed_G)
    first_G[pure] = random.permutation(first_G[pure])
    shuffled_N = first_G[group_N]
    for g in np.flatnonzero(mixed_G):
        rows = np.flatnonzero(group_N == g)
        shuffled_N[rows] = random.permutation(label_N[rows])
    return shuffled_N


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
