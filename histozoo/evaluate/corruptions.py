"""What may happen to a tile on its way to a model: eleven corruptions at five severities, and changes that should not matter.

Corruptions and, unless said otherwise, severities are those of PathMNIST-C (Di Salvo, Doerrich and Ledig, "MedMNIST-C: comprehensive
benchmark and improved classifier robustness by simulating realistic image corruptions", arXiv:2406.17536): pixelate, jpeg, defocus,
motion, brightness up and down, contrast up and down, saturate, stain deposit, bubble. The operations are written here on Pillow and
numpy, so numbers are comparable among models measured here, not with published ones; deposits and bubbles are drawn instead of pasted and
have severities of their own. Lengths are for tiles of 224 px and scale with the tile.

Every function maps uint8 RGB `[H, W, 3]`, a severity parameter and a generator to the same shape. What is random is drawn from
(seed, corruption, row of the tile) alone, so that all models see the same pixels. numpy and Pillow only.

Shapes: N tiles, H W pixels.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from histozoo.errors import UsageError

Tile = NDArray[np.uint8]
Generator = np.random.Generator
SEVERITIES = 5
REFERENCE_PX = 224
"""Side of the tiles that the severities were made for."""


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One corruption.

    Args:
        apply: Function of tile, parameter and generator.
        parameters: Its parameter at each of the five severities, mild first.
    """

    apply: Callable[[Tile, Any, Generator], Tile]
    parameters: tuple[Any, Any, Any, Any, Any]


def pixelate(tile_HW3: Tile, share: float, _: Generator) -> Tile:
    """Shrinks the sides to a share of them by averaging, and enlarges each pixel again."""
    image = Image.fromarray(tile_HW3)
    small = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    shrunk = image.resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize(image.size, Image.Resampling.NEAREST))


def jpeg(tile_HW3: Tile, quality: int, _: Generator) -> Tile:
    """Saves as JPEG of a quality and reads it back."""
    buffer = io.BytesIO()
    Image.fromarray(tile_HW3).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def blur(tile_HW3: Tile, radius: float, _: Generator) -> Tile:
    """Blurs by a Gaussian whose standard deviation is `radius` pixels at 224 px."""
    radius = radius * len(tile_HW3) / REFERENCE_PX
    return np.asarray(Image.fromarray(tile_HW3).filter(ImageFilter.GaussianBlur(radius)))


def defocus(tile_HW3: Tile, radius: float, _: Generator) -> Tile:
    """Averages over a disc, as a lens out of focus does; a ring at the edge counts by how much of it lies inside."""
    radius = radius * len(tile_HW3) / REFERENCE_PX
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _convolved(tile_HW3, np.clip(radius + 0.5 - np.hypot(x, y), 0, 1))


def motion(tile_HW3: Tile, shape: tuple[float, float], generator: Generator) -> Tile:
    """Averages along a line of random direction: `shape` is its half length and the deviation of the weights along it."""
    scale = len(tile_HW3) / REFERENCE_PX
    reach, sigma = max(1, round(shape[0] * scale)), shape[1] * scale
    angle = np.deg2rad(generator.uniform(-45, 45))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step in np.linspace(0, reach, 4 * reach + 1):
        x, y = reach + step * np.cos(angle), reach + step * np.sin(angle)
        kernel[round(y), round(x)] += np.exp(-(step**2) / (2 * sigma**2))
    return _convolved(tile_HW3, kernel)


def brightness(tile_HW3: Tile, factor: float, _: Generator) -> Tile:
    """Multiplies all values."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(tile_HW3)).enhance(factor))


def contrast(tile_HW3: Tile, factor: float, _: Generator) -> Tile:
    """Multiplies the distance from the mean grey."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(tile_HW3)).enhance(factor))


def saturate(tile_HW3: Tile, more: float, _: Generator) -> Tile:
    """Adds to the saturation of the HSV colour, in [0, 1]; value and hue stay, and grey, which has no hue, stays grey."""
    rgb_HW3 = tile_HW3.astype(np.float64)
    value_HW1 = rgb_HW3.max(-1, keepdims=True)
    spread_HW1 = value_HW1 - rgb_HW3.min(-1, keepdims=True)
    saturation_HW1 = spread_HW1 / np.maximum(value_HW1, 1)
    factor_HW1 = np.minimum(saturation_HW1 + more, 1) / np.where(spread_HW1 > 0, saturation_HW1, 1)
    return _whole(value_HW1 - (value_HW1 - rgb_HW3) * factor_HW1)


def deposit(tile_HW3: Tile, number: int, generator: Generator) -> Tile:
    """Lays dark clots of stain on the tile: discs that overlap, blurred at their edge."""
    height, width, _ = tile_HW3.shape
    cover = Image.new("L", (width, height))
    draw = ImageDraw.Draw(cover)
    for _clot in range(number):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        for radius in generator.uniform(0.01, 0.035, size=6) * width:
            cx, cy = np.array([x, y]) + generator.normal(0, 0.02 * width, size=2)
            draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=235)
    cover = cover.filter(ImageFilter.GaussianBlur(0.006 * width))
    ink = np.array([54, 28, 84]) + generator.integers(-12, 13, size=3)
    share_HW1 = np.asarray(cover, dtype=np.float64)[..., None] / 255
    return _whole(tile_HW3 * (1 - share_HW1) + ink * share_HW1)


def bubble(tile_HW3: Tile, share: float, generator: Generator) -> Tile:
    """Puts an air bubble of a radius (share of the side) under the glass: magnified inside, with a dark rim."""
    height, width, _ = tile_HW3.shape
    radius = share * width
    cx, cy = generator.uniform(0.2, 0.8) * width, generator.uniform(0.2, 0.8) * height
    y, x = np.mgrid[:height, :width]
    away = np.hypot(x - cx, y - cy) / radius
    pull = np.where(away < 1, 0.6 + 0.4 * away, 1.0)
    rows = np.clip(np.rint(cy + (y - cy) * pull), 0, height - 1).astype(int)
    columns = np.clip(np.rint(cx + (x - cx) * pull), 0, width - 1).astype(int)
    rim = 1 - 0.55 * np.exp(-(((away - 1) * radius / (0.015 * width)) ** 2))
    return _whole(tile_HW3[rows, columns] * rim[..., None])


def _convolved(tile_HW3: Tile, kernel: NDArray[np.float64]) -> Tile:
    """Correlates each channel with a kernel that is scaled to sum 1; the tile is mirrored beyond its edge."""
    reach = len(kernel) // 2
    padded = np.pad(tile_HW3, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric").astype(np.float64)
    height, width, _ = tile_HW3.shape
    total = np.zeros(tile_HW3.shape)
    for i, j in np.argwhere(kernel):
        total += kernel[i, j] * padded[i : i + height, j : j + width]
    return _whole(total / kernel.sum())


def _whole(values_HW3: NDArray[np.float64]) -> Tile:
    return np.clip(np.rint(values_HW3), 0, 255).astype(np.uint8)


CORRUPTIONS: Mapping[str, Corruption] = {
    "pixelate": Corruption(apply=pixelate, parameters=(0.8, 0.6, 0.4, 0.3, 0.25)),
    "jpeg": Corruption(apply=jpeg, parameters=(50, 30, 15, 10, 7)),
    "defocus": Corruption(apply=defocus, parameters=(3, 4, 5, 6, 7)),
    "motion": Corruption(apply=motion, parameters=((5, 5), (10, 5), (15, 5), (15, 8), (15, 12))),
    "brightness_up": Corruption(apply=brightness, parameters=(1.1, 1.15, 1.2, 1.22, 1.25)),
    "brightness_down": Corruption(apply=brightness, parameters=(0.85, 0.8, 0.75, 0.72, 0.7)),
    "contrast_up": Corruption(apply=contrast, parameters=(1.1, 1.2, 1.3, 1.4, 1.6)),
    "contrast_down": Corruption(apply=contrast, parameters=(0.8, 0.7, 0.6, 0.55, 0.5)),
    "saturate": Corruption(apply=saturate, parameters=(0.05, 0.1, 0.15, 0.2, 0.25)),
    "deposit": Corruption(apply=deposit, parameters=(1, 2, 3, 4, 5)),
    "bubble": Corruption(apply=bubble, parameters=(0.08, 0.12, 0.16, 0.2, 0.25)),
}


def corrupt(tiles_NHW3: Tile, name: str, severity: int, *, seed: int = 0) -> Tile:
    """Returns tiles under a corruption, `[N, H, W, 3]`.

    Args:
        tiles_NHW3: uint8 RGB.
        name: A key of `CORRUPTIONS`.
        severity: 1 (mild) to 5.
        seed: With name and row it decides what is drawn; a tile's place and shape of damage are the same at every severity.

    Raises:
        UsageError: `HZ-I74`, no such corruption or severity, or the tiles are not uint8 RGB.
    """
    if name not in CORRUPTIONS or not 1 <= severity <= SEVERITIES:
        raise UsageError(
            "HZ-I74",
            "no such corruption or severity",
            expected=f"{', '.join(CORRUPTIONS)}; 1 to {SEVERITIES}",
            got=f"{name!r}, {severity}",
        )
    corruption = CORRUPTIONS[name]
    check_tiles(tiles_NHW3)
    return np.stack(
        [
            corruption.apply(
                np.asarray(tile), corruption.parameters[severity - 1], generator_of(seed, name, row)
            )
            for row, tile in enumerate(tiles_NHW3)
        ]
    )


def generator_of(seed: int, name: str, row: int) -> Generator:
    """Returns the generator that belongs to a tile under a change."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), row])


def check_tiles(tiles_NHW3: NDArray[Any]) -> None:
    """Refuses what is not a stack of tiles.

    Raises:
        UsageError: `HZ-I74`, other than uint8 `[N, H, W, 3]` with at least one tile.
    """
    shape = tiles_NHW3.shape
    if tiles_NHW3.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or not shape[0]:
        raise UsageError(
            "HZ-I74",
            "these are no tiles",
            expected="uint8 [N, H, W, 3] with N above 0",
            got=f"{tiles_NHW3.dtype} {list(shape)}",
        )
