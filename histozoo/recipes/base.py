"""What every recipe is: a module that turns a batch into a loss, with hooks the engine calls around the optimizer's step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

Batch = dict[str, Tensor]


class Recipe(nn.Module, ABC):
    """A pretraining objective around one timm backbone.

    Only parameters under `backbone.` are published as the model; everything else (heads, projectors, teachers) is published beside it so
    that training can be continued. A subclass is final: nothing inherits from it.
    """

    backbone: nn.Module
    uniforms: int
    """Uniform numbers that each sample brings for its views and masks."""

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """Refuses a backbone that the objective cannot train, whatever its views; most take any.

        Raises:
            UsageError: `HZ-U87`, with the reason.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns `{"loss": scalar, ...}`; further scalars are logged."""

    @abstractmethod
    def param_groups(self) -> list[dict[str, Any]]:
        """Returns the optimizer's parameter groups, each with its own `lr` and `weight_decay`."""

    @abstractmethod
    def lr_factor(self, group: int, step: int) -> float:
        """Returns what the learning rate of parameter group `group` is multiplied by at `step`."""

    def weight_decay_at(self, group: int, step: int) -> float | None:
        """Returns the weight decay of parameter group `group` at `step`, or None where it stays as `param_groups` says."""
        return None

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Called once before the first step, before the optimizer exists, with a few mixed batches."""

    def on_step(self, step: int) -> None:
        """Called before the forward pass of `step`."""

    def before_step(self) -> None:
        """Called when gradients are complete and before the optimizer uses them."""

    def on_drop(self) -> None:
        """Called instead of both when a batch was not finite and its gradients were thrown away."""

    def after_step(self) -> None:
        """Called after the optimizer's step (teachers, queues)."""

    def tile_logits(self, task: str, pixels_BCHW: Tensor) -> Tensor | None:
        """Returns `[B, K]` logits of `task` for validation, or None where the recipe has no classifier."""
        return None
