"""Health inside the training loop: a collapsing run is stopped, also when killed in between, and its last good checkpoint stays."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from histozoo import checkpoints
from histozoo.engine import Budget, Engine
from histozoo.errors import IntegrityError
from histozoo.health import Health
from tests.fakes import killer
from tests.fakes.ssl import NormedTrunk, batch, make
from tests.test_health import FLAT, tiles_of_textures

ROWS, STEPS, EVERY = 4, 20, 4


class Samples(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __init__(self, recipe: Any, steps: int) -> None:
        self.whole, self.samples = batch(recipe, ROWS * steps), ROWS * steps

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {k: v[index] for k, v in self.whole.items()}


class Collapse(TrainerCallback):
    """From step `at` on the trunk says the same of every tile; `poison` makes what it says no number."""

    def __init__(self, recipe: Any, at: int, *, poison: bool = False) -> None:
        self.norm, self.at, self.poison = recipe.backbone.batch, at, poison

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < self.at:
            return
        if self.poison:  # statistics that training mode does not use and that overflow in eval mode
            self.norm.running_mean.fill_(torch.finfo(torch.float32).max)
            self.norm.running_var.zero_()
        else:
            self.norm.weight.zero_()
            self.norm.bias.fill_(1)


def engine(
    run: Path, *, save_every: int = 2, steps: int = STEPS, every: int = EVERY, warmup: float = 0.0
) -> Engine:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = make("barlow", trunk=NormedTrunk())
    recipe.lr_factor = lambda group, step: 1.0 if step >= warmup * steps else 0.5  # type: ignore[method-assign]
    run.mkdir(exist_ok=True)
    budget = Budget(steps=steps, batch_size=ROWS, seed=0, lr=1e-3, eval_every=every, save_every=save_every)
    return Engine(
        recipe,
        experiment=budget,
        run=run,
        train_dataset=Samples(recipe, steps),
        evaluate_recipe=Health(tiles_of_textures(), **FLAT),
        device="cpu",
    )


def train(
    run: Path, *, at: int, poison: bool = False, kill_at: int | None = None, **options: Any
) -> IntegrityError:
    """Trains or continues a run that collapses, and returns the error that stops it."""
    subject = engine(run, **options)
    subject.add_callback(Collapse(subject.recipe, at, poison=poison))
    if kill_at is not None:
        subject.add_callback(Kill(kill_at))
    newest = checkpoints.newest_valid(run)
    with pytest.raises(IntegrityError) as caught:
        subject.train(resume_from_checkpoint=str(newest) if newest else None)
    return caught.value


class Kill(TrainerCallback):
    """Sends itself SIGKILL when a step begins."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.at:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)


def log_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if "AsyncWriter" in type(t).__name__]


def names(run: Path) -> set[str]:
    return {p.name for p in run.glob("checkpoint-*")}


def test_a_collapsed_run_is_stopped_at_the_second_evaluation_and_keeps_its_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    error = train(tmp_path, at=9)
    assert error.code == "HZ-F49" and not log_threads()
    assert error.where.startswith(
        "step 16; since the evaluation at step 12, the last healthy evaluation was at step 8"
    )
    assert error.kept == "checkpoint-8 is the last good checkpoint"
    assert names(tmp_path) == {"checkpoint-8", "checkpoint-12", "checkpoint-14"}
    assert checkpoints.explicit(tmp_path, 8).is_dir()  # whole
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    spread = {r["step"]: r["feature_std"] for r in records if "feature_std" in r}
    assert list(spread) == [4, 8, 12, 16]
    assert min(spread[4], spread[8]) > 0.1 > 1e-6 > max(spread[12], spread[16])
    assert {"knn_textures", "knn_balanced_accuracy", "rank_me"} <= records[-1].keys()


def test_where_saving_and_evaluating_do_not_meet_the_checkpoint_before_the_last_good_evaluation_stays(
    tmp_path: Path,
) -> None:
    error = train(tmp_path, at=9, save_every=3)
    assert error.kept == "checkpoint-6 is the last good checkpoint"
    assert names(tmp_path) == {"checkpoint-6", "checkpoint-12", "checkpoint-15"}
    error = train(tmp_path / "never", at=9, save_every=50)
    assert error.kept.startswith("nothing") and names(tmp_path / "never") == set()


def test_the_warm_up_does_not_count(tmp_path: Path) -> None:
    error = train(tmp_path, at=1, warmup=0.5)  # the highest rate is reached at step 10
    assert error.where.startswith("step 16; since the evaluation at step 4, no evaluation before was healthy")


@pytest.mark.parametrize("moment", [13, 15])
def test_f40_killed_between_the_two_evaluations_a_run_is_stopped_where_an_unbroken_one_is(
    tmp_path: Path, moment: int
) -> None:
    whole = train(tmp_path / "whole", at=9)
    child, note = killer.start(lambda: train(tmp_path / "killed", at=9, kill_at=moment))
    with pytest.raises(AssertionError, match="failed by itself, status 9"):
        killer.wait(child, note, 120)
    again = train(tmp_path / "killed", at=9)
    assert str(again) == str(whole).replace("whole", "killed")
    assert names(tmp_path / "killed") == names(tmp_path / "whole")


def test_f43_the_good_checkpoint_serves_where_newer_ones_are_damaged(tmp_path: Path) -> None:
    train(tmp_path, at=9)
    for step in (12, 14):
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"")
    assert checkpoints.newest_valid(tmp_path) == tmp_path / "checkpoint-8"


def test_features_that_are_not_finite_stop_the_run_at_once(tmp_path: Path) -> None:
    error = train(tmp_path, at=9, poison=True)
    assert error.code == "HZ-F49" and error.got == "features of 1 tasks are not finite"
    assert error.where.startswith("step 12; since the evaluation at step 12")
    assert error.kept == "checkpoint-8 is the last good checkpoint"


def test_continued_from_the_good_checkpoint_the_run_forgets_the_collapsed_ones(tmp_path: Path) -> None:
    train(tmp_path, at=9)
    subject = engine(tmp_path)
    subject.train(resume_from_checkpoint=str(checkpoints.explicit(tmp_path, 8)))
    assert names(tmp_path) == {"checkpoint-18", "checkpoint-20"}
    straight = engine(tmp_path / "straight")
    straight.train()
    ends = [s.recipe.state_dict() for s in (subject, straight)]
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[1])


def test_f47_a_run_that_is_measured_at_every_step_ends_as_one_that_never_is(tmp_path: Path) -> None:
    ends = []
    for every in (1, 6):
        subject = engine(tmp_path / str(every), steps=6, every=every)
        subject.train()
        ends.append(subject.recipe.state_dict())
    assert ends[0].keys() == ends[1].keys()
    assert [k for k in ends[0] if not torch.equal(ends[0][k], ends[1][k])] == []


def test_the_parts_of_the_loss_are_logged_as_means_over_the_steps(tmp_path: Path) -> None:
    subject = engine(tmp_path, steps=6, every=3)
    seen: list[dict[str, float]] = []
    forward = subject.recipe.forward

    def watched(data: Any) -> Any:
        outputs = forward(data)
        seen.append({k: float(v.detach()) for k, v in outputs.items()})
        return outputs

    subject.recipe.forward = watched  # type: ignore[method-assign]
    subject.train()
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    windows = [r for r in records if "loss_redundancy" in r]
    assert [r["step"] for r in windows] == [3, 6] and len(seen) == 6
    for record, steps in zip(windows, (seen[:3], seen[3:]), strict=True):
        for key in ("loss", "loss_invariance", "loss_redundancy"):
            assert record[key] == pytest.approx(np.mean([s[key] for s in steps]), rel=1e-5)
        assert "dropped_steps" not in record
