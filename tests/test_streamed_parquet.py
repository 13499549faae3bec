"""Parquet shards that others wrote: any column of encoded images, every tile once, and what was changed or cannot be read is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from histozoo.data import parquet_tiles
from histozoo.data.streamed import ShardSet, StreamedTiles
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.numbered import number_of, png

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
STRUCT = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path.parent


def numbers(first: int, n: int) -> list[bytes]:
    return [png(number) for number in range(first, first + n)]


def opened(folder: Path, cache: Path | None = None) -> StreamedTiles:
    sets = {"p": ShardSet(folder=folder, cache=cache)}
    return StreamedTiles(sets, seed=3, samples=100, px=8, uniforms=1)


def shown(tiles: StreamedTiles, n: int) -> list[int]:
    return sorted(number_of(tiles[i]) for i in range(n))


@pytest.mark.parametrize("kind", [pyarrow.binary(), pyarrow.large_binary(), STRUCT])
@pytest.mark.parametrize("column", ["image", "picture"])
def test_any_column_of_encoded_images_is_read(tmp_path: Path, kind: Any, column: str) -> None:
    for shard, n in enumerate((7, 4)):
        data: list[Any] = numbers(10 * shard, n)
        if kind == STRUCT:
            data = [{"bytes": d, "path": None} for d in data]
        columns = {column: pyarrow.array(data, kind), "label": ["a"] * n}
        write(tmp_path / f"deep/{shard}.parquet", columns, row_group_size=3)
    assert shown(opened(tmp_path), 11) == [*range(7), *range(10, 14)]


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [Image.new("RGB", (8, 8), (0, n, 7)) for n in range(6)]
    rows = datasets.Dataset.from_dict({"image": images, "mask": images})
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    rows.cast(features).to_parquet(tmp_path / "train.parquet")
    assert shown(opened(tmp_path), 6) == list(range(6))


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["a"]},
        {"image": ["a.png"]},
        {"one": pyarrow.array([b"1"]), "two": pyarrow.array([b"2"])},
    ],
)
def test_shards_without_one_column_of_images_are_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="HZ-U86 tiles cannot be read from this shard") as caught:
        opened(write(tmp_path / "s/0.parquet", columns))
    assert caught.value.where.endswith("0.parquet") and ", ".join(columns) in caught.value.got


def test_row_groups_that_no_worker_could_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "s/0.parquet", {"image": numbers(0, 9)}, row_group_size=3)
    monkeypatch.setattr(parquet_tiles, "MAX_GROUP_BYTES", 600)
    assert shown(opened(folder), 9) == list(range(9))
    write(tmp_path / "s/0.parquet", {"image": numbers(0, 9)})
    with pytest.raises(UsageError, match="HZ-U86"):
        opened(folder)


def test_a_row_without_bytes_is_named(tmp_path: Path) -> None:
    rows = pyarrow.array([{"bytes": png(1), "path": None}, {"bytes": None, "path": "a.png"}], STRUCT)
    tiles = opened(write(tmp_path / "s/0.parquet", {"image": rows}))
    with pytest.raises(UsageError, match="HZ-D24") as caught:
        [tiles[i] for i in range(2)]
    assert caught.value.where.endswith("0.parquet, row group 0, row 1")


def test_a_shard_is_hashed_once_and_refused_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache, hashed = write(tmp_path / "s/0.parquet", {"image": numbers(0, 9)}), tmp_path / "c", []
    real = parquet_tiles.sha256_file
    monkeypatch.setattr(parquet_tiles, "sha256_file", lambda path: (hashed.append(path), real(path))[1])
    before = [opened(folder, cache).sources[0].fingerprint for _ in range(2)]
    assert before[0] == before[1] == opened(folder).sources[0].fingerprint and len(hashed) == 2
    write(tmp_path / "s/0.parquet", {"image": numbers(1, 9)})
    with pytest.raises(IntegrityError, match="HZ-E39") as caught:
        opened(folder, cache)
    (record,) = cache.iterdir()
    assert "as first read" in caught.value.expected and str(record) in caught.value.next_step
    assert opened(folder).sources[0].fingerprint != before[0]


def test_a_shard_cut_off_is_refused_at_the_start_and_under_a_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "s/0.parquet", {"image": numbers(0, 9)}, row_group_size=3)
    tiles = opened(folder)
    path = folder / "0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    for attempt in (lambda: tiles[0], lambda: opened(folder)):
        with pytest.raises(IntegrityError, match="HZ-E39") as caught:
            attempt()
        assert caught.value.where == str(path)
