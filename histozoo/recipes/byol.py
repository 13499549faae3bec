"""BYOL: from one view, predict what a slowly moving copy of the network says of the other view. No negatives.

J.-B. Grill et al., "Bootstrap your own latent: a new approach to self-supervised learning", NeurIPS 2020 (arXiv 2006.07733). With the
prediction q of one view and the teacher's projection k of the other (equation 2, both ways summed):

    loss = mean over tiles of (2 - 2 cos(q_1, k_2)) + (2 - 2 cos(q_2, k_1))
    teacher <- m * teacher + (1 - m) * student,  m = 1 - (1 - m_0) (cos(pi * step / steps) + 1) / 2

Invariances: the length of q and of k, a rotation of both, the swap of the views. No gradient reaches the teacher.
Shapes: B tiles of this process, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.ranges import COUNT, SHARE, setting
from histozoo.recipes import parts, refusals
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.presets import PAPER, SMALL


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper, section 3.3: heads of 4096 and 256, m_0 = 0.996, warm-up of 10 of 1000 epochs."""

    alone: ClassVar[str] = "its heads standardise each feature over the batch"
    momentum: float = setting(0.996, SHARE)
    hidden: int = setting(4096, COUNT)
    outputs: int = setting(256, COUNT)
    warmup: float = setting(0.01, SHARE)


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "lars", "lr": 3.2, "weight_decay": 1.5e-6, "batch_size": 4096, "steps": 312_500,
        "views": {"asymmetric": True},
    },
    "small": {
        **SMALL, "objective": {"hidden": 1024, "outputs": 128, "momentum": 0.99}, "views": {"asymmetric": True},
    },
}  # fmt: skip
"""`paper`: section 3.3, rate 0.2 for 256 tiles, 1000 epochs of ImageNet. `small`: a short run wants a faster teacher, as the
paper's own ablations over 300 epochs have it (m_0 = 0.99)."""


@parts.full_precision
def regression(q_BD: Tensor, k_BD: Tensor) -> Tensor:
    """Returns the mean squared distance of the unit vectors; its mean over the processes is that of the joint batch."""
    q_BD, k_BD = F.normalize(q_BD, dim=1), F.normalize(k_BD, dim=1)
    return (2 - 2 * (q_BD * k_BD).sum(1)).mean()


class BYOL(Recipe):
    """Trunk, projector, predictor, and a teacher of trunk and projector.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives two views.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels; 1.5e-6 in the paper.
        seed: Of the heads' first weights.
    """

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
        refusals.check(backbone, views, name="byol", least=2, most=2)
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        s = settings
        with parts.seeded(seed):
            self.projector = parts.mlp((parts.width(backbone), s.hidden, s.outputs))
            self.predictor = parts.mlp((s.outputs, s.hidden, s.outputs))
        self.teacher_backbone = parts.frozen_copy(backbone)
        self.teacher_projector = parts.frozen_copy(self.projector)
        self._momentum, self._pending = s.momentum, False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`."""
        x_1, x_2 = self.views(batch["tiles"], batch["u"])
        q_1, q_2 = (self.predictor(self.projector(self.backbone(x))) for x in (x_1, x_2))
        with torch.no_grad():
            k_1, k_2 = (self.teacher_projector(self.teacher_backbone(x)) for x in (x_1, x_2))
        self._pending = self._pending or self.training
        return {"loss": regression(q_1, k_2) + regression(q_2, k_1)}

    def on_step(self, step: int) -> None:
        """Sets the teacher's momentum, a cosine from `Settings.momentum` to 1."""
        self._momentum = parts.cosine(self.settings.momentum, 1.0, step=step, steps=self.steps)

    def on_drop(self) -> None:
        """The teacher waits where the student did not move."""
        self._pending = False

    def after_step(self) -> None:
        """Moves the teacher."""
        if self._pending:
            parts.follow(self.teacher_backbone, self.backbone, self._momentum)
            parts.follow(self.teacher_projector, self.projector, self._momentum)
        self._pending = False

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors without weight decay and LARS scaling, section 3.3."""
        return parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        return parts.warmup_cosine(step, steps=self.steps, warmup=self.settings.warmup)
