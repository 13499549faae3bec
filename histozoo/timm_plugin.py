"""Our models as tags of timm's own architectures, so that `timm.create_model(name, pretrained=True)` knows them.

Tags are appended to timm's registry: its own entries, their order and their defaults stay as they are. The weights are a path that is
looked up, fetched and checked only when timm opens it. timm's error for an unknown name gets a note where a name of ours is near. Should
a later timm move its registry, this room warns and `histozoo.load`, which does not need it, goes on working.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from histozoo import registry
from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.registry import Entry


class WeightsFile(os.PathLike[str]):
    """Path of an entry's weights; every check runs when, and only when, the path is asked for: with `pretrained=True`."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._checked: tuple[str, object] = ("", None)

    def __fspath__(self) -> str:
        """Returns the path after every check; timm asks three times per load, and an unchanged file is checked once.

        Raises:
            IntegrityError: `HZ-C23`, withdrawn; otherwise as `histozoo.load`.
        """
        from histozoo import integrity, loading

        path, identity = self._checked
        if path and Path(path).exists() and identity == integrity.identity(path):
            return path
        if self.entry.withdrawn:
            raise registry.withdrawn_error(self.entry)
        _check_plain(self.entry)
        path = str(loading.checked_weights(self.entry).path)
        self._checked = (path, integrity.identity(path))
        return path

    def __str__(self) -> str:
        return os.fspath(self)  # timm decides by the text's ending how to read the file

    def __repr__(self) -> str:
        return f"WeightsFile({self.entry.name!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightsFile:
        return self  # timm copies its configurations; the entry is frozen


def register() -> list[str]:
    """Adds a tag for every entry of the zoo to timm's registry; returns the names added. Safe to call again.

    Never raises: what cannot be added is said in a warning, so that `import timm` always works.
    """
    try:
        from timm.models import _registry
        from timm.models._pretrained import PretrainedCfg

        _add_notes(_registry)
        return [name for name in registry.names() if _added(name, _registry, PretrainedCfg)]
    except HistozooError as error:
        warnings.warn(f"no histozoo names in timm: {error}", stacklevel=2)
    except Exception as error:  # whatever a later timm has changed
        told = f"{type(error).__name__}: {error}"
        warnings.warn(
            f"HZ-U16 this timm has no registry as we know it ({told}); use histozoo.load", stacklevel=2
        )
    return []


def _added(name: str, timm_registry: Any, pretrained_cfg: Any) -> bool:
    try:
        entry = registry.entry(name)
        return _append(entry, timm_registry, pretrained_cfg)
    except HistozooError as error:
        warnings.warn(f"timm will not know {name}: {error}", stacklevel=4)
        return False


def _append(entry: Entry, timm_registry: Any, pretrained_cfg: Any) -> bool:
    """Appends one tag; returns False where it is there already."""
    default = timm_registry._model_default_cfgs.get(entry.architecture)
    if default is None:
        raise IntegrityError(
            "HZ-A07",
            "the installed timm does not know the architecture",
            where=entry.path,
            got=entry.architecture,
            next_step="update timm",
        )
    known = timm_registry._model_pretrained_cfgs.get(entry.name)
    if known is not None:
        if isinstance(known.file, WeightsFile) and known.file.entry.raw == entry.raw:
            return False
        raise UsageError(
            "HZ-C21",
            f"timm has the name {entry.name!r} already",
            where=f"{entry.path} and {known.file or known.hf_hub_id or known.url or 'timm'}",
            kept="timm's own entry is unchanged",
            next_step="give the model another name",
        )
    cfg = pretrained_cfg(**_tuples(entry), architecture=entry.architecture, file=WeightsFile(entry))
    default.tags.append(entry.tag)  # at the end: the first tag is the architecture's default
    default.cfgs[entry.tag] = cfg
    timm_registry._model_pretrained_cfgs[entry.name] = cfg
    timm_registry._model_with_tags[entry.architecture].append(entry.name)
    timm_registry._model_has_pretrained.add(entry.name)
    return True


def _add_notes(timm_registry: Any) -> None:
    """Lets `timm.create_model` note our nearest names on its own error for a name that nobody has; safe to call again."""
    from timm.models import _factory

    real = _factory.create_model
    if hasattr(real, "__wrapped__"):
        return
    asked = _noting(real, timm_registry)
    for module in ("timm", "timm.models", "timm.models._factory"):
        if getattr(sys.modules.get(module), "create_model", None) is real:
            vars(sys.modules[module])["create_model"] = asked


def _noting(real: Callable[..., Any], timm_registry: Any) -> Callable[..., Any]:
    @functools.wraps(real)
    def create_model(*args: Any, **kwargs: Any) -> Any:
        try:
            return real(*args, **kwargs)
        except RuntimeError as error:
            name = kwargs.get("model_name", args[0] if args else None)
            known = (timm_registry._model_pretrained_cfgs, timm_registry._model_entrypoints)
            if isinstance(name, str) and not any(name in table for table in known):
                near = registry.nearest(name)
                error.add_note(f"histozoo's nearest names: {', '.join(near)}") if near else None
            raise

    return create_model


def _tuples(entry: Entry) -> dict[str, Any]:
    cfg: Mapping[str, Any] = entry.raw["pretrained_cfg"]
    return {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}


def _check_plain(entry: Entry) -> None:
    """Refuses an entry whose model differs from the architecture's default: a tag of timm cannot say how.

    Raises:
        IntegrityError: `HZ-A08`. `histozoo.load` and `hf-hub:` read the arguments from the entry and give the right model.
    """
    import timm

    from histozoo.skip_init import without_values

    cfg = {**entry.raw["pretrained_cfg"], "architecture": entry.architecture}
    with without_values():
        plain = timm.create_model(entry.architecture, pretrained_cfg=cfg)
        asked = timm.create_model(entry.architecture, pretrained_cfg=cfg, **entry.raw["model_args"])
    if repr(plain) != repr(asked) or _traits(plain) != _traits(asked):
        raise IntegrityError(
            "HZ-A08",
            f"{entry.name} needs model_args that a timm tag cannot carry",
            where=entry.path,
            got=str(entry.raw["model_args"]),
            kept="nothing was loaded",
            next_step=f"use histozoo.load({entry.name!r}), or timm's hf-hub: and local-dir: names",
        )


def _traits(model: Any) -> dict[str, Any]:
    """What `repr` does not show and yet changes features: the plain attributes of every module."""
    plain = (str, int, float, bool, tuple, type(None))
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, plain) and not key.startswith("_")
    }
