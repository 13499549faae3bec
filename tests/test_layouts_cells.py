"""OCELOT, PanNuke and Arvaniti: cells, masks in arrays and palette masks; what is listed, cut and refused. Tiny copies only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.prepare.layouts.gleason_arvaniti import OneGrade
from histozoo.prepare.layouts.pannuke import NUCLEI
from histozoo.prepare.rules import Contains
from histozoo.tasks import gleason_arvaniti, ocelot, pannuke_neoplastic, pannuke_tissue
from tests.fakes.datasets import gleason_arvaniti as fake_gleason
from tests.fakes.datasets import ocelot as fake_ocelot
from tests.fakes.datasets import pannuke as fake_pannuke
from tests.fakes.datasets.opened import cuts, labels, listed, marked, opened, plan
from tests.fakes.datasets.pieces import mask, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


# -- OCELOT --


def test_ocelot_tiles_hold_the_centre_of_a_tumour_cell_or_not(folder: Path) -> None:
    fake_ocelot.write(folder)
    layout, rule, source = plan(ocelot.TASK).layout, plan(ocelot.TASK).rule, opened(folder)
    found = listed(layout, source)
    assert {n: (p.split, p.group) for n, p in found.items()} == {
        "001.jpg": ("train", "TCGA-BL-A0C8"),
        "002.jpg": ("train", "TCGA-BL-A0C8"),
        "401.jpg": ("val", "TCGA-B0-5698"),
        "538.jpg": ("test", "TCGA-CH-5767"),
    }
    assert [thing.kind for thing in marked(layout, source, found["001.jpg"]).things] == [
        "other_cell",
        "tumour_cell",
    ]
    with_cell = {
        n: [c.box[:2] for c in cuts(layout, rule, source, p) if c.label == "tumour_cell"]
        for n, p in found.items()
    }
    assert with_cell == {"001.jpg": [(128, 0)], "002.jpg": [], "401.jpg": [(0, 0)], "538.jpg": []}
    assert (
        isinstance(rule, Contains)
        and (1024 // rule.px) ** 2 * plan(ocelot.TASK).pictures == ocelot.TASK.total
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("10,20,3", "an unknown kind"),
        ("10,999,1", "lies outside"),
        ("10,20", "number of cells"),
        ("a,b,1", "finite"),
    ],
)
def test_ocelot_names_the_line_that_is_no_cell(folder: Path, line: str, what: str) -> None:
    fake_ocelot.write(folder)
    layout, source = plan(ocelot.TASK).layout, opened(folder)
    found = listed(layout, source)["001.jpg"]
    (folder / found.marks).write_text(f"1,2,1\n{line}\n")
    with pytest.raises(UsageError, match=f"HZ-U73 .*{what}") as caught:
        marked(layout, source, found)
    assert "001.csv, line 2" in caught.value.where


def test_ocelot_names_a_missing_table_and_a_picture_that_the_metadata_lacks(folder: Path) -> None:
    fake_ocelot.write(folder)
    root = folder / "ocelot2023_v1.0.1"
    metadata = json.loads((root / "metadata.json").read_text())
    del metadata["sample_pairs"]["401"]
    (root / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(UsageError, match="HZ-U73 a picture has no slide") as caught:
        listed(plan(ocelot.TASK).layout, opened(folder))
    assert caught.value.where.endswith("val/cell/401.jpg")
    (root / "annotations/train/cell/002.csv").unlink()
    with pytest.raises(UsageError, match="HZ-U73 a picture's annotation is missing") as caught:
        listed(plan(ocelot.TASK).layout, opened(folder))
    assert caught.value.expected == "ocelot2023_v1.0.1/annotations/train/cell/002.csv"


# -- PanNuke --


def test_pannuke_tissues_and_folds(folder: Path) -> None:
    words = fake_pannuke.write(folder)
    layout, source = plan(pannuke_tissue.TASK).layout, opened(folder)
    found = [*layout.pictures(source)]
    assert [p.label for p in found] == [word for fold in (1, 2, 3) for word in words[fold]]
    assert [p.split for p in found] == [s for s in ("train", "val", "test") for _ in range(3)]
    assert len({p.group for p in found}) == 9
    tile = np.asarray(layout.open(source, found[4]).crop((0, 0, 256, 256)))
    assert np.array_equal(tile, np.load(folder / "Fold 2/images/fold2/images.npy")[1].astype(np.uint8))


def test_pannuke_neoplastic_needs_more_than_a_hundredth_of_the_tile(folder: Path) -> None:
    fake_pannuke.write(folder)
    layout, rule, source = (
        plan(pannuke_neoplastic.TASK).layout,
        plan(pannuke_neoplastic.TASK).rule,
        opened(folder),
    )
    found = [*layout.pictures(source)]
    for row, word in enumerate(NUCLEI[:3]):
        areas = marked(layout, source, found[row]).areas
        assert {w: a.fraction((0, 0, 256, 256)) for w, a in areas.items()} == {
            w: (32 / 256) ** 2 * (w == word) for w in NUCLEI
        }
    assert [labels(cuts(layout, rule, source, p)) for p in found[:3]] == [
        ["neoplastic_nuclei"],
        *[["no_neoplastic_nuclei"]] * 2,
    ]
    masks = np.load(path := folder / "Fold 1/masks/fold1/masks.npy")
    masks[0, :, :, 0] = 0
    masks[0, 0, :, 0] = masks[0, 1, :, 0] = 1  # 512 of 65,536 px are 0.8 %
    np.save(path, masks)
    assert labels(cuts(layout, rule, source, found[0])) == ["no_neoplastic_nuclei"]


def test_pannuke_refuses_unknown_tissues_arrays_of_other_lengths_and_masks_of_another_size(
    folder: Path,
) -> None:
    fake_pannuke.write(folder)
    layout, path = plan(pannuke_neoplastic.TASK).layout, folder / "Fold 2/images/fold2/types.npy"
    np.save(folder / "Fold 3/masks/fold3/masks.npy", np.zeros((3, 128, 128, 6)))
    source = opened(folder)
    with pytest.raises(UsageError, match="HZ-U73 the masks are of another size") as caught:
        marked(layout, source, [*layout.pictures(source)][8])
    assert "fold3/masks.npy" in caught.value.where
    np.save(path, np.array(["Breast", "Brain", "Colon"]))
    with pytest.raises(UsageError, match="HZ-U73 a class is not one of those published") as caught:
        [*layout.pictures(source)]
    assert "fold2/types.npy, row 1" in caught.value.where and caught.value.got == "'Brain'"
    np.save(path, np.array(["Breast", "Colon"]))
    with pytest.raises(UsageError, match="HZ-U73 the arrays of a fold differ in length") as caught:
        [*layout.pictures(source)]
    assert "fold2/types.npy" in caught.value.where
    path.write_bytes(b"\x93NUMPY cut")
    with pytest.raises(UsageError, match="HZ-U73 an array cannot be read"):
        [*layout.pictures(source)]


# -- Arvaniti --


def test_gleason_spots_cohorts_and_the_mask_of_the_first_pathologist(folder: Path) -> None:
    fake_gleason.write(folder)
    layout, source = plan(gleason_arvaniti.TASK).layout, opened(folder)
    found = listed(layout, source)
    assert {n: (p.split, p.group) for n, p in found.items()} == {
        "ZT111_4_A_1_1.jpg": ("train", "ZT111_4_A_1_1"),
        "ZT76_39_A_1_1.jpg": ("val", "ZT76_39_A_1_1"),
        "ZT80_38_C_2_3.jpg": ("test", "ZT80_38_C_2_3"),
    }
    areas = marked(layout, source, found["ZT80_38_C_2_3.jpg"]).areas
    whole = (0, 0, fake_gleason.PX, fake_gleason.PX)
    assert [areas[w].fraction(whole) for w in gleason_arvaniti.TASK.classes] == [0, 0.375, 0, 0.375]


def test_gleason_tiles_have_the_one_grade_in_their_middle_third(folder: Path) -> None:
    fake_gleason.write(folder)
    layout, rule, source = (
        plan(gleason_arvaniti.TASK).layout,
        plan(gleason_arvaniti.TASK).rule,
        opened(folder),
    )
    assert isinstance(rule, OneGrade) and (rule.px, rule.stride) == (750, 375)
    small = replace(rule, px=48, stride=24)
    found = cuts(layout, small, source, listed(layout, source)["ZT111_4_A_1_1.jpg"])
    # Middle thirds are columns 16-32, 40-56 (both grades: left out) and 64-80; rows 16-32, 40-56 and 64-80, of which 72 on are open.
    expected = [
        ((x, y, x + 48, y + 48), word)
        for y in (0, 24, 48)
        for x, word in ((0, "gleason_3"), (48, "gleason_5"))
    ]
    assert [tuple(cut) for cut in found] == expected
    assert small.describe()["rule"] == "onegrade" and small.describe()["px"] == 48


def test_gleason_refuses_a_sixth_value_a_mask_without_a_spot_and_another_microarray(folder: Path) -> None:
    fake_gleason.write(folder)
    layout, source = plan(gleason_arvaniti.TASK).layout, opened(folder)
    found = listed(layout, source)["ZT76_39_A_1_1.jpg"]
    mask(folder / found.marks, np.full((fake_gleason.PX, fake_gleason.PX), 5, np.uint8))
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        marked(layout, source, found)
    assert "mask_ZT76_39_A_1_1.png" in caught.value.where
    (folder / "ZT76_39_A/ZT76_39_A_1_1.jpg").unlink()
    with pytest.raises(UsageError, match="HZ-U73 the spot of a mask is missing") as caught:
        listed(layout, opened(folder))
    assert caught.value.expected == "ZT76_39_A_1_1.jpg"
    (folder / found.marks).rename(folder / "Gleason_masks_train/mask_ZT99_1_A_1_1.png")
    picture(folder / "ZT99_1_A/ZT99_1_A_1_1.jpg", 0, 96, 96)
    with pytest.raises(UsageError, match="HZ-U73 a microarray is not one of those published"):
        listed(layout, opened(folder))


def test_the_middle_third_must_hold_one_grade_only() -> None:
    with pytest.raises(UsageError, match="HZ-U70"):
        OneGrade(px=0, stride=1, kinds={"a": "a"})
    with pytest.raises(UsageError, match="HZ-U70"):
        OneGrade(px=9, stride=1, kinds={})
