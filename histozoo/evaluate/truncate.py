"""A trunk cut after a stage or block, and what it costs.

A cut trunk is the model itself with everything behind the cut taken out, so that its own pooling follows the block and its features
are those of `blocks.py` bit for bit, which is checked for every cut made. What the features are worth is in cut_scores.py, which
stock doors give them in stock_door.py.

Shapes: B batch, D features of a cut.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from histozoo.errors import UsageError
from histozoo.evaluate.blocks import WHOLE, Level, ends, features_at


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What a trunk costs up to a block.

    Args:
        after: The block, as `blocks.ends` names it.
        dim: Features it gives.
        parameters: Parameters up to the cut; buffers are not counted.
        share: Of the parameters of the trunk without classifier.
        flops: Floating-point operations for one tile: two for each multiplication with its addition, in convolutions, matrix
            products and attention, as torch.utils.flop_counter counts them; norms, activations and pooling are not in it.
        flops_share: Of those of the trunk.
    """

    after: str
    dim: int
    parameters: int
    share: float
    flops: int
    flops_share: float


# -- cutting ---------------------------------------------------------------------------------------------------------------------------


def truncate(model: nn.Module, after: str, *, tile_px: int) -> nn.Module:
    """Returns a copy of the model that ends after a block and gives its pooled features `[B, D]`, in eval mode.

    What is computed behind the block is replaced by nothing; the model's forward and its pooling stay, and the keys of its state
    dict are those of the model that are left. Its features are compared with the hooked ones on a tile of noise.

    Args:
        model: A timm model.
        after: A name of `blocks.ends`.
        tile_px: Side of the tile that is run through it.

    Raises:
        UsageError: `HZ-I73`, there is no such block, or the architecture cannot be cut there.
    """
    known = {*ends(model), *ends(model, level="block"), WHOLE}
    if after not in known:
        raise UsageError(
            "HZ-I73", "the model has no such block", where=after, expected=", ".join(ends(model))
        )
    cut: Any = copy.deepcopy(model).eval()
    if getattr(cut, "num_classes", 0):
        cut.reset_classifier(0)
    x_BCHW = noise(model, tile_px)
    if after != WHOLE:
        for name in _behind(cut, after, x_BCHW):
            cut.set_submodule(name, Passed())
    expected_BD = features_at(model, x_BCHW, (after,))[after]
    with torch.inference_mode():
        got_BD = cut(x_BCHW)
    if not torch.equal(expected_BD, got_BD):
        raise _cannot(model, after, f"features {list(got_BD.shape)} that are not those of the block")
    for attribute in ("num_features", "head_hidden_size"):
        if hasattr(cut, attribute):
            setattr(cut, attribute, got_BD.shape[1])
    module: nn.Module = cut
    return module


def noise(model: nn.Module, tile_px: int) -> Tensor:
    """Returns one tile of normal noise `[1, 3, tile_px, tile_px]`, always the same, where and as the model takes it."""
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(1, 3, tile_px, tile_px, generator=generator)
    return x_BCHW.to(parameter.device, parameter.dtype).contiguous(memory_format=torch.channels_last)


class Passed(nn.Module):
    """Stands where something behind a cut stood: gives back its first argument, whatever else it is called with."""

    def forward(self, x: Tensor, *_args: object, **_options: object) -> Tensor:
        """Returns `x`."""
        return x


def _behind(model: nn.Module, after: str, x_BCHW: Tensor) -> list[str]:
    """Returns the outermost modules with weights or buffers that are first entered after the block is left."""
    entered: dict[str, int] = {}
    left: list[int] = []

    def enter(name: str, *_: object) -> None:
        entered.setdefault(name, len(entered))

    def leave(*_: object) -> None:
        left.append(len(entered))

    handles = [m.register_forward_pre_hook(partial(enter, name)) for name, m in model.named_modules()]
    handles.append(model.get_submodule(after).register_forward_hook(leave))
    try:
        with torch.inference_mode():
            model(x_BCHW)
    finally:
        for handle in handles:
            handle.remove()
    if len(left) != 1:
        raise _cannot(model, after, f"a block that is run {len(left)} times")
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found) or "global_pool" in name.split(".")
        if entered.get(name, -1) >= left[0] and not inside and _works(module):
            found.append(name)
    return found


def _works(module: nn.Module) -> bool:
    """Whether a module changes what the pooling gets or gives: one with weights, or one of its own such as an activation."""
    if any(name.rpartition(".")[2] == "global_pool" for name, _ in module.named_modules()):
        return False
    if module.state_dict():
        return True
    keeps = (nn.Flatten, nn.Identity, nn.Dropout)
    return not list(module.children()) and not isinstance(module, keeps)


def _cannot(model: nn.Module, after: str, got: str) -> UsageError:
    return UsageError(
        "HZ-I73",
        "this architecture cannot be cut here",
        where=f"{type(model).__name__}, {after}",
        expected="blocks run one after another, with pooling that has no weights behind them",
        got=got,
        next_step="take the features with block_features, which needs no cut",
    )


# -- cost ------------------------------------------------------------------------------------------------------------------------------


def cuts(model: nn.Module, *, tile_px: int, level: Level = "stage") -> tuple[Cut, ...]:
    """Returns every cut of a trunk with its cost, from the first to the whole.

    Args:
        model: A timm model.
        tile_px: Side of the tile whose operations are counted.
        level: `stage` or `block`, see `blocks.ends`.

    Raises:
        UsageError: `HZ-I73`, the model does not say what its blocks are or cannot be cut.
    """
    whole = truncate(model, WHOLE, tile_px=tile_px)
    parameters, flops = _parameters(whole), count_flops(whole, tile_px=tile_px)
    found = []
    for name in ends(model, level=level):
        cut = truncate(model, name, tile_px=tile_px)
        cost, work = _parameters(cut), count_flops(cut, tile_px=tile_px)
        found.append(
            Cut(
                after=name,
                dim=_dim(cut, tile_px),
                parameters=cost,
                share=cost / parameters,
                flops=work,
                flops_share=work / flops,
            )
        )
    return tuple(found)


def count_flops(model: nn.Module, *, tile_px: int) -> int:
    """Returns the floating-point operations for one tile; what is counted is said in `Cut`."""
    from torch.utils.flop_counter import FlopCounterMode

    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        # The counter follows gradients through modules, which fails on some of them where there are none to follow.
        for p in wanted:
            p.requires_grad_(False)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(noise(model, tile_px))
    finally:
        for p in wanted:
            p.requires_grad_(True)
    return int(counter.get_total_flops())


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _dim(model: nn.Module, tile_px: int) -> int:
    with torch.inference_mode():
        return int(model(noise(model, tile_px)).shape[1])
