"""The task declarations: what they say, how they cut and group, and what loading refuses. Drawn tiles only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from histozoo.errors import UsageError
from histozoo.tasks import TASKS, Task, task
from histozoo.tasks.base import blocks, centre, data_folder, grid
from tests.fakes.tiles import write_table

DRAWN = Task(
    name="drawn",
    kind="multiclass",
    classes=("benign", "malignant"),
    counts=(4, 4),
    organ="none",
    stain="none",
    licence="CC0-1.0",
    source="drawn",
    citation="none",
    lineage="drawn",
    folder="set",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_table(tmp_path / "set", 4, DRAWN.classes, px=32, groups=2)
    return tmp_path


def test_a_task_loads_from_an_argument_or_the_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(DRAWN.load(root)) == 8
    monkeypatch.setenv("HISTOZOO_DATA", str(root))
    assert DRAWN.load()["file"][:] == DRAWN.load(root)["file"][:]


def test_without_a_data_folder_the_error_says_how_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HISTOZOO_DATA", raising=False)
    with pytest.raises(UsageError, match="HZ-U37 no data folder is given") as caught:
        DRAWN.load()
    assert caught.value.next_step == "give it as --data-root or $HISTOZOO_DATA"
    with pytest.raises(UsageError, match="HZ-U37 there is no such data folder"):
        data_folder(tmp_path / "gone")
    with pytest.raises(UsageError, match="HZ-U37 the data of task 'drawn' is not there") as caught:
        DRAWN.load(tmp_path)
    assert caught.value.expected == "the folder 'set' with labels.csv, from drawn"


def test_e35_other_counts_than_declared_are_refused(root: Path) -> None:
    with pytest.raises(UsageError) as caught:
        replace(DRAWN, counts=(4, 5)).load(root)
    assert (caught.value.code, caught.value.expected, caught.value.got) == (
        "HZ-E35",
        "malignant: 5",
        "malignant: 4",
    )


def test_e36_a_task_with_one_class_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="HZ-E36 the task has fewer than two classes"):
        replace(DRAWN, classes=("benign",), counts=None, exclude_classes={"malignant": "for this test"}).load(
            root
        )


def test_excluded_classes_are_left_out_and_unknown_ones_are_not(root: Path) -> None:
    write_table(root / "set", 4, ("benign", "malignant", "rare"), px=16)
    dataset = replace(DRAWN, exclude_classes={"rare": "too few"}).load(root)
    assert len(dataset) == 8 and dataset.features["label"].names == ["benign", "malignant"]
    with pytest.raises(UsageError, match="HZ-E34"):
        DRAWN.load(root)


def test_cut_tiles_keep_label_and_group_of_their_image(root: Path) -> None:
    whole, cut = DRAWN.load(root), replace(DRAWN, cut_px=16).load(root)
    assert len(cut) == 4 * len(whole)
    for i in range(8):
        assert set(cut["label"][4 * i : 4 * i + 4]) == {whole["label"][i]}
        assert set(cut["group"][4 * i : 4 * i + 4]) == {whole["group"][i]}
    assert cut[5]["image"].size == (16, 16)
    assert len(replace(DRAWN, centre_px=20).load(root)) == 8
    assert replace(DRAWN, centre_px=20).load(root)["file"][0] == "images/benign_000.png#xywh=6,6,20,20"


def test_a_grid_is_centred_whole_and_in_reading_order() -> None:
    boxes = grid(258)(775, 522)
    assert boxes[:2] == [(0, 3, 258, 261), (258, 3, 516, 261)] and boxes[-1] == (516, 261, 774, 519)
    assert len(boxes) == 6 and len(grid(280)(840, 840)) == 9
    with pytest.raises(UsageError, match="HZ-D27"):
        grid(258)(300, 200)


def test_the_centre_of_a_smaller_image_is_all_of_it() -> None:
    assert centre(96)(215, 215) == [(59, 59, 155, 155)]
    assert centre(96)(96, 50) == [(0, 0, 96, 50)]


def test_blocks_put_consecutive_numbers_of_a_series_together() -> None:
    rule = blocks(r"(\w+)_(\d+)\.jpg$", 10)
    names = ["a_1.jpg", "a_10.jpg", "a_11.jpg", "b_1.jpg"]
    found = [rule({"file": f"images/{name}"}) for name in names]
    assert found == ["a-000", "a-000", "a-001", "b-000"]
    with pytest.raises(UsageError, match="HZ-U32 a file name has no running number"):
        rule({"file": "images/none.jpg"})


@pytest.mark.parametrize(
    ("name", "cells", "group"),
    [
        ("oral_oscc", {"file": "images/OSCC_400x_98.jpg"}, "OSCC_400x-009"),
        ("all_leukemia", {"file": "images/WBC-Malignant-Pro-800.jpg"}, "Pro-019"),
        ("all_leukemia", {"file": "images/WBC-Benign-001.jpg"}, "Benign-000"),
        ("wbc_zheng", {"file": "images/d2_100.jpg"}, "d2-009"),
        ("lymphoma_iicbu", {"file": "x", "group": "sj-05-6124-R4"}, "sj-05-6124-R3+R4"),
        ("lymphoma_iicbu", {"file": "x", "group": "sj-05-901-R1"}, "sj-05-901-R1"),
        ("bccd_wbc", {"file": "x", "group": "BloodImage_00391"}, "BloodImage_00386"),
        ("bccd_cells", {"file": "x", "group": "BloodImage_00390"}, "BloodImage_00390"),
        ("malaria_mini", {"file": "images/C1_thin_cell_20.png", "group": ""}, "images/C1_thin"),
        ("malaria_mini", {"file": "images/C1_thin_cell_20.png", "group": "C1P1"}, "C1P1"),
    ],
)
def test_group_rules_of_the_sets(name: str, cells: dict[str, str], group: str) -> None:
    rule = TASKS[name].group_rule
    assert rule is not None and rule(cells) == group


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        task("lc25000_lungs")
    assert (caught.value.code, caught.value.what) == ("HZ-U30", "there is no such task")
    assert caught.value.expected.startswith("lc25000_lung, ")
    assert "histozoo tasks" in caught.value.next_step
    assert task("glas") is TASKS["glas"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("bach", "bach_micro"),
        ("Camelyon16", "camelyon16"),
        ("Bach-Micro", "bach_micro"),
        ("colon", "lc25000_colon, lc25000_full_colon"),
        (
            "nuclei",
            "dsb2018_nuclei, lgg36_nuclei, janowczyk1_nuclei, monuseg_nuclei, cpm17_nuclei, tnbc_nuclei, consep_nuclei",
        ),
        ("BRACS", "bracs"),
    ],
)
def test_a_part_of_a_name_or_another_spelling_names_the_tasks_that_are_meant(name: str, near: str) -> None:
    with pytest.raises(UsageError, match="HZ-U30") as caught:
        task(name)
    assert caught.value.expected == near


@pytest.mark.parametrize("name", ["", "zzz", "unheard_of", "quux"])
def test_an_unknown_task_that_is_near_to_none_names_none_at_random(name: str) -> None:
    with pytest.raises(UsageError, match="HZ-U30") as caught:
        task(name)
    assert caught.value.expected == f"one of {len(TASKS)} names"
    assert "histozoo tasks" in caught.value.next_step
