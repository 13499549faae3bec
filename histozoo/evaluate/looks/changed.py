"""How far features move when pixels change in a way that is no biology."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.invariance import invariances_of
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks.base import Number, Setup


def changed(one: Encoder, tiles_of: Callable[[Encoder], LabelledTiles], setup: Setup) -> list[Number]:
    """Returns, per change, how far it moves a tile beside how far apart tiles lie, the cosine, and how often a tile finds itself again.

    Raises:
        UsageError: `HZ-I63` one group; `HZ-I74` features that are zero or all equal.
    """
    labelled = tiles_of(one)
    found = invariances_of(
        partial(one.features, device=setup.device),
        labelled.tiles_NHWC,
        labelled.groups_N,
        seed=setup.seed,
        resamples=setup.resamples,
    )
    return [
        Number.of(getattr(f, metric), metric, f.change)
        for f in found
        for metric in ("distance", "cosine", "retrieved")
    ]
