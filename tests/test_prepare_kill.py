"""Killed at random moments, at every step and at chosen bytes, a preparation continues and ends with the bytes of one that was not."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from histozoo import durable
from histozoo.prepare import facts
from histozoo.prepare.engine import prepare
from tests.fakes import killer, layouts
from tests.fakes.layouts import Chance, plan, task, tree

MOVES_PER_CHUNK = 3
"""Tiles, rows, and the file that says that both are there."""


def check_whole(out: Path, uninterrupted: Path) -> None:
    """Nothing lost, nothing twice, nothing else, and every byte the same."""
    found = tree(out / "synthetic")
    assert found == tree(uninterrupted / "synthetic")
    if "labels.csv" in found:
        listed = [row["file"] for row in csv.DictReader(found["labels.csv"].decode().splitlines())]
        assert sorted(listed) == sorted(name for name in found if name.startswith("images/"))
    assert list((out / ".prepare").glob("*/*")) == []


def test_g50_ten_kills_at_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "CHUNKS", 40)  # three pictures in each
    source = layouts.write_pictures(tmp_path / "source", 60)
    preparation = plan(rule=Chance(px=16, n=12), cap=5)

    def work(out: str = "killed") -> None:
        prepare(task(preparation), source, tmp_path / out, workers=0)

    began = time.monotonic()
    work("whole")
    seconds = time.monotonic() - began
    kills = killer.kill_until_done(work, seed=3, kills=10, longest=seconds / 6)
    assert kills >= 5
    check_whole(tmp_path / "killed", tmp_path / "whole")


def test_g50_kills_of_a_run_with_workers(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 30)
    began = time.monotonic()
    prepare(task(), source, tmp_path / "whole", workers=2)
    seconds = time.monotonic() - began
    kills = killer.kill_until_done(
        lambda: prepare(task(), source, tmp_path / "killed", workers=2), seed=4, kills=4, longest=seconds
    )
    assert kills >= 1
    check_whole(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("shards", [False, True])
def test_g50_a_kill_before_and_after_every_move(tmp_path: Path, shards: bool) -> None:
    if shards:
        pytest.importorskip("pyarrow", reason="Parquet shards need pyarrow")
    source = layouts.write_pictures(tmp_path / "source", 2)

    def work(out: Path) -> None:
        prepare(task(), source, out, workers=0, shards=shards)

    with counted_moves() as moves:
        work(tmp_path / "whole")
    assert moves[0] == 4 * MOVES_PER_CHUNK + 3 + 2 * shards
    for after in (False, True):
        for n in range(1, moves[0] + 1):
            out = tmp_path / f"{n}{after}"
            assert killed(lambda out=out: work(out), n, after=after)
            work(out)
            check_whole(out, tmp_path / "whole")


def test_g50_a_kill_at_chosen_bytes(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 2)
    prepare(task(), source, tmp_path / "whole", workers=0)
    n_bytes = sum(
        len(data) for name, data in tree(tmp_path / "whole/synthetic").items() if name.endswith(".png")
    )
    for part in range(1, 8):
        out = tmp_path / str(part)
        assert killer.killed_at_byte(
            lambda out=out: prepare(task(), source, out, workers=0), n_bytes * part // 8
        )
        prepare(task(), source, out, workers=0)
        check_whole(out, tmp_path / "whole")


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 30)
    declared = task(plan(layouts.layout(layouts.slow_marks)))
    prepare(declared, source, tmp_path / "whole", workers=0)
    rows = tmp_path / "killed/.prepare/synthetic/rows"
    with started(lambda: prepare(declared, source, tmp_path / "killed", workers=2)) as (child, _):
        wait_until(lambda: len(list(rows.glob("*.json"))) > 4)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_until(lambda: not alive_in_group(child))
    report = prepare(declared, source, tmp_path / "killed", workers=0)
    assert 4 < report.n_reused < report.n_done
    check_whole(tmp_path / "killed", tmp_path / "whole")


def test_a_worker_that_hangs_ends_with_its_parent_too(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 6)
    declared = task(plan(layouts.layout(layouts.hanging_marks)))
    rows = tmp_path / "out/.prepare/synthetic/rows"
    with started(lambda: prepare(declared, source, tmp_path / "out", workers=1)) as (child, _):
        wait_until(lambda: len(list(rows.glob("*.json"))) == 5)
        assert alive_in_group(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_until(lambda: not alive_in_group(child), seconds=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_answered_by_the_parent_alone(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C in a terminal and a scheduler's SIGTERM reach the workers too."""
    source = layouts.write_pictures(tmp_path / "source", 30)
    declared = task(plan(layouts.layout(layouts.slow_marks)))
    rows = tmp_path / "out/.prepare/synthetic/rows"
    with started(lambda: prepare(declared, source, tmp_path / "out", workers=2)) as (child, note):
        wait_until(lambda: len(list(rows.glob("*.json"))) > 4)
        os.killpg(child, number)
        with pytest.raises(AssertionError, match=r"Interrupted: HZ-U79 [\s\S]*pictures are done and kept"):
            killer.wait(child, os.dup(note), 60)
        wait_until(lambda: not alive_in_group(child), seconds=20)


def test_workers_leave_signals_to_their_parent(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 2)
    declared = task(plan(layouts.layout(layouts.shielded_marks)))
    assert prepare(declared, source, tmp_path / "out", workers=1).n_done == 4
    with pytest.raises(RuntimeError, match="a signal to the group"):
        prepare(declared, source, tmp_path / "here", workers=0)


def test_a_folder_that_was_taken_away_is_prepared_anew(tmp_path: Path) -> None:
    """After the last rename the work folder lists tiles that are no longer in it."""
    import shutil

    source = layouts.write_pictures(tmp_path / "source", 2)
    prepare(task(), source, tmp_path / "whole", workers=0)
    assert killed(
        lambda: prepare(task(), source, tmp_path / "out", workers=0), 4 * MOVES_PER_CHUNK + 3, after=True
    )
    assert (tmp_path / "out/.prepare/synthetic/facts.json").exists()
    shutil.rmtree(tmp_path / "out/synthetic")
    report = prepare(task(), source, tmp_path / "out", workers=0)
    assert report.n_reused == 0
    check_whole(tmp_path / "out", tmp_path / "whole")


@contextmanager
def started(work: Callable[[], object]) -> Iterator[tuple[int, int]]:
    """Gives a forked child and its note; no process of its group is left, whatever the test found."""
    child, note = killer.start(work)
    try:
        yield child, note
    finally:
        os.close(note)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


class counted_moves:
    """Counts the moves of `durable` inside the block."""

    def __enter__(self) -> list[int]:
        count, self._move = [0], durable.move

        def move(source: Path, target: Path) -> None:
            count[0] += 1
            self._move(source, target)

        durable.move = move
        return count

    def __exit__(self, *_: object) -> None:
        durable.move = self._move


def killed(work: Callable[[], object], n: int, *, after: bool) -> bool:
    """Runs `work` in a child that kills itself before or after its move number `n`; returns whether it was killed."""

    def cut() -> None:
        move, count = durable.move, 0

        def moving(source: Path, target: Path) -> None:
            nonlocal count
            count += 1
            if count == n and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            move(source, target)
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)

        durable.move = moving
        work()

    child, note = killer.start(cut)
    _, status = os.waitpid(child, 0)
    os.close(note)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def wait_until(happens: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive_in_group(group: int) -> bool:
    """Whether a process of the group runs that is no zombie."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, pgrp = path.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                command = (path.parent / "cmdline").read_text()
                if "resource_tracker" not in command:
                    return True
    return False
