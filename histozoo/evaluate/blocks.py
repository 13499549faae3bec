"""Features of every block of a timm model from one forward pass: hooks at stage or block ends, pooled as the model pools.

A feature map is pooled by the model's own pooling layer, tokens as the model takes them (class token or mean of the patch
tokens), so that a model cut after a block (truncate.py) gives the same bits. No norm is put behind a block: what is pooled is
the block's output as the next block gets it.

Shapes: N tiles, B batch, H W pixels, C channels, D features of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

Level = Literal["stage", "block"]
WHOLE = "whole"
"""Name of the model's own features, where layers with weights (a last norm) follow the last block."""

_STEMS = ("act", "bn", "norm", "stem", "conv")
_DENSE = ("features.denseblock", "features.transition")


# -- names -----------------------------------------------------------------------------------------------------------------------------


def ends(model: nn.Module, *, level: Level = "stage") -> tuple[str, ...]:
    """Returns the names of the modules after which features are taken, in order; `WHOLE` last where a norm with weights follows.

    Stages are those of timm's `feature_info` without the stem. Those of a DenseNet are dense blocks, the norms behind them and transitions:
    only behind a norm, as at its end, have the features of a dense block one scale, and there stock timm can end it (stock_door.py).
    Blocks are the residual or transformer blocks inside them; a stage that is no sequence of blocks counts as one.

    Args:
        model: A timm model.
        level: `stage` (ResNet: layer1 to layer4) or `block` (ResNet: layer1.0, layer1.1, ...). A ViT's blocks are its stages.

    Raises:
        UsageError: `HZ-I73`, the model does not say what its blocks are.
    """
    stages = _stages(model)
    if level == "block" and not stages[0].startswith(_DENSE):
        stages = [block for stage in _all_stages(model, stages) for block in _inside(model, stage)]
    return (*stages, WHOLE) if _state_after(model, stages[-1]) else tuple(stages)


def _stages(model: nn.Module) -> list[str]:
    dense = [n for n, _ in model.named_modules() if n.startswith(_DENSE) and n.count(".") == 1]
    if dense:
        normed = [[f"{n}.norm", n] if "transition" in n else [n] for n in dense]
        return [*(name for some in normed for name in some), "features.norm5"]
    info = getattr(model, "feature_info", None)
    modules = dict(model.named_modules())
    names = [entry["module"] for entry in info or [] if isinstance(entry, dict)]
    if names and names[0].rpartition(".")[2].startswith(_STEMS):
        names = names[1:]
    if not names or any(name not in modules for name in names):
        raise UsageError(
            "HZ-I73",
            "the model does not say what its blocks are",
            where=type(model).__name__,
            expected="a timm model with `feature_info`: ResNet, DenseNet, ViT, ConvNeXt, Swin and others",
            got=f"stages {', '.join(names)}" if names else "no feature_info",
            next_step="pass the trunk as timm.create_model makes it; its pooled features can be used all the same",
        )
    return names


def _all_stages(model: nn.Module, stages: Sequence[str]) -> list[str]:
    """Returns every child of the container that the stages lie in: `feature_info` may list those alone that change the resolution."""
    parents = {name.rpartition(".")[0] for name in stages}
    if len(parents) > 1 or "" in parents or parents == {"features"}:
        return list(stages)
    [parent] = parents
    return [f"{parent}.{child}" for child, _ in model.get_submodule(parent).named_children()]


def _inside(model: nn.Module, stage: str) -> list[str]:
    from torch import nn

    module, path = model.get_submodule(stage), stage
    if isinstance(inner := getattr(module, "blocks", None), nn.Sequential | nn.ModuleList):
        module, path = inner, f"{stage}.blocks"
    if not isinstance(module, nn.Sequential | nn.ModuleList) or not len(module):
        return [stage]
    return [f"{path}.{child}" for child, _ in module.named_children()]


def _state_after(model: nn.Module, last: str) -> bool:
    """Whether weights other than a classifier's are registered behind the last block."""
    names = [name for name, _ in model.named_modules()]
    end = max(i for i, name in enumerate(names) if name == last or name.startswith(f"{last}."))
    heads = getattr(model, "default_cfg", {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    behind = (n for n in names[end + 1 :] if not any(n == h or n.startswith(f"{h}.") for h in heads))
    return any(list(model.get_submodule(name).parameters(recurse=False)) for name in behind)


# -- features --------------------------------------------------------------------------------------------------------------------------


def block_features(
    model: nn.Module,
    tiles_NHWC: NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    level: Level = "stage",
    batch: int = 64,
) -> dict[str, NDArray[np.float32]]:
    """Returns block -> features `[N, D]` of all tiles, from one pass over them.

    Args:
        model: A timm model; runs in eval mode and is given back in the mode it came.
        tiles_NHWC: uint8 RGB `[N, tile_px, tile_px, 3]`.
        mean: Channel means of the contract, for values scaled to [0, 1].
        std: Channel standard deviations of the contract, on the same scale.
        level: `stage` or `block`, see `ends`.
        batch: Tiles per forward pass.

    Raises:
        UsageError: `HZ-I73`, the model does not say what its blocks are, or there is no tile.
        IntegrityError: `HZ-I62`, a feature is not finite; names the block and the first rows.
    """
    parts = list(stream(model, tiles_NHWC, mean=mean, std=std, level=level, batch=batch))
    if not parts:
        raise UsageError("HZ-I73", "there is no tile to take features of", expected="at least one tile")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def stream(
    model: nn.Module,
    tiles_NHWC: NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    level: Level = "stage",
    batch: int = 64,
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Gives block -> features `[B, D]` batch by batch, so that nothing grows with the number of tiles; arguments as in `block_features`."""
    import torch

    from histozoo.data.views import normalise

    names, parameter = ends(model, level=level), next(model.parameters())
    for start in range(0, len(tiles_NHWC), batch):
        # A copy: packed tiles are read-only.
        x_BHWC = torch.from_numpy(np.array(tiles_NHWC[start : start + batch])).to(parameter.device)
        x_BCHW = normalise(x_BHWC.permute(0, 3, 1, 2).float() / 255, mean, std).to(parameter.dtype)
        found = {name: f_BD.float().cpu().numpy() for name, f_BD in features_at(model, x_BCHW, names).items()}
        for name, f_BD in found.items():
            check_finite(f_BD, name, first_row=start)
        yield found


def features_at(model: nn.Module, x_BCHW: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Returns block -> pooled features `[B, D]` of normalised pixels, in eval mode and without gradients.

    Args:
        model: A timm model.
        x_BCHW: Normalised pixels.
        names: Modules as `ends` names them.
    """
    import torch

    pool, found = pooling(model), {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: Any) -> None:
            found[name] = pool(output)  # at once: a later layer may work in place

        return hook

    with torch.inference_mode(), _evaluating(model), _hooks(model, {n: keep(n) for n in names if n != WHOLE}):
        whole_BD = own_features(model, x_BCHW)
    if WHOLE in names:
        found[WHOLE] = whole_BD
    return {name: found[name] for name in names}


def own_features(model: Any, x_BCHW: Tensor) -> Tensor:
    """Returns the model's own pooled features `[B, D]`, with or without a classifier behind them."""
    if not hasattr(model, "forward_head"):
        f_BD: Tensor = model(x_BCHW)
        return f_BD
    features_BD: Tensor = model.forward_head(model.forward_features(x_BCHW), pre_logits=True)
    return features_BD


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


@contextmanager
def _hooks(model: nn.Module, hooks: Mapping[str, Callable[..., None]]) -> Iterator[None]:
    handles = [model.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def pooling(model: Any) -> Callable[[Any], Tensor]:
    """Returns how this model turns a block's output, a feature map or tokens, into one vector per tile."""
    from timm.models.vision_transformer import global_pool_nlc

    layer: Any = getattr(model, "global_pool", None)
    if not callable(layer):
        layer = getattr(getattr(model, "head", None), "global_pool", None)
    own = callable(layer) and bool(getattr(layer, "pool_type", True))
    spatial = (1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else (2, 3)
    kind = model.global_pool if isinstance(getattr(model, "global_pool", None), str) else "avg"
    prefix = getattr(model, "num_prefix_tokens", 0)
    # Attention pooling was trained behind the last block and is no pooling for the others.
    kind = kind if kind in ("token", "avg", "avgmax", "max") and (kind != "token" or prefix) else "avg"

    def pool(output: Any) -> Tensor:
        output = output[0] if isinstance(output, tuple | list) else output
        if output.ndim == 4:
            pooled: Tensor = layer(output).flatten(1) if own else output.mean(spatial)
            return pooled
        if output.ndim == 3:
            pooled = global_pool_nlc(
                output,
                kind,
                num_prefix_tokens=prefix,
                reduce_include_prefix=getattr(model, "pool_include_prefix", False),
            )
            return pooled
        raise UsageError(
            "HZ-I73",
            "the output of a block is neither a feature map nor tokens",
            where=type(model).__name__,
            expected="[B, C, H, W], [B, H, W, C] or [B, tokens, C]",
            got=str(list(output.shape)),
        )

    return pool


def check_finite(f_BD: NDArray[Any], block: str, *, first_row: int = 0) -> None:
    """Refuses features that are not finite.

    Args:
        f_BD: Features of a batch.
        block: Where they come from, for the message.
        first_row: Row of the first of them among all tiles.

    Raises:
        IntegrityError: `HZ-I62`, with block, number of bad rows and the first five.
    """
    bad = np.flatnonzero(~np.isfinite(f_BD).all(1))
    if len(bad):
        more = " ..." if len(bad) > 5 else ""
        raise IntegrityError(
            "HZ-I62",
            "features are not finite",
            where=f"{block}, rows {', '.join(str(first_row + row) for row in bad[:5])}{more}",
            expected=f"{len(f_BD)} finite rows",
            got=f"{len(bad)} rows with NaN or infinity",
            kept="nothing was compared",
            next_step="run `histozoo verify` on the model; a float16 overflow shows like this too",
        )
