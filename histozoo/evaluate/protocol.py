"""What every protocol offers: a model or its features and labels in, predictions of tiles that no classifier of it was trained on out."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from histozoo.evaluate.labelled import LabelledTiles


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a probe predicted.

    An interval over groups of these predictions (`scored.estimate`) says how the score would move with other patients in the test rows.
    It does not know that classifiers of several folds were trained on mostly the same rows, unless it is told which: give it `fold_N`
    (benchmarks/auroc.txt says how often the interval then holds the truth, and how often without). A split has no such flaw.

    Args:
        rows_N: Row of each prediction in the features given; every row for folds, the split's test rows for a split.
        guesses_N: Class index predicted for it.
        fold_N: The fold that held the row out, all zero for a split.
        c_F: The setting chosen for each fold: C of a linear classifier, k of nearest neighbours.
        scores_NK: float32 score of each class, K the highest class index plus one; a class that the training rows lacked has the lowest.
        probabilities: Whether the rows of `scores_NK` are probabilities that sum to 1.
    """

    rows_N: NDArray[np.int64]
    guesses_N: NDArray[np.int64]
    fold_N: NDArray[np.int64]
    c_F: tuple[float, ...]
    scores_NK: NDArray[np.float32]
    probabilities: bool


class Protocol(typing.Protocol):
    """A key of `PROTOCOLS` names one of these."""

    def __call__(
        self,
        model: nn.Module,
        labelled: LabelledTiles,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
    ) -> Predictions:
        """Predicts every tile, by group-wise folds drawn with `seed`; `mean` and `std` normalise the tiles."""
        ...


class Parts(typing.Protocol):
    """An official split: rows to train on, to choose settings on (may be none) and to report."""

    @property
    def train(self) -> NDArray[np.int64]:
        """Rows to train on."""
        ...

    @property
    def val(self) -> NDArray[np.int64]:
        """Rows to choose settings on."""
        ...

    @property
    def test(self) -> NDArray[np.int64]:
        """Rows to report."""
        ...


class FeatureProtocol(typing.Protocol):
    """A key of `FEATURE_PROTOCOLS` names one of these: a frozen encoder is measured by what a simple classifier makes of its features."""

    def __call__(
        self,
        f_ND: NDArray[np.float32],
        labels_N: NDArray[np.int64],
        groups_N: Sequence[str] | NDArray[Any],
        *,
        seed: int,
        folds: int = 5,
        split: Parts | None = None,
    ) -> Predictions:
        """Predicts every row by grouped folds drawn with `seed`, or the test rows of `split`; settings are chosen on training rows."""
        ...
