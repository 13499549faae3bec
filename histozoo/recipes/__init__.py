"""The pretraining objectives, one file each. Adding a recipe is one file and one line here."""

from __future__ import annotations

from typing import Any

from histozoo.recipes import (
    barlow,
    byol,
    dino,
    ibot,
    mae,
    moco,
    multitask,
    multitaskssl,
    simclr,
    swav,
    vicreg,
)
from histozoo.recipes.base import Recipe

_FILES: dict[str, tuple[Any, type[Recipe]]] = {
    "multitask": (multitask, multitask.Multitask),
    "simclr": (simclr, simclr.SimCLR),
    "moco": (moco, moco.MoCo),
    "byol": (byol, byol.BYOL),
    "barlow": (barlow, barlow.Barlow),
    "vicreg": (vicreg, vicreg.VICReg),
    "swav": (swav, swav.SwAV),
    "dino": (dino, dino.DINO),
    "ibot": (ibot, ibot.IBOT),
    "mae": (mae, mae.MAE),
    "multitaskssl": (multitaskssl, multitaskssl.MultitaskSSL),
}
LABELLED = ("multitask", "multitaskssl")
"""Recipes that learn from labels; the others need none."""

RECIPES: dict[str, type[Recipe]] = {name: kind for name, (_, kind) in _FILES.items()}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {name: file.PRESETS for name, (file, _) in _FILES.items()}
OBJECTIVES: dict[str, type[Any]] = {n: file.Settings for n, (file, _) in _FILES.items() if n not in LABELLED}
"""Self-supervised recipe -> the dataclass of its settings, which an experiment gives as `[objective]`."""

__all__ = ["LABELLED", "OBJECTIVES", "PRESETS", "RECIPES", "Recipe"]
