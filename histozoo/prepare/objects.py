"""The rules for annotated objects: shifted tiles around sparse ones, and one crop of each. `histozoo.prepare.rules` names them too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from histozoo.prepare.grid import (
    Declared,
    Grid,
    Pixel,
    check_mapping,
    check_numbers,
    check_words,
    extent,
    fits,
    pixel,
    refuse,
)
from histozoo.prepare.pictures import Box, Marks, Size, Thing
from histozoo.prepare.plan import Cut


@dataclass(frozen=True, kw_only=True)
class Around(Declared):
    """Sparse things: shifted tiles around each, and a grid of all tiles that show none.

    A tile around a thing lies inside the picture and holds the thing's centre, and all of its bounding box where that is known and
    can be held. A tile of the grid is left out where it holds a centre or any part of a bounding box. A shifted tile that also holds
    the centre of a thing earlier in `kinds` has the class of that one: a mitosis is a mitosis beside a non-mitosis too. Things that
    `kinds` does not name do not count.

    Args:
        px: Side of a tile in pixels.
        shifts: Tiles around each thing, at different random places; fewer only in a corner that leaves fewer places.
        kinds: Class of each kind of thing; the order is the priority.
        nothing: Class of tiles without a thing.
        stride: From one tile of the grid to the next, in pixels.

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    shifts: int
    kinds: Mapping[str, str]
    nothing: str
    stride: int

    def __post_init__(self) -> None:
        check_numbers(px=self.px, shifts=self.shifts, stride=self.stride)
        check_mapping(kinds=self.kinds)
        check_words(nothing=(self.nothing,))

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the shifted tiles thing by thing, then the grid row by row.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile; `HZ-U71`, a thing lies off the picture.
        """
        grid = Grid.of(size, px=self.px, stride=self.stride)
        things = [thing for thing in marks.things if thing.kind in self.kinds]
        first = _First(things, self.kinds, size, px=self.px)
        shifted = [Cut(box, self.kinds[first.kind(box)]) for box in self._shifted(things, size, rng)]
        empty = grid.boxes(~grid.touched(extent(thing, size) for thing in things))
        return shifted + [Cut(box, self.nothing) for box in empty]

    def _shifted(self, things: Iterable[Thing], size: Size, rng: np.random.Generator) -> Iterator[Box]:
        taken: set[Box] = set()
        for thing in things:
            boxes = self._places(thing, size, rng, taken)
            taken.update(boxes)
            yield from boxes

    def _places(self, thing: Thing, size: Size, rng: np.random.Generator, taken: set[Box]) -> list[Box]:
        """Draws places for tiles around a thing without replacement, passing over those that another thing has taken."""
        centre, reach = pixel(thing, size), extent(thing, size)
        lefts, tops = (_places_along(centre[i], reach[i], reach[i + 2], size[i], px=self.px) for i in (0, 1))
        total = len(lefts) * len(tops)
        for drawn in (min(total, 4 * self.shifts), total):  # all of them only where things crowd
            corners = (
                (lefts[n % len(lefts)], tops[n // len(lefts)])
                for n in rng.choice(total, drawn, replace=False).tolist()
            )
            boxes = [(x, y, x + self.px, y + self.px) for x, y in corners]
            free = [box for box in boxes if box not in taken][: self.shifts]
            if len(free) == self.shifts:
                break
        return free


def _places_along(centre: int, low: int, high: int, side: int, *, px: int) -> range:
    """Returns where along one side a tile can begin to hold the pixels low..high, or the centre alone where these are too many."""
    if high - low > px:
        low, high = centre, centre + 1
    return range(max(0, high - px), min(low, side - px) + 1)


class _First:
    """Finds the kind of highest priority in a box; things lie in cells of a box's side, so that a box looks into four of them."""

    def __init__(self, things: Iterable[Thing], kinds: Iterable[str], size: Size, *, px: int) -> None:
        self._px = px
        self._kinds = list(kinds)
        rank = {kind: place for place, kind in enumerate(self._kinds)}
        self._cells: dict[Pixel, list[tuple[int, int, int]]] = {}
        for thing in things:
            x, y = pixel(thing, size)
            self._cells.setdefault((x // px, y // px), []).append((rank[thing.kind], x, y))

    def kind(self, box: Box) -> str:
        """Returns the earliest kind that has its centre in `box`, of which there is one."""
        left, top, right, bottom = box
        column, row = left // self._px, top // self._px
        near = (self._cells.get((column + i, row + j), ()) for j in (0, 1) for i in (0, 1))
        inside = (rank for cell in near for rank, x, y in cell if left <= x < right and top <= y < bottom)
        return self._kinds[min(inside)]


@dataclass(frozen=True, kw_only=True)
class Crops(Declared):
    """One tile around each thing, whose centre lies in the tile's pixel (`px // 2`, `px // 2`).

    Things that `kinds` does not name are left out.

    Two things can share a tile: at the edge where it is shifted, or where a thing was marked twice. It is cut once, for the thing whose
    centre is nearer to the tile's; where both are as near, for the earlier one in `kinds`.

    Args:
        px: Side of a tile in pixels.
        kinds: Class of each kind of thing.
        edge: A tile that would leave the picture is left out (`skip`) or moved inside (`shift`).

    Raises:
        UsageError: `HZ-U70`, a parameter makes no sense.
    """

    px: int
    kinds: Mapping[str, str]
    edge: Literal["skip", "shift"] = "skip"

    def __post_init__(self) -> None:
        check_numbers(px=self.px)
        check_mapping(kinds=self.kinds)
        if self.edge not in ("skip", "shift"):
            raise refuse("the edge of a rule makes no sense", expected="skip or shift", got=self.edge)

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the tiles in the order of the things.

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than a tile; `HZ-U71`, a thing lies off the picture.
        """
        fits(size, px=self.px)
        rank = {kind: place for place, kind in enumerate(self.kinds)}
        best: dict[Box, tuple[float, int]] = {}
        for thing in marks.things:
            box = self._box(thing, size) if thing.kind in rank else None
            if box is not None:
                away = (thing.x - (box[0] + box[2]) / 2) ** 2 + (thing.y - (box[1] + box[3]) / 2) ** 2
                best[box] = min(best.get(box, (away, rank[thing.kind])), (away, rank[thing.kind]))
        labels = list(self.kinds.values())
        return [Cut(box, labels[place]) for box, (_, place) in best.items()]

    def _box(self, thing: Thing, size: Size) -> Box | None:
        wished = [place - self.px // 2 for place in pixel(thing, size)]
        left, top = (min(max(place, 0), side - self.px) for place, side in zip(wished, size, strict=True))
        if self.edge == "skip" and wished != [left, top]:
            return None
        return left, top, left + self.px, top + self.px
