"""Tiles straight from WebDataset shards: every one once, at any position, and a shard that is not what it was is named."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from histozoo.data import tar_index, tar_tiles
from histozoo.data.streamed import BLOCK, ShardSet, StreamedTiles
from histozoo.data.tar_tiles import TarShards
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.archives import tar_bytes
from tests.fakes.numbered import number_of, png, write_tars
from tests.test_unlabelled import write_shards


def opened(folder: Path, cache: Path | None = None, **changes: Any) -> StreamedTiles:
    given = {"seed": 3, "samples": 200, "px": 8, "uniforms": 2, **changes}
    return StreamedTiles({"t": ShardSet(folder=folder, cache=cache)}, **given)


def refused(folder: Path, cache: Path | None = None) -> IntegrityError:
    with pytest.raises(IntegrityError, match="HZ-E39") as caught:
        opened(folder, cache)
    return caught.value


def shard(folder: Path, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "0.tar").write_bytes(data)
    return folder


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TarShards, "GROUP", 3)
    monkeypatch.setattr(TarShards, "WINDOW", 4)


def test_every_tile_is_shown_once_an_epoch_in_another_order(tmp_path: Path, small_groups: None) -> None:
    tiles = opened(write_tars(tmp_path / "t", [17, 1, 22]))
    epochs = [[number_of(tiles[i]) for i in range(40 * e, 40 * e + 40)] for e in range(3)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != sorted(epochs[0])
    assert tiles.sources[0].ignored == 80


def test_tar_and_parquet_shards_are_mixed_exactly_by_weight(tmp_path: Path) -> None:
    tars, parquet = write_tars(tmp_path / "t", [30]), write_shards(tmp_path / "p", [[20, 10]], first=1000)
    sets = {"t": ShardSet(folder=tars), "p": ShardSet(folder=parquet, weight=3.0)}
    tiles = StreamedTiles(sets, seed=3, samples=BLOCK, px=8, uniforms=2)
    shown = [number_of(tiles[i]) for i in range(BLOCK)]
    assert abs(sum(n < 1000 for n in shown) - BLOCK / 4) <= 1
    assert sorted([n for n in shown if n >= 1000][:30]) == list(range(1000, 1030))


@pytest.mark.parametrize("workers", [0, 2])
def test_f40_streaming_resumes_at_any_sample_with_any_number_of_workers(
    tmp_path: Path, small_groups: None, workers: int
) -> None:
    folder, cache = write_tars(tmp_path / "t", [17, 1, 22]), tmp_path / "cache"
    whole = [opened(folder)[i] for i in range(25, 60)]
    loader = DataLoader(Subset(opened(folder, cache), range(33, 60)), batch_size=6, num_workers=workers)
    found = [(int(i), t, u) for b in loader for i, t, u in zip(b["index"], b["tiles"], b["u"], strict=True)]
    assert [i for i, _, _ in found] == list(range(33, 60))
    for (index, tile, u_U), one in zip(found, whole[8:], strict=True):
        assert index == one["index"] and torch.equal(tile, one["tiles"]) and torch.equal(u_U, one["u"])


def test_readers_that_were_forked_share_an_open_file_without_harm(tmp_path: Path) -> None:
    """The parent has read before, so the workers inherit its file; each must read at a place of its own."""
    tiles = opened(write_tars(tmp_path / "t", [200]))
    first = [number_of(tiles[i]) for i in range(200)]
    loader = DataLoader(tiles, batch_size=4, num_workers=2)
    assert [number_of({"tiles": t}) for batch in loader for t in batch["tiles"]] == first
    assert number_of(pickle.loads(pickle.dumps(tiles))[5]) == first[5]


def test_more_shards_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_tiles, "_OPEN_FILES", 2)
    tiles = opened(write_tars(tmp_path / "t", [2] * 5))
    assert sorted(number_of(tiles[i]) for i in range(10)) == list(range(10))
    assert len(tiles.sources[0]._open) == 2


# -- what counts as a tile --


def test_a_tile_is_a_key_and_a_suffix(tmp_path: Path) -> None:
    members = {
        "a/1.png": png(1), "b/1.png": png(2), "long" * 40 + ".PNG": png(3), "größe.png": png(4),
        "5.mask.png": png(5), "._6.png": png(6), ".7.png": png(7), "8.json": b"{}", "9": b"",
    }  # fmt: skip
    shard(tmp_path / "t", tar_bytes(members))
    with tarfile.open(tmp_path / "t/0.tar", "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a/1.png"
        tar.addfile(link)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    tiles = opened(tmp_path / "t")
    assert sorted(number_of(tiles[i]) for i in range(4)) == [1, 2, 3, 4]
    assert tiles.sources[0].ignored == 7
    names = {tiles.sources[0].name(0, row).rpartition(", ")[2] for row in range(4)}
    assert names == {"a/1.png", "b/1.png", "long" * 40 + ".PNG", "größe.png"}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_of_tar_is_read(tmp_path: Path, format: int) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format) as tar:
        for n in range(5):
            info = tarfile.TarInfo(f"{'deep/' * (1 if format == tarfile.USTAR_FORMAT else 40)}{n}.png")
            info.size, info.mtime = len(png(n)), 1.5 if format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(png(n)))
    tiles = opened(shard(tmp_path / "t", data.getvalue()))
    assert sorted(number_of(tiles[i]) for i in range(5)) == list(range(5))


def test_a_tile_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    tiles = opened(shard(tmp_path / "t", tar_bytes({"one.png": b"no picture"})))
    with pytest.raises(UsageError, match="HZ-D24") as caught:
        tiles[0]
    assert caught.value.where == f"{tmp_path / 't/0.tar'}, one.png"


@pytest.mark.parametrize(
    ("members", "got"),
    [
        ([("a.png", b"1"), ("a.png", b"2")], "a.png after another picture"),
        ([("a.jpg", b"1"), ("a.png", b"2")], "a.png after another picture"),
    ],
)
def test_two_pictures_of_one_key_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], got: str
) -> None:
    """A picture and its mask, or a member that replaces an earlier one: which is the tile cannot be guessed."""
    assert got in refused(shard(tmp_path / "t", tar_bytes(members))).got


# -- damage --


def test_the_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache, scans = write_tars(tmp_path / "t", [5, 5]), tmp_path / "cache", []
    real = tar_index._scan
    monkeypatch.setattr(tar_index, "_scan", lambda path: (scans.append(path.name), real(path))[1])
    for _ in range(2):
        assert opened(folder, cache).sources[0].rows == 10
    assert scans == ["00000.tar", "00001.tar"]
    os.utime(folder / "00001.tar")  # another time, the same bytes
    for _ in range(2):
        opened(folder, cache)
    assert scans[2:] == ["00001.tar"]
    next(iter(cache.iterdir())).write_bytes(b"PK\3\4")
    assert opened(folder, cache).sources[0].rows == 10 and len(scans) == 4


def test_a_shard_that_was_changed_since_it_was_indexed_is_refused(tmp_path: Path) -> None:
    folder, cache = write_tars(tmp_path / "t", [5]), tmp_path / "cache"
    before = opened(folder, cache).sources[0].fingerprint
    path = folder / "00000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    error = refused(folder, cache)
    assert error.where == str(path) and "as first read" in error.expected
    (index,) = cache.glob("*.npz")
    assert str(index) in error.next_step
    index.unlink()
    assert opened(folder, cache).sources[0].fingerprint != before


def test_a_shard_that_changes_under_a_run_is_refused(tmp_path: Path) -> None:
    folder = write_tars(tmp_path / "t", [5])
    path = folder / "00000.tar"
    tiles = opened(folder)
    data = bytearray(path.read_bytes())
    data[512 + 40] ^= 1  # in the pixels of the first tile
    path.write_bytes(data)
    found = []
    for i in range(5):
        try:
            tiles[i]
        except IntegrityError as error:
            found.append(error)
    assert [(e.code, e.got) for e in found] == [("HZ-E39", "other bytes")] and str(path) in found[0].where
    path.write_bytes(data[:700])
    with pytest.raises(IntegrityError, match=r"HZ-E39(.|\n)*cut off"):
        [tiles[i] for i in range(5)]
    path.unlink()
    with pytest.raises(IntegrityError, match=r"HZ-E39(.|\n)*No such file"):
        [pickle.loads(pickle.dumps(tiles))[i] for i in range(5)]


def test_a_shard_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Also where a member ends: an end without zeros is none. Python's tarfile passes over several of these."""
    whole = tar_bytes({f"{n}.png": png(n) for n in range(3)})
    content = len(whole.rstrip(b"\0"))
    ends = [0, 1, 511, 512, 600, 1024, 1100, content - 100, -(-content // 512) * 512]
    for end in ends:
        error = refused(shard(tmp_path / "t", whole[:end]))
        assert error.where.startswith(str(tmp_path / "t/0.tar")), end
    assert opened(shard(tmp_path / "t", whole[: ends[-1] + 1024])).sources[0].rows == 3


def test_every_bit_of_a_header_that_flips_is_seen(tmp_path: Path) -> None:
    """In the second member's header, where tarfile would take the rest for the end without a word."""
    whole = tar_bytes({f"{n}.png": png(n) for n in range(3)})
    start = whole.index(b"1.png")
    for byte in (0, 100, 124, 150, 156, 257):
        data = bytearray(whole)
        data[start + byte] ^= 1
        assert "byte 1,024" in refused(shard(tmp_path / "t", bytes(data))).where


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "an empty file"),
        (b"<html>no</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git-LFS"),
        (b"x" * 2000, "2,000 bytes"),
        (tar_bytes({"a.png": png(1)}) + tar_bytes({"b.png": png(2)}), "two archives in one file"),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes, got: str) -> None:
    assert got in refused(shard(tmp_path / "t", data)).got


@pytest.mark.parametrize(
    ("names", "got"),
    [
        ([], "no shard"),
        (["a.tar", "b.parquet", "index.json"], "a.tar, b.parquet"),
        (["a.tar.gz"], "a.tar.gz"),
        (["a.tar", "b.tgz"], "a.tar, b.tgz"),
    ],
)
def test_folders_that_hold_no_shards_of_one_kind_are_refused(
    tmp_path: Path, names: list[str], got: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match="HZ-U86") as caught:
        opened(tmp_path)
    assert caught.value.got == got
    with pytest.raises(UsageError, match=r"HZ-U86(.|\n)*no such folder"):
        opened(tmp_path / "none")


def test_shards_without_a_tile_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HZ-U86"):
        opened(shard(tmp_path / "t", tar_bytes({"a.json": b"{}"})))
