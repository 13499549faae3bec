"""The pretrain verb, from an experiment to a finished run folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from histozoo import assemble, checkpoints, experiment, pretrain, run_folder, training_data
from histozoo.data.splits import Split
from histozoo.errors import IntegrityError, ResourceError, UsageError
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, write_drawn

ROOT = Path(__file__).parents[1]


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Path]:
    """An experiment on drawn tiles; `parent/data` holds them."""
    torch.set_num_threads(1)
    path = write_drawn(tmp_path)
    yield path
    for name in DRAWN:
        TASKS.pop(name)


def run(drawn: Path, runs: str = "runs", **changes: Any) -> Path:
    return pretrain.run(
        drawn, data_root=drawn.parent / "data", runs=drawn.parent / runs, device="cpu", **changes
    )


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "final" / "model.safetensors").read_bytes()).hexdigest()


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file but the lock, which says since when somebody has been here."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_run_folder_holds_what_a_publisher_needs(drawn: Path) -> None:
    folder = run(drawn)
    assert folder.name == "test_resnet.multitask_drawn"
    weights = load_file(folder / "final" / "model.safetensors")
    assert weights["heads.drawn_stroma.weight"].shape[0] == 3
    assert {k.partition(".")[0] for k in weights} == {"backbone", "heads"}
    moments = load_file(folder / "final" / "optimizer.safetensors")
    assert moments["heads.drawn_nuclei.weight.exp_avg"].shape == weights["heads.drawn_nuclei.weight"].shape
    done = json.loads((folder / "final" / "DONE.json").read_text())
    assert done["model.safetensors"]["sha256"] == digest(folder)
    data = json.loads((folder / "data.json").read_text())
    assert data["drawn_nuclei"]["n"] == 24
    assert data["drawn_nuclei"]["lineage"] == "first"
    assert json.loads((folder / "experiment.json").read_text())["steps"] == 12
    assert json.loads((folder / "environment.json").read_text())["torch"] == torch.__version__
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "val_drawn_nuclei" in r] == [6, 12]
    assert not list(folder.glob("**/*.tmp"))


def test_the_default_device_and_precision_train_with_or_without_a_gpu(drawn: Path) -> None:
    folder = pretrain.run(drawn, data_root=drawn.parent / "data", runs=drawn.parent / "runs")
    assert json.loads((folder / "experiment.json").read_text())["precision"] == "bf16"
    assert (folder / "final" / "DONE.json").exists()


def test_training_learns_what_the_drawn_tiles_show(drawn: Path) -> None:
    folder = run(drawn, steps=60, eval_every=60, lr=3e-3)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["val_drawn_nuclei"] > 0.7  # chance is 0.5


def test_training_and_validation_rows_share_no_group(drawn: Path) -> None:
    data = json.loads((run(drawn) / "data.json").read_text())
    for name, task in DRAWN.items():
        groups = np.asarray(task.load(drawn.parent / "data")["group"])
        split = Split.from_json(data[name]["split"])
        parts = [set(groups[rows]) for rows in (split.train, split.val, split.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_imitated_bfloat16_is_said_before_it_takes_hours(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo import devices

    monkeypatch.setattr(devices, "emulates_bfloat16", lambda device: device.type == "cpu")
    with pytest.warns(UserWarning, match="HZ-U45 .*fp32"):
        run(drawn, steps=1, precision="bf16")


def test_the_same_command_again_does_nothing_when_done_and_the_same_from_scratch(drawn: Path) -> None:
    first = run(drawn)
    stamp = (first / "final" / "model.safetensors").stat().st_mtime_ns
    assert (run(drawn) / "final" / "model.safetensors").stat().st_mtime_ns == stamp
    assert digest(run(drawn, runs="others")) == digest(first)


@pytest.mark.parametrize("what", ["experiment", "data"])
def test_f44_a_finished_run_does_not_answer_for_another_experiment_or_other_data(
    drawn: Path, what: str
) -> None:
    folder = run(drawn)
    if what == "data":
        from PIL import Image

        tile = drawn.parent / "data" / "drawn_nuclei" / "images" / "few_000.png"
        Image.new("RGB", (40, 40), "white").save(tile)
    with pytest.raises(IntegrityError, match="HZ-F44 this run was started differently") as caught:
        run(drawn, **({"lr": 5e-4} if what == "experiment" else {}))
    named = {"experiment": "experiment.json.lr: 0.001 -> 0.0005", "data": "drawn_nuclei.fingerprint"}
    assert named[what] in caught.value.got
    assert "classes" not in caught.value.got
    assert (folder / "final" / "DONE.json").exists()


def test_a_finished_run_needs_its_data_no_more(drawn: Path) -> None:
    folder = run(drawn)
    (drawn.parent / "data").rename(drawn.parent / "elsewhere")
    (drawn.parent / "data").mkdir()
    assert run(drawn) == folder


def test_a_run_refused_for_its_data_leaves_no_folder(drawn: Path) -> None:
    (drawn.parent / "data" / "drawn_nuclei" / "labels.csv").rename(drawn.parent / "kept.csv")
    with pytest.raises(UsageError, match="HZ-U37"):
        run(drawn)
    (drawn.parent / "data" / "drawn_nuclei" / "labels.csv").write_text("file,label\n")
    with pytest.raises(UsageError):
        run(drawn)
    assert [p.name for p in (drawn.parent / "runs").rglob("*")] in ([], ["tiles"])


def test_simple_mistakes_are_told_before_the_training_libraries_are_imported() -> None:
    code = "import sys, histozoo.pretrain; print(sorted({'transformers', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_continued_run_says_from_where(drawn: Path) -> None:
    half_done(drawn)
    said: list[str] = []
    run(drawn, say=said.append)
    assert said == ["continuing from checkpoint-8 of 12 steps"]


def test_leaving_out_a_lineage_trains_on_the_others_only_and_says_so(drawn: Path) -> None:
    folder = run(drawn, leave_out=["first"])
    assert folder.name == "test_resnet.multitask_drawn-without-first"
    assert list(json.loads((folder / "data.json").read_text())) == ["drawn_stroma"]
    assert json.loads((folder / "experiment.json").read_text())["leave_out"] == ["first"]
    there = sorted(folder.parent.iterdir())
    with pytest.raises(UsageError, match="HZ-U44 no task of the experiment has this lineage") as caught:
        run(drawn, leave_out=["third"])
    assert sorted(folder.parent.iterdir()) == there
    assert "first, second" in str(caught.value)
    with pytest.raises(UsageError, match="HZ-U44 no task is left"):
        run(drawn, leave_out=["first", "second"])


def half_done(drawn: Path) -> Path:
    """A run that stopped at step 8 of 12."""
    folder = run(drawn)
    checkpoints_left = folder / "checkpoint-12"
    for path in sorted([*checkpoints_left.rglob("*"), *(folder / "final").rglob("*")], reverse=True):
        path.unlink()
    checkpoints_left.rmdir()
    (folder / "final").rmdir()
    return folder


def test_a_stopped_run_continues_from_its_checkpoint_to_the_same_weights(drawn: Path) -> None:
    whole = digest(run(drawn, runs="others"))
    folder = half_done(drawn)
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-8"
    assert digest(run(drawn)) == whole


@pytest.mark.parametrize("what", ["experiment", "data", "code", "processes"])
def test_f44_a_changed_run_is_refused_with_the_difference_unless_accepted(
    drawn: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = half_done(drawn)
    changes: dict[str, Any] = {}
    if what == "experiment":
        changes["lr"] = 5e-4
    elif what == "data":
        from PIL import Image

        Image.new("RGB", (40, 40), "white").save(
            drawn.parent / "data" / "drawn_nuclei" / "images" / "few_000.png"
        )
    else:
        now = {**run_folder.environment(), what: "0" * 64 if what == "code" else 2}
        monkeypatch.setattr(run_folder, "environment", lambda: now)
    with pytest.raises(IntegrityError, match="HZ-F44 this run was started differently") as caught:
        run(drawn, **changes)
    named = {
        "experiment": "experiment.json.lr: 0.001 -> 0.0005",
        "data": "drawn_nuclei.fingerprint",
        "code": "code:",
        "processes": "processes: 1 -> 2",
    }
    assert named[what] in caught.value.got
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-8"
    run(drawn, accept_change=True, **changes)
    recorded = json.loads((folder / "changes.jsonl").read_text().splitlines()[0])
    assert any(named[what] in change for change in recorded)


def test_an_asked_checkpoint_is_read_once_and_a_damaged_one_changes_nothing(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digest(run(drawn, runs="others"))
    folder = half_done(drawn)
    read: list[Path] = []
    real = checkpoints.damage
    monkeypatch.setattr(checkpoints, "damage", lambda c: read.append(c) or real(c))
    assert digest(run(drawn, resume_step=8)) == whole
    assert read.count(folder / "checkpoint-8") == 1
    half_done(drawn)
    (folder / "checkpoint-8" / "model.safetensors").write_bytes(b"")
    before = contents(folder)
    with pytest.raises(IntegrityError, match="HZ-F43 checkpoint 8 cannot be used"):
        run(drawn, resume_step=8, accept_change=True, lr=5e-4)
    assert contents(folder) == before


def test_f44_a_finished_run_takes_no_change_of_what_decided_its_weights(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(drawn)
    before = contents(folder)
    now = {**run_folder.environment(), "code": "0" * 64}
    monkeypatch.setattr(run_folder, "environment", lambda: now)
    with pytest.raises(IntegrityError, match="HZ-F44 this run is finished") as caught:
        run(drawn, accept_change=True, lr=5e-4, limits="None is known.")
    assert caught.value.got == "experiment.json.lr: 0.001 -> 0.0005"
    assert "another name" in caught.value.next_step and "--accept-change" not in caught.value.next_step
    assert contents(folder) == before
    run(drawn, accept_change=True, limits="None is known.")
    assert json.loads((folder / "experiment.json").read_text())["limits"] == "None is known."
    after = contents(folder)
    changed = {p.name for p in after if after[p] != before.get(p)}
    assert changed == {"experiment.json", "changes.jsonl"}  # and the environment is the one that trained it


@pytest.mark.parametrize("name", (*experiment.STATED, *run_folder.SAID))
def test_f44_tiles_called_like_a_line_of_the_card_are_compared_like_all_others(
    name: str, tmp_path: Path
) -> None:
    def facts(tiles: str, licence: str) -> dict[str, Any]:
        own = {"folder": tiles, "licence": licence}
        return {
            "data.json": {name: {"fingerprint": tiles, "licence": licence}},
            "experiment.json": {"unlabelled": {name: own}},
        }

    run_folder.record(tmp_path, facts("one", "unknown"), accept_change=False)
    with pytest.raises(IntegrityError, match="HZ-F44 this run is finished") as caught:
        run_folder.restate(tmp_path, facts("other", "CC0-1.0"))
    assert f"data.json.{name}.fingerprint" in str(caught.value.got)
    run_folder.restate(tmp_path, facts("one", "CC0-1.0"))
    assert json.loads((tmp_path / "data.json").read_text())[name]["licence"] == "CC0-1.0"


def test_f47_the_number_of_loader_processes_changes_no_bit(drawn: Path) -> None:
    digests = {digest(run(drawn, runs=f"with_{n}", workers=n)) for n in (0, 2)}
    assert len(digests) == 1


def test_f48_a_second_job_on_the_same_folder_is_refused_and_told_who_owns_it(drawn: Path) -> None:
    folder = half_done(drawn)
    with (
        run_folder.locked(folder),
        pytest.raises(UsageError, match="HZ-F48 another process trains") as caught,
    ):
        run(drawn)
    assert f"process {os.getpid()}" in caught.value.got
    assert run(drawn) == folder


def test_f45_weights_that_are_not_finite_are_never_finished(drawn: Path) -> None:
    e = experiment.read(drawn)
    tasks = training_data.prepare_tasks(e, data_root=drawn.parent / "data", cache=drawn.parent / "cache")
    recipe = assemble.build_recipe(e, {name: len(p.task.classes) for name, p in tasks.items()})
    with torch.no_grad():
        next(recipe.parameters())[0] = float("nan")
    with pytest.raises(IntegrityError, match="HZ-A06"):
        run_folder.finish(drawn.parent, recipe, None)
    assert not (drawn.parent / "final").exists()


def poison(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """Makes the loss of the given forward passes, counted from 0, no number."""
    from histozoo.recipes.multitask import Multitask

    forward, numbers = Multitask.forward, iter(range(1000))

    def poisoned(self: Multitask, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        terms = forward(self, batch)
        return {**terms, "loss": terms["loss"] * float("nan")} if next(numbers) in calls else terms

    monkeypatch.setattr(Multitask, "forward", poisoned)


def test_f45_a_run_of_dropped_steps_alone_is_not_finished_and_cannot_be_published(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo.publish import publish

    poison(monkeypatch, {0, 1})
    with pytest.raises(IntegrityError, match="HZ-F45 every step of the run was dropped"):
        run(drawn, steps=2)
    folder = drawn.parent / "runs" / "test_resnet.multitask_drawn"
    assert (folder / "dropped.jsonl").exists() and not (folder / "final").exists()
    with pytest.raises(UsageError, match="HZ-U22"):
        publish(folder, out=drawn.parent / "dist")


def test_the_last_line_says_how_many_steps_were_dropped(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from histozoo.cli.making import pretrain as verb

    poison(monkeypatch, {1})
    where = {"data_root": drawn.parent / "data", "runs": drawn.parent / "runs", "device": "cpu"}
    for _ in range(2):
        verb(drawn, **where, workers=0, settings=["steps=3"], start_from=None, only_backbone=False)
        told = capsys.readouterr().out
        assert "multitask_drawn, 1 of its steps dropped: see dropped.jsonl" in told


@pytest.mark.parametrize("preset", ["faithful", "modern"])
def test_initialising_from_a_timm_model_transplants_its_batch_norms(
    drawn: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    source = timm.create_model("test_resnet", num_classes=0)
    path = drawn.parent / "pretrained.safetensors"
    save_file(source.state_dict(), path)
    real = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, pretrained=False, **k: real(name, checkpoint_path=path if pretrained else "", **k),
    )
    prepared: list[int] = []
    from histozoo.recipes import batch_norm, multitask

    def count(model: Any, batches: Any) -> None:
        batches = list(batches)
        prepared.append(len(batches))
        batch_norm.transplant_batch_norm(model, batches)

    monkeypatch.setattr(multitask, "transplant_batch_norm", count)
    folder = run(drawn, init="timm:test_resnet", preset=preset, lr=1e-9, head_warmup_steps=0)
    assert prepared == ([20] if preset == "faithful" else [])
    weights = load_file(folder / "final" / "model.safetensors")
    kernel = next(k for k, v in source.state_dict().items() if v.ndim == 4)
    assert torch.allclose(weights[f"backbone.{kernel}"], source.state_dict()[kernel], atol=1e-4)


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from histozoo import pretrain
from histozoo.errors import HistozooError
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN
TASKS.update(DRAWN)
drawn = Path(sys.argv[1])
changes = dict(a.split("=") for a in sys.argv[3:])
try:
    pretrain.run(drawn, data_root=drawn.parent / "data", runs=drawn.parent / sys.argv[2], device="cpu",
                 **{k: int(v) if v.isdigit() else v for k, v in changes.items()})
except HistozooError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def start(drawn: Path, runs: str, *changes: str, processes: int = 1) -> subprocess.Popen[str]:
    script = drawn.parent / "script.py"
    script.write_text(SCRIPT)
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        if processes > 1
        else []
    )
    command = [sys.executable, *launcher, str(script), str(drawn), runs, *changes]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_f41_sigterm_saves_and_exits_with_75_and_the_run_can_go_on(drawn: Path) -> None:
    process = start(drawn, "stopped", "steps=100000", "save_every=100000", "eval_every=100000")
    log = drawn.parent / "stopped" / "test_resnet.multitask_drawn" / "tensorboard"
    deadline = time.monotonic() + 240  # importing torch and transformers can take a minute on a busy machine
    while not log.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "training did not start"
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "HZ-F41 stopped by SIGTERM at step" in output
    assert "run the same command again" in output
    assert checkpoints.newest_valid(log.parent) is not None


def test_two_processes_train_one_model_with_absent_heads_and_a_frozen_trunk(drawn: Path) -> None:
    """Every parameter gets its gradient on every process, or torchrun's all-reduce would wait for ever."""
    text = drawn.read_text() + 'preset = "faithful"\nhead_warmup_steps = 4\n'
    drawn.write_text(text.replace("batch_size = 8", "batch_size = 2").replace("warmup_steps = 2\n", "", 1))
    process = start(drawn, "two", processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    folder = drawn.parent / "two" / "test_resnet.multitask_drawn"
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    assert all(torch.isfinite(v).all() for v in load_file(folder / "final" / "model.safetensors").values())
    assert digest(folder) != digest(run(drawn))


def test_a_start_that_nobody_has_is_refused_before_tiles_are_decoded(drawn: Path) -> None:
    for change, code in (
        ({"init": "nope"}, "HZ-C19"),
        ({"init": "timm:resnet18.nope"}, "HZ-U43"),
        ({"init": "timm:resnet18.a1_in1k"}, "HZ-U43 these weights of timm are of another architecture"),
        ({"name": "resnett18.multitask_drawn"}, "HZ-U43"),
    ):
        with pytest.raises(UsageError, match=code):
            run(drawn, **change)
    assert not (drawn.parent / "runs").exists()


def test_a_run_folder_that_cannot_be_made_is_a_clear_error(drawn: Path) -> None:
    (drawn.parent / "taken").write_text("a file")
    with pytest.raises(ResourceError, match="HZ-F42"):
        run(drawn, runs="taken")
