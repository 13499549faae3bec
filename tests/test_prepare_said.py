"""What a preparation says of sources that are another task's, of pictures that are left out, and of numbers that are accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from histozoo.cli import app
from histozoo.prepare import counts
from histozoo.prepare.counts import Report
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import as_is, prepared_as_is
from histozoo.prepare.rules import Around
from histozoo.tasks import TASKS
from histozoo.tasks.base import Task
from tests.fakes import layouts
from tests.fakes.badtiles import drawn
from tests.fakes.layouts import plan, refused, task

N = 8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layouts.write_pictures(tmp_path / "source", N)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six tiles, listed, of the classes stroma and tumour."""
    folder = tmp_path / "cells"
    (folder / "images").mkdir(parents=True)
    lines = ["file,label,group"]
    for i in range(6):
        Image.fromarray(drawn()).rotate(i).save(folder / f"images/{i}.png")
        lines.append(f"images/{i}.png,{layouts.CLASSES[i % 2]},g{i}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def of_table(**options: Any) -> Task:
    return task(as_is("cells"), **options)


def run(source: Path, out: Path, declared: Task | None = None, **options: Any) -> Report:
    return prepare(declared or task(), source, out, workers=0, **options)


def manifest(out: Path) -> Any:
    return json.loads((out / "synthetic/prepared.json").read_text())


# -- another task's data --


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_source_none_of_whose_labels_fits_is_taken_for_another_tasks(
    skip_bad: bool, table: Path, source: Path, tmp_path: Path
) -> None:
    declared = of_table(classes=("few", "many"))
    error = refused("HZ-E34", lambda: run(table, tmp_path / "out", declared, skip_bad=skip_bad))
    assert error.what == "no label of this table is a class of synthetic; is this another task's data?"
    assert error.expected == "few, many" and "stroma (3), tumour (3)" in error.got
    told = str(error)
    assert "skip-bad" not in told and "correct the" not in told and str(table) in error.where
    assert not (tmp_path / "out").exists(), "nothing stands in the way of the right data"
    assert run(source, tmp_path / "out").n_tiles == 8 * N


def test_the_task_whose_labels_they_are_is_named(table: Path, tmp_path: Path) -> None:
    text = (table / "labels.csv").read_text().replace("stroma", "WBC").replace("tumour", "RBC")
    (table / "labels.csv").write_text(text)
    assert "classes of bccd_cells" in refused("HZ-E34", lambda: run(table, tmp_path / "out", of_table())).got


def test_names_that_the_groups_rule_cannot_read_do_not_hide_that_the_data_is_another_tasks(
    table: Path, tmp_path: Path
) -> None:
    for name in ("bccd_cells", "all_leukemia"):
        declared = prepared_as_is(TASKS[name])
        error = refused("HZ-E34", lambda d=declared: run(table, tmp_path / "out", d))  # type: ignore[misc]
        assert error.what.startswith(f"no label of this table is a class of {name};")
    (table / "labels.csv").write_text("file,label,group\nimages/0.png,Early,g\n")
    error = refused("HZ-U32", lambda: run(table, tmp_path / "out", declared))
    assert "running number" in error.what and "another dataset" in error.next_step


def test_one_label_that_fits_makes_the_others_faults_of_the_table(table: Path, tmp_path: Path) -> None:
    error = refused("HZ-E34", lambda: run(table, tmp_path, of_table(classes=("stroma", "necrosis"))))
    assert error.what == "a label is not a class of this task" and "--skip-bad" in error.next_step


def test_where_every_picture_is_rejected_that_is_said_with_the_reasons(source: Path, tmp_path: Path) -> None:
    for path in source.rglob("*.png"):
        path.write_bytes(b"")
    error = refused("HZ-E36", lambda: run(source, tmp_path / "out", skip_bad=True))
    assert error.what == "every picture was rejected, so nothing is left of synthetic"
    assert f"{2 * N} pictures: HZ-D24" in error.got and not (tmp_path / "out").exists()


# -- accepted numbers --


def test_numbers_can_be_accepted_after_bad_pictures_were_left_out(source: Path, tmp_path: Path) -> None:
    next(source.rglob("*.png")).write_bytes(b"")
    declared = task(counts=(4 * N, 4 * N))
    first = refused("HZ-U78", lambda: run(source, tmp_path, declared, skip_bad=True), exit_code=4)
    assert first.expected == "the published numbers" and "--accept-counts" in first.next_step
    assert manifest(tmp_path)["published"]["accepted"] is False
    for _ in range(2):
        then = refused(
            "HZ-U78",
            lambda: run(source, tmp_path, declared, skip_bad=True, accept_counts=True),
            exit_code=4,
        )
        assert manifest(tmp_path)["published"]["accepted"] is True
        assert then.expected == "" and "(4 missing); accepted" in then.got
        assert "--accept-counts" not in then.next_step
    before = manifest(tmp_path)
    refused("HZ-U78", lambda: run(source, tmp_path, declared, skip_bad=True), exit_code=4)
    assert manifest(tmp_path) == before, "what was accepted stays accepted"
    assert len(declared.load(tmp_path)) == 8 * N - 4


def test_both_together_accept_at_once_and_give_the_same_folder(source: Path, tmp_path: Path) -> None:
    next(source.rglob("*.png")).write_bytes(b"")
    declared = task(counts=(4 * N, 4 * N))
    both: dict[str, Any] = {"skip_bad": True, "accept_counts": True}
    error = refused("HZ-U78", lambda: run(source, tmp_path / "one", declared, **both), exit_code=4)
    assert error.expected == "" and "accepted" in error.got
    for options in ({"skip_bad": True}, both):
        refused("HZ-U78", lambda o=options: run(source, tmp_path / "two", declared, **o), exit_code=4)  # type: ignore[misc]
    assert layouts.tree(tmp_path / "one/synthetic") == layouts.tree(tmp_path / "two/synthetic")


@pytest.mark.parametrize(("bad", "lines"), [(3, 3), (20, 20), (23, 21)])
def test_up_to_twenty_rejected_pictures_are_named_and_then_where_all_are(
    bad: int, lines: int, tmp_path: Path
) -> None:
    source = layouts.write_pictures(tmp_path / "source", 25)
    faulty = sorted(source.rglob("*.png"))[:bad]
    for path in faulty:
        path.write_bytes(b"")
    found = refused("HZ-U78", lambda: run(source, tmp_path, skip_bad=True), exit_code=4).got.splitlines()
    assert len(found) == lines
    names = [path.relative_to(source).as_posix() for path in faulty]
    assert [line.split(":")[0].strip() for line in found[:20]] == names[:20]
    assert (bad > 20) == (
        f"and 3 more; all are listed in {tmp_path / 'synthetic/prepared.json'}" in found[-1]
    )


# -- listed and missing --


def test_a_listed_tile_that_is_missing_is_left_out_when_that_is_asked_for(
    table: Path, tmp_path: Path
) -> None:
    declared = of_table(counts=(3, 3))
    (table / "images/1.png").unlink()
    stopped = refused("HZ-E33", lambda: run(table, tmp_path / "out", declared))
    assert "1 listed but missing: images/1.png" in stopped.got
    assert "--skip-bad" in stopped.next_step and "allow_unlisted" not in stopped.next_step
    error = refused("HZ-U78", lambda: run(table, tmp_path / "out", declared, skip_bad=True), exit_code=4)
    assert "images/1.png: HZ-D24 the table lists the tile, and it is not there" in error.got
    came = manifest(tmp_path / "out")["came_out"]
    assert came["pictures"] == {"input": 6, "done": 5, "rejected": 1, "not_reached": 0, "without_tiles": 0}
    assert declared.load(tmp_path / "out")["group"][:] == ["g0", "g2", "g3", "g4", "g5"]


@pytest.mark.parametrize("fault", ["unlisted", "conflicting"])
def test_leaving_out_what_is_missing_leaves_no_other_fault_of_a_table_out(
    fault: str, table: Path, tmp_path: Path
) -> None:
    (table / "images/1.png").rename(table / ("images/new.png" if fault == "unlisted" else "aside.png"))
    if fault == "conflicting":
        with (table / "labels.csv").open("a") as file:
            file.write("images/2.png,tumour,g2\n")
    error = refused("HZ-E33", lambda: run(table, tmp_path, of_table(), skip_bad=True))
    assert fault.removeprefix("un") in error.got and "missing" not in error.got
    assert ("allow_unlisted" in error.next_step) == (fault == "unlisted")
    assert "skip-bad" not in error.next_step


# -- annotated objects --


@pytest.mark.parametrize(
    ("tiles", "objects", "says"),
    [
        (40, 4, []),
        (39, 4, []),  # one lies in a corner
        (30, 4, ["annotated objects of class mitosis: 3 instead of 4 (1 missing)"]),
        (41, 4, ["annotated objects of class mitosis: 5 instead of 4 (1 too many)"]),
    ],
)
def test_the_number_of_annotated_objects_is_compared(tiles: int, objects: int, says: list[str]) -> None:
    rule = Around(px=32, shifts=10, kinds={"mitosis": "mitosis"}, nothing="nothing", stride=32)
    declared = task(plan(rule=rule), classes=("nothing", "mitosis"), objects={"mitosis": objects})
    report = Report(task="synthetic", folder="", n_pictures=1)
    report.classes.update(mitosis=tiles, nothing=7)
    assert counts.differences(declared, report) == says
    assert counts.differences(replace(declared, objects={}), report) == []


@pytest.mark.parametrize("name", [t.name for t in TASKS.values() if t.objects or t.not_reproduced])
def test_what_cannot_be_reproduced_is_declared_beside_what_is_compared(name: str) -> None:
    t = TASKS[name]
    assert t.not_reproduced and t.not_reproduced[0] != t.total and t.not_reproduced[1]
    assert not t.objects or (t.preparation and isinstance(t.preparation.rule, Around))
    assert set(t.objects) <= set(t.classes)


# -- what the verbs say --


@pytest.fixture
def known(table: Path) -> Iterator[None]:
    TASKS["synthetic"] = of_table(classes=("tumour", "other"), exclude_classes={"stroma": "too few"})
    yield
    TASKS.pop("synthetic")


def call(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def test_pictures_of_a_class_that_the_task_leaves_out_are_told_with_the_reason(
    known: None, table: Path, tmp_path: Path
) -> None:
    text = (table / "labels.csv").read_text()
    (table / "labels.csv").write_text(text.replace("images/5.png,tumour", "images/5.png,other"))
    out = call("prepare", "synthetic", "--from", table, "--out", tmp_path / "out", "--workers", 0).stdout
    assert "no tile from 3 pictures; left out by the task: stroma 3 tiles (too few)" in " ".join(out.split())


def test_a_refused_run_leaves_no_folder_behind(known: None, table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for out in ("new", "mine"):
        call("prepare", "synthetic", "--from", tmp_path / "gone", "--out", tmp_path / out, code=2)
    assert not (tmp_path / "new").exists() and list((tmp_path / "mine").iterdir()) == []


def test_an_audit_names_the_tasks_that_are_not_there(known: None, tmp_path: Path) -> None:
    page = tmp_path / "page"
    one = call("tasks", "synthetic", "--html", page, "--data-root", tmp_path / "none", code=2).stderr
    assert "task 'synthetic' is not there" in one and "synthetic/labels.csv" in one
    more = call("tasks", "lc25000_????*", "--html", page, "--data-root", tmp_path / "none", code=2).stderr
    assert "none of these tasks is there" in more and "lc25000_lung/labels.csv" in more


def test_the_papers_number_is_shown_and_marked_where_it_cannot_be_reproduced() -> None:
    for name, number in (
        ("camelyon16", "292,226"),
        ("mitos_atypia14", "64,873"),
        ("janowczyk5_mitosis", "24,870"),
        ("tupac16_mitosis", "77,853"),
    ):
        text = " ".join(call("tasks", name).stdout.split())
        assert (
            f"tiles {number} (paper): not reproducible, see below not reproducible the paper's {number} tiles"
            in text
        )
    assert "compared 656 pictures, 1,552 annotated (mitosis)" in " ".join(
        call("tasks", "tupac16_mitosis").stdout.split()
    )
