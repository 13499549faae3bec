"""What decides a fit apart from the trunk, the tiles and the seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from histozoo.errors import UsageError

Mode = Literal["full", "frozen_bn", "layer_decay", "lora", "head_only"]
"""What of the trunk is trained beside the linear head.

- `full`: everything, batch-norm statistics included.
- `frozen_bn`: everything but the batch-norm layers, whose statistics, gains and biases stay as they came.
- `layer_decay`: everything, each layer with a smaller learning rate than the one above it.
- `lora`: low-rank updates of linear layers (of convolutions where there are none); all else, batch norm included, stays as it came.
- `head_only`: nothing, the trunk is in eval mode.
"""
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Budget, rates and augmentation. The budget is in steps: a tenth of the labels is not trained a tenth as long.

    Args:
        steps: Optimizer steps at most.
        batch_size: Tiles per step.
        lrs: Highest learning rates of the trunk that are tried; the validation groups choose.
        head_lr_factor: What the head's rate is of the trunk's; the head starts at zero, the trunk does not.
        adapter_lr_factor: The same for the low-rank updates, which start at zero too.
        warmup_steps: Steps of linear warm-up; a cosine to zero follows.
        weight_decay: Of matrices and kernels, in AdamW.
        max_grad_norm: Gradients are clipped to it; 0 leaves them.
        layer_decay: What a layer's learning rate is of that of the layer above it, for `layer_decay`; 0.75 as in BEiT (Bao et al. 2022).
        rank: Rank of the updates of `lora`.
        alpha: Their scale is `alpha / rank` (Hu et al. 2022, section 4.1).
        eval_every: Steps between two looks at the validation groups, and between two checkpoints.
        patience: Looks without a better one after which training stops; 0 for never.
        balanced: Whether classes count equally in the loss, as they do in balanced accuracy, or tiles do.
        flip, rot90, area, colour, stain: As in `histozoo.data.views.Views`.
        precision: `bf16` (autocast in training) or `fp32`.

    Raises:
        UsageError: `HZ-I68`, a value out of its range.
    """

    steps: int = 5_000
    batch_size: int = 64
    lrs: tuple[float, ...] = (1e-5, 3e-5, 1e-4, 3e-4)
    head_lr_factor: float = 10.0
    adapter_lr_factor: float = 10.0
    warmup_steps: int = 250
    weight_decay: float = 0.05
    max_grad_norm: float = 5.0
    layer_decay: float = 0.75
    rank: int = 16
    alpha: float = 16.0
    eval_every: int = 250
    patience: int = 8
    balanced: bool = True
    flip: bool = True
    rot90: bool = True
    area: tuple[float, float] = (0.5, 1.0)
    colour: float = 0.2
    stain: float = 0.05
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        low, high = self.area
        good = {
            "steps": self.steps >= 1,
            "batch_size": self.batch_size >= 2,  # batch norm has no variance of one tile
            "lrs": len(self.lrs) > 0 and all(0 < lr < 1 for lr in self.lrs),
            "head_lr_factor": self.head_lr_factor > 0,
            "adapter_lr_factor": self.adapter_lr_factor > 0,
            "warmup_steps": 0 <= self.warmup_steps < self.steps,
            "weight_decay": self.weight_decay >= 0,
            "max_grad_norm": self.max_grad_norm >= 0,
            "layer_decay": 0 < self.layer_decay <= 1,
            "rank": self.rank >= 1,
            "alpha": self.alpha > 0,
            "eval_every": 1 <= self.eval_every <= self.steps,
            "patience": self.patience >= 0,
            "area": 0 < low <= high <= 1,
            "colour": 0 <= self.colour < 1,
            "stain": 0 <= self.stain < 1,
            "precision": self.precision in ("fp32", "bf16"),
        }
        if wrong := [name for name, fits in good.items() if not fits]:
            raise UsageError(
                "HZ-I68",
                "the settings of a fine-tuning make no sense",
                where=", ".join(wrong),
                expected="positive rates and sizes, two tiles per step or more, warm-up and looks within the steps",
                got=", ".join(f"{name} = {getattr(self, name)!r}" for name in wrong),
            )

    def settings(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


PRESETS: dict[str, FinetuneSettings] = {
    "small": FinetuneSettings(
        steps=200, batch_size=16, lrs=(3e-4,), warmup_steps=20, eval_every=20, patience=4
    ),
    "full": FinetuneSettings(precision="bf16"),
}
"""`small`: 200 steps of 16 tiles at one learning rate, for two processor cores. `full`: four learning rates in turn, for one GPU."""
