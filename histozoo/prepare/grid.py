"""Where boxes lie: the grid that all rules share, the pixel of an annotated point, and the checks of a rule's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Area, Box, Marks, Size, Thing

Pixel = tuple[int, int]
"""Column and row of one pixel."""


class Declared:
    """Base of the rules: says in JSON types what was declared."""

    def describe(self) -> dict[str, Any]:
        """Returns the rule's word and its parameters for the manifest; a mapping becomes pairs, because its order counts."""
        values = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]
        return {"rule": type(self).__name__.lower(), **values}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [list(pair) for pair in value.items()]
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Whole squares of `px` at multiples of `stride` from the upper left corner; the rest at the right and lower edge stays unused.

    Args:
        columns: Number of boxes from left to right.
        rows: Number of boxes from top to bottom.
        px: Side of a box in pixels.
        stride: From one box to the next, in pixels.
    """

    columns: int
    rows: int
    px: int
    stride: int

    @classmethod
    def of(cls, size: Size, *, px: int, stride: int) -> Self:
        """Returns the grid of a picture of `size` (width and height in pixels).

        Raises:
            UsageError: `HZ-D27`, the picture is smaller than one box.
        """
        fits(size, px=px)
        columns, rows = ((side - px) // stride + 1 for side in size)
        return cls(columns=columns, rows=rows, px=px, stride=stride)

    def boxes(self, where: NDArray[np.bool_] | None = None) -> Iterator[Box]:
        """Gives the boxes row by row from the top, or those for which `where` (rows, columns) is true."""
        chosen = np.ones((self.rows, self.columns), bool) if where is None else where
        rows, columns = (index * self.stride for index in np.nonzero(chosen))
        for left, top in zip(columns.tolist(), rows.tolist(), strict=True):
            yield left, top, left + self.px, top + self.px

    def touched(self, areas: Iterable[Box]) -> NDArray[np.bool_]:
        """Says for each box, as (rows, columns), whether it shares a pixel with one of `areas`; linear in their number."""
        result = np.zeros((self.rows, self.columns), bool)
        for left, top, right, bottom in areas:
            result[self._sharing(top, bottom), self._sharing(left, right)] = True
        return result

    def _sharing(self, low: int, high: int) -> slice:
        """Returns the indices along one side of the boxes that share a pixel with low..high, `high` not in it."""
        return slice(max(0, (low - self.px) // self.stride + 1), max(0, (high - 1) // self.stride + 1))


def fits(size: Size, *, px: int) -> None:
    """Refuses a picture that is smaller than one box.

    Raises:
        UsageError: `HZ-D27`.
    """
    if min(size) < px:
        raise UsageError(
            "HZ-D27",
            "a picture is smaller than the tiles to cut from it",
            expected=f"at least {px} x {px} px",
            got=f"{size[0]} x {size[1]} px",
            next_step="see whether this is the picture that the authors published, and not a thumbnail",
        )


def pixel(thing: Thing, size: Size) -> Pixel:
    """Returns the pixel in which the centre of a thing lies.

    A centre up to one pixel off the picture counts as in the nearest pixel: tools that count from one, or round, write such points.

    Raises:
        UsageError: `HZ-U71`, the centre lies farther off, or is no number.
    """
    if not all(-1 <= place <= side + 1 for place, side in zip((thing.x, thing.y), size, strict=True)):
        raise UsageError(
            "HZ-U71",
            "an annotated point does not lie on its picture",
            expected=f"0 to {size[0]} across and 0 to {size[1]} down",
            got=f"{thing.kind!r} at {thing.x}, {thing.y}",
            next_step="see whether the annotation belongs to this picture, and in which unit and axis order it is written",
        )
    x, y = (
        min(max(math.floor(place), 0), side - 1) for place, side in zip((thing.x, thing.y), size, strict=True)
    )
    return x, y


def extent(thing: Thing, size: Size) -> Box:
    """Returns the pixels that a thing covers: the pixel of its centre, and its bounding box within the picture where that is known.

    Raises:
        UsageError: `HZ-U71`, the centre lies off the picture, or the bounding box is no box.
    """
    x, y = pixel(thing, size)
    if thing.box is None:
        return x, y, x + 1, y + 1
    left, top, right, bottom = thing.box
    if not (left <= right and top <= bottom and all(map(math.isfinite, thing.box))):
        raise UsageError(
            "HZ-U71",
            "the bounding box of a thing is no box",
            expected="left, top, right, bottom in pixels",
            got=f"{thing.kind!r} with {thing.box}",
        )
    return (
        max(0, min(x, math.floor(left))),
        max(0, min(y, math.floor(top))),
        min(size[0], max(x + 1, math.ceil(right))),
        min(size[1], max(y + 1, math.ceil(bottom))),
    )


def regions(marks: Marks, words: Iterable[str], size: Size) -> list[Area]:
    """Returns the areas of `words`, in their order.

    Raises:
        UsageError: `HZ-U70`, the layout has no area of that word; `HZ-U71`, an area was drawn for a picture of another size.
    """
    found = []
    for word in words:
        if word not in marks.areas:
            raise UsageError(
                "HZ-U70",
                f"no area is called {word!r}",
                expected=", ".join(sorted(marks.areas)) or "a layout that reads areas",
                got=word,
                next_step="use a word of the layout; a layout names every word for each picture, also where nothing is drawn",
            )
        same_size(marks.areas[word], size, word=word)
        found.append(marks.areas[word])
    return found


def same_size(area: Area, size: Size, *, word: str) -> None:
    """Refuses an area that knows its size, where that is not the picture's.

    Raises:
        UsageError: `HZ-U71`.
    """
    drawn_on = tuple(getattr(area, "size", size))
    if drawn_on != tuple(size):
        raise UsageError(
            "HZ-U71",
            f"the area {word!r} was drawn for a picture of another size",
            expected=f"{size[0]} x {size[1]} px",
            got=f"{drawn_on[0]} x {drawn_on[1]} px",
            next_step="see whether mask and picture belong together; neither is resized",
        )


def refuse(what: str, *, expected: str, got: object) -> UsageError:
    """Returns the error of a rule whose parameters make no sense."""
    return UsageError("HZ-U70", what, expected=expected, got=repr(got), next_step="correct the task's rule")


def check_numbers(**values: object) -> None:
    """Refuses a size or a number of boxes that is not a whole number above 0.

    Raises:
        UsageError: `HZ-U70`.
    """
    for name, value in values.items():
        if type(value) is not int or value <= 0:
            raise refuse(f"the {name} of a rule makes no sense", expected="a whole number above 0", got=value)


def check_shares(**values: object) -> None:
    """Refuses a share that is not in [0, 1].

    Raises:
        UsageError: `HZ-U70`.
    """
    for name, value in values.items():
        if type(value) not in (int, float) or not 0 <= value <= 1:  # type: ignore[operator]
            raise refuse(f"the {name} of a rule makes no sense", expected="a number from 0 to 1", got=value)


def check_words(**values: object) -> None:
    """Refuses what is not a tuple of words, each of them once.

    Raises:
        UsageError: `HZ-U70`.
    """
    for name, value in values.items():
        words = list(value) if isinstance(value, tuple) else [""]
        if not words or not _are_words(words) or len(set(words)) < len(words):
            raise refuse(
                f"the {name} of a rule makes no sense", expected="words, none of them twice", got=value
            )


def check_mapping(**values: object) -> None:
    """Refuses what is not a mapping from words to words, or is empty.

    Raises:
        UsageError: `HZ-U70`.
    """
    for name, value in values.items():
        words = [word for pair in value.items() for word in pair] if isinstance(value, Mapping) else []
        if not words or not _are_words(words):
            raise refuse(
                f"the {name} of a rule makes no sense", expected="words and their classes", got=value
            )


def _are_words(values: list[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)
