"""Crops of a batch, resized with antialiasing, mirrored and turned, as a pure function of uniform numbers.

A crop is a box of whole pixels, resized bilinearly with antialiasing and rounded to uint8, as Pillow and torchvision do. A view of a tile
that is larger than the view would otherwise show patterns that are in no slide.

Shapes: B samples, H W pixels of the tiles, h w of the view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from histozoo.errors import UsageError

_HAIR = 1e-9


@dataclass(frozen=True)
class Boxes:
    """Where each sample's view lies in its tile, and its symmetry. Tensors on the processor, int64 `[B]` or boolean.

    A view is the box, transposed where so drawn, then mirrored left-right and up-down where so drawn.
    """

    x_B: Tensor
    y_B: Tensor
    width_B: Tensor
    height_B: Tensor
    transposed_B: Tensor
    mirrored_x_B: Tensor
    mirrored_y_B: Tensor


def crop_sides(
    u_area_B: Tensor, u_aspect_B: Tensor, *, area: tuple[float, float], aspect: float
) -> tuple[Tensor, Tensor]:
    """Returns width and height of the crops as shares of the tile's side, in (0, 1].

    Args:
        u_area_B: Uniform numbers that draw the area, uniformly.
        u_aspect_B: Uniform numbers that draw width by height, uniformly in its logarithm.
        area: Smallest and largest share of the tile's area.
        aspect: Largest ratio of the sides, at least 1.
    """
    side_B = (area[0] + (area[1] - area[0]) * u_area_B).sqrt()
    root_B = torch.exp(math.log(aspect) * (u_aspect_B - 0.5))
    return (side_B * root_B).clamp(max=1), (side_B / root_B).clamp(max=1)


def area_for_mpp(
    *,
    tile_px: int,
    tile_mpp: tuple[float, float],
    px: int,
    mpp: tuple[float, float],
    aspect: float = 1.0,
) -> tuple[float, float]:
    """Returns the shares of area for which every view stays within bounds in micrometres per pixel, in either direction of the view.

    A crop of s tile pixels shown on px pixels has s * tile_mpp / px micrometres per pixel. Magnification tells tissue apart (nuclei have a
    size): an unbounded crop teaches a model to ignore it; E. Zimmermann et al., "Virchow2", arXiv 2408.00738, leave resizing out for that.
    The bounds hold for the whole pixels that `place` rounds to, and for the finest as for the coarsest tile.

    Args:
        tile_px: Side of the tiles in pixels.
        tile_mpp: Micrometres per pixel of the finest and of the coarsest tile.
        px: Side of the view in pixels.
        mpp: Least and most micrometres per pixel that a view may show.
        aspect: Largest ratio of the crop's sides; it takes its part of the bounds.

    Raises:
        UsageError: `HZ-U86`, the tile is too small for such a view, or the bounds leave no crop: too narrow for the ratio of the sides, or
            for tiles that differ so much.
    """
    # A hair of tolerance, so that a bound that is a whole number of pixels keeps it.
    fewest = math.ceil(mpp[0] * px / tile_mpp[0] * (1 - _HAIR))
    most = math.floor(mpp[1] * px / tile_mpp[1] * (1 + _HAIR))
    root = math.sqrt(aspect)
    low, high = fewest * root / tile_px, min(most / root / tile_px, 1.0)
    if low <= high:
        return low**2, high**2
    small = fewest > tile_px
    between = "" if tile_mpp[0] == tile_mpp[1] else f" to {tile_mpp[1]:.4g}"
    raise UsageError(
        "HZ-U86",
        "no crop of the tile has this resolution" if small else "no crop of every tile keeps both bounds",
        where=f"tiles of {tile_px} px at {tile_mpp[0]:.4g}{between} mpp, view of {px} px",
        expected=f"{mpp[0]:g} to {mpp[1]:g} mpp with sides up to 1:{aspect:.4g}",
        got=f"at most {tile_px * tile_mpp[0] / px:.4g} mpp"
        if small
        else f"sides of at least {fewest} px for the finest tile and at most {most} px for the coarsest",
        kept="nothing was trained",
        next_step="take larger tiles, smaller views or a smaller mpp"
        if small
        else "widen the bounds, take a smaller aspect, or tiles whose resolutions are nearer to each other",
    )


def place(
    sides: tuple[Tensor, Tensor],
    u_x_B: Tensor,
    u_y_B: Tensor,
    symmetry: tuple[Tensor, Tensor, Tensor],
    *,
    hw: tuple[int, int],
) -> Boxes:
    """Returns boxes of whole pixels.

    Args:
        sides: Width and height as shares of the tile.
        u_x_B: Uniform numbers that place the box from left to right.
        u_y_B: The same from top to bottom.
        symmetry: Mirrored left-right, mirrored up-down (boolean `[B]`), and quarter turns against the clock (0 to 3), done first.
        hw: Height and width of the tile in pixels.
    """
    width_B = (sides[0] * hw[1]).round().clamp(1, hw[1]).long()
    height_B = (sides[1] * hw[0]).round().clamp(1, hw[0]).long()
    # A number just below 1 times a large range may round up to the range itself.
    x_B = torch.minimum((u_x_B * (hw[1] - width_B + 1)).long(), hw[1] - width_B)
    y_B = torch.minimum((u_y_B * (hw[0] - height_B + 1)).long(), hw[0] - height_B)
    flip_x_B, flip_y_B, quarter_B = symmetry
    # A quarter turn is a transposition and then a mirror; half a turn is both mirrors.
    mirrored_x_B, mirrored_y_B = flip_x_B ^ (quarter_B >= 2), flip_y_B ^ ((quarter_B == 1) | (quarter_B == 2))
    return Boxes(x_B, y_B, width_B, height_B, quarter_B % 2 == 1, mirrored_x_B, mirrored_y_B)


def crop_one(tile_HWC: Tensor, box: tuple[int, int, int, int, bool, bool, bool], px: int) -> Tensor:
    """Returns one view on the processor, uint8 `[1, 3, px, px]`.

    Args:
        tile_HWC: uint8.
        box: x, y, width, height, transposed, mirrored left-right, mirrored up-down.
        px: Side of the view.
    """
    x, y, width, height, transposed, mirrored_x, mirrored_y = box
    view = tile_HWC.permute(2, 0, 1)[None, :, y : y + height, x : x + width]
    if (height, width) != (px, px):
        view = torch.ops.aten._upsample_bilinear2d_aa(view, (px, px), False)
    if transposed:
        view = view.mT
    axes = [axis for axis, mirrored in ((3, mirrored_x), (2, mirrored_y)) if mirrored]
    return view.flip(axes) if axes else view


def crop_batch(tiles_BHWC: Tensor, boxes: Boxes, px: int) -> Tensor:
    """Returns the views of a batch on its device, float32 `[B, 3, px, px]` of whole numbers 0 to 255.

    The same rule as `crop_one`, as two products with matrices of weights, for devices that have no such resize of uint8: a value may
    differ by 1, where the sum lies next to a half.
    """
    device = tiles_BHWC.device
    b = Boxes(*(t.to(device, non_blocking=True) for t in vars(boxes).values()))
    columns_BwW = _weights(b.x_B, b.width_B, px, tiles_BHWC.shape[2])
    rows_BhH = _weights(b.y_B, b.height_B, px, tiles_BHWC.shape[1])
    # Mirrors go into the weights. They come after the transposition, which swaps them.
    across_B = torch.where(b.transposed_B, b.mirrored_y_B, b.mirrored_x_B)[:, None, None]
    down_B = torch.where(b.transposed_B, b.mirrored_x_B, b.mirrored_y_B)[:, None, None]
    columns_BwW = torch.where(across_B, columns_BwW.flip(1), columns_BwW)
    rows_BhH = torch.where(down_B, rows_BhH.flip(1), rows_BhH)
    x_BCHW = tiles_BHWC.permute(0, 3, 1, 2).float()
    x_BCHw = torch.matmul(x_BCHW, columns_BwW.mT[:, None]).add_(0.5).floor_()
    x_BChw = torch.matmul(rows_BhH[:, None], x_BCHw).add_(0.5).floor_()
    return torch.where(b.transposed_B[:, None, None, None], x_BChw.mT, x_BChw)


def _weights(start_B: Tensor, length_B: Tensor, px: int, source_px: int) -> Tensor:
    """Returns the bilinear weights with antialiasing of each sample's box, `[B, px, source_px]`: a triangle as wide as a view pixel."""
    step_B11 = length_B[:, None, None].float() / px
    target_px = torch.arange(px, device=start_B.device)[:, None].float() + 0.5
    source = torch.arange(source_px, device=start_B.device).float() - start_B[:, None, None]
    away = (source + 0.5 - step_B11 * target_px) / step_B11.clamp(min=1)
    weight = (1 - away.abs()).clamp_(min=0) * ((source >= 0) & (source < length_B[:, None, None]))
    return weight / weight.sum(2, keepdim=True)
