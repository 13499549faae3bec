"""Tiles straight from whole slides: random tissue positions, at a stated resolution, as a function of the seed and the position alone.

A tile is read from the level whose pixels are just fine enough and resized as every other tile is. Slides are drawn by the area of their
tissue, so that every piece of tissue is equally likely.

Shapes: S slides, K cells that may be drawn, px pixels.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo.data.listing import tell_skipped
from histozoo.data.ordering import ORDER, generator
from histozoo.data.slide_tissue import Slide, scan_slide
from histozoo.data.tiles import LARGEST_ENLARGEMENT, fit
from histozoo.errors import UsageError, all_of
from histozoo.prepare.optional import openslide_library
from histozoo.prepare.slides import SlideCanvas
from histozoo.tile_lists import find_tiles, walk

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi"}
)

SAME_RESOLUTION = 0.01
"""Relative difference below which two resolutions are one: what scanners write of one objective varies by less."""

_OPEN_SLIDES = 16  # of each process; OpenSlide keeps up to 32 MB for each
_KEPT = "nothing was trained"


@dataclass(frozen=True, kw_only=True)
class SlideSet:
    """Whole slides of one set.

    Args:
        source: A folder of slides, whatever lies how deep in it (its masks too, where it has any), or a table with a column `file`.
        mpp: Micrometres per pixel of the tiles that are shown. Slides that do not say their own are refused.
        downsample: In place of `mpp`: pixels of the finest level per pixel of a tile, for slides that do not say their resolution.
        least_tissue: Least share of tissue around a position, 0 to 1, as a thumbnail of the slide shows it; the centre is always tissue.
        weight: Its share of the samples, relative to the other sets; above 0.
        cache: Where the masks of tissue are kept; they are made at every start where it is None.

    Raises:
        UsageError: `HZ-U86`, neither `mpp` nor `downsample`, both, or one that is not above 0.
    """

    source: Path
    mpp: float | None = None
    downsample: float | None = None
    least_tissue: float = 0.0
    weight: float = 1.0
    cache: Path | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.mpp, self.downsample) if value is not None]
        if len(given) != 1 or not 0 < given[0] < math.inf:
            got = f"mpp = {self.mpp}, downsample = {self.downsample}"
            expected = "mpp, or else downsample; above 0"
            raise _refused("slides want a resolution to be read at", self.source, expected, got)

    def open(self, px: int) -> SlideTiles:
        """Finds the tissue of every slide.

        Raises:
            UsageError: `HZ-U86`, there are no slides, or slides that do not say their resolution, are too coarse, smaller than a tile or
                without tissue; `HZ-D24`, slides that cannot be read. The first is named, with the others.
        """
        files = slide_files(self.source)
        openslide_library(self.source)
        found: list[Drawn] = []
        errors: list[UsageError] = []
        for name, path in files.items():
            try:
                found.append(self._drawn(scan_slide(path, name, self.cache), px))
            except UsageError as error:
                errors.append(error)
        if errors:
            raise all_of(errors, kept=_KEPT) from errors[0]
        return SlideTiles(found, px=px, least_tissue=self.least_tissue)

    def _drawn(self, slide: Slide, px: int) -> Drawn:
        side = px * self._downsample(slide)
        if side * LARGEST_ENLARGEMENT < px:
            what, expected = (
                "the slide is too coarse for these tiles",
                f"to be enlarged {LARGEST_ENLARGEMENT}-fold at most",
            )
            raise _refused(what, slide.path, expected, f"{px / side:.2f}-fold")
        if math.ceil(side) > min(slide.size):
            expected = f"at least {math.ceil(side):,} px along each side"
            got = f"{slide.size[0]:,} x {slide.size[1]:,} px"
            raise _refused("the slide is smaller than a tile", slide.path, expected, got)
        cells = len(slide.cells(side, self.least_tissue))
        if not cells:
            expected = f"tissue, and {self.least_tissue:g} of a tile around it"
            raise _refused("the slide has no tissue to draw from", slide.path, expected, "none")
        return Drawn(slide, side, cells * (slide.scale / side) ** 2)

    def _downsample(self, slide: Slide) -> float:
        if self.downsample is not None or self.mpp is None:
            return self.downsample or 1.0
        if slide.mpp is None:
            got = f"nothing but an objective of {slide.power}x" if slide.power else "nothing"
            expected = "micrometres per pixel in the file; or `downsample` in place of `mpp`, for these slides in a set of their own"
            raise _refused("a slide does not say its resolution", slide.path, expected, got)
        across, down = slide.mpp
        if abs(across / down - 1) > SAME_RESOLUTION:
            raise _refused(
                "a slide's pixels are not square", slide.path, "one resolution", f"{across} x {down} um"
            )
        return self.mpp / math.sqrt(across * down)


class Drawn(NamedTuple):
    """A slide, the side of a tile in pixels of its level 0, and how many tiles would cover the tissue that may be drawn."""

    slide: Slide
    side: float
    tiles: float


class SlideTiles:
    """Tiles of opened slides, drawn with replacement.

    Args:
        slides: At least one, each with tissue.
        px: Side of the tiles that are shown, in pixels.
        least_tissue: As in `SlideSet`.
    """

    def __init__(self, slides: Sequence[Drawn], *, px: int, least_tissue: float) -> None:
        self.slides, self.px, self.least_tissue = tuple(slides), px, least_tissue
        tiles_S = np.array([drawn.tiles for drawn in slides])
        self._edges_S = np.cumsum(tiles_S / tiles_S.sum())
        self._cells: dict[int, NDArray[np.int32]] = {}
        self._open: dict[int, _Opened] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_cells": {}}

    @property
    def rows(self) -> int:
        """Number of tiles that would cover the tissue once, at least 1."""
        return max(1, round(sum(drawn.tiles for drawn in self.slides)))

    @property
    def fingerprint(self) -> str:
        """sha256 over those of the slides."""
        told = [drawn.slide.fingerprint for drawn in self.slides]
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def place(self, position: int, seed: int, number: int) -> tuple[int, int, int]:
        """Returns number of the slide, and left and top of the tile in pixels of level 0, of a position of set `number`."""
        u0, u1, u2, u3 = generator(seed, ORDER + number, position).random(4).tolist()
        which = min(int(np.searchsorted(self._edges_S, u0, side="right")), len(self.slides) - 1)
        (slide, side, _), cells = self.slides[which], self._cells_of(which)
        row, column = divmod(int(cells[int(u1 * len(cells))]), slide.shape[1])
        corner = (round((cell + u) * slide.scale - side / 2) for cell, u in ((column, u2), (row, u3)))
        left, top = (
            max(0, min(at, size - math.ceil(side))) for at, size in zip(corner, slide.size, strict=True)
        )
        return which, left, top

    def tile(self, at: tuple[int, ...]) -> NDArray[np.uint8]:
        """Returns the tile at a place as uint8 RGB `[px, px, 3]`; what was not scanned is white.

        Raises:
            UsageError: `HZ-D24`, the slide is damaged there, or gone; names slide and place.
        """
        which, left, top = at
        canvas, level, down, side = self._slide(which)
        # Whole pixels of the level, where there are any: between them OpenSlide would blur.
        corner = round(round(left / down) * down), round(round(top / down) * down)
        return fit(canvas.region(corner, level, (side, side)), self.px).copy()

    def _cells_of(self, which: int) -> NDArray[np.int32]:
        if which not in self._cells:
            while len(self._cells) >= _OPEN_SLIDES:
                self._cells.pop(next(iter(self._cells)))
            slide, side, _ = self.slides[which]
            self._cells[which] = slide.cells(side, self.least_tissue)
        return self._cells[which]

    def _slide(self, which: int) -> _Opened:
        if self._process != os.getpid():  # OpenSlide's handles do not outlive a fork
            self._open, self._process = {}, os.getpid()
        if which not in self._open:
            while len(self._open) >= _OPEN_SLIDES:
                self._open.pop(next(iter(self._open)))
            self._open[which] = _opened(self.slides[which], self.px)
        return self._open[which]


class _Opened(NamedTuple):
    """A slide, the level that its tiles are read from, that level's downsampling, and the side of a tile in pixels of it."""

    canvas: SlideCanvas
    level: int
    down: float
    side: int


def _opened(drawn: Drawn, px: int) -> _Opened:
    canvas = SlideCanvas(drawn.slide.path)
    levels = canvas.levels()
    wanted = drawn.side / px * (1 + SAME_RESOLUTION)
    level = max((i for i, (_, down) in enumerate(levels) if down <= wanted), default=0)
    return _Opened(canvas, level, levels[level][1], max(1, round(drawn.side / levels[level][1])))


def slide_files(source: Path) -> dict[str, Path]:
    """Returns name and path of the slides of a folder and all folders in it, or of those that a table names; sorted.

    Raises:
        UsageError: `HZ-U86`, there is none; `HZ-U62`, the table is none.
    """
    if source.is_file() and source.suffix.lower() == ".csv":
        found = find_tiles(source)
        return {name: found.root / name for name in found.names}
    names, skipped = walk(source) if source.is_dir() else ([], {})
    tell_skipped(source, skipped)
    slides = {name: source / name for name in names if Path(name).suffix.lower() in SLIDE_SUFFIXES}
    if not slides:
        got = "no such folder" if not source.exists() else f"{len(names):,} other files"
        raise _refused(
            "there are no slides", source, f"files ending in {', '.join(sorted(SLIDE_SUFFIXES))}", got
        )
    return slides


def _refused(what: str, where: object, expected: str, got: str) -> UsageError:
    return UsageError("HZ-U86", what, where=where, expected=expected, got=got, kept=_KEPT)
