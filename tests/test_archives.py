"""Bad archives: each is refused by name, with its reason, and leaves nothing behind; good ones read the same however they are packed."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError
from histozoo.prepare import archives, mounting
from histozoo.prepare.sources import Source, open_source
from tests.fakes.archives import (
    GOOD,
    JUNK,
    Bad,
    bad_archives,
    entry,
    flipped,
    gzip_of_zeros,
    lying_zip,
    tar_bytes,
    zip_bytes,
    zip_link,
)

PACKED: dict[str, Callable[[], bytes]] = {
    "x.zip": lambda: zip_bytes(dict(GOOD) | dict(JUNK)),
    "stored.zip": lambda: zip_bytes(dict(GOOD) | dict(JUNK), packed=False),
    "x.tar": lambda: tar_bytes(dict(GOOD) | dict(JUNK)),
    "gnu.tar": lambda: tar_bytes(dict(GOOD) | dict(JUNK), format=tarfile.GNU_FORMAT),
    "x.tar.gz": lambda: tar_bytes(dict(GOOD) | dict(JUNK), "w:gz"),
    "x.TGZ": lambda: tar_bytes(dict(GOOD) | dict(JUNK), "w:gz"),
    "x.tar.bz2": lambda: tar_bytes(dict(GOOD) | dict(JUNK), "w:bz2"),
    "x.tar.xz": lambda: tar_bytes(dict(GOOD) | dict(JUNK), "w:xz"),
    "decompressed_by_the_browser.tar.gz": lambda: tar_bytes(dict(GOOD) | dict(JUNK)),
    "is_a_tar.zip": lambda: tar_bytes(dict(GOOD) | dict(JUNK)),
}
BAD = bad_archives()


def opened(folder: Path, name: str, data: bytes) -> Source:
    (folder / name).write_bytes(data)
    return open_source(folder / name, scratch=folder / "scratch")


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


@pytest.mark.parametrize("name", PACKED)
def test_a_good_archive_gives_its_files_however_it_is_packed(tmp_path: Path, name: str) -> None:
    source = opened(tmp_path, name, PACKED[name]())
    assert source.names() == tuple(sorted(GOOD)) and source.left_out == len(JUNK)
    for member, content in GOOD.items():
        assert source.read(member) == content and source.size(member) == len(content)
        path = source.path(member)
        assert path.read_bytes() == content and path.name == member.rpartition("/")[2]


def test_a_zip_and_a_tar_are_read_without_writing_a_byte(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar"):
        source = opened(tmp_path, name, PACKED[name]())
        assert [source.read(member) for member in source.names()]
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_archive_is_refused_by_name_and_leaves_nothing(tmp_path: Path, bad: Bad) -> None:
    path = tmp_path / bad.name
    path.write_bytes(bad.data)
    with pytest.raises(HistozooError) as caught:
        open_source(path, scratch=tmp_path / "scratch")
    error = caught.value
    assert error.code == bad.code and bad.says in error.got
    assert str(path) in error.where and bad.member in error.where + error.got
    assert error.kept and error.next_step and error.expected
    assert isinstance(error, UsageError if bad.code == "HZ-U72" else IntegrityError)
    assert files_below(tmp_path) == [bad.name]


@pytest.mark.parametrize("bad", [b for b in BAD if b.name in ("x.zip", "x.tar.gz")][::3], ids=str)
def test_a_bad_archive_in_a_folder_is_refused_the_same(tmp_path: Path, bad: Bad) -> None:
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / bad.name
    path.write_bytes(bad.data)
    (tmp_path / "set" / "good.txt").write_bytes(b"good")
    with pytest.raises(HistozooError) as caught:
        open_source(tmp_path / "set", scratch=tmp_path / "scratch")
    assert caught.value.code == bad.code and str(path) in caught.value.where
    assert files_below(tmp_path) == ["set/good.txt", f"set/{bad.name}"]


def test_the_generator_makes_every_kind_of_bad_archive() -> None:
    assert len({bad.what for bad in BAD}) == len(BAD) >= 70
    assert {bad.code for bad in BAD} == {"HZ-U72", "HZ-U74", "HZ-U75"}


@pytest.mark.parametrize("packed", [True, False])
def test_a_changed_bit_in_a_zip_is_found_when_its_member_is_read_and_the_others_are_whole(
    tmp_path: Path, packed: bool
) -> None:
    data = zip_bytes(GOOD, packed=packed)
    source = opened(tmp_path, "x.zip", flipped(data, b"set/train/b.txt", 15 + 8))
    with pytest.raises(IntegrityError) as caught:
        source.read("set/train/b.txt")
    assert caught.value.code == "HZ-U74" and caught.value.where.endswith("x.zip, member set/train/b.txt")
    with pytest.raises(IntegrityError):
        source.path("set/train/b.txt")
    assert files_below(tmp_path) == ["x.zip"]
    assert source.read("set/train/a.txt") == GOOD["set/train/a.txt"]


def test_a_member_that_unpacks_to_more_than_it_declares_is_a_bomb(tmp_path: Path) -> None:
    source = opened(tmp_path, "x.zip", lying_zip())
    for read in (source.read, source.path):
        with pytest.raises(IntegrityError) as caught:
            read("set/train/liar.txt")
        assert caught.value.code == "HZ-U75" and "set/train/liar.txt" in caught.value.where
    assert files_below(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("name", ["zeros.h5.gz", "zeros.tar.gz"])
def test_a_gzip_bomb_is_stopped_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 4 << 20)
    (tmp_path / name).write_bytes(gzip_of_zeros(64 << 20))
    with pytest.raises(IntegrityError) as caught:
        source = open_source(tmp_path / name, scratch=tmp_path / "scratch")
        source.read("zeros.h5")
    assert caught.value.code == "HZ-U75" and str(tmp_path / name) in caught.value.where
    assert files_below(tmp_path) == [name]


def test_what_compresses_well_but_is_small_is_no_bomb(tmp_path: Path) -> None:
    source = opened(tmp_path, "zeros.bin.gz", gzip_of_zeros(64 << 20))
    assert source.size("zeros.bin") == 64 << 20


def test_a_truncated_gz_is_refused_when_it_is_read(tmp_path: Path) -> None:
    source = opened(tmp_path, "x.h5.gz", gzip_of_zeros(8 << 20)[:-2_000])
    with pytest.raises(IntegrityError) as caught:
        source.path("x.h5")
    assert caught.value.code == "HZ-U74" and "x.h5.gz" in caught.value.where
    assert files_below(tmp_path) == ["x.h5.gz"]


def test_names_that_a_zip_stores_in_utf_8_without_saying_so_survive(tmp_path: Path) -> None:
    """As macOS packs: the flag that says UTF-8 is not set, neither in the directory nor before the data."""
    data = bytearray(zip_bytes({"Größe.txt": b"1"}))
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(mark) + offset + 1] &= ~0x08
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        assert archive.namelist() != ["Größe.txt"]
    assert opened(tmp_path, "x.zip", bytes(data)).names() == ("Größe.txt",)


def test_links_inside_an_archive_stand_for_their_files(tmp_path: Path) -> None:
    special = [
        entry("set/soft.txt", tarfile.SYMTYPE, "train/a.txt"),
        entry("set/hard.txt", tarfile.LNKTYPE, "set/train/a.txt"),
        entry("set/chain.txt", tarfile.SYMTYPE, "soft.txt"),
        entry("set/folder", tarfile.SYMTYPE, "train"),
        entry("set/nowhere.txt", tarfile.SYMTYPE, "gone.txt"),
        entry("set/round.txt", tarfile.SYMTYPE, "round.txt"),
    ]
    source = opened(tmp_path, "x.tar", tar_bytes(GOOD, special=special))
    links = {"set/soft.txt", "set/hard.txt", "set/chain.txt"}
    assert set(source.names()) == set(GOOD) | links and source.left_out == 3
    assert {source.read(name) for name in links} == {GOOD["set/train/a.txt"]}
    zipped = opened(tmp_path, "x.zip", zip_link("set/link.txt", "../a.txt"))
    assert zipped.read("set/link.txt") == b"first"


def test_an_unreadable_archive_is_a_matter_of_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.zip").write_bytes(zip_bytes(GOOD))
    opening = Path.open

    def refused(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "x.zip":
            raise PermissionError(13, "Permission denied")
        return opening(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ResourceError) as caught:
        open_source(tmp_path, scratch=tmp_path / "scratch")
    assert (caught.value.code, caught.value.got) == ("HZ-U74", "Permission denied")
    assert str(tmp_path / "x.zip") in caught.value.where


def test_depth_is_limited_and_a_download_of_downloads_is_not_too_deep(tmp_path: Path) -> None:
    inner = zip_bytes({"b.zip": zip_bytes({"c.zip": zip_bytes({"a.txt": b"1"})})})
    source = opened(
        tmp_path,
        "x.zip",
        zip_bytes({"in.tar.gz": tar_bytes(GOOD, "w:gz"), "p.h5.gz": gzip_of_zeros(1 << 20)}),
    )
    assert set(source.names()) == {f"in.tar.gz/{name}" for name in GOOD} | {"p.h5"}
    assert source.read("in.tar.gz/set/train/b.txt") == GOOD["set/train/b.txt"]
    assert source.size("p.h5") == 1 << 20
    assert mounting.MAX_DEPTH == 3
    with pytest.raises(IntegrityError) as caught:
        opened(tmp_path, "y.zip", zip_bytes({"a.zip": inner}))
    assert caught.value.code == "HZ-U75"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_no_damage_at_random_is_read_as_something_else(tmp_path: Path, name: str) -> None:
    """Cut, changed and doubled bytes: an error of ours, or the files as they were. A tar has no checksum over its contents."""
    rng = random.Random(5)
    whole = PACKED[name]()
    refused = 0
    for i in range(150):
        data = bytearray(whole)
        at = rng.randrange(len(data))
        if i % 3 == 0:
            del data[at:]
        elif i % 3 == 1:
            data[at] ^= 1 << rng.randrange(8)
        else:
            data[at:at] = data[at : at + rng.randrange(1, 600)]
        try:
            source = opened(tmp_path, f"{i}-{name}", bytes(data))
            found = {member: source.read(member) for member in source.names()}
        except HistozooError as error:
            assert error.code in ("HZ-U72", "HZ-U74", "HZ-U75")
            refused += 1
        else:
            if name != "x.tar":
                changed = {m for m in found if m in GOOD and found[m] != GOOD[m]}
                assert not changed
    assert 50 <= refused
