"""What a task's table says of its tiles beyond the columns of `Task.load`: the official split, the picture a tile was cut from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from histozoo.data.rows import FRAGMENT, read_rows
from histozoo.tasks.base import Task, data_folder

if TYPE_CHECKING:
    from datasets import Dataset


def column(
    task: Task, data_root: str | Path | None, dataset: Dataset, names: Sequence[str], name: str
) -> list[str]:
    """Returns a column of the data set or, where it leaves it out, of the table or the shards on the disk; '' where none has it.

    Args:
        task: The declaration.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        dataset: What `task.load` gave.
        names: Its column `file`.
        name: The column wanted.
    """
    if name in dataset.column_names:
        return [str(value or "") for value in dataset[name][:]]
    folder = data_folder(data_root) / task.folder
    table = folder / task.table
    cells = _in_table(table, name) if table.is_file() else _in_shards(folder, name)
    return [cells.get(file) or cells.get(file.partition(FRAGMENT)[0], "") for file in names]


def _in_table(path: Path, name: str) -> dict[str, str]:
    # The group is not asked for: the data set has it, and a task's own rule may have made it.
    found = read_rows(path, lambda cells: "-")
    # Elsewhere `source` may be any word; in the tables that `prepare` writes it is the picture, and beside it stands where the tile lay.
    if name == "source" and found and not {"x", "y"} <= found[0].cells.keys():
        return {}
    return {row.file: row.cells.get(name, "") for row in found}


def _in_shards(folder: Path, name: str) -> dict[str, str]:
    from pyarrow import parquet  # type: ignore[import-untyped]

    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.parquet")):
        if {"file", name} <= set(parquet.read_schema(path).names):
            table = parquet.read_table(path, columns=["file", name])
            values = (str(value or "") for value in table[name].to_pylist())
            found.update(zip(table["file"].to_pylist(), values, strict=True))
    return found
