"""Every self-supervised recipe in the real training loop: a poisoned batch changes no bit, and a resumed run ends as the whole one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from histozoo import checkpoints
from histozoo.engine import Budget, Engine
from tests.fakes.ssl import MADE, NormedTrunk, batch, make, tiny_vit

STEPS, ROWS, POISONED = 6, 4, 4


class Tiles(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Samples in training order; one of step `POISONED` has numbers that are none."""

    def __init__(self, recipe: Any) -> None:
        self.whole = batch(recipe, STEPS * ROWS)
        own = getattr(recipe, "objective", recipe).uniforms
        self.whole["u"][POISONED * ROWS + 1, recipe.uniforms - own] = float("nan")

    def __len__(self) -> int:
        return STEPS * ROWS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {k: v[index] for k, v in self.whole.items()}


class Watch(TrainerCallback):
    """Keeps the recipe's state as it was before and after the poisoned step."""

    def __init__(self, recipe: Any) -> None:
        self.recipe, self.states = recipe, {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.states[state.global_step] = {k: v.clone() for k, v in self.recipe.state_dict().items()}


def engine(name: str, run: Path) -> Engine:
    torch.set_num_threads(1)
    recipe = make(name, trunk=tiny_vit() if name.startswith(("ibot", "mae")) else NormedTrunk())
    budget = Budget(steps=STEPS, batch_size=ROWS, seed=0, lr=0.01, eval_every=STEPS, save_every=3)
    run.mkdir(exist_ok=True)
    return Engine(
        recipe,
        experiment=budget,
        run=run,
        train_dataset=Tiles(recipe),
        evaluate_recipe=lambda _: {},
        device="cpu",
    )


@pytest.mark.parametrize("name", [*MADE, "multitaskssl"])
def test_f45_f40_a_poisoned_batch_changes_no_bit_and_a_resumed_run_ends_as_the_whole_one(
    name: str, tmp_path: Path
) -> None:
    whole = engine(name, tmp_path)
    watch = Watch(whole.recipe)
    whole.add_callback(watch)
    whole.train()
    (record,) = (json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines())
    assert record["step"] == POISONED and "loss" in record["not_finite"]
    before, after = watch.states[POISONED], watch.states[POISONED + 1]
    assert [k for k in before if not torch.equal(before[k], after[k])] == []
    end = {k: v.clone() for k, v in whole.recipe.state_dict().items()}
    assert all(torch.isfinite(v).all() for v in end.values())
    assert len([k for k in end if not torch.equal(end[k], after[k])]) > 5

    shutil.rmtree(tmp_path / f"checkpoint-{STEPS}")
    (tmp_path / "dropped.jsonl").unlink()
    newest = checkpoints.newest_valid(tmp_path)
    assert newest is not None and checkpoints.step_of(newest) == 3
    resumed = engine(name, tmp_path)
    resumed.train(resume_from_checkpoint=str(newest))
    state = resumed.recipe.state_dict()
    assert state.keys() == end.keys()
    assert [k for k in end if not torch.equal(end[k], state[k])] == []
    assert len((tmp_path / "dropped.jsonl").read_text().splitlines()) == 1
