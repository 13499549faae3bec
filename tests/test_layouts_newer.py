"""The newer sets whose tiles or regions are labelled already: what their layouts list, and what they refuse. Tiny copies only."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.prepare.layouts import lc25000_full as lc25000
from histozoo.prepare.pictures import Picture
from histozoo.tasks import bracs, mhist, nct_crc_he, pcam, sicapv2, tcga_ut, wilds_camelyon17
from histozoo.tasks.lc25000_full_colon import TASK as LC_COLON
from histozoo.tasks.lc25000_full_lung import TASK as LC_LUNG
from tests.fakes.datasets import (
    bracs as fake_bracs,
)
from tests.fakes.datasets import (
    lc25000_full as fake_lc25000,
)
from tests.fakes.datasets import (
    mhist as fake_mhist,
)
from tests.fakes.datasets import (
    nct_crc_he as fake_nct,
)
from tests.fakes.datasets import (
    pcam as fake_pcam,
)
from tests.fakes.datasets import (
    sicapv2 as fake_sicapv2,
)
from tests.fakes.datasets import (
    tcga_ut as fake_tcga_ut,
)
from tests.fakes.datasets import (
    wilds_camelyon17 as fake_wilds,
)
from tests.fakes.datasets.opened import cuts, listed, opened, plan
from tests.fakes.datasets.pieces import csv_file, picture, pixels, workbook


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def splits(pictures: dict[str, Picture]) -> Counter[str]:
    return Counter(picture.split for picture in pictures.values())


# -- NCT-CRC-HE-100K and CRC-VAL-HE-7K --


def test_nct_crc_takes_both_sets_and_not_the_unnormalised_one(folder: Path) -> None:
    expected = fake_nct.write(folder)
    found = listed(plan(nct_crc_he.TASK).layout, opened(folder))
    assert splits(found) == expected and not [p for p in found.values() if "NONORM" in p.name]
    tile = found["TUM-TCGA-BBBB.tif"]
    assert (tile.label, tile.split, tile.group) == ("TUM", "test", "TUM-TCGA-BBBB")
    assert cuts(plan(nct_crc_he.TASK).layout, plan(nct_crc_he.TASK).rule, opened(folder), tile) == [
        ((0, 0, 32, 32), "TUM")
    ]


def test_nct_crc_names_a_folder_that_is_no_class_and_a_set_that_is_missing(folder: Path) -> None:
    fake_nct.write(folder)
    picture(folder / "CRC-VAL-HE-7K/TUMOR/TUMOR-A.tif", 0, 32, 32)
    with pytest.raises(UsageError, match="HZ-U73 a class is not one of those published") as caught:
        listed(plan(nct_crc_he.TASK).layout, opened(folder))
    assert "CRC-VAL-HE-7K/TUMOR/TUMOR-A.tif" in caught.value.where and caught.value.got == "'TUMOR'"
    shutil.rmtree(folder / "CRC-VAL-HE-7K")
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed(plan(nct_crc_he.TASK).layout, opened(folder))
    assert caught.value.expected == "CRC-VAL-HE-7K/<class>/*.tif"


def test_nct_crc_is_read_from_the_two_zips_that_zenodo_gives(folder: Path, tmp_path: Path) -> None:
    expected = fake_nct.write(folder)
    (tmp_path / "zips").mkdir()
    for name in ("NCT-CRC-HE-100K", "CRC-VAL-HE-7K"):
        with zipfile.ZipFile(tmp_path / f"zips/{name}.zip", "w") as archive:
            for path in sorted((folder / name).rglob("*.tif")):
                archive.write(path, path.relative_to(folder))
    found = listed(plan(nct_crc_he.TASK).layout, opened(tmp_path / "zips"))
    assert splits(found) == expected


# -- PCam --


def test_pcam_rows_have_the_label_of_their_row_and_the_slide_of_their_table(folder: Path) -> None:
    written = fake_pcam.write(folder)
    layout, source = plan(pcam.TASK).layout, opened(folder)
    found = listed(layout, source)
    assert splits(found) == {"train": 3, "val": 3, "test": 3}
    for word, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        rows = [p for p in found.values() if p.split == split]
        assert [pcam.TASK.classes.index(p.label) for p in rows] == written[word]
        assert [p.group for p in rows] == [f"camelyon16_{word}_{i}" for i in (0, 0, 1)]
    last = found["camelyonpatch_level_2_split_test_x.h5#2"]
    assert np.array_equal(np.asarray(layout.open(source, last).crop((0, 0, 96, 96))), pixels(2, 96, 96))


def test_pcam_refuses_a_table_that_is_shorter_than_its_labels_or_missing(folder: Path) -> None:
    fake_pcam.write(folder)
    meta = folder / "camelyonpatch_level_2_split_valid_meta.csv"
    meta.write_text("\n".join(meta.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UsageError, match="HZ-U73 labels and table differ in length") as caught:
        listed(plan(pcam.TASK).layout, opened(folder))
    assert meta.name in caught.value.where and (caught.value.expected, caught.value.got) == ("3 rows", "2")
    meta.unlink()
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed(plan(pcam.TASK).layout, opened(folder))
    assert meta.name in caught.value.expected


# -- MHIST --


def test_mhist_follows_its_table(folder: Path) -> None:
    rows = fake_mhist.write(folder)
    found = listed(plan(mhist.TASK).layout, opened(folder))
    assert [(n, p.label, p.split) for n, p in found.items()] == [
        (name, word, part) for name, word, _, part in rows
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (("MHIST_aae.png", "TA", 4, "test"), "a class is not one of those published"),
        (("MHIST_aae.png", "HP", 4, "validation"), "a class is not one of those published"),
        (("MHIST_zzz.png", "HP", 4, "test"), "table and images differ"),
    ],
)
def test_mhist_refuses_another_class_partition_or_image(
    folder: Path, row: tuple[str, ...], what: str
) -> None:
    fake_mhist.write(folder)
    csv_file(folder / "annotations.csv", [fake_mhist.HEADER, *fake_mhist.ROWS[:3], row])
    with pytest.raises(UsageError, match=f"HZ-U73 {what}") as caught:
        listed(plan(mhist.TASK).layout, opened(folder))
    assert "annotations.csv" in caught.value.where


# -- BRACS --


def test_bracs_groups_are_the_patients_of_the_workbook_over_all_splits(folder: Path) -> None:
    expected = fake_bracs.write(folder)
    layout, source = plan(bracs.TASK).layout, opened(folder)
    found = listed(layout, source)
    assert splits(found) == expected
    region = found["BRACS_271_FEA_4.png"]
    assert (region.label, region.split, region.group) == ("FEA", "val", "patient-67")
    assert {p.split for p in found.values() if p.group == "patient-67"} == {"train", "val"}
    assert cuts(layout, plan(bracs.TASK).rule, source, region) == [((0, 0, 64, 44), "FEA")]


def test_bracs_refuses_a_slide_without_a_patient_and_a_missing_workbook(folder: Path) -> None:
    fake_bracs.write(folder)
    book = folder / "BRACS.xlsx"
    workbook(book, {"WSI_Information": [("WSI Filename", "Patient Id"), ("BRACS_1003", 85)]})
    with pytest.raises(UsageError, match="HZ-U73 a slide has no patient") as caught:
        listed(plan(bracs.TASK).layout, opened(folder))
    assert "BRACS_1228" in caught.value.where
    book.unlink()
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed(plan(bracs.TASK).layout, opened(folder))
    assert "BRACS.xlsx" in caught.value.expected


# -- SICAPv2 --


def test_sicapv2_labels_what_the_workbooks_list_and_joins_blocks_of_a_case(folder: Path) -> None:
    fake_sicapv2.write(folder)
    found = listed(plan(sicapv2.TASK).layout, opened(folder))
    assert [(p.label, p.split, p.group) for p in found.values()] == [
        ("non_cancerous", "train", "16B0001851"),
        ("gleason_3", "train", "18B0005478"),
        ("gleason_4", "train", "18B0005478"),
        ("gleason_5", "test", "17B0031053"),
    ]
    assert fake_sicapv2.UNLABELLED not in found


def test_sicapv2_refuses_two_grades_in_a_row_and_an_image_that_is_missing(folder: Path) -> None:
    fake_sicapv2.write(folder)
    book = folder / "SICAPv2/partition/Test/Test.xlsx"
    name = str(fake_sicapv2.TEST[0][0])
    workbook(book, {"Sheet1": [fake_sicapv2.HEADER, (name, 0, 0, 1, 1, 0)]})
    with pytest.raises(UsageError, match="HZ-U73 a row does not have one mark") as caught:
        listed(plan(sicapv2.TASK).layout, opened(folder))
    assert name in caught.value.where and caught.value.got == "G4, G5"
    workbook(book, {"Sheet1": [fake_sicapv2.HEADER, ("17B0_Block_Region_9.jpg", 1, 0, 0, 0, 0)]})
    with pytest.raises(UsageError, match="HZ-U73 a listed picture is missing") as caught:
        listed(plan(sicapv2.TASK).layout, opened(folder))
    assert caught.value.expected == "images/17B0_Block_Region_9.jpg" and "Test.xlsx" in caught.value.where


# -- LC25000 --


def test_lc25000_groups_are_the_photographs_of_the_published_list(folder: Path) -> None:
    photographs = fake_lc25000.write(folder)
    for task, tissue, n in ((LC_LUNG, "lung", 3), (LC_COLON, "colon", 2)):
        found = listed(plan(task).layout, opened(folder))
        assert Counter(p.label for p in found.values()) == dict.fromkeys(task.classes, 4)
        assert {name: p.group for name, p in found.items()} == {
            name: group for name, group in photographs.items() if name.startswith(tissue)
        }
        assert len({p.group for p in found.values()}) == 2 * n


def test_lc25000_refuses_an_image_that_the_list_lacks_and_a_missing_list(folder: Path) -> None:
    fake_lc25000.write(folder)
    picture(folder / "lung_colon_image_set/lung_image_sets/lung_n/lungn999.jpeg", 0, 48, 48)
    with pytest.raises(UsageError, match="HZ-U73 an image is not in the list of groups") as caught:
        listed(lc25000.LUNG_LAYOUT, opened(folder))
    assert "lungn999.jpeg" in caught.value.where
    (folder / lc25000.GROUPS).unlink()
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed(lc25000.LUNG_LAYOUT, opened(folder))
    assert lc25000.GROUPS in caught.value.expected


# -- Camelyon17-WILDS --


def test_wilds_splits_by_hospital_and_leaves_the_validation_within_training_out(folder: Path) -> None:
    fake_wilds.write(folder)
    found = list(listed(plan(wilds_camelyon17.TASK).layout, opened(folder)).values())
    assert [p.split for p in found] == ["train", "", "val", "test", "train"]
    assert [p.label for p in found] == ["tumour", "normal", "tumour", "normal", "normal"]
    assert [p.group for p in found] == [f"patient_{n}" for n in ("004", "004", "020", "040", "072")]


def test_wilds_finds_its_tiles_when_the_table_lost_the_zeros_and_names_one_that_is_missing(
    folder: Path,
) -> None:
    rows = fake_wilds.write(folder)
    table = folder / "camelyon17_v1.0/metadata.csv"
    short = [(row[0], str(row[1]).lstrip("0"), *row[2:]) for row in rows]
    csv_file(table, [fake_wilds.HEADER, *short])
    assert len(listed(plan(wilds_camelyon17.TASK).layout, opened(folder))) == 5
    gone = next((folder / "camelyon17_v1.0/patches/patient_040_node_0").iterdir())
    gone.unlink()
    with pytest.raises(UsageError, match="HZ-U73 a tile is missing") as caught:
        listed(plan(wilds_camelyon17.TASK).layout, opened(folder))
    assert gone.name in caught.value.expected


def test_wilds_refuses_a_sixth_hospital(folder: Path) -> None:
    rows = fake_wilds.write(folder)
    csv_file(
        folder / "camelyon17_v1.0/metadata.csv",
        [fake_wilds.HEADER, *rows[:-1], (4, "072", 0, 50, 60, 0, 30, 5, 0)],
    )
    with pytest.raises(UsageError, match="HZ-U73 a class is not one of those published") as caught:
        listed(plan(wilds_camelyon17.TASK).layout, opened(folder))
    assert caught.value.got == "'5'"


# -- TCGA-UT --


def test_tcga_ut_reads_resolution_0_and_groups_slides_of_a_patient(folder: Path) -> None:
    fake_tcga_ut.write(folder)
    found = [*plan(tcga_ut.TASK).layout.pictures(opened(folder))]
    assert len(found) == 6 and all("/0/" in p.name for p in found)
    assert Counter((p.group, p.label) for p in found) == {
        ("TCGA-06-5411", "Glioblastoma_multiforme"): 4,
        ("TCGA-FS-A1Z7", "Skin_Cutaneous_Melanoma"): 2,
    }


def test_tcga_ut_refuses_a_cancer_that_is_not_published(folder: Path) -> None:
    picture(folder / "Leukemia/0/TCGA-AB-2803-01Z-00-DX1/0_0_521.jpg", 0, 64, 64)
    with pytest.raises(UsageError, match="HZ-U73 a class is not one of those published") as caught:
        [*plan(tcga_ut.TASK).layout.pictures(opened(folder))]
    assert "Leukemia" in caught.value.got
