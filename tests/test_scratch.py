"""Scratch: what is unpacked is whole or not there, once for all processes; many files cost little."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from histozoo.errors import ResourceError
from histozoo.prepare import archives, scratch
from histozoo.prepare.sources import Source
from tests.fakes.archives import GOOD, tar_bytes, zip_bytes
from tests.fakes.nospace import file_size_limit
from tests.test_sources import TREE, laid_out, opened

# -- scratch ---------------------------------------------------------------------------------------------------------------------------


def test_a_source_is_pickled_as_two_paths_and_opens_again(tmp_path: Path) -> None:
    tree = laid_out(tmp_path / "data", TREE | {"one.tar.gz": tar_bytes(GOOD, "w:gz")})
    source = opened(tree)
    data = pickle.dumps(source)
    assert len(data) < 500
    again = pickle.loads(data)
    assert again.names() == source.names() and again is pickle.loads(data)
    assert again.read("one.tar.gz/set/train/b.txt") == GOOD["set/train/b.txt"]


def test_a_compressed_tar_is_decompressed_once(tmp_path: Path) -> None:
    laid_out(tmp_path / "data", {"one.tar.gz": tar_bytes(GOOD, "w:gz")})
    first = opened(tmp_path / "data")
    before = {p: p.stat().st_mtime_ns for p in first.scratch.rglob("*") if p.is_file()}
    opened(tmp_path / "data").read("one.tar.gz/set/train/a.txt")
    assert {p: p.stat().st_mtime_ns for p in first.scratch.rglob("*") if p.is_file()} == before and len(
        before
    ) == 1


def test_an_archive_that_changed_is_unpacked_anew(tmp_path: Path) -> None:
    where = laid_out(tmp_path / "data", {"one.tar.gz": tar_bytes({"a.txt": b"old"}, "w:gz")})
    assert opened(where).read("one.tar.gz/a.txt") == b"old"
    laid_out(where, {"one.tar.gz": tar_bytes({"a.txt": b"new!"}, "w:gz")})
    assert opened(where).read("one.tar.gz/a.txt") == b"new!"


def test_processes_that_ask_at_once_get_one_whole_file(tmp_path: Path) -> None:
    content = os.urandom(1 << 16) * 64
    where = laid_out(tmp_path / "data", {"one.zip": zip_bytes({"big.svs": content}, packed=False)})
    code = (
        "import sys, hashlib; from pathlib import Path; from histozoo.prepare.sources import open_source\n"
        "source = open_source(sys.argv[1], scratch=Path(sys.argv[2]))\n"
        "print(hashlib.sha256(source.path('one.zip/big.svs').read_bytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(where), str(tmp_path / "scratch")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {one.communicate()[0].strip() for one in running} == {hashlib.sha256(content).hexdigest()}
    assert [p.name for p in (tmp_path / "scratch").rglob("*") if p.is_file()] == ["big.svs"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    where = laid_out(tmp_path / "data", {"one.zip": zip_bytes({"a.svs": b"a" * 9, "b.svs": b"b"})})
    source = opened(where)
    folder = source.path("one.zip/a.svs").parent
    left = folder / ".b.svs.hz-999999999-0123abcd.tmp"
    left.write_bytes(b"half")
    assert source.path("one.zip/b.svs").read_bytes() == b"b" and not left.exists()


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    where = laid_out(tmp_path / "data", {"one.zip": zip_bytes({"a.svs": os.urandom(1 << 20)})})
    source = opened(where)
    with file_size_limit(1 << 16), pytest.raises(ResourceError) as caught:
        source.path("one.zip/a.svs")
    assert caught.value.code == "HZ-F42"
    assert [p for p in source.scratch.rglob("*") if p.is_file()] == []
    assert source.path("one.zip/a.svs").stat().st_size == 1 << 20


def test_an_archive_that_may_not_be_read_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = laid_out(tmp_path / "data", {"one.zip": zip_bytes(TREE)})
    source, opening = opened(where), Path.open

    def denied(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "one.zip":
            raise PermissionError(13, "Permission denied")
        return opening(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ResourceError) as caught:
        source.path("one.zip/set/train/a.png")
    assert (caught.value.code, caught.value.got) == ("HZ-U74", "Permission denied")


def test_an_archive_that_goes_while_it_is_read_is_an_error_of_the_archive(tmp_path: Path) -> None:
    where = laid_out(tmp_path / "data", {"one.zip": zip_bytes(TREE)})
    source = opened(where)
    (where / "one.zip").unlink()
    for read in (source.read, source.path):
        with pytest.raises(ResourceError) as caught:
            read("one.zip/set/train/a.png")
        assert caught.value.code == "HZ-U74" and "one.zip" in caught.value.where


# -- many files ------------------------------------------------------------------------------------------------------------------------


def seconds(work: Iterable[object]) -> float:
    start = time.process_time()
    for _ in work:
        pass
    return time.process_time() - start


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_fifty_thousand_members_are_listed_quickly_and_no_file_stays_open(tmp_path: Path) -> None:
    """A zip is used: 50,000 loose files take longer to make than to list. Limits are ten times what was measured on a slow core."""
    names = [f"set/{i % 40:02d}/tile_{i:06d}.png" for i in range(50_000)]
    (tmp_path / "big.zip").write_bytes(zip_bytes(dict.fromkeys(names, b""), packed=False))
    before = open_files()
    found: list[Source] = []
    assert seconds(found.append(opened(tmp_path / "big.zip")) for _ in range(1)) < 15
    source = found[0]
    assert len(source.names()) == 50_000 and open_files() == before
    assert seconds(source.matching("07/*.png") for _ in range(1)) < 3
    assert len(source.matching("07/*.png")) == 1_250
    assert source.read(names[49_999]) == b"" and open_files() == before


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_list_of_a_large_archive_is_read_once_for_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(scratch, "MANY", len(GOOD))
    where = laid_out(
        tmp_path / "data", {f"one.{kind}": zip_bytes(GOOD) if kind == "zip" else tar_bytes(GOOD)}
    )
    first = opened(where)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "index", None)
        again = opened(where)
    assert again.names() == first.names() and again.left_out == first.left_out
    assert {name: again.read(name) for name in again.names()} == {
        f"one.{kind}/{n}": c for n, c in GOOD.items()
    }
    (kept,) = first.scratch.iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert opened(where).names() == first.names()
    os.utime(where / f"one.{kind}", ns=(1, 1))
    opened(where)
    assert len(list(first.scratch.iterdir())) == 2


def test_listing_a_folder_reads_no_file_and_keeps_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out(tmp_path / "data", {f"{i % 20}/{i}.png": b"" for i in range(2_000)})
    before = open_files()

    def never(self: Path, *args: object, **kwargs: object) -> object:
        raise AssertionError(f"{self} was opened")

    monkeypatch.setattr(Path, "open", never)
    source = opened(tmp_path / "data")
    assert len(source.names()) == 2_000 and open_files() == before
