"""Whole pictures by overlapping windows with a smooth weight, and single objects out of foreground.

Shapes: H W pixels, h w pixels of a window, B windows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Ints
from histozoo.evaluate.segment.crops import mirrored
from histozoo.evaluate.segment.metrics import numbered
from histozoo.evaluate.segment.pictures import connected

if TYPE_CHECKING:
    from histozoo.evaluate.segment.train import Segmentation

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Windows `[B, px, px, 3]` -> probabilities of foreground `[B, px, px]`."""
Separation = Literal["components", "watershed"]


def check(px: int, stride: int) -> None:
    """Refuses windows that leave gaps between them: `HZ-U43`."""
    if not 1 <= stride <= px:
        raise UsageError(
            "HZ-U43", "the windows do not cover the picture", expected=f"a stride of 1 to {px}", got=stride
        )


def whole(
    image: NDArray[np.uint8], predict: Predict, *, px: int, stride: int, batch: int = 8
) -> NDArray[np.float32]:
    """Returns the probability of foreground of every pixel, `[H, W]`.

    Each pixel is the mean over the windows that hold it, weighted by a squared sine in both directions, so that no window's edge shows.
    A picture smaller than a window is mirrored at its right and lower edge.

    Args:
        image: uint8 RGB `[H, W, 3]`.
        predict: Gives the probabilities of windows.
        px: Side of a window in pixels.
        stride: From one window to the next, in pixels, at most `px`; the last of a row ends at the edge.
        batch: Windows predicted at once.

    Raises:
        UsageError: `HZ-U43`, a stride that leaves gaps.
    """
    check(px, stride)
    height, width = image.shape[:2]
    image = mirrored(image, px)
    corners = [
        (y, x) for y in _places(image.shape[0], px, stride) for x in _places(image.shape[1], px, stride)
    ]
    weight = window(px)
    sums, weights = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    for first in range(0, len(corners), batch):
        some = corners[first : first + batch]
        found = predict(np.stack([image[y : y + px, x : x + px] for y, x in some]))
        for (y, x), p_hw in zip(some, found, strict=True):
            sums[y : y + px, x : x + px] += weight * p_hw
            weights[y : y + px, x : x + px] += weight
    return (sums / weights)[:height, :width].astype(np.float32)


def window(px: int) -> NDArray[np.float64]:
    """Returns the weight of a window's pixels: sin^2 of the distance from the edge in both directions, nowhere 0."""
    side = np.sin(np.pi * (np.arange(px) + 0.5) / px) ** 2
    return np.outer(side, side)


def _places(length: int, px: int, stride: int) -> list[int]:
    """Returns where windows begin: from edge to edge, evenly, no further apart than `stride`."""
    count = -(-(length - px) // stride) + 1
    return [int(place) for place in np.linspace(0, length - px, count).round()]


def predictor(recipe: Segmentation) -> Predict:
    """Returns what a trained U-Net predicts, in eval mode and without gradients, on its own device."""
    import torch

    from histozoo.data.views import normalise

    recipe.eval()
    device = next(recipe.parameters()).device

    @torch.inference_mode()
    def predict(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        x_BCHW = torch.from_numpy(windows).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.settings.precision == "bf16"):
            logits_B1HW = recipe.logits(normalise(x_BCHW, recipe.mean, recipe.std))
        found: NDArray[np.float32] = logits_B1HW.float().sigmoid()[:, 0].cpu().numpy()
        return found

    return predict


def objects(
    foreground_HW: NDArray[np.bool_], *, how: Separation = "components", least_px: int = 1, reach_px: int = 5
) -> NDArray[np.int32]:
    """Returns foreground as numbered objects.

    Args:
        foreground_HW: Where objects are.
        how: `components`: connected areas. `watershed`: connected areas divided along the valleys of the distance to their edge, for
            objects that touch.
        least_px: Connected areas of fewer pixels are left out.
        reach_px: For `watershed`: summits nearer than this belong to one object.
    """
    areas_HW = connected(foreground_HW)
    sizes = np.bincount(areas_HW.ravel())
    sizes[0] = 0
    keep = sizes >= max(1, least_px)
    areas_HW = (np.cumsum(keep) * keep)[areas_HW].astype(np.int32)
    return divided(areas_HW, reach_px=reach_px) if how == "watershed" else areas_HW


def divided(areas_HW: NDArray[np.int32], *, reach_px: int) -> NDArray[np.int32]:
    """Returns connected areas divided between the summits of the (smoothed) distance to their edge.

    Watershed by ascent: every pixel belongs to the summit that it reaches by always going to its highest neighbour; a summit that sees a
    higher pixel of its own area within `reach_px` goes on to that one. Every area keeps at least one object, and no pixel leaves or joins
    the foreground.

    Args:
        areas_HW: Areas numbered from 1, no two of them touching.
        reach_px: Half the side of the square in which a summit must be the highest.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter  # type: ignore[import-untyped]

    inside = areas_HW > 0
    height = gaussian_filter(distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1], 1.0)
    rank_HW = np.full(
        areas_HW.shape, -1
    )  # of equally high pixels the later one is higher: no plateaus, no circles
    rank_HW[inside] = np.argsort(np.argsort(height[inside], kind="stable"))
    above = _highest_neighbour(rank_HW)
    tops = np.flatnonzero((above == np.arange(above.size)) & inside.ravel())
    above[tops] = [_highest_near(int(top), rank_HW, areas_HW, reach_px) for top in tops]
    while not np.array_equal(further := above[above], above):
        above = further
    summit_HW = np.where(inside, above.reshape(inside.shape) + 1, 0)
    return numbered(summit_HW)[0].astype(np.int32)


def _highest_neighbour(rank_HW: Ints) -> Ints:
    """Returns, for each pixel (flat), the position of the highest of it and its eight neighbours."""
    height, width = rank_HW.shape
    steps = [(dy, dx) for dy in (0, -1, 1) for dx in (0, -1, 1)]
    padded = np.pad(rank_HW, 1, constant_values=-2)
    around = np.stack([padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in steps])
    move = np.array([dy * width + dx for dy, dx in steps])[around.argmax(0)]
    above: Ints = np.arange(rank_HW.size) + np.where(rank_HW < 0, 0, move).ravel()
    return above


def _highest_near(top: int, rank_HW: Ints, areas_HW: NDArray[np.int32], reach_px: int) -> int:
    """Returns the position of the highest pixel of the same area in the square around a summit."""
    width = rank_HW.shape[1]
    y, x = divmod(top, width)
    y0, x0 = max(0, y - reach_px), max(0, x - reach_px)
    near = np.s_[y0 : y + reach_px + 1, x0 : x + reach_px + 1]
    rank_hw = np.where(areas_HW[near] == areas_HW[y, x], rank_HW[near], -1)
    dy, dx = divmod(int(rank_hw.argmax()), rank_hw.shape[1])
    return int((y0 + dy) * width + x0 + dx)
