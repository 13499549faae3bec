"""A run over unlabelled tiles of any kind: the same samples whoever reads them from wherever, and the same bits after a kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset
from transformers import TrainerCallback

from histozoo import checkpoints
from histozoo.data.opening import open_unlabelled
from histozoo.data.streamed import StreamedTiles
from histozoo.engine import Budget, Engine, contiguous
from tests.fakes import killer
from tests.fakes import unlabelled as fakes
from tests.fakes.ssl import make

pytest.importorskip("openslide")
pytest.importorskip("datasets")
PX, BATCH, STEPS, SAVED = 24, 6, 24, 4
MIXED = "every kind at once"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_all(tmp_path_factory.mktemp("all"))


def dataset(root: Path, kind: str, uniforms: int = 6) -> StreamedTiles:
    """Opens one kind, or all of them, as a run does that starts anew."""
    sources = fakes.KINDS if kind == MIXED else {kind: fakes.KINDS[kind]}
    options = {"seed": 3, "samples": BATCH * STEPS, "px": PX, "uniforms": uniforms}
    return open_unlabelled(sources, cache=root / "cache", root=root, **options).dataset


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [*fakes.KINDS, MIXED])
def test_f40_f47_any_kind_gives_the_same_samples_from_any_index_on_to_any_number_of_workers(
    root: Path, kind: str, workers: int
) -> None:
    whole = dataset(root, kind)
    samples = [whole[i] for i in range(60)]
    assert len({s["tiles"].numpy().tobytes() for s in samples}) > 5
    for start in (0, 17):
        loader = DataLoader(Subset(dataset(root, kind), range(start, 60)), BATCH, num_workers=workers)
        numbers: Iterator[int] = count(start)
        for batch in loader:
            for slot, number in zip(range(len(batch["index"])), numbers, strict=False):
                assert (
                    int(batch["index"][slot]) == number and int(batch["set"][slot]) == samples[number]["set"]
                )
                for name in ("tiles", "u"):
                    assert torch.equal(batch[name][slot], samples[number][name])
        assert next(numbers) >= 60


class Die(TrainerCallback):
    """Kills the process where a step has just been done, between two checkpoints."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(run: Path, root: Path, *, workers: int, dies_at: int = 0) -> dict[str, torch.Tensor]:
    """Trains or continues on every kind at once, and leaves the final state in `run/state.pt`."""
    torch.set_num_threads(1)
    recipe = make("simclr")
    budget = Budget(steps=STEPS, batch_size=BATCH, seed=3, lr=0.05, eval_every=STEPS, save_every=SAVED)
    run.mkdir(exist_ok=True)
    tiles = dataset(root, MIXED, uniforms=recipe.uniforms)
    engine = Engine(
        recipe,
        experiment=budget,
        run=run,
        train_dataset=tiles,
        evaluate_recipe=lambda _: {},
        workers=workers,
        device="cpu",
    )
    engine.add_callback(Die(dies_at))
    newest = checkpoints.newest_valid(run)
    engine.train(resume_from_checkpoint=str(newest) if newest else None)
    state: dict[str, Any] = contiguous(engine.model.state_dict())
    torch.save(state, run / "state.pt")
    return state


@pytest.mark.parametrize("workers", [0, 2])
def test_f40_a_run_over_every_kind_that_is_killed_again_and_again_ends_with_the_same_bits(
    root: Path, tmp_path: Path, workers: int
) -> None:
    whole = train(tmp_path / "whole", root, workers=0)
    start = {k: v.clone() for k, v in make("simclr").state_dict().items()}
    assert not all(torch.equal(start[k], whole[k]) for k in start)
    killed = tmp_path / "killed"
    for step in (7, 18, 21):
        child, note = killer.start(partial(train, killed, root, workers=workers, dies_at=step))
        _, status = os.waitpid(child, 0)
        os.close(note)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        newest = checkpoints.newest_valid(killed)
        assert newest is not None and checkpoints.step_of(newest) == step // SAVED * SAVED
    assert killer.kill_until_done(lambda: train(killed, root, workers=workers), kills=0) == 0
    state = torch.load(killed / "state.pt")
    assert state.keys() == whole.keys() and all(torch.equal(state[k], whole[k]) for k in whole)
