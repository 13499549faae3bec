"""Tables and folders of labelled tiles -> a `datasets.Dataset` with the columns `image` (lazy), `label`, `group`, `file`.

Every cell is text and is matched exactly: no id loses its zeros, no label becomes a missing value. The class list comes from the caller,
never from what happens to lie on the disk.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from histozoo.data import decoding
from histozoo.data.listing import check_files, check_hashes, check_paths
from histozoo.data.rows import Cells, Row, check_classes, check_counts, check_labels, read_rows
from histozoo.errors import UsageError
from histozoo.tile_lists import OUTSIDE, is_tile_name, walk

if TYPE_CHECKING:
    from datasets import Dataset

_log = logging.getLogger(__name__)
Cut = Callable[[int, int], list[tuple[int, int, int, int]]]
"""Width and height of an image in pixels -> the boxes (left, top, right, bottom) that become tiles."""


def read_table(
    folder: str | Path,
    table: str = "labels.csv",
    *,
    classes: Sequence[str],
    counts: Sequence[int] | None = None,
    exclude: Collection[str] = (),
    group: str | Callable[[Cells], str] = "group",
    cut: Cut | None = None,
    allow_unlisted: bool = False,
) -> Dataset:
    """Reads a table of tiles with at least the columns `file` and `label`; ',' and ';' separate, UTF-8 with or without BOM.

    Where the table has a column `sha256`, every file is read and compared with it first.

    Args:
        folder: What `file` is relative to; holds the table.
        table: Name of the table in `folder`.
        classes: The label words; the position is the label's number.
        counts: Rows of each class, where they are known.
        exclude: Label words whose rows are left out.
        group: The column that says what must stay on one side of a split, or a function of a row's cells that does.
        cut: Where given, images become several tiles (or one smaller), each with the image's label and group.
        allow_unlisted: Passes over tiles that lie beside the listed ones; their number is logged.

    Raises:
        UsageError: `HZ-U32` malformed table or blank group, `HZ-U33` a path outside the folder, `HZ-E33` missing, unlisted or repeated
            tiles, `HZ-E34` unknown label, `HZ-E35` other counts, `HZ-E36` fewer than two classes or a class without a tile, `HZ-D25` a
            file that is not the one whose hash the table gives; for cutting, `HZ-D24` or `HZ-D27` an image whose size cannot be read
            or is not that of a tile.
    """
    path = Path(folder) / table
    rows = read_rows(path, group)
    check_paths(path, rows)
    check_files(path, rows, allow_unlisted=allow_unlisted)
    check_labels(path, rows, [*classes, *exclude])
    rows = [row for row in rows if row.label not in set(exclude)]
    found = Counter(row.label for row in rows)
    check_classes(path, found, classes)
    check_counts(path, found, dict(zip(classes, counts or (), strict=False)))
    check_hashes(path, rows)
    return _dataset(Path(folder), rows, classes, cut)


def read_folder(folder: str | Path, *, classes: Sequence[str]) -> Dataset:
    """Reads `folder/<class>/**/<tile>`; the sub-folder below the class is the group, and a tile without one is a group of its own.

    What `histozoo.tile_lists.walk` passes over is logged with its number, but for links out of the folder, which are refused.

    Raises:
        UsageError: `HZ-E34` a folder that is no class, `HZ-E36` a class without a tile, `HZ-U32` no such folder, `HZ-U33` a link out of
            it, `HZ-D32` a name that is not UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            "HZ-U32",
            "there is no such folder",
            where=folder,
            expected="a folder with one sub-folder per class",
        )
    files, skipped = walk(folder)
    for kind, names in skipped.items():
        _log.warning("%s: %d passed over: %s", folder, len(names), kind)
    check_paths(folder, [Row(0, name, "", "", {}) for name in skipped.get(OUTSIDE, ())])
    rows = []
    for name in (name for name in files if is_tile_name(PurePath(name))):
        label, *between = name.split("/")[:-1] or [""]
        rows.append(Row(0, name, label, "/".join([label, *between]) if between else name, {}))
    check_paths(folder, rows)
    check_labels(folder, rows, classes)
    check_classes(folder, Counter(row.label for row in rows), classes)
    return _dataset(folder, rows, classes, None)


def _dataset(folder: Path, rows: Sequence[Row], classes: Sequence[str], cut: Cut | None) -> Dataset:
    import datasets

    from histozoo.data.feature import Tile, join_fragment

    columns: dict[str, list[Any]] = {"image": [], "label": [], "group": [], "file": []}
    number = {name: i for i, name in enumerate(classes)}
    for row in rows:
        for box in cut(*decoding.size(folder / row.file)) if cut else [None]:
            columns["image"].append({"path": join_fragment(str(folder / row.file), box), "bytes": None})
            columns["label"].append(number[row.label])
            columns["group"].append(row.group)
            columns["file"].append(join_fragment(row.file, box))
    features = {
        "image": Tile(),
        "label": datasets.ClassLabel(names=list(classes)),
        "group": datasets.Value("string"),
        "file": datasets.Value("string"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))
