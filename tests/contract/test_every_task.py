"""What every task must be, applied to each one in `TASKS`; on the real tiles where they are, which is said where they are not."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo import tasks
from histozoo.data import splits, tiles
from histozoo.tasks import TASKS, Task
from histozoo.tasks.base import KINDS

NO_TASK = {
    "__init__": "the dictionary",
    "base": "what a task is",
    "bccd_frames": "a group rule shared by two tasks",
}
NAMES = sorted(TASKS)
TABLES = [name for name in NAMES if TASKS[name].preparation is None]
MADE = [name for name in NAMES if TASKS[name].preparation]


@pytest.fixture(scope="session")
def data_root() -> Path:
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("HISTOZOO_DATA") or beside)
    if not root.is_dir():
        pytest.skip("the real tiles are not here: set HISTOZOO_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


def test_each_file_is_a_task_and_each_task_has_a_file() -> None:
    stems = {path.stem for path in Path(tasks.__file__).parent.glob("*.py")}
    assert stems - set(NO_TASK) == set(TASKS) and set(NO_TASK) <= stems


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_complete(name: str) -> None:
    t = TASKS[name]
    assert t.name == name and re.fullmatch(r"[a-z0-9_]+", name) and re.fullmatch(r"[a-z0-9_]+", t.lineage)
    assert t.kind in KINDS
    assert len(t.classes) >= 2 and len(set(t.classes)) == len(t.classes)
    assert t.counts is not None or t.preparation, "a set that lies as a table has been counted"
    assert t.counts is None or (len(t.counts) == len(t.classes) and min(t.counts) >= 3)
    assert t.total is None or t.counts is None or sum(t.counts) == t.total
    assert set(t.split_counts) <= set(splits.PARTS)
    assert all(
        str(getattr(t, field)).strip()
        for field in ("organ", "stain", "licence", "citation", "folder", "notes")
    )
    assert t.source.startswith(("https://", "http://"))
    assert t.traps, "what is known to be wrong with the set, or that nothing is"
    assert t.mpp is None or 0.05 < t.mpp < 20
    assert not set(t.exclude_classes) & set(t.classes) and all(t.exclude_classes.values())
    assert not (t.cut_px and t.centre_px)


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_frozen(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS[name].name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", MADE)
def test_the_preparation_is_complete_and_can_be_handed_to_a_worker(name: str) -> None:
    plan = TASKS[name].preparation
    assert plan is not None and plan.parts
    assert json.loads(json.dumps(plan.rule.describe()))["rule"]
    assert repr(pickle.loads(pickle.dumps(plan)).rule) == repr(plan.rule)
    assert TASKS[name].folder == name


def test_sets_that_share_photographs_share_their_lineage() -> None:
    by_lineage: dict[str, set[str]] = {}
    for t in TASKS.values():
        by_lineage.setdefault(t.lineage, set()).add(t.name)
    shared = {lineage: names for lineage, names in by_lineage.items() if len(names) > 1}
    assert shared == {
        "lymphoma_iicbu": {"lymphoma_iicbu", "janowczyk7_lymphoma"},
        "lc25000": {"lc25000_lung", "lc25000_colon", "lc25000_full_lung", "lc25000_full_colon"},
        "glas": {"glas", "glas_presence", "glas_glands"},
        "wbc_zheng": {"wbc_zheng", "wbc_zheng_nucleus"},
        "bccd": {"bccd_cells", "bccd_wbc"},
        "bone_marrow_graz": {"bone_marrow_graz_cells", "bone_marrow_kainz"},
        "janowczyk_breast": {"janowczyk1_nuclei", "janowczyk2_epithelium", "janowczyk6_idc"},
        "amida13": {"janowczyk5_mitosis", "tupac16_mitosis"},
        "camelyon": {"camelyon16", "pcam", "wilds_camelyon17"},
        "pannuke": {"pannuke_tissue", "pannuke_neoplastic"},
    }


@pytest.mark.parametrize("name", TABLES)
def test_real_tiles_load_pack_and_split(name: str, data_root: Path, cache: Path) -> None:
    t = TASKS[name]
    dataset = t.load(data_root)
    assert dataset.column_names == ["image", "label", "group", "file"]
    assert dataset.features["label"].names == list(t.classes)
    labels_N, groups = np.asarray(dataset["label"][:]), dataset["group"][:]
    _check_number(t, labels_N)
    packed = tiles.pack(dataset, 32, cache)
    first = dataset[0]["image"]
    assert isinstance(first, Image.Image) and np.array_equal(packed[0], tiles.fit(first, 32))
    for seed in (0, 1):
        split = splits.make_split(labels_N, groups, seed=seed, tiles=packed)
        splits.check_split(split, groups)
        for part in splits.PARTS:
            assert set(labels_N[getattr(split, part)].tolist()) == set(range(len(t.classes)))


def _check_number(t: Task, labels_N: np.ndarray) -> None:
    assert t.counts is not None
    found = np.bincount(labels_N, minlength=len(t.classes))
    if t.cut_px:
        assert (found >= t.counts).all() and found.sum() > 2 * sum(t.counts)
    else:
        assert found.tolist() == list(t.counts)


def test_tasks_of_different_lineage_share_no_tile(data_root: Path, cache: Path) -> None:
    owner: dict[bytes, str] = {}
    for t in (TASKS[name] for name in TABLES):
        for tile in tiles.pack(t.load(data_root), 32, cache):
            assert owner.setdefault(tile.tobytes(), t.lineage) == t.lineage, (
                f"{t.name} shares a tile with {owner[tile.tobytes()]}"
            )
