"""The datasets of the multi-task paper: what their layouts list, from the folder and from archives, and what they refuse."""

from __future__ import annotations

import csv
import dataclasses
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.sources import open_source
from histozoo.tasks import lymphoma_iicbu
from tests.fakes.datasets.paper import CASES, listed

EVERY = pytest.mark.parametrize("name", CASES)
FULL = {"janowczyk5_mitosis": (2000, 2000), "tupac16_mitosis": (5657, 5657)}
"""Size of the pictures where the fake marks points of full-size ones on small ones."""


@EVERY
def test_the_layout_lists_every_picture_with_its_group_label_and_split(name: str, tmp_path: Path) -> None:
    facts = CASES[name].write(tmp_path / "data")
    assert listed(name, tmp_path / "data", tmp_path) == facts
    assert len(facts) >= 2


@EVERY
def test_folders_in_front_and_an_archive_around_change_nothing_but_the_front(
    name: str, tmp_path: Path
) -> None:
    facts = CASES[name].write(tmp_path / "data/download")
    with tarfile.open(tmp_path / "all.tgz", "w:gz") as archive:
        archive.add(tmp_path / "data", arcname="elsewhere")
    found = listed(name, tmp_path / "all.tgz", tmp_path)
    assert {path.partition("/download/")[2]: fact for path, fact in found.items()} == facts


@EVERY
def test_an_empty_folder_is_refused_and_the_layout_can_be_handed_to_workers(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/README").write_text("nothing here")
    with pytest.raises(UsageError, match="HZ-U73"):
        listed(name, tmp_path / "data", tmp_path)
    assert pickle.loads(pickle.dumps(CASES[name].layout)) == CASES[name].layout


@EVERY
def test_the_task_cuts_every_picture_of_the_fake_and_names_only_its_own_classes(
    name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    assert case.plan.layout == case.layout
    case.write(tmp_path / "data", **case.arguments)
    source = open_source(tmp_path / "data", scratch=tmp_path / "scratch")
    labels = set()
    for picture in case.layout.pictures(source):
        canvas = case.layout.open(source, picture)
        size = FULL.get(name, canvas.size)
        cuts = case.plan.rule.cuts(size, case.layout.marks(source, picture, size), np.random.default_rng(0))
        assert cuts and all(0 <= b[0] < b[2] <= size[0] and 0 <= b[1] < b[3] <= size[1] for b, _ in cuts)
        labels |= {cut.label for cut in cuts}
        left, top, right, bottom = cuts[-1].box
        if name not in FULL:
            assert canvas.crop(cuts[-1].box).size == (right - left, bottom - top)
    assert labels == set(case.task.classes)


@pytest.mark.parametrize("name", [name for name in CASES if name not in FULL])
def test_prepare_makes_a_table_of_the_fake_with_the_groups_of_the_layout(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    facts = case.write(tmp_path / "data", **case.arguments)
    # A fake has few pictures, so the published numbers are not asked for.
    task = dataclasses.replace(
        case.task,
        counts=None,
        total=None,
        split_counts={},
        preparation=dataclasses.replace(case.plan, pictures=None),
    )
    report = prepare(task, tmp_path / "data", tmp_path / "out", workers=0)
    with (tmp_path / "out" / name / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report.n_tiles and {row["source"] for row in rows} == set(facts)
    assert {(row["source"], row["group"], row["split"]) for row in rows} == {
        (source, fact.group, fact.split) for source, fact in facts.items()
    }
    wanted = case.plan.resize_px
    with Image.open(tmp_path / "out" / name / rows[0]["file"]) as tile:
        assert tile.size == ((wanted, wanted) if wanted else (int(rows[0]["width"]), int(rows[0]["height"])))


@EVERY
def test_the_declaration_is_consistent(name: str) -> None:
    task = CASES[name].task
    assert task.name == task.folder == name and CASES[name].plan.parts
    assert len(set(task.classes)) == len(task.classes) and task.traps and task.notes
    if task.counts is not None:
        assert len(task.counts) == len(task.classes) and sum(task.counts) == task.total
    if task.split_counts:
        assert sum(task.split_counts.values()) == task.total


def test_sets_that_share_pictures_share_a_lineage() -> None:
    lineage = {name: case.task.lineage for name, case in CASES.items()}
    assert lineage["janowczyk5_mitosis"] == lineage["tupac16_mitosis"] != lineage["mitos_atypia14"]
    assert len({lineage[f"janowczyk{n}"] for n in ("1_nuclei", "2_epithelium", "6_idc")}) == 1
    assert lineage["janowczyk7_lymphoma"] == lymphoma_iicbu.TASK.lineage
    assert lineage["camelyon16"] == "camelyon"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("umcm_kather2016", "Kather_texture_2016_image_tiles_5000/08_EMPTY", "09_OTHER"),
        (
            "breakhis",
            "BreaKHis_v1/histology_slides/breast/benign/SOB/adenosis",
            "breast/malignant/SOB/adenosis",
        ),
        ("bach_micro", "ICIAR2018_BACH_Challenge/Photos/Benign", "ICIAR2018_BACH_Challenge/Photos/Other"),
        ("janowczyk7_lymphoma", "MCL", "DLBCL"),
        ("janowczyk6_idc", "8863/0", "8863/1"),
        ("janowczyk6_idc", "8863", "8864"),
        ("bone_marrow_kainz", "7", "8"),
        ("stroma_lbp", "1_60414_Oncotex_str_valid.png", "2_60414_Oncotex_str_valid.png"),
        ("stroma_lbp", "1_60414_Oncotex_str_valid.png", "image.png"),
    ],
)
def test_an_unknown_class_or_name_is_refused_and_named(name: str, old: str, new: str, tmp_path: Path) -> None:
    CASES[name].write(tmp_path / "data")
    (tmp_path / "data" / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(tmp_path / "data" / old, tmp_path / "data" / new)
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed(name, tmp_path / "data", tmp_path)
    assert new in str(caught.value.where)


def test_one_patient_under_two_diagnoses_is_one_group(tmp_path: Path) -> None:
    CASES["breakhis"].write(tmp_path / "data")
    found = listed("breakhis", tmp_path / "data", tmp_path)
    groups = {fact.group for path, fact in found.items() if "14-13412" in path}
    assert groups == {"14-13412"} and len({fact.group for fact in found.values()}) == 3


def test_the_kaggle_copy_is_counted_once_and_a_tile_that_is_twice_elsewhere_is_refused(
    tmp_path: Path,
) -> None:
    facts = CASES["janowczyk6_idc"].write(tmp_path / "data", twice=True)
    assert listed("janowczyk6_idc", tmp_path / "data", tmp_path) == facts
    tile = next(iter(facts))
    shutil.copytree((tmp_path / "data" / tile).parents[1], tmp_path / "data/copy/10253")
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed("janowczyk6_idc", tmp_path / "data", tmp_path)
    assert "several times" in str(caught.value)


def test_the_published_runs_of_bach_are_268_and_132_images_and_none_is_torn(tmp_path: Path) -> None:
    for folder, letters in (("Benign", "b"), ("InSitu", "is"), ("Invasive", "iv"), ("Normal", "n")):
        (tmp_path / "data/Photos" / folder).mkdir(parents=True)
        for number in range(1, 101):
            (tmp_path / f"data/Photos/{folder}/{letters}{number:03d}.tif").touch()
    found = listed("bach_micro", tmp_path / "data", tmp_path)
    splits = [fact.split for fact in found.values()]
    assert (splits.count("train"), splits.count("val")) == (268, 132) and len(splits) == 400
    assert CASES["bach_micro"].task.split_counts == {"train": 12 * 268, "val": 12 * 132}
    sides = {(fact.group, fact.split) for fact in found.values()}
    assert len({group for group, _ in sides}) == len(sides)
    for split in ("train", "val"):
        assert {fact.label for fact in found.values() if fact.split == split} == set(
            CASES["bach_micro"].task.classes
        )
