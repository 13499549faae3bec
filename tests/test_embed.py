"""Tiles -> features: every row has one fate, no row stands for another, and a stopped run ends with the same bits."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo import durable, embed, feature_files
from histozoo.claim import claimed
from histozoo.errors import IntegrityError, Interrupted, RejectedInputs, ResourceError, UsageError
from tests.fakes.killer import killed_at_byte
from tests.fakes.nospace import no_space
from tests.fakes.tiny import NAME, draw_tiles, tiny_zoo

NAMES = [f"{slide}/{i}.png" for slide in ("a", "b") for i in range(5)]
ROUNDING = 1e-5
"""Largest accepted difference between a tile alone and in a batch: the order of float32 sums may differ."""


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tiny_zoo()
    monkeypatch.setenv("HISTOZOO_ZOO", str(root / "zoo"))
    return root


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    return draw_tiles(tmp_path / "tiles", NAMES)


def run(source: Path, out: Path, **options: Any) -> embed.Report:
    return embed.embed(
        source, out, **{"model": NAME, "batch_size": 4, "device": "cpu", "mpp": 0.5, **options}
    )


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(embed.report_path(out).read_text())
    assert report["n_input"] == report["n_done"] + report["n_rejected"] + report["n_not_reached"]
    assert report["n_rejected"] == len(report["rejected"])
    return report


# -- what a file holds --


def test_features_are_those_of_each_tile_alone(tiles: Path, tmp_path: Path) -> None:
    import torch

    import histozoo
    from histozoo.data.tiles import decode

    out = tmp_path / "f.safetensors"
    report = run(tiles, out)
    found = feature_files.read(out)
    model, transform = histozoo.load(NAME), histozoo.preprocess(NAME)
    with torch.inference_mode():
        alone = np.stack([model(transform(decode(tiles / n))[None])[0].numpy() for n in NAMES])
    assert found.names == tuple(NAMES)
    assert np.abs(found.features_ND - alone).max() < ROUNDING
    assert len({row.tobytes() for row in found.features_ND}) == len(NAMES)
    assert (report.n_input, report.n_done, report.n_reused, report.n_not_reached) == (10, 10, 0, 0)
    assert report_of(out)["features"] == str(out)


def test_a_file_says_what_made_it(tiles: Path, tmp_path: Path) -> None:
    import histozoo

    run(tiles, tmp_path / "f.safetensors")
    made, entry = feature_files.read(tmp_path / "f.safetensors").made_by, histozoo.entry(NAME)
    assert made == {
        "model": NAME,
        "sha256": entry.weights.sha256,
        "contract": entry.raw["histozoo"]["contract"],
        "mpp": 0.5,
        "histozoo_version": histozoo.__version__,
        "dtype": "float32",
    }


def test_equal_runs_give_equal_bytes(tiles: Path, tmp_path: Path) -> None:
    run(tiles, tmp_path / "1.safetensors")
    run(tiles, tmp_path / "2.safetensors")
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_hdf5_holds_the_same_as_safetensors(tiles: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is optional")
    run(tiles, tmp_path / "f.safetensors")
    run(tiles, tmp_path / "f.h5")
    one, two = feature_files.read(tmp_path / "f.safetensors"), feature_files.read(tmp_path / "f.h5")
    assert (one.names, one.sha256, one.made_by) == (two.names, two.sha256, two.made_by)
    assert np.array_equal(one.features_ND, two.features_ND)


def test_without_h5py_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UsageError, match=r"HZ-U61 .*h5py[\s\S]*pip install 'histozoo\[h5\]'"):
        run(tmp_path, tmp_path / "f.h5")


def test_a_bundle_folder_is_a_model(tiles: Path, tmp_path: Path, zoo: Path) -> None:
    run(tiles, tmp_path / "1.safetensors")
    run(tiles, tmp_path / "2.safetensors", model=str(zoo / "dist" / NAME))
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_files_that_are_no_images_are_named_not_embedded(tiles: Path, tmp_path: Path) -> None:
    (tiles / "notes.txt").write_text("no image")
    assert run(tiles, tmp_path / "f.safetensors").ignored == ["notes.txt"]


# -- sources and formats --


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("path\na/0.png\n", "no column 'file'"),
        ("file\na/0.png\na/0.png\n", "empty or repeated"),
        ("file,label\n,x\n", "empty or repeated"),
        ("file\n", "no tile to embed"),
    ],
)
def test_a_table_with_a_fault_is_refused_before_any_work(
    text: str, what: str, tiles: Path, tmp_path: Path
) -> None:
    table = tiles / "table.csv"
    table.write_text(text)
    with pytest.raises(UsageError, match=rf"HZ-U62 .*{what}"):
        run(table, tmp_path / "f.safetensors")
    assert not (tmp_path / "f.safetensors").exists()


def test_a_missing_source_and_an_unknown_format_are_refused(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HZ-U62 there is no such folder or table"):
        run(tmp_path / "nowhere", tmp_path / "f.safetensors")
    with pytest.raises(UsageError, match=r"HZ-U61 [\s\S]*\.safetensors or \.h5 or \.hdf5[\s\S]*\.npy"):
        run(tiles, tmp_path / "f.npy")


def test_a_table_naming_a_missing_tile_rejects_that_row_alone(tiles: Path, tmp_path: Path) -> None:
    table = tiles / "table.csv"
    table.write_text("file,label\na/1.png,x\nb/gone.png,y\na/0.png,x\n")
    with pytest.raises(RejectedInputs, match=r"HZ-U63 1 of 3 tiles were rejected[\s\S]*b/gone\.png: HZ-D24"):
        run(table, tmp_path / "f.safetensors")
    assert feature_files.read(tmp_path / "f.safetensors").names == ("a/0.png", "a/1.png")
    assert report_of(tmp_path / "f.safetensors")["n_done"] == 2


# -- rejected rows --


def test_a_truncated_image_is_rejected_and_no_other_row_changes(tiles: Path, tmp_path: Path) -> None:
    run(tiles, tmp_path / "whole.safetensors")
    bad = tiles / "a/2.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(RejectedInputs) as raised:
        run(tiles, tmp_path / "f.safetensors")
    assert raised.value.exit_code == 4
    whole, found = (
        feature_files.read(tmp_path / "whole.safetensors"),
        feature_files.read(tmp_path / "f.safetensors"),
    )
    expected = [i for i, name in enumerate(whole.names) if name != "a/2.png"]
    assert found.names == tuple(whole.names[i] for i in expected)
    assert np.array_equal(found.features_ND, whole.features_ND[expected])
    rejected = report_of(tmp_path / "f.safetensors")["rejected"]
    assert [row["name"] for row in rejected] == ["a/2.png"]
    assert rejected[0]["code"].startswith("HZ-D") and rejected[0]["reason"]


def test_too_many_rejected_rows_stop_the_run_and_the_rest_is_not_reached(tmp_path: Path) -> None:
    tiles = draw_tiles(tmp_path / "tiles", [f"{i:02}.png" for i in range(40)])
    for path in sorted(tiles.iterdir())[:20]:
        path.write_bytes(b"no image")
    with pytest.raises(
        RejectedInputs, match="HZ-U63 12 of 40 tiles were rejected; stopped before the last 28"
    ):
        run(tiles, tmp_path / "f.safetensors", max_rejected=0.01)
    assert report_of(tmp_path / "f.safetensors")["n_not_reached"] == 28
    with pytest.raises(RejectedInputs, match="HZ-U63 20 of 40 tiles were rejected\n"):
        run(tiles, tmp_path / "f.safetensors", max_rejected=1.0)
    assert report_of(tmp_path / "f.safetensors")["n_done"] == 20


def test_h61_a_row_that_is_not_finite_is_rejected(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo import loading

    honest = loading.load

    def poisoned(name: str, **options: Any) -> Any:
        model = honest(name, **options)
        return lambda x: model(x).index_put_((_index(x), _index(x)), _nan())

    monkeypatch.setattr(loading, "load", poisoned)
    with pytest.raises(RejectedInputs, match=r"HZ-U63 3 of 10[\s\S]*HZ-H61 1 of \d+ features are not finite"):
        run(tiles, tmp_path / "f.safetensors")
    found = feature_files.read(tmp_path / "f.safetensors")
    assert np.isfinite(found.features_ND).all() and len(found.names) == 7
    assert {row["code"] for row in report_of(tmp_path / "f.safetensors")["rejected"]} == {"HZ-H61"}


def _index(x_BCHW: Any) -> Any:
    import torch

    return torch.tensor([1])


def _nan() -> Any:
    import torch

    return torch.tensor([float("nan")])


# -- stopping and going on --


def test_h55_interrupted_anywhere_it_continues_to_the_same_bytes(tiles: Path, tmp_path: Path) -> None:
    run(tiles, tmp_path / "whole.safetensors")
    out = tmp_path / "f.safetensors"

    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"HZ-H55 [\s\S]*4 of 10 done[\s\S]*continues") as raised:
        run(tiles, out, progress=stop)
    assert raised.value.exit_code == 75
    assert report_of(out)["n_not_reached"] == 6
    assert len(feature_files.read(out).names) == 4
    report = run(tiles, out)
    assert (report.n_done, report.n_reused) == (10, 4)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_h55_killed_while_writing_leaves_no_row_that_looks_real(tiles: Path, tmp_path: Path) -> None:
    run(tiles, tmp_path / "whole.safetensors")
    expected = (tmp_path / "whole.safetensors").read_bytes()
    out = tmp_path / "f.safetensors"
    features = feature_files.read(tmp_path / "whole.safetensors")
    for n in (1, 500, len(expected) - 1):
        assert killed_at_byte(lambda: feature_files.write(out, features), n)
        assert not out.exists()
    run(tiles, out)
    assert out.read_bytes() == expected
    assert not list(tmp_path.glob(".*.tmp")) and not list(tmp_path.glob(".*.lock"))


def test_h55_disk_full_keeps_the_earlier_file(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    run(tiles, out)
    before = out.read_bytes()
    draw_tiles(tiles, ["c/9.png"], seed=7)
    with no_space(100), pytest.raises(ResourceError, match="HZ-F42 the disk is full"):
        run(tiles, out)
    assert out.read_bytes() == before
    assert run(tiles, out).n_reused == 10


def test_a_tile_keeps_its_slot_and_the_batch_its_size_whatever_is_there_already(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes the bits of a row independent of which rows are computed beside it."""
    from histozoo import loading

    honest, seen = loading.load, []

    def watched(name: str, **options: Any) -> Any:
        model = honest(name, **options)
        return lambda x: (seen.append(x.clone()), model(x))[1]

    monkeypatch.setattr(loading, "load", watched)
    run(tiles, tmp_path / "whole.safetensors")
    whole, seen = seen, []
    table = tiles / "table.csv"
    table.write_text("\n".join(["file", *NAMES[:9]]))
    run(table, tmp_path / "f.safetensors")
    seen.clear()
    table.write_text("\n".join(["file", *NAMES]))
    run(table, tmp_path / "f.safetensors")
    assert [tuple(x.shape) for x in whole] == [(4, 3, 48, 48)] * 3
    assert len(seen) == 1 and seen[0].shape == whole[2].shape
    assert np.array_equal(seen[0][1], whole[2][1]) and not seen[0][0].any() and not seen[0][2:].any()


def test_saves_at_intervals(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    honest = feature_files.write
    monkeypatch.setattr(embed, "SAVE_EVERY", 4)
    monkeypatch.setattr(feature_files, "write", lambda p, f: (written.append(len(f.names)), honest(p, f)))
    run(tiles, tmp_path / "f.safetensors", batch_size=2)
    assert written == [4, 8, 10]


def test_a_second_run_adds_only_what_is_new(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    run(tiles, out)
    draw_tiles(tiles, ["c/9.png"], seed=7)
    report = run(tiles, out)
    assert (report.n_input, report.n_done, report.n_reused) == (11, 11, 10)
    assert feature_files.read(out).names == (*NAMES, "c/9.png")


# -- whose file it is --


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "another.one_x"),
        ("sha256", "0" * 64),
        ("histozoo_version", "0.0.1"),
        ("contract", {}),
        ("mpp", 0.25),
    ],
)
def test_h56_a_file_made_by_something_else_is_refused(
    field: str, value: object, tiles: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.safetensors"
    run(tiles, out)
    found = feature_files.read(out)
    other = feature_files.Features(
        names=found.names,
        sha256=found.sha256,
        features_ND=found.features_ND,
        made_by={**found.made_by, field: value},
    )
    feature_files.write(out, other)
    before = out.read_bytes()
    with pytest.raises(
        UsageError, match=rf"HZ-H56 .*{field} differs[\s\S]*expected: +{field} = [\s\S]*got: +{field} = "
    ):
        run(tiles, out)
    assert out.read_bytes() == before


def test_h60_the_same_file_name_in_two_folders_gives_two_rows(tiles: Path, tmp_path: Path) -> None:
    run(tiles, tmp_path / "f.safetensors")
    found = feature_files.read(tmp_path / "f.safetensors")
    one, two = found.names.index("a/0.png"), found.names.index("b/0.png")
    assert found.sha256[one] != found.sha256[two]
    assert not np.array_equal(found.features_ND[one], found.features_ND[two])


def test_h60_another_tile_of_the_same_name_is_refused(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    run(tiles, out)
    before = out.read_bytes()
    other = draw_tiles(tmp_path / "other", NAMES, seed=5)
    with pytest.raises(UsageError, match=r"HZ-H60 .*another tile of the same name[\s\S]*a/0\.png"):
        run(other, out)
    assert out.read_bytes() == before


def test_h60_two_processes_cannot_write_one_file(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    child = context.Process(target=_hold, args=(out, held, done))
    child.start()
    assert held.wait(20)
    try:
        with pytest.raises(ResourceError, match="HZ-H60 another process writes"):
            run(tiles, out)
    finally:
        done.set()
        child.join(20)
    assert run(tiles, out).n_done == 10


def _hold(out: Path, held: Any, done: Any) -> None:
    with claimed(out):
        held.set()
        done.wait(60)


# -- damaged feature files --


def test_a_damaged_feature_file_is_refused_and_left_alone(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    for data in (b"", b"no feature file", (8).to_bytes(8, "little") + b"{}      "):
        durable.write_bytes(out, data)
        with pytest.raises(IntegrityError, match="HZ-H64 this is not a whole feature file"):
            run(tiles, out)
        assert out.read_bytes() == data


@pytest.mark.parametrize("fault", ["missing row", "not sorted", "not finite"])
def test_parts_that_do_not_agree_are_refused(fault: str, tmp_path: Path) -> None:
    f_ND = np.ones((2, 3), np.float32)
    names = ("b", "a") if fault == "not sorted" else ("a", "b")
    f_ND[0, 0] = np.nan if fault == "not finite" else 1.0
    f_ND = f_ND[:1] if fault == "missing row" else f_ND
    features = feature_files.Features(names=names, sha256=("0" * 64, "1" * 64), features_ND=f_ND, made_by={})
    feature_files.write(tmp_path / "f.safetensors", features)
    with pytest.raises(IntegrityError, match="HZ-H64"):
        feature_files.read(tmp_path / "f.safetensors")


def test_importing_embed_imports_no_torch(fresh_python: Any) -> None:
    code = "import sys, histozoo.embed; print([m for m in ('torch', 'timm', 'datasets', 'transformers') if m in sys.modules])"
    assert fresh_python(code).stdout.strip() == "[]"


def test_an_output_below_a_file_is_refused_as_such(tmp_path: Path) -> None:
    from histozoo.claim import claimed
    from histozoo.errors import ResourceError

    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResourceError, match="HZ-F42 cannot write"),
        claimed(tmp_path / "file" / "out.safetensors"),
    ):
        pass
