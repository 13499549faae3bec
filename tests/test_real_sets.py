"""Real sets with masks and points as classification tasks: the declared counts are what the rules give, and every class can be split.

Needs the real tiles; skips, naming HISTOZOO_DATA, where they are not.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo.data import splits, tiles
from histozoo.prepare.chunks import capped, generator
from histozoo.prepare.engine import prepare
from histozoo.prepare.facts import common_folder
from histozoo.prepare.layouts.tile_table import prepared_as_is
from histozoo.prepare.sources import open_source
from histozoo.tasks import TASKS

MADE = (
    "glas_presence",
    "dsb2018_nuclei",
    "lgg36_nuclei",
    "bone_marrow_graz_cells",
    "adipocyte_gtex_cells",
    "wbc_zheng_nucleus",
)
TABLES = sorted(name for name, task in TASKS.items() if task.preparation is None)


@pytest.fixture(scope="session")
def data_root() -> Path:
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("HISTOZOO_DATA") or beside)
    if not root.is_dir():
        pytest.skip("the real tiles are not here: set HISTOZOO_DATA to their folder")
    return root


@pytest.mark.parametrize("name", MADE)
def test_the_declared_counts_are_what_the_rule_gives(name: str, data_root: Path, tmp_path: Path) -> None:
    task = TASKS[name]
    plan = task.preparation
    assert plan is not None
    source = open_source(data_root / plan.parts[0], scratch=tmp_path)
    pictures = plan.layout.pictures(source)
    assert len(pictures) == plan.pictures
    common = common_folder(pictures)
    found: Counter[str] = Counter()
    groups: dict[str, set[str]] = {}
    for picture in pictures:
        with Image.open(source.path(picture.name)) as image:
            size = image.size
        rng = generator(plan.seed, picture.name.removeprefix(common))
        cuts = plan.rule.cuts(size, plan.layout.marks(source, picture, size), rng)
        for cut in capped(cuts, plan.cap, rng):
            found[cut.label] += 1
            groups.setdefault(cut.label, set()).add(picture.group)
    assert tuple(found[c] for c in task.classes) == task.counts
    assert all(len(groups[c]) >= len(splits.PARTS) for c in task.classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_the_prepared_tiles_load_and_split_with_every_class_in_every_part(
    name: str, data_root: Path, tmp_path: Path
) -> None:
    task = TASKS[name]
    assert task.preparation is not None
    prepare(task, data_root / task.preparation.parts[0], tmp_path / "root")
    dataset = task.load(tmp_path / "root")
    labels_N, groups = np.asarray(dataset["label"][:]), dataset["group"][:]
    packed = tiles.pack(dataset, 32, tmp_path / "cache")
    split = splits.make_split(labels_N, groups, seed=0, tiles=packed)
    splits.check_split(split, groups)
    for part in splits.PARTS:
        assert set(labels_N[getattr(split, part)].tolist()) == set(range(len(task.classes)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_set_that_lies_as_a_table_is_copied_with_its_labels_and_groups(
    name: str, data_root: Path, tmp_path: Path
) -> None:
    task = prepared_as_is(TASKS[name])
    prepare(task, data_root / task.folder, tmp_path / "root")
    copy, original = task.load(tmp_path / "root"), TASKS[name].load(data_root)
    whole = {file.partition("#")[0]: n for n, file in enumerate(original["file"][:])}
    assert len(copy) == len(whole)
    found = Counter(zip(copy["label"][:], copy["group"][:], strict=True))
    labels, groups = original["label"][:], original["group"][:]
    assert found == Counter((labels[n], groups[n]) for n in whole.values())
