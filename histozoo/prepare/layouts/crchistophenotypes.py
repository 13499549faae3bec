"""CRCHistoPhenotypes: a folder per image with four `.mat` files of nuclear centres, one per class.

`Classification/img1/` holds `img1.bmp`, `img1_epithelial.mat`, `img1_fibroblast.mat`, `img1_inflammatory.mat` and `img1_others.mat`; each
holds the variable `detection`, one row of x and y per nucleus, empty where there is none. The folder `Detection` beside it holds the same
images with all centres and no class, and is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import agree, fields, listed
from histozoo.prepare.layouts.reading import known, partner
from histozoo.prepare.pictures import Layout, Marks, Picture, Size, Thing
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

KINDS = ("epithelial", "fibroblast", "inflammatory", "others")
"""Kinds of nuclei, as the files are called."""


def pictures(source: Source) -> list[Picture]:
    """Lists the images, each a group of its own because nothing tells patients apart.

    Raises:
        UsageError: `HZ-U73`, no images, a missing file of centres, or one of an unknown class.
    """
    names = frozenset(source.names())
    images = listed(source, "Classification/*/*.bmp")
    for name in source.matching("Classification/*/*.mat"):
        known(name.rpartition("_")[2].removesuffix(".mat"), (*KINDS, "detection"), name)
    return each(source, images, lambda name: _picture(name, names))


def _picture(name: str, names: frozenset[str]) -> Picture:
    at = fields(name, r"(?P<folder>[^/]+)/(?P<image>img\d+)\.bmp", like="Classification/img1/img1.bmp")
    agree(name, "image", (at["folder"], at["image"]))
    for kind in KINDS:
        partner(names, _centres(name, kind), name)
    return Picture(name=name, group=at["image"])


def _centres(name: str, kind: str) -> str:
    return f"{name.removesuffix('.bmp')}_{kind}.mat"


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the nuclei of all four classes.

    Raises:
        UsageError: `HZ-U73`, a file has no centres, or other than two numbers each.
    """
    things = [thing for kind in KINDS for thing in _things(source, _centres(picture.name, kind), kind)]
    return Marks(things=tuple(things))


def _things(source: Source, name: str, kind: str) -> list[Thing]:
    from histozoo.prepare.annotations import mat

    points_N2 = mat(source, name, keys=("detection",))["detection"]
    if points_N2.size and (points_N2.ndim != 2 or points_N2.shape[1] != 2):
        expected, got = "one row of x and y for each nucleus", f"shape {points_N2.shape}"
        raise malformed("a file has no centres", name, expected=expected, got=got)
    return [Thing(float(x), float(y), kind) for x, y in points_N2.reshape(-1, 2)]


LAYOUT = Layout(pictures=pictures, marks=marks)
