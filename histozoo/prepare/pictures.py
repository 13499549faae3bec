"""What a layout says of a dataset: its pictures, and what somebody marked on each.

Coordinates are pixels of the picture as it is stored, x to the right, y down, the upper left corner of the upper left pixel at (0, 0).
A `Box` is half open, as Pillow's crop takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from histozoo.errors import HistozooError
    from histozoo.prepare.sources import Source

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

Size = tuple[int, int]
"""Width and height in pixels."""


class Thing(NamedTuple):
    """One annotated object: its centre in pixels, what it is, and its bounding box where that is known."""

    x: float
    y: float
    kind: str
    box: tuple[float, float, float, float] | None = None


class Area(Protocol):
    """A region somebody drew, as masks, polygons or class maps give it."""

    def fraction(self, box: Box) -> float:
        """Returns the share of the box's pixels that belong to the region, in [0, 1]; the box lies inside the picture."""
        ...

    def holds(self, x: int, y: int) -> bool:
        """Says whether the pixel at column x and row y belongs to the region."""
        ...


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What is marked on one picture; what a layout does not know stays empty.

    Args:
        label: Class of the whole picture.
        things: Annotated objects.
        areas: Region of each class word.
        tissue: Where there is tissue; None where all of the picture counts as tissue.
    """

    label: str = ""
    things: tuple[Thing, ...] = ()
    areas: dict[str, Area] = field(default_factory=dict)
    tissue: Area | None = None


class Fault(NamedTuple):
    """Why no tile can come of a picture that a dataset lists: the words of an error, which a worker can be handed."""

    code: str
    what: str
    where: str = ""
    expected: str = ""
    got: str = ""
    next_step: str = ""

    @classmethod
    def of(cls, error: HistozooError) -> Fault:
        """Returns the fault that an error tells of."""
        return cls(error.code, error.what, error.where, error.expected, error.got, error.next_step)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of the dataset, not opened yet.

    Args:
        name: Member of the source that holds it, with `/`; unique within the dataset. A row of an array is `member#row`.
        group: Patient, slide or image that must stay on one side of a split.
        label: Class of the whole picture, where the layout knows it without opening anything.
        split: Official split: `train`, `val`, `test` or "".
        marks: Member that holds its annotation, where there is exactly one.
        sha256: Of the file, where a table gives it; a file that has another is refused.
        fault: Why it cannot be used, where its listing tells already; it is rejected when its turn comes, and has no group.
    """

    name: str
    group: str
    label: str = ""
    split: str = ""
    marks: str = ""
    sha256: str = ""
    fault: Fault | None = None


class Canvas(Protocol):
    """An opened picture from which boxes are cut; a whole slide is never decoded at once."""

    size: Size

    def crop(self, box: Box) -> Image.Image:
        """Returns the box, which lies inside the picture, as an RGB image."""
        ...


def no_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Returns the picture's own label and nothing else; for datasets that are classified already."""
    return Marks(label=picture.label)


def decoded(source: Source, picture: Picture) -> Canvas:
    """Decodes a picture that is one image file of the source, by the strict policy of `histozoo.data.decoding`."""
    from histozoo.prepare.canvases import Decoded

    return Decoded.read(source, picture.name)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one dataset lies on its authors' disk. All functions are plain module-level functions, so that workers can be handed them.

    Args:
        pictures: Lists the pictures in a fixed order, cheaply: names and tables only, no pixels. One that is not as published is
            refused, or, where the source lists faults, listed with its fault.
        marks: Reads what is marked on one picture; called in a worker.
        open: Opens one picture; called in a worker.
    """

    pictures: Callable[[Source], Iterable[Picture]]
    marks: Callable[[Source, Picture, Size], Marks] = no_marks
    open: Callable[[Source, Picture], Canvas] = decoded
