"""VICReg: two views have near features, every feature varies over the batch, and no two features say the same.

A. Bardes, J. Ponce, Y. LeCun, "VICReg: variance-invariance-covariance regularization for self-supervised learning", ICLR 2022
(arXiv 2105.04906), equations 1 to 6, with the constants of the authors' code (the mean over features in the invariance, half of each
view's variance term), to which the published weights belong:

    invariance = mean over n and d of (a_nd - b_nd)^2
    variance   = 1/2 mean over d of relu(1 - sqrt(var(a_d) + 1e-4))  +  the same of b
    covariance = 1/D sum over i != j of cov(a)_ij^2                  +  the same of b
    loss = 25 invariance + 25 variance + 1 covariance

Variance and covariance divide by N - 1. Invariances: the order of the tiles, the swap of the views, one shift of both views.
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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper, section 4.2 and appendix D: weights 25, 25, 1; three layers of 8192; warm-up of 10 of 1000 epochs.

    `final_lr`: the paper's cosine ends at 0.002, a hundredth of the base rate 0.2; that of the authors' code at a thousandth.
    """

    alone: ClassVar[str] = "its variances and covariances are taken over the tiles of a batch"
    invariance: float = setting(25.0, NOT_NEGATIVE)
    variance: float = setting(25.0, NOT_NEGATIVE)
    covariance: float = setting(1.0, NOT_NEGATIVE)
    hidden: int = setting(8192, COUNT)
    outputs: int = setting(8192, COUNT)
    warmup: float = setting(0.01, SHARE)
    final_lr: float = setting(0.01, SHARE)


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "lars", "lr": 1.6, "weight_decay": 1e-6, "batch_size": 2048, "steps": 625_000,
        "views": {"asymmetric": True},
    },
    "small": {**SMALL, "objective": {"hidden": 1024, "outputs": 1024}, "views": {"asymmetric": True}},
}  # fmt: skip
"""`paper`: section 4.2, rate 0.2 for 256 tiles, 1000 epochs of ImageNet."""


def _spread(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the variance and the covariance term of one view."""
    x_ND = x_ND - x_ND.mean(0)
    cov_DD = x_ND.T @ x_ND / (len(x_ND) - 1)
    var_D = cov_DD.diagonal()
    variance = torch.relu(1 - (var_D + 1e-4).sqrt()).mean() / 2
    return variance, (cov_DD - torch.diag(var_D)).square().sum() / x_ND.shape[1]


@parts.full_precision
def terms(a_BD: Tensor, b_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns invariance, variance and covariance of the joint batch, none weighted."""
    a_ND, b_ND = parts.gather(a_BD), parts.gather(b_BD)
    variance_a, covariance_a = _spread(a_ND)
    variance_b, covariance_b = _spread(b_ND)
    return (a_ND - b_ND).square().mean(), variance_a + variance_b, covariance_a + covariance_b


class VICReg(Recipe):
    """Trunk and expander.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives two views.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels; 1e-6 in the paper.
        seed: Of the expander's first weights.
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
        refusals.check(backbone, views, name="vicreg", least=2, most=2)
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        s = settings
        with parts.seeded(seed):
            sizes = (parts.width(backbone), s.hidden, s.hidden, s.outputs)
            self.projector = parts.mlp(sizes, last_bias=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`, and its three terms."""
        a_BD, b_BD = (self.projector(self.backbone(x)) for x in self.views(batch["tiles"], batch["u"]))
        invariance, variance, covariance = terms(a_BD, b_BD)
        s = self.settings
        return {
            "loss": s.invariance * invariance + s.variance * variance + s.covariance * covariance,
            "loss_invariance": invariance.detach(),
            "loss_variance": variance.detach(),
            "loss_covariance": covariance.detach(),
        }

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors without weight decay and LARS scaling."""
        return parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to a hundredth."""
        s = self.settings
        return parts.warmup_cosine(step, steps=self.steps, warmup=s.warmup, final=s.final_lr)
