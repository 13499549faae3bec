"""SimCLR: two views of one tile are found among all other views of the batch.

T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A simple framework for contrastive learning of visual representations", ICML 2020
(arXiv 2002.05709). With unit vectors z of the 2N views of N tiles, tau the temperature and p(i) the other view of i's tile (equation 1):

    loss = mean over i of  -log( exp(z_i . z_p(i) / tau) / sum over k != i of exp(z_i . z_k / tau) )

Invariances: the length of a vector, the order of the tiles, the swap of the two views, a rotation of all vectors.
Shapes: B tiles of this process, N tiles of all processes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.ranges import COUNT, POSITIVE, SHARE, setting
from histozoo.recipes import parts, refusals
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.presets import PAPER, SMALL


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper: section 2.3 (2-layer head, 128 outputs, warm-up of 10 of 100 epochs), table 5 (temperature 0.1).

    Batch norm in the head, after its last layer too, is that of the authors' code.
    """

    alone: ClassVar[str] = "it finds a tile's other view among those of other tiles"
    temperature: float = setting(0.1, POSITIVE)
    hidden: int = setting(2048, COUNT)
    outputs: int = setting(128, COUNT)
    warmup: float = setting(0.1, SHARE)


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "lars", "lr": 4.8, "weight_decay": 1e-6, "batch_size": 4096, "steps": 31_250,
    },
    "small": {**SMALL, "objective": {"hidden": 512}},
}  # fmt: skip
"""`paper`: section 2.3, LARS with a rate of 0.3 for 256 tiles, 100 epochs of ImageNet."""


@parts.full_precision
def nt_xent(a_BD: Tensor, b_BD: Tensor, *, temperature: float) -> Tensor:
    """Returns the loss of this process's tiles among those of all processes; its mean over the processes is that of the joint batch."""
    a_BD, b_BD = F.normalize(a_BD, dim=1), F.normalize(b_BD, dim=1)
    a_ND, b_ND = parts.gather(a_BD), parts.gather(b_BD)
    rows = len(a_BD)
    own = torch.arange(rows, device=a_BD.device) + parts.first_row(rows)
    all_MD = torch.cat([a_ND, b_ND])
    scores = torch.cat([a_BD, b_BD]) @ all_MD.T / temperature
    itself = torch.cat([own, own + len(a_ND)])
    partner = torch.cat([own + len(a_ND), own])
    scores = scores.scatter(1, itself[:, None], float("-inf"))
    return F.cross_entropy(scores, partner)


class SimCLR(Recipe):
    """Trunk and projector.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives two views.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels.
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
        refusals.check(backbone, views, name="simclr", least=2, most=2)
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        with parts.seeded(seed):
            self.projector = parts.mlp(
                (parts.width(backbone), settings.hidden, settings.outputs), last_norm=True
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`."""
        views = self.views(batch["tiles"], batch["u"])
        f_VBD = parts.by_size(self.backbone, views)
        a_BD, b_BD = self.projector(f_VBD.flatten(0, 1)).chunk(2)
        return {"loss": nt_xent(a_BD, b_BD, temperature=self.settings.temperature)}

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors: no weight decay and no LARS scaling for biases and norms, as in the authors' code."""
        return parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        return parts.warmup_cosine(step, steps=self.steps, warmup=self.settings.warmup)
