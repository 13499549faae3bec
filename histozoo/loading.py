"""Entry -> verified weights -> timm model. Every door that knows histozoo comes through here.

A model that has exactly the published tensors is built on the meta device and takes them from the mapped file. One that differs
(a new head, other input channels, a feature pyramid) is built and adapted by timm itself from the same file, after all checks.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histozoo import artifact, contract, devices, registry, sources
from histozoo.errors import IntegrityError, UsageError
from histozoo.registry import Entry, Published

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Checked:
    """Weights that passed every check: the file, its tensors as mapped from it, and the stock architecture without values."""

    path: Path
    tensors: dict[str, torch.Tensor]
    blank: nn.Module


def load(
    name: str | os.PathLike[str],
    *,
    pretrained: bool = True,
    device: str | torch.device = "cpu",
    source: str | Path | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    allow_withdrawn: bool = False,
    **timm_kwargs: Any,
) -> nn.Module:
    """Returns a published backbone as a timm model in eval mode: x_BCHW -> features f_BD.

    Weights come from the first of: the bundle folder given; `$HISTOZOO_WEIGHTS_DIR/<name>/`; the embedded file; the Hub's cache; the
    Hub at the pinned commit. Size, sha256, header, keys, shapes, contract and values are checked before a model is touched.

    Args:
        name: A name of the zoo, or a bundle folder.
        pretrained: False gives the architecture with random weights.
        device: Where the model goes: `cpu`, `cuda`, ..., or `auto` for the first GPU where there is one.
        source: A bundle folder to take the weights of a zoo name from.
        revision: Commit to fetch instead of the pinned one; the sha256 must be the same.
        cache_dir: The Hub client's cache folder.
        allow_withdrawn: Load a withdrawn model all the same.
        **timm_kwargs: timm's own options, such as `num_classes=5`, `in_chans=1`, `features_only=True`, `out_indices=(1, 2, 3)`. A warning,
            `HZ-U84`, tells of one that pools otherwise than the card says.

    Raises:
        UsageError: `HZ-C19`, `HZ-C20`, `HZ-U13`: no such model; `HZ-U69`: an option that the architecture does not take; `HZ-U68`: no such
            device.
        IntegrityError: `HZ-A01` to `HZ-A08`, `HZ-B11`, `HZ-B17`, `HZ-U14`: something is not as published; `HZ-C23`: withdrawn.
        ResourceError: `HZ-B14`, `HZ-B15`, `HZ-U11`: the weights cannot be had.
    """
    place = devices.choose(device, computes=False)
    entry = registry.resolve(name)
    if entry.withdrawn and not allow_withdrawn:
        raise registry.withdrawn_error(entry)
    if pretrained:
        with _collector_paused():
            checked = checked_weights(entry, folder=source, revision=revision, cache_dir=cache_dir)
            assigned = _assigned(entry, checked, timm_kwargs)
        model = assigned if assigned is not None else _adapted(entry, checked, timm_kwargs)
    else:
        model = _build(entry, timm_kwargs)
    if timm_kwargs:
        _warn_of_pooling(entry, model)
    return _moved(model, place).eval()


def preprocess(name: str | os.PathLike[str]) -> contract.Transform:
    """Returns the transform that belongs to a model: RGB `PIL.Image` -> float32 CHW.

    Args:
        name: A name of the zoo, or a bundle folder.

    Raises:
        UsageError: `HZ-C19`, `HZ-C20`, `HZ-U13`: no such model.
    """
    return contract.transform(registry.resolve(name))


def checked_weights(
    entry: Entry,
    *,
    folder: str | Path | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> Checked:
    """Returns the weights of an entry after every check: size, sha256, header, keys, shapes, contract and values.

    Raises:
        IntegrityError: `HZ-A01` to `HZ-A08`, `HZ-B11`, `HZ-B17`, `HZ-U14`.
        ResourceError: `HZ-B14`, `HZ-B15`, `HZ-U11`.
    """
    return sources.read_verified(
        lambda: sources.locate(entry, folder=folder, revision=revision, cache_dir=cache_dir),
        lambda path, published: _checked(entry, path, published),
    )


def _checked(entry: Entry, path: Path, published: Published) -> Checked:
    from safetensors.torch import load_file

    header = artifact.read_header(path)
    blank = _blank(entry)
    contract.check_model(entry, blank)
    artifact.check_tensors(path, header, blank.state_dict(), dtype=published.dtype)
    artifact.check_contract(path, header, entry.raw)
    tensors: dict[str, torch.Tensor] = load_file(path)
    if not artifact.passed(path, published.sha256, "values"):
        artifact.check_finite(tensors, where=path)
        if artifact.passed(path, published.sha256, "sha256"):
            artifact.stamp(path, published.sha256, "sha256", "values")
    return Checked(path, tensors, blank)


def _assigned(entry: Entry, checked: Checked, timm_kwargs: dict[str, Any]) -> nn.Module | None:
    """Returns the model with the file's own tensors, or None where it does not have exactly these or builds more than them."""
    from histozoo.skip_init import assign

    model, tensors = checked.blank, checked.tensors
    if timm_kwargs:
        model = _blank(entry, timm_kwargs)
        if {k: t.shape for k, t in model.state_dict().items()} != {k: t.shape for k, t in tensors.items()}:
            return None
    ready = {k: _aligned(t.float() if t.is_floating_point() else t) for k, t in tensors.items()}
    return model if assign(model, ready) else None


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keeps the garbage collector from walking all of torch and timm while thousands of small objects are made that stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the tensor, or a copy in torch's own memory: kernels may give other last bits where it is not aligned alike."""
    return tensor if tensor.data_ptr() % artifact.ALIGNMENT == 0 else tensor.clone()


def _adapted(entry: Entry, checked: Checked, timm_kwargs: dict[str, Any]) -> nn.Module:
    """Returns timm's own adaptation of the checked file: new heads are initialised, input channels and positions resampled."""
    if not timm_kwargs.get("features_only"):
        # Before timm loads it: torch's own error would not say which option did it.
        blank = _blank(entry, timm_kwargs) if timm_kwargs else checked.blank
        _check_adapted(entry, checked.path, set(checked.tensors), set(blank.state_dict()))
    return _build(entry, timm_kwargs, file=str(checked.path))


def _warn_of_pooling(entry: Entry, model: nn.Module) -> None:
    """Says that a model pools otherwise than its card states; one that does not pool gives maps, which nobody takes for features."""
    found, stated = contract.pooling(model), entry.contract.pooling
    if found and found != stated:
        warnings.warn(
            f"HZ-U84 {entry.name} pools {found!r} here, not {stated!r}: its features are not those of the card",
            stacklevel=3,
        )


def _moved(model: nn.Module, device: torch.device) -> nn.Module:
    # Walking over every tensor to find it where it is takes a tenth of a load.
    return model if device.type == "cpu" else model.to(device)


def _check_adapted(entry: Entry, path: Path, known: set[str], wanted: set[str]) -> None:
    """Refuses an adaptation that leaves anything but the head random, or drops weights: timm does both in silence."""
    heads = entry.raw["pretrained_cfg"]["classifier"] or []
    heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    missing = sorted(key for key in wanted - known if not key.startswith(heads))
    dropped = sorted(known - wanted)
    if missing or dropped:
        raise IntegrityError(
            "HZ-A05",
            "these options change more than the head, so that published weights would be dropped or random ones used",
            where=path,
            expected=f"only keys below {', '.join(heads) or '(no head)'} to be new",
            got=f"left random: {missing[:5] or 'none'}; dropped: {dropped[:5] or 'none'}",
            kept="nothing was loaded",
            next_step="leave out the option that changes pooling or blocks, and pool outside the model",
        )


def _blank(entry: Entry, timm_kwargs: dict[str, Any] | None = None) -> nn.Module:
    """Builds the stock architecture without values; with values where its construction computes with them."""
    from histozoo.skip_init import without_values

    try:
        with without_values():
            return _build(entry, timm_kwargs or {})
    except (NotImplementedError, RuntimeError):
        return _build(entry, timm_kwargs or {})


def _build(entry: Entry, timm_kwargs: dict[str, Any], *, file: str = "") -> nn.Module:
    """Builds the stock architecture as stock timm does from config.json; with `file`, timm loads it."""
    import timm

    cfg = {**entry.raw["pretrained_cfg"], "architecture": entry.architecture}
    options = {**entry.raw["model_args"], **timm_kwargs}
    for option, least in (("num_classes", 0), ("in_chans", 1)):
        value = options.get(option)
        if value is not None and not (isinstance(value, Integral) and int(value) >= least):
            what = f"{option} is not a whole number of at least {least}"
            raise _option_error(entry, what, f"{option}={value!r}")
    try:
        model: nn.Module = timm.create_model(
            entry.architecture,
            pretrained=bool(file),
            pretrained_cfg={**cfg, "file": file} if file else cfg,
            **options,
        )
    except (TypeError, AssertionError) as error:  # timm asserts that it knows a pooling
        if not timm_kwargs or (isinstance(error, TypeError) and "argument" not in str(error)):
            raise
        raise _option_error(entry, "the architecture does not take an option", str(error)) from error
    except IndexError as error:
        if "out_indices" not in timm_kwargs:
            raise
        got = f"out_indices={timm_kwargs['out_indices']}"
        raise _option_error(entry, "the architecture has no feature level of this index", got) from error
    getattr(model, "pretrained_cfg", {}).pop("file", None)
    return model


def _option_error(entry: Entry, what: str, got: str) -> UsageError:
    """Returns the error for options that timm does not take, `HZ-U69`."""
    return UsageError(
        "HZ-U69",
        what,
        where=f"{entry.name}, timm's {entry.architecture}",
        expected="timm's own options, such as num_classes=5, in_chans=1, features_only=True, out_indices=(1, 2, 3)",
        got=got,
        kept="nothing was loaded",
        next_step="leave the option out, or spell it as timm does",
    )
