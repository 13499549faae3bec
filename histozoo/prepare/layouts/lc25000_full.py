"""LC25000 as published: `<organ>_image_sets/<class>/<class><number>.jpeg`, 768 x 768 px, and the published list of what belongs together.

    lung_image_sets/{lung_aca,lung_n,lung_scc}/lungaca1.jpeg ...      5,000 each
    colon_image_sets/{colon_aca,colon_n}/colonca1.jpeg ...            5,000 each
    lc25000_image_groups.csv                                          from the repository GeorgeBatch/LC25000-clean, folder kaggle

The 25,000 images are rotations (up to 25 degrees) and flips of 1,250 photographs. The duplicate finder of this package sees flips and
quarter turns, not 25 degrees, so the groups are taken from the list of Batchkala et al. (columns filename, label, group_id; 25,000 rows,
1,246 groups over both organs), which must lie beside the images. Folder names as in many public readers; a mirror that renames them does
not match.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import some, table, translated
from histozoo.prepare.pictures import Layout, Picture
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

GROUPS = "lc25000_image_groups.csv"
LUNG = {"lung_aca": "adenocarcinoma", "lung_n": "benign", "lung_scc": "squamous_cell_carcinoma"}
COLON = {"colon_aca": "adenocarcinoma", "colon_n": "benign"}
"""Class of each folder."""


def lung_pictures(source: Source) -> list[Picture]:
    """Lists the lung images.

    Raises:
        UsageError: `HZ-U73`, no images or no list of groups, a folder that is no class, an image that the list lacks.
    """
    return _pictures(source, "lung_image_sets", LUNG)


def colon_pictures(source: Source) -> list[Picture]:
    """Lists the colon images.

    Raises:
        UsageError: `HZ-U73`, no images or no list of groups, a folder that is no class, an image that the list lacks.
    """
    return _pictures(source, "colon_image_sets", COLON)


def _pictures(source: Source, folder: str, words: Mapping[str, str]) -> list[Picture]:
    listed = table(source, source.one(GROUPS), ("filename", "label", "group_id"))
    groups = {f"{row['label']}/{row['filename']}": row["group_id"] for row in listed}
    names = some(source.matching(f"{folder}/*/*.jpeg"), f"{folder}/<class>/*.jpeg", source.where)
    return each(source, names, lambda name: _picture(name, words, groups))


def _picture(name: str, words: Mapping[str, str], groups: Mapping[str, str]) -> Picture:
    path = PurePosixPath(name)
    label = translated(path.parent.name, words, name)
    photograph = groups.get(f"{path.parent.name}/{path.name}")
    if photograph is None:
        raise malformed(
            "an image is not in the list of groups", name, expected=f"a row of {GROUPS}", got="none"
        )
    return Picture(name=name, group=f"photograph-{photograph}", label=label)


LUNG_LAYOUT = Layout(pictures=lung_pictures)
COLON_LAYOUT = Layout(pictures=colon_pictures)
