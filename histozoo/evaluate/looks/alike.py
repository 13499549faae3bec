"""How alike the blocks of two models are: unbiased linear CKA of every pair, with an interval for blocks of the same name."""

from __future__ import annotations

from collections.abc import Callable

from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks.base import Number, Setup

AND = " | "
"""Stands between the two blocks of a pair: of the first model, of the other."""


def alike(one: Encoder, tiles_of: Callable[[Encoder], LabelledTiles], setup: Setup) -> list[Number]:
    """Returns CKA of every block of the first model with every block of this one.

    1 is the same up to rotation and scale; unrelated features lie around 0. Two seeds of one training are not at 1 either: put two such
    runs beside one another to know how far apart they are.

    Raises:
        UsageError: `HZ-I73`, too few tiles, or a model that does not say what its blocks are.
    """
    from histozoo.evaluate.cka import similarity
    from histozoo.evaluate.cka_intervals import align

    left, right = (
        cached_features(e, tiles_of(e), cache=setup.cache, blocks=True, device=setup.device)
        for e in (setup.first, one)
    )
    labelled = tiles_of(one)
    found, groups = similarity([left], [right]), len(set(labelled.groups_N.tolist()))
    same = {b: align(left[b], right[b], labelled.groups_N).estimate for b in left if b in right}
    return [
        Number(
            setting=f"{a}{AND}{b}",
            metric="linear_cka",
            value=float(found.values_LM[i, j]),
            low=same[a].low if a == b else None,
            high=same[a].high if a == b else None,
            n=found.n,
            n_groups=groups,
        )
        for i, a in enumerate(found.left)
        for j, b in enumerate(found.right)
    ]
