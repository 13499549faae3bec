"""Embedding into a file that is there already: file and report tell of the same rows, and reasons of rejected tiles are not lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo import embed, feature_files
from histozoo.errors import Interrupted, RejectedInputs, UsageError
from tests.fakes.tiny import NAME, draw_tiles, tiny_zoo

NAMES = [f"{i}.png" for i in range(6)]


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    return draw_tiles(tmp_path / "tiles", NAMES)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "f.safetensors"


def run(source: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Embeds and returns the report as written, its sums checked."""
    try:
        embed.embed(source, out, **{"model": NAME, "batch_size": 2, "device": "cpu", "mpp": None, **options})
    except RejectedInputs:
        pass
    return report_of(out)


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(embed.report_path(out).read_text())
    assert report["n_input"] == report["n_done"] + report["n_rejected"] + report["n_not_reached"]
    assert report["n_rows"] == (len(feature_files.read(out).names) if out.exists() else 0)
    return report


def stop(_: int, __: int) -> None:
    raise KeyboardInterrupt


# -- tiles of another source --


def test_h60_a_file_that_holds_other_tiles_is_refused_and_left_alone(
    tiles: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiles, out)
    before = out.read_bytes(), embed.report_path(out).read_bytes()
    other = draw_tiles(tmp_path / "other", ["0.png", "x/new.png"])
    from histozoo import loading

    monkeypatch.setattr(
        loading, "load", lambda *a, **k: pytest.fail("a model was loaded before the output was looked at")
    )
    with pytest.raises(UsageError, match=r"HZ-H60 .*holds 5 tiles that this source does not name") as caught:
        run(other, out)
    assert "6 rows" in caught.value.got and "1.png, 2.png" in caught.value.got
    assert "another file" in caught.value.next_step and "--keep-others" in caught.value.next_step
    assert (out.read_bytes(), embed.report_path(out).read_bytes()) == before


def test_with_keep_others_both_are_in_the_file_and_the_report_says_how_many(
    tiles: Path, out: Path, tmp_path: Path
) -> None:
    run(tiles, out)
    first = feature_files.read(out)
    other = draw_tiles(tmp_path / "other", ["x/1.png", "x/2.png"], seed=3)
    report = run(other, out, keep_others=True)
    assert (report["n_input"], report["n_done"], report["n_reused"], report["n_rows"]) == (2, 2, 0, 8)
    assert "further rows in the file, of tiles that the source does not name: 6" in report["notes"]
    both = feature_files.read(out)
    assert both.names == (*NAMES, "x/1.png", "x/2.png")
    assert np.array_equal(both.features_ND[:6], first.features_ND)
    assert run(tiles, tmp_path / "alone.safetensors")["notes"] == []


# -- rows and reasons --


def test_a_tile_that_cannot_be_read_any_more_is_in_the_report_and_not_in_the_file(
    tiles: Path, out: Path, tmp_path: Path
) -> None:
    run(tiles, out)
    (tiles / "table.csv").write_text(
        "\n".join(["file,sha256", *(f"{n},{'ab' * 32 * (n == '3.png')}" for n in NAMES)])
    )
    (tiles / "4.png").unlink()
    report = run(tiles / "table.csv", out)
    assert (report["n_done"], report["n_rows"]) == (4, 4)
    assert [(row["name"], row["code"]) for row in report["rejected"]] == [
        ("3.png", "HZ-D25"),
        ("4.png", "HZ-D24"),
    ]
    assert feature_files.read(out).names == ("0.png", "1.png", "2.png", "5.png")
    fresh = tmp_path / "fresh.safetensors"
    run(tiles / "table.csv", fresh)
    assert out.read_bytes() == fresh.read_bytes()


def test_a_file_whose_every_tile_was_rejected_since_holds_no_row(tiles: Path, out: Path) -> None:
    run(tiles, out)
    (tiles / "table.csv").write_text("\n".join(["file", *NAMES]))
    for name in NAMES:
        (tiles / name).unlink()
    assert run(tiles / "table.csv", out)["n_rows"] == 0
    assert feature_files.read(out).features_ND.shape[0] == 0
    draw_tiles(tiles, NAMES)
    assert run(tiles, out)["n_done"] == 6


def test_reasons_outlive_a_resumed_run_that_did_not_come_to_these_tiles(tiles: Path, out: Path) -> None:
    for name in ("4.png", "5.png"):
        (tiles / name).write_bytes(b"no image")
    told = run(tiles, out)["rejected"]
    assert [row["name"] for row in told] == ["4.png", "5.png"]
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(tiles, out, progress=stop)
        report = report_of(out)
        assert (report["n_done"], report["n_rows"], report["rejected"]) == (2, 4, [])
        assert report["rejected_earlier"] == told
    draw_tiles(tiles, ["x.png", "4.png"])
    (tiles / "x.png").unlink()
    report = run(tiles, out)
    assert [row["name"] for row in report["rejected"]] == ["5.png"] and report["rejected_earlier"] == []


def test_reasons_are_kept_where_no_tile_was_embedded_yet(tmp_path: Path, out: Path) -> None:
    tiles = draw_tiles(tmp_path / "many", [f"{i:02}.png" for i in range(14)])
    for path in tiles.iterdir():
        path.write_bytes(b"no image")
    assert len(run(tiles, out, max_rejected=1.0)["rejected"]) == 14 and not out.exists()
    assert len(run(tiles, out, max_rejected=0.0)["rejected"]) == 12
    report = report_of(out)
    assert [row["name"] for row in report["rejected_earlier"]] == ["12.png", "13.png"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_report_is_written_anew(text: str, tiles: Path, out: Path) -> None:
    run(tiles, out)
    embed.report_path(out).write_text(text)
    report = run(tiles, out)
    assert (report["n_done"], report["n_reused"]) == (6, 6)


def test_h60_hashes_that_differ_late_are_seen_to_differ(tiles: Path, out: Path) -> None:
    run(tiles, out)
    found = feature_files.read(out)
    changed = found.sha256[0][:50] + ("0" if found.sha256[0][50] != "0" else "1") + found.sha256[0][51:]
    feature_files.write(out, replace(found, sha256=(changed, *found.sha256[1:])))
    with pytest.raises(UsageError, match=r"HZ-H60 .*another tile of the same name") as caught:
        run(tiles, out)
    assert caught.value.expected != caught.value.got and "digit 51" in caught.value.got


# -- notes --


def test_mpp_of_a_model_that_states_none_is_noted(tiles: Path, out: Path) -> None:
    (note,) = run(tiles, out, mpp=0.5)["notes"]
    assert "model's micrometres per pixel are not known" in note and "0.5" in note
    assert feature_files.read(out).made_by["mpp"] == 0.5


def test_d27_small_tiles_are_noted_counted_and_their_policy_is_stated(tmp_path: Path, out: Path) -> None:
    tiles = draw_tiles(tmp_path / "small", ["1.png", "2.png"], px=20)
    draw_tiles(tiles, ["3.png"], px=60)
    report = run(tiles, out)
    assert report["notes"] == ["tiles smaller than the model's 48 px, which were enlarged: 2"]
    assert report["treated"] == {"enlarged": 2}
    assert "under a quarter" in report["policy"]["smaller than the model's tile"]


def test_tiles_that_are_not_square_are_counted(tmp_path: Path, out: Path) -> None:
    tiles = draw_tiles(tmp_path / "tiles", ["square.png"])
    for name, size in (("wide.png", (90, 60)), ("tall.png", (48, 300))):
        Image.new("RGB", size, (120, 60, 160)).save(tiles / name)
    report = run(tiles, out)
    assert report["treated"] == {"not square: the centre kept": 2}
    assert "resize" in report["policy"]["not square"]


def test_folders_that_are_made_are_told_once_and_go_where_nothing_was_written(
    tiles: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "deep" / "f.safetensors"
    with pytest.raises(UsageError):
        run(tiles, out, model="test_resnet.multitask_drawn3")
    assert not (tmp_path / "new").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed.earlier_rows, "read", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tiles, out)
    assert not (tmp_path / "new").exists()
    assert run(tiles, out)["notes"] == [f"the folder {out.parent} was not there and was made"]
    assert run(tiles, out)["notes"] == []


def test_the_command_shows_notes_and_what_was_done_to_tiles(tmp_path: Path, out: Path) -> None:
    from typer.testing import CliRunner

    from histozoo.cli import app

    tiles = draw_tiles(tmp_path / "small", ["1.png"], px=20)
    draw_tiles(tiles, ["tiny.png"], px=9)
    Image.new("L", (60, 60), 90).save(tiles / "grey.png")
    arguments = ["embed", tiles, out, "-m", NAME, "--mpp", 0.5, "--edge", "pad-white"]
    text = " ".join(CliRunner().invoke(app, [str(a) for a in arguments]).stdout.split())
    assert "treated 1 enlarged, 1 grey, 1 padded with white" in text
    assert "not known; 0.5 was recorded" in text and "enlarged: 1" in text


def test_the_help_says_that_ten_rejected_tiles_never_stop_a_run(tmp_path: Path, out: Path) -> None:
    from typer.testing import CliRunner

    from histozoo.cli import app

    text = " ".join(CliRunner().invoke(app, ["embed", "--help"], terminal_width=200).stdout.split())
    assert "first ten never stop it" in text
    tiles = draw_tiles(tmp_path / "many", [f"{i:02}.png" for i in range(14)])
    for path in sorted(tiles.iterdir())[:10]:
        path.write_bytes(b"no image")
    assert run(tiles, out, max_rejected=0.0)["n_not_reached"] == 0


def test_u68_a_device_without_values_is_refused(tiles: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="HZ-U68"):
        run(tiles, out, device="meta")
    assert not out.exists()
