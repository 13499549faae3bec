"""Folders that hold a table: `labels.csv` with `file,label` and often `group,split,mask`, and `points.csv` with `file,x,y`.

A mask is an 8- or 16-bit PNG of its picture's size; the table of words says what its values mean. Points are pixels of the picture, x to
the right, y down. A blank `group` cell is refused, unless the task says how to group: no patient is made up in silence.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from histozoo.data import listing, rows
from histozoo.data.rows import Cells, Row
from histozoo.errors import UsageError
from histozoo.prepare import checks
from histozoo.prepare.pictures import Area, Fault, Layout, Marks, Picture, Size, Thing
from histozoo.prepare.plan import Preparation
from histozoo.tile_lists import is_tile_name

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source
    from histozoo.tasks.base import Task

TABLE, POINTS = "labels.csv", "points.csv"
_MISSING = Fault(
    "HZ-D24",
    "the table lists the tile, and it is not there",
    next_step="restore the file from its origin",
)
_SPLIT_WORD = re.compile(r"^(train|val|test)|(?:[_\-\d])(train|val|test)$")


@dataclass(frozen=True, kw_only=True)
class Blocks:
    r"""Groups of `size` neighbours by running number, as `histozoo.tasks.base.blocks` forms them, but one that a worker can be handed.

    Args:
        pattern: Regular expression over the file name; its first group is the series, its second the running number from 1.
        size: Numbers per block.
    """

    pattern: str
    size: int

    def __call__(self, cells: Cells) -> str:
        """Returns the block of a row, such as `d1-003`; HZ-U32 where the name holds no number."""
        from histozoo.tasks.base import blocks

        return blocks(self.pattern, self.size)(cells)


@dataclass(frozen=True)
class EachPicture:
    """Every picture is a group of its own: says out loud that patients and slides are not known."""

    def __call__(self, cells: Cells) -> str:
        """Returns the picture's name."""
        return cells["file"]


@dataclass(frozen=True, kw_only=True)
class TaskGroups:
    """Groups as the task of this name declares them for its table, by rule or by column; a worker can be handed it."""

    task: str

    def __call__(self, cells: Cells) -> str:
        """Returns the group of a row; HZ-U32 where the task's rule finds none."""
        from histozoo.tasks import TASKS

        task = TASKS[self.task]
        return task.group_rule(cells) if task.group_rule else cells.get(task.group_column, "")


Groups = Blocks | EachPicture | TaskGroups


@dataclass(frozen=True, kw_only=True)
class TileTable:
    """Reads one such folder; its methods are the functions of a `Layout`, and workers can be handed them.

    Args:
        folder: Name of the dataset's folder; it is looked for in the source, and the source itself may be it.
        instances: Area word of every mask value above 0, for masks that number their objects; "" where masks are not instances.
        values: Area word of single mask values, for masks that hold classes; a value that is neither 0 nor named is refused.
        points: Word of the things that `points.csv` lists; "" where there are none. A table has points or masks.
        disc_px: Where above 0, the points are an area of that word too: all pixels no further than this from a point.
        groups: Names the groups where the table does not.
        allow_unlisted: Passes over tiles that lie beside the listed ones; their number is logged.
    """

    folder: str
    instances: str = ""
    values: tuple[tuple[int, str], ...] = ()
    points: str = ""
    disc_px: float = 0.0
    groups: Groups | None = None
    allow_unlisted: bool = False

    def layout(self) -> Layout:
        """Returns the layout that reads this folder."""
        return Layout(pictures=self.pictures, marks=self.marks)

    def pictures(self, source: Source) -> list[Picture]:
        """Lists the table's pictures in its order, with their official splits as far as `split_words` understands them.

        Raises:
            UsageError: `HZ-U73` no table, `HZ-U32` a malformed one or a blank group, `HZ-U33` a name that leads out, `HZ-E33` table and
                folder that differ; where the source lists faults, a tile that is only missing is one.
        """
        table = self._member(source, TABLE)
        at = PurePosixPath(table).parent
        found = checks.rows_of(source.path(table), self._group, task=getattr(self.groups, "task", ""))
        listing.check_spelling(Path(table), found)
        there = _tiles_below(source, at, found)
        excused = {row.file for row in found} if source.lists_faults else set()
        listing.check_listing(table, found, there | excused, allow_unlisted=self.allow_unlisted)
        points = self._points_of(source, found) if self.points else ""
        official = split_words({row.cells.get("split", "") for row in found})
        return [
            Picture(
                name=str(at / row.file),
                group=row.group,
                label=row.label,
                split=official.get(row.cells.get("split", ""), ""),
                marks=points or (str(at / row.cells["mask"]) if row.cells.get("mask") else ""),
                sha256=row.cells.get("sha256", ""),
                fault=None if row.file in there else _MISSING,
            )
            for row in found
        ]

    def marks(self, source: Source, picture: Picture, size: Size) -> Marks:
        """Reads a picture's label, points and mask.

        Raises:
            UsageError: `HZ-U73`, a mask that is missing, of another size or with unknown values, a point that lies outside its picture.
        """
        areas = self._areas(source, picture, size) if self.instances or self.values else {}
        things = self._things(source, picture, size) if self.points else ()
        if self.disc_px:
            areas[self.points] = _discs(things, size, self.disc_px)
        return Marks(label=picture.label, areas=areas, things=things)

    def _areas(self, source: Source, picture: Picture, size: Size) -> dict[str, Area]:
        from histozoo.prepare.annotations import mask_image
        from histozoo.prepare.areas import MaskArea, class_areas
        from histozoo.prepare.sources import malformed

        if not picture.marks:
            raise malformed(
                "a picture has no mask", picture.name, expected="a file in the column mask", got="''"
            )
        known = {0, *(value for value, _ in self.values)} if self.values else None
        mask_HW = mask_image(source, picture.marks, size, values=known)
        areas: dict[str, Area] = {}
        if self.instances:
            areas[self.instances] = MaskArea(mask_HW > 0)
        return areas | dict(class_areas(mask_HW, dict(self.values)))

    def _things(self, source: Source, picture: Picture, size: Size) -> tuple[Thing, ...]:
        from histozoo.prepare.sources import malformed

        member = picture.marks
        at = PurePosixPath(picture.name).relative_to(PurePosixPath(member).parent)
        points = _points(source.read(member), member).get(str(at), ())
        for x, y in points:
            if not (0 <= x < size[0] and 0 <= y < size[1]):
                raise malformed(
                    "a point lies outside its picture",
                    f"{member}, {at}",
                    expected=f"below {size[0]} x {size[1]} px",
                    got=f"{x}, {y}",
                )
        return tuple(Thing(x, y, self.points) for x, y in points)

    def _points_of(self, source: Source, found: Sequence[Row]) -> str:
        """Returns the member of the points, all of which must belong to a listed picture; a picture may have none."""
        from histozoo.prepare.sources import malformed

        member = self._member(source, POINTS)
        if unknown := sorted(set(_points(source.read(member), member)) - {row.file for row in found}):
            expected, got = f"files of {TABLE}", rows.first_five(f"{len(unknown):,} others", unknown)
            raise malformed("points of pictures that are not listed", member, expected=expected, got=got)
        return member

    def _member(self, source: Source, name: str) -> str:
        """Returns the table's name in the source: in the folder of our name, or at the top where the source is that folder."""
        inside = source.matching(f"{self.folder}/{name}")
        return name if not inside and name in source.names() else source.one(f"{self.folder}/{name}")

    def _group(self, cells: Cells) -> str:
        return self.groups(cells) if self.groups else cells.get("group", "")


def split_words(words: Iterable[str]) -> dict[str, str]:
    """Returns train, val or test for each of a table's split words that begins or ends with one of them, as testA or stage1_train do.

    Where one of them says none of the three nothing is taken, so that no part of a set is taken for another.
    """
    found = {word: _SPLIT_WORD.search(word.casefold()) for word in words if word}
    known = {word: match[1] or match[2] for word, match in found.items() if match}
    return known if len(known) == len(found) else {}


def as_is(folder: str, *, groups: Groups | None = None) -> Preparation:
    """Returns the preparation of a folder that is a tile table already: its tiles are copied byte for byte, under the table's labels.

    Args:
        folder: Name of the dataset's folder.
        groups: Names the groups where the column `group` does not.
    """
    from histozoo.prepare.rules import Whole

    layout = TileTable(folder=folder, groups=groups).layout()
    return Preparation(layout=layout, rule=Whole(), format="keep", parts=(folder,))


def prepared_as_is(task: Task) -> Task:
    """Returns a task that lies as a table, such that it can be prepared: groups are settled by its own rule, and images are not cut."""
    return dataclasses.replace(
        task,
        preparation=as_is(task.folder, groups=TaskGroups(task=task.name)),
        group_rule=None,
        group_column="group",
        cut_px=None,
        centre_px=None,
    )


def allowing_unlisted(task: Task) -> Task:
    """Returns a task that lies as a table, such that its preparation passes over tiles that the table does not list.

    Raises:
        UsageError: `HZ-U66`, the task has no such table.
    """
    plan = task.preparation
    table = getattr(plan.layout.pictures, "__self__", None) if plan else None
    if plan is None or not isinstance(table, TileTable):
        raise UsageError(
            "HZ-U66",
            "only a set that lies as a table can hold tiles that the table does not list",
            where=f"task {task.name}",
            next_step="leave --allow-unlisted out",
        )
    layout = dataclasses.replace(table, allow_unlisted=True).layout()
    return dataclasses.replace(task, preparation=dataclasses.replace(plan, layout=layout))


def _discs(things: Sequence[Thing], size: Size, radius_px: float) -> Area:
    """Returns the pixels whose column and row are no further than the radius from a point's."""
    from histozoo.prepare.areas import MaskArea

    width, height = size
    y_H1, x_1W = np.arange(height)[:, None], np.arange(width)[None]
    mask_HW = np.zeros((height, width), dtype=bool)
    for thing in things:
        mask_HW |= (y_H1 - thing.y) ** 2 + (x_1W - thing.x) ** 2 <= radius_px**2
    return MaskArea(mask_HW)


def _tiles_below(source: Source, at: PurePosixPath, found: Sequence[Row]) -> set[str]:
    """Returns the image files of those folders of the source that the table names, relative to the table."""
    folders = {str((at / row.file).parent) for row in found}
    named = (PurePosixPath(name) for name in source.names())
    tiles = (name for name in named if str(name.parent) in folders and is_tile_name(name))
    return {str(name.relative_to(at)) for name in tiles}


@functools.lru_cache(maxsize=2)
def _points(data: bytes, member: str) -> Mapping[str, tuple[tuple[float, float], ...]]:
    """Returns each file's points; kept, because a worker asks for the same table once per picture."""
    from histozoo.prepare.sources import malformed

    found: dict[str, list[tuple[float, float]]] = {}
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for cells in reader:
            found.setdefault(cells["file"], []).append((float(cells["x"]), float(cells["y"])))
    except (UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise malformed(
            "the points cannot be read", member, expected="columns file, x, y", got=got
        ) from error
    return {name: tuple(points) for name, points in found.items()}
