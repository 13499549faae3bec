"""iBOT and DINOv2: DINO, and the same game with the tokens that were hidden from the student, and features kept apart.

J. Zhou et al., "iBOT: image BERT pre-training with online tokenizer", ICLR 2022 (arXiv 2111.07832); M. Oquab et al., "DINOv2: learning
robust visual features without supervision", TMLR 2024 (arXiv 2304.07193), section 4. The student sees the global crops with some tokens
replaced by a learned one, the teacher sees them whole:

    loss = dino(crops) + mean over global crops of [ mean over hidden tokens of -sum_k p_k log softmax(s / tau_s)_k ] + 0.1 koleo
    koleo = sum over global crops of  -mean over i of log( min over j != i of |f_i - f_j| + 1e-8 ),   f of unit length

p are the teacher's scores after Sinkhorn-Knopp (DINOv2) or after an exponential centre (iBOT). A crop without hidden tokens counts as 0 in
the mean, as in the authors' code. Not taken over: layer-wise decay of the learning rate, and its fifth for the patch embedding. Vision
transformers only: a convolution would see across the gaps.

Invariances: those of DINO; the loss of tokens that were not hidden; koleo: length of a vector, a rotation.
Shapes: B tiles, V crops, G global crops (first in V), L tokens, M hidden tokens, D features, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.experiment_values import wrong
from histozoo.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, setting
from histozoo.recipes import parts, refusals, vit
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.dino import cross_entropy, targets, warm_temperature
from histozoo.recipes.presets import PAPER, SMALL
from histozoo.recipes.swav import sinkhorn


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the default file of DINOv2's code, but for Sinkhorn-Knopp and a head of their own for tokens.

    These two are of the paper, section 4, and of its configurations for larger models; the file's `centring="ema"` and `shared_head=True`
    are iBOT's. Masks: half of the crops, 10 to 50 % of their tokens. Teacher's temperature 0.04 to 0.07 over 30 of 100 epochs, momentum
    0.992 to 1, weight decay 0.04 to 0.4, learning rate 0.004 with warm-up of 10 of 100 epochs to an end at 1e-6.
    """

    outputs: int = setting(65536, Range(least=2))
    hidden: int = setting(2048, COUNT)
    bottleneck: int = setting(256, COUNT)
    shared_head: bool = False
    centring: Literal["sinkhorn", "ema"] = "sinkhorn"
    rounds: int = setting(3, COUNT)
    student_temperature: float = setting(0.1, POSITIVE)
    teacher_temperature: float = setting(0.07, POSITIVE)
    teacher_temperature_start: float = setting(0.04, POSITIVE)
    temperature_warmup: float = setting(0.3, SHARE)
    momentum: float = setting(0.992, SHARE)
    centre_momentum: float = setting(0.9, SHARE)
    mask_probability: float = setting(0.5, SHARE)
    mask_low: float = setting(0.1, SHARE)
    mask_high: float = setting(0.5, SHARE)
    token_weight: float = setting(1.0, NOT_NEGATIVE)
    koleo_weight: float = setting(0.1, NOT_NEGATIVE)
    weight_decay_end: float = setting(0.4, NOT_NEGATIVE)
    freeze_last: float = setting(0.01, SHARE)
    warmup: float = setting(0.1, SHARE)
    final_lr: float = setting(0.00025, SHARE)
    global_views: int = setting(2, Range(least=1, most=2))

    @property
    def alone(self) -> str:
        """Why a batch cannot be one tile, if the settings say so."""
        if self.centring == "sinkhorn":
            return "centring = 'sinkhorn' spreads the tiles of a batch over its outputs"
        return "its koleo term keeps a tile from the others of its batch" if self.koleo_weight else ""

    def __post_init__(self) -> None:
        if self.mask_low > self.mask_high:
            raise wrong("mask_low", self.mask_low, f"at most mask_high = {self.mask_high:g}", "objective")


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "adamw", "lr": 4e-3, "weight_decay": 0.04, "max_grad_norm": 3.0, "batch_size": 1024,
        "steps": 125_000, "views": {"local_views": 8, "local_px": 96, "asymmetric": True},
    },
    "small": {
        **SMALL, "weight_decay": 0.04,
        "objective": {"outputs": 1024, "hidden": 512, "bottleneck": 128, "momentum": 0.99},
        "views": {"local_views": 2, "local_px": 48, "asymmetric": True},
    },
}  # fmt: skip
"""`paper`: the default file of DINOv2's code, rate 0.004 for 1024 tiles."""


@parts.full_precision
def token_loss(scores_MK: Tensor, p_MK: Tensor, hidden_BL: Tensor, *, temperature: float) -> Tensor:
    """Returns the mean over crops of the mean over their hidden tokens; its mean over the processes is that of the joint batch."""
    loss_M = -(p_MK * torch.log_softmax(scores_MK / temperature, dim=-1)).sum(-1)
    count_B = hidden_BL.sum(1, keepdim=True).clamp(min=1)
    weight_M = (1 / count_B.to(loss_M.dtype)).expand_as(hidden_BL)[hidden_BL]
    return (loss_M * weight_M).sum() / len(hidden_BL)


@parts.full_precision
def koleo(f_BD: Tensor) -> Tensor:
    """Returns minus the mean log distance to the nearest other tile of all processes (Sablayrolles et al., arXiv 1806.03198)."""
    f_BD = F.normalize(f_BD, dim=1)
    f_ND = parts.gather(f_BD)
    with torch.no_grad():
        own_B = torch.arange(len(f_BD), device=f_BD.device) + parts.first_row(len(f_BD))
        nearest_B = (f_BD @ f_ND.T).scatter(1, own_B[:, None], float("-inf")).argmax(1)
    return -torch.log((f_BD - f_ND[nearest_B]).norm(dim=1) + 1e-8).mean()


class IBOT(Recipe):
    """Trunk, heads of features and tokens, the token that hides, and a teacher of trunk and heads.

    Args:
        backbone: A `VisionTransformer` of timm with `num_classes=0`; `dynamic_img_size=True` where local crops are smaller.
        views: Gives the global crops, then any number of local ones.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels at the start.
        seed: Of the heads' first weights.
    """

    centre: Tensor
    token_centre: Tensor

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
        self.check_backbone(backbone)
        refusals.check(backbone, views, name="ibot", least=max(2, settings.global_views))
        self.rows, self.columns = vit.grid(backbone, refusals.sides(views)[0])
        self.backbone, self.views, self.settings = backbone, views, settings
        self.per_mask = vit.mask_uniforms(self.rows * self.columns)
        self.uniforms = views.uniforms + settings.global_views * self.per_mask
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        with parts.seeded(seed):
            names = ("crop",) if settings.shared_head else ("crop", "token")
            self.heads = nn.ModuleDict({name: self._new_head() for name in names})
        self.mask_token = nn.Parameter(torch.zeros(parts.width(backbone)))
        self.teacher_backbone = parts.frozen_copy(backbone)
        self.teacher_heads = parts.frozen_copy(self.heads)
        for name in ("centre", "token_centre") if settings.centring == "ema" else ():
            self.register_buffer(name, torch.zeros(settings.outputs))
        self._token = names[-1]
        self._pending: list[Tensor] = []
        self.on_step(0)

    def _new_head(self) -> parts.PrototypeHead:
        s = self.settings
        return parts.PrototypeHead(
            parts.width(self.backbone), hidden=s.hidden, bottleneck=s.bottleneck, outputs=s.outputs
        )

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """Refuses what is no plain vision transformer (`HZ-U87`)."""
        vit.require(backbone, name="ibot")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`, and its three terms."""
        s, g = self.settings, self.settings.global_views
        views = self.views(batch["tiles"], batch["u"][:, : self.views.uniforms])
        x = torch.cat(views[:g])
        hidden_BL = self._masks(batch["u"][:, self.views.uniforms : self.uniforms].to(x.device))
        f_BD, tokens_BLD = vit.features_and_grid(
            self.backbone, vit.embed(self.backbone, x, hidden_BL=hidden_BL, instead_D=self.mask_token)
        )
        f_GBD = f_BD.view(g, -1, f_BD.shape[1])
        f_VBD = torch.cat([f_GBD, parts.by_size(self.backbone, views[g:])]) if views[g:] else f_GBD
        p_GBK, p_MK, mean_2K = self._taught(x, hidden_BL)
        if self.training:
            self._pending.append(mean_2K)
        dino = cross_entropy(self.heads["crop"](f_VBD), p_GBK, temperature=s.student_temperature)
        scores_MK = self.heads[self._token](tokens_BLD[hidden_BL])
        token = token_loss(scores_MK, p_MK, hidden_BL, temperature=s.student_temperature)
        apart = torch.stack([koleo(f) for f in f_GBD]).sum()
        terms = {"loss_dino": dino, "loss_token": token, "loss_koleo": apart, "teacher_mean": mean_2K.norm()}
        loss = dino + s.token_weight * token + s.koleo_weight * apart
        return {"loss": loss, **{k: v.detach() for k, v in terms.items()}}

    def _masks(self, u_BP: Tensor) -> Tensor:
        """Returns the hidden tokens of the global crops, crop after crop."""
        s = self.settings
        u = torch.cat(u_BP.split(self.per_mask, dim=1))  # type: ignore[no-untyped-call]
        return vit.masks(
            u,
            rows=self.rows,
            columns=self.columns,
            probability=s.mask_probability,
            low=s.mask_low,
            high=s.mask_high,
        )

    @torch.no_grad()
    def _taught(self, x: Tensor, hidden_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the teacher's probabilities of crops `[G, B, K]` and hidden tokens `[M, K]`, and both joint means `[2, K]`."""
        s, backbone, heads = self.settings, self.teacher_backbone, self.teacher_heads
        f_BD, tokens_BLD = vit.features_and_grid(backbone, vit.embed(backbone, x))
        scores = heads.get_submodule("crop")(f_BD)
        token_scores = heads.get_submodule(self._token)(tokens_BLD[hidden_BL])
        if s.centring == "sinkhorn":
            p, token_p = (
                sinkhorn(t, epsilon=self._temperature, rounds=s.rounds) for t in (scores, token_scores)
            )
        else:
            p = targets(scores, self.centre, temperature=self._temperature)
            token_p = targets(token_scores, self.token_centre, temperature=self._temperature)
        means = torch.stack([parts.joint_mean(t.float()) for t in (scores, token_scores)])
        return p.view(s.global_views, -1, s.outputs), token_p, means

    # -- hooks of the engine ---------------------------------------------------------------------------------------------------------

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
        """Keeps the last layers as they are in the first steps."""
        if self._step < self.settings.freeze_last * self.steps:
            for head in self.heads.values():
                head.prototypes.grad = None

    def on_drop(self) -> None:
        """Forgets the scores of the dropped batch; teacher and centres wait."""
        self._pending.clear()

    def after_step(self) -> None:
        """Moves the teacher and the centres."""
        if not self._pending:
            return
        parts.follow(self.teacher_backbone, self.backbone, self._momentum)
        parts.follow(self.teacher_heads, self.heads, self._momentum)
        if self.settings.centring == "ema":
            mean, token_mean = torch.stack(self._pending).mean(0)
            self.centre.lerp_(mean, 1 - self.settings.centre_momentum)
            self.token_centre.lerp_(token_mean, 1 - self.settings.centre_momentum)
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
