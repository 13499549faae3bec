"""Fine-tuning on one task: learning rate and step by the validation groups, then one look at the test groups.

Shapes: N tiles, K classes.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from histozoo import durable, run_folder
from histozoo.data.splits import Split
from histozoo.data.views import Views
from histozoo.errors import UsageError
from histozoo.evaluate.finetune import lora, store
from histozoo.evaluate.finetune.checks import check_statistics, check_task, feature_count
from histozoo.evaluate.finetune.fit import fit, logits, softmax
from histozoo.evaluate.finetune.fractions import label_fraction
from histozoo.evaluate.finetune.recipe import Finetuning, Look
from histozoo.evaluate.finetune.settings import MODES, FinetuneSettings, Mode
from histozoo.evaluate.finetune.store import Finetuned
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.resampling import Ints
from histozoo.run_folder import contiguous


def finetune(
    module: nn.Module,
    labelled: LabelledTiles,
    split: Split,
    *,
    mode: Mode,
    mean: Sequence[float],
    std: Sequence[float],
    fraction: float = 1.0,
    seed: int,
    settings: FinetuneSettings,
    folder: Path,
    device: str = "auto",
    keep_trunk: bool = False,
) -> Finetuned:
    """Fine-tunes a model on a task and predicts the test rows once.

    A call that was killed continues in `folder` and ends, on a processor, with the same bits; a call that is done returns what it found.
    Equal seeds give every model the same tiles, views and, for equal rows, the same part of the labels.

    Args:
        module: The trunk; left as it is, a copy is trained.
        labelled: The task, its tiles at the model's size.
        split: Rows to train on, to choose step and learning rate with, and to predict.
        mode: What of the trunk is trained, see `Mode`.
        mean: Channel means of the model, for values scaled to [0, 1].
        std: Channel standard deviations of the model, on the same scale.
        fraction: Share of the training rows, see `label_fraction`; validation and test stay whole.
        seed: Draws the part of the labels, the order of the tiles, their views, and A of low-rank updates.
        settings: Budget and rates; `PRESETS` has two.
        folder: Of this fit alone; holds checkpoints while it runs and `final/` afterwards.
        device: As in `histozoo.engine.Engine`.
        keep_trunk: Write the fine-tuned trunk too, under the names of `module` (low-rank updates merged).

    Raises:
        UsageError: `HZ-I68` the model, the mode, the fraction or the statistics do not fit; `HZ-I62` a part lacks a class; `HZ-E37` a group
            in two parts; `HZ-F48` another process works in the folder.
        IntegrityError: `HZ-A06`, `HZ-I62`, `HZ-F45` numbers that are not finite; `HZ-F43` the finished result was changed; `HZ-F44` the
            folder was started differently.
        Interrupted: `HZ-F41`, a signal asked to stop; a checkpoint was written.
    """
    if mode not in MODES:
        raise UsageError(
            "HZ-I68", "there is no such mode of fine-tuning", expected=", ".join(MODES), got=repr(mode)
        )
    check_statistics(mean, std)
    check_task(labelled, split)
    rows, share = label_fraction(
        labelled.labels_N, labelled.groups_N, split.train, fraction=fraction, seed=seed
    )
    cell = _Cell(
        module=module,
        features=feature_count(module, labelled, mean=mean, std=std),
        labelled=labelled,
        rows=rows,
        split=split,
        mode=mode,
        mean=tuple(mean),
        std=tuple(std),
        seed=seed,
        settings=settings,
        device=device,
    )
    cell.recipe(settings.lrs[0])  # refuses a mode that does not fit before anything is written
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(folder):
        durable.remove_stale(folder)
        facts = {"fraction": fraction, "keep_trunk": keep_trunk, **cell.facts()}
        run_folder.record(folder, {"finetune.json": facts}, accept_change=False)
        found = store.read(folder)
        if found is None:
            found = cell.run(folder, share, keep_trunk=keep_trunk)
        for left in folder.glob("lr-*"):
            shutil.rmtree(left)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cell:
    """Everything that decides a fit, checked."""

    module: nn.Module
    features: int
    labelled: LabelledTiles
    rows: Ints
    split: Split
    mode: Mode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    settings: FinetuneSettings
    device: str

    def run(self, folder: Path, share: float, *, keep_trunk: bool) -> Finetuned:
        """Tries the learning rates, then predicts the test rows with the best of them."""
        best: tuple[Look, Finetuning] | None = None
        by_lr, seconds, parameters = {}, 0.0, 0
        for lr in self.settings.lrs:
            recipe = self._fit(folder / f"lr-{lr:g}", lr)
            look = recipe.kept.best
            assert look is not None
            by_lr[lr], seconds = look.score, seconds + recipe.kept.seconds
            parameters = sum(p.numel() for p in recipe.parameters() if p.requires_grad)
            if look.beats(best[0] if best else None):
                best = look, recipe
        assert best is not None
        look, recipe = best
        test = np.asarray(self.split.test, dtype=np.int64)
        p_NK = softmax(logits(recipe, self.labelled, test))
        found = Finetuned(
            predictions=store.predicted(test, p_NK.astype(np.float32), lr=recipe.lr),
            curve=tuple(recipe.kept.curve),
            best_step=look.step,
            lr=recipe.lr,
            by_lr=by_lr,
            fraction=share,
            rows=len(self.rows),
            parameters=parameters,
            seconds=seconds,
            folder=folder,
        )
        store.write(found, _trunk(recipe) if keep_trunk else None)
        return found

    def recipe(self, lr: float) -> Finetuning:
        """Returns a copy of the trunk with its head, untrained; the same for every learning rate."""
        s, counts_K = self.settings, np.bincount(self.labelled.labels_N[self.rows])
        weight_K = len(self.rows) / (len(counts_K) * counts_K) if s.balanced else np.ones(len(counts_K))
        views = Views(
            px=self.labelled.tiles_NHWC.shape[1],
            mean=self.mean,
            std=self.std,
            flip=s.flip,
            rot90=s.rot90,
            area=s.area,
            colour=s.colour,
            stain=s.stain,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Finetuning(
                copy.deepcopy(self.module).float().cpu(),
                features=self.features,
                mode=self.mode,
                views=views,
                weight_K=torch.from_numpy(weight_K),
                settings=s,
                lr=lr,
            ).to(memory_format=torch.channels_last)

    def _fit(self, run: Path, lr: float) -> Finetuning:
        recipe = self.recipe(lr)
        fit(
            recipe,
            self.labelled,
            train=self.rows,
            validation=np.asarray(self.split.val, dtype=np.int64),
            run=run,
            seed=self.seed,
            device=self.device,
        )
        return recipe

    def facts(self) -> dict[str, Any]:
        """Returns what a second call in the same folder must agree with."""
        task = self.labelled
        strings = "\n".join(map(str, task.groups_N)).encode()
        return {
            "mode": self.mode,
            "seed": self.seed,
            "mean": list(self.mean),
            "std": list(self.std),
            "settings": self.settings.settings(),
            "task": task.task,
            "fingerprint": task.fingerprint,
            "labels_groups_sha256": hashlib.sha256(task.labels_N.tobytes() + strings).hexdigest(),
            "tiles": list(task.tiles_NHWC.shape),
            "split": self.split.fingerprint,
            "rows": len(self.rows),
            "model": type(self.module).__name__,
            "weights_sha256": _fingerprint(self.module.state_dict()),
        }


def _fingerprint(state: dict[str, Tensor]) -> str:
    """Returns the sha256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in contiguous(state).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _trunk(recipe: Finetuning) -> dict[str, Tensor]:
    lora.merge(recipe.backbone)
    return contiguous(recipe.backbone.state_dict())
