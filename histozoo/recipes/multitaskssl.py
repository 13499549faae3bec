"""Multi-task and self-supervised training of one trunk: a weighted sum of a labelled and an unlabelled objective.

    loss = multitask(tiles with a label) + weight * ssl(all tiles)

A row whose `task` is negative has no label. Both objectives keep their own heads, teachers and schedules; the trunk learns at the
multi-task recipe's rate. The labelled tiles pass through the trunk a second time, with the multi-task views.

Shapes: B tiles, P uniform numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from histozoo.data.mixing import UNIFORMS
from histozoo.recipes import multitask
from histozoo.recipes.base import Batch, Recipe
from histozoo.recipes.multitask import Multitask


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The weight of the unlabelled objective; no paper's value, 1 is both alike."""

    weight: float = 1.0


PRESETS = {
    "small": {
        **multitask.PRESETS["modern"], "ssl": "simclr", "ssl_weight": 1.0, "unlabelled_share": 0.5, "tile_px": 96, "pack_px": 128,
        "train_px": 96, "batch_size": 128, "steps": 2_000, "objective": {}, "views": {}, "unlabelled": {},
    },
}  # fmt: skip
"""Ours. `objective` and `views` are those of the recipe that `ssl` names."""


class MultitaskSSL(Recipe):
    """Two recipes around one trunk.

    Args:
        backbone: The trunk; both recipes were built around it.
        multitask: The labelled objective.
        objective: The unlabelled one: any recipe of this package that needs no labels.
        settings: See `Settings`.
    """

    def __init__(
        self, backbone: nn.Module, *, multitask: Multitask, objective: Recipe, settings: Settings
    ) -> None:
        super().__init__()
        self.backbone, self.multitask, self.objective, self.settings = (
            backbone,
            multitask,
            objective,
            settings,
        )
        for recipe in (multitask, objective):
            _borrow_trunk(recipe, backbone)
        self.uniforms = UNIFORMS + objective.uniforms
        self._owners: list[tuple[Recipe, int]] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the sum, each objective's loss and their own terms.

        Args:
            batch: `tiles` uint8 `[B, H, W, 3]`, `task` and `label` int64 `[B]`, `u` float32 `[B, uniforms]`: the first `UNIFORMS` numbers
                are the multi-task views', the others the objective's.
        """
        u_BP, labelled_B = batch["u"], batch["task"] >= 0
        own = {k: v for k, v in batch.items() if k not in ("task", "label")}
        unlabelled = self.objective({**own, "u": u_BP[:, UNIFORMS:]})
        outputs = {f"ssl_{k}": v.detach() for k, v in unlabelled.items()}
        loss = self.settings.weight * unlabelled["loss"]
        if bool(labelled_B.any()):
            rows = {k: batch[k][labelled_B] for k in ("tiles", "task", "label")}
            labelled = self.multitask({**rows, "u": u_BP[labelled_B.to(u_BP.device), :UNIFORMS]})
            loss = loss + labelled["loss"]
            outputs |= {f"multitask_{k}": v.detach() for k, v in labelled.items()}
        else:  # every parameter takes part in every step: distributed training waits for all gradients
            loss = loss + self.multitask.absent()
        return {"loss": loss, **outputs}

    def tile_logits(self, task: str, pixels_BCHW: Tensor) -> Tensor:
        """Returns `[B, K]` logits of `task` for normalised pixels `[B, 3, H, W]`."""
        return self.multitask.tile_logits(task, pixels_BCHW)

    # -- hooks of the engine ---------------------------------------------------------------------------------------------------------

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Lets the multi-task recipe prepare the trunk, with the labelled tiles' own numbers."""
        self.multitask.prepare({**b, "u": b["u"][:, :UNIFORMS]} for b in batches)

    def on_step(self, step: int) -> None:
        """Tells both recipes."""
        self.objective.on_step(step)
        self.multitask.on_step(step)

    def train(self, mode: bool = True) -> MultitaskSSL:
        """Sets training mode; the multi-task recipe comes last, since it may keep the trunk frozen."""
        super().train(mode)
        self.multitask.train(mode)
        return self

    def before_step(self) -> None:
        """Tells both recipes."""
        self.objective.before_step()
        self.multitask.before_step()

    def on_drop(self) -> None:
        """Tells both recipes."""
        self.objective.on_drop()
        self.multitask.on_drop()

    def after_step(self) -> None:
        """Tells both recipes."""
        self.multitask.after_step()
        self.objective.after_step()

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns the multi-task recipe's groups, then those of the objective without the trunk."""
        seen: set[int] = set()
        groups = []
        self._owners = []
        for recipe in (self.multitask, self.objective):
            for index, group in enumerate(recipe.param_groups()):
                kept = [p for p in group["params"] if id(p) not in seen and p.requires_grad]
                seen |= {id(p) for p in kept}
                if kept:
                    groups.append({**group, "params": kept})
                    self._owners.append((recipe, index))
        return groups

    def lr_factor(self, group: int, step: int) -> float:
        """Returns the factor that the group's own recipe says."""
        recipe, index = self._owner(group)
        return recipe.lr_factor(index, step)

    def weight_decay_at(self, group: int, step: int) -> float | None:
        """Returns what the group's own recipe says."""
        recipe, index = self._owner(group)
        return recipe.weight_decay_at(index, step)

    def _owner(self, group: int) -> tuple[Recipe, int]:
        if not self._owners:
            self.param_groups()
        return self._owners[group]


def _borrow_trunk(recipe: Recipe, backbone: nn.Module) -> None:
    """Lets `recipe` use `backbone` without holding it, so that its weights are named and saved once."""
    del recipe._modules["backbone"]
    recipe.__dict__["backbone"] = backbone
