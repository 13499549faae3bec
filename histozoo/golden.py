"""Golden tensors: synthetic tiles and what one model makes of them, so that any machine can tell whether it computes the same.

A bundle carries `golden.safetensors` with the tiles, the preprocessed pixels and the features. Pixels and features are compared
apart, so that a wrong resize is told from a wrong model. Shapes: B tiles, H W pixels, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histozoo.devices import one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

TILES = 4
TENSORS = ("tiles_BHWC", "pixels_BCHW", "features_BD")
_EOSIN, _PALE, _HAEMATOXYLIN, _LUMEN = (214, 128, 178), (240, 208, 226), (88, 62, 140), (246, 244, 247)


def golden_tiles(tile_px: int) -> NDArray[np.uint8]:
    """Draws tiles that look like H&E: pink fibres, purple nuclei with texture, white lumina.

    They are larger than the model's tile and not square, so that resize kernel, shorter side and crop all leave their mark. Only integer
    arithmetic and numpy's frozen `RandomState` stream are used: every machine draws the same bytes.

    Args:
        tile_px: Side of the tile the model expects, in pixels.

    Returns:
        uint8 `[4, H, W, 3]` in 0..255, RGB, H = 3/2 of `tile_px` and W = 5/4 of it.
    """
    size = (tile_px * 3 // 2, tile_px * 5 // 4)
    return np.stack([_draw(*size, random=np.random.RandomState(seed)) for seed in range(TILES)])


def _draw(height: int, width: int, *, random: np.random.RandomState) -> NDArray[np.uint8]:
    y_HW, x_HW = np.mgrid[:height, :width]
    waves_HW = (x_HW * random.randint(2, 9) + y_HW * random.randint(2, 9)) % random.randint(23, 47)
    tile_HWC = np.where((waves_HW < 14)[..., None], _EOSIN, _PALE).astype(np.int64)
    for colour, number, low, high in ((_LUMEN, 3, 12, 6), (_HAEMATOXYLIN, 24, 30, 16)):
        for _ in range(number):
            y, x = random.randint(height), random.randint(width)
            a, b = (max(2, random.randint(height // low, height // high + 2)) for _ in range(2))
            inside_HW = (y_HW - y) ** 2 * b**2 + (x_HW - x) ** 2 * a**2 <= (a * b) ** 2
            tile_HWC[inside_HW] = colour
    grain_HWC = random.randint(-14, 15, size=(height, width, 3))
    drawn_HWC: NDArray[np.uint8] = np.clip(tile_HWC + grain_HWC, 0, 255).astype(np.uint8)
    return drawn_HWC


def preprocess(tiles_BHWC: NDArray[np.uint8], transform: Callable[[Any], Tensor]) -> Tensor:
    """Returns float32 `[B, C, H, W]`: each tile as a PIL image through `transform`."""
    import torch
    from PIL import Image

    return torch.stack([transform(Image.fromarray(tile_HWC)) for tile_HWC in tiles_BHWC])


def features(model: nn.Module, pixels_BCHW: Tensor) -> Tensor:
    """Returns float32 `[B, D]` of `model`, on one thread.

    The order in which threads add up partial sums decides the last bits; one thread makes two processes comparable bit by bit.
    """
    import torch

    with one_thread(), torch.inference_mode():
        # A copy, because memory mapped from a file can be aligned otherwise, which changes the last bits of some convolutions.
        f_BD: Tensor = model(pixels_BCHW.clone()).float().cpu()
    return f_BD


def deviation(got: Tensor, expected: Tensor) -> float:
    """Returns max |got - expected| divided by the root mean square of `expected`; infinite where shapes or finiteness differ."""
    if got.shape != expected.shape or not bool(got.isfinite().all()):
        return float("inf")
    expected = expected.double()
    rms = float(expected.square().mean().sqrt())
    largest = float((got.double() - expected).abs().max())
    return largest / rms if rms else (0.0 if largest == 0 else float("inf"))
