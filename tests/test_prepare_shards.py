"""Parquet shards: the rows of the table, streamed by plain `datasets`, and refused where a shard is not what the index says."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from histozoo.data.shards import read_shards
from histozoo.errors import IntegrityError
from histozoo.prepare import parquet
from histozoo.prepare.engine import prepare
from tests.fakes import layouts
from tests.fakes.layouts import task, tree

pyarrow = pytest.importorskip("pyarrow.parquet", reason="Parquet shards need pyarrow")
N = 6


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives a folder with shards in `shards/`, small enough to be several, and the same tiles as files in `files/`."""
    source = layouts.write_pictures(tmp_path / "source", N)
    prepare(task(), source, tmp_path / "files", workers=0)
    monkeypatch.setattr(parquet, "SHARD_BYTES", 30_000)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 5)
    prepare(task(), source, tmp_path / "shards", workers=0, shards=True)
    return tmp_path


def index(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "shards/synthetic/index.json").read_text())
    return read


def table(out: Path) -> list[dict[str, str]]:
    with (out / "files/synthetic/labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_shards_hold_the_rows_of_the_table_in_its_order(out: Path) -> None:
    folder = out / "shards/synthetic"
    shards = index(out)["shards"]
    assert len(shards) >= 3
    assert set(tree(folder)) == {"README.md", "index.json", "prepared.json", *(s["file"] for s in shards)}
    found = [row for s in shards for row in pyarrow.read_table(folder / s["file"]).to_pylist()]
    assert [s["rows"] for s in shards] == [pyarrow.read_metadata(folder / s["file"]).num_rows for s in shards]
    assert len(found) == index(out)["rows"] == len(table(out)) == 8 * N
    for row, expected in zip(found, table(out), strict=True):
        tile = (out / "files/synthetic" / expected["file"]).read_bytes()
        assert row["image"] == {"bytes": tile, "path": Path(expected["file"]).name}
        assert layouts.CLASSES[row["label"]] == expected["label"]
        assert {k: str(row[k]) for k in ("group", "split", "file", "source", "x", "y")} == {
            k: expected[k] for k in ("group", "split", "file", "source", "x", "y")
        }


def test_both_forms_have_the_same_hash_of_the_table(out: Path) -> None:
    manifests = [
        json.loads((out / form / "synthetic/prepared.json").read_text()) for form in ("files", "shards")
    ]
    assert manifests[0]["table_sha256"] == manifests[1]["table_sha256"]
    for shard in index(out)["shards"]:
        data = (out / "shards/synthetic" / shard["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]


def test_plain_datasets_streams_and_decodes_them(out: Path) -> None:
    import datasets

    files = sorted(map(str, (out / "shards/synthetic/shards").glob("*.parquet")))
    stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    assert stream.features["label"].names == list(layouts.CLASSES)
    pixels = layouts.expected_tiles(out / "source")
    seen = 0
    for row in stream:
        assert row["image"].tobytes() == pixels[row["source"], row["x"], row["y"]]
        seen += 1
    assert seen == len(pixels)


def test_datasets_loads_and_streams_the_folder_by_its_name_alone(out: Path, tmp_path: Path) -> None:
    import datasets

    folder = str(out / "shards/synthetic")
    for streaming in (False, True):
        loaded = datasets.load_dataset(folder, streaming=streaming, cache_dir=str(tmp_path / "cache"))
        assert list(loaded) == ["train"] and loaded["train"].features["label"].names == list(layouts.CLASSES)
        assert [row["file"] for row in loaded["train"]] == [row["file"] for row in table(out)]
    said = (out / "shards/synthetic/README.md").read_text(encoding="utf-8")
    assert "CC0-1.0, not checked" in said and ", ".join(layouts.CLASSES) in said


def test_read_shards_gives_what_the_task_loads(out: Path) -> None:
    loaded, expected = (
        read_shards(out / "shards/synthetic", cache_dir=out / "cache"),
        task().load(out / "files"),
    )
    assert loaded.column_names == expected.column_names
    assert loaded.features == expected.features
    for column in ("label", "group", "file"):
        assert loaded[column][:] == expected[column][:]
    assert all(a["image"].tobytes() == b["image"].tobytes() for a, b in zip(loaded, expected, strict=True))


def cut_off(folder: Path, shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-1])


def alter(folder: Path, shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def remove(folder: Path, shard: Path) -> None:
    shard.unlink()


def add(folder: Path, shard: Path) -> None:
    (folder / "shards/99999.parquet").write_bytes(shard.read_bytes())


def swap(folder: Path, shard: Path) -> None:
    other = folder / "shards/00000.parquet"
    data = other.read_bytes()
    other.write_bytes(shard.read_bytes())
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (cut_off, "00001.parquet"),
        (alter, "00001.parquet"),
        (remove, "00001.parquet"),
        (add, "99999.parquet"),
        (swap, "00000.parquet"),
    ],
)
def test_e39_a_shard_that_is_not_as_indexed_is_named(
    out: Path, damage: Callable[[Path, Path], None], named: str
) -> None:
    folder = out / "shards/synthetic"
    damage(folder, folder / "shards/00001.parquet")
    with pytest.raises(IntegrityError, match="HZ-E39") as caught:
        read_shards(folder, cache_dir=out / "cache")
    assert caught.value.where.endswith(named)


def test_e39_a_tile_that_is_there_twice_is_named_with_its_shard(out: Path) -> None:
    """Both shards are whole and listed with their hashes; only their rows show it."""
    folder = out / "shards/synthetic"
    facts = index(out)
    shards = facts["shards"]
    (folder / shards[1]["file"]).write_bytes((folder / shards[0]["file"]).read_bytes())
    facts["rows"] += shards[0]["rows"] - shards[1]["rows"]
    shards[1] = {**shards[0], "file": shards[1]["file"]}
    (folder / "index.json").write_text(json.dumps(facts))
    with pytest.raises(IntegrityError, match="HZ-E39") as caught:
        read_shards(folder, cache_dir=out / "cache")
    assert caught.value.where.endswith(shards[1]["file"]) and table(out)[0]["file"] in caught.value.got


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"shards": [{"file": "a"}]}', '{"shards": [], "rows": 1}', None]
)
def test_e39_an_index_that_is_none_is_refused(out: Path, text: str | None) -> None:
    path = out / "shards/synthetic/index.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(IntegrityError, match="HZ-E39"):
        read_shards(path.parent, cache_dir=out / "cache")


def test_e39_keys_with_dots_are_kept(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 2)
    for path in sorted((source / "pictures").rglob("*.png")):
        path.rename(path.with_name(path.stem + ".v1.0.png"))
    prepare(task(), source, tmp_path, workers=0, shards=True)
    loaded = read_shards(tmp_path / "synthetic", cache_dir=tmp_path / "cache")
    assert len(set(loaded["file"])) == 16 and all(".v1.0_" in name for name in loaded["file"])


def test_without_pyarrow_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo.errors import UsageError

    source = layouts.write_pictures(tmp_path / "source", 2)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(UsageError, match=r"HZ-U76[\s\S]*pip install 'histozoo\[prepare\]'"):
            prepare(task(), source, tmp_path, workers=0, shards=True)
    assert prepare(task(), source, tmp_path, workers=0, shards=True).n_reused == 4
