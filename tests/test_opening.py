"""What an experiment says about unlabelled tiles becomes one mixed data set, and what cannot be is refused by name."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from histozoo.data import choosing, thinning
from histozoo.data.opening import KEYS, Opened, check_sources, open_unlabelled
from histozoo.data.ordering import Shards
from histozoo.data.packed_tiles import PackedTiles
from histozoo.data.streamed import BLOCK
from histozoo.errors import IntegrityError, UsageError
from tests.fakes import unlabelled as fakes

pytest.importorskip("openslide")
pytest.importorskip("datasets")
PX = 24


def opened(root: Path, sources: dict[str, dict[str, Any]], **changes: Any) -> Opened:
    given = {"seed": 3, "samples": 3 * BLOCK, "px": PX, "uniforms": 5, "cache": root / "cache", **changes}
    return open_unlabelled(sources, root=root, **given)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_all(tmp_path_factory.mktemp("all"))


# -- what comes out --


def test_every_kind_is_mixed_in_one_run_by_weight(root: Path) -> None:
    weights = dict(zip(fakes.KINDS, (1, 2, 3, 4, 6), strict=True))
    said = {name: {**source, "weight": weights[name]} for name, source in fakes.KINDS.items()}
    dataset, facts = opened(root, said)
    numbers = np.array([dataset.place(i).number for i in range(BLOCK)])
    assert np.abs(np.bincount(numbers) - BLOCK * np.array([1, 2, 3, 4, 6]) / 16).max() <= 2
    for number, name in enumerate(said):
        sample = dataset[int(np.flatnonzero(numbers == number)[0])]
        assert sample["set"] == number and facts[name]["weight"] == weights[name]
        assert sample["tiles"].shape == (PX, PX, 3) and sample["tiles"].dtype == torch.uint8
        assert sample["u"].shape == (5,)


def test_the_tiles_are_those_of_the_sources(root: Path) -> None:
    shown = {
        "own": fakes.blobs(10, seed=1),
        "listed": fakes.blobs(6, seed=2),
        "tars": np.concatenate([fakes.blobs(7, seed=3), fakes.blobs(4, seed=4)]),
        "parquet": np.concatenate([fakes.blobs(5, seed=5), fakes.blobs(8, seed=6)]),
    }
    for name, tiles_NHWC in shown.items():
        dataset, _ = opened(root, {name: fakes.KINDS[name]})
        n = len(tiles_NHWC)
        for epoch in range(2):
            found = sorted(dataset[i]["tiles"].numpy().tobytes() for i in range(n * epoch, n * (epoch + 1)))
            assert found == sorted(t.tobytes() for t in tiles_NHWC)


def test_without_weights_every_tile_is_equally_likely(root: Path) -> None:
    dataset, facts = opened(root, fakes.KINDS)
    weights = np.array([facts[name]["weight"] for name in fakes.KINDS])
    assert weights[:4].tolist() == [10, 6, 11, 13] and weights[4] == facts["wsi"]["tiles"] > 10
    counts = np.bincount([dataset.place(i).number for i in range(BLOCK)])
    assert np.abs(counts - BLOCK * weights / weights.sum()).max() <= 5


def test_what_a_source_is_made_of_is_told_as_json(root: Path) -> None:
    said = {
        name: {**source, "least_tissue": 0.1, **({} if "slides" in source else {"duplicates": "same"})}
        for name, source in fakes.KINDS.items()
    }
    facts = opened(root, said)[1]
    assert json.loads(json.dumps(facts)) == facts and str(root) not in json.dumps(facts)
    assert all(len(f["fingerprint"]) == 64 for f in facts.values())
    assert len({f["fingerprint"] for f in facts.values()}) == 5
    own = {k: v for k, v in facts["own"].items() if k != "fingerprint"}
    assert own == {
        "kind": "folder", "source": "folder", "weight": 10.0, "filters": {"least_tissue": 0.1, "duplicates": "same"},
        "kept": 10, "tiles": 10, "background": 0, "duplicates": 0,
    }  # fmt: skip
    assert facts["tars"]["shards"] == 2 and facts["tars"]["ignored"] == 0
    assert facts["wsi"]["slides"] == 2 and facts["wsi"]["mpp"] == 1.0
    assert opened(root, said)[1] == facts


@pytest.mark.parametrize("kind", ["folder", "table", "tars", "parquet"])
def test_what_changes_in_a_source_changes_its_fingerprint(tmp_path: Path, kind: str) -> None:
    tiles_NHWC, prints = fakes.blobs(5), []
    for number in range(2):
        tiles_NHWC[3, 0, 0] += number
        where = tmp_path / str(number)
        writers = {"folder": fakes.write_folder, "table": fakes.write_table}
        if kind in writers:
            path = writers[kind](where, tiles_NHWC)
        else:
            path = getattr(fakes, f"write_{kind}")(where, [tiles_NHWC])
        source = {kind if kind in writers else "shards": path.relative_to(tmp_path).as_posix()}
        prints.append(opened(tmp_path, {"s": source})[1]["s"]["fingerprint"])
    assert prints[0] != prints[1]


def test_a_worker_that_is_not_forked_gets_no_copy_of_the_packed_tiles(tmp_path: Path) -> None:
    fakes.write_folder(tmp_path / "s", fakes.blobs(200))
    dataset, _ = opened(tmp_path, {"s": {"folder": "s"}})
    sent = pickle.dumps(dataset)
    assert len(sent) < 200 * PX * PX * 3 / 10
    again = pickle.loads(sent)
    assert all(torch.equal(again[i]["tiles"], dataset[i]["tiles"]) for i in range(300))
    part = PackedTiles(np.asarray(fakes.blobs(9))[3:], np.arange(6))
    assert np.array_equal(pickle.loads(pickle.dumps(part)).tile((2,)), fakes.blobs(9)[5])
    mapped = np.load(next((tmp_path / "cache").glob("*.npy")), mmap_mode="r")
    assert np.array_equal(
        pickle.loads(pickle.dumps(PackedTiles(mapped[7:], np.arange(9)))).tile((0,)), mapped[7]
    )


# -- filters --


def with_background_and_copies() -> np.ndarray:
    tiles_NHWC = fakes.blobs(12, 64)
    tiles_NHWC[3] = 245
    tiles_NHWC[7] = np.rot90(tiles_NHWC[2])
    tiles_NHWC[9] = tiles_NHWC[2][:, ::-1]
    return tiles_NHWC


def write(kind: str, folder: Path) -> dict[str, Any]:
    tiles_NHWC = with_background_and_copies()
    if kind == "folder":
        return {"folder": fakes.write_folder(folder, tiles_NHWC).name}
    parts = [tiles_NHWC[:5], tiles_NHWC[5:11], tiles_NHWC[11:]]
    return {"shards": getattr(fakes, f"write_{kind}")(folder, parts).name}


@pytest.mark.parametrize("kind", ["folder", "tars", "parquet"])
def test_background_and_copies_are_left_out_of_every_kind_alike(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {**write(kind, tmp_path / "s"), "least_tissue": 0.2, "duplicates": "same"}
    dataset, facts = opened(tmp_path, {"s": source}, px=64)
    counts = {k: facts["s"][k] for k in ("kept", "tiles", "background", "duplicates")}
    assert counts == {"kept": 9, "tiles": 12, "background": 1, "duplicates": 2}
    tiles_NHWC = with_background_and_copies()
    wanted = sorted(tiles_NHWC[row].tobytes() for row in (0, 1, 2, 4, 5, 6, 8, 10, 11))
    for epoch in range(2):
        assert (
            sorted(dataset[i]["tiles"].numpy().tobytes() for i in range(9 * epoch, 9 * epoch + 9)) == wanted
        )

    # What was found out is not found out again.
    for module, name in ((choosing, "alike_thumbnails"), (thinning, "_seen")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("looked at again"))
    again, told = opened(tmp_path, {"s": source}, px=64)
    assert told == facts and [again.place(i) for i in range(30)] == [dataset.place(i) for i in range(30)]


@pytest.mark.parametrize("kind", ["folder", "tars", "parquet"])
def test_a_source_of_glass_alone_is_refused(tmp_path: Path, kind: str) -> None:
    glass = np.full((3, PX, PX, 3), 245, np.uint8)
    if kind == "folder":
        fakes.write_folder(tmp_path / "s", glass)
    else:
        getattr(fakes, f"write_{kind}")(tmp_path / "s", [glass])
    source = {"folder" if kind == "folder" else "shards": "s", "least_tissue": 0.1}
    with pytest.raises(UsageError, match="HZ-U86 no tile is left") as caught:
        opened(tmp_path, {"glassy": source})
    assert caught.value.where == "glassy" and "'background': 3" in caught.value.got


@pytest.mark.parametrize("kind", ["tars", "parquet"])
def test_a_pass_over_shards_goes_on_with_the_next_shard(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, looked = {**write(kind, tmp_path / "s"), "least_tissue": 0.2}, []
    real = Shards.tile

    def tile(self: Shards, at: tuple[int, ...]) -> Any:
        looked.append(at)
        if len(looked) == 9:
            raise KeyboardInterrupt
        return real(self, at)

    monkeypatch.setattr(Shards, "tile", tile)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, {"s": source}, px=64)
    assert opened(tmp_path, {"s": source}, px=64)[1]["s"]["kept"] == 11
    assert len(looked) == 9 + 7  # of three shards of 5, 6 and 1 tiles, the first was done


def test_every_tile_that_cannot_be_decoded_is_told_by_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fakes.png, []

    def counted(tile: np.ndarray) -> bytes:
        calls.append(1)
        return b"no picture" if len(calls) in (2, 7) else real(tile)

    monkeypatch.setattr(fakes, "png", counted)
    source = {**write("tars", tmp_path / "s"), "least_tissue": 0.2}
    with pytest.raises(UsageError, match="HZ-D24") as caught:
        opened(tmp_path, {"s": source}, px=64)
    where = tmp_path / "s"
    assert caught.value.where == f"{where / '000.tar'}, 001.png; and 1 more: {where / '001.tar'}, 001.png"


# -- what cannot be --


@pytest.mark.parametrize(
    ("source", "what", "expected", "got"),
    [
        ({"foldr": "a"}, "no such key 'foldr'", "nearest: folder", "foldr"),
        ({"folder": "a", "wieght": 1}, "no such key 'wieght'", "nearest: weight", "wieght"),
        (
            {"folder": "a", "downsample": 1},
            "no such key 'downsample'",
            "one of folder, weight, mpp, least_tissue, duplicates",
            "downsample",
        ),
        (
            {"slides": "a", "mpp": 1, "duplicates": "same"},
            "no such key",
            "one of slides, weight, mpp",
            "duplicates",
        ),
        ({}, "of one kind", "one of folder, table, shards, slides", "none of them"),
        ({"weight": 1.0}, "of one kind", "folder", "none of them"),
        ({"folder": "a", "shards": "b"}, "of one kind", "folder", "folder, shards"),
        ("tiles", "of one kind", "folder", "none of them"),
        ({"folder": 3}, "wrong value", "below the data's root", "3"),
        ({"folder": " "}, "wrong value", "below the data's root", "' '"),
        ({"folder": "/abs"}, "wrong value", "below the data's root", "'/abs'"),
        ({"folder": "a/../../b"}, "wrong value", "below the data's root", "'a/../../b'"),
        ({"folder": "a", "weight": 0}, "wrong value", "above 0", "0"),
        ({"folder": "a", "weight": True}, "wrong value", "above 0", "True"),
        ({"folder": "a", "weight": float("nan")}, "wrong value", "above 0", "nan"),
        ({"folder": "a", "least_tissue": 1.5}, "wrong value", "0 to 1", "1.5"),
        ({"folder": "a", "duplicates": "some"}, "wrong value", "none, same, near", "'some'"),
        ({"folder": "a", "duplicates": ["same"]}, "wrong value", "none, same, near", "['same']"),
        ({"slides": "a"}, "resolution", "mpp, or else downsample", "neither"),
        ({"slides": "a", "mpp": 1, "downsample": 2}, "resolution", "mpp, or else downsample", "both"),
    ],
)
def test_what_is_said_wrongly_is_refused_before_anything_is_opened(
    source: Any, what: str, expected: str, got: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_sources({"good": {"folder": "a"}, "bad": source})
    error = caught.value
    assert error.code == "HZ-U86" and error.where == "unlabelled.bad" and error.got == got
    assert what in error.what and expected in error.expected


def test_sources_and_weights_are_said_of_all_or_of_none() -> None:
    check_sources({"a": {"folder": "a", "weight": 1}, "b": {"table": "b", "weight": 0.5}})
    with pytest.raises(UsageError, match=r"HZ-U86 some sources have a weight(.|\n)*none of b"):
        check_sources({"a": {"folder": "a", "weight": 1}, "b": {"table": "b"}})
    with pytest.raises(UsageError, match="HZ-U86 there is nothing"):
        check_sources({})


def test_a_folder_is_no_table_and_what_is_not_there_is_named(root: Path) -> None:
    for source, other in (({"folder": "table/tiles.csv"}, "table"), ({"table": "folder"}, "folder")):
        with pytest.raises(UsageError, match="HZ-U86 a source is of another kind") as caught:
            opened(root, {"s": source})
        assert caught.value.expected.startswith(f"{other} = ")
    for kind, code in zip(KEYS, ("HZ-U62", "HZ-U62", "HZ-U86", "HZ-U86"), strict=True):
        source = {kind: "none", **({"mpp": 1} if kind == "slides" else {})}
        with pytest.raises(UsageError, match=code) as caught:
            opened(root, {"s": source})
        assert str(root / "none") in caught.value.where


@pytest.mark.parametrize("name", ["own", "tars", "wsi"])
def test_links_that_lead_out_of_a_folder_are_passed_over_and_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = fakes.write_all(tmp_path / "root")
    before = opened(root, {name: fakes.KINDS[name]})[1][name]["tiles"]
    assert "passed over" not in caplog.text
    folder = root / next(v for v in fakes.KINDS[name].values() if isinstance(v, str))
    one = next(p for p in sorted(folder.iterdir()) if p.is_file())
    (folder / f"far{one.suffix}").symlink_to(one.replace(tmp_path / one.name))
    (folder / "._hidden.png").write_bytes(b"")
    assert opened(root, {name: fakes.KINDS[name]})[1][name]["tiles"] < before
    assert f"{folder}: 1 passed over, links out of the folder: far{one.suffix}" in caplog.text
    assert "hidden" not in caplog.text


def test_only_slides_need_openslide(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert opened(root, {"own": fakes.KINDS["own"]})[1]["own"]["kept"] == 10
    with pytest.raises(UsageError, match="HZ-U76") as caught:
        opened(root, {"wsi": fakes.KINDS["wsi"]})
    assert caught.value.next_step == "pip install 'histozoo[wsi]'"


def test_a_tile_that_is_not_the_one_of_its_table_is_refused(tmp_path: Path) -> None:
    fakes.write_table(tmp_path / "t", fakes.blobs(5))
    for name in ("001.png", "003.png"):
        (tmp_path / "t" / name).write_bytes(fakes.png(fakes.blobs(1, seed=9)[0]))
    with pytest.raises(UsageError, match="HZ-D25") as caught:
        opened(tmp_path, {"s": {"table": "t/tiles.csv"}})
    folder = tmp_path / "t"
    assert caught.value.where == f"{folder / '001.png'}; and 1 more: {folder / '003.png'}"


def test_a_damaged_shard_is_refused_whatever_is_kept_of_it(tmp_path: Path) -> None:
    source = {**write("tars", tmp_path / "s"), "least_tissue": 0.2}
    opened(tmp_path, {"s": source}, px=64)
    path = tmp_path / "s/001.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(IntegrityError, match="HZ-E39") as caught:
        opened(tmp_path, {"s": source}, px=64)
    assert str(path) in caught.value.where
