"""Regions that somebody drew: masks, maps of class numbers, polygons; each is asked box by box and counts whole pixels.

A pixel belongs to a polygon where its centre lies inside, so that neighbours that share an edge share no pixel and no outline is added.
Legend: H rows, W columns of pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Box, Size

_BAND_PX = 1 << 22  # of a box larger than this, one band of rows is looked at after the other


class Drawn(ABC):
    """A region of a picture of `size` (width and height in pixels) that can be had as a mask, box by box."""

    size: Size

    @abstractmethod
    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Returns which pixels of the box belong to the region, as (H, W); the box lies inside the picture."""

    def fraction(self, box: Box) -> float:
        """Returns the share of the box's pixels that belong to the region, in [0, 1], counted exactly.

        Raises:
            UsageError: `HZ-U71`, the box is empty or leaves the picture that the region was drawn for.
        """
        left, top, right, bottom = self._inside(box)
        rows = max(1, _BAND_PX // (right - left))
        bands = ((left, y, right, min(y + rows, bottom)) for y in range(top, bottom, rows))
        return sum(int(np.count_nonzero(self.mask(band))) for band in bands) / (
            (right - left) * (bottom - top)
        )

    def holds(self, x: int, y: int) -> bool:
        """Says whether the pixel at column x and row y belongs to the region.

        Raises:
            UsageError: `HZ-U71`, the pixel is off the picture that the region was drawn for.
        """
        return bool(self.mask(self._inside((x, y, x + 1, y + 1)))[0, 0])

    def _inside(self, box: Box) -> Box:
        if not (0 <= box[0] < box[2] <= self.size[0] and 0 <= box[1] < box[3] <= self.size[1]):
            raise UsageError(
                "HZ-U71",
                "a box leaves the picture that an area was drawn for",
                expected=f"a box within {self.size[0]} x {self.size[1]} px",
                got=box,
            )
        return box


class MaskArea(Drawn):
    """A region given as a mask of the whole picture.

    Boxes are counted where they are asked for: that is ten times faster than an integral image of the whole mask, even with tiles that
    overlap by half (2000 x 2000 px in 1.3 against 13 ms), and needs no memory.

    Args:
        mask_HW: True where the region is.

    Raises:
        UsageError: `HZ-U71`, not two-dimensional or not boolean: what another number means is for the layout to say.
    """

    def __init__(self, mask_HW: NDArray[np.bool_]) -> None:
        _check_plane(mask_HW, kinds="b")
        self._mask_HW = mask_HW
        self.size = (mask_HW.shape[1], mask_HW.shape[0])

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Returns which pixels of the box belong to the region, as (H, W)."""
        left, top, right, bottom = box
        return self._mask_HW[top:bottom, left:right]


class _Values(Drawn):
    """Where a map has one of some numbers; all regions of a picture share the one map."""

    def __init__(self, map_HW: NDArray[np.integer], values: tuple[int, ...]) -> None:
        self._map_HW, self._values = map_HW, values
        self.size = (map_HW.shape[1], map_HW.shape[0])

    def mask(self, box: Box) -> NDArray[np.bool_]:
        left, top, right, bottom = box
        part_HW = self._map_HW[top:bottom, left:right]
        mask_HW = np.zeros(part_HW.shape, bool)
        for value in self._values:
            mask_HW |= part_HW == value
        return mask_HW


def class_areas(map_HW: NDArray[np.integer], words: Mapping[int, str]) -> dict[str, Drawn]:
    """Returns the region of each word, also of those that have no pixel.

    Args:
        map_HW: One class number per pixel.
        words: Word of each number; several numbers may have one word. Numbers without a word belong to no region.

    Raises:
        UsageError: `HZ-U71`, the map is not two-dimensional or not of whole numbers.
    """
    _check_plane(map_HW, kinds="bui")
    return {
        word: _Values(map_HW, tuple(value for value, name in words.items() if name == word))
        for word in dict.fromkeys(words.values())
    }


class PolygonArea(Drawn):
    """A region given as polygons; only the box that is asked for is ever drawn, so a slide may be of any size.

    A pixel belongs to the region where its centre lies inside one of the polygons and in none of the holes. Inside follows the even-odd
    rule, polygon by polygon: where one crosses itself, what is enclosed twice is outside.

    Args:
        polygons: Corners (x, y) of each in pixels, closed by themselves; they may leave the picture, and fewer than three hold nothing.
        size: Width and height of the picture in pixels.
        holes: Polygons that are taken out of all the others.

    Raises:
        UsageError: `HZ-U71`, a corner is not two finite numbers.
    """

    def __init__(
        self,
        polygons: Iterable[ArrayLike],
        size: Size,
        *,
        holes: Iterable[ArrayLike] = (),
    ) -> None:
        self.size = size
        self._polygons = _Outlines(polygons)
        self._holes = _Outlines(holes)

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Returns which pixels of the box belong to the region, as (H, W)."""
        mask_HW = self._polygons.mask(box)
        if self._holes.near(box):
            mask_HW &= ~self._holes.mask(box)
        return mask_HW


class Either(Drawn):
    """What belongs to at least one of some regions.

    Args:
        areas: Regions of one picture.

    Raises:
        UsageError: `HZ-U71`, there is none, or they were drawn for pictures of different sizes.
    """

    def __init__(self, areas: Iterable[Drawn]) -> None:
        self._areas = tuple(areas)
        sizes = sorted({tuple(area.size) for area in self._areas})
        if len(sizes) != 1:
            raise UsageError(
                "HZ-U71", "areas to join are of no one picture", expected="areas of one size", got=sizes
            )
        self.size = self._areas[0].size

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Returns which pixels of the box belong to one of the regions, as (H, W)."""
        mask_HW = self._areas[0].mask(box).copy()
        for area in self._areas[1:]:
            mask_HW |= area.mask(box)
        return mask_HW


class _Outlines:
    """Polygons, and for each the rectangle around it, so that a box looks only at those that can touch it."""

    def __init__(self, polygons: Iterable[ArrayLike]) -> None:
        corners = [points for points in map(_corners, polygons) if len(points)]
        self._edges = [_edges(points) for points in corners]
        around = [(*points.min(axis=0), *points.max(axis=0)) for points in corners]
        self._around = np.array(around, float).reshape(-1, 4)

    def near(self, box: Box) -> list[int]:
        """Returns which polygons have a rectangle around them that meets the box."""
        left, top, right, bottom = box
        low_x, low_y, high_x, high_y = self._around.T
        meets = (low_x < right) & (high_x > left) & (low_y < bottom) & (high_y > top)
        chosen: list[int] = np.flatnonzero(meets).tolist()
        return chosen

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Returns which pixels of the box lie in one of the polygons, as (H, W)."""
        mask_HW = np.zeros((box[3] - box[1], box[2] - box[0]), bool)
        for index in self.near(box):
            mask_HW |= _inside(self._edges[index], box)
        return mask_HW


def _inside(edges: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    """Returns which pixel centres of the box have an odd number of edges to their left.

    Each edge flips, in every row whose centre line it crosses, all pixels from its crossing to the right. Where it crosses depends on the
    edge and the row alone, never on the box, so that a pixel is the same in every box.

    Args:
        edges: Upper end x0, y0 and lower end x1, y1 of each, as (edges, 4).
        box: Where to draw.
    """
    left, top, right, bottom = box
    # A row counts where its centre line lies at y0 or below, and above y1.
    ends = np.clip(np.ceil(edges[:, [1, 3]] - 0.5), top, bottom).astype(np.int64)
    crossed = ends[:, 1] - ends[:, 0]
    edge = np.repeat(np.arange(len(edges)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + ends[edge, 0]
    x0, y0, x1, y1 = edges[edge].T
    x = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
    column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64) - left
    shape_HW = (bottom - top, right - left)
    if not (
        (column > 0) & (column < right - left)
    ).any():  # no outline in the box: each row is all in or all out
        odd_H = np.bincount((row - top)[column == 0], minlength=bottom - top) % 2 == 1
        return np.broadcast_to(odd_H[:, None], shape_HW)
    flips_HW = np.zeros(shape_HW, np.uint8)
    within = column < right - left
    np.bitwise_xor.at(flips_HW, ((row - top)[within], column[within]), 1)
    odd_HW: NDArray[np.bool_] = np.bitwise_xor.accumulate(flips_HW, axis=1).view(bool)
    return odd_HW


def _corners(polygon: ArrayLike) -> NDArray[np.float64]:
    corners = np.asarray(polygon, dtype=float)
    if corners.size == 0:
        return np.zeros((0, 2))
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise UsageError(
            "HZ-U71",
            "a polygon is malformed",
            expected="two finite numbers per corner",
            got=f"shape {corners.shape}",
        )
    return corners


def _edges(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the edges from the upper to the lower end: the same in both polygons that share one, so that no pixel is lost between."""
    edges = np.hstack([corners, np.roll(corners, -1, axis=0)])
    upwards = edges[:, 1] > edges[:, 3]
    edges[upwards] = edges[upwards][:, [2, 3, 0, 1]]
    return edges


def _check_plane(array_HW: NDArray[Any], *, kinds: str) -> None:
    if array_HW.ndim != 2 or array_HW.dtype.kind not in kinds:
        raise UsageError(
            "HZ-U71",
            "a mask is not one plane of the right kind of number",
            expected="height x width, " + ("boolean" if kinds == "b" else "whole numbers"),
            got=f"shape {array_HW.shape}, {array_HW.dtype}",
        )
