"""Barlow Twins: the features of two views are the same where they are one feature and uncorrelated where they are two.

J. Zbontar, L. Jing, I. Misra, Y. LeCun, S. Deny, "Barlow Twins: self-supervised learning via redundancy reduction", ICML 2021
(arXiv 2103.03230). With features standardised over the N tiles of the batch and C = A^T B / N (equations 1 and 2):

    loss = sum over i of (1 - C_ii)^2  +  lambda * sum over i != j of C_ij^2

Invariances: shift and scale of every feature, the order of the tiles, one permutation of the features of both views, the swap of the views.
Shapes: B tiles of this process, N tiles of all processes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from histozoo.ranges import COUNT, NOT_NEGATIVE, SHARE, setting
from histozoo.recipes import parts, refusals
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.presets import PAPER, SMALL

EPSILON = 1e-5
"""Added to the variance, as by the batch norm of the authors' code."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper, section 2.2: three layers of 8192, warm-up of 10 of 1000 epochs, end at a thousandth of the rate.

    Biases and norms have their own rate there, 0.0048 beside 0.2 for weights. Lambda is that of the authors' code, 0.0051; the paper says
    0.005.
    """

    alone: ClassVar[str] = "its correlations are taken over the tiles of a batch"
    off_diagonal: float = setting(0.0051, NOT_NEGATIVE)
    hidden: int = setting(8192, COUNT)
    outputs: int = setting(8192, COUNT)
    warmup: float = setting(0.01, SHARE)
    final_lr: float = setting(0.001, SHARE)
    vector_lr: float = setting(0.0048 / 0.2, NOT_NEGATIVE)


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "lars", "lr": 1.6, "weight_decay": 1e-6, "batch_size": 2048, "steps": 625_000,
        "views": {"asymmetric": True},
    },
    "small": {**SMALL, "objective": {"hidden": 1024, "outputs": 1024}, "views": {"asymmetric": True}},
}  # fmt: skip
"""`paper`: section 2.2, rate 0.2 for 256 tiles, 1000 epochs of ImageNet; weight decay as in the authors' code, 1e-6, where the paper has
1.5e-6."""


@parts.full_precision
def correlation(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Returns the cross-correlation `[D, D]` of the joint batch."""
    a_ND, b_ND = parts.gather(a_BD), parts.gather(b_BD)

    def standard(x_ND: Tensor) -> Tensor:
        var_D, mean_D = torch.var_mean(x_ND, dim=0, correction=0)
        return (x_ND - mean_D) * torch.rsqrt(var_D + EPSILON)

    return standard(a_ND).T @ standard(b_ND) / len(a_ND)


def terms(a_BD: Tensor, b_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the invariance and the redundancy term, the second not yet weighted."""
    c_DD = correlation(a_BD, b_BD)
    diagonal_D = c_DD.diagonal()
    return (1 - diagonal_D).square().sum(), (c_DD - torch.diag(diagonal_D)).square().sum()


class Barlow(Recipe):
    """Trunk and projector.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives two views.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate of the matrices.
        weight_decay: Of matrices and kernels; 1.5e-6 in the paper, 1e-6 in the authors' code.
        seed: Of the projector's first weights.
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
        refusals.check(backbone, views, name="barlow", least=2, most=2)
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        s = settings
        with parts.seeded(seed):
            sizes = (parts.width(backbone), s.hidden, s.hidden, s.outputs)
            self.projector = parts.mlp(sizes, last_bias=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`, and its two terms."""
        a_BD, b_BD = (self.projector(self.backbone(x)) for x in self.views(batch["tiles"], batch["u"]))
        invariance, redundancy = terms(a_BD, b_BD)
        loss = invariance + self.settings.off_diagonal * redundancy
        return {
            "loss": loss,
            "loss_invariance": invariance.detach(),
            "loss_redundancy": redundancy.detach(),
        }

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors at their own rate, without weight decay and LARS scaling."""
        groups = parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)
        groups[1]["lr"] = self.lr * self.settings.vector_lr
        return groups

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to a thousandth."""
        s = self.settings
        return parts.warmup_cosine(step, steps=self.steps, warmup=s.warmup, final=s.final_lr)
