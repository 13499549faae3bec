"""Entry -> code: the only place where mean, std, size, kernel, mpp and pooling are turned into something that runs.

Legend: C channels, H W pixels. timm, torch and Pillow are imported when a function is called.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from histozoo.errors import IntegrityError, UsageError
from histozoo.registry import Entry

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

MPP_TOLERANCE = (
    0.1  # a scanner's stated 0.5 um/px is met to within a few percent; beyond 10 % tissue looks another size
)


class Transform:
    """Tile -> pixels as the model was trained on them: timm's evaluation transform for the entry's preprocessing.

    Call it with an RGB `PIL.Image` of any size; gives float32 CHW of `tile_px` x `tile_px`, normalised by mean and std.
    """

    def __init__(self, entry: Entry) -> None:
        import timm

        data: Any = timm.data
        self.name = entry.name
        self.steps = data.create_transform(
            **data.resolve_data_config(pretrained_cfg=entry.raw["pretrained_cfg"]), is_training=False
        )

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns pixels CHW.

        Raises:
            UsageError: `HZ-U15`, not an RGB image. Alpha, palettes and 16 bits are never converted in silence.
        """
        mode = getattr(image, "mode", None)
        if mode != "RGB":
            raise UsageError(
                "HZ-U15",
                f"{self.name} takes RGB images",
                expected="a PIL.Image of mode RGB",
                got=f"mode {mode}" if mode else type(image).__name__,
                next_step="convert it yourself, knowing what becomes of alpha and of 16-bit values",
            )
        pixels_CHW: Tensor = self.steps(image)
        return pixels_CHW

    def __repr__(self) -> str:
        return f"Transform({self.name}: {self.steps})"


def transform(entry: Entry) -> Transform:
    """Returns the entry's transform, bit-equal to the one that stock timm makes from the same bundle."""
    return Transform(entry)


def check_mpp(entry: Entry, mpp: float | None) -> None:
    """Warns (`HZ-H57`) where tiles differ by more than 10 % from the micrometres per pixel that the model was trained at.

    Args:
        entry: The model.
        mpp: Micrometres per pixel of the tiles, None where it is not known.

    Raises:
        UsageError: `HZ-H57`, `mpp` is not a positive finite number.
    """
    if mpp is not None and not (math.isfinite(mpp) and 0 < mpp <= 100):
        raise UsageError(
            "HZ-H57",
            "micrometres per pixel cannot be this",
            expected="a number in (0, 100]; 0.25 is what is called 40x, 0.5 20x",
            got=repr(mpp),
        )
    known = entry.mpp
    if known is None or (mpp is not None and any(abs(mpp / k - 1) <= MPP_TOLERANCE for k in known)):
        return
    told = "tiles of unknown size" if mpp is None else f"tiles at {mpp:g} micrometres per pixel"
    trained = ", ".join(f"{k:g}" for k in known)
    warnings.warn(f"HZ-H57 {entry.name} was trained at {trained}, it gets {told}", stacklevel=2)


def check_model(entry: Entry, model: nn.Module) -> None:
    """Checks that the architecture gives the features that the contract states.

    Args:
        entry: The model's entry.
        model: The stock architecture as published; the meta device will do.

    Raises:
        IntegrityError: `HZ-A08`, another feature length, pooling or number of prefix tokens.
    """
    contract = entry.contract
    found = {
        "feature_dim": getattr(model, "head_hidden_size", None) or getattr(model, "num_features", None),
        "pooling": pooling(model),
        "prefix_tokens": getattr(model, "num_prefix_tokens", 0),
    }
    for field, got in found.items():
        wanted = getattr(contract, field)
        if got is not None and got != wanted:
            raise IntegrityError(
                "HZ-A08",
                f"the architecture does not give what the contract states: {field}",
                where=entry.path,
                expected=f"{wanted!r}, as histozoo.contract.{field} says",
                got=f"{got!r} in timm's {entry.architecture}",
                kept="nothing was loaded",
                next_step="publish the bundle again with the architecture that was trained",
            )


def pooling(model: nn.Module) -> str | None:
    """Returns what timm calls the pooling of this model, "" where it does not pool, None where the architecture does not say."""
    for module in (model, getattr(model, "head", None)):
        pool = getattr(module, "global_pool", None)
        if isinstance(pool, str):
            return pool
        if isinstance(told := getattr(pool, "pool_type", None), str):
            return told
    return None
