"""MoCo: one view's query is found among the keys that a slowly moving copy of the network makes of the other views.

Version 3 (`queue = 0`): X. Chen, S. Xie, K. He, "An empirical study of training self-supervised vision transformers", ICCV 2021
(arXiv 2104.02057), algorithm 1. Keys are those of the joint batch, both ways, a predictor on the query's side:

    loss = ctr(q_1, k_2) + ctr(q_2, k_1),   ctr(q, k) = 2 tau * mean over i of -log softmax_j(q_i . k_j / tau) at j = i

Version 2 (`queue > 0`): K. He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020 (arXiv 1911.05722),
algorithm 1, and X. Chen et al., "Improved baselines with momentum contrastive learning", 2020 (arXiv 2003.04297). One way, no predictor,
negatives from a queue of earlier keys: loss = mean over i of -log softmax([q_i . k_i, q_i . queue] / tau) at 0.

Invariances: the length of q and k, a rotation of both (and the queue); version 3: the swap of the views; version 2: the order of the queue.
Shapes: B tiles of this process, N tiles of all processes, D features, Q keys in the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, setting
from histozoo.recipes import parts, refusals
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.presets import PAPER, SMALL


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of version 3 for vision transformers, section 4: temperature 0.2, heads of 4096 and 256, momentum 0.99 to 1.

    The frozen random first layer of a ViT is section 4.2; the warm-up lasts 40 of 300 epochs. Version 3 with ResNet-50: temperature 1,
    `projector_layers` 2. Version 2: see `VERSION_2`.
    """

    temperature: float = setting(0.2, POSITIVE)
    momentum: float = setting(0.99, SHARE)
    momentum_end: float = setting(1.0, SHARE)
    hidden: int = setting(4096, COUNT)
    outputs: int = setting(256, COUNT)
    projector_layers: int = setting(3, COUNT)
    queue: int = setting(0, NOT_NEGATIVE)
    freeze_patch_embed: bool = True
    warmup: float = setting(40 / 300, SHARE)

    @property
    def alone(self) -> str:
        """Why a batch cannot be one tile: keys are the batch's in version 3, the queue's in version 2."""
        return "" if self.queue else "it finds a tile's other view among those of other tiles"


VERSION_2: dict[str, Any] = {
    "temperature": 0.2,
    "momentum": 0.999,
    "momentum_end": 0.999,
    "hidden": 2048,
    "outputs": 128,
    "projector_layers": 2,
    "queue": 65536,
    "freeze_patch_embed": False,
    "warmup": 0.0,
}
"""`Settings(**VERSION_2)`: the values of arXiv 2003.04297 (SGD, learning rate 0.03, weight decay 1e-4, cosine schedule)."""

PRESETS = {
    "paper": {
        **PAPER, "optimizer": "adamw", "lr": 2.4e-3, "weight_decay": 0.1, "batch_size": 4096, "steps": 93_750,
        "views": {"asymmetric": True},
    },
    "queue": {
        **PAPER, "optimizer": "sgd", "lr": 0.03, "weight_decay": 1e-4, "batch_size": 256, "steps": 1_000_000, "objective": VERSION_2,
    },
    "small": {**SMALL, "objective": {"hidden": 1024}, "views": {"asymmetric": True}},
}  # fmt: skip
"""`paper`: version 3, section 4 and 5, rate 1.5e-4 for 256 tiles, 300 epochs of ImageNet. `queue`: version 2, 200 epochs."""


@parts.full_precision
def in_batch(q_BD: Tensor, k_BD: Tensor, *, temperature: float) -> Tensor:
    """Returns version 3's ctr(q, k) against the keys of all processes; its mean over the processes is that of the joint batch."""
    q_BD, k_ND = F.normalize(q_BD, dim=1), parts.gather(F.normalize(k_BD, dim=1))
    own = torch.arange(len(q_BD), device=q_BD.device) + parts.first_row(len(q_BD))
    return 2 * temperature * F.cross_entropy(q_BD @ k_ND.T / temperature, own)


@parts.full_precision
def with_queue(q_BD: Tensor, k_BD: Tensor, queue_QD: Tensor, *, temperature: float) -> Tensor:
    """Returns version 2's loss; the queue holds unit vectors."""
    q_BD, k_BD = F.normalize(q_BD, dim=1), F.normalize(k_BD, dim=1)
    scores = torch.cat([(q_BD * k_BD).sum(1, keepdim=True), q_BD @ queue_QD.T], dim=1)
    first = torch.zeros(len(q_BD), dtype=torch.int64, device=q_BD.device)
    return F.cross_entropy(scores / temperature, first)


@torch.no_grad()
def enqueue(queue_QD: Tensor, end: Tensor, keys_ND: Tensor) -> None:
    """Writes keys over the oldest ones, round and round.

    Args:
        queue_QD: Changed in place.
        end: int64 scalar, where the next key goes; changed in place.
        keys_ND: In order; of more than Q keys the last Q stay.
    """
    size = len(queue_QD)
    at = (end + torch.arange(len(keys_ND), device=queue_QD.device)) % size
    queue_QD[at[-size:]] = keys_ND[-size:].to(queue_QD.dtype)
    end.copy_((end + len(keys_ND)) % size)


class MoCo(Recipe):
    """Trunk, projector, predictor (version 3), a teacher of trunk and projector, and the queue (version 2).

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives two views.
        settings: See `Settings` and `VERSION_2`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels; 0.1 with AdamW in version 3.
        seed: Of the heads' first weights and of the random keys that the queue starts with.
    """

    queue: Tensor
    queue_end: Tensor

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
        refusals.check(backbone, views, name="moco", least=2, most=2)
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        if settings.freeze_patch_embed and hasattr(backbone, "patch_embed"):
            backbone.patch_embed.requires_grad_(False)
        with parts.seeded(seed):
            self._build_heads(parts.width(backbone))
        self.teacher_backbone = parts.frozen_copy(backbone)
        self.teacher_projector = parts.frozen_copy(self.projector)
        self._momentum = settings.momentum
        self._pending: list[Tensor] = []

    def _build_heads(self, features: int) -> None:
        s = self.settings
        sizes = (features, *[s.hidden] * (s.projector_layers - 1), s.outputs)
        version_3 = s.queue == 0
        self.projector = parts.mlp(sizes, norm=version_3, last_norm=version_3)
        if version_3:
            self.predictor: nn.Module = parts.mlp((s.outputs, s.hidden, s.outputs), last_norm=True)
            return
        self.predictor = nn.Identity()
        self.register_buffer("queue", F.normalize(torch.randn(s.queue, s.outputs), dim=1))
        self.register_buffer("queue_end", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`."""
        s = self.settings
        x_1, x_2 = self.views(batch["tiles"], batch["u"])
        if s.queue:
            loss, keys = self._one_way(x_1, x_2)
        else:
            q_1, q_2 = self._query(x_1), self._query(x_2)
            k_1, k_2 = self._key(x_1), self._key(x_2)
            loss = in_batch(q_1, k_2, temperature=s.temperature)
            loss = loss + in_batch(q_2, k_1, temperature=s.temperature)
            keys = k_1
        if self.training:
            self._pending.append(keys)
        return {"loss": loss, "key_norm": keys.float().norm(dim=1).mean()}

    def _one_way(self, x_1: Tensor, x_2: Tensor) -> tuple[Tensor, Tensor]:
        q_BD, k_BD = self._query(x_1), self._key(x_2)
        loss = with_queue(q_BD, k_BD, self.queue, temperature=self.settings.temperature)
        return loss, F.normalize(parts.gather(k_BD).float(), dim=1)

    def _query(self, x_BCHW: Tensor) -> Tensor:
        q_BD: Tensor = self.predictor(self.projector(self.backbone(x_BCHW)))
        return q_BD

    @torch.no_grad()
    def _key(self, x_BCHW: Tensor) -> Tensor:
        k_BD: Tensor = self.teacher_projector(self.teacher_backbone(x_BCHW))
        return k_BD

    def on_step(self, step: int) -> None:
        """Sets the teacher's momentum, a cosine between its two ends."""
        s = self.settings
        self._momentum = parts.cosine(s.momentum, s.momentum_end, step=step, steps=self.steps)

    def on_drop(self) -> None:
        """Forgets the keys of the dropped batch; the teacher waits where the student did not move."""
        self._pending.clear()

    def after_step(self) -> None:
        """Moves the teacher and puts the step's keys into the queue."""
        if self._pending:
            parts.follow(self.teacher_backbone, self.backbone, self._momentum)
            parts.follow(self.teacher_projector, self.projector, self._momentum)
        for keys in self._pending if self.settings.queue else ():
            enqueue(self.queue, self.queue_end, keys)
        self._pending.clear()

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors without weight decay and LARS scaling."""
        return parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        return parts.warmup_cosine(step, steps=self.steps, warmup=self.settings.warmup)
