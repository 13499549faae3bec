"""PatchCamelyon (PCam): per split one HDF5 file of tiles, one of labels and one CSV of where each tile was cut.

    camelyonpatch_level_2_split_<train|valid|test>_x.h5[.gz]     dataset x, uint8 [N, 96, 96, 3]
    camelyonpatch_level_2_split_<train|valid|test>_y.h5[.gz]     dataset y, uint8 [N, 1, 1, 1], 1 where the central 32 px hold tumour
    camelyonpatch_level_2_split_<train|valid|test>_meta.csv      columns coord_y, coord_x, tumor_patch, center_tumor_patch, wsi

File names, dataset names and columns as public readers use them (kaiko-ai/eva; basveeling/pcam names the files). The group is the slide
in the column `wsi`, so the tables are needed; they lie beside the arrays on Zenodo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histozoo.prepare.layouts.reading import table
from histozoo.prepare.pictures import Canvas, Layout, Picture
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

CLASSES = ("no_tumour", "tumour")
SPLITS = {"train": "train", "valid": "val", "test": "test"}
"""Our split of each word in the file names."""


def pictures(source: Source) -> list[Picture]:
    """Lists the rows of the three arrays; `member#row` names them.

    Raises:
        UsageError: `HZ-U73`, a file is missing, labels are not 0 and 1, or labels and table differ in length.
    """
    return [tile for word, split in SPLITS.items() for tile in _split(source, word, split)]


def _split(source: Source, word: str, split: str) -> list[Picture]:
    stem = f"camelyonpatch_level_2_split_{word}"
    tiles, meta = source.one(f"{stem}_x.h5"), source.one(f"{stem}_meta.csv")
    labels = _labels(source, source.one(f"{stem}_y.h5"))
    slides = [row["wsi"] for row in table(source, meta, ("wsi",))]
    if len(slides) != len(labels):
        raise malformed(
            "labels and table differ in length",
            meta,
            expected=f"{len(labels):,} rows",
            got=f"{len(slides):,}",
        )
    return [
        Picture(name=f"{tiles}#{row}", group=slide, label=CLASSES[label], split=split)
        for row, (slide, label) in enumerate(zip(slides, labels, strict=True))
    ]


def _labels(source: Source, name: str) -> list[int]:
    from histozoo.prepare.optional import hdf5

    try:
        with hdf5(source.path(name)) as file:
            labels = np.asarray(file["y"]).reshape(-1)
    except (OSError, KeyError) as error:
        raise malformed(
            "the labels cannot be read", name, expected="HDF5 with a dataset y", got=str(error)
        ) from error
    if not np.isin(labels, (0, 1)).all():
        raise malformed(
            "a label is not one of those published", name, expected="0 or 1", got=str(np.unique(labels)[:5])
        )
    return [int(label) for label in labels]


def open_row(source: Source, picture: Picture) -> Canvas:
    """Opens one row of the array of tiles."""
    from histozoo.prepare.canvases import ArrayRow

    return ArrayRow.read(source, picture.name, dataset="x")


LAYOUT = Layout(pictures=pictures, open=open_row)
