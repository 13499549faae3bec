"""The engine: killed runs end bit-identical, signals are polite, and non-finite numbers never reach the weights."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from histozoo import checkpoints, experiment
from histozoo.data.mixing import MixedTiles, TaskTiles
from histozoo.data.views import Views
from histozoo.engine import Engine, contiguous
from histozoo.errors import IntegrityError, ResourceError
from histozoo.recipes.multitask import Multitask
from tests.fakes.killer import kill_until_done
from tests.fakes.nospace import no_space

STEPS, BATCH = 20, 8


def settings(**changes: Any) -> experiment.Experiment:
    tiny = {
        "name": "test_resnet.multitask_tiny",
        "tasks": ["a", "b"],
        "steps": STEPS,
        "batch_size": BATCH,
        "tile_px": 32,
    }
    return experiment.resolve(
        {**tiny, "train_px": 32, "eval_every": 10, "save_every": 3, "warmup_steps": 2, **changes}
    )


def sources() -> dict[str, TaskTiles]:
    random = np.random.default_rng(0)
    return {
        name: TaskTiles(
            tiles_NHWC=random.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
            labels_N=random.integers(0, classes, 40),
            rows=np.arange(40),
        )
        for name, classes in (("a", 2), ("b", 3))
    }


def engine(run: Path, *, recipe_type: type[Multitask] = Multitask, **changes: Any) -> Engine:
    torch.set_num_threads(1)
    e = settings(**changes)
    torch.manual_seed(e.seed)
    strengths = {key: e.own[key] for key in ("rot90", "area", "colour", "stain")}
    views = Views(px=32, mean=e.mean, std=e.std, **strengths)
    # Drop path makes the run depend on torch's generator, as dropout would.
    backbone = timm.create_model("test_resnet", num_classes=0, drop_path_rate=0.2)
    recipe = recipe_type(backbone, {"a": 2, "b": 3}, views=views, settings=e.settings())
    run.mkdir(parents=True, exist_ok=True)
    dataset = MixedTiles(sources(), seed=e.seed, samples=e.steps * e.batch_size * e.accumulate)
    return Engine(
        recipe.to(memory_format=torch.channels_last),
        experiment=e,
        run=run,
        train_dataset=dataset,
        evaluate_recipe=lambda _: {"val_balanced_accuracy": 0.5},
        device="cpu",
    )


def train(run: Path, **changes: Any) -> dict[str, torch.Tensor]:
    """Trains or continues, and leaves the final state in `run/state.pt`."""
    subject = engine(run, **changes)
    newest = checkpoints.newest_valid(run)
    subject.train(resume_from_checkpoint=str(newest) if newest else None)
    state = {**contiguous(subject.model.state_dict())}
    for number, values in subject.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{k}": torch.as_tensor(v).contiguous() for k, v in values.items()}
    torch.save(state, run / "state.pt")
    return state


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("preset", ["modern", "faithful"])
def test_f40_killed_ten_times_at_random_moments_a_run_ends_bit_identical(tmp_path: Path, preset: str) -> None:
    changes: dict[str, Any] = {"preset": preset, "head_warmup_steps": 4, "steps": 240}
    whole = train(tmp_path / "whole", **changes)
    kills = kill_until_done(lambda: train(tmp_path / "killed", **changes), seed=1, kills=10, longest=0.8)
    assert kills == 10
    assert same(torch.load(tmp_path / "killed" / "state.pt"), whole)
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps)


def test_f47_the_same_seed_gives_the_same_weights_and_another_seed_gives_others(tmp_path: Path) -> None:
    first, again, other = (train(tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1)))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_f41_a_polite_signal_saves_the_step_it_finished(tmp_path: Path, name: str) -> None:
    from transformers import TrainerCallback

    class Send(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 7:
                os.kill(os.getpid(), getattr(signal, name))

    subject = engine(tmp_path / "run")
    subject.add_callback(Send)
    handler = signal.getsignal(signal.SIGTERM)
    with subject.signals.caught():
        subject.train()
    assert subject.signals.received == name
    assert signal.getsignal(signal.SIGTERM) is handler
    newest = checkpoints.newest_valid(tmp_path / "run")
    assert newest is not None
    assert checkpoints.step_of(newest) == 8
    assert same(train(tmp_path / "run"), train(tmp_path / "whole"))


def test_f41_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Send(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 7:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    subject = engine(tmp_path / "run")
    subject.add_callback(Send)
    with subject.signals.caught(), pytest.raises(KeyboardInterrupt):
        subject.train()
    assert checkpoints.newest_valid(tmp_path / "run") == tmp_path / "run" / "checkpoint-6"


def test_f42_a_full_disk_during_a_checkpoint_stops_training_and_keeps_the_previous_one(
    tmp_path: Path,
) -> None:
    from transformers import TrainerCallback

    with no_space() as disk:
        train(tmp_path / "counted", steps=3)

    class Fill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 6:
                full.__enter__()

    full = no_space(disk.written // 2)
    subject = engine(tmp_path / "run")
    subject.add_callback(Fill)
    try:
        with pytest.raises(ResourceError, match="HZ-F42 the disk is full"):
            subject.train()
    finally:
        full.__exit__(None, None, None)
    assert checkpoints.newest_valid(tmp_path / "run") == tmp_path / "run" / "checkpoint-3"
    assert not list((tmp_path / "run").glob(".*.tmp"))
    assert same(train(tmp_path / "run"), train(tmp_path / "whole"))


class Poisoned(Multitask):
    """Gives what is not a number in the stated steps, at the stated site."""

    steps: tuple[int, ...] = ()
    site = "loss"

    def on_step(self, step: int) -> None:
        super().on_step(step)
        self.now = step in self.steps

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not self.now:
            return super().forward(batch)
        if self.site == "input":
            views, self.views = self.views, lambda *_: torch.full((BATCH, 3, 32, 32), float("nan"))
            outputs = super().forward(batch)
            self.views = views
            return outputs
        outputs = super().forward(batch)
        if self.site == "loss":
            return {**outputs, "loss": outputs["loss"] * float("inf")}
        if self.site == "term":
            return {**outputs, "loss_a": outputs["loss"].detach() * float("nan")}
        outputs["loss"].register_hook(lambda g: g * float("nan"))
        return outputs


NAMED = {"loss": ["loss", "gradient"], "term": ["loss_a"], "gradient": ["gradient"]}


def poisoned(site: str, steps: tuple[int, ...]) -> type[Multitask]:
    return type("Poisoned", (Poisoned,), {"site": site, "steps": steps})


@pytest.mark.parametrize("site", ["input", "loss", "term", "gradient"])
def test_f45_a_step_with_a_non_finite_value_leaves_no_trace(tmp_path: Path, site: str) -> None:
    """Weights, batch-norm statistics and optimizer state equal those before the step."""
    subject = engine(tmp_path / "run", recipe_type=poisoned(site, (5, 6)), steps=7)
    before: dict[str, torch.Tensor] = {}

    def state() -> dict[str, torch.Tensor]:
        moments = {
            f"o{n}.{k}": torch.as_tensor(v).clone()
            for n, values in subject.optimizer.state_dict()["state"].items()
            for k, v in values.items()
        }
        return {**{k: v.clone() for k, v in subject.model.state_dict().items()}, **moments}

    from transformers import TrainerCallback

    class Remember(TrainerCallback):
        def on_step_begin(self, args: Any, s: Any, control: Any, **_: Any) -> None:
            if s.global_step == 5:
                before.update(state())

    subject.add_callback(Remember)
    subject.train()
    assert len(before) > 20
    assert same(state(), before)
    records = [json.loads(line) for line in (tmp_path / "run" / "dropped.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [5, 6]
    assert records[0]["samples"] == list(range(5 * BATCH, 6 * BATCH))
    assert "loss" in records[0]["not_finite"] if site == "input" else records[0]["not_finite"] == NAMED[site]


def test_f45_three_in_a_row_stop_the_run(tmp_path: Path) -> None:
    subject = engine(tmp_path / "run", recipe_type=poisoned("loss", (4, 5, 6)))
    with pytest.raises(IntegrityError, match="HZ-F45 3 steps in a row") as caught:
        subject.train()
    assert "step 6" in caught.value.where
    assert checkpoints.newest_valid(tmp_path / "run") == tmp_path / "run" / "checkpoint-6"


def test_gradient_accumulation_equals_the_larger_batch_for_the_batch_mean(tmp_path: Path) -> None:
    """Two batches of 4 in one step see the same samples as one batch of 8; batch norm is the only thing that differs."""

    def frozen(e: Engine) -> Engine:
        e.model.backbone.eval()
        e.model.backbone.train = lambda mode=True: e.model.backbone  # type: ignore[method-assign]
        return e

    changes: dict[str, Any] = {"preset": "faithful", "head_warmup_steps": 0, "steps": 2, "precision": "fp32"}
    one = frozen(engine(tmp_path / "one", **changes))
    two = frozen(engine(tmp_path / "two", **changes, batch_size=4, accumulate=2))
    for subject in (one, two):
        subject.train()
    for key, value in one.model.state_dict().items():
        assert torch.allclose(two.model.state_dict()[key].float(), value.float(), rtol=1e-4, atol=1e-6), key


def test_metrics_are_written_for_each_evaluation(tmp_path: Path) -> None:
    train(tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "val_balanced_accuracy" in r] == [10, 20]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
