"""What a fine-tuning found, and the folder it is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from histozoo import artifact, checkpoints, durable
from histozoo.errors import IntegrityError
from histozoo.evaluate.finetune.recipe import Look
from histozoo.evaluate.protocol import Predictions
from histozoo.evaluate.resampling import Ints

FINAL = "final"


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A fine-tuned model's predictions, and how they came about.

    Args:
        predictions: Probabilities of the test rows, by the weights of `best_step`.
        curve: Looks at the validation rows, at the learning rate that was chosen.
        best_step: Step of the best look.
        lr: The learning rate that was chosen.
        by_lr: Learning rate -> best balanced accuracy on the validation rows.
        fraction: Share of the training rows that were trained on.
        rows: How many these are.
        parameters: Numbers that were trained, head included.
        seconds: Wall time of training and looking, over all learning rates and all lives of the fit.
        folder: Where it is kept; `trunk.safetensors` in its `final` holds the fine-tuned trunk where that was asked for.
    """

    predictions: Predictions
    curve: tuple[Look, ...]
    best_step: int
    lr: float
    by_lr: Mapping[float, float]
    fraction: float
    rows: int
    parameters: int
    seconds: float
    folder: Path


def predicted(rows_N: Ints, scores_NK: NDArray[np.float32], *, lr: float) -> Predictions:
    """Returns predictions of test rows from the probabilities of their classes."""
    return Predictions(
        rows_N=rows_N,
        guesses_N=scores_NK.argmax(1).astype(np.int64),
        fold_N=np.zeros_like(rows_N),
        c_F=(lr,),
        scores_NK=scores_NK,
        probabilities=True,
    )


def write(found: Finetuned, trunk: Mapping[str, Tensor] | None) -> None:
    """Writes `final/` in one step."""
    p = found.predictions
    with durable.staged_folder(found.folder / FINAL) as staged:
        arrays = {"rows_N": p.rows_N, "scores_NK": p.scores_NK}
        artifact.save_canonical(
            {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()},
            staged / "predictions.safetensors",
        )
        if trunk is not None:
            artifact.save_canonical(trunk, staged / "trunk.safetensors", {"format": "pt"})
        durable.write_json(staged / "result.json", _facts(found))
        durable.write_json(staged / checkpoints.MANIFEST, checkpoints.manifest(staged))


def read(folder: Path) -> Finetuned | None:
    """Returns what an earlier call wrote, or None where it did not come to its end.

    Raises:
        IntegrityError: `HZ-F43`, the files are not what was written.
    """
    final = folder / FINAL
    if not final.is_dir():
        return None
    if reason := checkpoints.damage(final):
        raise IntegrityError(
            "HZ-F43",
            "a finished fine-tuning was changed",
            where=final,
            got=reason,
            kept="nothing was overwritten",
            next_step="remove the folder; the same command trains again",
        )
    facts = json.loads((final / "result.json").read_text(encoding="utf-8"))
    arrays = {k: v.numpy() for k, v in load_file(final / "predictions.safetensors").items()}
    curve = tuple(Look(*look) for look in facts.pop("curve"))
    by_lr = dict(facts.pop("by_lr"))
    return Finetuned(
        predictions=predicted(**arrays, lr=facts["lr"]), curve=curve, by_lr=by_lr, folder=folder, **facts
    )


def _facts(found: Finetuned) -> dict[str, object]:
    return {
        "curve": [list(look) for look in found.curve],
        "best_step": found.best_step,
        "lr": found.lr,
        "by_lr": [list(item) for item in found.by_lr.items()],
        "fraction": found.fraction,
        "rows": found.rows,
        "parameters": found.parameters,
        "seconds": found.seconds,
    }
