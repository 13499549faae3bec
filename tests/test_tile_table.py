"""Folders with a table: pictures, groups, masks and points as they lie, what is refused, and copies that change no byte."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo import tasks
from histozoo.errors import UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import (
    Blocks,
    EachPicture,
    TaskGroups,
    TileTable,
    as_is,
    prepared_as_is,
    split_words,
)
from histozoo.prepare.pictures import Layout, Marks, Picture
from histozoo.prepare.plan import Preparation, Rule
from histozoo.prepare.rules import CentrePixel, Contains, Presence
from histozoo.prepare.sources import Source, open_source
from histozoo.tasks.base import Task, blocks
from tests.fakes.datasets import tile_table as fake

SIZE = (fake.PX, fake.PX)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fake.write(tmp_path / "data")


def opened(where: Path) -> Source:
    return open_source(where, scratch=where.parent / "scratch")


def listed(where: Path, **options: Any) -> list[Picture]:
    return TileTable(folder="cells", **options).pictures(opened(where))


def marked(where: Path, number: int, **options: Any) -> Marks:
    table = TileTable(folder="cells", **options)
    source = opened(where)
    return table.marks(source, table.pictures(source)[number], SIZE)


def refused(where: Path, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        for number in range(len(fake.ROWS)):
            marked(where, number, **options)
    return caught.value


def edit(where: Path, old: str, new: str, table: str = "labels.csv") -> None:
    path = where / "cells" / table
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def task(preparation: Preparation, classes: tuple[str, ...], **options: Any) -> Task:
    words = {"organ": "none", "stain": "drawn", "licence": "CC0-1.0", "source": "drawn", "citation": "none"}
    return Task(
        name="drawn", kind="multiclass", classes=classes, lineage="drawn", folder="drawn",
        preparation=preparation, **words, **options,
    )  # fmt: skip


# -- pictures --------------------------------------------------------------------------------------------------------------------------


def test_pictures_come_in_the_tables_order_with_label_and_group(folder: Path) -> None:
    pictures = listed(folder)
    assert [p.name for p in pictures] == [f"cells/{row[0]}" for row in fake.ROWS]
    assert [p.label for p in pictures] == ["few", "few", "many"]
    assert [p.group for p in pictures] == ["p1", "p3", "p2"]
    assert pictures[0].marks == "cells/masks/d1_001.png"


def test_official_splits_are_taken_where_every_word_says_which_it_is(folder: Path) -> None:
    assert "testA" in (folder / "cells/labels.csv").read_text()
    assert [p.split for p in listed(folder)] == ["train", "test", "test"]
    edit(folder, "testA", "fold2")
    assert {p.split for p in listed(folder)} == {""}


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ({"train", "testA", "testB", ""}, {"train": "train", "testA": "test", "testB": "test"}),
        ({"stage1_train"}, {"stage1_train": "train"}),
        ({"Training", "Validation"}, {"Training": "train", "Validation": "val"}),
        ({"train", "contest"}, {}),
        ({"fold1", "fold2"}, {}),
    ],
)
def test_words_for_splits_are_understood_or_none_is_taken(words: set[str], known: dict[str, str]) -> None:
    assert split_words(words) == known


def test_the_source_may_be_the_folder_itself_or_an_archive_of_it(folder: Path, tmp_path: Path) -> None:
    assert [p.name for p in listed(folder / "cells")] == [row[0] for row in fake.ROWS]
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    assert [p.label for p in listed(archive)] == ["few", "few", "many"]
    areas = marked(archive, 1, instances="cell").areas
    assert areas["cell"].fraction((0, 0, *SIZE)) == 0.25


def test_a_folder_without_the_table_is_refused(folder: Path) -> None:
    (folder / "cells/labels.csv").unlink()
    assert refused(folder).code == "HZ-U73"


def test_e33_a_table_that_differs_from_its_folder_is_refused_with_lines(folder: Path) -> None:
    (folder / "cells/images/d1_002.png").rename(folder / "cells/images/new.png")
    with (folder / "cells/labels.csv").open("a", encoding="utf-8") as file:
        file.write("images/d1_001.png,many,p1,train,\n")
    error = refused(folder)
    assert error.code == "HZ-E33"
    assert "1 listed but missing: images/d1_002.png (line 3)" in error.got
    assert "1 there but not listed: images/new.png" in error.got
    assert "1 listed with conflicting labels: images/d1_001.png (line 2: few, line 5: many)" in error.got


def test_a_name_that_leads_out_is_refused(folder: Path) -> None:
    edit(folder, "images/d1_001.png", "../outside.png")
    assert refused(folder).code == "HZ-U33"


def test_e37_a_blank_group_is_refused_unless_it_is_said_that_none_is_known(folder: Path) -> None:
    edit(folder, ",p3,", ",,")
    error = refused(folder)
    assert (error.code, error.what) == ("HZ-U32", "the group is blank") and error.where.endswith("line 3")
    assert [p.group for p in listed(folder, groups=EachPicture())] == [row[0] for row in fake.ROWS]


def test_groups_are_those_of_the_rule_where_one_is_given(folder: Path) -> None:
    rule = Blocks(pattern=r"(d[12])_(\d+)\.\w+$", size=10)
    assert [p.group for p in listed(folder, groups=rule)] == ["d1-000", "d1-000", "d1-001"]
    plain = blocks(rule.pattern, rule.size)
    assert [rule({"file": row[0]}) for row in fake.ROWS] == [plain({"file": row[0]}) for row in fake.ROWS]


def test_groups_are_those_that_a_task_declares() -> None:
    cells = {"file": "images/OSCC_100x_25.jpg", "group": ""}
    assert TaskGroups(task="oral_oscc")(cells) == "OSCC_100x-002"
    assert TaskGroups(task="pbc_mini")({"file": "images/a.jpg"}) == "images/a.jpg"


def test_a_worker_can_be_handed_every_layout(folder: Path) -> None:
    for groups in (None, EachPicture(), Blocks(pattern=r"(d1)_(\d+)", size=10), TaskGroups(task="oral_oscc")):
        layout = TileTable(folder="cells", points="cell", groups=groups).layout()
        again: Layout = pickle.loads(pickle.dumps(layout))
        tables = [f.__self__ for f in (layout.pictures, again.pictures, again.marks)]  # type: ignore[attr-defined]
        assert tables[0] == tables[1] == tables[2] and tables[1].groups == groups


# -- masks -----------------------------------------------------------------------------------------------------------------------------


def test_every_object_of_a_16_bit_mask_counts_whatever_its_number(folder: Path) -> None:
    shares = [marked(folder, n, instances="cell").areas["cell"].fraction((0, 0, *SIZE)) for n in range(3)]
    assert shares == [0, 0.25, 0.5]


def test_values_of_a_class_mask_become_areas_by_their_words(tmp_path: Path) -> None:
    where = fake.write(tmp_path / "data", masks="classes")
    areas = marked(where, 0, values=((1, "cytoplasm"), (2, "nucleus"))).areas
    assert {word: areas[word].fraction((0, 0, *SIZE)) for word in areas} == {
        "cytoplasm": 0.25,
        "nucleus": 0.25,
    }
    assert (
        areas["nucleus"].holds(0, 0) and areas["cytoplasm"].holds(95, 0) and not areas["nucleus"].holds(0, 95)
    )


def test_a_value_without_a_word_is_refused_by_name(tmp_path: Path) -> None:
    where = fake.write(tmp_path / "data", masks="classes")
    error = refused(where, values=((1, "cytoplasm"),))
    assert error.code == "HZ-U73" and "masks/d1_001.png" in error.where and "2" in error.got


@pytest.mark.parametrize("fault", ["missing", "of another size", "not named", "truncated"])
def test_a_faulty_mask_is_refused_by_name(fault: str, folder: Path) -> None:
    from PIL import Image

    path = folder / "cells/masks/d1_002.png"
    if fault == "missing":
        path.unlink()
    elif fault == "of another size":
        Image.fromarray(fake.instances(1)[:90]).save(path)
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    else:
        edit(folder, "masks/d1_002.png", "")
    error = refused(folder, instances="cell")
    assert error.code == "HZ-U73" and "d1_002.png" in f"{error.where} {error.expected} {error.got}"


# -- points ----------------------------------------------------------------------------------------------------------------------------


def test_points_are_those_of_their_picture_and_a_picture_may_have_none(folder: Path) -> None:
    found = [[(t.x, t.y, t.kind) for t in marked(folder, n, points="cell").things] for n in range(3)]
    assert found == [[(0, 0, "cell"), (47.5, 20, "cell")], [], [(95, 95, "cell")]]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("47.5,20", "96,20", "a point lies outside its picture"),
        ("47.5,20", "-1,20", "a point lies outside its picture"),
        ("47.5,20", "nan,20", "a point lies outside its picture"),
        ("47.5,20", "x,20", "the points cannot be read"),
        ("47.5,20", "47.5", "the points cannot be read"),
        ("file,x,y", "name,x,y", "the points cannot be read"),
        ("images/d1_011.jpg", "images/gone.jpg", "points of pictures that are not listed"),
    ],
)
def test_faulty_points_are_refused(old: str, new: str, what: str, folder: Path) -> None:
    edit(folder, old, new, "points.csv")
    error = refused(folder, points="cell")
    assert (error.code, error.what) == ("HZ-U73", what) and "points.csv" in error.where


def test_missing_points_are_refused_and_unread_ones_are_not_missed(folder: Path) -> None:
    (folder / "cells/points.csv").unlink()
    assert len(listed(folder)) == 3
    assert refused(folder, points="cell").code == "HZ-U73"


# -- through the rules -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("masks", "options", "rule", "expected"),
    [
        # Columns 0, 24 and 48 of boxes of 48: an object of 24 columns half fills the first, one of 48 fills it and half the second.
        (
            "instances",
            {"instances": "cell"},
            Presence(px=48, stride=24, kind="cell", threshold=0.5, present="yes", absent="no"),
            {"yes": 3, "no": 24},
        ),
        (
            "classes",
            {"values": ((1, "rim"), (2, "core"))},
            CentrePixel(px=48, stride=48, kinds={"core": "yes"}, otherwise="no"),
            {"yes": 3, "no": 9},
        ),
        (
            "instances",
            {"points": "cell"},
            Contains(px=48, stride=48, kinds=("cell",), present="yes", absent="no"),
            {"yes": 2, "no": 10},
        ),
    ],
)
def test_masks_and_points_become_classes_with_exact_counts(
    masks: str, options: dict[str, Any], rule: Rule, expected: dict[str, int], tmp_path: Path
) -> None:
    where = fake.write(tmp_path / "data", masks=masks)
    layout = TileTable(folder="cells", **options).layout()
    made = task(Preparation(layout=layout, rule=rule), ("no", "yes"))
    report = prepare(made, where, tmp_path / "out", workers=0)
    assert report.classes == Counter(expected)
    dataset = made.load(tmp_path / "out")
    assert Counter(dataset["label"][:]) == {0: expected["no"], 1: expected["yes"]}
    assert set(dataset["group"][:]) == {"p1", "p3", "p2"}


# -- copies ----------------------------------------------------------------------------------------------------------------------------


def test_as_is_copies_every_tile_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    made = task(as_is("cells"), ("few", "many"))
    prepare(made, folder, tmp_path / "out", workers=0)
    dataset = made.load(tmp_path / "out")
    assert dataset["label"][:] == [0, 0, 1] and dataset["group"][:] == ["p1", "p3", "p2"]
    for row, (name, *_) in zip(dataset["file"][:], fake.ROWS, strict=True):
        assert (tmp_path / "out/drawn" / row).read_bytes() == (folder / "cells" / name).read_bytes()


def test_a_task_that_lies_as_a_table_is_prepared_with_its_own_groups(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = task(
        as_is("cells"), ("few", "many"), group_rule=blocks(r"(d1)_(\d+)", 10), cut_px=48, counts=(2, 1)
    )
    shutil.move(folder / "cells", folder / "drawn")
    monkeypatch.setitem(tasks.TASKS, "drawn", plain)
    report = prepare(prepared_as_is(plain), folder, tmp_path / "out", workers=0)
    assert report.groups == {"d1-000": 2, "d1-001": 1} and report.classes == {"few": 2, "many": 1}


def test_a_broken_tile_stops_the_copy_by_name(folder: Path, tmp_path: Path) -> None:
    path = folder / "cells/images/d1_002.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"HZ-D24 [\s\S]*d1_002\.png"):
        prepare(task(as_is("cells"), ("few", "many")), folder, tmp_path / "out", workers=0)
    assert not (tmp_path / "out/drawn").exists()


def test_the_pixels_of_a_copy_are_those_of_the_picture(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    made = task(as_is("cells"), ("few", "many"))
    prepare(made, folder, tmp_path / "out", workers=0)
    with Image.open(folder / "cells/images/d1_011.jpg") as image:
        assert np.array_equal(np.asarray(made.load(tmp_path / "out")[2]["image"]), np.asarray(image))
