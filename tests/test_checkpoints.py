"""Checkpoints are whole or absent, and a damaged one is never used."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from histozoo import checkpoints, durable
from histozoo.errors import IntegrityError, ResourceError
from tests.fakes.nospace import no_space


def fill(content: bytes):
    def write(folder: Path) -> None:
        from histozoo import durable

        durable.write_bytes(folder / "model.safetensors", content)

    return write


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoints.save(tmp_path, step, fill(b"x" * step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-100"]
    newest = checkpoints.newest_valid(tmp_path)
    assert newest is not None
    assert checkpoints.step_of(newest) == 100


@pytest.mark.parametrize("damage", ["bit", "short", "missing", "extra", "manifest"])
def test_f43_the_newest_whole_checkpoint_wins_and_the_loss_is_said(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (5, 10):
        checkpoints.save(tmp_path, step, fill(b"weights" * 100))
    file = tmp_path / "checkpoint-10" / "model.safetensors"
    if damage == "bit":
        file.write_bytes(b"W" + file.read_bytes()[1:])
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "missing":
        file.unlink()
    elif damage == "extra":
        (file.parent / "optimizer.pt").write_bytes(b"")
    else:
        (file.parent / checkpoints.MANIFEST).unlink()
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest_valid(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-5"
    assert "HZ-F43 checkpoint-10 is damaged" in caplog.text
    assert "5 steps are lost" in caplog.text


def test_f43_an_explicit_step_never_falls_back(tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoints.save(tmp_path, step, fill(b"weights"))
    assert checkpoints.explicit(tmp_path, 5).name == "checkpoint-5"
    (tmp_path / "checkpoint-10" / "model.safetensors").write_bytes(b"")
    for step in (10, 7):
        with pytest.raises(IntegrityError, match=f"HZ-F43 checkpoint {step} cannot be used"):
            checkpoints.explicit(tmp_path, step)


def test_f42_a_full_disk_at_any_byte_leaves_the_previous_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 5, fill(b"old" * 100))
    with no_space() as disk:
        checkpoints.save(tmp_path / "trial", 10, fill(b"new" * 100))
    assert disk.written > 300
    for after in range(0, disk.written, 7):
        with no_space(after), pytest.raises(ResourceError, match="HZ-F42 the disk is full") as caught:
            checkpoints.save(tmp_path, 10, fill(b"new" * 100))
        assert "bytes free" in str(caught.value)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-5", "trial"]
        assert checkpoints.newest_valid(tmp_path) == tmp_path / "checkpoint-5"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "cannot write: Read-only file system"),
        (errno.EACCES, "cannot write: Permission denied"),
        (errno.EDQUOT, "your quota on this disk is used up"),
    ],
)
def test_f42_a_folder_that_cannot_be_written_keeps_the_previous_checkpoint(
    tmp_path: Path, number: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(tmp_path, 5, fill(b"old"))

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable, "_write", refuse)
    with pytest.raises(ResourceError, match=f"HZ-F42 {says}"):
        checkpoints.save(tmp_path, 10, fill(b"new"))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]
    assert checkpoints.newest_valid(tmp_path) == tmp_path / "checkpoint-5"


def steps_kept(run: Path) -> list[int]:
    return sorted(checkpoints.step_of(p) for p in run.glob("checkpoint-*"))


def test_the_last_good_one_stays_until_there_is_a_newer_good_one(tmp_path: Path) -> None:
    for step, good in ((5, None), (10, 10), (15, 10), (20, 10), (25, 10)):
        checkpoints.save(tmp_path, step, fill(b"weights"), good=good)
    assert steps_kept(tmp_path) == [10, 20, 25]
    assert checkpoints.newest_until(tmp_path, 19) == tmp_path / "checkpoint-10"
    assert checkpoints.newest_until(tmp_path, 9) is None and checkpoints.newest_until(tmp_path, None) is None
    checkpoints.save(tmp_path, 30, fill(b"weights"), good=27)  # found good between two checkpoints
    assert steps_kept(tmp_path) == [25, 30]


def test_f43_a_run_that_went_back_is_not_overtaken_by_what_it_had_saved_before(tmp_path: Path) -> None:
    """Continued from step 5 by an explicit wish, it must not go on from the old step 20 when it is killed and started again."""
    for step in (5, 15, 20):
        checkpoints.save(tmp_path, step, fill(b"old"), good=5)
    checkpoints.save(tmp_path, 10, fill(b"new"), good=5)
    assert steps_kept(tmp_path) == [5, 10]
    assert checkpoints.newest_valid(tmp_path) == tmp_path / "checkpoint-10"
