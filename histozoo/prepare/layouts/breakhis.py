"""BreakHis: class, tumour type, slide and magnification as folders, and again in the name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import agree, fields, listed
from histozoo.prepare.layouts.reading import translated
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_LETTERS = {"B": "benign", "M": "malignant"}
_NAME = (
    r"(?P<label>[^/]+)/SOB/(?P<type>[^/]+)/(?P<slide>[^/]+)/(?P<mag>\d+)X/"
    r"SOB_(?P<letter>[A-Z])_(?P<kind>[A-Z]+)-(?P<year>\d+)-(?P<patient>\w+)-(?P<again>\d+)-\d+\.png"
)
_LIKE = "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-007.png"


def pictures(source: Source) -> list[Picture]:
    """Lists the images of all magnifications, grouped by patient.

    The patient is year and number without the diagnosis in front, because one patient is in the archive under two diagnoses.

    Raises:
        UsageError: `HZ-U73`, no images, another name, an unknown class, or a folder that contradicts the name.
    """
    return each(source, listed(source, "SOB/*/*/*X/*.png"), _picture)


def _picture(name: str) -> Picture:
    at = fields(name, _NAME, like=_LIKE)
    label = translated(at["letter"], _LETTERS, name)
    agree(name, "class", (at["label"], label))
    agree(name, "magnification", (at["mag"], at["again"]))
    agree(name, "slide", (at["slide"], f"SOB_{at['letter']}_{at['kind']}_{at['year']}-{at['patient']}"))
    return Picture(name=name, group=f"{at['year']}-{at['patient']}", label=label)


LAYOUT = Layout(pictures=pictures)
