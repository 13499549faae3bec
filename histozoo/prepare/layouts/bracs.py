"""BRACS regions of interest: `BRACS_RoI/latest_version/<split>/<number>_<class>/BRACS_<slide>_<class>_<number>.png`, and `BRACS.xlsx`.

Folders as in kaiko-ai/eva; file names as on the dataset's page (BRACS_010_PB_32.png is region 32 of the slide BRACS_010, labelled PB). The
sheet WSI_Information of `BRACS.xlsx` gives the patient of each slide in the columns WSI Filename and Patient Id (seen in public readers);
the patient is the group, so the workbook must lie beside the regions.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import sheet, some, translated
from histozoo.prepare.pictures import Layout, Picture
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

FOLDERS = {
    "0_N": "N",
    "1_PB": "PB",
    "2_UDH": "UDH",
    "3_FEA": "FEA",
    "4_ADH": "ADH",
    "5_DCIS": "DCIS",
    "6_IC": "IC",
}
"""Class of each folder."""
SPLITS = ("train", "val", "test")
_NAME = re.compile(r"(BRACS_\d+)_[A-Z]+_\d+")


def pictures(source: Source) -> list[Picture]:
    """Lists the regions of the three splits.

    Raises:
        UsageError: `HZ-U73`, no regions or no workbook, a folder that is no class, a file name without a slide, a slide without a patient.
    """
    patients = _patients(source)
    found = [
        region
        for split in SPLITS
        for region in each(
            source,
            source.matching(f"{split}/*/BRACS_*.png"),
            partial(_region, split=split, patients=patients),
        )
    ]
    some([region.name for region in found], "<split>/<class>/BRACS_*.png", source.where)
    return found


def _region(name: str, split: str, patients: dict[str, str]) -> Picture:
    path = PurePosixPath(name)
    match = _NAME.fullmatch(path.stem)
    if not match:
        raise malformed(
            "a file name has no slide", name, expected="BRACS_<slide>_<class>_<number>.png", got=path.name
        )
    if match[1] not in patients:
        raise malformed(
            "a slide has no patient", name, expected=f"{match[1]} in BRACS.xlsx", got="no such row"
        )
    label = translated(path.parent.name, FOLDERS, name)
    return Picture(name=name, group=f"patient-{patients[match[1]]}", label=label, split=split)


def _patients(source: Source) -> dict[str, str]:
    book = source.one("BRACS.xlsx")
    rows = sheet(source, book, ("WSI Filename", "Patient Id"), title="WSI_Information")
    return {PurePosixPath(row["WSI Filename"]).stem: row["Patient Id"] for row in rows}


LAYOUT = Layout(pictures=pictures)
