"""Group D, what a folder may hold: files that cannot be opened, junk, links, odd names, and tiles changed under a table's hashes.

Cases by number; the specimens of single files are in test_reliability_images.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo import feature_files, registry
from histozoo.data import tables, tiles
from histozoo.data.decoding import decode, read
from histozoo.errors import UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import as_is
from histozoo.tile_lists import HIDDEN, LINKED, LOOP, ODD, OUTSIDE, find_tiles, walk
from histozoo.tile_rows import TileReader
from tests.fakes import badtiles
from tests.fakes.badtiles import drawn, saved
from tests.fakes.tile_paths import CLASSES, embedded, task
from tests.fakes.tiny import NAME, tiny_zoo

NOBODY = 65534


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write to; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="histozoo-open-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_a_user() -> Iterator[None]:
    """Gives up the right of root to read everything, where we have it."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def labelled(folder: Path, names: tuple[str, ...] = ("1.png", "2.png", "3.png", "4.png")) -> Path:
    """Writes a table of tiles, labels in turn, into `folder`."""
    (folder / "images").mkdir(parents=True)
    lines = ["file,label,group"]
    for n, name in enumerate(names):
        (folder / "images" / name).write_bytes(saved(np.roll(drawn(), 5 * n, axis=0), "PNG"))
        lines.append(f"images/{name},{CLASSES[n % 2]},g{n}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    return caught.value.code


# -- 24: what cannot be opened --


def test_d24_a_file_that_may_not_be_read_is_refused_on_every_path(open_folder: Path) -> None:
    folder = labelled(open_folder / "bad")
    closed = folder / "images/2.png"
    for path in (
        open_folder,
        folder,
        folder / "images",
        *(folder / "images").iterdir(),
        folder / "labels.csv",
    ):
        path.chmod(0o777 if path.is_dir() else 0o644)
    closed.chmod(0)
    plan = task("bad", preparation=as_is("bad"))
    dataset = tables.read_table(folder, classes=CLASSES)
    # What `embed` reads with; the model itself lies where another user may not look.
    reader = TileReader(
        find_tiles(folder / "images"), np.asarray, contract=registry.entry(NAME).contract, edge="reject"
    )
    with as_a_user():
        assert code_of(lambda: decode(closed)) == "HZ-D24"
        assert code_of(lambda: read(closed)) == "HZ-D24"
        assert code_of(lambda: dataset[1]["image"]) == "HZ-D24"
        assert code_of(lambda: tiles.pack(dataset, 48, open_folder / "cache")) == "HZ-D24"
        assert code_of(lambda: reader.file("2.png")) == "HZ-D24" and reader.file("1.png")
        assert code_of(lambda: prepare(plan, folder, open_folder / "out", workers=0)) == "HZ-D24"


def test_d24_a_folder_that_may_not_be_read_is_refused_and_not_passed_over(open_folder: Path) -> None:
    labelled(open_folder / "tiles/a")
    (open_folder / "tiles/closed").mkdir()
    for path in (open_folder / "tiles", *(open_folder / "tiles").rglob("*")):
        path.chmod(0o777)
    (open_folder / "tiles/closed").chmod(0)
    with as_a_user():
        assert code_of(lambda: find_tiles(open_folder / "tiles")) == "HZ-U62"
        assert code_of(lambda: tables.read_folder(open_folder / "tiles", classes=CLASSES)) == "HZ-U62"


def test_d24_a_link_to_nothing_and_a_missing_file_are_refused_on_every_path(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "bad")
    dataset = tables.read_table(folder, classes=CLASSES)
    gone = folder / "images/2.png"
    gone.unlink()
    gone.symlink_to("nowhere.png")
    (folder / "all.csv").write_text("file\nimages/1.png\nimages/2.png\nimages/9.png\n")
    assert code_of(lambda: decode(gone)) == "HZ-D24"
    assert code_of(lambda: dataset[1]["image"]) == "HZ-D24"
    assert code_of(lambda: tiles.pack(dataset, 48, tmp_path / "cache")) == "HZ-D24"
    assert code_of(lambda: tables.read_table(folder, classes=CLASSES)) == "HZ-E33"
    listed = embedded(folder / "images", tmp_path / "f.safetensors")
    assert {n: v for n, v in listed.items() if isinstance(v, str)} == {"2.png": "HZ-D24"} and len(listed) == 4
    tabled = embedded(folder / "all.csv", tmp_path / "g.safetensors")
    assert {n for n, v in tabled.items() if isinstance(v, str) and v == "HZ-D24"} == {
        "images/2.png",
        "images/9.png",
    }


def test_d24_links_in_a_circle_are_refused_with_the_systems_word(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    with pytest.raises(UsageError, match=r"HZ-D24 [\s\S]*symbolic links"):
        decode(tmp_path / "a.png")
    assert walk(tmp_path) == ([], {LOOP: ["a.png", "b.png"]})


# -- 25: with hashes --


def with_hashes(folder: Path) -> Path:
    table = folder / "labels.csv"
    header, *rows = table.read_text().splitlines()
    hashes = [hashlib.sha256((folder / row.split(",")[0]).read_bytes()).hexdigest() for row in rows]
    lines = [f"{header},sha256", *(f"{row},{sha256}" for row, sha256 in zip(rows, hashes, strict=True))]
    table.write_text("\n".join(lines) + "\n")
    return folder


def test_d25_a_changed_tile_is_refused_where_the_table_has_hashes(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "bad", ("1.jpg", "2.png", "3.png", "4.png"))
    (changed,) = (s for s in badtiles.specimens() if s.name == "byte.jpg")
    whole = saved(drawn(), "JPEG", quality=90)
    (folder / "images/1.jpg").write_bytes(whole)
    with_hashes(folder)
    dataset = tables.read_table(folder, classes=CLASSES)
    before = tiles.fingerprint(dataset)
    (folder / "images/1.jpg").write_bytes(changed.data)
    assert len(changed.data) == len(whole) and tiles.fingerprint(dataset) != before
    with pytest.raises(UsageError, match="HZ-D25 1 tiles are not") as caught:
        tables.read_table(folder, classes=CLASSES)
    assert caught.value.got == "other bytes: images/1.jpg (line 2)"
    found = embedded(folder / "labels.csv", tmp_path / "f.safetensors")
    assert [n for n, v in found.items() if isinstance(v, str)] == ["images/1.jpg"]
    assert found["images/1.jpg"] == "HZ-D25"


# -- 32: junk --


@pytest.fixture
def littered(tmp_path: Path) -> Path:
    """Two tiles of each class, and everything else that lies about in folders."""
    root = tmp_path / "tiles"
    for name in ("a/1.png", "a/2.PNG", "b/deep/3.png", "b/4.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(saved(drawn(), "PNG"))
    for name in ("a/.hidden.png", "a/._1.png", "a/.ipynb_checkpoints/1-checkpoint.png", "b/__MACOSX/4.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"junk")
    (root / "a/Thumbs.db").write_bytes(b"junk")
    (root / "a/loop").symlink_to(root)
    (root / "a/again").symlink_to(root / "b")
    os.mkfifo(root / "b/pipe.png")
    return root


JUNK = {
    HIDDEN: ["a/._1.png", "a/.hidden.png", "a/.ipynb_checkpoints", "b/__MACOSX"],
    LOOP: ["a/loop"],
    LINKED: ["a/again"],
    ODD: ["b/pipe.png"],
}
TILES = ["a/1.png", "a/2.PNG", "b/4.png", "b/deep/3.png"]


def test_d32_junk_is_passed_over_by_kind_and_each_tile_comes_once(littered: Path) -> None:
    found = find_tiles(littered)
    assert found.names == TILES and found.ignored == ["a/Thumbs.db"] and found.skipped == JUNK


def test_d32_every_path_lists_the_same_tiles(
    littered: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = tables.read_folder(littered, classes=CLASSES)
    assert dataset["file"][:] == TILES and dataset["label"][:] == [0, 0, 1, 1]
    assert "4 passed over: hidden" in caplog.text and "1 passed over: links that lead round" in caplog.text
    assert sorted(embedded(littered, tmp_path / "f.safetensors")) == TILES
    report = json.loads((tmp_path / "f.safetensors.report.json").read_text())
    assert report["skipped"] == JUNK and report["ignored"] == ["a/Thumbs.db"]
    (littered / "labels.csv").write_text(
        "file,label,group\n" + "".join(f"{name},{name[0]},{name}\n" for name in TILES)
    )
    assert tables.read_table(littered, classes=CLASSES)["file"][:] == TILES
    made = task("out", preparation=as_is("tiles"))
    report = prepare(made, littered, tmp_path / "out", workers=0)
    assert (report.n_pictures, report.n_done) == (4, 4)


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_d32_a_link_out_of_the_folder_is_never_followed(linked: str, littered: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "5.png").write_bytes(saved(drawn(), "PNG"))
    target = outside / "5.png" if linked == "file" else outside
    name = "b/5.png" if linked == "file" else "b/more"
    (littered / name).symlink_to(target)
    tile = name if linked == "file" else "b/more/5.png"
    assert find_tiles(littered).skipped[OUTSIDE] == [name]
    assert code_of(lambda: tables.read_folder(littered, classes=CLASSES)) == "HZ-U33"
    (littered / "some.csv").write_text(f"file,label,group\n{tile},b,g\na/1.png,a,g\n")
    assert code_of(lambda: tables.read_table(littered, "some.csv", classes=CLASSES)) == "HZ-U33"
    found = embedded(littered / "some.csv", tmp_path / "f.safetensors")
    assert found[tile] == "HZ-U33" and not isinstance(found["a/1.png"], str)


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "a/../../outside.png"])
def test_d32_a_table_to_embed_reads_nothing_outside_its_folder(
    name: str, littered: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.png").write_bytes(saved(drawn(), "PNG"))
    (littered / "some.csv").write_text(f"file\n{name}\na/1.png\n")
    assert embedded(littered / "some.csv", tmp_path / "f.safetensors")[name] == "HZ-U33"


def test_d32_a_name_that_is_not_utf8_is_rejected_by_a_name_that_can_be_written(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "bad")
    odd = os.fsencode(folder / "images") + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(saved(drawn(), "PNG"))
    found = embedded(folder / "images", tmp_path / "f.safetensors")
    assert found.pop("caf\\udce9.png") == "HZ-D32"
    assert len(found) == 4 and not any(isinstance(v, str) for v in found.values())
    with pytest.raises(UsageError, match=r"HZ-E33 [\s\S]*1 there but not listed: images/caf\\udce9\.png"):
        tables.read_table(folder, classes=CLASSES)
    (tmp_path / "classes/a").mkdir(parents=True)
    shutil.move(folder / "images", tmp_path / "classes/b")
    assert code_of(lambda: tables.read_folder(tmp_path / "classes", classes=CLASSES)) == "HZ-D32"


def test_d32_names_survive_feature_files_csv_and_parquet(tmp_path: Path) -> None:
    import datasets

    names = tuple(s.name for s in badtiles.specimens() if s.case == 32)
    folder = tmp_path / "bad"
    (folder / "images").mkdir(parents=True)
    lines = ["file,label,group"]
    for n, name in enumerate(names):
        Image.fromarray(np.roll(drawn(), n, axis=1)).save(folder / "images" / name, "PNG")
        lines.append(f'"images/{name}",{CLASSES[n % 2]},g{n}')
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    embedded(folder / "images", tmp_path / "f.safetensors")
    assert set(feature_files.read(tmp_path / "f.safetensors").names) == set(names)
    dataset = tables.read_table(folder, classes=CLASSES)
    wanted = [f"images/{name}" for name in names]
    assert dataset["file"][:] == wanted
    plain = dataset.remove_columns("image")
    plain.to_csv(tmp_path / "t.csv", index=False)
    plain.to_parquet(tmp_path / "t.parquet")
    cache = str(tmp_path / "cache")
    assert datasets.Dataset.from_csv(str(tmp_path / "t.csv"), cache_dir=cache)["file"][:] == wanted
    assert datasets.Dataset.from_parquet(str(tmp_path / "t.parquet"), cache_dir=cache)["file"][:] == wanted
