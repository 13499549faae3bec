"""MHIST: `images/MHIST_aaa.png`, 224 x 224 px, and `annotations.csv`, which names the class and the partition of each.

Columns (kaiko-ai/eva and several public readers): Image Name; Majority Vote Label, SSA or HP; Number of Annotators who Selected SSA (Out
of 7); Partition, train or test. Nothing names patients or slides, so each image is a group of its own.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import Row, keyed, known, some, table
from histozoo.prepare.pictures import Layout, Picture
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

CLASSES = ("HP", "SSA")
COLUMNS = ("Image Name", "Majority Vote Label", "Partition")


def pictures(source: Source) -> list[Picture]:
    """Lists the images in the order of the table.

    Raises:
        UsageError: `HZ-U73`, the table is missing or names another class or partition, or table and images differ.
    """
    annotations = source.one("annotations.csv")
    listed = some(source.matching("MHIST_*.png"), "images/MHIST_*.png", source.where)
    images = {PurePosixPath(name).name: name for name in listed}
    rows = keyed(table(source, annotations, COLUMNS), lambda row: row["Image Name"], annotations)
    names = [*rows, *sorted(set(images) - set(rows))]
    return each(source, names, lambda name: _picture(name, rows, images, annotations))


def _picture(name: str, rows: dict[str, Row], images: dict[str, str], annotations: str) -> Picture:
    if name not in rows or name not in images:
        got = "no such file" if name in rows else "no such row"
        raise malformed(
            "table and images differ", annotations, expected="one row per image", got=f"{name}: {got}"
        )
    row = rows[name]
    return Picture(
        name=images[name],
        group=PurePosixPath(name).stem,
        label=known(row["Majority Vote Label"], CLASSES, f"{annotations}, {name}"),
        split=known(row["Partition"], ("train", "test"), f"{annotations}, {name}"),
    )


LAYOUT = Layout(pictures=pictures)
