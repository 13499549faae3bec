"""Sources: names, patterns and bytes are the same whether a dataset lies in a folder, in an archive or in archives in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from histozoo.errors import HistozooError, UsageError
from histozoo.prepare.sources import Source, malformed, open_source
from tests.fakes.archives import gzip_of_zeros, tar_bytes, zip_bytes

TREE = {
    "set/train/a.png": b"a",
    "set/train/b.PNG": b"b",
    "set/test/a.png": b"c",
    "set/labels.csv": b"file,label\n",
}


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return laid_out(tmp_path / "data", dict(TREE))


def opened(where: Path) -> Source:
    return open_source(where, scratch=where.parent / "scratch")


def refused(where: Path, pattern: str = "") -> HistozooError:
    with pytest.raises(HistozooError) as caught:
        source = opened(where)
        source.one(pattern)
    return caught.value


# -- names -----------------------------------------------------------------------------------------------------------------------------


def test_a_folder_lists_its_files_sorted_and_gives_their_bytes(tree: Path) -> None:
    source = opened(tree)
    assert source.names() == tuple(sorted(TREE)) and source.left_out == 0
    assert {name: source.read(name) for name in source.names()} == TREE
    assert source.size("set/labels.csv") == 11 and "set/labels.csv" in source and "labels.csv" not in source
    assert source.path("set/train/a.png") == tree / "set/train/a.png"
    assert not source.scratch.exists()


def test_a_pattern_is_held_against_the_end_of_a_name_part_by_part(tree: Path) -> None:
    source = opened(tree)
    assert source.matching("*.png") == ["set/test/a.png", "set/train/a.png"]
    assert source.matching("train/*") == ["set/train/a.png", "set/train/b.PNG"]
    assert source.matching("set/*.png") == []  # a star does not cross a folder
    assert source.matching("*/a.[pP][nN]?") == ["set/test/a.png", "set/train/a.png"]
    assert source.matching("ain/a.png") == []  # a part is matched as a whole
    assert source.matching("x/set/labels.csv") == []


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_in_a_folder_are_folders_of_their_own_name(tmp_path: Path, kind: str) -> None:
    data = zip_bytes(TREE) if kind == "zip" else tar_bytes(TREE, "w:gz" if kind == "tar.gz" else "w")
    laid_out(tmp_path / "data", {f"part/one.{kind}": data, "readme.txt": b"1"})
    source = opened(tmp_path / "data")
    assert source.names() == tuple(sorted([*(f"part/one.{kind}/{name}" for name in TREE), "readme.txt"]))
    assert source.read(source.one("train/a.png")) == b"a"
    assert source.matching("train/*.png") == [f"part/one.{kind}/set/train/a.png"]


def test_a_compressed_file_is_mounted_without_its_suffix(tmp_path: Path) -> None:
    laid_out(
        tmp_path / "data", {"x.h5.gz": gzip_of_zeros(2 << 20), "plain.h5": b"1", "plain.h5.gz": b"never read"}
    )
    source = opened(tmp_path / "data")
    assert source.names() == ("plain.h5", "x.h5") and source.left_out == 1
    assert source.size("x.h5") == 2 << 20 and source.read("plain.h5") == b"1"
    assert source.path("x.h5").name == "x.h5" and source.read("x.h5") == bytes(2 << 20)


def test_exactly_one_file_is_given_or_the_error_lists_what_is_there(tree: Path) -> None:
    assert opened(tree).one("labels.csv") == "set/labels.csv"
    several, none = refused(tree, "*/a.png"), refused(tree, "grades.csv")
    assert {several.code, none.code} == {"HZ-U73"}
    assert several.got == "set/test/a.png, set/train/a.png"
    assert none.expected == "one file grades.csv" and none.got == "none of 4 files: set"
    laid_out(tree, {"set/more.rar": b"Rar!"})
    assert refused(tree, "grades.csv").got.endswith("; not looked into: set/more.rar")


def test_a_missing_file_is_named_with_where_else_it_lies(tree: Path) -> None:
    source = opened(tree)
    for read in (source.read, source.path, source.size):
        with pytest.raises(UsageError) as caught:
            read("train/A.png")
        assert caught.value.code == "HZ-U73" and caught.value.expected == "train/A.png"
        assert caught.value.got == "elsewhere: set/test/a.png, set/train/a.png"


@pytest.mark.parametrize("name", ["nowhere", "nowhere.zip"])
def test_what_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    error = refused(tmp_path / name)
    assert error.code == "HZ-U73" and name in error.where


def test_the_error_for_layouts_has_all_its_fields() -> None:
    error = malformed("a picture has no mask", "x.png", expected="a mask", got="none")
    assert error.code == "HZ-U73" and isinstance(error, UsageError)
    assert all((error.what, error.where, error.expected, error.got, error.kept, error.next_step))


# -- folders as they are (case 32) -----------------------------------------------------------------------------------------------------


def test_d32_junk_is_passed_over_and_counted(tree: Path) -> None:
    junk = (
        ".DS_Store",
        "__MACOSX/._a.png",
        "set/Thumbs.db",
        "set/._a.png",
        ".ipynb_checkpoints/a.png",
        "desktop.ini",
    )
    laid_out(tree, dict.fromkeys(junk, b"x"))
    source = opened(tree)
    assert source.names() == tuple(sorted(TREE)) and source.left_out == len(junk)


def test_d32_names_survive(tree: Path) -> None:
    names = [
        "Größe \u6761 #1.png",
        "cafe\u0301.png",
        "caf\u00e9.png",
        "UPPER.PNG",
        "with, comma.png",
        "a.b.TCGA-01.01Z.png",
    ]
    laid_out(tree, {name: name.encode() for name in names})
    source = opened(tree)
    assert set(source.names()) == set(TREE) | set(names)
    assert [source.read(name).decode() for name in names] == names


def test_d32_a_name_that_is_not_utf_8_is_refused(tree: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tree) + b"/\xe4.png"))).write_bytes(b"1")
    error = refused(tree)
    assert error.code == "HZ-U72" and "it is not UTF-8" in error.got
    error.text().encode()


def test_d32_links_out_are_refused_and_loops_and_links_to_folders_add_nothing(tree: Path) -> None:
    (tree / "set/loop").symlink_to(tree)
    (tree / "set/again").symlink_to(tree / "set/train")
    (tree / "set/one.png").symlink_to(tree / "set/train/a.png")
    (tree / "set/gone.png").symlink_to(tree / "nowhere.png")
    source = opened(tree)
    assert set(source.names()) == {*TREE, "set/one.png", "set/gone.png"} and source.left_out == 2
    assert source.read("set/one.png") == b"a" and source.size("set/gone.png") == 0
    with pytest.raises(UsageError) as caught:
        source.read("set/gone.png")
    assert caught.value.code == "HZ-U73" and "set/gone.png" in caught.value.where
    (tree / "set/out.png").symlink_to(Path(__file__))
    assert refused(tree).code == "HZ-U72" and "'set/out.png' leads to" in refused(tree).got


def test_a_folder_that_is_itself_a_link_is_followed(tree: Path) -> None:
    (tree.parent / "link").symlink_to(tree)
    assert opened(tree.parent / "link").names() == tuple(sorted(TREE))


def test_a_file_without_permission_is_refused_when_it_is_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    source = opened(tree)
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(UsageError) as caught:
        source.read("set/labels.csv")
    assert (caught.value.code, caught.value.got) == ("HZ-U73", "Permission denied")


# -- unpacked beside its archive -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "one/"])
def test_what_lies_unpacked_beside_its_archive_is_there_once(tmp_path: Path, folder: str) -> None:
    loose = {folder + name: content for name, content in TREE.items()}
    laid_out(tmp_path / "data", loose | {"one.zip": zip_bytes(TREE)})
    source = opened(tmp_path / "data")
    assert source.names() == tuple(sorted(loose)) and source.left_out == 1


def test_what_is_half_unpacked_is_refused(tmp_path: Path) -> None:
    files = dict(list(TREE.items())[:-1]) | {"one.zip": zip_bytes(TREE)}
    error = refused(laid_out(tmp_path / "data", files))
    assert error.code == "HZ-U73" and "3 of its 4 files" in error.got


def test_a_file_that_two_archives_share_with_the_folder_is_no_half_unpacked_archive(tmp_path: Path) -> None:
    files = {"LICENCE": b"free", "one.zip": zip_bytes({"LICENCE": b"free", "a.png": b"a", "b.png": b"b"})}
    assert len(opened(laid_out(tmp_path / "data", files)).names()) == 4
