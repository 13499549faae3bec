"""What presets of several self-supervised recipes share."""

from __future__ import annotations

from typing import Any

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PAPER: dict[str, Any] = {
    **_IMAGENET, "tile_px": 224, "pack_px": 256, "train_px": 224, "momentum": 0.9, "max_grad_norm": 0.0, "objective": {}, "views": {},
}  # fmt: skip
"""What the presets `paper` share. Their views are histology's (`histozoo.data.drawing.View`), not those of photographs."""
SMALL: dict[str, Any] = {
    **_IMAGENET, "tile_px": 96, "pack_px": 128, "train_px": 96, "momentum": 0.9, "max_grad_norm": 3.0, "optimizer": "adamw", "lr": 1e-3,
    "weight_decay": 0.05, "batch_size": 128, "steps": 2_000, "objective": {}, "views": {},
}  # fmt: skip
"""What the presets `small` share: a short run of a small trunk on one GPU or a processor, ours."""
PLAIN: dict[str, Any] = {
    "global_views": 1, "stain_p": 0.0, "colour_p": 0.0, "grey_p": 0.0, "blur_p": 0.0,
}  # fmt: skip
"""One view, cropped and turned only, as masked autoencoders take it."""
