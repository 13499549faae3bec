"""Whole slides: boxes of the finest level, cut without decoding the slide, and where the tissue lies.

Legend: H rows, W columns of the thumbnail.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo.errors import UsageError
from histozoo.prepare.areas import Drawn
from histozoo.prepare.optional import openslide_library
from histozoo.prepare.pictures import Box, Size

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

LEAST_SATURATION = 8
"""Of 255: below it a pixel is glass even where Otsu's threshold falls lower, as it does on a slide without tissue."""

_READ_PX = 2048  # side of what is read at once for a thumbnail


class SlideCanvas:
    """A slide of any size. Coordinates are pixels of level 0, the finest; where nothing was scanned, the box is white, as glass is.

    Args:
        path: File of the slide, with what belongs to it beside it.
        name: What errors call it.

    Raises:
        UsageError: `HZ-D24`, no slide that OpenSlide reads; `HZ-U76`, openslide is not installed.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self._path, self._name = path, name or str(path)
        self._slide = self._opened()
        self.size: Size = self._slide.dimensions

    @classmethod
    def read(cls, source: Source, name: str) -> SlideCanvas:
        """Opens a slide of the source, extracted to scratch where it lies in an archive.

        Raises:
            UsageError: `HZ-U73`, there is no such file; `HZ-D24`, OpenSlide does not read it; `HZ-U76`, openslide is not installed.
            IntegrityError: `HZ-U74`, `HZ-U75`, the archive is damaged there.
            ResourceError: `HZ-F42`, the scratch folder is full.
        """
        return cls(source.path(name), f"{source.where}, {name}")

    def crop(self, box: Box) -> Image.Image:
        """Returns the box as an RGB image; what was not scanned is white.

        Raises:
            UsageError: `HZ-D24`, the slide is damaged there; other boxes can still be had; `HZ-D27`, the box leaves the slide.
        """
        left, top, right, bottom = inside(box, self.size, self._name)
        return self.region((left, top), 0, (right - left, bottom - top))

    def region(self, corner: tuple[int, int], level: int, size: Size) -> Image.Image:
        """Returns a part of one level as an RGB image, on white.

        Args:
            corner: Its upper left corner in pixels of level 0.
            level: 0 is the finest.
            size: Width and height in pixels of that level.

        Raises:
            UsageError: `HZ-D24`, the slide is damaged there.
        """
        library = openslide_library(self._name)
        try:
            region = self._slide.read_region(corner, level, size)
        except library.OpenSlideError as error:
            self._slide.close()
            self._slide = self._opened()  # after one error a handle refuses every other region too
            where = f"{self._name}, {size[0]} x {size[1]} px at {corner[0]}, {corner[1]} of level {level}"
            raise _damaged(where, error) from error
        white = Image.new("RGBA", region.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, region).convert("RGB")

    def levels(self) -> list[tuple[Size, float]]:
        """Returns size in pixels and downsampling of each level, the finest first."""
        return list(zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True))

    def mpp(self) -> tuple[float, float] | None:
        """Returns micrometres per pixel of level 0, across and down; None where the file does not say, as an objective's power does not."""
        try:
            across, down = (float(self.told(f"openslide.mpp-{axis}")) for axis in "xy")
        except ValueError:
            return None
        return (across, down) if 0 < min(across, down) and max(across, down) < math.inf else None

    def told(self, name: str) -> str:
        """Returns a property of the file by OpenSlide's name, "" where it is not there."""
        return str(self._slide.properties.get(name, ""))

    def _opened(self) -> Any:
        library = openslide_library(self._name)
        try:
            return library.OpenSlide(self._path)
        except (library.OpenSlideError, OSError) as error:
            raise _damaged(self._name, error) from error


def inside(box: Box, size: Size, where: str) -> Box:
    """Returns the box, which is not empty and lies inside the picture.

    Raises:
        UsageError: `HZ-D27`, it is not so; Pillow would pad with black without a word.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        expected = f"a box within {size[0]} x {size[1]} px"
        raise UsageError("HZ-D27", "a box leaves its picture", where=where, expected=expected, got=box)
    return box


def _damaged(where: str, error: Exception) -> UsageError:
    return UsageError(
        "HZ-D24",
        "the slide cannot be decoded",
        where=where,
        expected="a whole slide that OpenSlide reads",
        got=str(error) or type(error).__name__,
        next_step="restore the file from its origin; a slide of several files needs them all, so give the folder",
    )


class TissueArea(Drawn):
    """Tissue as a thumbnail shows it, in pixels of level 0.

    Args:
        mask_HW: True where the thumbnail shows tissue.
        scale: Pixels of level 0 per pixel of the thumbnail.
        size: Width and height of level 0 in pixels.
    """

    def __init__(self, mask_HW: NDArray[np.bool_], scale: float, size: Size) -> None:
        self.mask_HW, self.scale, self.size = mask_HW, scale, size

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Returns which pixels of the box show tissue, as (H, W)."""
        rows, columns = self._cells(box)
        return self.mask_HW[np.ix_(rows, columns)]

    def fraction(self, box: Box) -> float:
        """Returns the share of the box's pixels that show tissue, in [0, 1]; the same as the mean of `mask`, without making it.

        Raises:
            UsageError: `HZ-U71`, the box is empty or leaves the slide.
        """
        rows, columns = (np.unique(cells, return_counts=True) for cells in self._cells(self._inside(box)))
        part_HW = self.mask_HW[np.ix_(rows[0], columns[0])]
        return float(rows[1] @ part_HW @ columns[1]) / float(rows[1].sum() * columns[1].sum())

    def _cells(self, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        left, top, right, bottom = box
        height, width = self.mask_HW.shape
        rows = ((np.arange(top, bottom) + 0.5) / self.scale).astype(np.int64)
        columns = ((np.arange(left, right) + 0.5) / self.scale).astype(np.int64)
        return np.minimum(rows, height - 1), np.minimum(columns, width - 1)


def tissue_area(slide: SlideCanvas, *, thumbnail_px: int = 1024) -> TissueArea:
    """Finds the tissue by Otsu's threshold on the saturation of a thumbnail (N. Otsu, IEEE Trans. SMC 9, 1979); glass has no colour.

    A slide that is tissue all over is cut in two all the same: the method needs both. Pen and coloured borders count as tissue.

    Args:
        slide: The slide.
        thumbnail_px: Longest side of the thumbnail, at most; smaller slides are looked at in full.

    Raises:
        UsageError: `HZ-D24`, the slide is damaged somewhere.
    """
    thumbnail, scale = _thumbnail(slide, thumbnail_px)
    saturation_HW = np.asarray(thumbnail.convert("HSV"))[:, :, 1]
    mask_HW = saturation_HW > max(otsu(saturation_HW), LEAST_SATURATION)
    return TissueArea(mask_HW, scale, slide.size)


def otsu(values: NDArray[np.uint8]) -> int:
    """Returns the threshold t for which the values up to t and those above lie furthest apart: w0 w1 (m0 - m1)^2 is largest.

    Of several such thresholds the lowest is returned; of values that are all the same, 0.
    """
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above, total = below[-1] - below, sums[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total * below - sums * below[-1]) ** 2 / (below * above)
    return int(np.argmax(np.where(below * above > 0, between, 0)))


def _thumbnail(slide: SlideCanvas, thumbnail_px: int) -> tuple[Image.Image, float]:
    """Returns a thumbnail made by averaging whole pixels, and the level-0 pixels per pixel of it; reads part by part."""
    wanted = max(slide.size) / thumbnail_px
    levels = slide.levels()
    level = max((i for i, (_, down) in enumerate(levels) if down <= max(wanted, 1)), default=0)
    (width, height), down = levels[level]
    step = max(1, -(-max(width, height) // thumbnail_px))
    side = step * max(1, _READ_PX // step)
    thumbnail = Image.new("RGB", (-(-width // step), -(-height // step)))
    for top in range(0, height, side):
        for left in range(0, width, side):
            size = (min(side, width - left), min(side, height - top))
            part = slide.region((round(left * down), round(top * down)), level, size)
            thumbnail.paste(part.reduce(step), (left // step, top // step))
    return thumbnail, down * step
