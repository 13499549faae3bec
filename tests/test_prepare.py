"""What a preparation writes: every tile where its row says, the same bytes whoever cuts it, names that no file system confuses."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo.prepare import chunks, facts
from histozoo.prepare.engine import Report, prepare
from histozoo.prepare.output import trial_root
from histozoo.prepare.pictures import Picture
from histozoo.prepare.rules import Whole
from histozoo.prepare.tile_names import Namer, stems
from tests.fakes import layouts
from tests.fakes.layouts import CLASSES, Chance, plan, task, tree

N = 8
"""Pictures of each class."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layouts.write_pictures(tmp_path / "source", N)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "synthetic/labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(source: Path, out: Path, preparation: Any = None, *, workers: int = 0, **options: Any) -> Report:
    return prepare(task(preparation), source, out, workers=workers, **options)


# -- what is written --


def test_every_tile_holds_the_pixels_its_row_names(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out")
    expected = layouts.expected_tiles(source)
    assert len(expected) == 2 * N * 4
    found = {}
    for row in rows(tmp_path / "out"):
        image = Image.open(tmp_path / "out/synthetic" / row["file"])
        assert (image.mode, image.size) == ("RGB", (int(row["width"]), int(row["height"])))
        found[row["source"], int(row["x"]), int(row["y"])] = image.tobytes()
        label, file = row["source"].split("/")[1:]
        patient = file.split("_")[0]
        assert (row["label"], row["group"]) == (label, f"{label}-{patient}")
        assert row["split"] == ("test" if patient == "p3" else "train")
    assert found == expected
    assert (report.n_pictures, report.n_done, report.n_tiles) == (2 * N, 2 * N, 2 * N * 4)
    assert report.classes == dict.fromkeys(CLASSES, N * 4)
    assert report.splits == {"train": 2 * N * 3, "test": 2 * N}


def test_the_task_loads_what_was_prepared(source: Path, tmp_path: Path) -> None:
    declared = task(
        plan(), counts=(N * 4, N * 4), split_counts={"train": 2 * N * 3, "test": 2 * N}, total=2 * N * 4
    )
    prepare(declared, source, tmp_path, workers=0)
    loaded = declared.load(tmp_path)
    assert loaded.column_names == ["image", "label", "group", "file"] and len(loaded) == 2 * N * 4
    assert Counter(loaded["label"]) == {0: N * 4, 1: N * 4}
    assert loaded[0]["image"].size == (32, 32)


def test_the_manifest_says_what_was_made_of_what(source: Path, tmp_path: Path) -> None:
    preparation = plan(pictures=2 * N, seed=7)
    declared = task(preparation, counts=(N * 4, N * 4))
    prepare(declared, source, tmp_path / "out", workers=0)
    text = (tmp_path / "out/synthetic/prepared.json").read_text()
    manifest = json.loads(text)
    made, came = manifest["made_of"], manifest["came_out"]
    assert made["rule"] == json.loads(json.dumps(preparation.rule.describe()))
    assert (made["task"], made["seed"], made["format"]) == ("synthetic", 7, "png")
    assert made["source"]["files"] == 2 * N
    assert made["source"]["bytes"] == sum(len(b) for b in tree(source).values())
    assert came["pictures"] == {"input": 16, "done": 16, "rejected": 0, "not_reached": 0, "without_tiles": 0}
    assert sum(came["groups"].values()) == came["tiles"] == 64
    assert manifest["published"]["classes"] == came["classes"] and came["differences"] == []
    table = (tmp_path / "out/synthetic/labels.csv").read_bytes()
    assert manifest["table_sha256"] == hashlib.sha256(table).hexdigest()
    assert str(tmp_path) not in text and manifest["source_name"] == "source"


def test_nothing_is_left_in_the_work_folder(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["synthetic"]


def test_prepared_again_is_not_done_again(source: Path, tmp_path: Path) -> None:
    first = run(source, tmp_path / "out")
    (tile, *_) = sorted((tmp_path / "out/synthetic/images").rglob("*.png"))
    before = tile.stat().st_mtime_ns
    again = run(source, tmp_path / "out")
    assert tile.stat().st_mtime_ns == before
    assert again.n_reused == again.n_done == first.n_done and again.classes == first.classes


# -- who cuts does not matter --


@pytest.mark.parametrize("n_chunks", [3, facts.CHUNKS])
def test_workers_write_the_same_bytes_as_one_process(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_chunks: int
) -> None:
    monkeypatch.setattr(facts, "CHUNKS", n_chunks)
    preparation = plan(rule=Chance(px=16, n=9), cap=3, seed=5)
    run(source, tmp_path / "0", preparation, workers=0)
    run(source, tmp_path / "2", preparation, workers=2)
    alone = tree(tmp_path / "0/synthetic")
    assert alone == tree(tmp_path / "2/synthetic")
    assert len(alone) > 2 * N


def test_chance_is_a_function_of_seed_and_picture_alone(source: Path, tmp_path: Path) -> None:
    preparation = plan(rule=Chance(px=16, n=9), cap=2)

    def boxes(out: str, n: int | None, seed: int) -> dict[str, list[tuple[str, str, str]]]:
        run(source, tmp_path / out, plan(rule=preparation.rule, cap=2, seed=seed), max_pictures=n)
        found: dict[str, list[tuple[str, str, str]]] = {}
        root = trial_root(tmp_path / out, n) if n else tmp_path / out
        for row in rows(root):
            found.setdefault(row["source"], []).append((row["x"], row["y"], row["label"]))
        return found

    every, some, other = boxes("every", None, 0), boxes("some", 5, 0), boxes("other", None, 1)
    assert len(some) == 5 and all(every[name] == found for name, found in some.items())
    assert sum(every[name] != other[name] for name in every) > N


def test_a_cap_draws_without_replacement_and_keeps_the_order() -> None:
    from histozoo.prepare.plan import Cut

    cuts = [Cut((i, 0, i + 8, 8), CLASSES[i % 3 == 0]) for i in range(60)]
    kept = chunks.capped(cuts, 7, chunks.generator(0, "a"))
    assert Counter(c.label for c in kept) == {"stroma": 7, "tumour": 7}
    assert kept == sorted(set(kept)) and set(kept) <= set(cuts)
    assert chunks.capped(cuts, 40, chunks.generator(0, "a")) == cuts
    drawn = {c for i in range(200) for c in chunks.capped(cuts, 7, chunks.generator(0, str(i)))}
    assert drawn == set(cuts), "every tile can be drawn"


@pytest.mark.parametrize("n", [1, 100, 1000, 100_000])
def test_chunks_are_a_function_of_the_list_and_hold_every_picture_once(n: int) -> None:
    pictures = [Picture(name=f"{i:06d}", group="g") for i in range(n)]
    dealt = facts.dealt(pictures)
    assert [p for chunk in dealt for p in chunk] == pictures
    assert max(map(len, dealt)) <= facts.LARGEST_CHUNK
    assert len(dealt) >= min(n, facts.CHUNKS)


# -- how tiles are stored --


def test_jpeg_keeps_colour_at_full_size_at_the_declared_quality(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", plan(format="jpeg", quality=80))
    row = rows(tmp_path / "out")[0]
    assert row["file"].endswith(".jpg")
    with Image.open(tmp_path / "out/synthetic" / row["file"]) as stored:
        assert all(layer[1:3] == (1, 1) for layer in stored.layer), "4:4:4"
    pixels = layouts.expected_tiles(source)[row["source"], int(row["x"]), int(row["y"])]
    whole = Image.frombytes("RGB", (32, 32), pixels)
    data = io.BytesIO()
    whole.save(data, "JPEG", quality=80, subsampling=0)
    assert data.getvalue() == (tmp_path / "out/synthetic" / row["file"]).read_bytes()


def test_resizing_is_bicubic_with_antialiasing_and_keeps_the_shape() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    small = chunks.resized(image, 16)
    assert small.size == (16, 24)
    assert small.tobytes() == image.resize((16, 24), Image.Resampling.BICUBIC).tobytes()
    assert np.asarray(small).std() < noise.std() / 2, "noise is averaged, not picked"
    assert chunks.resized(image, None) is image and chunks.resized(image, 64) is image


def test_kept_pictures_are_the_same_bytes(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", plan(rule=Whole(), format="keep"))
    found = {
        r["source"]: (tmp_path / "out/synthetic" / r["file"]).read_bytes() for r in rows(tmp_path / "out")
    }
    assert found == tree(source)


def test_profiles_and_comments_of_the_source_stay_behind() -> None:
    image = Image.new("RGB", (32, 32), (9, 99, 199))
    plain = [chunks.encode(image.copy(), suffix, 90) for suffix in (".png", ".jpg")]
    image.info = {
        "icc_profile": b"profile " * 40,
        "dpi": (300, 300),
        "comment": b"tumour",
        "exif": b"Exif\0\0",
    }
    assert [chunks.encode(image.copy(), suffix, 90) for suffix in (".png", ".jpg")] == plain


# -- names --


def test_names_stay_different_where_letter_case_and_accents_do_not_count() -> None:
    names = [
        "a/1.png",
        "a/1.tif",
        "b/1.png",
        "B/Tumör 1.png",
        "b/tumor-1.png",
        "c/TUMOR-1.png",
        "腫瘍.png",
        "..png",
    ]
    names += [f"{'long' * 60}{i}.png" for i in range(3)] + ["r.npy#0", "r.npy#1", "1-2.png", "a#b.png"]
    found = stems(names)
    assert len({s.casefold() for s in found}) == len(names)
    assert all(s.isascii() and len(s) <= 90 and not s.startswith(".") and s == Path(s).name for s in found)
    assert found[3] == "Tumor-1" and found[-4:-2] == ["r_0", "r_1"]


def test_boxes_with_one_corner_are_numbered_and_never_meet_another_picture() -> None:
    first, second = Namer("a"), Namer("a_0")
    names = [
        first.next((0, 0, 8, 8), ".png"),
        first.next((0, 0, 9, 9), ".png"),
        second.next((0, 1, 8, 8), ".png"),
    ]
    assert names == ["a_0_0.png", "a_0_0-1.png", "a_0_0_1.png"]


def test_supersampled_boxes_that_coincide_are_all_kept(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out", plan(rule=Chance(px=48, n=6)))
    assert report.n_tiles == 2 * N * 6 == len({r["file"] for r in rows(tmp_path / "out")})
    assert any("-1.png" in r["file"] for r in rows(tmp_path / "out"))
    assert len(list((tmp_path / "out/synthetic/images").rglob("*.png"))) == 2 * N * 6


def test_progress_ends_at_the_number_of_pictures(source: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    run(source, tmp_path / "out", progress=lambda done, n: calls.append((done, n)))
    assert calls == [*((i, 2 * N) for i in range(2 * N)), (2 * N, 2 * N)]


def test_an_archive_gives_the_tiles_of_the_folder_it_was_packed_from(source: Path, tmp_path: Path) -> None:
    import shutil

    shutil.make_archive(str(tmp_path / "packed"), "zip", source)
    run(source, tmp_path / "folder")
    run(tmp_path / "packed.zip", tmp_path / "archive")
    pixels = [
        {r["source"].split("/", 1)[-1]: r["label"] for r in rows(tmp_path / out)}
        for out in ("folder", "archive")
    ]
    assert len(pixels[0]) == 2 * N and set(pixels[0].values()) == set(pixels[1].values())
    images = [
        {k.split("/", 1)[1]: v for k, v in tree(tmp_path / out / "synthetic").items() if k.endswith(".png")}
        for out in ("folder", "archive")
    ]
    assert images[0] == images[1]
    manifest = json.loads((tmp_path / "archive/synthetic/prepared.json").read_text())
    sha256 = hashlib.sha256((tmp_path / "packed.zip").read_bytes()).hexdigest()
    assert manifest["made_of"]["source"]["archives"] == {"packed.zip": sha256}
