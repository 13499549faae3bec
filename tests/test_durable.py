"""Whatever happens while a file is written, its reader sees the previous content or the new one, and nothing is left lying about."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from histozoo import durable
from histozoo.errors import ResourceError
from tests.fakes.killer import kill_until_done, killed_at_byte
from tests.fakes.nospace import file_size_limit, no_space

OLD, NEW = b"old" * 11, bytes(range(251)) * 2


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "file"
    target.write_bytes(OLD)
    return target


def test_g50_disk_full_at_every_byte_keeps_the_old_file(path: Path) -> None:
    for n_bytes in range(0, len(NEW), 7):
        with no_space(n_bytes) as disk, pytest.raises(ResourceError) as caught:
            durable.write_bytes(path, NEW)
        assert disk.refused == 1 and disk.written == n_bytes
        assert path.read_bytes() == OLD and files(path.parent) == ["file"]
    text = str(caught.value)
    assert caught.value.code == "HZ-F42" and caught.value.exit_code == 5
    assert re.search(
        rf"disk is full\n  where: +{path}\n  expected: +502 bytes to write\n  got: +[\d,]+ bytes free", text
    )
    with no_space(len(NEW)):
        durable.write_bytes(path, NEW)
    assert path.read_bytes() == NEW


def test_g50_kill_at_every_byte_leaves_the_old_file_or_the_new_one(path: Path) -> None:
    for n_bytes in range(1, len(NEW), 83):
        assert killed_at_byte(lambda: durable.write_bytes(path, NEW), n_bytes)
        assert path.read_bytes() == OLD
        assert len(files(path.parent)) == 2, "a dead process cannot tidy up"
        assert durable.remove_stale(path.parent) == n_bytes
        assert files(path.parent) == ["file"]
    assert killed_at_byte(lambda: durable.write_bytes(path, NEW), len(NEW)), "all written, not renamed yet"
    assert path.read_bytes() == OLD


def test_g50_kill_at_random_moments(path: Path) -> None:
    big = [os.urandom(1 << 21) for _ in range(2)]
    durable.write_bytes(path, big[0])

    def work() -> None:
        for i in range(100):
            durable.write_bytes(path, big[i % 2])

    killed = kill_until_done(work, seed=5, kills=8, longest=0.1)
    assert path.read_bytes() in big
    durable.remove_stale(path.parent)
    assert files(path.parent) == ["file"] and killed > 0


def test_a_file_size_limit_of_the_system_is_not_called_a_full_disk(path: Path) -> None:
    with file_size_limit(100), pytest.raises(ResourceError, match="HZ-F42 the file is larger than") as caught:
        durable.write_bytes(path, NEW)
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.EFBIG
    assert "ulimit -f" in caught.value.next_step and "free" not in str(caught.value)
    assert "502 bytes" in caught.value.expected
    assert path.read_bytes() == OLD and files(path.parent) == ["file"]


def test_a_quota_that_is_used_up_is_said_so(path: Path) -> None:
    error = durable.resource_error(path, 502, OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))
    assert error.code == "HZ-F42" and error.what == "your quota on this disk is used up"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: durable.write_text(path, "x" * 50),
        lambda path: durable.write_json(path, ["x" * 50]),
        lambda path: durable.write_with(path, lambda temporary: durable.write_bytes(temporary, b"x" * 50)),
    ],
)
def test_every_writer_is_behind_the_same_wall(path: Path, write: Callable[[Path], None]) -> None:
    with no_space(49), pytest.raises(ResourceError, match="HZ-F42"):
        write(path)
    assert path.read_bytes() == OLD and files(path.parent) == ["file"]
    write(path)
    assert b"x" * 50 in path.read_bytes()


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle"

    def work() -> None:
        with durable.staged_folder(target) as staged:
            for name in "abc":
                durable.write_bytes(staged / name, b"x" * 40)

    for n_bytes in range(0, 120, 13):
        with no_space(n_bytes), pytest.raises(ResourceError, match="disk is full"):
            work()
        assert files(tmp_path) == []
    for n_bytes in (1, 40, 41, 100, 120):
        assert killed_at_byte(work, n_bytes)
        assert not target.exists() and durable.remove_stale(tmp_path) == n_bytes
        assert files(tmp_path) == []
    work()
    assert files(target) == ["a", "b", "c"]


def test_finished_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with (
        pytest.raises(FileExistsError, match="never overwritten"),
        durable.staged_folder(tmp_path / "bundle"),
    ):
        pass
    assert files(tmp_path) == ["bundle"]


def test_failing_block_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), durable.staged_folder(tmp_path / "bundle") as staged:
        (staged / "a").write_bytes(b"x")
        raise ZeroDivisionError
    assert files(tmp_path) == []


def test_stale_files_of_living_processes_and_of_others_stay(tmp_path: Path) -> None:
    mine = tmp_path / f".f.hz-{os.getpid()}-01234567.tmp"
    for path in (mine, tmp_path / ".f.other.tmp", tmp_path / "f"):
        path.write_bytes(b"x")
    assert durable.remove_stale(tmp_path) == 0
    assert len(files(tmp_path)) == 3


def test_unwritable_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(
        ResourceError, match=r"a file stands where a folder is needed\n  where: +.*file/below"
    ):
        durable.write_bytes(tmp_path / "file" / "below", NEW)


def test_a_folder_is_tried_before_the_work_and_nothing_is_left(tmp_path: Path) -> None:
    durable.check_folder(tmp_path / "new" / "below")
    durable.check_folder(tmp_path)
    assert files(tmp_path) == []
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(ResourceError, match=r"HZ-F42 .* a file stands where a folder is needed"):
        durable.check_folder(tmp_path / "file" / "below")
    with no_space(0), pytest.raises(ResourceError, match="HZ-F42 the disk is full"):
        durable.check_folder(tmp_path / "new")
    assert files(tmp_path) == ["file"]


def test_no_nan_in_json(path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        durable.write_json(path, float("nan"))
    assert path.read_bytes() == OLD
