"""Masked autoencoder: see a quarter of a tile's tokens, draw the rest.

K. He et al., "Masked autoencoders are scalable vision learners", CVPR 2022 (arXiv 2111.06377). Three quarters of the tokens are left out
(section 3, a uniform choice), the backbone sees the others; a small transformer receives them with a learned token in the gaps and
predicts each token's pixels, standardised within the token:

    loss = mean over hidden tokens of  mean over its pixels of (prediction - (x - mean(x)) / sqrt(var(x) + 1e-6))^2

Invariances: brightness and contrast of a token's target, the prediction at tokens that were shown, the order of the tiles. Vision
transformers only: a convolution would see across the gaps. The variance divides by the number of values - 1, as in the authors' code.

Shapes: B tiles, L tokens, M shown tokens, R prefix tokens, D features, E decoder features, S values in a token (3 * side^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from histozoo.experiment_values import wrong
from histozoo.ranges import BELOW_ONE, COUNT, SHARE, Range, setting
from histozoo.recipes import parts, refusals, vit
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.presets import PAPER, PLAIN, SMALL


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults of the paper, section 4.1: mask 0.75; decoder of 8 blocks, 512 wide, with the 16 heads of the authors' code.

    Appendix A.1: AdamW with betas 0.9 and 0.95, warm-up of 40 of 800 epochs.
    """

    alone: ClassVar[str] = ""
    mask: float = setting(0.75, Range(least=0, most=1, without_least=True, without_most=True))
    decoder_width: int = setting(512, COUNT)
    decoder_depth: int = setting(8, COUNT)
    decoder_heads: int = setting(16, COUNT)
    standardised: bool = True
    betas: tuple[float, float] = setting((0.9, 0.95), BELOW_ONE)
    warmup: float = setting(40 / 800, SHARE)

    def __post_init__(self) -> None:
        # A quarter each for sine and cosine of row and column, and an equal part for every head.
        if self.decoder_width % 4 or self.decoder_width % self.decoder_heads:
            expected = f"a multiple of 4 and of decoder_heads = {self.decoder_heads}"
            raise wrong("decoder_width", self.decoder_width, expected, "objective")


PRESETS = {
    "paper": {
        **PAPER, "optimizer": "adamw", "lr": 2.4e-3, "weight_decay": 0.05, "batch_size": 4096, "steps": 250_000,
        "views": {**PLAIN, "area": (0.2, 1.0)},
    },
    "small": {
        **SMALL, "objective": {"decoder_width": 192, "decoder_depth": 2, "decoder_heads": 3}, "views": PLAIN,
    },
}  # fmt: skip
"""`paper`: appendix A.1, table 8, rate 1.5e-4 for 256 tiles, 800 epochs of ImageNet."""


def pixels(x_BCHW: Tensor, side: int) -> Tensor:
    """Returns the pixels of each token `[B, L, 3 * side^2]`, tokens row by row."""
    b, c, h, w = x_BCHW.shape
    x = x_BCHW.reshape(b, c, h // side, side, w // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // side) * (w // side), side * side * c)


def standardise(target_BLS: Tensor) -> Tensor:
    """Returns each token's pixels with mean 0 and variance 1."""
    var, mean = torch.var_mean(target_BLS, dim=-1, keepdim=True)
    return (target_BLS - mean) / (var + 1e-6).sqrt()


@parts.full_precision
def reconstruction(guess_BLS: Tensor, target_BLS: Tensor, hidden_BL: Tensor) -> Tensor:
    """Returns the mean squared error over the hidden tokens; its mean over the processes is that of the joint batch."""
    error_BL = (guess_BLS - target_BLS).square().mean(-1)
    return (error_BL * hidden_BL).sum() / hidden_BL.sum()


def choose(u_BL: Tensor, shown: int) -> tuple[Tensor, Tensor]:
    """Returns which tokens are shown, int64 `[B, M]` in ascending order, and which are hidden, bool `[B, L]`.

    The tokens with the smallest numbers are shown: a uniform choice without replacement.
    """
    shown_BM = u_BL.argsort(dim=1, stable=True)[:, :shown].sort(dim=1).values
    hidden_BL = torch.ones_like(u_BL, dtype=torch.bool).scatter(1, shown_BM, False)
    return shown_BM, hidden_BL


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Returns sines and cosines of each grid position, `[rows * columns, width]`: half for the column, half for the row.

    Vaswani et al. 2017, section 3.5, in two dimensions as in the authors' code; `width` is a multiple of 4.
    """
    rate_F = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    y_L, x_L = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [a.flatten()[:, None] * rate_F for a in (x_L, y_L)]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()


class MAE(Recipe):
    """Trunk and decoder.

    Args:
        backbone: A `VisionTransformer` of timm with `num_classes=0`.
        views: Gives one view.
        settings: See `Settings`.
        steps: Steps of the run.
        lr: Highest learning rate.
        weight_decay: Of matrices and kernels; 0.05 in the paper.
        seed: Of the decoder's first weights.
    """

    positions_LE: Tensor

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
        refusals.check(backbone, views, name="mae", least=1, most=1)
        (px,) = refusals.sides(views)
        self.backbone, self.views, self.settings = backbone, views, settings
        rows, columns = vit.grid(backbone, px)
        self.tokens, self.side = rows * columns, px // rows
        self.shown = max(1, round(self.tokens * (1 - settings.mask)))
        if self.shown >= self.tokens:
            raise refusals.refuse(
                "mae learns from the tokens that it hides, and this share of the view's hides none",
                got=f"mask = {settings.mask:g} of {self.tokens} tokens",
                expected="at least one hidden token and one shown",
                next_step="raise the objective's mask, or give larger views",
            )
        self.uniforms = views.uniforms + self.tokens
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        with parts.seeded(seed):
            self._build_decoder(rows)

    def _build_decoder(self, rows: int) -> None:
        from timm.models.vision_transformer import Block

        s = self.settings
        wide = s.decoder_width
        self.narrow = nn.Linear(parts.width(self.backbone), wide)
        self.gap = nn.Parameter(torch.randn(wide) * 0.02)
        blocks = [Block(wide, s.decoder_heads, mlp_ratio=4, qkv_bias=True) for _ in range(s.decoder_depth)]
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(wide), nn.Linear(wide, 3 * self.side**2))
        self.register_buffer("positions_LE", positions(rows, rows, wide))

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """Refuses what is no plain vision transformer (`HZ-U87`)."""
        vit.require(backbone, name="mae")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of `tiles` uint8 `[B, H, W, 3]` with uniform numbers `u` `[B, uniforms]`."""
        (x_BCHW,) = self.views(batch["tiles"], batch["u"][:, : self.views.uniforms])
        u_BL = batch["u"][:, self.views.uniforms : self.uniforms].to(x_BCHW.device)
        shown_BM, hidden_BL = choose(u_BL, self.shown)
        target_BLS = pixels(x_BCHW, self.side)
        if self.settings.standardised:
            target_BLS = standardise(target_BLS)
        guess_BLS = self._decode(self._encode(x_BCHW, shown_BM), shown_BM)
        return {"loss": reconstruction(guess_BLS, target_BLS, hidden_BL)}

    def _encode(self, x_BCHW: Tensor, shown_BM: Tensor) -> Tensor:
        tokens_BTD = vit.embed(self.backbone, x_BCHW)
        first = vit.prefix(self.backbone)
        index_BMD = shown_BM[:, :, None].expand(-1, -1, tokens_BTD.shape[2])
        grid_BMD = tokens_BTD[:, first:].gather(1, index_BMD)
        return vit.encode(self.backbone, torch.cat([tokens_BTD[:, :first], grid_BMD], dim=1))

    def _decode(self, tokens_BTD: Tensor, shown_BM: Tensor) -> Tensor:
        x_BTE = self.narrow(tokens_BTD)
        first = vit.prefix(self.backbone)
        index_BME = shown_BM[:, :, None].expand(-1, -1, x_BTE.shape[2])
        gaps_BLE = self.gap.to(x_BTE.dtype).expand(len(x_BTE), self.tokens, -1)
        grid_BLE = gaps_BLE.scatter(1, index_BME, x_BTE[:, first:]) + self.positions_LE
        guess_BTS: Tensor = self.decoder(torch.cat([x_BTE[:, :first], grid_BLE], dim=1))
        return guess_BTS[:, first:]

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns matrices and kernels, then vectors without weight decay, with the paper's betas for AdamW."""
        return parts.param_groups(
            [self], lr=self.lr, weight_decay=self.weight_decay, betas=self.settings.betas
        )

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        return parts.warmup_cosine(step, steps=self.steps, warmup=self.settings.warmup)
