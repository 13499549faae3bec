"""What damage to tiles costs a classifier that was fitted on clean ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from histozoo.evaluate.corruption_error import corruption_error_of
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks.base import Number, Setup

CLEAN, MEAN = "clean", "mean of corruptions"


def damaged(one: Encoder, tiles_of: Callable[[Encoder], LabelledTiles], setup: Setup) -> list[Number]:
    """Returns balanced accuracy on clean tiles; per corruption 1 - balanced accuracy over five severities, and what the worst one costs.

    Raises:
        UsageError: What the probe raises.
    """
    found = corruption_error_of(
        partial(one.features, device=setup.device),
        tiles_of(one),
        seed=setup.seed,
        resamples=setup.resamples,
    )
    n, groups = found.clean.n, found.clean.n_groups

    def error(setting: str, value: float) -> Number:
        return Number(
            setting=setting,
            metric="corruption_error",
            value=value,
            low=None,
            high=None,
            n=n,
            n_groups=groups,
        )

    numbers = [Number.of(found.clean, "balanced_accuracy", CLEAN), error(MEAN, found.mean_error)]
    for name in found.accuracy:
        numbers += [error(name, found.error(name)), Number.of(found.loss[name], "worst_minus_clean", name)]
    return numbers
