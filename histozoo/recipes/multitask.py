"""Multi-task supervised pretraining: one shared trunk, one linear head per task.

R. Mormont, P. Geurts, R. Marée, "Multi-task pre-training of deep neural networks for digital pathology", IEEE J. Biomed. Health
Inform. 25(2):412-421, 2021 (arXiv 2005.02561). Two presets:

- `faithful`: SGD, plain batch mean of the cross-entropies of all samples, head gradients rescaled by B/|B_i|, batch-norm transplant,
  head-only warm-up with the trunk frozen in eval mode, flips only.
- `modern`: mean over the tasks present of cross-entropy / ln(classes), AdamW, cosine schedule, stain and colour augmentation,
  quarter turns.

Shapes: B batch, C channels, H W pixels, D features, K classes, P uniform numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.data.mixing import UNIFORMS
from histozoo.data.views import Views
from histozoo.recipes import parts
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.batch_norm import transplant_batch_norm

PRESETS: dict[str, dict[str, Any]] = {
    "faithful": {
        "loss": "batch_mean", "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "lr": 1e-4, "head_lr_factor": 5.0,
        "schedule": "constant", "warmup_steps": 0, "head_warmup_steps": 5_000, "head_warmup_lr": 1e-3, "transplant_batches": 20,
        "steps": 50_000, "batch_size": 64, "max_grad_norm": 0.0, "tile_px": 224, "pack_px": 224, "train_px": 224,
        "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "flip": True, "rot90": False,
        "area": (1.0, 1.0), "aspect": 1.0, "colour": 0.0, "stain": 0.0,
    },
    "modern": {
        "loss": "task_mean", "optimizer": "adamw", "momentum": 0.9, "weight_decay": 0.05, "lr": 1e-3, "head_lr_factor": 1.0,
        "schedule": "cosine", "warmup_steps": 200, "head_warmup_steps": 0, "head_warmup_lr": 1e-3, "transplant_batches": 0,
        "steps": 5_000, "batch_size": 64, "max_grad_norm": 5.0, "tile_px": 224, "pack_px": 224, "train_px": 224,
        "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "flip": True, "rot90": True,
        "area": (0.35, 1.0), "aspect": 1.2, "colour": 0.2, "stain": 0.05,
    },
}  # fmt: skip
"""Defaults of an experiment by preset. `faithful`: the released DenseNet121's values (lr 1e-4, tau 5, warm-up), chapter 5 of the thesis."""


class Multitask(Recipe):
    """Trunk and heads.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        classes: Task name -> number of classes, in the order of the batch's task index.
        views: Augmentation of the training tiles.
        settings: Fields of the experiment, see `PRESETS`.
    """

    def __init__(
        self, backbone: nn.Module, classes: Mapping[str, int], *, views: Views, settings: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        features = int(backbone.num_features)  # type: ignore[arg-type]
        self.heads = nn.ModuleDict({name: nn.Linear(features, k) for name, k in classes.items()})
        self.views, self.settings, self.uniforms = views, settings, UNIFORMS
        self.loss: Literal["batch_mean", "task_mean"] = settings["loss"]
        self._frozen = False
        self._seen_T = torch.zeros(len(classes), dtype=torch.int64)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of one mixed batch and each present task's cross-entropy.

        Args:
            batch: `tiles` uint8 `[B, H, W, 3]`, `task` and `label` int64 `[B]`, `u` float32 `[B, P]`.
        """
        f_BD = self._features(self.views(batch["tiles"], batch["u"]))
        sums_T, counts_T = self._cross_entropies(f_BD, batch["task"], batch["label"])
        self._seen_T += counts_T.cpu()
        loss = self._mean(sums_T, counts_T)
        means = {
            f"loss_{n}": s.detach() / c for n, s, c in zip(self.heads, sums_T, counts_T, strict=True) if c > 0
        }
        return {"loss": loss + self._touch(loss), **means}

    def absent(self) -> Tensor:
        """Returns what `forward` would of no tile at all: zero, with every head in its graph; the other processes count on the call."""
        zeros_T = torch.stack([(h.weight.sum() + h.bias.sum()) * 0 for h in self._linears()])
        return self._mean(zeros_T, torch.zeros_like(zeros_T))

    def _mean(self, sums_T: Tensor, counts_T: Tensor) -> Tensor:
        """Returns the loss of this process's sums; its mean over the processes is that of the joint batch, however tasks are spread."""
        joint_T = parts.joint_sum(counts_T.float())
        if self.loss == "batch_mean":
            return sums_T.sum() * parts.world() / joint_T.sum().clamp(min=1)
        log_classes_T = sums_T.new_tensor([math.log(h.out_features) for h in self._linears()])
        means_T = sums_T / joint_T.clamp(min=1) / log_classes_T
        return means_T.sum() * parts.world() / (joint_T > 0).sum().clamp(min=1)

    def _features(self, x_BCHW: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            f_BD: Tensor = self.backbone(x_BCHW)
        return f_BD.float()

    def _cross_entropies(self, f_BD: Tensor, task_B: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of samples of every task, `[T]` each.

        An absent task sums over nothing: exactly 0, with a zero gradient for its head, so that every parameter takes part in every step.
        """
        sums, counts = [], []
        for index, head in enumerate(self._linears()):
            rows = task_B == index
            sums.append(F.cross_entropy(head(f_BD[rows]).float(), label_B[rows], reduction="sum"))
            counts.append(rows.sum())
        return torch.stack(sums), torch.stack(counts)

    def _touch(self, loss: Tensor) -> Tensor:
        """Zero, but with every trunk parameter in its graph while the trunk is frozen (distributed training waits for all gradients)."""
        if not (self._frozen and torch.is_grad_enabled()):
            return torch.zeros_like(loss)
        # A parameter that is split over the processes at this moment (histozoo/sharding.py) is one that nobody waits for.
        whole = [p for p in self.backbone.parameters() if not hasattr(p, "device_mesh")]
        return torch.stack([p.sum() for p in whole]).sum() * 0

    def _linears(self) -> list[nn.Linear]:
        return [h for h in self.heads.values() if isinstance(h, nn.Linear)]

    def tile_logits(self, task: str, pixels_BCHW: Tensor) -> Tensor:
        """Returns `[B, K]` logits of `task` for normalised pixels `[B, 3, H, W]`."""
        logits_BK: Tensor = self.heads[task](self.backbone(pixels_BCHW).float())
        return logits_BK

    # -- hooks of the engine ---------------------------------------------------------------------------------------------------------

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Transplants the batch-norm statistics of the mixed batches into the trunk, its function unchanged."""
        transplant_batch_norm(self.backbone, (self.views(b["tiles"], b["u"]) for b in batches))

    def on_step(self, step: int) -> None:
        """Freezes the trunk, batch-norm statistics included, for the first `head_warmup_steps` steps."""
        self._frozen = step < self.settings["head_warmup_steps"]
        self.backbone.train(self.training and not self._frozen)

    def train(self, mode: bool = True) -> Multitask:
        """Sets training mode, except for a frozen trunk."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    def before_step(self) -> None:
        """Rescales head gradients by B/|B_i| (faithful) and takes absent heads and a frozen trunk out of this step.

        The batch mean divides by B while head i saw only |B_i| samples; rescaled, its gradient is that of its own task's mean loss. A
        parameter without a gradient is skipped by the optimizer: momentum and weight decay do not move it. (In 2020 zeroed gradients let
        momentum move inactive heads; skipping them is the one deliberate deviation.)
        """
        seen_T = self._seen_T.clone()
        if dist.is_initialized():
            on_device = seen_T.to(next(self.parameters()).device)
            dist.all_reduce(on_device)
            seen_T = on_device.cpu()
        for seen, head in zip(seen_T.tolist(), self._linears(), strict=True):
            factor = int(seen_T.sum()) / seen if seen and self.loss == "batch_mean" else 1.0
            for p in head.parameters():
                p.grad = p.grad * factor if seen and p.grad is not None else None
        if self._frozen:
            self.backbone.zero_grad(set_to_none=True)
        self._seen_T.zero_()

    def on_drop(self) -> None:
        """Forgets which heads the dropped batch touched."""
        self._seen_T.zero_()

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns trunk and heads, each split by weight decay (matrices and kernels) and none (norms and biases)."""
        s = self.settings
        groups = []
        for module, lr in ((self.backbone, s["lr"]), (self.heads, s["lr"] * s["head_lr_factor"])):
            matrices = [p for p in module.parameters() if p.ndim > 1]
            vectors = [p for p in module.parameters() if p.ndim <= 1]
            groups += [{"params": matrices, "lr": lr, "weight_decay": s["weight_decay"]}]
            groups += [{"params": vectors, "lr": lr, "weight_decay": 0.0}]
        return groups

    def lr_factor(self, group: int, step: int) -> float:
        """Head warm-up at its own rate, then linear warm-up, then constant or cosine to zero."""
        s = self.settings
        if step < s["head_warmup_steps"]:
            is_head = group >= 2
            return float(s["head_warmup_lr"] / (s["lr"] * s["head_lr_factor"])) if is_head else 0.0
        step, steps = step - s["head_warmup_steps"], s["steps"] - s["head_warmup_steps"]
        if step < s["warmup_steps"]:
            return float((step + 1) / s["warmup_steps"])
        if s["schedule"] == "constant":
            return 1.0
        done = (step - s["warmup_steps"]) / max(1, steps - s["warmup_steps"])
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
