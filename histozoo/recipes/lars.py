"""LARS, the optimizer of the large-batch recipes.

Y. You, I. Gitman, B. Ginsburg, "Large batch training of convolutional networks", 2017 (arXiv 1708.03888), with momentum applied after the
layer's rate, as in the released code of Barlow Twins and VICReg. For each tensor with weights w, gradient g and momentum buffer m:

    d = g + weight_decay * w
    d = d * trust * |w| / |d|      where the group is adapted and both norms are above 0
    m = momentum * m + d
    w = w - lr * m

Biases and norms belong in a group with `adapt=False` and no weight decay: Grill et al. 2020 (BYOL), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling.

    Args:
        params: Parameters or groups; a group may hold `adapt`, whether the layer's rate is scaled.
        lr: Learning rate.
        momentum: Share of the last step that is kept.
        weight_decay: L2 penalty, part of the direction whose norm is taken.
        trust: Coefficient eta of the paper; 0.001 as there.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Does one step; a parameter without a gradient is left as it is, its momentum too."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group)
        return loss

    def _move(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        direction = grad.add(p, alpha=group["weight_decay"])
        if group["adapt"]:
            length_w, length_d = p.norm(), direction.norm()
            ratio = group["trust"] * length_w / length_d
            # torch.where keeps both on the device: no waiting for it at every tensor.
            direction = direction * torch.where(
                (length_w > 0) & (length_d > 0), ratio, torch.ones_like(ratio)
            )
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(direction)
        p.add_(buffer, alpha=-group["lr"])


def optimizer_of(
    name: str, groups: list[dict[str, Any]], *, lr: float, momentum: float
) -> torch.optim.Optimizer:
    """Returns the optimizer that an experiment names: `sgd`, `lars`, or else AdamW, fused where its parameters have memory."""
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    if name == "lars":
        return LARS(groups, lr=lr, momentum=momentum)
    empty = any(p.is_meta for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=lr, fused=not empty)
