"""TUPAC16, auxiliary mitosis set: three archives of images `01/01.tif` and one of CSV files `mitoses_ground_truth/01/01.csv`.

A row of a CSV file is row and column of one mitosis, in that order. An image without a CSV file has no mitosis. The archive of the test
images (`mitoses-test-image-data`) numbers its patients from 01 again and has no ground truth; it is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.parts import fields, listed
from histozoo.prepare.pictures import Layout, Marks, Picture, Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_TEST = "mitoses-test-image-data"


def pictures(source: Source) -> list[Picture]:
    """Lists the images of the training set, grouped by patient.

    Raises:
        UsageError: `HZ-U73`, no images, no ground truth at all, an image twice, or a CSV file whose image is missing.
    """
    truths = {_place(name): name for name in listed(source, "mitoses_ground_truth/*/*.csv")}
    images: dict[tuple[str, str], str] = {}
    for name in listed(source, "*/*.tif"):
        if _TEST in name:
            continue
        if images.setdefault(_place(name), name) != name:
            raise malformed(
                "a file is there several times", name, expected="once", got=f"also {images[_place(name)]}"
            )

    def picture(place: tuple[str, str]) -> Picture:
        if place not in images:
            wanted = f"{'/'.join(place)}.tif"
            raise malformed("a ground truth has no image", truths[place], expected=wanted, got="no such file")
        return Picture(name=images[place], group=f"patient-{place[0]}", marks=truths.get(place, ""))

    places = [*images, *sorted(truths.keys() - images.keys())]
    return each(source, places, picture, name=lambda place: images.get(place) or truths[place])


def _place(name: str) -> tuple[str, str]:
    at = fields(name, r"(?P<patient>\d\d)/(?P<field>\d\d)\.(?:tif|csv)", like="01/01.tif")
    return at["patient"], at["field"]


def marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the mitoses; none where the picture has no CSV file.

    Raises:
        UsageError: `HZ-U73`, a line is not two numbers.
    """
    from histozoo.prepare.annotations import points_csv

    if not picture.marks:
        return Marks()
    columns = ("row", "column")
    return Marks(
        things=points_csv(source, picture.marks, kind="mitosis", x="column", y="row", columns=columns)
    )


LAYOUT = Layout(pictures=pictures, marks=marks)
