"""Vision transformers of timm taken apart, for the recipes that hide some of their tokens.

Shapes: B tiles, L tokens of the grid, R prefix tokens (class and registers), D features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from histozoo.recipes import refusals


def require(backbone: nn.Module, *, name: str) -> None:
    """Refuses a backbone whose tokens cannot be hidden.

    Raises:
        UsageError: `HZ-U87`: it is no `VisionTransformer` of timm, or it drops tokens by itself.
    """
    from timm.models.vision_transformer import VisionTransformer

    reason = ""
    if not isinstance(backbone, VisionTransformer):
        reason = "convolutions and windows mix hidden and shown pixels, so only a plain vision transformer can have tokens hidden"
    elif not isinstance(backbone.patch_drop, nn.Identity):
        reason = "the backbone drops tokens of its own accord, so they would no longer be those that the loss speaks of"
    if reason:
        raise refusals.refuse(
            f"{name} hides tokens: {reason}",
            got=type(backbone).__name__,
            expected="a VisionTransformer of timm, without patch_drop_rate",
            next_step="choose a ViT (vit_*), or a recipe that takes any backbone: simclr, moco, byol, barlow, vicreg, swav, dino",
        )


def embed(
    backbone: Any, x_BCHW: Tensor, *, hidden_BL: Tensor | None = None, instead_D: Tensor | None = None
) -> Tensor:
    """Returns prefix and grid tokens with their positions, `[B, R + L, D]`.

    Args:
        backbone: A `VisionTransformer`.
        x_BCHW: Normalised pixels.
        hidden_BL: Where True, the token is replaced before its position is added.
        instead_D: What it is replaced by.
    """
    x = backbone.patch_embed(x_BCHW)
    if hidden_BL is not None and instead_D is not None:
        # A model of dynamic size has tokens as [B, h, w, D], one of fixed size as [B, L, D].
        x = instead_D.to(x.dtype).where(hidden_BL.view(*x.shape[:-1], 1), x)
    tokens: Tensor = backbone._pos_embed(x)
    return tokens


def encode(backbone: Any, tokens_BTD: Tensor) -> Tensor:
    """Returns tokens after blocks and last norm, whichever of timm's two places the norm has (`norm` or `fc_norm`)."""
    x: Tensor = backbone.fc_norm(backbone.norm(backbone.blocks(backbone.norm_pre(tokens_BTD))))
    return x


def features_and_grid(backbone: Any, tokens_BTD: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what the backbone returns, `[B, D]`, and its normed grid tokens `[B, L, D]`."""
    x = backbone.norm(backbone.blocks(backbone.norm_pre(tokens_BTD)))
    return backbone.forward_head(x), backbone.fc_norm(x)[:, prefix(backbone) :]


def prefix(backbone: nn.Module) -> int:
    """Returns R, how many tokens come before those of the grid."""
    return int(backbone.num_prefix_tokens)  # type: ignore[arg-type]


def grid(backbone: Any, px: int) -> tuple[int, int]:
    """Returns rows and columns of the tokens of a view of `px` pixels."""
    height, width = backbone.patch_embed.patch_size
    return int(px // height), int(px // width)


MASK_BLOCKS = 10
"""Rectangles tried for each mask before single tokens fill it up, as in the authors' code of DINOv2."""
LEAST_BLOCK = 4
"""Fewest tokens of a rectangle: BEiT takes 16 of 196, iBOT and DINOv2 take 4."""
LARGEST_ASPECT = 1 / 0.3
"""Largest ratio of a rectangle's sides: BEiT, algorithm 1."""


def mask_uniforms(tokens: int) -> int:
    """Returns how many uniform numbers one mask needs."""
    return 2 + 4 * MASK_BLOCKS + tokens


def masks(u_BP: Tensor, *, rows: int, columns: int, probability: float, low: float, high: float) -> Tensor:
    """Returns which tokens of each view are hidden, bool `[B, L]`: rectangles, then single tokens up to the exact number.

    H. Bao et al., "BEiT: BERT pre-training of image transformers", ICLR 2022 (arXiv 2106.08254), algorithm 1. A view is masked with the
    given probability; the share of its tokens that are hidden is uniform between `low` and `high`. As in the paper, rectangles cover the
    middle more often than the corners.

    Args:
        u_BP: Uniform numbers, `[B, mask_uniforms(rows * columns)]`.
        rows: Of the token grid.
        columns: Of the token grid.
        probability: That a view is masked at all.
        low: Smallest share.
        high: Largest share.
    """
    share_B = low + (high - low) * u_BP[:, 1]
    wanted_B = torch.where(u_BP[:, 0] < probability, (share_B * rows * columns).floor(), 0.0)
    hidden_BL = torch.zeros(len(u_BP), rows * columns, dtype=torch.bool, device=u_BP.device)
    for u_B4 in u_BP[:, 2 : 2 + 4 * MASK_BLOCKS].unflatten(1, (MASK_BLOCKS, 4)).unbind(1):  # type: ignore[no-untyped-call]
        grown_BL = hidden_BL | _rectangle(u_B4, wanted_B - hidden_BL.sum(1), rows=rows, columns=columns)
        hidden_BL = torch.where((grown_BL.sum(1) <= wanted_B)[:, None], grown_BL, hidden_BL)
    order_BL = (
        u_BP[:, 2 + 4 * MASK_BLOCKS :].masked_fill(hidden_BL, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    )
    return hidden_BL | (order_BL < (wanted_B - hidden_BL.sum(1))[:, None])


def _rectangle(u_B4: Tensor, free_B: Tensor, *, rows: int, columns: int) -> Tensor:
    """Returns a rectangle of at most about `free_B` tokens in each view, bool `[B, L]`."""
    area_B = LEAST_BLOCK + (free_B - LEAST_BLOCK).clamp(min=0) * u_B4[:, 0]
    aspect_B = torch.exp((2 * u_B4[:, 1] - 1) * math.log(LARGEST_ASPECT))
    high_B = (area_B * aspect_B).sqrt().round().clamp(1, rows)
    wide_B = (area_B / aspect_B).sqrt().round().clamp(1, columns)
    top_B, left_B = (u_B4[:, 2] * (rows - high_B + 1)).floor(), (u_B4[:, 3] * (columns - wide_B + 1)).floor()
    y = torch.arange(rows, device=u_B4.device)[None, :, None]
    x = torch.arange(columns, device=u_B4.device)[None, None, :]
    top, left, bottom, right = (v[:, None, None] for v in (top_B, left_B, top_B + high_B, left_B + wide_B))
    return ((y >= top) & (y < bottom) & (x >= left) & (x < right)).flatten(1)
