"""Every encoder on every task by every protocol, once: perfect features, chance, the same bytes again, and a kill half-way."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.compare import measure, run
from histozoo.evaluate.compare.measure import Plan
from histozoo.evaluate.compare.plan import RANDOM_SEEDS, columns, jobs, protocol_names
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.simpleshot import SHOTS
from tests.fakes import compared, killer
from tests.fakes.compared import install, labelled

TASKS = {name: labelled(name) for name in ("drawn_one", "drawn_two")}


def planned(folder: Path, names: tuple[str, ...] = ("perfect", "noise"), **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "columns": columns(names),
        "tasks": list(TASKS),
        "protocols": ["logistic", "knn"],
        "out": folder / "out",
        "cache": folder / "cache",
    }
    return Plan(**given | changes)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, TASKS)


@pytest.mark.parametrize("protocol", sorted(FEATURE_PROTOCOLS))
def test_perfect_features_score_one_on_every_task(tmp_path: Path, protocol: str) -> None:
    run.run(planned(tmp_path, ("perfect",), protocols=[protocol]), resamples=100)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = [r for s in found["standings"] for r in s["rows"] if r["metric"] != "expected_calibration_error"]
    assert [r["value"] for r in rows] == [1.0] * 4
    assert {r["low"] for r in rows} == {1.0}


def test_shuffled_labels_score_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {}
    for seed in range(8):
        one = labelled("drawn_one", groups=40)
        of_group = np.random.default_rng(seed).permutation(np.arange(40) % 2)
        name = f"shuffled_{seed}"
        tasks[name] = dataclasses.replace(
            one, task=name, labels_N=np.repeat(of_group, compared.EACH), fingerprint=f"{seed}" * 64
        )
    install(monkeypatch, tasks)
    measured = measure.measure(
        planned(tmp_path, ("perfect",), tasks=list(tasks), protocols=["knn", "logistic"])
    )
    right = [np.mean(c.scores_NK.argmax(1) == c.labels_N) for c in measured.cells]
    assert len(right) == 16 and abs(np.mean(right) - 0.5) < 0.08


def test_the_same_seed_gives_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    wanted = {f"results.{kind}" for kind in ("csv", "parquet", "json", "txt", "html")}
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        chosen = planned(tmp_path / name, ("noise", "perfect"), protocols=["simpleshot"], seeds=[seed])
        run.run(chosen, resamples=200)
        files_ = files(chosen.out)
        assert set(files_) == wanted
        told = json.loads(files_["results.json"])
        assert all(c.pop("seconds") >= 0 for c in told["cells"])
        for c in told["cells"]:  # every usual number of shots was drawn or is said not to have been
            left_out = c.get("shots_left_out", {}).get("shots", [])
            assert [one["shots"] for one in c["shots"]] + left_out == list(SHOTS)
        found.append(files_ | {"results.json": told})
    assert found[0] == found[1]
    assert found[0]["results.csv"] != found[2]["results.csv"]


def test_results_of_another_command_are_moved_and_those_of_the_same_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    plan = planned(tmp_path, protocols=["knn"])
    run.run(plan, resamples=100, command="one")
    first = files(plan.out)
    run.run(plan, resamples=100, command="one", say=said.append)
    assert not (plan.out / "earlier").exists() and not [line for line in said if "another command" in line]
    first = files(plan.out)
    run.run(planned(tmp_path, ("perfect",), protocols=["knn"]), resamples=100, command="two", say=said.append)
    (kept,) = (plan.out / "earlier").iterdir()
    assert files(kept) == first and said[-1] == f"results of another command are kept in {kept}"
    assert json.loads((plan.out / "results.json").read_text())["command"] == "two"
    (plan.out / "results.json").write_text("[1]")  # whatever it is, it is not ours to lose
    run.run(plan, resamples=100, command="two")
    assert "[1]" in [p.read_text() for p in (plan.out / "earlier").glob("*/results.json")]


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    said: list[str] = []
    first = measure.measure(planned(tmp_path), say=said.append)
    assert len(said) == len(first.cells) == 8
    again = measure.measure(planned(tmp_path), say=said.append)
    more = measure.measure(planned(tmp_path, ("perfect", "noise", "noise_two")), say=said.append)
    assert len(said) == 12 and all("noise_two" in line for line in said[8:])
    for a, b in zip(first.cells, again.cells, strict=True):
        np.testing.assert_array_equal(a.scores_NK, b.scores_NK)
        assert a.facts == b.facts
    assert len(more.cells) == 12


def test_a_task_named_twice_is_measured_and_counted_once(tmp_path: Path) -> None:
    twice = planned(tmp_path, ("perfect",), tasks=["drawn_one"] * 2, protocols=["knn", "knn"])
    assert len(measure.measure(twice).cells) == 1


def test_a_killed_run_goes_on_and_measures_only_what_is_missing(tmp_path: Path) -> None:
    whole, cut = planned(tmp_path / "whole"), planned(tmp_path / "cut")
    run.run(whole, resamples=200)
    sizes = [p.stat().st_size for p in (whole.out / "cells").iterdir()]
    features = sum(p.stat().st_size for p in (whole.cache / "features").glob("*.safetensors"))
    limit = features // 2 + sum(sizes) // 2
    assert killer.killed_at_byte(lambda: run.run(cut, resamples=200), limit)
    there = {p.name for p in (cut.out / "cells").glob("*.safetensors")}
    assert 0 < len(there) < len(sizes)
    said: list[str] = []
    run.run(cut, resamples=200, say=said.append)
    assert len(said) == len(sizes) - len(there)
    assert not list((cut.out / "cells").glob(".*"))
    assert files(whole.out)["results.csv"] == files(cut.out)["results.csv"]


def test_i75_a_damaged_prediction_is_refused_and_named(tmp_path: Path) -> None:
    chosen = planned(tmp_path)
    measure.measure(chosen)
    victim = sorted((chosen.out / "cells").iterdir())[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(IntegrityError, match="HZ-I75") as caught:
        measure.measure(chosen)
    assert caught.value.where == str(victim)
    victim.unlink()
    said: list[str] = []
    assert len(measure.measure(chosen, say=said.append).cells) == 8
    assert len(said) == 1


def test_random_weights_are_several_seeds_unless_one_is_named() -> None:
    found = columns(["perfect", "random:perfect", "random:perfect@7"])
    assert [e.name for e in found["random:perfect"]] == [f"random:perfect@{s}" for s in RANDOM_SEEDS]
    assert [len(v) for v in found.values()] == [1, 3, 1]


def test_a_task_that_cannot_be_divided_is_undefined_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = labelled("drawn_lone")
    labels_N = (one.groups_N == "g001").astype(np.int64)
    lone = dataclasses.replace(one, labels_N=labels_N)
    install(monkeypatch, {**TASKS, "drawn_lone": lone})
    run.run(planned(tmp_path, tasks=["drawn_one", "drawn_lone", "drawn_two"]), resamples=200)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    for standings in found["standings"]:
        assert list(standings["undefined"]) == ["drawn_lone"]
        assert "HZ-I62" in standings["undefined"]["drawn_lone"]
        assert {r["task"] for r in standings["rows"]} == {"drawn_one", "drawn_two"}
    assert "drawn_lone" in (tmp_path / "out" / "results.html").read_text()


def test_where_no_task_has_a_number_the_files_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = labelled("drawn_few", groups=4)
    install(monkeypatch, {"drawn_few": few})
    text = run.run(planned(tmp_path, tasks=["drawn_few"], protocols=["knn"]), resamples=200)
    assert "undefined and not counted: drawn_few, HZ-I63" in text
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 1


def test_features_that_are_not_finite_stop_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, tiles_NHWC: Any, **_: Any) -> Any:
        return np.full((len(tiles_NHWC), 3), np.nan, dtype=np.float32)

    monkeypatch.setattr(compared.Known, "features", broken)
    with pytest.raises(IntegrityError, match="HZ-I62"):
        measure.measure(planned(tmp_path))


@pytest.mark.parametrize(
    ("changes", "code", "expected"),
    [
        ({"protocols": ["logistics"]}, "HZ-I75", "logistic"),
        ({"protocols": ["xyz"]}, "HZ-I75", "a protocol that is listed"),
        ({"protocols": []}, "HZ-I75", "one or more"),
        ({"tasks": ["drawn_oen"]}, "HZ-U30", "drawn_one"),
        ({"preset": "smal", "protocols": ["finetune_full"]}, "HZ-I75", "small"),
        ({"fractions": [0.0], "protocols": ["finetune_full"]}, "HZ-I75", "above 0"),
        ({"fractions": [0.1]}, "HZ-I75", "finetune_"),
        ({"seeds": [0, 1]}, "HZ-I75", "finetune_"),
        ({"protocols": ["finetune_full"]}, "HZ-I75", "weights"),
    ],
)
def test_i75_what_cannot_be_done_is_refused_before_anything_is_measured(
    tmp_path: Path, changes: dict[str, Any], code: str, expected: str
) -> None:
    said: list[str] = []
    with pytest.raises(UsageError, match=code) as caught:
        measure.measure(planned(tmp_path, **changes), say=said.append)
    assert expected in caught.value.text() and caught.value.next_step
    assert not said and not (tmp_path / "out").exists()


def test_i65_too_few_resamples_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    said: list[str] = []
    many = planned(tmp_path, ("perfect", "noise", "noise_b", "noise_c"))
    with pytest.raises(UsageError, match="HZ-I65"):
        run.run(many, resamples=100, say=said.append)
    assert not said


def test_i75_a_model_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"(?s)HZ-I75.*next: .*leave the repeated one out"):
        columns(["perfect", "perfect"])


def test_shares_and_seeds_multiply_fine_tunings_only(tmp_path: Path) -> None:
    both = planned(tmp_path, protocols=["knn", "finetune_lora"], fractions=[0.01, 0.1, 1.0], seeds=[3, 4])
    found = [(j.label, j.seed) for j in jobs(both)]
    assert found == [
        ("knn", 3),
        *(
            (label, seed)
            for label in ("finetune_lora@1%", "finetune_lora@10%", "finetune_lora")
            for seed in (3, 4)
        ),
    ]
    assert {"knn", "finetune_lora"} <= set(protocol_names())
