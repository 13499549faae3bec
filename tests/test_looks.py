"""Looks through `histozoo evaluate`: known answers, the same numbers again, a look kept, what cannot be looked at, and the files."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import cka, cut_scores, truncate
from histozoo.evaluate.compare import centre_table, looking, run
from histozoo.evaluate.compare.plan import Plan, check, columns
from histozoo.evaluate.encoders import Encoder, encoder
from histozoo.evaluate.looks import LOOKS
from histozoo.evaluate.looks.base import Setup
from histozoo.evaluate.stock_door import stock_door
from histozoo.evaluate.trunks import random_trunk
from tests.fakes.compared import PX, Known, install, known, labelled
from tests.test_compare_page import read

TASK = labelled("drawn_one")
PIXELS = ("invariance", "corruption")


def planned(folder: Path, names: tuple[str, ...] = ("perfect", "noise"), **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "columns": columns(names),
        "tasks": ["drawn_one"],
        "protocols": list(PIXELS),
        "out": folder / "out",
        "cache": folder / "cache",
    }
    return Plan(**given | changes)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"drawn_one": TASK})


def setup(folder: Path, first: Encoder, **changes: Any) -> Setup:
    return Setup(first=first, cache=folder, resamples=200, **changes)


def numbers(found: Any) -> dict[tuple[str, str], float]:
    return {(n.setting, n.metric): n.value for n in found}


class Constant(Known):
    """Features that no change to pixels moves: a code of the tile's row, found by its undamaged first row of pixels."""

    def features(self, tiles_NHWC: Any, *, batch: int = 128, device: str = "cpu") -> Any:
        return np.eye(len(tiles_NHWC), dtype=np.float32)


# -- known answers --


def test_features_that_no_change_moves_are_invariant(tmp_path: Path) -> None:
    one = Constant(**vars(known("perfect")))
    found = numbers(LOOKS["invariance"](one, lambda _: TASK, setup(tmp_path, one)))
    assert {v for (_, metric), v in found.items() if metric == "distance"} == {0}
    assert all(v == pytest.approx(1) for (_, metric), v in found.items() if metric != "distance")
    assert {change for change, _ in found} == {"flip_x", "flip_y", "rot90", "stain", "blur", "jpeg_70"}


def test_a_perfect_classifier_loses_nothing_where_damage_does_not_reach_what_it_sees(tmp_path: Path) -> None:
    class Labels(Known):
        def features(self, tiles_NHWC: Any, *, batch: int = 128, device: str = "cpu") -> Any:
            return TASK.labels_N[:, None].astype(np.float32) - 0.5

    one = Labels(**vars(known("perfect")))
    found = LOOKS["corruption"](one, lambda _: TASK, setup(tmp_path, one))
    told = numbers(found)
    assert told["clean", "balanced_accuracy"] == 1
    assert {v for (_, metric), v in told.items() if metric in ("corruption_error", "worst_minus_clean")} == {
        0
    }
    blind = LOOKS["corruption"](known("noise"), lambda _: TASK, setup(tmp_path, one))
    assert numbers(blind)["mean of corruptions", "corruption_error"] == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(("what", "wanted"), [("class", 1.0), ("centre", 0.0), ("noise", None)])
def test_the_robustness_index_says_what_decides_who_is_near(
    tmp_path: Path, what: str, wanted: float | None
) -> None:
    one_task = labelled("drawn_one", groups=40)
    centre_G = np.arange(40) // 2 % 2
    centre_N = np.repeat(centre_G, 2)
    noise_ND = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    decisive_N = {"class": one_task.labels_N, "centre": centre_N, "noise": np.zeros(80)}[what]

    class Decided(Known):
        def features(self, tiles_NHWC: Any, *, batch: int = 128, device: str = "cpu") -> Any:
            sharp = np.stack([decisive_N, 1 - decisive_N], 1) * 100
            return np.concatenate([sharp, noise_ND], 1).astype(np.float32)

    one = Decided(**vars(known("perfect")) | {"sha256": what})
    centres = {"drawn_one": ([f"c{c}" for c in centre_N], one_task.groups_N.tolist())}
    found = LOOKS["robustness_index"](one, lambda _: one_task, setup(tmp_path, one, centre_of=centres))
    told = {n.metric: n for n in found}
    if wanted is None:
        assert told["robustness_index"].value == pytest.approx(told["chance"].value, abs=0.1)
    else:
        assert told["robustness_index"].value == wanted


def tiny(seed: int) -> Encoder:
    """A network of a few thousand weights that takes the drawn tiles."""
    found = encoder(f"random:test_resnet@{seed}", tile_px=32)
    return dataclasses.replace(found, build=lambda: random_trunk("test_resnet", seed=seed))


def pixels(px: int = 32, groups: int = 12) -> Any:
    """The drawn task with room for a network's strides."""
    one = labelled("drawn_one", groups=groups)
    return dataclasses.replace(one, tiles_NHWC=one.tiles_NHWC.repeat(px // PX, 1).repeat(px // PX, 2))


def test_cka_of_blocks_is_the_library_s_and_one_with_itself(tmp_path: Path) -> None:
    first, other, task = tiny(0), tiny(1), pixels()
    look = LOOKS["cka"]
    found = look(other, lambda _: task, setup(tmp_path, first))
    wanted = cka.similarity([first.block_features(task.tiles_NHWC)], [other.block_features(task.tiles_NHWC)])
    values = [n.value for n in found]
    np.testing.assert_allclose(values, wanted.values_LM.ravel(), atol=1e-5)
    for n in found:
        left, right = n.setting.split(" | ")
        assert (n.low is not None) == (left == right)
    same = numbers(look(first, lambda _: task, setup(tmp_path, first)))
    assert all(same[f"{b} | {b}", "linear_cka"] == pytest.approx(1, abs=1e-5) for b in wanted.left)


def test_cuts_cost_and_score_what_the_library_says_and_name_their_door(tmp_path: Path) -> None:
    one, task = tiny(0), pixels()
    found = LOOKS["cuts"](one, lambda _: task, setup(tmp_path, one))
    told = numbers(found)
    costs = truncate.cuts(one.module(), tile_px=32)
    scores = cut_scores.probe_cuts(one.module(), task, mean=one.mean, std=one.std, seed=0, resamples=200)
    for cost, score in zip(costs, scores, strict=True):
        assert told[cost.after, "features"] == cost.dim
        assert told[cost.after, "parameters"] == cost.parameters
        assert told[cost.after, "operations"] == cost.flops
        assert told[cost.after, "balanced_accuracy"] == pytest.approx(score.score.value)
    assert told[costs[-1].after, "minus_whole"] == 0
    doors = {n.setting: n.note for n in found if n.note}
    for cost in costs:
        assert doors[cost.after] == stock_door("test_resnet", cost.after, tile_px=32).why


# -- kept, repeated, refused --


def test_looks_are_kept_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    chosen = planned(tmp_path)
    first = looking.look(chosen, resamples=200, say=said.append)
    assert len(said) == 4 and said[0].startswith("drawn_one: invariance of perfect")
    fresh = looking.look(planned(tmp_path / "again"), resamples=200)
    for name in PIXELS:
        monkeypatch.setitem(LOOKS, name, lambda *_: pytest.fail("looked again"))
    assert looking.look(chosen, resamples=200) == first == fresh


def test_i75_a_kept_look_that_was_changed_is_refused(tmp_path: Path) -> None:
    chosen = planned(tmp_path, ("perfect",), protocols=["invariance"])
    looking.look(chosen, resamples=200)
    [path] = (chosen.out / "looks").iterdir()
    stored = json.loads(path.read_text())
    stored["numbers"][0]["value"] = 0.5
    for text in (json.dumps(stored), "{}", "not json"):
        path.write_text(text)
        with pytest.raises(IntegrityError, match="HZ-I75 a stored prediction is damaged"):
            looking.look(chosen, resamples=200)


def test_a_task_that_cannot_be_looked_at_has_no_number_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone = dataclasses.replace(TASK, task="lone", groups_N=np.full(len(TASK.labels_N), "one"))
    install(monkeypatch, {"drawn_one": TASK, "lone": lone})
    [found] = looking.look(
        planned(tmp_path, tasks=["lone", "drawn_one"], protocols=["invariance"]), resamples=200
    )
    assert {s.task for s in found.found} == {"drawn_one"}
    assert found.undefined["lone"].startswith("HZ-I63")
    assert "no number: lone, HZ-I63" in looking.text(found)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"protocols": ["cuts"]}, "is no network"),
        (
            {"protocols": ["cka"], "columns": {"perfect": [known("perfect")]}},
            "two models or more|is no network",
        ),
        ({"protocols": ["robustness_index"]}, "belong together"),
        ({"protocols": ["knn"], "centres": "group"}, "belong together"),
        ({"protocols": ["segmentation"]}, "histozoo study experiments/studies/segmentation.toml"),
        ({"protocols": ["slides_topk"]}, "histozoo study experiments/studies/slides.toml"),
    ],
)
def test_i75_what_cannot_be_looked_at_is_refused_beforehand(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(UsageError, match=f"(?s)HZ-I75.*({match})") as caught:
        check(planned(tmp_path, **changes))
    assert caught.value.next_step


def test_centres_come_from_a_table_or_are_the_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo.tasks import TASKS

    rows = {"group": ["s1", "s1", "s2", "s3"]}
    monkeypatch.setattr(type(TASKS["drawn_one"]), "load", lambda self, root=None: rows)
    table = tmp_path / "centres.csv"
    table.write_text("group,centre\ns1,A\ns2,A\ns3,B\n")
    assert centre_table.of_task(str(table), "drawn_one", None) == (["A", "A", "A", "B"], rows["group"])
    assert centre_table.of_task("group", "drawn_one", None) == (rows["group"], ["0", "1", "2", "3"])
    table.write_text("group,centre\ns1,A\ns2,A\n")
    with pytest.raises(UsageError, match=r"(?s)HZ-I75 the centre of a group is not known.*s3.*next: "):
        centre_table.of_task(str(table), "drawn_one", None)
    table.write_text("group,centre\ns1,A\ns1,B\n")
    with pytest.raises(UsageError, match=r"(?s)HZ-U32 a group is in two centres.*next: "):
        centre_table.of_task(str(table), "drawn_one", None)
    with pytest.raises(UsageError, match="HZ-U32"):
        centre_table.of_task(str(tmp_path / "none.csv"), "drawn_one", None)


# -- files --


def test_all_files_tell_the_same_numbers(tmp_path: Path) -> None:
    chosen = planned(tmp_path, protocols=["knn", "simpleshot", *PIXELS])
    text = run.run(chosen, resamples=200)
    rows = list(csv.DictReader((chosen.out / "results.csv").read_text().splitlines()))
    told = json.loads((chosen.out / "results.json").read_text())
    table = parquet.read_table(chosen.out / "results.parquet").to_pylist()
    assert len(table) == len(rows)
    for plain, typed in zip(rows, table, strict=True):
        assert list(plain) == list(typed)
        assert plain["model"] == typed["model"] and plain["setting"] == (typed["setting"] or "")
        assert float(plain["value"]) == typed["value"] and int(plain["n"]) == typed["n"]
        assert (plain["low"] == "") == (typed["low"] is None)
    settings = {r["setting"] for r in rows if r["protocol"] == "simpleshot"}
    assert settings == {"", *(f"shots {s}" for s in (1, 2, 4, 8))} | ({"shots 16"} & settings)
    looks = [r for r in rows if r["protocol"] in PIXELS]
    assert [float(r["value"]) for r in looks] == [r["value"] for look in told["looks"] for r in look["rows"]]
    page = (chosen.out / "results.html").read_text()
    body = read(page).text
    for word in ("jpeg_70", "retrieved", "corruption error", "mean of corruptions"):
        assert word in body
    assert "invariance, 95 % intervals over groups" in text and "jpeg_70" in text


def test_blocks_of_two_models_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"drawn_one": pixels()})
    both = {f"random:test_resnet@{s}": [tiny(s)] for s in (0, 1)}
    chosen = planned(tmp_path, columns=both, protocols=["cka"])
    run.run(chosen, resamples=200)
    [picture] = (chosen.out / "pictures").iterdir()
    assert picture.name == "cka-drawn_one-random-test_resnet-1.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    tags = read((chosen.out / "results.html").read_text().replace("<img ", "<br ")).tags
    assert [t for t, a in tags if t == "br" and str(a.get("src")).startswith("data:image/png;base64,")]
