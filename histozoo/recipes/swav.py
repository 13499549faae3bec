"""SwAV: views of one tile are assigned to the same prototypes, where the assignment spreads the batch evenly over all prototypes.

M. Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", NeurIPS 2020 (arXiv 2006.09882). With unit
vectors z, unit prototypes c_k, scores s = z . c and codes q of the global views by Sinkhorn-Knopp (equations 2 to 4, appendix A):

    loss = mean over global g, other views v of  mean over tiles of  -sum_k q_gk log softmax(s_v / tau)_k
    q = N * diag(u) exp(s / epsilon) diag(v),  rows sum to 1 (last), columns to N / K

Invariances: one number added to all scores of a global view (codes), a permutation of the prototypes, the order of the tiles.
Shapes: B tiles of this process, N rows of all processes, V views, G global views (first in V), D features, K prototypes, Q queued vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, setting
from histozoo.recipes import parts, refusals
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.dino import cross_entropy
from histozoo.recipes.presets import PAPER, SMALL


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper, appendix A: 3000 prototypes, temperature 0.1, epsilon 0.05, 3 rounds, heads of 2048 and 128.

    The authors' scripts: prototypes frozen for the first 313 steps, end of the cosine at a thousandth of the rate, warm-up of 10 of 800
    epochs (theirs begins at 0.3 of 4.8, ours at 0). `queue`: vectors kept per global view, 3840 for small batches, used from `queue_from`
    (epoch 15 of 200) on; 0 has none.
    """

    alone: ClassVar[str] = (
        "it spreads the tiles of a batch over its prototypes, and its head standardises each feature over the batch"
    )
    prototypes: int = setting(3000, Range(least=2))
    hidden: int = setting(2048, COUNT)
    outputs: int = setting(128, COUNT)
    temperature: float = setting(0.1, POSITIVE)
    epsilon: float = setting(0.05, POSITIVE)
    rounds: int = setting(3, COUNT)
    queue: int = setting(0, NOT_NEGATIVE)
    queue_from: float = setting(15 / 200, SHARE)
    freeze_steps: int = setting(313, NOT_NEGATIVE)
    warmup: float = setting(10 / 800, SHARE)
    final_lr: float = setting(0.001, SHARE)
    global_views: int = setting(2, Range(least=1, most=2))


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "lars", "lr": 4.8, "weight_decay": 1e-6, "batch_size": 4096, "steps": 250_000,
        "views": {"local_views": 6, "local_px": 96},
    },
    "small": {
        **SMALL, "objective": {"prototypes": 256, "hidden": 512, "freeze_steps": 0},
        "views": {"local_views": 2, "local_px": 48},
    },
}  # fmt: skip
"""`paper`: appendix A, 800 epochs of ImageNet."""


@torch.no_grad()
@parts.full_precision
def sinkhorn(scores_BK: Tensor, *, epsilon: float, rounds: int) -> Tensor:
    """Returns this process's rows of the assignment of the joint batch; each row sums to 1.

    Processes may hold different numbers of rows, none included. The largest score is taken off first: it changes nothing but overflow.
    """
    largest = torch.cat([scores_BK.flatten(), scores_BK.new_full((1,), float("-inf"))]).max()
    if dist.is_initialized():
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    q_BK = torch.exp((scores_BK - largest) / epsilon)
    for _ in range(rounds):
        q_BK = q_BK / parts.joint_sum(q_BK.sum(0)).clamp(min=torch.finfo(q_BK.dtype).tiny)
        q_BK = q_BK / q_BK.sum(1, keepdim=True)
    return q_BK


class SwAV(Recipe):
    """Trunk, projector, prototypes, and the queue of earlier vectors.

    Args:
        backbone: timm model with `num_classes=0`; its output is `[B, D]`.
        views: Gives the global views, then any number of local crops.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels; 1e-6 in the paper.
        seed: Of the first weights of projector and prototypes.
    """

    queue_GQD: Tensor
    queued: Tensor

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
        refusals.check(backbone, views, name="swav", least=max(2, settings.global_views))
        self.backbone, self.views, self.settings = backbone, views, settings
        self.uniforms = views.uniforms
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        s = settings
        with parts.seeded(seed):
            self.projector = parts.mlp((parts.width(backbone), s.hidden, s.outputs))
            self.prototypes = nn.Parameter(F.normalize(torch.randn(s.prototypes, s.outputs), dim=1))
        if s.queue:
            self.register_buffer("queue_GQD", torch.zeros(s.global_views, s.queue, s.outputs))
            self.register_buffer("queued", torch.zeros((), dtype=torch.int64))
        self._pending: list[Tensor] = []
        self._step = 0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`."""
        s = self.settings
        f_VBD = parts.by_size(self.backbone, self.views(batch["tiles"], batch["u"]))
        z_VBD = F.normalize(self.projector(f_VBD.flatten(0, 1)), dim=1).view(*f_VBD.shape[:2], -1)
        scores_VBK = F.linear(z_VBD, self.prototypes)
        q_GBK = self._codes(scores_VBK[: s.global_views].detach())
        if self.training:
            kept = z_VBD[: s.global_views].detach().float()
            self._pending.append(torch.stack([parts.gather(z_BD) for z_BD in kept]) if s.queue else kept)
        return {"loss": cross_entropy(scores_VBK, q_GBK, temperature=s.temperature)}

    def _codes(self, scores_GBK: Tensor) -> Tensor:
        """Returns the codes of each global view, helped by the queue once it is full and its time has come."""
        s, rows = self.settings, scores_GBK.shape[1]
        helped = s.queue > 0 and self._step >= s.queue_from * self.steps and int(self.queued) >= s.queue
        codes = []
        for view, scores_BK in enumerate(scores_GBK):
            if helped:
                # Every process holds the same queue: each takes its share, so that the joint problem holds each vector once.
                share_QD = self.queue_GQD[view].tensor_split(parts.world())[parts.first_row(1)]
                scores_BK = torch.cat([scores_BK, share_QD @ self.prototypes.detach().float().T])
            codes.append(sinkhorn(scores_BK, epsilon=s.epsilon, rounds=s.rounds)[:rows])
        return torch.stack(codes)

    def on_step(self, step: int) -> None:
        """Notes the step."""
        self._step = step

    def before_step(self) -> None:
        """Keeps the prototypes as they are in the first steps."""
        if self._step < self.settings.freeze_steps:
            self.prototypes.grad = None

    def on_drop(self) -> None:
        """Forgets the vectors of the dropped batch."""
        self._pending.clear()

    @torch.no_grad()
    def after_step(self) -> None:
        """Brings the prototypes back to unit length and puts the step's vectors in front of the queue."""
        if self._pending:
            self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        for z_GND in self._pending if self.settings.queue else ():
            size = self.settings.queue
            self.queue_GQD.copy_(torch.cat([z_GND, self.queue_GQD], dim=1)[:, :size])
            self.queued.copy_((self.queued + z_GND.shape[1]).clamp(max=size))
        self._pending.clear()

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors without weight decay and LARS scaling."""
        return parts.param_groups([self], lr=self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to a thousandth."""
        s = self.settings
        return parts.warmup_cosine(step, steps=self.steps, warmup=s.warmup, final=s.final_lr)
