"""A split that a task's own table names: a group on both sides is refused by every protocol, a class that a part lacks is said."""

from __future__ import annotations

import csv
import os
import warnings
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from histozoo.cli import app
from histozoo.data.shards import INDEX
from histozoo.errors import UsageError
from histozoo.evaluate import labelled, official
from histozoo.evaluate.compare.plan import protocol_names
from histozoo.tasks import TASKS, Task
from tests.fakes.tasks import drawn_task
from tests.fakes.tiles import write_table
from tests.fakes.zoo import as_zoo, make_bundle

NAME = "test_resnet.multitask_tiny"
TASK = drawn_task("drawn_split", ("few", "many"), lineage="drawn_split")


def table(root: Path, *, divided: bool = False, **split_of: str) -> None:
    """Writes the task; `split_of` gives a class's words of the column split, group by group or, where divided, tile by tile of a group."""
    folder = write_table(root / TASK.folder, 8, TASK.classes, px=32, groups=4)
    path = folder / TASK.table
    rows = list(csv.DictReader(path.read_text().splitlines()))
    place = {group: i for i, group in enumerate(sorted({r["group"] for r in rows}))}
    seen: Counter[str] = Counter()
    for row in rows:
        words, group = split_of[row["label"]].split(), row["group"]
        row["split"] = words[(seen[group] if divided else place[group]) % len(words)]
        seen[group] += 1
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def read(root: Path, cache: Path) -> labelled.LabelledTiles:
    return labelled.read(TASK.name, data_root=root, tile_px=32, cache=cache)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, TASK.name, TASK)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    as_zoo(make_bundle(folder / "dist", NAME), folder / "zoo")
    return folder


@pytest.mark.parametrize("protocol", protocol_names())
def test_e37_a_group_on_both_sides_is_refused_by_every_protocol(
    tmp_path: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(zoo / "zoo"))
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(zoo / "dist"))
    table(tmp_path, few="train test", many="train test", divided=True)
    beside = [f"random:{NAME}@0"] if protocol == "cka" else []
    centres = ["--centres", "group"] if protocol == "robustness_index" else []
    given = [NAME, *beside, "--task", TASK.name, "--protocol", protocol, *centres]
    places = ["--data-root", tmp_path, "--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, given), *map(str, places)])
    assert result.exit_code == 2, result.output
    assert "HZ-E37 a group is in two parts of the split" in result.stderr
    assert "8 of 8 groups" in result.stderr and "in test and train, ..." in result.stderr
    assert "empty the column split" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", ["stage1_train testA", "train holdout", "train val"])
def test_e37_other_words_for_the_parts_are_understood(tmp_path: Path, words: str) -> None:
    table(tmp_path, few=words, many=words, divided=True)
    with pytest.raises(UsageError, match="HZ-E37"):
        read(tmp_path, tmp_path)


@pytest.mark.parametrize("words", ["train test", "train train val test", "fold1 fold2"])
def test_a_split_by_group_passes_and_so_do_folds(tmp_path: Path, words: str) -> None:
    table(tmp_path, few=words, many=words, divided="fold" in words)
    assert len(read(tmp_path, tmp_path).labels_N) == 16


def test_e36_a_class_that_a_part_lacks_is_said(tmp_path: Path) -> None:
    table(tmp_path, few="train test", many="train")
    with pytest.warns(
        UserWarning, match=r"HZ-E36 drawn_split, column split: no tile of many in test\. Nothing is"
    ):
        assert len(read(tmp_path, tmp_path).labels_N) == 16


def test_a_split_that_is_declared_as_divided_passes_and_is_warned_of() -> None:
    declared = [task for task in TASKS.values() if task.split_divides_groups]
    assert {task.name for task in declared} == {"glas", "glas_presence", "glas_glands", "bracs"}
    for task in declared:
        assert [trap for trap in task.traps if "official split" in trap]


def present(root: str, task: Task) -> bool:
    folder = Path(root) / task.folder
    return bool(root) and any((folder / name).is_file() for name in (task.table, INDEX))


def test_no_real_task_is_refused_and_only_declared_ones_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.environ.get("HISTOZOO_DATA", "")
    there = [task for task in TASKS.values() if present(root, task)]
    if not there:
        pytest.skip("HISTOZOO_DATA is not set to a folder of task folders")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for task in there:
            official.check(task, root, task.load(root))
