"""Training of one U-Net on the engine's Trainer: random crops, the mask following every turn, a budget in steps, resumed after a kill.

Shapes: B batch, C channels, H W pixels, P uniform numbers (`histozoo.data.mixing.UNIFORMS`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from histozoo import checkpoints, durable, run_folder
from histozoo.data.views import Views
from histozoo.engine import Budget, Engine
from histozoo.errors import Interrupted
from histozoo.evaluate.resampling import Ints
from histozoo.evaluate.segment.crops import Crops
from histozoo.evaluate.segment.model import DECODER, Start, unet
from histozoo.evaluate.segment.pictures import Pictures
from histozoo.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Training:
    """What decides a U-Net apart from its start, its pictures and its seed.

    The paper does not name optimizer, batch size or loss; those here are ours. The budget is in steps, so that a small training set is not
    trained less than a large one.

    Args:
        mode: `finetuned`, or `frozen`: the encoder stays as it is, batch-norm statistics included.
        steps: Optimizer steps.
        px: Side of the training crops and of the windows of the prediction, in pixels.
        batch_size: Crops per step.
        lr: Learning rate at its highest.
        warmup_steps: Steps of linear warm-up; a cosine to zero follows.
        weight_decay: Of matrices and kernels.
        max_grad_norm: Gradients are clipped to it.
        flip, rot90, area, colour, stain: As in `histozoo.data.views.Views`.
        decoder: Channels of the decoder's five steps.
        precision: `bf16` (autocast) or `fp32`.
        save_every: Steps between checkpoints.
    """

    mode: Literal["finetuned", "frozen"] = "finetuned"
    steps: int = 2_000
    px: int = 256
    batch_size: int = 16
    lr: float = 1e-3
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    max_grad_norm: float = 5.0
    flip: bool = True
    rot90: bool = True
    area: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.2
    stain: float = 0.05
    decoder: tuple[int, ...] = DECODER
    precision: Literal["fp32", "bf16"] = "fp32"
    save_every: int = 500

    def settings(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


class Segmentation(Recipe):
    """A U-Net with the loss 1/2 binary cross-entropy + 1/2 soft Dice.

    Args:
        begin: Weights of the encoder and the channel statistics that belong to them.
        training: Everything else.
        seed: Draws the decoder (and a random encoder).
    """

    def __init__(self, begin: Start, *, training: Training, seed: int) -> None:
        super().__init__()
        self.backbone, self.decoder, self.head = unet(
            begin, seed=seed, px=training.px, decoder=training.decoder
        )
        self.settings, self.mean, self.std = training, begin.mean, begin.std
        self.frozen = training.mode == "frozen"
        self.backbone.requires_grad_(not self.frozen)
        self.views = Views(
            px=training.px,
            mean=begin.mean,
            std=begin.std,
            flip=training.flip,
            rot90=training.rot90,
            area=training.area,
            colour=training.colour,
            stain=training.stain,
        )
        # The same turns and crops from the same numbers, no colour, values left in [0, 1].
        self.mask_views = dataclasses.replace(self.views, mean=(0.0,), std=(1.0,), colour=0.0, stain=0.0)
        self.to(memory_format=torch.channels_last)
        self.train()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the loss of one batch and its two terms.

        Args:
            batch: `tiles` uint8 `[B, H, W, 3]`, `mask` uint8 `[B, H, W, 1]` (0 or 255), `u` float32 `[B, P]`.
        """
        x_BCHW = self.views(batch["tiles"], batch["u"])
        mask_B1HW = (self.mask_views(batch["mask"], batch["u"]) >= 0.5).float()
        cross_entropy, overlap = losses(self.logits(x_BCHW).float(), mask_B1HW)
        loss = (cross_entropy + overlap) / 2
        return {"loss": loss, "cross_entropy": cross_entropy.detach(), "soft_dice": overlap.detach()}

    def logits(self, pixels_BCHW: Tensor) -> Tensor:
        """Returns `[B, 1, H, W]` logits of foreground for normalised pixels."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            levels = self.backbone(pixels_BCHW)
        logits_B1HW: Tensor = self.head(self.decoder(levels))
        return logits_B1HW

    def train(self, mode: bool = True) -> Segmentation:
        """Sets training mode, except for a frozen encoder."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns what is trained, split by weight decay (kernels and matrices) and none (norms and biases)."""
        s, learnt = self.settings, [p for p in self.parameters() if p.requires_grad]
        kernels, vectors = [p for p in learnt if p.ndim > 1], [p for p in learnt if p.ndim <= 1]
        return [
            {"params": kernels, "lr": s.lr, "weight_decay": s.weight_decay},
            {"params": vectors, "lr": s.lr, "weight_decay": 0.0},
        ]

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        warm, steps = self.settings.warmup_steps, self.settings.steps
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def losses(logits_B1HW: Tensor, mask_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean binary cross-entropy, and 1 - (2 sum p m + 1) / (sum p + sum m + 1) over all pixels of the batch."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits_B1HW, mask_B1HW)
    p_B1HW = logits_B1HW.sigmoid()
    overlap = (2 * (p_B1HW * mask_B1HW).sum() + 1) / (p_B1HW.sum() + mask_B1HW.sum() + 1)
    return cross_entropy, 1 - overlap


def train(
    begin: Start, pictures: Pictures, rows: Ints, *, run: Path, training: Training, seed: int
) -> Segmentation:
    """Returns a U-Net trained on these rows, in eval mode; a call that was killed continues from its last checkpoint.

    Args:
        begin: Where the encoder starts.
        pictures: The set.
        rows: The rows to train on.
        run: Folder for checkpoints and the log.
        training: Steps, crops, learning rate.
        seed: Draws the decoder, the crops and the views; the same for every initialisation that is compared.

    Raises:
        UsageError: `HZ-I70` unfit architecture; `HZ-F48` another process trains in the folder.
        IntegrityError: `HZ-F44` the folder was started differently; `HZ-F45` non-finite steps.
        Interrupted: `HZ-F41`, a signal asked to stop; a checkpoint was written.
    """
    run.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(run):
        durable.remove_stale(run)
        chosen = pictures.take(rows)
        facts = {"start": _start_facts(begin), "seed": seed, "pictures": chosen.fingerprint}
        run_folder.record(
            run, {"training.json": {**facts, "training": training.settings()}}, accept_change=False
        )
        recipe = Segmentation(begin, training=training, seed=seed)
        checkpoint = checkpoints.newest_valid(run)
        if checkpoint is not None and checkpoints.step_of(checkpoint) == training.steps:
            recipe.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=True)
            return recipe.to("cuda" if torch.cuda.is_available() else "cpu").eval()  # where the engine trains
        _run(recipe, chosen, run=run, training=training, seed=seed, checkpoint=checkpoint)
    return recipe.eval()


def _run(
    recipe: Segmentation,
    pictures: Pictures,
    *,
    run: Path,
    training: Training,
    seed: int,
    checkpoint: Path | None,
) -> None:
    samples = training.steps * training.batch_size
    engine = Engine(
        recipe,
        experiment=_budget(training, seed),
        run=run,
        train_dataset=Crops(pictures, px=training.px, seed=seed, samples=samples),
        evaluate_recipe=lambda _: {},
    )
    with engine.signals.caught():
        engine.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if engine.signals.received and engine.state.global_step < training.steps:
        raise Interrupted(
            "HZ-F41",
            f"stopped by {engine.signals.received} at step {engine.state.global_step} of {training.steps}",
            where=run,
            kept=f"checkpoint-{engine.state.global_step} is written",
            next_step="run the same command again to continue",
        )


def _budget(t: Training, seed: int) -> Budget:
    return Budget(
        steps=t.steps,
        batch_size=t.batch_size,
        seed=seed,
        lr=t.lr,
        eval_every=max(1, t.steps // 20),  # nothing is evaluated; the loss is logged as often
        save_every=t.save_every,
        max_grad_norm=t.max_grad_norm,
        precision=t.precision,
    )


def _start_facts(begin: Start) -> dict[str, Any]:
    return {
        "name": begin.name,
        "architecture": begin.architecture,
        "mean": list(begin.mean),
        "std": list(begin.std),
        "sha256": fingerprint(begin.tensors),
    }


def fingerprint(tensors: dict[str, Tensor] | None) -> str:
    """Returns the sha256 of names and values; "random" where there are none."""
    import hashlib

    if tensors is None:
        return "random"
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
