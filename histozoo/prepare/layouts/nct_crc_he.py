"""NCT-CRC-HE-100K and CRC-VAL-HE-7K: one folder per set, in it one folder per class, in it TIFF tiles of 224 x 224 px.

    NCT-CRC-HE-100K/ADI/ADI-AAAFLCLY.tif    100,000 tiles, Macenko-normalised, taken as train
    CRC-VAL-HE-7K/ADI/ADI-TCGA-AAICEQFN.tif   7,180 tiles of 50 other patients, taken as test

Folder and file names as the documentation and the loader of kaiko-ai/eva give them. A folder NCT-CRC-HE-100K-NONORM beside them (the same
tiles before normalisation) is not read. No file names a patient, so each tile is a group of its own.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import known, some
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
SETS = {"NCT-CRC-HE-100K": "train", "CRC-VAL-HE-7K": "test"}
"""Split of each folder."""


def pictures(source: Source) -> list[Picture]:
    """Lists the tiles of both sets, each with its folder's class.

    Raises:
        UsageError: `HZ-U73`, a set is missing or a folder is no class.
    """
    return [tile for folder, split in SETS.items() for tile in _set(source, folder, split)]


def _set(source: Source, folder: str, split: str) -> list[Picture]:
    names = some(source.matching(f"{folder}/*/*.tif"), f"{folder}/<class>/*.tif", source.where)
    return each(source, names, lambda name: _tile(name, split))


def _tile(name: str, split: str) -> Picture:
    path = PurePosixPath(name)
    return Picture(name=name, group=path.stem, label=known(path.parent.name, CLASSES, name), split=split)


LAYOUT = Layout(pictures=pictures)
