"""OCELOT 2023, cells: `images/<split>/cell/001.jpg` of 1,024 x 1,024 px, `annotations/<split>/cell/001.csv` and `metadata.json`.

A table has no header; its lines are x,y,class in pixels of the picture, class 1 another cell and 2 a tumour cell; a picture without cells
has an empty table. `metadata.json` holds `sample_pairs`, and of each number its slide_name (a TCGA slide) and organ. Names, classes and
keys as in public readers of version 1.0.1 (constantinpape/torch-em, hikmatkhan/MORAL-C). The tissue pictures (`.../tissue/`) show the
surroundings of the same places and are not read. The group is the TCGA patient, the first twelve characters of the slide.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import beside, partner, some
from histozoo.prepare.pictures import Layout, Marks, Picture, Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

SPLITS = ("train", "val", "test")
CELLS = {"1": "other_cell", "2": "tumour_cell"}
"""Our word of each class of cells."""
PATIENT_CHARACTERS = 12


def pictures(source: Source) -> list[Picture]:
    """Lists the cell pictures of the three splits.

    Raises:
        UsageError: `HZ-U73`, there are none, a table of cells is missing, or the metadata does not name a picture's slide.
    """
    slides, names = _slides(source), frozenset(source.names())
    found = [
        picture
        for split in SPLITS
        for picture in each(
            source,
            source.matching(f"images/{split}/cell/*.jpg"),
            partial(_picture, split=split, slides=slides, names=names),
        )
    ]
    some([picture.name for picture in found], "images/<split>/cell/*.jpg", source.where)
    return found


def _picture(name: str, split: str, slides: dict[str, str], names: frozenset[str]) -> Picture:
    number = PurePosixPath(name).stem
    if number not in slides:
        raise malformed(
            "a picture has no slide", name, expected=f"{number} in metadata.json", got="no such key"
        )
    cells = partner(names, beside(name, "annotations", split, "cell", suffix=".csv"), name)
    return Picture(name=name, group=slides[number][:PATIENT_CHARACTERS], split=split, marks=cells)


def _slides(source: Source) -> dict[str, str]:
    from histozoo.prepare.annotations import json_file

    name = source.one("metadata.json")
    try:
        pairs = json_file(source, name, needed=("sample_pairs",))["sample_pairs"]
        return {number: pair["slide_name"] for number, pair in pairs.items()}
    except (KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise malformed(
            "the metadata cannot be read", name, expected="sample_pairs with slide_name", got=got
        ) from error


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the cells.

    Raises:
        UsageError: `HZ-U73`, a line is not x,y,class, the class is unknown, or a cell lies off the picture.
    """
    from histozoo.prepare.annotations import points_csv

    columns = ("x", "y", "class")
    return Marks(
        things=points_csv(
            source, picture.marks, columns=columns, kind_column="class", kinds=CELLS, size=size, separator=","
        )
    )


LAYOUT = Layout(pictures=pictures, marks=marks)
