"""Janowczyk's use case 6: a folder per patient with the folders 0 and 1 of PNG tiles; the Kaggle copy holds all of them twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import agree, by_last_part, fields, listed
from histozoo.prepare.layouts.reading import translated
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_WORDS = {"0": "absent", "1": "present"}
_NAME = r"(?P<patient>\d+)/(?P<folder>[^/]+)/(?P<again>\d+)_idx\d+_x(?P<x>\d+)_y(?P<y>\d+)_class(?P<label>\d)\.png"
_SECOND = "IDC_regular_ps50_idx5"


def pictures(source: Source) -> list[Picture]:
    """Lists the tiles once, grouped by patient.

    Raises:
        UsageError: `HZ-U73`, no tiles, another name, an unknown class, a folder that contradicts the name, or a tile that is there twice
            outside the folder that is known to repeat all of them.
    """
    names = by_last_part(_once(listed(source, "*_idx*_x*_y*_class*.png"))).values()
    return each(source, sorted(names), _picture)


def _once(names: list[str]) -> list[str]:
    """Leaves out the second copy, where all of it lies in a folder beside the first."""
    second = [name for name in names if _SECOND in name.split("/")[:-1]]
    first = [name for name in names if _SECOND not in name.split("/")[:-1]]
    return (
        first
        if first and {n.rpartition("/")[2] for n in first} >= {n.rpartition("/")[2] for n in second}
        else names
    )


def _picture(name: str) -> Picture:
    at = fields(name, _NAME, like="10253/0/10253_idx5_x1351_y1101_class0.png")
    label = translated(at["label"], _WORDS, name)
    agree(name, "class", (at["folder"], at["label"]))
    agree(name, "patient", (at["patient"], at["again"]))
    return Picture(name=name, group=at["patient"], label=label)


LAYOUT = Layout(pictures=pictures)
