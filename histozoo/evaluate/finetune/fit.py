"""One training at one learning rate on the engine's Trainer: looks at the validation rows, stops early, continues after a kill.

Shapes: N tiles, n rows, K classes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from histozoo import checkpoints, durable
from histozoo.data.mixing import MixedTiles, TaskTiles
from histozoo.engine import Budget, Engine
from histozoo.errors import Interrupted
from histozoo.evaluate.finetune.recipe import Finetuning, Look
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.probe import features
from histozoo.evaluate.resampling import Floats, Ints
from histozoo.evaluate.statistics import balanced_accuracy
from histozoo.hooks import Metrics, Progress

_AT_ONCE = 1024


def fit(
    recipe: Finetuning,
    labelled: LabelledTiles,
    *,
    train: Ints,
    validation: Ints,
    run: Path,
    seed: int,
    device: str = "auto",
) -> None:
    """Trains a recipe in place; at the end it has the weights of its best look at the validation rows and is in eval mode.

    Args:
        recipe: As built; a call that was killed continues from the newest checkpoint in `run`.
        labelled: The task.
        train: Rows to train on.
        validation: Rows that choose the step; never trained on.
        run: Folder of checkpoints.
        seed: Draws tiles and views, and whatever the trunk draws (drop path).
        device: As in `Engine`.

    Raises:
        IntegrityError: `HZ-F45` three steps in a row were not finite; `HZ-I62` logits are not.
        Interrupted: `HZ-F41`, a signal asked to stop; a checkpoint was written.
    """
    s = recipe.settings
    run.mkdir(parents=True, exist_ok=True)
    durable.remove_stale(run)
    newest = checkpoints.newest_valid(run)
    if newest is not None:
        recipe.load_state_dict(load_file(newest / "model.safetensors"), strict=True)
    done = newest is not None and checkpoints.step_of(newest) >= s.steps
    if not (done or recipe.kept.exhausted(s.patience)):
        with torch.random.fork_rng(devices=[]):
            _train(
                recipe,
                labelled,
                train,
                _Looks(recipe, labelled, validation),
                run=run,
                seed=seed,
                device=device,
                newest=newest,
            )
    recipe.to(
        "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"
    )  # where the engine trains
    recipe.restore()
    recipe.eval()


def _train(
    recipe: Finetuning,
    labelled: LabelledTiles,
    rows: Ints,
    looks: _Looks,
    *,
    run: Path,
    seed: int,
    device: str,
    newest: Path | None,
) -> None:
    s = recipe.settings
    source = TaskTiles(tiles_NHWC=labelled.tiles_NHWC, labels_N=labelled.labels_N, rows=rows)
    engine = Engine(
        recipe,
        experiment=_budget(recipe, seed),
        run=run,
        train_dataset=MixedTiles({labelled.task: source}, seed=seed, samples=s.steps * s.batch_size),
        evaluate_recipe=lambda _: looks(engine.state.global_step),
        device=device,
    )
    for callback in (Metrics, Progress):  # one of many fits: the curve is kept, no event file, no bar
        engine.remove_callback(callback)
    engine.add_callback(_Patience(recipe))
    with engine.signals.caught():
        engine.train(resume_from_checkpoint=str(newest) if newest else None)
    step = engine.state.global_step
    if engine.signals.received and step < s.steps and not recipe.kept.exhausted(s.patience):
        raise Interrupted(
            "HZ-F41",
            f"stopped by {engine.signals.received} at step {step} of {s.steps}",
            where=run,
            kept=f"checkpoint-{step} is written",
            next_step="run the same command again to continue",
        )


def _budget(recipe: Finetuning, seed: int) -> Budget:
    s = recipe.settings
    return Budget(
        steps=s.steps,
        batch_size=s.batch_size,
        seed=seed,
        lr=recipe.lr,
        eval_every=s.eval_every,
        save_every=s.eval_every,
        max_grad_norm=s.max_grad_norm,
        precision=s.precision,
    )


class _Looks:
    """Scores the validation rows and hands the result to the recipe's `kept`; counts seconds over all lives of the fit."""

    def __init__(self, recipe: Finetuning, labelled: LabelledTiles, rows: Ints) -> None:
        self.recipe, self.labelled, self.rows = recipe, labelled, rows
        self.since = time.monotonic()

    def __call__(self, step: int) -> dict[str, float]:
        logits_nK = logits(self.recipe, self.labelled, self.rows)
        labels_n = self.labelled.labels_N[self.rows]
        score = balanced_accuracy(labels_n, logits_nK.argmax(1), logits_nK.shape[1])
        loss = _cross_entropy(logits_nK, labels_n)
        now = time.monotonic()
        self.recipe.kept.seconds += now - self.since
        self.since = now
        self.recipe.kept.note(Look(step, score, loss), self.recipe.moving())
        return {"val_balanced_accuracy": score, "val_loss": loss}


class _Patience(TrainerCallback):
    """Stops the training when the looks no longer get better."""

    def __init__(self, recipe: Finetuning) -> None:
        self.recipe = recipe

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After a look, and before the checkpoint of the same step is written."""
        if self.recipe.kept.exhausted(self.recipe.settings.patience):
            control.should_training_stop = True


def logits(recipe: Finetuning, labelled: LabelledTiles, rows: Ints) -> Floats:
    """Returns the logits of tiles as they are, without augmentation and in float32, as float64 `[n, K]`.

    Raises:
        IntegrityError: `HZ-I62`, a logit is not finite.
    """
    views, classifier = recipe.views, recipe.classifier()
    parts = [
        features(classifier, labelled.tiles_NHWC[rows[i : i + _AT_ONCE]], mean=views.mean, std=views.std)
        for i in range(0, len(rows), _AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def softmax(logits_nK: Floats) -> Floats:
    """Returns probabilities, rows summing to 1."""
    shifted_nK = np.exp(logits_nK - logits_nK.max(1, keepdims=True))
    p_nK: Floats = shifted_nK / shifted_nK.sum(1, keepdims=True)
    return p_nK


def _cross_entropy(logits_nK: Floats, labels_n: Ints) -> float:
    """Returns the mean over classes of the mean cross-entropy of their tiles."""
    top_n1 = logits_nK.max(1, keepdims=True)
    total_n = np.log(np.exp(logits_nK - top_n1).sum(1)) + top_n1[:, 0]
    entropy_n = total_n - logits_nK[np.arange(len(labels_n)), labels_n]
    return float(np.mean([entropy_n[labels_n == k].mean() for k in range(logits_nK.shape[1])]))
