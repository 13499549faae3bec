"""Cases 43 and 47 for every self-supervised recipe: a damaged checkpoint is passed over without a trace, and the seed decides the weights.

Case 45 is in test_guard.py, case 40 where runs are killed; those of the multi-task recipe are in test_engine.py and test_pretrain.py.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from histozoo import checkpoints
from histozoo.data.mixing import MixedTiles, TaskTiles
from histozoo.data.streamed import StreamedTiles
from histozoo.data.unlabelled import TileSet
from histozoo.engine import Budget, Engine
from histozoo.unlabelled_data import PartlyLabelled
from tests.fakes.ssl import MADE
from tests.test_guard import State, build, changed, state

EVERY = [*MADE, "multitaskssl"]
STEPS, ROWS, PX = 6, 4, 32


def tiles(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, PX, PX, 3), dtype=np.uint8)


def samples(name: str, seed: int, uniforms: int) -> Dataset[dict[str, Any]]:
    """The tiles as a run of this recipe draws them: without labels, or some of each."""
    order: dict[str, Any] = {"seed": seed, "samples": STEPS * ROWS, "uniforms": uniforms}
    sets = {key: TileSet(tiles_NHWC=tiles(n, n), rows=np.arange(n)) for key, n in (("a", 30), ("b", 17))}
    unlabelled = StreamedTiles(sets, px=PX, **order)
    if name != "multitaskssl":
        return unlabelled
    tasks = {
        key: TaskTiles(tiles_NHWC=tiles(20, k), labels_N=np.arange(20) % k, rows=np.arange(20))
        for key, k in (("one", 2), ("two", 3))
    }
    return PartlyLabelled(MixedTiles(tasks, **order), unlabelled, share=0.5, samples=STEPS * ROWS)


def train(name: str, run: Path, *, seed: int = 0, workers: int = 0) -> State:
    """Trains or continues, and returns weights, teachers, queues, centres, batch statistics and moments."""
    torch.set_num_threads(1)
    run.mkdir(exist_ok=True)
    recipe = build(name)
    subject = Engine(
        recipe,
        experiment=Budget(steps=STEPS, batch_size=ROWS, seed=seed, lr=0.01, eval_every=STEPS, save_every=2),
        run=run,
        train_dataset=samples(name, seed, recipe.uniforms),
        evaluate_recipe=lambda _: {},
        workers=workers,
        device="cpu",
    )
    newest = checkpoints.newest_valid(run)
    subject.train(resume_from_checkpoint=str(newest) if newest else None)
    return state(subject)


@pytest.mark.parametrize("name", EVERY)
def test_f47_the_seed_alone_decides_the_weights_of_every_recipe(name: str, tmp_path: Path) -> None:
    first, again = train(name, tmp_path / "first"), train(name, tmp_path / "again")
    assert changed(first, again) == []
    assert changed(first, train(name, tmp_path / "workers", workers=2)) == []
    assert len(changed(first, train(name, tmp_path / "other", seed=1))) > 5


@pytest.mark.parametrize("name", EVERY)
def test_f43_past_a_damaged_checkpoint_every_recipe_ends_as_if_it_had_not_been_damaged(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(name, tmp_path)
    file = tmp_path / f"checkpoint-{STEPS}" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert changed(whole, train(name, tmp_path)) == []
    assert f"HZ-F43 checkpoint-{STEPS} is damaged" in caplog.text and f"missing: {file.name}" in caplog.text
    assert f"resuming from checkpoint-{STEPS - 2}: 2 steps are lost" in caplog.text
    assert checkpoints.damage(file.parent) == ""  # written anew
