"""Low-rank updates: a weight W stays as it is and W + (alpha / rank) B A is used, B and A small and trained.

E. J. Hu et al., "LoRA: Low-rank adaptation of large language models" (ICLR 2022), section 4.1; B starts at zero, so the function does too.
The update is added to the weight and not to the layer's output. That is the same function, `x W' + x (sBA)' = x (W + sBA)'`, and it holds
for a convolution of any kernel, for layers whose weight is read by others (fused attention), and makes merging exact.

Shapes: O output channels, I inputs of each (a kernel's are input channels x height x width), R rank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from histozoo.errors import UsageError


class LowRank(nn.Module):
    """Adds `alpha / rank * B A` to a weight `[O, ...]`; A is drawn from torch's generator, B is zero.

    Args:
        weight: The weight that is updated.
        rank: R.
        alpha: Scale times R.
    """

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.a_RI = nn.Parameter(weight.new_empty(rank, weight[0].numel()))
        self.b_OR = nn.Parameter(weight.new_zeros(len(weight), rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.a_RI, a=math.sqrt(5))  # as the authors' code does

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight with its update."""
        return weight + self.scale * (self.b_OR @ self.a_RI).view(weight.shape)


def targets(trunk: nn.Module) -> dict[str, nn.Module]:
    """Returns name -> layer that is updated: every linear layer; where there is none, every convolution that is not grouped.

    Raises:
        UsageError: `HZ-I68`, the trunk has neither.
    """
    linears = {k: m for k, m in trunk.named_modules() if isinstance(m, nn.Linear)}
    kernels = {k: m for k, m in trunk.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
    found: dict[str, nn.Module] = {**linears} or {**kernels}
    if not found:
        raise UsageError(
            "HZ-I68",
            "the model has no layer that a low-rank update could be added to",
            expected="a linear layer, or a convolution that is not grouped",
            got=type(trunk).__name__,
            next_step="use mode full or head_only",
        )
    return found


def add(trunk: nn.Module, *, rank: int, alpha: float) -> None:
    """Freezes the trunk and adds updates to its `targets`, in place; its function stays the same until they are trained."""
    trunk.requires_grad_(False)
    for layer in targets(trunk).values():
        assert isinstance(layer.weight, Tensor)
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank=rank, alpha=alpha))


def merge(trunk: nn.Module) -> None:
    """Writes the updates into the weights, in place: names and shapes are again those of the model without updates."""
    for layer in list(trunk.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            with torch.no_grad():
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
