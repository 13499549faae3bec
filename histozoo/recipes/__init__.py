"""The pretraining objectives, one file each. Adding a recipe is one file and one line here."""

from __future__ import annotations

from typing import Any

from histozoo.recipes import multitask
from histozoo.recipes.base import Recipe

RECIPES: dict[str, type[Recipe]] = {"multitask": multitask.Multitask}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"multitask": multitask.PRESETS}

__all__ = ["PRESETS", "RECIPES", "Recipe"]
