"""Group E: tables, labels, classes, groups, duplicates and shards that would give a wrong result in silence, by number.

Other tests of the group: one table at a time in test_tiles.py (33-36), splits and duplicates in test_splits.py (36-38), a study's left-out
tiles in test_leave_out.py (38), preparation in test_tile_table.py (33, 37) and test_prepare_errors.py (34-36), copies without patients in
test_from_hub.py (37), shards in test_prepare_shards.py (39).
"""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo.data import splits, tables, tiles
from histozoo.errors import IntegrityError, UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import EachPicture, as_is
from tests.fakes.badtiles import drawn
from tests.fakes.tile_paths import embedded, task
from tests.fakes.tiles import write_table
from tests.fakes.tiny import tiny_zoo

HERE = Path(__file__).parent
CASES = {"d": range(24, 33), "e": range(33, 40)}


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))


def table_of(folder: Path, lines: list[str], *, mark: str = "", newline: str = "\n") -> Path:
    """Writes a table and a different tile for every file it names."""
    separator = ";" if ";" in lines[0] else ","
    for n, line in enumerate(lines[1:]):
        path = folder / line.split(separator)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(drawn(), 3 * n, axis=1)).save(path, "PNG")
    (folder / "labels.csv").write_bytes((mark + newline.join(lines) + newline).encode())
    return folder


def refused(call: Callable[[], Any]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        call()
    return caught.value


def test_every_case_of_both_groups_has_a_test_of_its_number() -> None:
    names = [
        node.name
        for path in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    missing = [
        f"{g}{n}"
        for g, numbers in CASES.items()
        for n in numbers
        if not any(f"_{g}{n}_" in name for name in names)
    ]
    assert not missing


# -- 33: table and folder --


@pytest.fixture
def unlisted(tmp_path: Path) -> Path:
    """Four listed tiles and seven that are not."""
    folder = table_of(
        tmp_path / "set", ["file,label,group", *(f"images/{i}.png,{'ab'[i % 2]},g{i}" for i in range(4))]
    )
    for i in range(7):
        Image.fromarray(drawn()).save(folder / f"images/extra_{i}.png")
    return folder


def test_e33_unlisted_tiles_stop_the_reading_until_they_are_allowed_and_then_are_counted(
    unlisted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = refused(lambda: tables.read_table(unlisted, classes=("a", "b")))
    assert error.code == "HZ-E33" and "7 there but not listed" in error.got and "and 2 more" in error.got
    dataset = tables.read_table(unlisted, classes=("a", "b"), allow_unlisted=True)
    assert dataset["file"][:] == [f"images/{i}.png" for i in range(4)]
    assert "7 tiles there are not listed and not used: images/extra_0.png" in caplog.text


def test_e33_allowing_unlisted_tiles_allows_neither_missing_nor_contradictory_ones(unlisted: Path) -> None:
    (unlisted / "images/0.png").unlink()
    with (unlisted / "labels.csv").open("a") as file:
        file.write("images/1.png,a,g\n")
    error = refused(lambda: tables.read_table(unlisted, classes=("a", "b"), allow_unlisted=True))
    assert error.got == (
        "1 listed but missing: images/0.png (line 2); "
        "1 listed with conflicting labels: images/1.png (line 3: b, line 6: a)"
    )


def test_e33_preparing_refuses_what_reading_refuses(unlisted: Path, tmp_path: Path) -> None:
    plan = task("out", preparation=as_is("set"))
    error = refused(lambda: prepare(plan, unlisted, tmp_path / "out", workers=0))
    assert error.code == "HZ-E33" and "7 there but not listed" in error.got


def test_e33_a_table_to_embed_that_names_a_tile_twice_is_refused_with_its_line(
    unlisted: Path, tmp_path: Path
) -> None:
    with (unlisted / "labels.csv").open("a") as file:
        file.write("images/1.png,a,g\n")
    error = refused(lambda: embedded(unlisted / "labels.csv", tmp_path / "f.safetensors"))
    assert error.code == "HZ-U62" and error.where.endswith("line 6") and error.got == "'images/1.png'"


# -- 34: every cell is text --

WORDS = ("007", "1E10", "NA", "None", "nan", "true", "1.0")


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_e34_ids_and_labels_stay_text_from_the_table_to_the_prepared_set(
    separator: str, mark: str, tmp_path: Path
) -> None:
    lines = [separator.join(("file", "label", "group"))]
    lines += [separator.join((f"images/{w}_{i}.png", w, f"00{i}")) for w in WORDS for i in range(2)]
    folder = table_of(tmp_path / "set", lines, mark=mark, newline="\r\n")
    made = dataclasses.replace(task("out", preparation=as_is("set")), classes=WORDS)
    prepare(made, folder, tmp_path / "root", workers=0)
    for dataset in (tables.read_table(folder, classes=WORDS), made.load(tmp_path / "root")):
        names = dataset.features["label"].names
        found = [
            (names[label], group)
            for label, group in zip(dataset["label"][:], dataset["group"][:], strict=True)
        ]
        assert sorted(found) == sorted((w, f"00{i}") for w in WORDS for i in range(2))
    assert set(embedded(folder / "labels.csv", tmp_path / "f.safetensors")) == {
        f"images/{w}_{i}.png" for w in WORDS for i in range(2)
    }


@pytest.mark.parametrize("label", ["A", "a ", "aa"])
def test_e34_an_unknown_label_is_refused_alike_when_reading_and_when_preparing(
    label: str, tmp_path: Path
) -> None:
    folder = table_of(tmp_path / "set", ["file,label,group", f"1.png,{label},g", "2.png,b,g", "3.png,a,g"])
    read = refused(lambda: tables.read_table(folder, classes=("a", "b")))
    plan = task("out", preparation=as_is("set"))
    made = refused(lambda: prepare(plan, folder, tmp_path / "out", workers=0))
    assert read.code == made.code == "HZ-E34"
    assert repr(label) in read.got and repr(label) in made.got
    assert "'a'" in read.expected and "'a'" in made.expected


# -- 35: classes come from the task --


def test_e35_a_class_that_a_folder_lacks_shifts_no_number(tmp_path: Path) -> None:
    for name in ("a", "c"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.fromarray(drawn()).save(tmp_path / "val" / name / "1.png")
    error = refused(lambda: tables.read_folder(tmp_path / "val", classes=("a", "b", "c")))
    assert (error.code, error.got) == ("HZ-E36", "a: 1, b: 0, c: 1")
    assert tables.read_folder(tmp_path / "val", classes=("c", "a"))["label"][:] == [1, 0]


@pytest.mark.parametrize("name", ["Benign", "benign_site2", ".ipynb_checkpoints"])
def test_e35_a_folder_of_another_case_or_site_is_no_class(name: str, tmp_path: Path) -> None:
    for folder in ("benign", "malignant", name):
        (tmp_path / folder).mkdir()
        Image.fromarray(drawn()).save(tmp_path / folder / "1.png")
    if name.startswith("."):
        assert tables.read_folder(tmp_path, classes=("benign", "malignant"))["label"][:] == [0, 1]
        return
    error = refused(lambda: tables.read_folder(tmp_path, classes=("benign", "malignant")))
    assert error.code == "HZ-E34" and "nearest to the first is 'benign'" in error.expected


# -- 36: nothing to learn --


def test_e36_a_batch_without_tiles_of_a_task_has_a_finite_loss_and_gives_that_head_nothing() -> None:
    import timm
    import torch

    from histozoo.data.mixing import UNIFORMS
    from histozoo.data.views import Views
    from histozoo.recipes.multitask import PRESETS, Multitask

    for preset in PRESETS.values():
        torch.manual_seed(0)
        views = Views(px=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), flip=True)
        backbone = timm.create_model("test_resnet", num_classes=0)
        model = Multitask(backbone, {"there": 2, "absent": 3}, views=views, settings=preset).train()
        batch = {
            "tiles": torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8),
            "u": torch.rand(4, UNIFORMS),
            "task": torch.zeros(4, dtype=torch.long),
            "label": torch.tensor([0, 1, 0, 1]),
        }
        loss = model(batch)["loss"]
        loss.backward()
        assert math.isfinite(loss.item()) and loss.item() > 0
        absent = [p.grad for p in model.heads["absent"].parameters()]
        assert all(g is not None and not g.any() for g in absent)
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


# -- 37: groups --


def test_e37_a_table_without_groups_is_refused_until_it_is_said_that_there_are_none(tmp_path: Path) -> None:
    folder = table_of(tmp_path / "set", ["file,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(8))])
    error = refused(lambda: tables.read_table(folder, classes=("a", "b")))
    assert (error.code, error.expected, error.got) == ("HZ-U32", "file, label, group", "file, label")
    said = tables.read_table(folder, classes=("a", "b"), group="file")
    assert said["group"][:] == [f"{i}.png" for i in range(8)]


def test_e37_that_there_are_no_groups_is_recorded_in_the_prepared_set_and_shown_on_the_card(
    tmp_path: Path,
) -> None:
    from histozoo import card
    from histozoo.entries import parse_entry
    from tests.fakes.zoo import entry_json

    folder = table_of(tmp_path / "set", ["file,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(8))])
    plan = task("out", preparation=as_is("set", groups=EachPicture()))
    report = prepare(plan, folder, tmp_path / "root", workers=0)
    told = json.loads((tmp_path / "root/out/prepared.json").read_text())["came_out"]
    assert len(told["groups"]) == told["tiles"] == report.n_tiles == 8
    raw = entry_json("test_resnet.multitask_tiny")
    raw["histozoo"]["corpus"][0] |= {"n": 8, "n_groups": len(report.groups)}
    assert "| 8 | 8 |" in card.render(parse_entry(raw, "entry.json"))


@pytest.mark.parametrize("parts", [([0, 1], [2], [3]), ([0], [1, 3], [2])])
def test_e37_a_patient_in_two_parts_is_refused_whatever_the_parts(parts: tuple[list[int], ...]) -> None:
    train, val, test = (np.array(rows) for rows in parts)
    split = splits.Split(train=train, val=val, test=test, seed=0)
    with pytest.raises(UsageError, match="HZ-E37 a group is in two parts"):
        splits.check_split(split, ["p1", "p2", "p3", "p1"])


# -- 38: duplicates --


def test_e38_copies_in_two_splits_are_refused_however_the_file_was_written(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "set", 6, ("a", "b"), px=48, groups=6)
    with Image.open(folder / "images/a_000.png") as image:
        image.save(folder / "images/copy.jpg", quality=90)
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "images/turned.bmp")
    with (folder / "labels.csv").open("a") as file:
        file.write("images/copy.jpg,a,other,\nimages/turned.bmp,a,third,\n")
    dataset = tables.read_table(folder, classes=("a", "b"))
    packed = tiles.pack(dataset, 48, tmp_path / "cache")
    labels, groups = dataset["label"][:], dataset["group"][:]
    split = splits.make_split(labels, groups, seed=0, tiles=packed)
    sides = [{0, 12, 13} & set(getattr(split, part).tolist()) for part in splits.PARTS]
    assert sorted(map(len, sides)) == [0, 0, 3] and split.duplicates == 3
    torn = splits.Split(train=np.array([0, 1]), val=np.array([6, 12]), test=np.array([13]), seed=0)
    with pytest.raises(UsageError, match=r"HZ-E38 [\s\S]*3 pairs of rows: 0 \(train\) = 12 \(val\)"):
        splits.check_split(torn, groups, tiles=packed)


# -- 39: shards --


@pytest.mark.parametrize("fault", ["cut off", "missing", "of another set", "a byte changed"])
def test_e39_a_shard_that_is_not_as_written_is_named(fault: str, tmp_path: Path) -> None:
    from histozoo.data.shards import read_shards

    lines = [f"TCGA-A1.01Z.{i}.png,{'ab'[i % 2]},g{i}" for i in range(6)]
    folder = table_of(tmp_path / "set", ["file,label,group", *lines])
    prepare(task("out", preparation=as_is("set")), folder, tmp_path / "root", workers=0, shards=True)
    out = tmp_path / "root/out"
    whole = read_shards(out, cache_dir=tmp_path / "cache")
    assert len(whole) == 6 and len(set(whole["file"][:])) == 6  # names with dots are names of their own
    shard = sorted(out.rglob("*.parquet"))[0]
    data = shard.read_bytes()
    if fault == "missing":
        shard.unlink()
    else:
        other = {
            "cut off": data[:-50],
            "of another set": data * 2,
            "a byte changed": data[:99] + b"\0" + data[100:],
        }
        assert other[fault] != data
        shard.write_bytes(other[fault])
    with pytest.raises(IntegrityError, match="HZ-E39") as caught:
        read_shards(out, cache_dir=tmp_path / "cache")
    assert shard.name in caught.value.where
