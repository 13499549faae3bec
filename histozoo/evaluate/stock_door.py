"""Which cuts of a trunk stock timm can express, found by building what it offers and comparing features bit for bit.

A ResNet takes `layers` with a 0 for every stage left out and `channels` that end in the features of the last stage kept; a vision
transformer takes a smaller `depth` and `final_norm=False`; a DenseNet takes a shorter `block_config`, and the norm of the transition behind
its last block stands as its final one. These are then complete models with pooled features, so that a cut can be an entry of its own. Other
families have no such options; many give the feature map of a stage through `features_only=True`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from histozoo.evaluate.blocks import WHOLE, pooling
from histozoo.evaluate.truncate import noise, truncate


@dataclass(frozen=True, kw_only=True)
class Door:
    """How stock timm gives the features of a cut.

    Args:
        kind: `model`: `timm.create_model(architecture, num_classes=0, **model_args)` is the cut trunk, pooling and all, so that it can
            be published as an entry; `maps`: `features_only=True, out_indices=out_indices` gives the block's feature map out of the
            whole trunk's weights, and the caller pools it; `none`: neither, only `truncate` gives them.
        model_args: Options of the cut trunk, as they would stand in an entry.
        moved: Module of the cut -> where the stock model has it; see `state`.
        out_indices: Index for `features_only`.
        why: One sentence for a card.
    """

    kind: Literal["model", "maps", "none"]
    model_args: Mapping[str, Any] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
    out_indices: tuple[int, ...] = ()
    why: str = ""

    def state(self, cut: nn.Module) -> dict[str, Tensor]:
        """Returns the weights of `truncate`'s cut by the names that the stock model has for them."""
        return _moved(cut.state_dict(), self.moved)


def stock_door(
    architecture: str, after: str, *, tile_px: int, model_args: Mapping[str, Any] | None = None
) -> Door:
    """Returns through which door of stock timm the features of a cut can be had.

    Which door there is depends on the architecture, not on its weights: random ones are used, and a door is named only where it gave
    the same bits as `truncate`.

    Args:
        architecture: timm name of the trunk.
        after: A name of `blocks.ends`.
        tile_px: Side of the tile it is tried on.
        model_args: Options that the whole trunk is made with.

    Raises:
        UsageError: `HZ-I73`, there is no such block, or the architecture cannot be cut there.
    """
    options = dict(model_args or {})
    trunk = _seeded(architecture, options)
    cut = truncate(trunk, after, tile_px=tile_px)
    x_BCHW = noise(trunk, tile_px)
    with torch.inference_mode():
        expected_BD = cut(x_BCHW)
    if cut.state_dict().keys() == truncate(trunk, WHOLE, tile_px=tile_px).state_dict().keys():
        return Door(kind="model", model_args=options, why=f"this is the whole of timm's {architecture}")
    wanted, moved = _shorter(trunk, after), _places(after)
    state = _moved(cut.state_dict(), moved)
    if wanted is not None and _same_model(architecture, {**options, **wanted}, state, x_BCHW, expected_BD):
        told = ", ".join(f"{key}={value}" for key, value in wanted.items())
        return Door(
            kind="model",
            model_args={**options, **wanted},
            moved=moved,
            why=f"stock timm builds it: {architecture} with {told}",
        )
    index = _index(trunk, after)
    if index is not None and _same_maps(architecture, options, index, pooling(trunk), x_BCHW, expected_BD):
        return Door(
            kind="maps",
            out_indices=(index,),
            why=f"stock timm gives its feature map (features_only=True, out_indices=({index},)) from the weights of the "
            "whole trunk; pooling is left to the caller, so that it cannot be an entry of its own",
        )
    return Door(kind="none", why=f"stock timm has no option that ends {architecture} after {after}")


def _seeded(architecture: str, options: Mapping[str, Any], **more: Any) -> nn.Module:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(
            architecture, pretrained=False, **{"num_classes": 0, **options, **more}
        )
    return model.eval()


def _shorter(trunk: Any, after: str) -> dict[str, Any] | None:
    """Returns the options that may make the shorter trunk, as JSON types; None where the family has none."""
    from timm.models.densenet import DenseNet
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer

    place = after.split(".")
    if isinstance(trunk, VisionTransformer) and place[0] == "blocks" and len(place) == 2:
        return {"depth": int(place[1]) + 1, "final_norm": False}
    if isinstance(trunk, DenseNet) and _places(after):
        last = int(place[1].removeprefix("transition"))
        blocks = [trunk.get_submodule(f"features.denseblock{i}") for i in range(1, last + 1)]
        return {"block_config": [len(list(block.children())) for block in blocks]}
    if not isinstance(trunk, ResNet) or not place[0].startswith("layer"):
        return None
    stages = [getattr(trunk, f"layer{i}") for i in range(1, 5)]
    last = int(place[0].removeprefix("layer"))
    lengths = [len(stage) if i < last else 0 for i, stage in enumerate(stages)]
    if len(place) == 2:
        lengths[last - 1] = int(place[1]) + 1
    # A stage's channels before expansion; the classifier is sized by those of the last, even where it has no block.
    info = trunk.feature_info[1:]
    channels = [entry["num_chs"] // stage[0].expansion for entry, stage in zip(info, stages, strict=True)]
    channels[last:] = [info[last - 1]["num_chs"] // stages[-1][0].expansion] * (4 - last)
    return {"layers": lengths, "channels": channels}


def _places(after: str) -> dict[str, str]:
    """Returns what stands elsewhere in the stock model: behind its last block, a DenseNet has its final norm and no transition."""
    return {after: "features.norm5"} if re.fullmatch(r"features\.transition\d+\.norm", after) else {}


def _moved(state: Mapping[str, Tensor], moved: Mapping[str, str]) -> dict[str, Tensor]:
    found = dict(state)
    for before, behind in moved.items():
        for key in [k for k in found if k.startswith(f"{before}.")]:
            found[behind + key.removeprefix(before)] = found.pop(key)
    return found


def _same_model(
    architecture: str,
    options: Mapping[str, Any],
    state: Mapping[str, Tensor],
    x_BCHW: Tensor,
    expected_BD: Tensor,
) -> bool:
    try:
        built: Any = _seeded(architecture, options)
        built.load_state_dict(state, strict=True)
        with torch.inference_mode():
            same = torch.equal(built(x_BCHW), expected_BD)
    except Exception:  # whatever an architecture raises on options it was not made for, it is no door
        return False
    return same and built.head_hidden_size == expected_BD.shape[1]


def _index(trunk: Any, after: str) -> int | None:
    names = [entry["module"] for entry in trunk.feature_info]
    return names.index(after) if after in names else None


def _same_maps(
    architecture: str,
    options: Mapping[str, Any],
    index: int,
    pool: Callable[[Any], Tensor],
    x_BCHW: Tensor,
    expected_BD: Tensor,
) -> bool:
    try:
        maps = _seeded(architecture, options, features_only=True, out_indices=(index,))
        with torch.inference_mode():
            [map_BCHW] = maps(x_BCHW)
            return torch.equal(pool(map_BCHW), expected_BD)
    except Exception:  # as above: many families have no features_only, each in its own words
        return False
