"""Folders that hold something else, signals, killed workers and full disks: nothing is overwritten, and the same command continues."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from histozoo import durable
from histozoo.claim import claimed
from histozoo.errors import Interrupted, ResourceError, UsageError
from histozoo.prepare import stores
from histozoo.prepare.engine import Report, prepare
from tests.fakes import layouts
from tests.fakes.layouts import accounts, layout, plan, refused, task, tree
from tests.fakes.nospace import file_size_limit, no_space

N = 8
"""Pictures of each class."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layouts.write_pictures(tmp_path / "source", N)


def run(source: Path, out: Path, declared: Any = None, *, workers: int = 0, **options: Any) -> Report:
    return prepare(declared or task(), source, out, workers=workers, **options)


# -- folders that hold something else --


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 1}, "seed = 1"),
        ({"rule": layouts.Tiles(px=16)}, "rule.px = 16"),
        ({"format": "jpeg"}, 'format = "jpeg"'),
        ({"layout": layout(layouts.slow_marks)}, "layout = "),
    ],
)
def test_another_preparation_does_not_continue_this_one(
    source: Path, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    refused("HZ-E35", lambda: run(source, tmp_path, task(total=1)))
    before = tree(tmp_path / ".prepare")
    error = refused("HZ-U77", lambda: run(source, tmp_path, task(plan(**change))))
    assert error.expected.startswith(field)
    assert tree(tmp_path / ".prepare") == before
    run(source, tmp_path)
    assert refused("HZ-U77", lambda: run(source, tmp_path, task(plan(**change)))).expected.startswith(field)


def test_another_version_does_not_continue_this_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, tmp_path)
    monkeypatch.setattr("histozoo.__version__", "9.9.9")
    assert "histozoo differs" in refused("HZ-U77", lambda: run(source, tmp_path)).what


def test_what_another_run_had_staged_is_removed(source: Path, tmp_path: Path) -> None:
    refused("HZ-E35", lambda: run(source, tmp_path, task(total=1)))
    left = tmp_path / ".prepare/synthetic/staged/other/00000/tiles"
    left.mkdir(parents=True)
    (left / "half.png").write_bytes(b"half")
    refused("HZ-E35", lambda: run(source, tmp_path, task(total=1)))
    assert not left.exists()


def test_a_folder_that_we_did_not_write_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic/labels.csv").write_text("mine")
    refused("HZ-U77", lambda: run(source, tmp_path))
    assert tree(tmp_path / "synthetic") == {"labels.csv": b"mine"}


@pytest.mark.parametrize("below", [".", "out", "pictures/out"])
def test_an_output_inside_its_own_source_is_refused(below: str, source: Path, tmp_path: Path) -> None:
    before = tree(source)
    refused("HZ-U66", lambda: run(source, source / below))
    (tmp_path / "link").symlink_to(source)
    refused("HZ-U66", lambda: run(source, tmp_path / "link" / below))
    assert tree(source) == before


def test_a_table_that_was_edited_is_not_taken_for_ours(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path)
    table = tmp_path / "synthetic/labels.csv"
    table.write_text(table.read_text().replace("stroma,", "tumour,", 1))
    refused("HZ-U77", lambda: run(source, tmp_path), 3)


def test_a_second_process_is_refused(source: Path, tmp_path: Path) -> None:
    with claimed(tmp_path / ".prepare/synthetic"):
        refused("HZ-H60", lambda: run(source, tmp_path), 5)
    assert run(source, tmp_path).n_done == 2 * N


def test_a_task_without_a_preparation_is_refused(source: Path, tmp_path: Path) -> None:
    refused("HZ-U30", lambda: run(source, tmp_path, replace(task(), preparation=None)))


# -- ends from outside --


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_ends_the_run_politely_and_it_continues(
    source: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    declared = task(plan(layout(layouts.slow_marks)))
    handler = signal.getsignal(signal.SIGTERM)
    sent: list[int] = []

    def stop(done: int, n: int) -> None:
        if done >= 5 and not sent:
            sent.append(done)
            os.kill(os.getpid(), number)

    error = refused("HZ-U79", lambda: run(source, tmp_path, declared, workers=workers, progress=stop), 75)
    assert isinstance(error, Interrupted) and sent and signal.getsignal(signal.SIGTERM) is handler
    done = accounts(tmp_path / ".prepare/synthetic/report.json")
    assert 0 < done["done"] < 2 * N and f"{done['done']} of 16 pictures" in error.got
    assert run(source, tmp_path, declared).n_reused == done["done"]


def test_a_killed_worker_is_an_error_that_names_the_picture(source: Path, tmp_path: Path) -> None:
    declared = task(plan(layout(layouts.killing_marks)))
    began = time.monotonic()
    error = refused("HZ-U80", lambda: run(source, tmp_path, declared, workers=2), 5)
    assert isinstance(error, ResourceError) and time.monotonic() - began < 60
    assert error.where == "pictures/tumour/p2_006.png" and "killed by SIGKILL" in error.got
    assert accounts(tmp_path / ".prepare/synthetic/report.json")["done"] > 0


def test_no_worker_outlives_its_run(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(source, tmp_path, task(plan(layout(layouts.refused_marks))), workers=2)
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()
    names = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children if Path(f"/proc/{pid}").exists()]
    assert not [name for name in names if "spawn_main" in name]


def test_g50_a_full_disk_keeps_what_is_done_and_the_run_continues(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "fresh")
    with no_space() as disk:
        run(source, tmp_path / "counted")
    for part in (0.05, 0.5, 0.9, 0.999):
        out = tmp_path / str(part)
        with no_space(disk.written * part):
            assert "disk is full" in refused("HZ-F42", lambda out=out: run(source, out), 5).what
        assert not (out / "synthetic").exists()
        run(source, out)
        assert tree(out / "synthetic") == tree(tmp_path / "fresh/synthetic")


def test_g50_a_full_disk_in_a_worker_is_no_bad_picture(source: Path, tmp_path: Path) -> None:
    with file_size_limit(2500):
        refused("HZ-F42", lambda: run(source, tmp_path, workers=1, skip_bad=True), 5)
    assert not (tmp_path / "synthetic").exists()
    assert run(source, tmp_path).n_done == 2 * N


def test_g50_a_flush_that_the_system_refuses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tile").write_bytes(b"tile")
    durable.sync_filesystem(tmp_path)
    with pytest.raises(ResourceError, match="HZ-F42"):
        durable.sync_filesystem(tmp_path / "gone")
    flushed: list[Path] = []
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    monkeypatch.setattr(durable, "sync_tree", flushed.append)
    durable.sync_filesystem(tmp_path)
    assert flushed == [tmp_path], "file by file where the system has no such call"


def test_a_growing_file_is_cut_back_to_what_was_kept(tmp_path: Path) -> None:
    pack = stores.Pack(tmp_path / "new/pack")
    for name, kept in (("a", True), ("bb", False), ("ccc", True)):
        pack.put("x", name.encode())
        pack.put("y", b"")
        pack.keep() if kept else pack.forget()
    pack.close()
    assert list(stores.unpacked(tmp_path / "new/pack")) == [b"a", b"", b"ccc", b""]
    with pytest.raises(ResourceError):
        durable.Growing(tmp_path / "new/pack")
