"""The sets with masks, outlines, points or maps of nuclei: pictures, groups, marks and the tiles of their rules. Tiny copies only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import UsageError
from histozoo.tasks import (
    consep_nuclei,
    cpm17_nuclei,
    crag_glands,
    glas_glands,
    monuseg_nuclei,
    tnbc_nuclei,
)
from tests.fakes.datasets import consep as fake_consep
from tests.fakes.datasets import cpm17 as fake_cpm17
from tests.fakes.datasets import crag as fake_crag
from tests.fakes.datasets import glas as fake_glas
from tests.fakes.datasets import monuseg as fake_monuseg
from tests.fakes.datasets import tnbc as fake_tnbc
from tests.fakes.datasets.opened import cuts, labels, listed, marked, opened, plan
from tests.fakes.datasets.pieces import instances, mask, mat_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


# -- GlaS --


def test_glas_follows_its_table_and_cuts_tiles_with_more_than_a_tenth_of_gland(folder: Path) -> None:
    fake_glas.write(folder)
    layout, rule, source = plan(glas_glands.TASK).layout, plan(glas_glands.TASK).rule, opened(folder)
    found = listed(layout, source)
    assert [(n, p.group, p.label, p.split) for n, p in found.items()] == [
        ("testA_1.bmp", "patient-4", "benign", "test"),
        ("testB_1.bmp", "patient-5", "malignant", "test"),
        ("train_1.bmp", "patient-4", "benign", "train"),
        ("train_2.bmp", "patient-16", "malignant", "train"),
    ]
    gland = marked(layout, source, found["train_1.bmp"]).areas["gland"]
    assert gland.fraction((0, 0, 128, 128)) == 13 / 128 and gland.holds(149, 9) and not gland.holds(150, 9)
    tiles = {name: labels(cuts(layout, rule, source, p)) for name, p in found.items()}
    assert tiles == {
        "testA_1.bmp": ["gland", "no_gland"],
        "testB_1.bmp": ["no_gland", "no_gland"],  # 12 of 128 rows are 9.4 %
        "train_1.bmp": ["gland", "no_gland"],  # 13 of 128 rows are 10.2 %
        "train_2.bmp": ["no_gland", "no_gland"],
    }


def test_glas_declares_the_tiles_of_its_sizes() -> None:
    rule, glas = plan(glas_glands.TASK).rule, glas_glands.TASK
    blank = {size: len(_cut_blank(rule, size, "gland")) for size in ((775, 522), (589, 453), (567, 430))}
    assert blank == {(775, 522): 24, (589, 453): 12, (567, 430): 12}
    assert sum(glas.counts or ()) == 151 * blank[775, 522] + 14 * blank[567, 430]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("mask", "a picture's annotation is missing"),
        ("picture", "a picture's annotation is missing"),
        ("grade", "a class is not one of those published"),
        ("row", "a picture is not in the table"),
    ],
)
def test_glas_names_what_is_not_as_published(folder: Path, change: str, what: str) -> None:
    fake_glas.write(folder)
    root = next(folder.iterdir())
    if change in ("mask", "picture"):
        (root / ("train_1_anno.bmp" if change == "mask" else "train_1.bmp")).unlink()
    else:
        text = (root / "Grade.csv").read_text()
        wrong = text.replace("train_1,4, benign", "train_1,4, dysplastic")
        rows = [line for line in text.splitlines() if not line.startswith("train_1,")]
        (root / "Grade.csv").write_text(wrong if change == "grade" else "\n".join(rows))
    with pytest.raises(UsageError, match=f"HZ-U73 {what}") as caught:
        listed(plan(glas_glands.TASK).layout, opened(folder))
    assert "train_1" in str(caught.value)


def test_a_mask_of_another_size_names_the_mask(folder: Path) -> None:
    fake_glas.write(folder)
    layout, source = plan(glas_glands.TASK).layout, opened(folder)
    found = listed(layout, source)["testA_1.bmp"]
    mask(folder / found.marks, instances(279, 150, []))
    with pytest.raises(UsageError, match="HZ-U73 a mask") as caught:
        marked(layout, source, found)
    assert "testA_1_anno.bmp" in caught.value.where and "279 x 150" in caught.value.got


# -- CRAG --


@pytest.mark.parametrize("masks", ["Annotation", "Annotations"])
def test_crag_reads_masks_under_both_names_and_passes_over_one_without_a_picture(
    folder: Path, masks: str
) -> None:
    fake_crag.write(folder, masks=masks)
    layout, rule, source = plan(crag_glands.TASK).layout, plan(crag_glands.TASK).rule, opened(folder)
    found = listed(layout, source)
    assert [(n, p.group, p.split) for n, p in found.items()] == [
        ("train_1.png", "train_1", "train"),
        ("train_2.png", "train_2", "train"),
        ("test_1.png", "test_1", "test"),
    ]
    assert labels(cuts(layout, rule, source, found["train_1.png"])) == ["gland", *["no_gland"] * 3]


def test_crag_names_a_picture_without_a_mask(folder: Path) -> None:
    fake_crag.write(folder)
    (folder / "CRAG/train/Annotation/train_2.png").unlink()
    with pytest.raises(UsageError, match="HZ-U73 a picture's annotation is missing") as caught:
        listed(plan(crag_glands.TASK).layout, opened(folder))
    assert caught.value.where == "CRAG/train/Images/train_2.png"


# -- MoNuSeg --


def test_monuseg_fills_its_outlines_and_groups_patients(folder: Path) -> None:
    fake_monuseg.write(folder)
    layout, rule, source = plan(monuseg_nuclei.TASK).layout, plan(monuseg_nuclei.TASK).rule, opened(folder)
    found = listed(layout, source)
    assert [(p.group, p.split) for p in found.values()] == [
        ("TCGA-18-5592", "train"),
        ("TCGA-G9-6336", "train"),
        ("TCGA-2Z-A9J9", "test"),
    ]
    first = found["TCGA-18-5592-01Z-00-DX1.tif"]
    nuclei = marked(layout, source, first).areas["nucleus"]
    assert nuclei.fraction((0, 0, 128, 128)) == (32 * 32 + 4 * 4) / 128**2
    assert labels(cuts(layout, rule, source, first)) == ["nuclei", "no_nuclei", "no_nuclei", "no_nuclei"]
    assert labels(cuts(layout, rule, source, found["TCGA-2Z-A9J9-01A-01-TS1.tif"])) == [
        *["no_nuclei"] * 3,
        "nuclei",
    ]
    assert set(labels(cuts(layout, rule, source, found["TCGA-G9-6336-01Z-00-DX1.tif"]))) == {"no_nuclei"}


def test_monuseg_names_a_missing_annotation_a_broken_one_and_a_missing_part(folder: Path) -> None:
    fake_monuseg.write(folder)
    layout = plan(monuseg_nuclei.TASK).layout
    xml = folder / "MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.xml"
    xml.write_text(xml.read_text()[:-20])
    source = opened(folder)
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        marked(layout, source, listed(layout, source)["TCGA-2Z-A9J9-01A-01-TS1.tif"])
    assert xml.name in caught.value.where
    xml.unlink()
    with pytest.raises(UsageError, match="HZ-U73 a picture's annotation is missing") as caught:
        listed(layout, opened(folder))
    assert caught.value.expected == "MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.xml"
    shutil.rmtree(folder / "MoNuSegTestData")
    with pytest.raises(UsageError, match="HZ-U73 no picture of the dataset is there") as caught:
        listed(layout, opened(folder))
    assert caught.value.expected == "MoNuSegTestData/TCGA-*.tif"


# -- CPM17, TNBC, CoNSeP --


def test_cpm17_reads_instance_maps_and_tells_equal_names_of_two_splits_apart(folder: Path) -> None:
    fake_cpm17.write(folder)
    layout, rule, source = plan(cpm17_nuclei.TASK).layout, plan(cpm17_nuclei.TASK).rule, opened(folder)
    found = [*layout.pictures(source)]
    assert [p.group for p in found] == ["train-image_00", "train-image_01", "test-image_00"]
    assert [len(cuts(layout, rule, source, p)) for p in found] == [4, 4, 6]
    assert labels(cuts(layout, rule, source, found[2])) == ["nuclei", *["no_nuclei"] * 5]
    assert marked(layout, source, found[1]).areas["nucleus"].fraction((0, 0, 150, 130)) == 32 * 16 / (
        150 * 130
    )


def test_cpm17_refuses_a_map_that_is_turned_or_not_there(folder: Path) -> None:
    fake_cpm17.write(folder)
    layout, source = plan(cpm17_nuclei.TASK).layout, opened(folder)
    turned, other = [*layout.pictures(source)][1:]
    mat_file(folder / turned.marks, inst_map=np.zeros((150, 130)))
    with pytest.raises(UsageError, match="HZ-U73 a mask is of another size than its picture") as caught:
        marked(layout, source, turned)
    assert "image_01.mat" in caught.value.where and caught.value.expected == "150 x 130 px"
    mat_file(folder / other.marks, instances=np.zeros((192, 128)))
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        marked(layout, source, other)
    assert "image_00.mat" in str(caught.value) and "inst_map" in str(caught.value)


def test_tnbc_groups_are_patients_and_the_alpha_channel_says_nothing(folder: Path) -> None:
    fake_tnbc.write(folder)
    layout, rule, source = plan(tnbc_nuclei.TASK).layout, plan(tnbc_nuclei.TASK).rule, opened(folder)
    found = listed(layout, source)
    assert [p.group for p in found.values()] == ["Slide_01", "Slide_01", "Slide_02", "Slide_11"]
    assert {p.split for p in found.values()} == {""}
    assert labels(cuts(layout, rule, source, found["02_1.png"])) == [*["no_nuclei"] * 3, "nuclei"]
    (folder / "TNBC_NucleiSegmentation/GT_11/11_3.png").unlink()
    with pytest.raises(UsageError, match="HZ-U73 a picture's annotation is missing") as caught:
        listed(layout, opened(folder))
    assert caught.value.expected == "TNBC_NucleiSegmentation/GT_11/11_3.png"


def test_consep_reads_nuclei_and_their_types(folder: Path) -> None:
    fake_consep.write(folder)
    layout, rule, source = plan(consep_nuclei.TASK).layout, plan(consep_nuclei.TASK).rule, opened(folder)
    found = listed(layout, source)
    assert {n: p.split for n, p in found.items()} == {
        "train_1.png": "train",
        "train_2.png": "train",
        "test_1.png": "test",
    }
    areas = marked(layout, source, found["test_1.png"]).areas
    assert areas["nucleus"].fraction((0, 0, 128, 128)) == (16 * 16 + 10 * 10) / 128**2
    assert areas["inflammatory"].holds(15, 15) and not areas["inflammatory"].holds(100, 0)
    assert areas["malignant_epithelial"].holds(109, 9) and areas["muscle"].fraction((0, 0, 128, 128)) == 0
    # 256 of 4,096 px are 6.3 %, 100 of them are 2.4 %.
    assert labels(cuts(layout, rule, source, found["test_1.png"])) == ["nuclei", *["no_nuclei"] * 3]


@pytest.mark.parametrize(
    ("value", "what"), [(8.0, "a type is not one"), (1.5, "a map does not hold whole numbers")]
)
def test_consep_refuses_an_eighth_type_and_a_half(folder: Path, value: float, what: str) -> None:
    fake_consep.write(folder)
    layout, source = plan(consep_nuclei.TASK).layout, opened(folder)
    found = listed(layout, source)["train_1.png"]
    types_HW = np.full((fake_consep.PX, fake_consep.PX), value)
    mat_file(folder / found.marks, inst_map=np.ones((fake_consep.PX, fake_consep.PX)), type_map=types_HW)
    with pytest.raises(UsageError, match=f"HZ-U73 {what}") as caught:
        marked(layout, source, found)
    assert "train_1.mat" in caught.value.where


@pytest.mark.parametrize(
    ("task", "size", "n"), [(consep_nuclei.TASK, 1000, 225), (tnbc_nuclei.TASK, 512, 64)]
)
def test_declared_totals_are_the_pictures_times_the_tiles_of_their_size(
    task: object, size: int, n: int
) -> None:
    assert isinstance(task, type(consep_nuclei.TASK))
    assert len(_cut_blank(plan(task).rule, (size, size), "nucleus")) == n
    assert task.total == plan(task).pictures * n


def _cut_blank(rule: object, size: tuple[int, int], word: str) -> list[object]:
    from histozoo.prepare.areas import MaskArea
    from histozoo.prepare.pictures import Marks
    from histozoo.prepare.rules import Presence

    assert isinstance(rule, Presence)
    blank = Marks(areas={word: MaskArea(np.asarray(Image.new("L", size)) > 0)})
    return [*rule.cuts(size, blank, np.random.default_rng(0))]
