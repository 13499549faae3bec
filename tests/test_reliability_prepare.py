"""Groups D and E on the way through `prepare`, packing, splits and the audit: what is counted, refused and recorded, by number."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from histozoo.audit import audit
from histozoo.cli import app
from histozoo.data import splits, tables, tiles
from histozoo.data.decoding import decode
from histozoo.errors import UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import as_is
from histozoo.tasks import TASKS
from tests.fakes import badtiles, layouts
from tests.fakes.badtiles import drawn, saved
from tests.fakes.tile_paths import CLASSES, as_png, prepared, task, write_table


def refused(call: Callable[[], Any]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        call()
    return caught.value


def came_out(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "prepared.json").read_text())["came_out"]
    return told


def table(folder: Path, n: int, *, hashes: bool = False, splits_: str = "") -> Path:
    """Writes `n` different JPEG tiles, labels and splits in turn, two of a group; returns the folder."""
    (folder / "images").mkdir(parents=True)
    lines = ["file,label,group,split,sha256"]
    for i in range(n):
        data = saved(np.roll(drawn(), 5 * i, axis=0), "JPEG", quality=90)
        (folder / f"images/{i}.jpg").write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest() if hashes else ""
        split = splits_.split()[i % len(splits_.split())] if splits_ else ""
        lines.append(f"images/{i}.jpg,{CLASSES[i % 2]},g{i // 2},{split},{sha256}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


# -- 24: one bad tile among many --


def test_d24_skip_bad_lists_the_bad_tile_leaves_every_other_exact_and_ends_with_4(tmp_path: Path) -> None:
    source = layouts.write_pictures(tmp_path / "source", 20)
    bad = "pictures/stroma/p1_005.png"
    (source / bad).write_bytes((source / bad).read_bytes()[:-40])
    TASKS["synthetic"] = layouts.task()
    try:
        arguments = ["prepare", "synthetic", "--from", source, "--out", tmp_path / "out", "--workers", 0]
        stopped = CliRunner().invoke(app, [str(a) for a in arguments])
        ended = CliRunner().invoke(app, [*(str(a) for a in arguments), "--skip-bad"])
    finally:
        TASKS.pop("synthetic")
    assert stopped.exit_code == 2 and "HZ-D24" in stopped.stderr and bad in stopped.stderr
    assert ended.exit_code == 4 and "HZ-U78 1 of 40 pictures were rejected" in ended.stderr
    told = came_out(tmp_path / "out/synthetic")
    assert [(r["name"], r["code"]) for r in told["rejected"]] == [(bad, "HZ-D24")]
    assert told["pictures"] == {"input": 40, "done": 39, "rejected": 1, "not_reached": 0, "without_tiles": 0}
    (source / bad).unlink()
    wanted, found = layouts.expected_tiles(source), {}
    lines = (tmp_path / "out/synthetic/labels.csv").read_text().splitlines()[1:]
    for file, _, _, _, name, x, y, *_ in (line.split(",") for line in lines):
        found[name, int(x), int(y)] = decode(tmp_path / "out/synthetic" / file).tobytes()
    assert found == wanted and len(found) == 39 * 4


# -- 25: hashes of the table --


def test_d25_preparing_refuses_a_changed_tile_where_the_table_has_hashes(tmp_path: Path) -> None:
    folder = table(tmp_path / "bad", 4, hashes=True)
    changed = folder / "images/1.jpg"
    data = bytearray(changed.read_bytes())
    for at in range(len(data) // 2, len(data)):
        data[at] ^= 0x40
        try:
            decode(bytes(data))
            break
        except UsageError:
            data[at] ^= 0x40
    changed.write_bytes(data)
    plan = task("made", preparation=as_is("bad"))
    error = refused(lambda: prepare(plan, folder, tmp_path / "out", workers=0))
    assert error.code == "HZ-D25" and "images/1.jpg" in error.where and "sha256" in error.got
    out = prepared(tmp_path / "skipped", as_is("bad"), folder)
    assert [(r["name"], r["code"]) for r in came_out(out)["rejected"]] == [("images/1.jpg", "HZ-D25")]
    whole = task("bad")
    assert refused(lambda: audit([whole], data_root=tmp_path, out=tmp_path / "page")).code == "HZ-D25"


# -- 27 to 30: counted wherever tiles are taken up --


def test_d29_d30_preparing_counts_what_was_done_to_which_pictures(tmp_path: Path) -> None:
    source = write_table(tmp_path / "source/bad")
    words = Counter(s.change for s in badtiles.specimens() if s.change)
    assert came_out(prepared(tmp_path, as_png(), source))["treated"] == words


def accepted(folder: Path) -> Any:
    """A table of the specimens that are read."""
    (folder / "images").mkdir(parents=True)
    lines = ["file,label,group"]
    for n, s in enumerate(s for s in badtiles.specimens() if not s.code):
        (folder / "images" / s.name).write_bytes(s.data)
        lines.append(f'"images/{s.name}",{CLASSES[n % 2]},g{n}')
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tables.read_table(folder, classes=CLASSES)


def test_d29_d30_packing_for_training_says_what_was_done_to_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = accepted(tmp_path / "set")
    words = Counter(s.change for s in badtiles.specimens() if s.change)
    with caplog.at_level(logging.WARNING, logger="histozoo.data.tiles"):
        tiles.pack(dataset, badtiles.PX, tmp_path / "cache")
    said = ", ".join(f"{word} {n}" for word, n in sorted(words.items()))
    assert f"{len(dataset)} tiles packed, of them: {said}" in caplog.text


def test_d27_packing_says_how_many_tiles_it_enlarged_beyond_what_embed_accepts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from histozoo.tile_rows import LARGEST_ENLARGEMENT

    assert tiles.LARGEST_ENLARGEMENT == LARGEST_ENLARGEMENT
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for side in (11, 12, 13, 48):
        Image.fromarray(drawn(side, side)).save(folder / f"images/{side}.png")
    lines = ["file,label,group", *(f"images/{s}.png,{CLASSES[s % 2]},{s}" for s in (11, 12, 13, 48))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    tiles.pack(tables.read_table(folder, classes=CLASSES), 48, tmp_path / "cache")
    assert "4 tiles packed, of them: enlarged more than fourfold 1" in caplog.text


# -- 31: one policy --


def test_d31_no_path_has_an_option_that_turns_tiles(tmp_path: Path) -> None:
    """Rejection, the catalogue's default, is the only policy, so that no two paths can disagree."""
    for verb in ("embed", "prepare", "pretrain", "tasks"):
        assert "--exif" not in CliRunner().invoke(app, [verb, "--help"]).output
    exif = Image.Exif()
    exif[0x0112] = 1
    upright = saved(drawn(), "PNG", exif=exif)
    assert np.array_equal(np.asarray(decode(upright)), drawn())


# -- 33, 35, 36 --


def test_e33_preparing_passes_over_unlisted_tiles_when_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = table(tmp_path / "set", 4)
    (folder / "images/extra.png").write_bytes(saved(drawn(), "PNG"))
    TASKS["given"] = replace(task("set"), name="given")
    arguments = ["prepare", "given", "--from", folder, "--out", tmp_path / "out", "--workers", 0]
    try:
        stopped = CliRunner().invoke(app, [str(a) for a in arguments])
        ended = CliRunner().invoke(app, [*(str(a) for a in arguments), "--allow-unlisted"])
    finally:
        TASKS.pop("given")
    assert stopped.exit_code == 2 and "HZ-E33" in stopped.stderr and "--allow-unlisted" in stopped.stderr
    assert ended.exit_code == 0, ended.output
    assert "1 tiles there are not listed and not used: images/extra.png" in caplog.text
    assert came_out(tmp_path / "out/set")["tiles"] == 4


def test_e35_the_numbers_of_classes_in_table_and_shards_are_the_tasks(tmp_path: Path) -> None:
    folder = table(tmp_path / "set", 6)
    for form in ("files", "shards"):
        for classes in (CLASSES, CLASSES[::-1]):
            made = replace(task("made", preparation=as_is("set")), classes=classes)
            root = tmp_path / form / classes[0]
            prepare(made, folder, root, workers=0, shards=form == "shards")
            dataset = made.load(root)
            words = [dataset.features["label"].names[k] for k in dataset["label"]]
            assert words == ["a", "b"] * 3 and dataset["label"][0] == classes.index("a")
    other = replace(task("made"), classes=CLASSES)
    assert refused(lambda: other.load(tmp_path / "shards/b")).code == "HZ-E34"


@pytest.mark.parametrize("labels", [[0] * 9, [0] * 8 + [1]])
def test_e36_a_split_that_cannot_be_names_the_task_and_its_counts(labels: list[int]) -> None:
    groups = [f"g{i}" for i in range(9)]
    error = refused(lambda: splits.make_split(labels, groups, seed=0, where="task crumbs"))
    assert error.code == "HZ-E36" and error.where == "task crumbs" and "class 0: " in error.got


# -- 37: official splits --


def test_e37_a_patient_in_two_official_splits_is_an_error_of_the_audit_with_its_name(tmp_path: Path) -> None:
    folder = table(tmp_path / "bad", 12, splits_="train train test test")
    clean = audit([task("bad")], data_root=tmp_path, out=tmp_path / "page")
    assert "group-in-two-splits" not in clean.codes("bad")
    rows = (folder / "labels.csv").read_text().replace(",g0,train", ",g1,train", 1)
    (folder / "labels.csv").write_text(rows)
    report = audit([task("bad")], data_root=tmp_path, out=tmp_path / "page")
    (finding,) = [f for f in report.findings if f.code == "group-in-two-splits"]
    assert finding.severity == "error" and finding.evidence["first"] == {"g1": ["test", "train"]}
    assert "group-in-two-splits" in report.page.read_text()


def test_e37_a_patient_in_two_official_splits_is_found_in_the_prepared_set_too(tmp_path: Path) -> None:
    folder = table(tmp_path / "bad", 12, splits_="train testA")
    assert "g0,train" in (folder / "labels.csv").read_text()
    made = task("made", preparation=as_is("bad"))
    prepare(made, folder, tmp_path / "root", workers=0)
    report = audit([task("made")], data_root=tmp_path / "root", out=tmp_path / "page")
    assert "group-in-two-splits" in report.codes("bad", severity="error")


# -- 38: copies --


def fields(n: int, px: int = 240) -> list[Image.Image]:
    """Fields of soft stains, as rich in detail as tissue is."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 240, (n, 40, 40, 3), dtype=np.uint8)
    return [Image.fromarray(c).resize((px, px), Image.Resampling.BICUBIC) for c in coarse]


def middle(image: Image.Image, degrees: float) -> NDArray[np.uint8]:
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return np.asarray(turned.resize((96, 96), Image.Resampling.BICUBIC, box=(60, 60, 180, 180)))


def test_e38_copies_turned_by_any_angle_are_put_on_one_side_when_asked_for() -> None:
    pictures = fields(12)
    stacked = np.stack([middle(p, 0) for p in pictures] + [middle(p, 25) for p in pictures[:3]])
    labels, groups = [i % 2 for i in range(12)] + [0, 1, 0], [f"g{i}" for i in range(15)]
    assert splits.make_split(labels, groups, seed=0, tiles=stacked).duplicates == 0
    split = splits.make_split(labels, groups, seed=0, tiles=stacked, turned=True)
    assert split.duplicates == 3
    part = {row: name for name in splits.PARTS for row in getattr(split, name).tolist()}
    assert all(part[i] == part[12 + i] for i in range(3))
    torn = splits.Split(train=np.arange(12), val=np.array([12]), test=np.array([13, 14]), seed=0)
    splits.check_split(torn, groups, tiles=stacked)
    error = refused(lambda: splits.check_split(torn, groups, tiles=stacked, turned=True))
    assert error.code == "HZ-E38" and "3 pairs of rows: 0 (train) = 12 (val)" in error.got


def test_e38_copies_in_two_official_splits_and_under_two_labels_are_errors_of_the_audit(
    tmp_path: Path,
) -> None:
    folder = table(tmp_path / "bad", 12, splits_="train train test test")
    with Image.open(io.BytesIO((folder / "images/0.jpg").read_bytes())) as image:
        image.save(folder / "images/2.jpg", quality=95)  # a's copy in the test part
        image.save(folder / "images/5.jpg", quality=95)  # b's copy in the training part
    report = audit([task("bad")], data_root=tmp_path, out=tmp_path / "page")
    assert {"copies-in-two-splits", "labels-contradict"} <= report.codes("bad", severity="error")


# -- the page says what was not compared --


def test_e38_where_too_many_tiles_are_there_the_page_says_that_copies_were_looked_for_in_a_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "bad", 12)
    whole = audit([task("bad")], data_root=tmp_path, out=tmp_path / "page")
    assert whole.compared == 12 and "drawn by chance" not in whole.page.read_text()
    monkeypatch.setattr("histozoo.audit.pool.MOST", 6)
    some = audit([task("bad")], data_root=tmp_path, out=tmp_path / "page")
    assert some.compared == 6 == json.loads(some.numbers.read_text())["compared"]
    text = some.page.read_text()
    assert "among 6 tiles drawn by chance (50%), so that about 25% of such pairs are seen" in text
