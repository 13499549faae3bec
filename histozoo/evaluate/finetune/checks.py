"""What is refused before the first step: tiles, splits and models that a fine-tuning cannot be measured on.

Shapes: N tiles, H W pixels, D features, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from histozoo.data.splits import PARTS, Split, check_split
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.probe import features


def check_task(labelled: LabelledTiles, split: Split) -> None:
    """Checks tiles, labels and groups.

    Raises:
        UsageError: `HZ-I68` tiles are not uint8 RGB squares, or a label is no class; `HZ-I62` a part of the split lacks a class; `HZ-E37`
            a group in two parts.
    """
    tiles_NHWC, classes = labelled.tiles_NHWC, len(labelled.classes)
    shape = tiles_NHWC.shape
    if tiles_NHWC.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise UsageError(
            "HZ-I68",
            "these are no tiles",
            where=labelled.task,
            expected="uint8 RGB squares, [N, px, px, 3]",
            got=f"{tiles_NHWC.dtype} {list(shape)}",
        )
    low, high = int(labelled.labels_N.min()), int(labelled.labels_N.max())
    if low < 0 or high >= classes:
        raise UsageError(
            "HZ-I68",
            "a label is no class of the task",
            where=labelled.task,
            expected=f"0 to {classes - 1}",
            got=f"{low} to {high}",
        )
    check_split(split, [str(g) for g in labelled.groups_N])
    for part in PARTS:
        absent = np.setdiff1d(np.arange(classes), labelled.labels_N[getattr(split, part)])
        if len(absent):
            raise UsageError(
                "HZ-I62",
                f"the {part} rows lack a class",
                where=f"{labelled.task}, {', '.join(labelled.classes[k] for k in absent)}",
                expected="every class in train, val and test",
                got=f"{len(getattr(split, part))} {part} rows",
                kept="nothing was trained",
                next_step="make the split by group with every class in every part, or take the class out of the task",
            )


def check_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuses channel statistics that are not three finite means and three positive deviations (`HZ-I68`)."""
    good = len(mean) == len(std) == 3 and all(map(math.isfinite, [*mean, *std])) and min(std) > 0
    if not good:
        raise UsageError(
            "HZ-I68",
            "the channel statistics are none",
            expected="three finite means and three positive standard deviations",
            got=f"mean {tuple(mean)}, std {tuple(std)}",
        )


def feature_count(
    trunk: nn.Module, labelled: LabelledTiles, *, mean: Sequence[float], std: Sequence[float]
) -> int:
    """Returns D, after the trunk has said it and has given that many for one tile.

    Raises:
        UsageError: `HZ-I68`, the model does not say how many features it has, cannot see tiles of this side, or gives something else.
        IntegrityError: `HZ-A06` a weight is not finite; `HZ-I62` a feature is not.
    """
    said = {n for n in (getattr(trunk, k, None) for k in _SAYS) if isinstance(n, int) and n > 0}
    if not isinstance(getattr(trunk, "num_features", None), int) or not said:
        raise _no_trunk(
            "num_features, the number of its pooled features", f"{type(trunk).__name__} without it"
        )
    if not list(trunk.parameters()):
        raise _no_trunk("a model with weights", f"{type(trunk).__name__} without one")
    _check_weights(trunk.state_dict())
    try:
        f_ND = features(trunk, labelled.tiles_NHWC[:1], mean=mean, std=std)
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, IntegrityError):
            raise
        side = labelled.tiles_NHWC.shape[1]
        raise _no_trunk(f"a model that takes tiles of {side} pixels", str(error)) from error
    if f_ND.ndim != 2 or f_ND.shape[1] not in said:
        raise _no_trunk(f"pooled features, [1, {max(said)}]", f"{list(f_ND.shape)}")
    return int(f_ND.shape[1])


_SAYS = ("num_features", "head_hidden_size")


def _check_weights(state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IntegrityError(
                "HZ-A06",
                f"tensor {name!r} cannot be a trained weight",
                expected="finite values",
                got=f"{int((~torch.isfinite(tensor)).sum()):,} of {tensor.numel():,} values are NaN or infinity",
                kept="nothing was trained",
                next_step="run `histozoo verify` on the model",
            )


def _no_trunk(expected: str, got: str) -> UsageError:
    return UsageError(
        "HZ-I68",
        "the model cannot be given a head",
        expected=expected,
        got=got,
        kept="nothing was trained",
        next_step="pass the trunk as timm makes it with num_classes=0",
    )
