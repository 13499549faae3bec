"""DINO: a student that sees any crop says what its slowly moving teacher says of the large crops.

M. Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021 (arXiv 2104.14294), algorithm 1. With scores s of
the student in V crops and t of the teacher in the G global ones, centre c:

    p = softmax((t - c) / tau_t),   loss = mean over g, v != g of  mean over tiles of  -sum_k p_gk log softmax(s_v / tau_s)_k
    c <- m_c * c + (1 - m_c) * mean of t,   teacher <- m * teacher + (1 - m) * student

Invariances: one number added to all scores of a tile, a permutation of the K outputs (scores and centre), the order of the tiles.
Shapes: B tiles of this process, V crops, G global crops (first in V), D features, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from histozoo.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, setting
from histozoo.recipes import parts, refusals
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.presets import PAPER, SMALL


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper, section 3 and appendix: 65536 outputs, student's temperature 0.1, momentum 0.996 to 1, centre 0.9.

    Weight decay follows a cosine to `weight_decay_end` (0.04 to 0.4), and the learning rate warms up over 10 of 100 epochs. The authors'
    code: last layer frozen for the first epoch; teacher's temperature constant at 0.04, where the paper lets it rise to 0.07 over 30
    epochs; end of the learning rate at 1e-6, whatever the batch. `final_lr` is that beside 0.0005 for 256 tiles: larger batches end higher.
    """

    alone: ClassVar[str] = ""
    outputs: int = setting(65536, Range(least=2))
    hidden: int = setting(2048, COUNT)
    bottleneck: int = setting(256, COUNT)
    student_temperature: float = setting(0.1, POSITIVE)
    teacher_temperature: float = setting(0.04, POSITIVE)
    teacher_temperature_start: float = setting(0.04, POSITIVE)
    temperature_warmup: float = setting(0.3, SHARE)
    momentum: float = setting(0.996, SHARE)
    centre_momentum: float = setting(0.9, SHARE)
    weight_decay_end: float = setting(0.4, NOT_NEGATIVE)
    freeze_last: float = setting(0.01, SHARE)
    warmup: float = setting(0.1, SHARE)
    final_lr: float = setting(0.002, SHARE)
    global_views: int = setting(2, Range(least=1, most=2))


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.04, "max_grad_norm": 3.0, "batch_size": 1024,
        "steps": 125_000, "views": {"local_views": 8, "local_px": 96, "asymmetric": True},
    },
    "small": {
        **SMALL, "weight_decay": 0.04,
        "objective": {"outputs": 1024, "hidden": 512, "bottleneck": 128, "momentum": 0.99},
        "views": {"local_views": 2, "local_px": 48, "asymmetric": True},
    },
}  # fmt: skip
"""`paper`: the authors' code for ViT-S/16, rate 5e-4 for 256 tiles, 100 epochs of ImageNet."""


@parts.full_precision
def targets(scores_GBK: Tensor, centre_K: Tensor, *, temperature: float) -> Tensor:
    """Returns the teacher's probabilities, centred and sharpened."""
    return torch.softmax((scores_GBK - centre_K) / temperature, dim=-1)


@parts.full_precision
def cross_entropy(scores_VBK: Tensor, p_GBK: Tensor, *, temperature: float) -> Tensor:
    """Returns the mean over the pairs of a global crop and another crop; its mean over the processes is that of the joint batch."""
    log_q_VBK = torch.log_softmax(scores_VBK / temperature, dim=-1)
    pairs_GV = -torch.einsum("gbk,vbk->gv", p_GBK, log_q_VBK) / p_GBK.shape[1]
    same = torch.eye(*pairs_GV.shape, dtype=torch.bool, device=pairs_GV.device)
    return pairs_GV[~same].mean()


def warm_temperature(step: int, *, start: float, end: float, warmup: float, steps: int) -> float:
    """Returns the teacher's temperature: a straight line from `start` to `end` over the share `warmup` of the steps, then `end`."""
    done = min(1.0, step / max(1.0, warmup * steps))
    return start + (end - start) * done


class DINO(Recipe):
    """Trunk and head, and a teacher of both.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives the global crops, then any number of local ones.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels at the start.
        seed: Of the head's first weights.
    """

    centre: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: parts.ManyViews,
        settings: Settings,
        steps: int,
        lr: float,
        weight_decay: float,
        seed: int,
    ) -> None:
        super().__init__()
        refusals.check(backbone, views, name="dino", least=max(2, settings.global_views))
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        s = settings
        with parts.seeded(seed):
            self.head = parts.PrototypeHead(
                parts.width(backbone), hidden=s.hidden, bottleneck=s.bottleneck, outputs=s.outputs
            )
        self.teacher_backbone = parts.frozen_copy(backbone)
        self.teacher_head = parts.frozen_copy(self.head)
        self.register_buffer("centre", torch.zeros(s.outputs))
        self._pending: list[Tensor] = []
        self.on_step(0)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`."""
        s = self.settings
        views = self.views(batch["tiles"], batch["u"])
        scores_VBK = self.head(parts.by_size(self.backbone, views))
        with torch.no_grad():
            taught_GBK = self.teacher_head(parts.by_size(self.teacher_backbone, views[: s.global_views]))
            mean_K = parts.joint_mean(taught_GBK.flatten(0, 1).float())
        p_GBK = targets(taught_GBK, self.centre, temperature=self._temperature)
        if self.training:
            self._pending.append(mean_K)
        loss = cross_entropy(scores_VBK, p_GBK, temperature=s.student_temperature)
        return {"loss": loss, "teacher_mean": mean_K.norm()}

    def on_step(self, step: int) -> None:
        """Sets the teacher's temperature and momentum."""
        s = self.settings
        self._step = step
        self._momentum = parts.cosine(s.momentum, 1.0, step=step, steps=self.steps)
        self._temperature = warm_temperature(
            step,
            start=s.teacher_temperature_start,
            end=s.teacher_temperature,
            warmup=s.temperature_warmup,
            steps=self.steps,
        )

    def before_step(self) -> None:
        """Keeps the last layer as it is in the first steps, as the authors' code does."""
        if self._step < self.settings.freeze_last * self.steps:
            self.head.prototypes.grad = None

    def on_drop(self) -> None:
        """Forgets the scores of the dropped batch; teacher and centre wait."""
        self._pending.clear()

    def after_step(self) -> None:
        """Moves the teacher and the centre."""
        if self._pending:
            parts.follow(self.teacher_backbone, self.backbone, self._momentum)
            parts.follow(self.teacher_head, self.head, self._momentum)
            self.centre.lerp_(torch.stack(self._pending).mean(0), 1 - self.settings.centre_momentum)
        self._pending.clear()

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors without weight decay."""
        return parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine."""
        s = self.settings
        return parts.warmup_cosine(step, steps=self.steps, warmup=s.warmup, final=s.final_lr)

    def weight_decay_at(self, group: int, step: int) -> float | None:
        """Returns a cosine from the first weight decay to `Settings.weight_decay_end`; vectors have none."""
        if group == 1:
            return 0.0
        return parts.cosine(self.weight_decay, self.settings.weight_decay_end, step=step, steps=self.steps)
