"""GlaS (Warwick-QU), original: `train_1.bmp`, its mask `train_1_anno.bmp`, and `Grade.csv` in one folder.

The table's header is `name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)`, with a blank behind each comma (public
readers strip it). Pictures are train_1 to train_85, testA_1 to testA_60 and testB_1 to testB_20, most of 775 x 522 px; a mask numbers its
glands from 1 and has 0 elsewhere. Both tests are the test split here. The group is the patient, whom the official split divides.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.areas import MaskArea
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import Row, keyed, known, partner, table
from histozoo.prepare.pictures import Layout, Marks, Picture, Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

GRADES = ("benign", "malignant")
COLUMNS = ("name", "patient ID", "grade (GlaS)")
_NAME = re.compile(r"(train|testA|testB)_\d+")


def pictures(source: Source) -> list[Picture]:
    """Lists the pictures in the order of the table.

    Raises:
        UsageError: `HZ-U73`, the table is missing or malformed, names another grade, or lists other pictures than lie beside it.
    """
    grades = source.one("Grade.csv")
    folder = PurePosixPath(grades).parent
    names = frozenset(source.names())
    listed = table(source, grades, COLUMNS)
    rows = keyed(listed, lambda row: str(folder / f"{row['name']}.bmp"), grades)
    lying = {n for n in names if PurePosixPath(n).parent == folder and _NAME.fullmatch(PurePosixPath(n).stem)}
    return each(
        source,
        [*rows, *sorted(lying - set(rows))],
        lambda name: _picture(name, rows.get(name), names, grades),
    )


def _picture(name: str, row: Row | None, names: frozenset[str], grades: str) -> Picture:
    if row is None:
        raise malformed("a picture is not in the table", grades, expected="a row for each", got=name)
    match = _NAME.fullmatch(row["name"])
    if not match:
        raise malformed(
            "a name is not as published", grades, expected="train_1, testA_1 or testB_1", got=row["name"]
        )
    partner(names, name, grades)
    return Picture(
        name=name,
        group=f"patient-{row['patient ID']}",
        label=known(row["grade (GlaS)"], GRADES, f"{grades}, {row['name']}"),
        split="train" if match[1] == "train" else "test",
        marks=partner(names, f"{name.removesuffix('.bmp')}_anno.bmp", name),
    )


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the glands as one area.

    Raises:
        UsageError: `HZ-U73`, the mask is missing or of another size.
    """
    from histozoo.prepare.annotations import mask_image

    mask_HW = mask_image(source, picture.marks, size)
    return Marks(label=picture.label, areas={"gland": MaskArea(mask_HW > 0)})


LAYOUT = Layout(pictures=pictures, marks=marks)
