"""One picture of an original is not as published: it is refused by name, or left out and listed while every other one is kept."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from histozoo.errors import RejectedInputs, UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.pictures import Picture
from histozoo.prepare.sources import open_source
from histozoo.tasks import TASKS
from histozoo.tasks.base import Task
from tests.fakes.datasets import bach, mhist
from tests.fakes.datasets.opened import plan
from tests.fakes.datasets.paper import CASES
from tests.fakes.datasets.pieces import csv_file


class Damage(NamedTuple):
    """What is done to one file or folder of a small copy: moved to `to`, or taken away where that is ""."""

    task: str
    at: str
    to: str = ""


CRC, KATHER = "CRCHistoPhenotypes_2016_04_28/Classification", "Kather_texture_2016_image_tiles_5000"
BREAST = "BreaKHis_v1/histology_slides/breast"
ROIS = "BRACS_RoI/latest_version"
GLAS = "Warwick QU Dataset (Released 2016_07_08)"
SICAP = "16B0001851_Block_Region_1_0_7_xini_6803_yini_59786.jpg"
WILDS = "camelyon17_v1.0/patches/patient_020_node_2/patch_patient_020_node_2_x_10_y_20.png"

ANNOTATIONS = (
    Damage("mitos_atypia14", "Training Hamamatsu/H03/mitosis/H03_00Aa_not_mitosis.csv"),
    Damage("warwick_crc", f"{CRC}/img2/img2_others.mat"),
    Damage("janowczyk5_mitosis", "02_01_pc.png"),
    Damage("camelyon16", "training/lesion_annotations.zip"),
    Damage("ocelot", "ocelot2023_v1.0.1/annotations/train/cell/001.csv"),
    Damage("glas_glands", f"{GLAS}/train_2_anno.bmp"),
    Damage("crag_glands", "CRAG/train/Annotation/train_1.png"),
    Damage("monuseg_nuclei", "MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.xml"),
    Damage("cpm17_nuclei", "cpm17/train/Labels/image_01.mat"),
    Damage("tnbc_nuclei", "TNBC_NucleiSegmentation/GT_01/01_2.png"),
    Damage("consep_nuclei", "CoNSeP/Train/Labels/train_2.mat"),
)
"""A picture without its annotation."""

IMAGES = (
    Damage("janowczyk1_nuclei", "8863_500_f00020_original.tif"),
    Damage("janowczyk2_epithelium", "12880_500_f00077.tif"),
    Damage("tupac16_mitosis", "mitoses_image_data_part_3.zip"),
    Damage("glas_glands", f"{GLAS}/testB_1.bmp"),
    Damage("gleason_arvaniti", "ZT76_39_A/ZT76_39_A_1_1.jpg"),
    Damage("mhist", "images/MHIST_aab.png"),
    Damage("sicapv2", f"SICAPv2/images/{SICAP}"),
    Damage("wilds_camelyon17", WILDS),
)
"""An annotation or a row without its picture."""

CLASSES = (
    Damage("janowczyk6_idc", "8863/0", "8863/1"),
    Damage("janowczyk7_lymphoma", "MCL", "DLBCL"),
    Damage("stroma_lbp", "1_60414_Oncotex_str_valid.png", "2_60414_Oncotex_str_valid.png"),
    Damage("bach_micro", "ICIAR2018_BACH_Challenge/Photos/Benign", "ICIAR2018_BACH_Challenge/Photos/Other"),
    Damage("umcm_kather2016", f"{KATHER}/08_EMPTY", f"{KATHER}/09_OTHER"),
    Damage("bone_marrow_kainz", "7", "8"),
    Damage("breakhis", f"{BREAST}/benign/SOB/adenosis", f"{BREAST}/malignant/SOB/adenosis"),
    Damage("nct_crc_he", "NCT-CRC-HE-100K/TUM", "NCT-CRC-HE-100K/OTHER"),
    Damage("bracs", f"{ROIS}/train/0_N", f"{ROIS}/train/9_N"),
    Damage("tcga_ut", "Skin_Cutaneous_Melanoma", "Melanoma"),
    Damage("lc25000_full_lung", "lung_colon_image_set/lung_image_sets/lung_n", "lung_image_sets/lung_x"),
    Damage("lc25000_full_colon", "lung_colon_image_set/colon_image_sets/colon_n", "colon_image_sets/colon_x"),
)
"""A class that nobody published."""

NAMES = (
    Damage("bach_micro", "ICIAR2018_BACH_Challenge/Photos/Benign/b042.tif", "Photos/Benign/b042 Größe.tif"),
    Damage("stroma_lbp", "1_60414_Oncotex_str_valid.png", "image.png"),
    Damage("bone_marrow_kainz", "7/0273.png", "7/copy.png"),
)
"""A name that is none of the published ones, or whose number says nothing."""

FAKES = {
    "glas_glands": "glas",
    "crag_glands": "crag",
    "monuseg_nuclei": "monuseg",
    "cpm17_nuclei": "cpm17",
    "tnbc_nuclei": "tnbc",
    "consep_nuclei": "consep",
    "lc25000_full_lung": "lc25000_full",
    "lc25000_full_colon": "lc25000_full",
}
"""The small copies that are not called as their tasks."""


def copy_of(task: str, folder: Path) -> Path:
    """Writes the small copy of a task's original."""
    if task in CASES:
        CASES[task].write(folder)
    else:
        importlib.import_module(f"tests.fakes.datasets.{FAKES.get(task, task)}").write(folder)
    return folder


def listed(task: Task, folder: Path, *, lists_faults: bool) -> dict[str, Picture]:
    source = open_source(folder, scratch=folder.parent / "scratch", lists_faults=lists_faults)
    pictures = list(plan(task).layout.pictures(source))
    found = {picture.name: picture for picture in pictures}
    assert len(found) == len(pictures)
    return found


@pytest.mark.parametrize(
    "damage", [*ANNOTATIONS, *IMAGES, *CLASSES, *NAMES], ids=lambda d: f"{d.task}-{d.at}"
)
def test_a_picture_that_is_not_as_published_is_refused_or_listed_with_its_fault(
    damage: Damage, tmp_path: Path
) -> None:
    task, folder = TASKS[damage.task], copy_of(damage.task, tmp_path / "copy")
    whole = listed(task, folder, lists_faults=True)
    assert not [p for p in whole.values() if p.fault]
    if damage.to:
        (folder / damage.to).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / damage.at, folder / damage.to)
    else:
        (folder / damage.at).unlink()
    with pytest.raises(UsageError, match="HZ-U73") as refused:
        listed(task, folder, lists_faults=False)
    found = listed(task, folder, lists_faults=True)
    faulty = {name: p.fault for name, p in found.items() if p.fault}
    kept = {name: p for name, p in found.items() if not p.fault}
    assert faulty and kept and kept.items() <= whole.items()
    assert len(whole) - len(kept) <= len(faulty) and all(found[name].group == "" for name in faulty)
    assert (refused.value.what, refused.value.where) in {(f.what, f.where) for f in faulty.values() if f}


def test_every_layout_that_lists_files_one_by_one_is_among_them() -> None:
    tried = {d.task for d in (*ANNOTATIONS, *IMAGES, *CLASSES, *NAMES)} | {"pannuke_tissue"}
    layouts = {plan(TASKS[name]).layout.pictures.__module__ for name in tried}
    every = {t.preparation.layout.pictures.__module__ for t in TASKS.values() if t.preparation}
    # The rows of PCam have no name, class or annotation of their own that could be another; tables are in test_prepare_said.py.
    assert {m.rpartition(".")[2] for m in every - layouts} == {"pcam", "tile_table"}


def test_a_row_of_an_array_with_an_unknown_class_is_listed_with_its_fault(tmp_path: Path) -> None:
    folder = copy_of("pannuke", tmp_path / "copy")
    whole = listed(TASKS["pannuke_tissue"], folder, lists_faults=True)
    types = next(folder.rglob("fold2/types.npy"))
    words = np.load(types)
    np.save(types, np.array(["Elbow", *words[1:]]))
    found = listed(TASKS["pannuke_tissue"], folder, lists_faults=True)
    (name,) = (name for name, p in found.items() if p.fault)
    assert name.endswith("fold2/images.npy#0") and found.keys() == whole.keys()


@pytest.mark.parametrize("task", ["glas_glands", "mhist"])
def test_a_row_that_is_there_twice_is_refused_whatever_is_left_out(task: str, tmp_path: Path) -> None:
    folder = copy_of(task, tmp_path / "copy")
    table = next(folder.rglob("*.csv"))
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(UsageError, match="HZ-U73 a picture is in the table twice"):
        listed(TASKS[task], folder, lists_faults=True)


def small(task: Task) -> Task:
    """The task without the numbers that a small copy cannot have."""
    return dataclasses.replace(
        task,
        counts=None,
        total=None,
        split_counts={},
        preparation=dataclasses.replace(plan(task), pictures=None),
    )


def test_skip_bad_lists_strangers_and_pictures_without_a_row_and_keeps_every_other_tile(
    tmp_path: Path,
) -> None:
    rows = mhist.write(tmp_path / "copy")
    csv_file(tmp_path / "copy/annotations.csv", [mhist.HEADER, *rows[1:], ("MHIST_zzz.png", *rows[0][1:])])
    task = small(TASKS["mhist"])
    with pytest.raises(UsageError, match="HZ-U73 table and images differ"):
        prepare(task, tmp_path / "copy", tmp_path / "out", workers=0)
    with pytest.raises(RejectedInputs) as told:
        prepare(task, tmp_path / "copy", tmp_path / "out", workers=0, skip_bad=True)
    assert told.value.code == "HZ-U78" and told.value.exit_code == 4
    came = json.loads((tmp_path / "out/mhist/prepared.json").read_text())["came_out"]
    assert came["pictures"] == {"input": 5, "done": 3, "rejected": 2, "not_reached": 0, "without_tiles": 0}
    assert {r["name"]: r["code"] for r in came["rejected"]} == {
        str(rows[0][0]): "HZ-U73",
        "MHIST_zzz.png": "HZ-U73",
    }
    assert {r["reason"].rpartition(": ")[2] for r in came["rejected"]} == {"no such row", "no such file"}
    assert sorted(task.load(tmp_path / "out")["group"]) == sorted(Path(str(row[0])).stem for row in rows[1:])


def test_a_stranger_does_not_count_and_changes_no_byte_of_the_others(tmp_path: Path) -> None:
    bach.write(tmp_path / "copy", size=(1024, 512))
    task = dataclasses.replace(
        small(TASKS["bach_micro"]),
        preparation=dataclasses.replace(plan(TASKS["bach_micro"]), pictures=len(bach.FACTS)),
    )
    prepare(task, tmp_path / "copy", tmp_path / "clean", workers=0)
    photos = tmp_path / "copy/ICIAR2018_BACH_Challenge/Photos"
    (photos / "Other").mkdir()
    shutil.copy(photos / "Benign/b001.tif", photos / "Other/b001.tif")
    with pytest.raises(RejectedInputs, match="HZ-U78 1 of 11 pictures were rejected"):
        prepare(task, tmp_path / "copy", tmp_path / "out", workers=0, skip_bad=True)
    table = [(tmp_path / root / "bach_micro/labels.csv").read_bytes() for root in ("clean", "out")]
    assert table[0] == table[1]
