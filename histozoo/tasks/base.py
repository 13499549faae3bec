"""What is known of a dataset before it is opened: a frozen declaration, checked against the files whenever it is loaded."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from histozoo import licence
from histozoo.data.manifest import MANIFEST, accepted_counts
from histozoo.data.rows import Cells, check_classes, check_counts
from histozoo.data.shards import INDEX, read_shards
from histozoo.data.tables import Cut, read_table
from histozoo.errors import UsageError
from histozoo.prepare.plan import Preparation

if TYPE_CHECKING:
    from datasets import Dataset

KINDS = ("multiclass", "multilabel", "segmentation", "slide", "unlabelled")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One labelled set of tiles.

    Args:
        name: Lower-case word, unique among the tasks; the file's stem.
        kind: One of `KINDS`.
        classes: Label words in the order of their numbers; fixed here, never taken from the disk.
        counts: Images of each class (before `cut_px` or `centre_px`, after `preparation`); other counts on the disk are refused. None: not
            checked.
        total: Tiles of all classes as published, where those of each class are not known.
        not_reproduced: Tiles of all classes as the paper counts them, where the preparation cannot give that number, and why; shown and
            never compared.
        objects: Annotated objects as published, by the class that their tiles get; compared where the rule is `Around`.
        split_counts: Tiles of each official split (`train`, `val`, `test`) as published.
        split_divides_groups: Whether that split is known to have a group on both sides. It is then used for nothing and told among the
            traps; in any other task such a split is refused when the task is measured on.
        organ: What was imaged.
        stain: How it was stained.
        mpp: Micrometres per pixel where they are known for the files as they are; None otherwise.
        licence: Id of the images' licence as `histozoo.licence` knows it, nothing beside it; "unknown" where none was found.
        licence_note: What that rests on: what was read where, or why nothing better is known.
        licence_checked: Whether the licence was read at the source, or in a text that quotes it; from memory, or as somebody else
            states it, is not checked, and a licence that is not checked counts as unknown.
        source: Where the images come from first.
        citation: Who to cite.
        lineage: Sets that share slides, frames or patients share this word, and are left out together.
        folder: Folder below the data root.
        table: The table in it.
        group_column: The column that names the unit to keep on one side of a split.
        group_rule: Names that unit from a row's cells instead, where the column does not hold it.
        exclude_classes: Label words left out, each with the reason.
        cut_px: Cut each image into a centred grid of squares of this side in pixels.
        centre_px: Keep the central square of this side in pixels.
        preparation: How the archive its authors publish becomes the table; None for a set that lies as a table from the start.
        hub: Dataset id on the Hugging Face Hub, where one exists.
        traps: Known faults of the set, a sentence each.
        notes: What one must know to read a result on this task.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    organ: str
    stain: str
    licence: str
    source: str
    citation: str
    lineage: str
    folder: str
    counts: tuple[int, ...] | None = None
    mpp: float | None = None
    table: str = "labels.csv"
    group_column: str = "group"
    group_rule: Callable[[Cells], str] | None = None
    exclude_classes: Mapping[str, str] = field(default_factory=dict)
    cut_px: int | None = None
    centre_px: int | None = None
    total: int | None = None
    not_reproduced: tuple[int, str] | None = None
    objects: Mapping[str, int] = field(default_factory=dict)
    licence_note: str = ""
    licence_checked: bool = False
    split_counts: Mapping[str, int] = field(default_factory=dict)
    split_divides_groups: bool = False
    preparation: Preparation | None = None
    hub: str = ""
    traps: tuple[str, ...] = ()
    notes: str = ""

    @property
    def stated_licence(self) -> str:
        """The licence in words that say whether it was checked; what entries, cards and verdicts take."""
        return licence.stated(self.licence, checked=self.licence_checked, note=self.licence_note)

    def load(self, data_root: str | Path | None = None) -> Dataset:
        """Opens the set and checks it against this declaration; images stay on the disk until they are read.

        Args:
            data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.

        Returns:
            Rows with `image` (lazy), `label` (class number), `group` and `file`; a cut image is several rows.

        Raises:
            UsageError: `HZ-U37` no data there, `HZ-E34` shards of other classes, and what `read_table` raises.
            IntegrityError: `HZ-E39`, a shard is not what its index says.
        """
        folder = self.require(data_root)
        if not (folder / self.table).is_file():
            return self._shards(folder)
        # What `histozoo prepare` wrote has the groups in its table; the rule reads names as their authors gave them.
        settled = (folder / MANIFEST).is_file()
        return read_table(
            folder,
            self.table,
            classes=self.classes,
            counts=accepted_counts(folder, self.classes, self.counts),
            exclude=tuple(self.exclude_classes),
            group="group" if settled else self.group_rule or self.group_column,
            cut=self._cut(),
        )

    def require(self, data_root: str | Path | None = None) -> Path:
        """Returns the folder of this task's data; reads nothing.

        Raises:
            UsageError: `HZ-U37`, no data there.
        """
        folder = data_folder(data_root) / self.folder
        if not (folder / self.table).is_file() and not (folder / INDEX).is_file():
            raise UsageError(
                "HZ-U37",
                f"the data of task {self.name!r} is not there",
                where=folder / self.table,
                expected=f"the folder {self.folder!r} with {self.table}, from {self.source}",
                next_step="give its parent folder as --data-root or $HISTOZOO_DATA",
            )
        return folder

    def _shards(self, folder: Path) -> Dataset:
        """Opens Parquet shards, in which groups are settled, and checks them as a table is checked."""
        if self.cut_px or self.centre_px:
            raise UsageError(
                "HZ-U37",
                f"the images of task {self.name!r} are cut when they are loaded, which shards cannot be",
                where=folder,
                next_step="prepare it again without --shards",
            )
        dataset = read_shards(folder)
        words = tuple(dataset.features["label"].names)
        if words != self.classes:
            raise UsageError(
                "HZ-E34",
                f"the shards have other classes than task {self.name!r}",
                where=folder,
                expected=", ".join(self.classes),
                got=", ".join(words),
                next_step="prepare the task again",
            )
        found = Counter(words[label] for label in dataset["label"])
        check_classes(folder, found, self.classes)
        counts = accepted_counts(folder, self.classes, self.counts)
        check_counts(folder, found, dict(zip(self.classes, counts or (), strict=False)))
        return dataset

    def _cut(self) -> Cut | None:
        if self.cut_px:
            return grid(self.cut_px)
        return centre(self.centre_px) if self.centre_px else None


def data_folder(data_root: str | Path | None) -> Path:
    """Returns the folder of the task folders.

    Raises:
        UsageError: `HZ-U37`, neither an argument nor `$HISTOZOO_DATA`, or no such folder.
    """
    chosen = data_root or os.environ.get("HISTOZOO_DATA")
    if chosen and Path(chosen).is_dir():
        return Path(chosen)
    raise UsageError(
        "HZ-U37",
        "there is no such data folder" if chosen else "no data folder is given",
        where=chosen or "",
        expected="a folder with one folder per task",
        next_step="give it as --data-root or $HISTOZOO_DATA",
    )


def grid(px: int) -> Cut:
    """Returns a rule that cuts an image into whole squares of `px`, the grid centred; what is left at the edges is not used."""

    def boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
        columns, rows = width // px, height // px
        left, top = (width - columns * px) // 2, (height - rows * px) // 2
        if not (columns and rows):
            raise UsageError(
                "HZ-D27",
                "an image is smaller than one tile",
                expected=f"{px} x {px} px",
                got=f"{width} x {height} px",
            )
        return [
            (left + x * px, top + y * px, left + (x + 1) * px, top + (y + 1) * px)
            for y in range(rows)
            for x in range(columns)
        ]

    return boxes


def centre(px: int) -> Cut:
    """Returns a rule that keeps the central square of `px`, or all of a smaller image."""

    def boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
        w, h = min(px, width), min(px, height)
        left, top = (width - w) // 2, (height - h) // 2
        return [(left, top, left + w, top + h)]

    return boxes


def blocks(pattern: str, size: int) -> Callable[[Cells], str]:
    r"""Returns a group rule: blocks of `size` consecutive numbers, for sets whose neighbours look alike and whose patients are unknown.

    Args:
        pattern: Regular expression over the file name; its first group is the series, its second the running number from 1.
        size: Numbers per block.
    """

    def rule(cells: Cells) -> str:
        match = re.search(pattern, cells["file"])
        if not match:
            raise UsageError(
                "HZ-U32",
                "a file name has no running number",
                where=cells["file"],
                expected=pattern,
                next_step="use the files under the names they came with; other names are another dataset's",
            )
        return f"{match[1]}-{(int(match[2]) - 1) // size:03d}"

    return rule
