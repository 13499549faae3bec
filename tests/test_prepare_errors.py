"""Whatever is wrong with an archive: one clear error that names the file, the rest preserved, and every picture accounted for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from histozoo.errors import RejectedInputs
from histozoo.prepare import facts
from histozoo.prepare.engine import Report, prepare
from histozoo.prepare.pictures import Picture
from tests.fakes import layouts
from tests.fakes.layouts import accounts, layout, plan, refused, task, tree

N = 8
BAD = "pictures/stroma/p1_005.png"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layouts.write_pictures(tmp_path / "source", N)


def run(source: Path, out: Path, declared: Any = None, *, workers: int = 0, **options: Any) -> Report:
    return prepare(declared or task(), source, out, workers=workers, **options)


# -- published numbers --


def test_missing_and_surplus_pictures_are_counted_before_anything_is_written(
    source: Path, tmp_path: Path
) -> None:
    (source / BAD).unlink()
    declared = task(plan(pictures=2 * N, parts=("part 1.zip", "part 2.zip")))
    error = refused("HZ-E35", lambda: run(source, tmp_path / "out", declared))
    assert error.what.startswith("1 pictures are missing") and "part 1.zip, part 2.zip" in error.expected
    assert (
        "by label: stroma: 7, tumour: 8; by split: test: 4, train: 11; by group: stroma-p0: 2, stroma-p1: 1"
        in error.got
    )
    assert not (tmp_path / "out").exists()
    declared = task(plan(pictures=3))
    assert "12 pictures too many" in refused("HZ-E35", lambda: run(source, tmp_path / "out", declared)).what


@pytest.mark.parametrize(
    ("published", "says"),
    [
        ({"counts": (32, 33)}, "class tumour: 32 instead of 33 (1 missing)"),
        ({"counts": (30, 32)}, "class stroma: 32 instead of 30 (2 too many)"),
        ({"split_counts": {"train": 48, "test": 17}}, "split test: 16 instead of 17 (1 missing)"),
        ({"total": 65}, "tiles in all: 64 instead of 65 (1 missing)"),
    ],
)
def test_other_numbers_than_published_are_not_put_in_place(
    source: Path, tmp_path: Path, published: dict[str, Any], says: str
) -> None:
    error = refused("HZ-E35", lambda: run(source, tmp_path, task(**published)))
    assert says in error.got and error.got.startswith("stroma: 32, tumour: 32")
    assert not (tmp_path / "synthetic").exists()
    assert accounts(tmp_path / ".prepare/synthetic/report.json")["done"] == 2 * N
    assert run(source, tmp_path).n_reused == 2 * N, "with the right declaration the work is used again"


def manifest(root: Path) -> Any:
    return json.loads((root / "synthetic/prepared.json").read_text())


def test_a_trial_is_not_compared_says_so_and_does_not_stand_in_the_way_of_the_whole_set(
    source: Path, tmp_path: Path
) -> None:
    declared = task(plan(pictures=2 * N), counts=(32, 32))
    report = run(source, tmp_path, declared, max_pictures=4)
    root = tmp_path / "trial-4-pictures"
    assert report.n_pictures == 4 and report.folder == str(root / "synthetic")
    assert manifest(root)["published"]["compared"] is False
    assert len(declared.load(root)) == 16, "a trial can be looked at"
    assert run(source, tmp_path, declared, max_pictures=6).n_reused == 0, "another trial is another folder"
    assert run(source, tmp_path, declared).n_tiles == 64 == len(declared.load(tmp_path))
    assert run(source, tmp_path, declared, max_pictures=4).n_reused == 4


def test_e35_other_numbers_can_be_accepted_and_are_recorded(source: Path, tmp_path: Path) -> None:
    declared = task(counts=(32, 33), total=65)
    error = refused("HZ-E35", lambda: run(source, tmp_path, declared))
    assert "--accept-counts" in error.next_step
    report = run(source, tmp_path, declared, accept_counts=True)
    assert report.n_reused == 2 * N, "what the refused run had done is used"
    differences = [
        "class tumour: 32 instead of 33 (1 missing)",
        "tiles in all: 64 instead of 65 (1 missing)",
    ]
    assert report.differences == manifest(tmp_path)["came_out"]["differences"] == differences
    assert manifest(tmp_path)["published"]["accepted"] is True
    assert len(declared.load(tmp_path)) == 64
    (tmp_path / "synthetic/labels.csv").write_text(
        "\n".join((tmp_path / "synthetic/labels.csv").read_text().splitlines()[:-1])
    )
    refused("HZ-E33", lambda: declared.load(tmp_path))


def test_e35_another_number_of_pictures_can_be_accepted_and_is_recorded(source: Path, tmp_path: Path) -> None:
    (source / BAD).unlink()
    declared = task(plan(pictures=2 * N))
    error = refused("HZ-E35", lambda: run(source, tmp_path, declared))
    assert "--accept-counts" in error.next_step
    report = run(source, tmp_path, declared, accept_counts=True, shards=True)
    assert report.differences == ["pictures: 15 instead of 16 (1 missing)"]
    assert manifest(tmp_path)["published"] | {"classes": 0, "splits": 0} == {
        "pictures": 16, "classes": 0, "splits": 0, "tiles": None, "compared": True, "accepted": True,
    }  # fmt: skip
    assert len(declared.load(tmp_path)) == 60


def test_e35_accepting_where_nothing_differs_accepts_nothing(source: Path, tmp_path: Path) -> None:
    declared = task(plan(pictures=2 * N), counts=(32, 32))
    assert run(source, tmp_path, declared, accept_counts=True).differences == []
    assert manifest(tmp_path)["published"]["accepted"] is False


def test_e35_accepting_numbers_accepts_no_empty_class(source: Path, tmp_path: Path) -> None:
    declared = task(classes=(*layouts.CLASSES, "necrosis"))
    assert "necrosis: 0" in refused("HZ-E36", lambda: run(source, tmp_path, declared, accept_counts=True)).got


def test_a_set_with_bad_pictures_left_out_is_loaded_with_the_numbers_that_came_out(
    source: Path, tmp_path: Path
) -> None:
    declared = task(plan(pictures=2 * N), counts=(32, 32))
    (source / BAD).write_bytes(b"")
    refused("HZ-U78", lambda: run(source, tmp_path, declared, skip_bad=True), exit_code=4)
    assert len(declared.load(tmp_path)) == 60


def test_e36_a_class_without_a_tile_is_refused(source: Path, tmp_path: Path) -> None:
    declared = task(classes=(*layouts.CLASSES, "necrosis"))
    assert "necrosis: 0" in refused("HZ-E36", lambda: run(source, tmp_path, declared)).got
    assert not (tmp_path / "synthetic").exists()


def test_e34_an_unknown_label_names_picture_and_nearest_class(source: Path, tmp_path: Path) -> None:
    declared = task(plan(layout(layouts.other_label_marks)))
    error = refused("HZ-E34", lambda: run(source, tmp_path, declared))
    assert "pictures/tumour/p0_000.png" in error.where
    assert "nearest is 'tumour'" in error.expected and error.got == "'Tumour '"


def test_excluded_classes_are_left_out_and_counted(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "pictures/tumour", source / "pictures/unclear")
    report = run(source, tmp_path / "out", task(exclude_classes={"unclear": "no diagnosis"}))
    assert report.left_out == {"unclear": 4 * N} and set(report.classes) == {"stroma", "tumour"}
    assert len(report.empty) == N and all("/unclear/" in name for name in report.empty)
    assert report.n_done == 3 * N


# -- bad pictures --


def test_a_bad_picture_ends_the_run_is_named_and_the_rest_is_kept(source: Path, tmp_path: Path) -> None:
    whole = (source / BAD).read_bytes()
    (source / BAD).write_bytes(whole[: len(whole) // 2])
    error = refused("HZ-D24", lambda: run(source, tmp_path / "out"))
    assert BAD in error.where and "--skip-bad" in error.next_step
    assert accounts(tmp_path / "out/.prepare/synthetic/report.json")["not_reached"] > 0
    (source / BAD).write_bytes(whole)
    report = run(source, tmp_path / "out")
    assert report.n_reused == sorted(tree(source)).index(BAD), (
        "the picture was mended; what was done before it is used"
    )
    run(source, tmp_path / "fresh")
    assert tree(tmp_path / "out/synthetic") == tree(tmp_path / "fresh/synthetic")


def test_a_source_that_changed_elsewhere_is_not_taken_for_mended(source: Path, tmp_path: Path) -> None:
    whole = (source / BAD).read_bytes()
    (source / BAD).write_bytes(b"")
    refused("HZ-D24", lambda: run(source, tmp_path / "out"))
    (source / BAD).write_bytes(whole)
    first = source / sorted(tree(source))[0]
    first.write_bytes(first.read_bytes() + b"\0")
    assert "source.bytes differs" in refused("HZ-U77", lambda: run(source, tmp_path / "out")).what


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_pictures_are_skipped_and_listed(source: Path, tmp_path: Path, workers: int) -> None:
    (source / BAD).write_bytes(b"")
    declared = task(counts=(32, 32))
    error = refused("HZ-U78", lambda: run(source, tmp_path, declared, skip_bad=True, workers=workers), 4)
    assert isinstance(error, RejectedInputs)
    assert BAD in error.got and "class stroma: 28 instead of 32 (4 missing)" in error.got
    path = tmp_path / "synthetic/prepared.json"
    assert accounts(path) == {"input": 16, "done": 15, "rejected": 1, "not_reached": 0, "without_tiles": 0}
    (listed,) = json.loads(path.read_text())["came_out"]["rejected"]
    assert (listed["name"], listed["code"]) == (BAD, "HZ-D24") and "empty file" in listed["reason"]
    labels = (tmp_path / "synthetic/labels.csv").read_text()
    assert labels.count("\n") == 1 + 15 * 4 and BAD not in labels
    assert len(list((tmp_path / "synthetic/images").rglob("*.png"))) == 15 * 4
    refused("HZ-U78", lambda: run(source, tmp_path, declared, skip_bad=True), 4)


def test_a_picture_that_fails_half_way_leaves_no_tile(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "CHUNKS", 2)  # good and bad pictures in one chunk
    whole = tree(source)
    declared = task(replace(plan(), layout=replace(layouts.PICTURES, open=layouts.torn)))
    for shards in (False, True):
        out = tmp_path / f"out{shards}"
        refused("HZ-U78", lambda out=out, s=shards: run(source, out, declared, skip_bad=True, shards=s), 4)
        manifest = json.loads((out / "synthetic/prepared.json").read_text())
        bad = [name for name in whole if "/p1_" in name]
        assert [r["name"] for r in manifest["came_out"]["rejected"]] == bad and len(bad) == 4
        assert manifest["came_out"]["tiles"] == (2 * N - len(bad)) * 4
    assert len(list((tmp_path / "outFalse/synthetic/images").rglob("*.png"))) == (2 * N - 4) * 4


def test_pictures_that_an_interrupted_run_rejected_are_tried_again(source: Path, tmp_path: Path) -> None:
    (source / BAD).write_bytes(b"")

    def stop(done: int, n: int) -> None:
        if done == n - 2:
            raise KeyboardInterrupt

    refused("HZ-U79", lambda: run(source, tmp_path, skip_bad=True, progress=stop), 75)
    assert accounts(tmp_path / ".prepare/synthetic/report.json")["rejected"] == 1
    assert BAD in refused("HZ-D24", lambda: run(source, tmp_path)).where
    refused("HZ-U78", lambda: run(source, tmp_path, skip_bad=True), 4)


def test_an_error_that_does_not_name_the_picture_gets_its_name(source: Path, tmp_path: Path) -> None:
    error = refused("HZ-U73", lambda: run(source, tmp_path, task(plan(layout(layouts.refused_marks)))))
    assert error.where == "pictures/stroma/p1_001.png" and error.got == "32 x 32"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_layout_is_no_bad_picture(source: Path, tmp_path: Path, workers: int) -> None:
    declared = task(plan(layout(layouts.faulty_marks)))
    with pytest.raises((ZeroDivisionError, RuntimeError), match="a fault in the layout"):
        run(source, tmp_path, declared, skip_bad=True, workers=workers)


@pytest.mark.parametrize(
    ("pictures", "got"),
    [
        ([], "none"),
        ([Picture(name="a", group="g")] * 2, "listed twice: a"),
        ([Picture(name="a", group="")], "none for a"),
        ([Picture(name="a", group="g", split="dev")], "a: 'dev'"),
    ],
)
def test_a_list_of_pictures_that_is_none_is_refused(
    source: Path, tmp_path: Path, pictures: list[Picture], got: str
) -> None:
    declared = task(plan(replace(layouts.PICTURES, pictures=lambda source: pictures)))
    assert got in refused("HZ-U73", lambda: run(source, tmp_path, declared)).got
