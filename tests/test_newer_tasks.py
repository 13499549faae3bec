"""The declarations of the newer and the segmentation sets: their numbers agree, and their small copies become tables that load."""

from __future__ import annotations

import importlib
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from histozoo.prepare.engine import prepare
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import KINDS, Task
from tests.fakes.datasets.opened import plan

COPIES = {
    "nct_crc_he": "nct_crc_he",
    "pcam": "pcam",
    "mhist": "mhist",
    "bracs": "bracs",
    "sicapv2": "sicapv2",
    "gleason_arvaniti": "gleason_arvaniti",
    "lc25000_full_lung": "lc25000_full",
    "lc25000_full_colon": "lc25000_full",
    "pannuke_tissue": "pannuke",
    "pannuke_neoplastic": "pannuke",
    "wilds_camelyon17": "wilds_camelyon17",
    "tcga_ut": "tcga_ut",
    "ocelot": "ocelot",
    "glas_glands": "glas",
    "crag_glands": "crag",
    "monuseg_nuclei": "monuseg",
    "cpm17_nuclei": "cpm17",
    "tnbc_nuclei": "tnbc",
    "consep_nuclei": "consep",
}
"""The small copy that each task is prepared from."""


def declared(name: str) -> Task:
    task = importlib.import_module(f"histozoo.tasks.{name}").TASK
    assert isinstance(task, Task) and task.name == name
    return task


@pytest.mark.parametrize("name", COPIES)
def test_published_numbers_agree_with_each_other(name: str) -> None:
    task = declared(name)
    total = sum(task.counts) if task.counts else task.total
    assert not task.counts or (len(task.counts) == len(task.classes) and task.total is None)
    # The validation within the training hospitals of WILDS is in no split.
    apart = 33_560 if name == "wilds_camelyon17" else 0
    if total is not None and task.split_counts:
        assert sum(task.split_counts.values()) + apart == total
    if isinstance(plan(task).rule, Whole) and total is not None:
        assert plan(task).pictures == total


@pytest.mark.parametrize("name", COPIES)
def test_a_declaration_says_what_a_reader_must_know(name: str) -> None:
    task = declared(name)
    assert task.kind in KINDS and len(set(task.classes)) == len(task.classes) >= 2
    assert task.licence and task.citation and task.lineage and task.source.startswith("https://")
    assert task.traps and all(trap.endswith(".") for trap in task.traps) and plan(task).parts
    assert set(task.split_counts) <= {"train", "val", "test"}


def test_sets_of_the_same_slides_share_their_lineage() -> None:
    lineage = {name: declared(name).lineage for name in COPIES}
    assert lineage["pcam"] == lineage["wilds_camelyon17"] == "camelyon"
    assert lineage["lc25000_full_lung"] == lineage["lc25000_full_colon"] == declared("lc25000_lung").lineage
    assert lineage["glas_glands"] == declared("glas").lineage
    assert lineage["pannuke_tissue"] == lineage["pannuke_neoplastic"]
    several = {word for word, n in Counter(lineage.values()).items() if n > 1}
    assert several == {"camelyon", "lc25000", "pannuke"}


@pytest.mark.parametrize("name", COPIES)
def test_workers_can_be_handed_layout_and_rule(name: str) -> None:
    task = declared(name)
    assert pickle.loads(pickle.dumps(plan(task))) == plan(task)


@pytest.mark.parametrize("name", COPIES)
def test_a_small_copy_is_prepared_and_loads(name: str, tmp_path: Path) -> None:
    importlib.import_module(f"tests.fakes.datasets.{COPIES[name]}").write(tmp_path / "copy")
    task = declared(name)
    small = replace(plan(task), pictures=None)
    if name == "gleason_arvaniti":
        small = replace(small, rule=replace(small.rule, px=48, stride=24))  # type: ignore[type-var]
    seen = tuple(word for word in task.classes if word in _words(task, small, tmp_path))
    task = replace(task, classes=seen, counts=None, total=None, split_counts={}, preparation=small)
    report = prepare(task, tmp_path / "copy", tmp_path / "root", workers=0)
    loaded = task.load(tmp_path / "root")
    assert report.n_tiles == len(loaded) > 0
    assert set(loaded["label"]) == set(range(len(seen))) and loaded[0]["image"].mode == "RGB"


def _words(task: Task, small: object, folder: Path) -> set[str]:
    """Returns the classes that the small copy has: not every cancer or tissue lies in it."""
    from histozoo.prepare.plan import Preparation
    from tests.fakes.datasets.opened import cuts, labels, opened

    assert isinstance(small, Preparation)
    source = opened(folder / "copy")
    pictures = [*small.layout.pictures(source)]
    return {word for picture in pictures for word in labels(cuts(small.layout, small.rule, source, picture))}
