"""One archive, however it lies: as it was fetched, in a folder, unpacked, unpacked below another name. The tiles are the same bytes."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from histozoo.prepare.engine import prepare
from histozoo.prepare.pictures import Marks, Picture, Size, Thing
from histozoo.prepare.rules import Around
from histozoo.prepare.sources import Source
from tests.fakes import layouts
from tests.fakes.layouts import layout, plan, task, tree

RULE = Around(px=24, shifts=5, kinds={"mitosis": "tumour"}, nothing="stroma", stride=24)


def one_thing(source: Source, picture: Picture, size: Size) -> Marks:
    """Marks a mitosis in the middle."""
    return Marks(things=(Thing(size[0] / 2, size[1] / 2, "mitosis"),))


def packed(folder: Path, archive: Path, top: str) -> Path:
    """Zips what lies in `folder`, below the folder `top` of the archive, and returns the archive."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return archive


def lying(form: str, tmp_path: Path) -> Path:
    """The same sixteen pictures in one of the forms in which users have them."""
    folder = layouts.write_pictures(tmp_path / "a folder", 8)
    if form == "zip":
        return packed(folder, tmp_path / "set.zip", "")
    if form == "zip with a folder":
        return packed(folder, tmp_path / "set.zip", "SET_v2/data/")
    if form == "folder with the zip":
        return packed(folder, tmp_path / "fetched/set.zip", "").parent
    if form == "folder with a zip with a folder":
        return packed(folder, tmp_path / "fetched/other.zip", "SET_v2/").parent
    if form == "unpacked below two folders":
        shutil.copytree(folder, tmp_path / "moved/x/y")
        return tmp_path / "moved"
    return folder


FORMS = (
    "zip",
    "zip with a folder",
    "folder with the zip",
    "folder with a zip with a folder",
    "unpacked below two folders",
)


def tiles(source: Path, out: Path) -> dict[str, bytes]:
    """Prepares and returns the tiles' bytes by name."""
    prepare(task(plan(layout(one_thing), RULE, cap=9)), source, out, workers=0)
    return {name: data for name, data in tree(out / "synthetic").items() if name.endswith(".png")}


def rows(out: Path) -> list[list[str]]:
    """Returns the table without the picture's name, whose leading folders are those of the form."""
    lines = (out / "synthetic/labels.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    return [[*row[:4], row[4].rpartition("pictures/")[2], *row[5:]] for row in cells]


@pytest.mark.parametrize("form", FORMS)
def test_a_rule_with_chance_gives_the_same_bytes_however_the_archive_lies(form: str, tmp_path: Path) -> None:
    unpacked = tiles(lying("unpacked", tmp_path), tmp_path / "first")
    assert len(unpacked) > 16 * 5, "five tiles around each thing, and some of the grid"
    shutil.rmtree(tmp_path / "a folder")
    found = tiles(lying(form, tmp_path), tmp_path / "second")
    assert found == unpacked
    assert rows(tmp_path / "second") == rows(tmp_path / "first")


def test_the_shifts_of_that_rule_do_depend_on_chance(tmp_path: Path) -> None:
    source = lying("unpacked", tmp_path)
    first = tiles(source, tmp_path / "first")
    other = plan(layout(one_thing), RULE, cap=9, seed=1)
    prepare(task(other), source, tmp_path / "other", workers=0)
    assert tree(tmp_path / "other/synthetic").keys() != {*first, "labels.csv", "prepared.json"}
