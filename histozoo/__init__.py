"""Pathology backbones with verified weights: one name, six doors, the same features bit for bit.

    >>> import histozoo
    >>> histozoo.list_models()
    >>> model = histozoo.load(name)
    >>> transform = histozoo.preprocess(name)

Importing this package costs no torch, no timm and no network. Once timm is imported, before or after, it knows our names too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from histozoo import timm_hook as _timm_hook

if TYPE_CHECKING:
    from histozoo.loading import load, preprocess
    from histozoo.registry import entry, list_models

__version__ = "0.1.0"
__all__ = ["__version__", "entry", "list_models", "load", "preprocess"]

_HOMES = {"entry": "registry", "list_models": "registry", "load": "loading", "preprocess": "loading"}


def __getattr__(name: str) -> Any:
    """Imports a public word from its room when it is first used."""
    if name not in _HOMES:
        # With name and object Python adds "Did you mean ...?" by itself.
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
        )
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_timm_hook.install()
