"""MHIST: `images/MHIST_aaa.png`, 224 x 224 px, and `annotations.csv`, which names the class and the partition of each.

Columns (kaiko-ai/eva and several public readers): Image Name; Majority Vote Label, SSA or HP; Number of Annotators who Selected SSA (Out
of 7); Partition, train or test. Nothing names patients or slides, so each image is a group of its own.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.reading import known, some, table
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
    rows = table(source, annotations, COLUMNS)
    missing = {row["Image Name"] for row in rows} ^ set(images)
    if missing:
        raise malformed(
            "table and images differ",
            annotations,
            expected="one row per image",
            got=", ".join(sorted(missing)[:5]),
        )
    return [
        Picture(
            name=images[row["Image Name"]],
            group=PurePosixPath(row["Image Name"]).stem,
            label=known(row["Majority Vote Label"], CLASSES, annotations),
            split=known(row["Partition"], ("train", "test"), annotations),
        )
        for row in rows
    ]


LAYOUT = Layout(pictures=pictures)
