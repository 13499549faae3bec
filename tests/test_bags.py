"""Bags from tile tables and feature files: one order whatever the rows' order, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo import feature_files
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.slides.bag_files import SlideLabels, corners, from_feature_files, read_slide_labels
from histozoo.evaluate.slides.bags import Bags, from_tiles

CLASSES = ("benign", "malignant")


def table(n: int = 12, *, slides: int = 3, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    slide_N = np.arange(n) % slides
    return {
        "f_ND": random.standard_normal((n, 4)).astype(np.float32),
        "labels_N": slide_N % 2,
        "slides_N": [f"s{i}" for i in slide_N],
        "names": [f"s{s}/{i:03}.png" for i, s in enumerate(slide_N)],
    }


def make(rows: dict[str, Any], **more: Any) -> Bags:
    given = {"task": "toy", "classes": CLASSES, **rows, **more}
    return from_tiles(given.pop("f_ND"), given.pop("labels_N"), given.pop("slides_N"), **given)


def same(first: Bags, second: Bags) -> bool:
    arrays = all(
        np.array_equal(getattr(first, k), getattr(second, k))
        for k in ("f_ND", "slide_N", "labels_S", "xy_N2")
    )
    return arrays and first.fingerprint == second.fingerprint and first.names == second.names


@pytest.mark.parametrize("named", [True, False])
def test_rows_in_any_order_give_the_same_bits(named: bool) -> None:
    rows = table()
    if not named:
        rows.pop("names")
    order = np.random.default_rng(5).permutation(12)
    shuffled = {k: v[order] if isinstance(v, np.ndarray) else [v[i] for i in order] for k, v in rows.items()}
    first, second = make(rows), make(shuffled)
    assert same(first, second)
    for bags, given in ((first, rows), (second, shuffled)):
        np.testing.assert_array_equal(given["f_ND"][bags.order_N], bags.f_ND)


def test_a_bag_holds_the_tiles_of_its_slide() -> None:
    rows = table()
    bags = make(rows, patients_N=["p" + s for s in rows["slides_N"]])
    assert bags.slides == ("s0", "s1", "s2") and bags.patients == ("ps0", "ps1", "ps2")
    assert bags.labels_S.tolist() == [0, 1, 0]
    for s, slide in enumerate(bags.slides):
        mine = [i for i, name in enumerate(rows["slides_N"]) if name == slide]
        np.testing.assert_array_equal(bags.bag(s), rows["f_ND"][mine])


def test_disagreeing_tiles_are_refused_unless_a_rule_is_given() -> None:
    rows = table()
    rows["labels_N"] = rows["labels_N"].copy()
    rows["labels_N"][0] = 1  # one of four tiles of s0
    with pytest.raises(
        UsageError, match=r"HZ-I71 the tiles of a slide do not agree(.|\n)*s0: 3 benign, 1 malignant"
    ):
        make(rows)
    assert make(rows, rule="max").labels_S.tolist() == [1, 1, 0]
    assert make(rows, rule="majority").labels_S.tolist() == [0, 1, 0]
    rows["labels_N"][3] = 1  # two and two
    with pytest.raises(UsageError, match="HZ-I71"):
        make(rows, rule="majority")
    with pytest.raises(UsageError, match="HZ-I71 there is no such rule"):
        make(rows, rule="first")


def test_what_is_no_bag_is_refused() -> None:
    rows = table()
    f_ND = rows["f_ND"].copy()
    f_ND[7, 2] = np.nan
    with pytest.raises(IntegrityError, match=r"HZ-I62 features are not finite\n  where:    rows 7"):
        make({**rows, "f_ND": f_ND})
    with pytest.raises(UsageError, match="HZ-I71 there is no tile"):
        make({k: v[:0] for k, v in rows.items()})
    with pytest.raises(UsageError, match="HZ-I71 a slide belongs to several patients"):
        make(rows, patients_N=[f"p{i}" for i in range(12)])
    with pytest.raises(UsageError, match="HZ-I71 a slide holds two tiles of one name"):
        make({**rows, "names": ["a.png"] * 12})
    with pytest.raises(UsageError, match="HZ-I62 labels are no class indices"):
        make({**rows, "labels_N": rows["labels_N"] + 1})
    with pytest.raises(UsageError, match="HZ-I64"):
        make({**rows, "labels_N": rows["labels_N"][:-1]})


# -- feature files


def stored(path: Path, names: list[str], *, model: str = "m", seed: int = 0) -> np.ndarray:
    f_ND = np.random.default_rng(seed).standard_normal((len(names), 3)).astype(np.float32)
    facts = {"model": model, "sha256": model * 3, "contract": {"tile_px": 8}}
    made = feature_files.Features(
        names=tuple(names), sha256=("0" * 64,) * len(names), features_ND=f_ND, made_by=facts
    )
    feature_files.write(path, made)
    return f_ND


def labels(**words: str) -> SlideLabels:
    return SlideLabels(label=words, patient={s: f"p-{s}" for s in words})


def test_one_file_per_slide_and_one_file_for_all_give_the_same_features(tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    f_a = stored(apart / "a.safetensors", ["x_0_0.png", "x_8_0.png"])
    f_b = stored(apart / "b.safetensors", ["y_0_0.png"], seed=1)
    bags = from_feature_files(apart, labels(a="benign", b="malignant"), task="t", classes=CLASSES)
    assert bags.slides == ("a", "b") and bags.patients == ("p-a", "p-b") and bags.labels_S.tolist() == [0, 1]
    np.testing.assert_array_equal(bags.bag(0), f_a)
    np.testing.assert_array_equal(bags.bag(1), f_b)
    assert bags.places(0).tolist() == [[0, 0], [8, 0]]
    f_ND = stored(tmp_path / "all.safetensors", ["a/x.png", "b/x.png", "b/y.png"])
    together = from_feature_files(
        tmp_path / "all.safetensors", labels(a="benign", b="malignant"), task="t", classes=CLASSES
    )
    np.testing.assert_array_equal(together.bag(1), f_ND[1:])
    assert together.places(1) is None
    by_name = from_feature_files(
        tmp_path / "all.safetensors", labels(x="benign", y="malignant"), task="t", classes=CLASSES,
        slide_of=lambda name: name[-5],
    )  # fmt: skip
    assert [len(by_name.bag(s)) for s in (0, 1)] == [2, 1]


def test_feature_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    stored(tmp_path / "a.safetensors", ["x.png"])

    def read(**words: str) -> Bags:
        return from_feature_files(tmp_path, labels(**words), task="t", classes=CLASSES)

    with pytest.raises(UsageError, match=r"HZ-I71 (.|\n)*1 without a tile: b"):
        read(a="benign", b="benign")
    stored(tmp_path / "b.safetensors", ["x.png"])
    with pytest.raises(UsageError, match=r"HZ-I71 (.|\n)*1 without a label: b"):
        read(a="benign")
    with pytest.raises(UsageError, match="HZ-E34"):
        read(a="benign", b="bad")
    stored(tmp_path / "b.safetensors", ["x.png"], model="n")
    with pytest.raises(UsageError, match="HZ-I71 the feature files are not of one model: model differs"):
        read(a="benign", b="malignant")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="HZ-I71 no feature file"):
        from_feature_files(tmp_path / "empty", labels(a="benign"), task="t", classes=CLASSES)
    with pytest.raises(UsageError, match="HZ-I71 the tile's name does not say"):
        from_feature_files(tmp_path / "a.safetensors", labels(a="benign"), task="t", classes=CLASSES)


def test_the_table_of_slides_is_read_as_text_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    path.write_text("slide,label,patient\n007,benign,NA\n008,malignant,1E10\n")
    found = read_slide_labels(path)
    assert found.label == {"007": "benign", "008": "malignant"} and found.patient == {
        "007": "NA",
        "008": "1E10",
    }
    path.write_text("slide,label\na,benign\n")
    assert read_slide_labels(path).patient == {"a": "a"}
    for text, said in (
        ("slide\na\n", "a column is missing"),
        ("", "got:      an empty file"),
        ("slide,label\n", "the table names no slide"),
        ("slide,label\na,\n", "a cell is blank"),
        ("slide,label\na,x\na,x\n", "a slide is there twice"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=f"(?s)HZ-U32.*{said}.*next: .*a line per slide"):
            read_slide_labels(path)
    with pytest.raises(UsageError, match=r"(?s)HZ-U32.*got: +No such file or directory\n.*next:"):
        read_slide_labels(tmp_path / "none.csv")


def test_i71_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    for name in ("none", "none.safetensors"):
        with pytest.raises(
            UsageError, match=f"(?s)HZ-I71 there is no such .*{name}\n.*next: .*histozoo embed"
        ):
            from_feature_files(tmp_path / name, labels(a="benign"), task="t", classes=CLASSES)


def test_corners_come_from_names_and_never_from_several_pictures_of_a_slide() -> None:
    names = ["p_0_512.png", "p_512_0-1.png", "q.png#xywh=3,4,9,9", "r.png#xywh=3,4,9,9", "s-05_07.png"]
    found = corners(names, ["a", "a", "b", "b", "c"])
    assert found.tolist() == [[0, 512], [512, 0], [-1, -1], [-1, -1], [-1, -1]]
