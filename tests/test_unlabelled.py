"""Tiles without labels: the law of the draw, purity, what is left out of a set, and streaming from shards at any position."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from histozoo.data.choosing import choose_rows, tissue_share
from histozoo.data.duplicates import SAME
from histozoo.data.streamed import BLOCK, ShardSet, StreamedTiles, exact_shares
from histozoo.data.unlabelled import TileSet
from histozoo.errors import IntegrityError, UsageError


def noise(n: int, px: int = 24, seed: int = 0) -> np.ndarray:
    """Tiles of smooth dark blobs, all different."""
    random = np.random.default_rng(seed)
    small = random.integers(20, 160, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(s).resize((px, px), Image.Resampling.BICUBIC)) for s in small]
    )


def sets(px: int = 4) -> dict[str, TileSet]:
    random = np.random.default_rng(0)
    return {
        name: TileSet(
            tiles_NHWC=random.integers(0, 256, (n, px, px, 3), dtype=np.uint8),
            rows=np.arange(0, n, 2),
            weight=weight,
        )
        for name, n, weight in (("a", 20, 1.0), ("b", 200, 3.0))
    }


# -- drawing --


def test_every_sample_carries_its_own_uniform_numbers() -> None:
    mixed = StreamedTiles(sets(), seed=1, samples=500, px=4, uniforms=52)
    u_NU = torch.stack([mixed[i]["u"] for i in range(500)])
    assert u_NU.shape == (500, 52) and u_NU.dtype == torch.float32
    assert 0 <= float(u_NU.min()) and float(u_NU.max()) < 1 and abs(float(u_NU.mean()) - 0.5) < 0.01
    assert len(torch.unique(u_NU[:, 0])) > 495


@pytest.mark.parametrize("workers", [0, 2])
def test_f47_a_sample_depends_on_the_seed_and_its_index_alone(workers: int) -> None:
    mixed = StreamedTiles(sets(), seed=5, samples=24, px=4, uniforms=3)
    loader = DataLoader(Subset(mixed, range(8, 24)), batch_size=4, num_workers=workers)
    for number, batch in enumerate(loader):
        for slot in range(4):
            one = mixed[8 + number * 4 + slot]
            assert int(batch["index"][slot]) == one["index"] and int(batch["set"][slot]) == one["set"]
            assert torch.equal(batch["tiles"][slot], one["tiles"]) and torch.equal(batch["u"][slot], one["u"])
    assert any(
        not torch.equal(mixed[i]["u"], StreamedTiles(sets(), seed=6, samples=9, px=4, uniforms=3)[i]["u"])
        for i in range(9)
    )


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"rows": np.arange(0)}, "a"),
        ({"weight": 0.0}, "{'a': 0.0}"),
        ({"weight": float("nan")}, "{'a': nan}"),
        ({"tiles_NHWC": np.zeros((20, 5, 5, 3), np.uint8)}, "(5, 5)"),
    ],
)
def test_sets_that_cannot_be_mixed_are_refused(changed: dict[str, object], got: str) -> None:
    given = sets()
    given["a"] = TileSet(**{**vars(given["a"]), **changed})
    with pytest.raises(UsageError, match="HZ-U86") as caught:
        StreamedTiles(given, seed=0, samples=1, px=4, uniforms=1)
    assert str(caught.value.got) == got
    with pytest.raises(UsageError, match="HZ-U86"):
        StreamedTiles({}, seed=0, samples=1, px=4, uniforms=1)


# -- choosing --


def test_tissue_share_counts_stained_pixels() -> None:
    tiles = np.full((3, 10, 10, 3), 250, np.uint8)
    tiles[1, :3] = (150, 60, 150)
    tiles[2] = (0, 0, 0)
    assert tissue_share(tiles) == pytest.approx([0.0, 0.3, 1.0])


def test_background_and_copies_are_left_out_and_counted() -> None:
    tiles = noise(12, 64)
    tiles[3] = 245
    tiles[7] = np.rot90(tiles[2])
    tiles[9] = tiles[2][:, ::-1]
    chosen = choose_rows(tiles, least_tissue=0.2, duplicates=SAME, where="set")
    assert chosen.rows.tolist() == [0, 1, 2, 4, 5, 6, 8, 10, 11]
    assert chosen.report() == {"kept": 9, "tiles": 12, "background": 1, "duplicates": 2}
    assert choose_rows(tiles).rows.tolist() == list(range(12))
    some = choose_rows(tiles, least_tissue=0.2, duplicates=SAME, rows=np.array([9, 7, 3]))
    assert some.rows.tolist() == [7] and some.tiles == 3


def test_a_set_of_background_is_refused() -> None:
    with pytest.raises(UsageError, match="HZ-U86 no tile is left to train on") as caught:
        choose_rows(np.full((3, 8, 8, 3), 250, np.uint8), least_tissue=0.1, where="glass")
    assert caught.value.where == "glass" and "'background': 3" in caught.value.got


# -- streaming --


def write_shards(folder: Path, sizes: list[list[int]], first: int = 0) -> Path:
    """Writes shards of row groups of these sizes; a tile's red and green say its number, from `first` on."""
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    (folder / "shards").mkdir(parents=True)
    listed, number = [], first
    for shard, groups in enumerate(sizes):
        path = folder / "shards" / f"{shard:05d}.parquet"
        schema = pyarrow.schema(
            {"image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})}
        )
        with parquet.ParquetWriter(path, schema) as writer:
            for size in groups:
                rows = [
                    {"image": {"bytes": png(n), "path": f"{n}.png"}} for n in range(number, number + size)
                ]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                number += size
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        listed.append({"file": f"shards/{path.name}", "rows": sum(groups), "sha256": sha256})
    facts = {"classes": ["tile"], "rows": number - first, "shards": listed}
    (folder / "index.json").write_text(json.dumps(facts))
    return folder


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number // 256, number % 256, 7)).save(file, "PNG")
    return file.getvalue()


def number_of(sample: dict[str, torch.Tensor]) -> int:
    red, green, _ = sample["tiles"][2, 2].tolist()
    return 256 * red + green


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shards")
    return {
        "a": write_shards(root / "a", [[7, 5, 1], [9], [4, 4, 4, 6]]),
        "b": write_shards(root / "b", [[30, 20]], first=1000),
    }


def streamed(folders: dict[str, Path], **changes: int) -> StreamedTiles:
    given = {"seed": 3, "samples": 5 * BLOCK, "px": 8, "uniforms": 2, **changes}
    sets = {
        name: ShardSet(folder=folders[name], weight=weight, window=3)
        for name, weight in (("a", 1.0), ("b", 2.0))
    }
    return StreamedTiles(sets, **given)


def test_streaming_shows_every_tile_once_an_epoch_in_another_order(folders: dict[str, Path]) -> None:
    alone = StreamedTiles(
        {"a": ShardSet(folder=folders["a"], window=3)}, seed=3, samples=120, px=8, uniforms=2
    )
    epochs = [[number_of(alone[i]) for i in range(40 * e, 40 * e + 40)] for e in range(3)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != sorted(epochs[0])
    other = StreamedTiles(
        {"a": ShardSet(folder=folders["a"], window=3)}, seed=4, samples=40, px=8, uniforms=2
    )
    assert [number_of(other[i]) for i in range(40)] != epochs[0]


def test_streaming_mixes_sets_exactly_by_weight(folders: dict[str, Path]) -> None:
    mixed = streamed(folders)
    numbers = [mixed.place(i).number for i in range(3 * BLOCK)]
    for block in range(3):
        assert abs(numbers[block * BLOCK : (block + 1) * BLOCK].count(0) - BLOCK / 3) <= 1
    assert numbers[:BLOCK] != numbers[BLOCK : 2 * BLOCK]
    shown = [number_of(mixed[i]) for i in range(BLOCK) if mixed.place(i).number == 1]
    assert sorted(shown[:50]) == list(range(1000, 1050)) == sorted(shown[50:100])


@pytest.mark.parametrize("workers", [0, 2])
def test_f40_streaming_resumes_at_any_sample_with_any_number_of_workers(
    folders: dict[str, Path], workers: int
) -> None:
    """Each part is read by a new data set, in the middle of windows, epochs and blocks."""
    whole = [streamed(folders)[i] for i in range(BLOCK - 40, BLOCK + 40)]
    loader = DataLoader(
        Subset(streamed(folders), range(BLOCK - 8, BLOCK + 40)), batch_size=6, num_workers=workers
    )
    found = [(int(i), t, u) for b in loader for i, t, u in zip(b["index"], b["tiles"], b["u"], strict=True)]
    assert [i for i, _, _ in found] == list(range(BLOCK - 8, BLOCK + 40))
    for (index, tile, u_U), one in zip(found, whole[32:], strict=True):
        assert index == one["index"] and torch.equal(tile, one["tiles"]) and torch.equal(u_U, one["u"])


def test_a_reader_holds_one_window_of_row_groups_and_reads_each_once(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as parquet

    reads: list[int] = []
    real = parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet.ParquetFile, "read_row_group", lambda self, i, **k: (reads.append(i), real(self, i, **k))[1]
    )
    alone = StreamedTiles(
        {"a": ShardSet(folder=folders["a"], window=3)}, seed=3, samples=40, px=8, uniforms=2
    )
    for i in range(40):
        alone[i]
        assert len(alone.sources[0]._held) <= 3
    assert len(reads) == 8


def test_a_damaged_shard_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "s", [[4]])
    (folder / "shards/00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(IntegrityError, match="HZ-E39"):
        StreamedTiles({"s": ShardSet(folder=folder)}, seed=0, samples=1, px=4, uniforms=1)


def test_a_tile_that_cannot_be_decoded_is_named_with_its_shard_and_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = png
    monkeypatch.setitem(globals(), "png", lambda n: b"no picture" if n == 4 else real(n))
    folder = write_shards(tmp_path / "s", [[3, 3]])
    broken = StreamedTiles({"s": ShardSet(folder=folder)}, seed=0, samples=6, px=8, uniforms=1)
    bad = next(i for i in range(6) if broken.place(i).at == (1, 1))
    with pytest.raises(UsageError, match="HZ-D") as caught:
        broken[bad]
    assert caught.value.where.endswith("00000.parquet, row group 1, row 1")


@pytest.mark.parametrize(
    ("weights", "expected"), [([1, 1], [5, 5]), ([1e-9, 1], [1, 9]), ([3, 2, 2], [4, 3, 3]), ([2.0], [10])]
)
def test_exact_shares_sum_up_and_leave_nobody_out(weights: list[float], expected: list[int]) -> None:
    assert exact_shares(weights, 10).tolist() == expected
