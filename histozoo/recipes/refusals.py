"""What recipes refuse before they are built: backbones and views that they cannot train with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from histozoo.errors import UsageError
from histozoo.recipes import parts


def refuse(what: str, *, got: object, expected: object, next_step: str) -> UsageError:
    """Returns the error of a pair of recipe and backbone, or of views, that cannot work."""
    return UsageError(
        "HZ-U87", what, got=got, expected=expected, kept="nothing was trained", next_step=next_step
    )


def sides(views: parts.ManyViews) -> list[int]:
    """Returns the side in pixels of each view, by making the views of one black tile."""
    with torch.device("cpu"):  # also where the recipe around them is built without memory
        tile = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
        return [int(x.shape[-1]) for x in views(tile, torch.full((1, views.uniforms), 0.5))]


def check(
    backbone: nn.Module, views: parts.ManyViews, *, name: str, least: int, most: int | None = None
) -> None:
    """Refuses views of the wrong number, and views of a size that a vision transformer of fixed size cannot take.

    Raises:
        UsageError: `HZ-U87`.
    """
    found = sides(views)
    if len(found) < least or (most is not None and len(found) > most):
        wanted = f"{least}" if least == most else f"{least} or more"
        raise refuse(
            f"{name} compares {wanted} view(s) of each tile",
            got=f"{len(found)} view(s)",
            expected=wanted,
            next_step="change the experiment's views",
        )
    check_sizes(backbone, found, what=f"{name} gives views that")


def check_sizes(backbone: nn.Module, found: Sequence[int], *, what: str) -> None:
    """Refuses sides in pixels that a vision transformer does not take; `what` are pictures of these sides, as a sentence begins.

    Raises:
        UsageError: `HZ-U87`.
    """
    embed = getattr(backbone, "patch_embed", None)
    size = getattr(embed, "img_size", None)
    patch = getattr(embed, "patch_size", None)
    if size is None or patch is None:
        return
    fixed = getattr(embed, "strict_img_size", False)
    wrong = [px for px in found if (px != size[0] if fixed else px % patch[0])]
    if wrong:
        raise refuse(
            f"{what} this vision transformer does not take",
            got=f"{wrong} px",
            expected=f"{size[0]} px" if fixed else f"a multiple of {patch[0]} px",
            next_step="change the views' size, or build the backbone with img_size=... or dynamic_img_size=True",
        )
