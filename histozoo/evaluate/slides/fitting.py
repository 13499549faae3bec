"""Fitting a slide model: one bag per step with all its tiles, in the project's training loop, the best epoch by the validation slides.

Shapes: T tiles of a bag, S slides, K classes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from histozoo import artifact, durable
from histozoo.evaluate.slides.model import Select, SlideModel, judge

if TYPE_CHECKING:
    from histozoo.engine import Budget


class Epoch(NamedTuple):
    """Validation after an epoch: mean loss per slide and share of slides guessed right."""

    loss: float
    accuracy: float

    def beats(self, other: Epoch | None, select: Select) -> bool:
        """Whether this later epoch is to be kept instead of `other`."""
        if other is None:
            return True
        return self.loss <= other.loss if select == "loss" else self.accuracy >= other.accuracy


class BagSteps(Dataset[dict[str, Tensor]]):
    """The bags of every step, each epoch in an order of its own that seed and epoch decide.

    Args:
        bags: Gives the bag at a position.
        labels: Class index of each bag.
        epochs: Passes over the bags.
        seed: Of the orders.
    """

    def __init__(
        self, bags: Callable[[int], Tensor], labels: Sequence[int], *, epochs: int, seed: int
    ) -> None:
        self.bags, self.labels = bags, list(labels)
        orders = [np.random.default_rng([seed, e]).permutation(len(self.labels)) for e in range(epochs)]
        self.order = np.concatenate(orders)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        i = int(self.order[step])
        return {"bag": self.bags(i), "label": torch.tensor(self.labels[i]), "index": torch.tensor(i)}


class Part(NamedTuple):
    """Bags to learn or to choose the epoch from: what gives the bag at a position, and the class index of each."""

    bags: Callable[[int], Tensor]
    labels: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted model in eval mode with the weights of its best epoch, and the validation after each epoch."""

    model: SlideModel
    best: int
    epochs: tuple[Epoch, ...]


def fit(
    model: SlideModel,
    train: Part,
    validation: Part,
    *,
    seed: int,
    run: Path | None = None,
    device: str = "cpu",
) -> Fitted:
    """Fits a model in the project's training loop and gives it the weights of its best epoch.

    Args:
        model: Changed in place.
        train: Bags to learn from.
        validation: Bags that choose the epoch.
        seed: Of the order of the bags.
        run: Folder of a run that can be continued after a kill, with a checkpoint after every epoch; none where it is left out.
        device: As in `Engine`.

    Raises:
        IntegrityError: `HZ-F45`, three steps in a row were not finite.
    """
    from histozoo.engine import Budget

    settings = model.settings
    dataset = BagSteps(train.bags, train.labels, epochs=settings.epochs, seed=seed)
    every = len(train.labels)
    keeper = _Best(model, validation, settings.select, lasting=run is not None)
    budget = Budget(
        steps=len(dataset),
        batch_size=1,
        seed=seed,
        eval_every=every,
        save_every=every if run else len(dataset),
        lr=settings.lr,
    )
    with _folder(run) as folder:
        keeper.read(folder)
        _train(model, budget, dataset, keeper, folder, device=device)
    keeper.restore()
    return Fitted(model=model.eval(), best=keeper.best, epochs=tuple(keeper.epochs))


def _train(
    model: SlideModel,
    budget: Budget,
    dataset: BagSteps,
    keeper: _Best,
    folder: Path,
    *,
    device: str,
) -> None:
    from histozoo import checkpoints
    from histozoo.engine import Engine
    from histozoo.errors import Interrupted
    from histozoo.hooks import Metrics, Progress

    engine = Engine(
        model,
        experiment=budget,
        run=folder,
        train_dataset=dataset,
        evaluate_recipe=lambda _: keeper(folder, engine.state.global_step // budget.eval_every),
        device=device,
    )
    for callback in (
        Metrics,
        Progress,
    ):  # hundreds of fits of seconds each: no event file and no bar for every one
        engine.remove_callback(callback)
    newest = checkpoints.newest_valid(folder)
    if newest is not None and checkpoints.step_of(newest) == budget.steps:
        return
    with torch.random.fork_rng(devices=[]), engine.signals.caught():
        engine.train(resume_from_checkpoint=str(newest) if newest else None)
    if engine.signals.received and engine.state.global_step < budget.steps:
        raise Interrupted(
            "HZ-F41",
            f"stopped by {engine.signals.received} while a slide model was fitted",
            kept="finished cells of the study and the checkpoints of the last epochs",
            next_step="run the same command again to continue",
        )


class _Best:
    """Scores the validation bags after each epoch and keeps the best epoch's weights, in the run folder too where it outlives a kill."""

    def __init__(self, model: SlideModel, validation: Part, select: Select, *, lasting: bool) -> None:
        self.model, self.validation, self.select, self.lasting = model, validation, select, lasting
        self.epochs: list[Epoch] = []
        self.state: dict[str, Tensor] = {}

    def __call__(self, folder: Path, number: int) -> dict[str, float]:
        """Scores epoch `number`, counted from 1; an epoch that is repeated after a kill replaces what it gave before."""
        found = _score(self.model, self.validation)
        self.epochs = [*self.epochs[: number - 1], found]
        if self.best == number:
            self.state = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        if self.lasting:
            self._write(folder)
        return {"val_loss": found.loss, "val_accuracy": found.accuracy}

    @property
    def best(self) -> int:
        """The best epoch so far, counted from 1."""
        kept = 0
        for i, epoch in enumerate(self.epochs):
            if epoch.beats(self.epochs[kept] if i else None, self.select):
                kept = i
        return kept + 1

    def restore(self) -> None:
        """Gives the model the weights of the best epoch."""
        self.model.load_state_dict(self.state)

    def read(self, folder: Path) -> None:
        """Takes over what a killed process had written."""
        if (folder / "epochs.json").is_file():
            self.epochs = [
                Epoch(*e) for e in json.loads((folder / "epochs.json").read_text(encoding="utf-8"))
            ]
            self.state = load_file(folder / "best.safetensors")

    def _write(self, folder: Path) -> None:
        if self.best == len(self.epochs):
            artifact.save_canonical(
                {k: v.contiguous() for k, v in self.state.items()},
                folder / "best.safetensors",
                {"format": "pt"},
            )
        durable.write_json(folder / "epochs.json", [list(e) for e in self.epochs])


@torch.inference_mode()
def _score(model: SlideModel, part: Part) -> Epoch:
    logits_SK = torch.stack([judge(model, part.bags(i))[0] for i in range(len(part.labels))])
    labels_S = torch.tensor(list(part.labels))
    loss = float(functional.cross_entropy(logits_SK.double(), labels_S))
    return Epoch(loss, float((logits_SK.argmax(1) == labels_S).double().mean()))


@contextmanager
def _folder(run: Path | None) -> Iterator[Path]:
    if run is None:
        with tempfile.TemporaryDirectory(prefix="histozoo-slides-") as temporary:
            yield Path(temporary)
    else:
        run.mkdir(parents=True, exist_ok=True)
        durable.remove_stale(run)
        yield run
