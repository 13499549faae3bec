"""How far features move when pixels change in a way that is no biology, beside how far apart different tiles lie.

A cosine near 1 says nothing by itself: features of all tiles may have a cosine near 1. So every change is measured against the tiles:
`distance` is the root mean square distance of a tile from its changed self divided by that between tiles of different groups (0: the
change is not seen; 1: it moves a tile as far as another tile is), `cosine` stands beside the mean cosine `between` different tiles, and
`retrieved` is how often a changed tile's nearest original is its own.

Shapes: N tiles, H W pixels, D features, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.corruptions import REFERENCE_PX, Tile, blur, check_tiles, generator_of, jpeg
from histozoo.evaluate.probe import check_finite, features
from histozoo.evaluate.resampling import (
    Estimate,
    Floats,
    Names,
    group_indices,
    percentiles,
    resample,
    same_rows,
)

if TYPE_CHECKING:
    from torch import nn

Change = Callable[[Tile, int], Tile]
"""uint8 tiles `[N, H, W, 3]` and a seed -> tiles of the same shape."""
STAIN = 0.05
"""Half-width of the HED jitter, as `histozoo.data.views.Views.stain` of the multi-task recipe."""


_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """What one change does to features.

    Args:
        change: Its name.
        distance: Root mean square distance of tiles from their changed selves, divided by that between tiles of different groups.
        cosine: Mean cosine of a tile and its changed self.
        between: Mean cosine of tiles of different groups.
        retrieved: Share of changed tiles whose nearest original by cosine is their own.

    The intervals resample groups; the distance between tiles is a yardstick and held fixed.
    """

    change: str
    distance: Estimate
    cosine: Estimate
    between: float
    retrieved: Estimate


def flip_x(tiles_NHW3: Tile, _: int = 0) -> Tile:
    """Mirrors left and right."""
    return tiles_NHW3[:, :, ::-1]


def flip_y(tiles_NHW3: Tile, _: int = 0) -> Tile:
    """Mirrors up and down."""
    return tiles_NHW3[:, ::-1]


def rot90(tiles_NHW3: Tile, _: int = 0) -> Tile:
    """Rotates by a quarter turn; tiles are square."""
    return np.rot90(tiles_NHW3, axes=(1, 2))


def stain(tiles_NHW3: Tile, seed: int = 0) -> Tile:
    """Scales and shifts haematoxylin, eosin and residual by up to `STAIN`, drawn per tile, as in training (`views.stain_jitter`)."""
    import torch

    from histozoo.data.views import stain_jitter

    changed = []
    for row, tile in enumerate(tiles_NHW3):
        drawn = STAIN * generator_of(seed, "stain", row).uniform(-1, 1, size=(2, 1, 3))
        factor, shift = (torch.from_numpy(v).float() for v in (1 + drawn[0], drawn[1]))
        x_1CHW = torch.from_numpy(np.array(tile)).permute(2, 0, 1)[None].float() / 255
        y_CHW = stain_jitter(x_1CHW, factor, shift)[0]
        changed.append((255 * y_CHW).round().byte().permute(1, 2, 0).numpy())
    return np.stack(changed)


def soft(tiles_NHW3: Tile, _: int = 0) -> Tile:
    """Blurs by a Gaussian whose standard deviation is 1/112 of the side (two pixels of 224), and half a pixel at least."""
    radius = max(2.0, 0.5 * REFERENCE_PX / tiles_NHW3.shape[1])
    return np.stack([blur(np.asarray(t), radius, generator_of(0, "", 0)) for t in tiles_NHW3])


def jpeg_70(tiles_NHW3: Tile, _: int = 0) -> Tile:
    """Saves as JPEG of quality 70."""
    return np.stack([jpeg(np.asarray(t), 70, generator_of(0, "", 0)) for t in tiles_NHW3])


CHANGES: Mapping[str, Change] = {
    "flip_x": flip_x,
    "flip_y": flip_y,
    "rot90": rot90,
    "stain": stain,
    "blur": soft,
    "jpeg_70": jpeg_70,
}
"""Changes that leave the diagnosis as it is."""


def invariances(
    model: nn.Module,
    tiles_NHW3: Tile,
    groups_N: Names,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    changes: Mapping[str, Change] = CHANGES,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[Invariance, ...]:
    """Measures a frozen trunk under every change: one pass over the tiles each.

    Args:
        model: Maps normalised pixels to pooled features.
        tiles_NHW3: uint8 RGB tiles, square.
        groups_N: Patient, slide or photograph of each tile.
        mean: Channel means of the contract.
        std: Channel standard deviations of the contract.
        changes: Name -> change.
        seed: Of the changes and the resampling.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: `HZ-I74` no tiles; `HZ-I63` fewer than two groups; and as in `invariance`.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    return invariances_of(
        partial(features, model, mean=mean, std=std),
        tiles_NHW3,
        groups_N,
        changes=changes,
        seed=seed,
        resamples=resamples,
    )


def invariances_of(
    features_of: Callable[[Tile], NDArray[np.float32]],
    tiles_NHW3: Tile,
    groups_N: Names,
    *,
    changes: Mapping[str, Change] = CHANGES,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[Invariance, ...]:
    """Measures whatever gives features, such as `Encoder.features`; arguments and errors otherwise as in `invariances`."""
    check_tiles(tiles_NHW3)
    group_indices(groups_N, len(tiles_NHW3))
    f_ND = features_of(tiles_NHW3)
    return tuple(
        invariance(
            f_ND,
            features_of(np.ascontiguousarray(change(tiles_NHW3, seed))),
            groups_N,
            change=name,
            seed=seed,
            resamples=resamples,
        )
        for name, change in changes.items()
    )


def invariance(
    f_ND: NDArray[np.float32],
    changed_ND: NDArray[np.float32],
    groups_N: Names,
    *,
    change: str,
    seed: int = 0,
    resamples: int = 10_000,
) -> Invariance:
    """Compares features of tiles with those of the same tiles changed.

    Raises:
        UsageError: `HZ-I74` the features of different tiles are all equal, or one is zero; `HZ-I63` one group; `HZ-I64` rows differ.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    for values_ND in (f_ND, changed_ND):
        check_finite(values_ND)
    same_rows(len(f_ND), len(changed_ND), "changed features")
    group_N, groups = group_indices(groups_N, len(f_ND))
    x_ND, y_ND = f_ND.astype(np.float64), changed_ND.astype(np.float64)
    u_ND, v_ND = _unit(x_ND), _unit(y_ND)
    apart, between = _between(x_ND, group_N), _between(u_ND, group_N)
    if apart <= 1e-14 * np.square(x_ND).sum(1).mean():
        raise UsageError(
            "HZ-I74",
            "the features of different tiles are equal, so that there is no distance to compare with",
            expected="features that tell tiles apart",
            got=f"mean squared distance {apart:.3g}",
            next_step="a collapsed model looks invariant to everything",
        )
    moved_N = np.square(x_ND - y_ND).sum(1)
    own_N = _nearest(v_ND, u_ND) == np.arange(len(u_ND))

    def over_groups(values_N: Floats, then: Callable[[Floats], Floats] = np.asarray) -> Estimate:
        sums_G, sizes_G = np.bincount(group_N, values_N), np.bincount(group_N).astype(np.float64)

        def metric(counts_BG: Floats) -> Floats:
            means_B: Floats = then((counts_BG @ sums_G) / (counts_BG @ sizes_G))
            return means_B[:, None]

        values_R = resample(metric, groups, width=groups, seed=seed, resamples=resamples)[:, 0]
        low, high = percentiles(values_R)
        value = float(then(np.asarray(values_N.mean())))
        return Estimate(
            value=value,
            low=low,
            high=high,
            n=len(values_N),
            n_groups=groups,
            resamples=resamples,
            undefined=0,
        )

    return Invariance(
        change=change,
        distance=over_groups(moved_N, lambda means: np.sqrt(means / apart)),
        cosine=over_groups((u_ND * v_ND).sum(1)),
        between=1 - between / 2,
        retrieved=over_groups(own_N.astype(np.float64)),
    )


def _unit(x_ND: Floats) -> Floats:
    length_N = np.linalg.norm(x_ND, axis=1)
    if not length_N.all():
        raise UsageError(
            "HZ-I74",
            "a feature vector is zero, so that it has no direction",
            expected="features of length above 0",
            got=f"{int((length_N == 0).sum())} rows of zeros",
            next_step="leave these tiles out; blank tiles may give them",
        )
    unit_ND: Floats = x_ND / length_N[:, None]
    return unit_ND


def _nearest(v_ND: Floats, u_ND: Floats) -> NDArray[np.int64]:
    """Returns for every row of `v_ND` the row of `u_ND` with the highest product; memory grows with N alone."""
    parts = [np.argmax(v_ND[i : i + _AT_ONCE] @ u_ND.T, axis=1) for i in range(0, len(v_ND), _AT_ONCE)]
    nearest_N: NDArray[np.int64] = np.concatenate(parts)
    return nearest_N


def _between(x_ND: Floats, group_N: NDArray[np.int64]) -> float:
    """Returns the mean squared distance of tiles of different groups, from sums: all pairs, less those inside groups."""
    x_ND = x_ND - x_ND.mean(0)  # distances stay, and rounding shrinks
    squares_N = np.square(x_ND).sum(1)
    sizes_G = np.bincount(group_N)
    sums_GD = np.zeros((len(sizes_G), x_ND.shape[1]))
    np.add.at(sums_GD, group_N, x_ND)
    inside = 2 * (sizes_G * np.bincount(group_N, squares_N)).sum() - 2 * np.square(sums_GD).sum()
    everywhere = 2 * len(x_ND) * squares_N.sum() - 2 * np.square(x_ND.sum(0)).sum()
    pairs = len(x_ND) ** 2 - np.square(sizes_G).sum()
    return float((everywhere - inside) / pairs)
