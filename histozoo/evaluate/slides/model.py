"""What is fitted: a pooling head on features, or on an encoder's features of pixels, and how (as published, and where we differ).

HistoTransfer's released code: Adam with learning rate 1e-3 (1e-5 where the encoder learns too), 20 epochs, the epoch with the best
validation accuracy, later of equals. Accuracy on a handful of slides takes few values, so here the validation loss chooses unless
`select` says otherwise.

Shapes: B bags, T tiles of a bag, D features, H W pixels, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from histozoo.data.views import normalise
from histozoo.errors import UsageError
from histozoo.evaluate.slides.attention import Pooled, Pooling, SlideHead, bag_loss
from histozoo.recipes import Recipe
from histozoo.recipes.base import Batch

Select = Literal["loss", "accuracy"]
PIECE = 64
"""Tiles per forward pass where nothing is learnt."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a slide model is fitted.

    Args:
        pooling: See `SlideHead`.
        epochs: Passes over the training slides.
        lr: Learning rate of Adam, constant.
        alpha, beta: Weights of the slides' and the tiles' loss.
        select: What the best epoch has: the lowest validation `loss`, or the highest validation `accuracy` (as published), later of equals.
        validation: One part in this many of the training patients chooses the epoch.
        standardise: Whether features are standardised by the tiles learnt from. Not so as published; needed where encoders are compared
            whose features differ in size, since the learning rate is the same for all.
    """

    pooling: Pooling = "attention"
    epochs: int = 20
    lr: float = 1e-3
    alpha: float = 1.0
    beta: float = 0.0
    select: Select = "loss"
    validation: int = 4
    standardise: bool = False


class SlideModel(Recipe):
    """A head on features, or on an encoder's features of pixels, as the engine trains it.

    Args:
        head: What pools.
        encoder: Maps normalised `[T, 3, H, W]` to pooled `[T, D]`; left out where bags hold features.
        settings: How it is fitted.
        mean, std: Channel statistics of the encoder's contract.

    The encoder's batch norms stay in eval mode, so their running statistics are frozen and their weights and biases still learn.
    """

    def __init__(
        self,
        head: SlideHead,
        *,
        settings: Settings,
        encoder: nn.Module | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.backbone = nn.Identity() if encoder is None else encoder
        self.head, self.settings = head, settings
        self.mean, self.std = tuple(mean), tuple(std)

    def train(self, mode: bool = True) -> SlideModel:
        """Sets the mode of everything but the batch norms, which stay in eval mode."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def features(self, bag_BT: Tensor) -> Tensor:
        """Returns `[B, T, D]`: a bag of features as it is, a bag of uint8 pixels `[B, T, H, W, C]` through the encoder."""
        if bag_BT.dtype != torch.uint8:
            return bag_BT
        x_NCHW = normalise(bag_BT.flatten(0, 1).permute(0, 3, 1, 2).float() / 255, self.mean, self.std)
        f_ND = self.backbone(x_NCHW)
        if f_ND.ndim != 2:
            raise UsageError(
                "HZ-I72",
                "the encoder does not pool its features",
                expected="[tiles, features]",
                got=f"shape {list(f_ND.shape)}",
                next_step="give an encoder with pooling, such as histozoo.load(name)",
            )
        f_BTD: Tensor = f_ND.unflatten(0, bag_BT.shape[:2])
        return f_BTD

    def pool(self, bag_BT: Tensor) -> Pooled:
        """Returns what the head says of bags of one length."""
        pooled: Pooled = self.head(self.features(bag_BT))
        return pooled

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of a batch of one bag."""
        s = self.settings
        return {"loss": bag_loss(self.pool(batch["bag"]), batch["label"], alpha=s.alpha, beta=s.beta)}

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns one group: AdamW without decay is Adam."""
        return [{"params": list(self.parameters()), "lr": self.settings.lr, "weight_decay": 0.0}]

    def lr_factor(self, group: int, step: int) -> float:
        """Returns 1: the rate is constant."""
        return 1.0


@torch.inference_mode()
def judge(model: SlideModel, bag_T: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns the logits `[K]` of a bag, and its tiles' scores before the softmax and weights `[T]`, None where there are none; on the CPU.

    A bag of pixels goes through the encoder in pieces, so that a slide of any number of tiles fits into memory.
    """
    training, place = model.training, next(model.parameters()).device
    model.eval()
    pieces = torch.split(bag_T, PIECE) if bag_T.dtype == torch.uint8 else (bag_T,)
    f_TD = torch.cat([model.features(piece[None].to(place))[0] for piece in pieces])
    pooled: Pooled = model.head(f_TD[None])
    model.train(training)
    scores, weights = (None if v is None else v[0].cpu() for v in (pooled.scores_BT, pooled.attention_BT))
    return pooled.logits_BK[0].cpu(), scores, weights
