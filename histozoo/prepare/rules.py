"""The rules that turn pictures with marks into tiles with classes: one per kind of annotation, none per dataset.

The rules are those of Mormont, Geurts, Maree, "Multi-task pre-training of deep neural networks for digital pathology", IEEE JBHI 25(2),
2021, arXiv 2005.02561: dense marks become an exhaustive grid, sparse objects become shifted boxes around each and an exhaustive grid of
boxes that hold none. What the paper leaves open is said at each rule.

Every rule gives boxes that lie inside the picture, never two equal ones, in a fixed order; grids are those of `histozoo.prepare.grid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from histozoo.prepare.grid import (
    Declared,
    Grid,
    check_mapping,
    check_numbers,
    check_shares,
    check_words,
    pixel,
    regions,
    same_size,
)
from histozoo.prepare.objects import Around, Crops
from histozoo.prepare.pictures import Area, Box, Marks, Size
from histozoo.prepare.plan import Cut

__all__ = ["Around", "CentrePixel", "Contains", "Crops", "Presence", "Tiles", "Whole"]


@dataclass(frozen=True, kw_only=True)
class Whole(Declared):
    """The picture as it is, with its own label."""

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns one tile, the whole picture."""
        return [Cut((0, 0, *size), marks.label)]


@dataclass(frozen=True, kw_only=True)
class Tiles(Declared):
    """A grid of tiles that all have the picture's label.

    Args:
        px: Side of a tile in pixels.
        stride: From one tile to the next, in pixels; `px` where it is None.

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    stride: int | None = None

    def __post_init__(self) -> None:
        check_numbers(px=self.px, stride=self.px if self.stride is None else self.stride)

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the grid row by row.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile.
        """
        grid = Grid.of(size, px=self.px, stride=self.px if self.stride is None else self.stride)
        return [Cut(box, marks.label) for box in grid.boxes()]


@dataclass(frozen=True, kw_only=True)
class Presence(Declared):
    """A grid; a tile is `present` where more than `threshold` of its pixels belong to an area.

    Pixels are counted, so a tile exactly at the threshold is `absent` and one pixel more makes it `present`.

    Args:
        px: Side of a tile in pixels.
        stride: From one tile to the next, in pixels.
        kind: Word of the area, or several whose pixels add; areas that overlap count twice (`areas.Either` joins them).
        threshold: Share of a tile's pixels, in [0, 1], above which it is `present`.
        present: Class of tiles above the threshold.
        absent: Class of the other tiles.
        least_tissue: Share of a tile, in [0, 1], that must be tissue; tiles with less are left out.

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    stride: int
    kind: str | tuple[str, ...]
    threshold: float
    present: str
    absent: str
    least_tissue: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(px=self.px, stride=self.stride)
        check_shares(threshold=self.threshold, least_tissue=self.least_tissue)
        check_words(kind=self._words(), classes=(self.present, self.absent))

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the grid row by row, without tiles that have too little tissue.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile; `HZ-U70`, the layout has no such area; `HZ-U71`, an area of
                another size.
        """
        grid = Grid.of(size, px=self.px, stride=self.stride)
        areas = regions(marks, self._words(), size)
        if marks.tissue is not None:
            same_size(marks.tissue, size, word="tissue")
        boxes = (box for box in grid.boxes() if self._has_tissue(marks.tissue, box))
        return [Cut(box, self.present if self._present(areas, box) else self.absent) for box in boxes]

    def _words(self) -> tuple[str, ...]:
        return (self.kind,) if isinstance(self.kind, str) else self.kind

    def _has_tissue(self, tissue: Area | None, box: Box) -> bool:
        return tissue is None or not self.least_tissue or tissue.fraction(box) >= self.least_tissue

    def _present(self, areas: list[Area], box: Box) -> bool:
        # Whole pixels are added: 0.1 + 0.2 is more than 0.3 in floating point, and 10 % + 20 % is not more than 30 %.
        pixels = self.px * self.px
        return sum(round(area.fraction(box) * pixels) for area in areas) / pixels > self.threshold


@dataclass(frozen=True, kw_only=True)
class CentrePixel(Declared):
    """A grid; a tile has the class of the pixel in its middle, column `left + px // 2` and row `top + px // 2`.

    Args:
        px: Side of a tile in pixels.
        stride: From one tile to the next, in pixels.
        kinds: Class of each area word; the first area that holds the pixel decides.
        otherwise: Class where no area holds it.

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    stride: int
    kinds: Mapping[str, str]
    otherwise: str

    def __post_init__(self) -> None:
        check_numbers(px=self.px, stride=self.stride)
        check_mapping(kinds=self.kinds)
        check_words(otherwise=(self.otherwise,))

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the grid row by row.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile; `HZ-U70`, the layout has no such area; `HZ-U71`, an area of
                another size.
        """
        grid = Grid.of(size, px=self.px, stride=self.stride)
        areas = list(zip(regions(marks, self.kinds, size), self.kinds.values(), strict=True))
        return [Cut(box, self._label(areas, box)) for box in grid.boxes()]

    def _label(self, areas: list[tuple[Area, str]], box: Box) -> str:
        x, y = box[0] + self.px // 2, box[1] + self.px // 2
        return next((label for area, label in areas if area.holds(x, y)), self.otherwise)


@dataclass(frozen=True, kw_only=True)
class Contains(Declared):
    """A grid; a tile is `present` where the centre of a thing of `kinds` lies in it. Things of other kinds do not count.

    Args:
        px: Side of a tile in pixels.
        stride: From one tile to the next, in pixels.
        kinds: Kinds of things that count.
        present: Class of tiles with such a thing.
        absent: Class of the other tiles.

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    stride: int
    kinds: tuple[str, ...]
    present: str
    absent: str

    def __post_init__(self) -> None:
        check_numbers(px=self.px, stride=self.stride)
        check_words(kinds=self.kinds, classes=(self.present, self.absent))

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the grid row by row.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile; `HZ-U71`, a thing lies off the picture.
        """
        grid = Grid.of(size, px=self.px, stride=self.stride)
        centres = (pixel(thing, size) for thing in marks.things if thing.kind in self.kinds)
        found = grid.touched((x, y, x + 1, y + 1) for x, y in centres).ravel().tolist()
        return [
            Cut(box, self.present if one else self.absent)
            for box, one in zip(grid.boxes(), found, strict=True)
        ]
