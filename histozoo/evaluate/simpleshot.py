"""SimpleShot: how much of a task a model knows from 1 to 16 tiles per class, over many draws of these tiles, with the spread.

After Wang et al. (2019, arXiv:1911.04623): the support tiles of an episode are centred by their mean and brought to length 1, their class
means are the centroids, a tile is called by the nearest one after the same centring and scaling. Shots as in THUNDER, which votes over
episodes; here every episode has its score, since the spread is the result.

Shapes: N tiles, M tiles asked about, D features, K classes, E episodes, S shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.crossval import checked, collected
from histozoo.evaluate.folds import Part, parts
from histozoo.evaluate.protocol import Parts, Predictions

Ints = NDArray[np.int64]

SHOTS = (1, 2, 4, 8, 16)
EPISODES = 500

_NUMBERS_AT_ONCE = 1 << 23  # 32 MB of float32 for the support of some episodes


@dataclass(frozen=True, kw_only=True)
class Shots:
    """One number of shots.

    Args:
        shots: Tiles per class that each episode learnt from.
        values_E: Balanced accuracy of each episode on all rows predicted.
    """

    shots: int
    values_E: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean over episodes."""
        return float(self.values_E.mean())

    @property
    def sd(self) -> float:
        """Standard deviation over episodes: how much the choice of tiles matters. 0 for a single episode."""
        return float(self.values_E.std(ddof=1)) if len(self.values_E) > 1 else 0.0

    def percentiles(self, at: Sequence[float] = (2.5, 50.0, 97.5)) -> tuple[float, ...]:
        """Percentiles over episodes, by default the ends of the central 95 % and the median: other tiles, the same patients."""
        return tuple(float(v) for v in np.percentile(self.values_E, at))


@dataclass(frozen=True, kw_only=True)
class FewShot(Predictions):
    """Predictions by the largest number of shots, and the spread for every number.

    `guesses_N` is the majority and `scores_NK` the shares of the votes of all episodes: a committee that has seen far more tiles than one
    episode. What a few tiles are worth is in `shots`.

    Args:
        shots: One per number of shots, in increasing order.
        too_many: Usual numbers of shots that were left out, since some class has fewer training rows in some fold; none where the numbers
            were given.
        rarest: How many training rows the rarest class has in the fold where it has the fewest.
    """

    shots: tuple[Shots, ...]
    too_many: tuple[int, ...]
    rarest: int


def simpleshot(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    split: Parts | None = None,
    shots: Sequence[int] | None = None,
    episodes: int = EPISODES,
) -> FewShot:
    """Predicts every row by grouped folds, or the test rows of a split, in each of many episodes.

    In an episode each fold draws its own support from its training rows, never from a group that it predicts; the tiles drawn depend on
    labels, groups and seed alone, so that encoders are compared on the same ones. A split's validation rows are not used.

    Args:
        f_ND: Features `[N, D]`.
        labels_N: Class indices.
        groups_N: The group of each row.
        seed: Seed of the folds and of the support.
        folds: Number of folds.
        split: An official split instead.
        shots: Tiles per class; where it is None, those of 1, 2, 4, 8 and 16 that every class has in the training rows of every fold; the
            result says which were left out.
        episodes: Draws for each number of shots.

    Raises:
        UsageError: `HZ-I62` a class is missing on one side; `HZ-I63` fewer groups than folds, or a group on two sides of the split;
            `HZ-I64` rows differ; `HZ-I66` no episode, or more shots than a class has training rows.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    f_ND, labels_N, groups_N = checked(f_ND, labels_N, groups_N)
    each = parts(labels_N, groups_N, seed=seed, folds=folds, split=split)
    rarest = min(int(np.unique(labels_N[part.train], return_counts=True)[1].min()) for part in each)
    sizes = _sizes(rarest, shots, episodes)
    measured, votes = [], []
    for size in sizes:
        guesses = [
            _episodes(f_ND, labels_N, part, shots=size, episodes=episodes, seed=[seed, fold, size])
            for fold, part in enumerate(each)
        ]
        truth_N = labels_N[np.concatenate([part.test for part in each])]
        measured.append(Shots(shots=size, values_E=_balanced_accuracy(truth_N, np.concatenate(guesses))))
        votes = guesses
    shares = [_shares(guesses_ME, int(labels_N.max()) + 1) for guesses_ME in votes]
    rows = [part.test for part in each]
    fold_N = [np.full(len(part.test), fold, dtype=np.int64) for fold, part in enumerate(each)]
    found = collected(rows, fold_N, shares, [float(sizes[-1])] * len(each), probabilities=True)
    too_many = tuple(s for s in SHOTS if s > rarest) if shots is None else ()
    return FewShot(**vars(found), shots=tuple(measured), too_many=too_many, rarest=rarest)


def centroid_scores(support_EKSD: NDArray[Any], query_MD: NDArray[Any]) -> NDArray[np.float32]:
    """Returns minus the squared distance of each query to each class centroid, up to a constant per query, `[M, E, K]`.

    With m the mean of an episode's support, x' = (x - m) / |x - m| and c the mean of a class's x': 2 x'.c - |c|^2. All episodes and classes
    are one matrix product.

    Args:
        support_EKSD: Features of the support tiles.
        query_MD: Features of the tiles asked about.
    """
    episodes, classes, _, width = support_EKSD.shape
    mean_ED = support_EKSD.mean((1, 2))
    centred = support_EKSD - mean_ED[:, None, None]
    length = np.linalg.norm(centred, axis=3, keepdims=True)
    centroid_EKD = (centred / np.where(length > 0, length, 1)).mean(2)
    columns_EJD = np.concatenate([centroid_EKD, mean_ED[:, None]], 1)
    product_MEJ = (query_MD @ columns_EJD.reshape(-1, width).T).reshape(len(query_MD), episodes, classes + 1)
    square_M1, squares_E = np.square(query_MD).sum(1)[:, None], np.square(mean_ED).sum(1)
    apart_ME = np.sqrt(np.maximum(square_M1 - 2 * product_MEJ[..., -1] + squares_E, 1e-6 * square_M1 + 1e-30))
    along_MEK = product_MEJ[..., :-1] - np.einsum("ekd,ed->ek", centroid_EKD, mean_ED)
    scores: NDArray[np.float32] = 2 * along_MEK / apart_ME[..., None] - np.square(centroid_EKD).sum(2)
    return scores


def _episodes(
    f_ND: NDArray[Any], labels_N: Ints, part: Part, *, shots: int, episodes: int, seed: list[int]
) -> Ints:
    """Returns the guess of each test row in each episode, `[M, E]`."""
    classes_K, generator = np.unique(labels_N[part.train]), np.random.default_rng(seed)
    support_EKS = np.stack(
        [
            _drawn(generator, part.train[labels_N[part.train] == k], shots=shots, episodes=episodes)
            for k in classes_K
        ],
        1,
    )
    # Centred, so that float32 has its digits where rows differ; distances do not change.
    x_ND = (f_ND - f_ND[part.train].mean(0, dtype=np.float64)).astype(np.float32)
    at_once = max(
        1, _NUMBERS_AT_ONCE // (support_EKS[0].size * x_ND.shape[1] + len(part.test) * len(classes_K))
    )
    guesses = [
        classes_K[centroid_scores(x_ND[support_EKS[i : i + at_once]], x_ND[part.test]).argmax(2)]
        for i in range(0, episodes, at_once)
    ]
    return np.concatenate(guesses, 1)


def _drawn(generator: np.random.Generator, rows: Ints, *, shots: int, episodes: int) -> Ints:
    """Returns `[E, S]` rows, each episode without replacement: the smallest of random keys."""
    keys = generator.random((episodes, len(rows)))
    drawn: Ints = rows[np.argpartition(keys, shots - 1, axis=1)[:, :shots]]
    return drawn


def _balanced_accuracy(labels_N: Ints, guesses_NE: Ints) -> NDArray[np.float64]:
    right_NE = labels_N[:, None] == guesses_NE
    values_E: NDArray[np.float64] = np.mean([right_NE[labels_N == k].mean(0) for k in np.unique(labels_N)], 0)
    return values_E


def _shares(guesses_ME: Ints, classes: int) -> NDArray[np.float64]:
    return np.stack([(guesses_ME == k).mean(1) for k in range(classes)], 1)


def _sizes(rarest: int, shots: Sequence[int] | None, episodes: int) -> list[int]:
    sizes = sorted({s for s in SHOTS if s <= rarest} if shots is None else set(shots))
    if not sizes or sizes[0] < 1 or sizes[-1] > rarest or episodes < 1:
        raise UsageError(
            "HZ-I66",
            "episodes cannot be drawn so",
            expected=f"1 to {rarest} shots, as many as the rarest class has training rows, and at least one episode",
            got=f"shots {', '.join(map(str, sizes)) or 'none'}, {episodes} episodes",
            next_step="leave out the larger numbers of shots",
        )
    return sizes
