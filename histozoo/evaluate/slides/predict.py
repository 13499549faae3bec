"""Slides as a protocol: every slide predicted once, by a head on frozen features that saw no slide of its patient.

Shapes: S slides, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histozoo.evaluate.protocol import Predictions
from histozoo.evaluate.slides.bags import Bags
from histozoo.evaluate.slides.crossval import cross_fold, slide_folds

if TYPE_CHECKING:
    from histozoo.evaluate.slides.attention import Pooling

FOLDS = 5


def predict(
    bags: Bags,
    *,
    pooling: Pooling,
    seed: int,
    fold_seed: int = 0,
    folds: int = FOLDS,
    epochs: int = 20,
    device: str = "cpu",
) -> Predictions:
    """Returns a prediction for every slide; rows are positions in the bags.

    Features are standardised by the tiles learnt from, since encoders are compared whose features differ in size.

    Args:
        bags: The slides.
        pooling: See `SlideHead`.
        seed: Of initial weights, the order of the bags and the choice of validation slides.
        fold_seed: Of the folds.
        folds: Number of folds.
        epochs: Passes over the training slides; the one with the lowest validation loss is kept.
        device: As in `Engine`.

    Raises:
        UsageError: `HZ-I63` one slide only; `HZ-I62` one class only; `HZ-I72` a class with fewer patients than folds.
        IntegrityError: `HZ-I62` a feature is not finite; `HZ-F45` training diverged.
    """
    from histozoo.evaluate.slides.model import Settings

    fold_S = slide_folds(bags, folds=folds, seed=fold_seed)
    settings = Settings(pooling=pooling, epochs=epochs, standardise=True)
    found = [
        cross_fold(bags, fold_S, fold, settings=settings, seed=seed, device=device) for fold in range(folds)
    ]
    scores_SK = np.concatenate([f.probabilities_SK for f in found]).astype(np.float32)
    return Predictions(
        rows_N=np.concatenate([f.slides_S for f in found]),
        guesses_N=scores_SK.argmax(1),
        fold_N=np.concatenate([np.full(len(f.slides_S), f.fold, dtype=np.int64) for f in found]),
        c_F=tuple(float(f.best) for f in found),
        scores_NK=scores_SK,
        probabilities=True,
    )
