from __future__ import annotations

import dataclasses
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import histozoo.tasks
from histozoo import evaluate
from histozoo.data.splits import make_split
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import corpus, leave_out, report, trunks
from histozoo.evaluate.labelled import LabelledTiles

ARCHITECTURE = "test_resnet"  # timm's own 0.5 M parameter model for tests
LINEAGES = {"blood_one": "blood", "blood_two": "blood", "colon": "colon", "lung": "lung"}
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def drawn(name: str, *, groups: int = 20, tiles: int = 3) -> LabelledTiles:
    """Two classes of noise of different brightness, 20 groups of one class each."""
    rng = np.random.default_rng(sorted(LINEAGES).index(name))
    groups_N = np.repeat(np.arange(groups), tiles)
    level_N = 120 + 30 * (groups_N % 2)
    noise = rng.normal(0, 40, size=(len(groups_N), 32, 32, 3)) + level_N[:, None, None, None]
    return LabelledTiles(
        task=name,
        lineage=LINEAGES[name],
        classes=("dark", "bright"),
        tiles_NHWC=noise.clip(0, 255).astype(np.uint8),
        labels_N=groups_N % 2,
        groups_N=groups_N.astype(str),
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
    )


@pytest.fixture(autouse=True)
def tasks(monkeypatch):
    declared = {n: SimpleNamespace(name=n, lineage=lineage) for n, lineage in LINEAGES.items()}
    monkeypatch.setattr(histozoo.tasks, "TASKS", declared)
    monkeypatch.setattr(histozoo.tasks, "task", declared.__getitem__)
    for module in (leave_out, corpus):
        monkeypatch.setattr(module, "read", lambda name, **_: drawn(name))


@pytest.fixture
def make_run(tmp_path):
    def make(*left_out: str, seed: int = 7, architecture: str = ARCHITECTURE, **experiment):
        folder = tmp_path / f"{architecture}-without-{'-'.join(left_out)}-{seed}"
        (folder / "final").mkdir(parents=True)
        torch.manual_seed(seed)
        model = timm.create_model(ARCHITECTURE, num_classes=0)
        weights = {f"backbone.{k}": v for k, v in model.state_dict().items()}
        weights["heads.colon.weight"] = torch.zeros(2, 3)
        path = folder / "final" / "model.safetensors"
        save_file(weights, path)
        facts = {
            "architecture": architecture,
            "tile_px": 32,
            "mean": MEAN,
            "std": STD,
            "tasks": list(LINEAGES),
            "leave_out": list(left_out),
        }
        data = {
            n: {
                "lineage": lineage,
                "fingerprint": drawn(n).fingerprint,
                "split": json.loads(
                    make_split(drawn(n).labels_N, drawn(n).groups_N.tolist(), seed=0).to_json()
                ),
            }
            for n, lineage in LINEAGES.items()
            if lineage not in left_out
        }
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        done = {"model.safetensors": {"bytes": path.stat().st_size, "sha256": sha256}}
        for name, value in (
            ("experiment.json", facts | experiment),
            ("data.json", data),
            ("final/DONE.json", done),
        ):
            (folder / name).write_text(json.dumps(value))
        return folder

    return make


def test_study_measures_each_left_out_task_with_the_run_that_left_it_out(make_run, tmp_path):
    runs = make_run("blood"), make_run("lung")
    out = tmp_path / "study.json"
    report = leave_out.study(runs, out=out, cache=tmp_path, resamples=200)
    assert json.loads(out.read_text()) == report
    assert {t["task"]: t["run"] for t in report["tasks"]} == {
        "blood_one": runs[0].name,
        "blood_two": runs[0].name,
        "lung": runs[1].name,
    }
    assert (report["n_tasks"], report["n_lineages"], report["random_seeds"]) == (3, 2, [0, 1, 2])
    by_key = {(r["task"], r["subject"]): r for r in report["results"]}
    assert len(by_key) == len(report["results"]) == 9
    for t in report["tasks"]:
        trained, random, paired = (by_key[t["task"], s] for s in ("trained", "random", "difference"))
        assert random["value"] == pytest.approx(np.mean(t["random_by_seed"]), abs=1e-5)
        assert paired["value"] == pytest.approx(trained["value"] - random["value"], abs=1e-5)
        assert [d[0] for d in t["difference_by_seed"]] == pytest.approx(
            [trained["value"] - v for v in t["random_by_seed"]], abs=1e-5
        )
        assert t["above_every_seed"] == all(d[1] > 0 for d in t["difference_by_seed"])
        assert paired["interval"][0] <= paired["value"] <= paired["interval"][1]
        assert (trained["n"], trained["n_groups"], trained["left_out"]) == (60, 20, True)
        assert trained["fingerprint"] == drawn(t["task"]).fingerprint
    assert sum(r["value"] for r in report["average_rank"]) == pytest.approx(1 + 2 + 3 + 4)


def test_tasks_of_a_left_out_lineage_that_the_experiment_does_not_name_need_not_be_there(make_run, tmp_path):
    run = make_run("blood", tasks=["blood_one", "lung", "colon"])
    report = leave_out.study([run], out=tmp_path / "s.json", cache=tmp_path, resamples=200)
    assert [t["task"] for t in report["tasks"]] == ["blood_one"]


def test_rows_have_the_fields_of_an_entry(make_run, tmp_path):
    report = leave_out.study([make_run("lung")], out=tmp_path / "s.json", cache=tmp_path, resamples=200)
    fields = [f.name for f in dataclasses.fields(evaluate.Result)]
    assert all(list(row) == fields for row in report["results"])
    assert fields == (
        "task protocol metric value interval n n_groups seed subject left_out fingerprint version".split()
    )
    assert all(row["protocol"] in evaluate.PROTOCOLS for row in report["results"])


def test_table_says_everything_a_reader_needs(make_run, tmp_path):
    leave_out.study([make_run("lung")], out=tmp_path / "s.json", cache=tmp_path, resamples=200)
    text = (tmp_path / "s.txt").read_text()
    for word in (
        "balanced_accuracy",
        "95 % intervals over groups",
        "lung",
        "60",
        "20",
        "average rank",
        "seeds [0, 1, 2]",
    ):
        assert word in text


def test_what_is_only_higher_is_not_called_better(make_run, tmp_path):
    runs = make_run("blood"), make_run("lung")
    found = leave_out.study(runs, out=tmp_path / "s.json", cache=tmp_path, resamples=200)
    rows = [r for r in found["results"] if r["subject"] == "difference"]
    assert found["n_higher"] == sum(r["value"] > 0 for r in rows)
    assert found["n_above_zero"] == sum(r["interval"][0] > 0 for r in rows)
    text = report.table({**found, "n_higher": 3, "n_above_zero": 2, "n_above_every_seed": 1})
    assert (
        "trained is higher on 3 of 3 tasks (2 lineages), by intervals on 2 (*), against each random trunk on 1 (* *)"
        in text
    )
    assert "better" not in text


def test_a_trunk_beside_its_own_initialisation_differs_by_nothing(make_run, tmp_path):
    """The run holds the weights of random seed 7: value, groups and folds being paired, the difference is 0 with interval (0, 0)."""
    run = trunks.read_run(make_run("lung", seed=7))
    compared = leave_out.compare_left_out(run, drawn("lung"), random_seeds=[7, 7, 7])
    paired = compared.estimates(200)["difference"]
    assert (paired.value, paired.low, paired.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_random_trunk_is_a_function_of_its_seed_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (trunks.random_trunk(ARCHITECTURE, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.conv1[0].weight, same.conv1[0].weight)
    assert not torch.equal(one.conv1[0].weight, other.conv1[0].weight)
    assert not one.training


def test_u54_task_whose_lineage_was_trained_on_is_refused(make_run, tmp_path):
    run = make_run("lung")
    with pytest.raises(UsageError, match="HZ-U54 blood_one was not left out") as caught:
        leave_out.study([run], tasks=["blood_one"], out=tmp_path / "s.json", cache=tmp_path)
    assert f"{run.name}: blood_one, blood_two" in caught.value.where
    assert "--leave-out blood" in caught.value.next_step
    assert not (tmp_path / "s.json").exists()


def test_u54_lineage_counts_as_the_tasks_declare_it_today(make_run, monkeypatch):
    """A run recorded two sets as strangers; since then they were found to share slides."""
    run = trunks.read_run(make_run("lung"))
    declared = dict(histozoo.tasks.TASKS) | {"colon": SimpleNamespace(name="colon", lineage="lung")}
    monkeypatch.setattr(histozoo.tasks, "TASKS", declared)
    with pytest.raises(UsageError, match="HZ-U54 lung was not left out"):
        leave_out.plan([run], ["lung"])


def test_e38_left_out_tile_that_was_trained_on_is_refused(make_run, tmp_path, monkeypatch):
    def copied(name: str, **_):
        found = drawn(name)
        if name == "lung":
            found.tiles_NHWC[[4, 9]] = drawn("colon").tiles_NHWC[:2]
        return found

    monkeypatch.setattr(leave_out, "read", copied)
    with pytest.raises(UsageError, match="HZ-E38 a left-out tile is also a training tile") as caught:
        leave_out.study([make_run("lung")], out=tmp_path / "s.json", cache=tmp_path)
    assert caught.value.where == "lung and colon"
    assert caught.value.got == "2 tiles of lung, rows 4, 9"


@pytest.mark.parametrize(
    ("experiments", "seeds", "said"),
    [
        ([{}, {"tile_px": 64}], (0, 1, 2), "the runs are not comparable"),
        ([{}, {"mean": [0.1, 0.2, 0.3]}], (0, 1, 2), "the runs are not comparable"),
        ([], (0, 1, 2), "no run was given"),
        ([{}], (0, 1, 1), "too few random initialisations"),
    ],
)
def test_u53_runs_that_cannot_be_compared_are_refused(make_run, tmp_path, experiments, seeds, said):
    runs = [make_run("lung", seed=i, **e) for i, e in enumerate(experiments)]
    with pytest.raises(UsageError, match=f"HZ-U53 {said}"):
        leave_out.study(runs, out=tmp_path / "s.json", cache=tmp_path, random_seeds=seeds)


def test_u53_run_that_left_nothing_out_has_nothing_to_measure(make_run):
    with pytest.raises(UsageError, match="HZ-U53 no task was left out of these runs"):
        leave_out.plan([trunks.read_run(make_run())])


@pytest.mark.parametrize("missing", ["experiment.json", "data.json", "final/DONE.json"])
def test_u52_run_that_is_not_finished_is_refused(make_run, missing):
    run = make_run("lung")
    (run / missing).unlink()
    with pytest.raises(UsageError, match="HZ-U52 this is no finished run") as caught:
        trunks.read_run(run)
    assert missing in caught.value.got


def test_a02_one_bit_changed_in_a_runs_weights_is_refused(make_run):
    run = make_run("lung")
    path = run / "final" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="HZ-A02 the run's weights do not match their recorded hash"):
        trunks.trained_trunk(trunks.read_run(run))


def test_a05_weights_of_another_architecture_are_refused(make_run):
    run = trunks.read_run(make_run("lung", architecture="resnet10t"))
    with pytest.raises(
        IntegrityError, match="HZ-A05 the run's weights are not those of its architecture"
    ) as caught:
        trunks.trained_trunk(run)
    assert caught.value.expected == "resnet10t"


def test_i62_task_without_a_defined_metric_is_kept_out_with_its_reason(make_run, tmp_path, monkeypatch):
    """One class of blood_two lies in one group: the study goes on without the task and says so."""

    def rare(name: str, **_):
        found = drawn(name)
        alone_N = (found.groups_N == "3").astype(np.int64)
        return dataclasses.replace(found, labels_N=alone_N) if name == "blood_two" else found

    monkeypatch.setattr(leave_out, "read", rare)
    report = leave_out.study([make_run("blood")], out=tmp_path / "s.json", cache=tmp_path, resamples=200)
    assert [t["task"] for t in report["tasks"]] == ["blood_one"]
    assert report["undefined"]["blood_two"].startswith(
        "HZ-I62 a class would be missing from the training rows"
    )
    assert "undefined and not counted: blood_two, HZ-I62" in (tmp_path / "s.txt").read_text()


def test_i62_study_without_any_number_is_an_error(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(leave_out, "read", lambda name, **_: drawn(name, groups=4))
    with pytest.raises(UsageError, match="HZ-I62 no task of the study gave a number") as caught:
        leave_out.study([make_run("lung")], out=tmp_path / "s.json", cache=tmp_path)
    assert "HZ-I63 fewer groups than the" in caught.value.got
    assert not (tmp_path / "s.json").exists()


def test_corpus_scores_test_rows_of_the_runs_own_split(make_run, tmp_path):
    run = make_run("lung")
    report = corpus.measure(run, out=tmp_path / "c.json", cache=tmp_path, resamples=200)
    assert [t["task"] for t in report["tasks"]] == ["blood_one", "blood_two", "colon"]
    test = {n: facts["split"]["test"] for n, facts in json.loads((run / "data.json").read_text()).items()}
    assert all(r["n"] == len(test[r["task"]]) < 20 and not r["left_out"] for r in report["results"])


def test_i64_data_that_changed_since_the_run_is_refused(make_run):
    run = trunks.read_run(make_run("lung"))
    changed = dataclasses.replace(drawn("colon"), fingerprint="f" * 64)
    with pytest.raises(
        UsageError, match="HZ-I64 the task's data is not what the run was trained on"
    ) as caught:
        corpus.refuse_other_data(run, changed)
    assert "f" * 64 in caught.value.got
