"""Attention pooling of a bag of tile features into slide logits, non-gated and gated, and the mean and max pooling beside it.

Sizes and activations are those of the code released with Sharma et al., HistoTransfer (BHI 2021); the attention is that of Ilse et al.,
Attention-based deep multiple instance learning (ICML 2018), equations 8 (tanh) and 9 (gated). There is no dropout in either.

With h_t = relu(W2 relu(W1 f_t + b1) + b2):  s_t = w^T tanh(V h_t) or w^T (tanh(V h_t) * sigmoid(U h_t)), biases left out;
a = softmax(s);  slide logits = C (sum_t a_t h_t) + c.

The sum over tiles is a sum of float32 numbers, so another order of the tiles changes the last bits (1e-6, tested), never more. Where bits
must not depend on the order, the order is fixed before: `Bags` sorts each slide's tiles.

Shapes: B bags, T tiles of a bag (padded), D features, E embedded features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from histozoo.errors import UsageError

Pooling = Literal["attention", "gated", "mean", "max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
HIDDEN, EMBEDDED, SCORED = 256, 64, 32
"""Widths of the two layers of the embedding and of the attention."""


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """What a head says of bags.

    Args:
        logits_BK: Of the slides.
        tile_logits_BTK: Of the tiles, from the auxiliary classifier; rows of padding mean nothing.
        scores_BT: Attention before the softmax, minus infinity at padding; None for mean and max pooling.
        attention_BT: Weights, 0 at padding, sum 1 over each bag; None for max pooling, where every embedded feature has its own tile.
    """

    logits_BK: Tensor
    tile_logits_BTK: Tensor
    scores_BT: Tensor | None
    attention_BT: Tensor | None


class Gate(nn.Module):
    """Scores of tiles: `w^T tanh(V h)`, times `sigmoid(U h)` inside where `gated`."""

    def __init__(self, *, gated: bool) -> None:
        super().__init__()
        self.value = nn.Linear(EMBEDDED, SCORED)
        self.gate = nn.Linear(EMBEDDED, SCORED) if gated else None
        self.score = nn.Linear(SCORED, 1)

    def forward(self, h_BTE: Tensor) -> Tensor:
        """Returns `[B, T]` scores."""
        hidden = torch.tanh(self.value(h_BTE))
        if self.gate is not None:
            hidden = hidden * torch.sigmoid(self.gate(h_BTE))
        scores_BT: Tensor = self.score(hidden).squeeze(-1)
        return scores_BT


class SlideHead(nn.Module):
    """A bag of features -> slide logits.

    Args:
        feature_dim: D.
        classes: K.
        pooling: `attention`, `gated`, or the baselines `mean` and `max` of the embedded tiles.

    Raises:
        UsageError: `HZ-I72`, no such pooling.
    """

    centre_D: Tensor
    spread_D: Tensor

    def __init__(self, feature_dim: int, classes: int, *, pooling: Pooling = "attention") -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise UsageError(
                "HZ-I72", "there is no such pooling", expected=f"one of {', '.join(POOLINGS)}", got=pooling
            )
        self.pooling = pooling
        self.embed = nn.Sequential(
            nn.Linear(feature_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, EMBEDDED), nn.ReLU()
        )
        self.attention = Gate(gated=pooling == "gated") if pooling in ("attention", "gated") else None
        self.register_buffer("centre_D", torch.zeros(feature_dim))
        self.register_buffer("spread_D", torch.ones(feature_dim))
        self.slide = nn.Linear(EMBEDDED, classes)
        self.tile = nn.Linear(EMBEDDED, classes)

    def standardise(self, f_ND: Tensor) -> None:
        """From now on subtracts the means of these features and divides by their standard deviations, constant features by 1.

        Not published. Without it an encoder with small features learns more slowly at one learning rate, whatever its features tell.
        """
        spread_D, self.centre_D = f_ND.std(0, correction=0), f_ND.mean(0)
        self.spread_D = torch.where(spread_D > 0, spread_D, 1.0)

    def forward(self, f_BTD: Tensor, mask_BT: Tensor | None = None) -> Pooled:
        """Pools each bag over its tiles.

        Args:
            f_BTD: Features; rows of padding may hold anything, even NaN.
            mask_BT: True where a tile is, False at padding; None where no bag is padded.

        Raises:
            UsageError: `HZ-I71`, a bag is empty.
        """
        if f_BTD.shape[1] == 0 or (mask_BT is not None and not bool(mask_BT.any(1).all())):
            raise UsageError("HZ-I71", "a bag is empty", expected="at least one tile", got="0 tiles")
        if mask_BT is not None:
            # Zeros, not a product with the mask: NaN times zero would be NaN, in the gradient too.
            f_BTD = f_BTD.masked_fill(~mask_BT[..., None], 0.0)
        h_BTE = self.embed((f_BTD - self.centre_D) / self.spread_D)
        scores_BT = None if self.attention is None else self.attention(h_BTE)
        if scores_BT is not None and mask_BT is not None:
            scores_BT = scores_BT.masked_fill(~mask_BT, -torch.inf)
        bag_BE, attention_BT = self._pool(h_BTE, scores_BT, mask_BT)
        return Pooled(
            logits_BK=self.slide(bag_BE),
            tile_logits_BTK=self.tile(h_BTE),
            scores_BT=scores_BT,
            attention_BT=attention_BT,
        )

    def _pool(
        self, h_BTE: Tensor, scores_BT: Tensor | None, mask_BT: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if self.pooling == "max":
            # The embedding ends in a ReLU, so zero is below or equal to every tile's value.
            there = h_BTE if mask_BT is None else h_BTE.masked_fill(~mask_BT[..., None], 0.0)
            return there.amax(1), None
        if scores_BT is None:
            there = h_BTE.new_ones(h_BTE.shape[:2]) if mask_BT is None else mask_BT.to(h_BTE.dtype)
            attention_BT = there / there.sum(1, keepdim=True)
        else:
            attention_BT = torch.softmax(scores_BT, dim=1)
        return torch.einsum("bt,bte->be", attention_BT, h_BTE), attention_BT


def bag_loss(
    pooled: Pooled,
    labels_B: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    mask_BT: Tensor | None = None,
) -> Tensor:
    """Returns `alpha * CE(slides) + beta * CE(tiles)`, each tile having the label of its slide, both means.

    The released notebook has alpha 1 and beta 0; the second term is then still there, so that every parameter takes part in every step.
    """
    slides = functional.cross_entropy(pooled.logits_BK, labels_B)
    tiles_BT = labels_B[:, None].expand(pooled.tile_logits_BTK.shape[:2])
    there = torch.ones_like(tiles_BT, dtype=torch.bool) if mask_BT is None else mask_BT
    tiles = functional.cross_entropy(pooled.tile_logits_BTK[there], tiles_BT[there])
    return alpha * slides + beta * tiles


def top_tiles(scores_T: Tensor, k: int) -> Tensor:
    """Returns the positions of the k highest scores, best first, all where there are fewer; among equals the earlier tile."""
    return torch.sort(scores_T, descending=True, stable=True).indices[:k]
