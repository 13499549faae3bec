"""What every protocol offers: a model and labelled tiles in, predictions of tiles that no classifier of it was trained on out."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from histozoo.evaluate.labelled import LabelledTiles


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a probe predicted.

    Args:
        rows_N: Row of each prediction in the features given; every row for `probe`, the split's test rows for `probe_split`.
        guesses_N: Class index predicted for it.
        fold_N: The fold that held the row out, all zero for a split.
        c_F: The C chosen for each fold.
    """

    rows_N: NDArray[np.int64]
    guesses_N: NDArray[np.int64]
    fold_N: NDArray[np.int64]
    c_F: tuple[float, ...]


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
