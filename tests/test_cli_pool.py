"""The verbs of the task pool: list, show, prepare one or all, and what they say when something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from histozoo import feature_files
from histozoo.cli import app
from histozoo.feature_files import Features
from histozoo.tasks import TASKS
from tests.fakes import layouts
from tests.fakes.tasks import DRAWN, write_drawn


@pytest.fixture
def originals(tmp_path: Path) -> Iterator[Path]:
    """A folder with three datasets: two that lie as tables, and one that declares how it is made."""
    write_drawn(tmp_path)
    TASKS["synthetic"] = layouts.task(layouts.plan(pictures=16), traps=("drawn tiles show nothing",))
    layouts.write_pictures(tmp_path / "data" / "synthetic", 8)
    yield tmp_path / "data"
    for name in (*DRAWN, "synthetic"):
        TASKS.pop(name)


def call(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def test_tasks_gives_names_alone_to_a_pipe() -> None:
    assert call("tasks").stdout.split() == list(TASKS)
    assert call("tasks", "lc25000_????").stdout.split() == ["lc25000_lung"]


def test_tasks_draws_a_table_in_a_terminal(monkeypatch: pytest.MonkeyPatch, originals: Path) -> None:
    from rich.console import Console

    from histozoo.cli import pool

    monkeypatch.setattr(pool, "out", Console(width=200, highlight=False, force_terminal=True, no_color=True))
    text = call("tasks", "drawn_*", "--data-root", originals).stdout
    assert "drawn_nuclei" in text and "permissive" in text and text.count("yes") == 2


@pytest.mark.parametrize("there", [False, True])
def test_names_are_never_cut_in_a_narrow_terminal(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from histozoo.cli import pool

    monkeypatch.setattr(pool, "out", Console(width=80, force_terminal=True, no_color=True))
    monkeypatch.delenv("HISTOZOO_DATA", raising=False)
    lines = call("tasks", *(["--data-root", tmp_path] if there else [])).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:] if line[0] != " "] == list(TASKS)
    headings = ("name", "organ", "stain", "classes", "tiles", "licence", "lineage")
    assert there or all(word in lines[0] for word in headings)


def test_a_name_with_colons_is_printed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a:x:b").write_bytes(b"root:x:0")
    result = call("prepare", "bach_micro", "--from", tmp_path / "a:x:b", "--out", tmp_path / "out", code=3)
    assert "a:x:b" in result.stderr and "root:x:0" in result.stderr


def test_tasks_shows_one_in_full(originals: Path) -> None:
    text = call("tasks", "synthetic", "--data-root", originals).stdout
    for words in (
        "stroma, tumour",
        "CC0-1.0",
        "drawn tiles show nothing",
        "--from",
        "px 32",
        f"not in {originals}",
    ):
        assert words in " ".join(text.split())


def test_an_unknown_task_names_the_nearest() -> None:
    result = call("tasks", "lc25000_lunge", code=2)
    assert "HZ-U30" in result.stderr and "lc25000_lung" in result.stderr


def test_prepare_makes_one_task_and_says_what(originals: Path, tmp_path: Path) -> None:
    grey = originals / "synthetic/pictures/stroma/p0_000.png"
    Image.open(grey).convert("L").save(grey)
    text = call(
        "prepare", "synthetic", "--from", originals / "synthetic", "--out", tmp_path / "root", "--workers", 0
    ).stdout
    assert "16 of 16" in text and "stroma 32, tumour 32" in text and "pictures: grey 1" in text
    assert len(TASKS["synthetic"].load(tmp_path / "root")) == 64
    again = call(
        "prepare", "synthetic", "--from", originals / "synthetic", "--out", tmp_path / "root", "--workers", 0
    ).stdout
    assert "16 were there already" in again


def test_prepare_all_takes_every_dataset_that_is_there(originals: Path, tmp_path: Path) -> None:
    text = call("prepare", "--all", "--from", originals, "--out", tmp_path / "root", "--workers", 0).stdout
    for name in (*DRAWN, "synthetic"):
        assert name in text
        table = (tmp_path / "root" / name / "labels.csv").read_text().splitlines()
        assert len(TASKS[name].load(tmp_path / "root")) == len(table) - 1 > 0


def test_groups_that_a_rule_reads_off_names_survive_a_preparation(originals: Path, tmp_path: Path) -> None:
    name = "drawn_nuclei"
    TASKS[name] = replace(TASKS[name], group_rule=lambda cells: cells["file"][-5])
    before = TASKS[name].load(originals)
    call("prepare", name, "--from", originals / name, "--out", tmp_path / "root", "--workers", 0)
    after = TASKS[name].load(tmp_path / "root")
    assert sorted(before["group"]) == sorted(after["group"]) and len(set(after["group"])) == 10


def test_prepare_all_goes_on_after_a_task_that_fails_and_lists_it(originals: Path, tmp_path: Path) -> None:
    next((originals / "synthetic" / "pictures" / "tumour").iterdir()).unlink()
    result = call("prepare", "--all", "--from", originals, "--out", tmp_path / "root", "--workers", 0, code=4)
    assert "HZ-U78 1 of 3 tasks" in result.stderr and "synthetic: HZ-E35" in result.stderr
    assert sorted(p.name for p in (tmp_path / "root").iterdir() if not p.name.startswith(".")) == sorted(
        DRAWN
    )


def test_prepare_of_shards_gives_the_same_tiles(originals: Path, tmp_path: Path) -> None:
    for form, options in (("files", []), ("shards", ["--shards"])):
        call(
            "prepare",
            "synthetic",
            "--from",
            originals / "synthetic",
            "--out",
            tmp_path / form,
            "--workers",
            0,
            *options,
        )
    files, shards = (TASKS["synthetic"].load(tmp_path / form) for form in ("files", "shards"))
    assert files["label"] == shards["label"] and files["group"] == shards["group"]
    for a, b in zip(files, shards, strict=True):
        assert a["image"].tobytes() == b["image"].tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prepare", "--from", "x", "--out", "y"), "give the name of one task, or --all"),
        (
            ("prepare", "synthetic", "--all", "--from", "x", "--out", "y"),
            "give the name of one task, or --all",
        ),
        (("prepare", "--all", "--from", "nowhere", "--out", "y"), "HZ-U73 there is no such folder"),
        (("prepare", "unheard_of", "--from", "x", "--out", "y"), "HZ-U30"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in call(*arguments, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_prepare_and_audit_in_one_command(originals: Path, tmp_path: Path) -> None:
    shutil.rmtree(originals / "synthetic")
    page = tmp_path / "audit"
    text = call(
        "prepare", "--all", "--from", originals, "--out", tmp_path / "root", "--workers", 0, "--html", page
    ).stdout
    assert str(page / "index.html") in text and (page / "index.html").stat().st_size > 1000
    numbers = json.loads((page / "audit.json").read_text())
    assert [t["name"] for t in numbers["tasks"]] == list(DRAWN)


def test_an_audit_of_nothing_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HISTOZOO_DATA", raising=False)
    result = call("tasks", "--html", tmp_path / "audit", code=2)
    assert "HZ-U37" in result.stderr and "--data-root" in result.stderr
    assert not (tmp_path / "audit").exists()


def test_the_audit_takes_a_folder_of_feature_files(originals: Path, tmp_path: Path) -> None:
    command = (
        "tasks",
        "drawn_*",
        "--data-root",
        originals,
        "--html",
        tmp_path / "audit",
        "--features",
        tmp_path,
    )
    empty = call(*command, code=2)
    assert "HZ-U81" in empty.stderr and "drawn_nuclei.safetensors" in empty.stderr
    names = tuple(TASKS["drawn_nuclei"].load(originals)["file"])
    f_ND = np.random.default_rng(0).normal(size=(len(names), 16)).astype(np.float32)
    f_ND[-1] = f_ND[0]
    made = Features(names=names, sha256=("0" * 64,) * len(names), features_ND=f_ND, made_by={})
    feature_files.write(tmp_path / "drawn_nuclei.safetensors", made)
    call(*command)
    told = json.loads((tmp_path / "audit/audit.json").read_text(encoding="utf-8"))
    assert {t["name"]: t["duplicates"]["features"] for t in told["tasks"]} == {
        "drawn_nuclei": 1,
        "drawn_stroma": 0,
    }
