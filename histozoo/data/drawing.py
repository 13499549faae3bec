"""What each sample draws for a view: uniform numbers -> boxes, decisions and factors. Runs on the processor for every device.

Shapes: B batch, S stains, U numbers of one view (`SLOTS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from histozoo.data.cropping import Boxes, crop_sides, place
from histozoo.data.photometric import blur_kernels, hue_offsets, saturation_map
from histozoo.data.stain import mixing_factors, partners, stain_maps
from histozoo.errors import UsageError

SLOTS = {
    name: i
    for i, name in enumerate(
        (
            *("flip_x", "flip_y", "quarter", "area", "aspect", "x", "y"),
            *("stain", "stain_h", "stain_e", "stain_r", "shift_h", "shift_e", "shift_r"),
            *("mix", "mix_partner", "mix_weight"),
            *("colour", "brightness", "contrast", "saturation", "hue"),
            *("grey", "blur", "sigma", "solarise"),
        )
    )
}
"""Which uniform number of a view steers what."""

OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    "crop": {"area": (1.0, 1.0), "aspect": 1.0},
    "flip": {"flip": False},
    "rot90": {"rot90": False},
    "stain": {"stain_p": 0.0},
    "mix": {"mix_p": 0.0},
    "colour": {"colour_p": 0.0},
    "brightness": {"brightness": 0.0},
    "contrast": {"contrast": 0.0},
    "saturation": {"saturation": 0.0},
    "hue": {"hue": 0.0},
    "grey": {"grey_p": 0.0},
    "blur": {"blur_p": 0.0},
    "solarise": {"solarise_p": 0.0},
}
"""Operations that can be left out by name, and the strengths at which they do nothing."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Strengths of one view. A name with `_p` is the probability that a sample draws the operation.

    Args:
        px: Side of the view in pixels.
        area: Smallest and largest share of the tile's area that is shown, in (0, 1]. The default changes the magnification by up to 1.6
            between two views, with the default aspect by up to 1.8 along one axis; `histozoo.data.cropping.area_for_mpp` gives it for
            bounds in micrometres per pixel, which an experiment states as `mpp` in `[views]`.
        aspect: Largest ratio of the crop's sides, at least 1.
        flip: Mirror left-right and up-down, each with probability 1/2.
        rot90: Turn by 0, 90, 180 or 270 degrees, each with probability 1/4.
        stain: Half-width of the uniform factor on the densities of haematoxylin, eosin and residual around 1, and of the shift around 0 in
            natural-log density (Tellez et al., Med. Image Anal. 58 (2019) 101544, "HED": 0.05 is light, 0.2 strong).
        mix: Largest share of another sample's stain strengths, 0 to 1.
        brightness: Half-width of the uniform factor around 1; SimCLR's 0.8 is for photographs.
        contrast: The same.
        saturation: The same.
        hue: Half-width of the uniform turn, as a share of the circle, at most 0.5.
        sigma: Smallest and largest sigma of the blur, in pixels of the view, above 0.

    Raises:
        UsageError: `HZ-U86`, a strength that no view can have.
    """

    px: int
    area: tuple[float, float] = (0.4, 1.0)
    aspect: float = 4 / 3
    flip: bool = True
    rot90: bool = True
    stain_p: float = 0.8
    stain: float = 0.05
    mix_p: float = 0.0
    mix: float = 1.0
    colour_p: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey_p: float = 0.2
    blur_p: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise_p: float = 0.0

    def __post_init__(self) -> None:
        possible = {
            "area": (
                0 < self.area[0] <= self.area[1] <= 1,
                "two shares of the tile in (0, 1], the smaller first",
            ),
            "aspect": (self.aspect >= 1, "1 or more"),
            "hue": (0 <= self.hue <= 0.5, "0 to 0.5 of the circle"),
            "sigma": (0 < self.sigma[0] <= self.sigma[1], "two numbers of pixels above 0, the smaller first"),
            "mix": (0 <= self.mix <= 1, "0 to 1"),
        }
        for name, (holds, expected) in possible.items():
            if not holds:
                raise UsageError(
                    "HZ-U86",
                    f"no view can have this {name}",
                    where=f"views, {name}",
                    expected=expected,
                    got=getattr(self, name),
                )


@dataclass(frozen=True)
class Drawn:
    """What the samples of a batch drew for one view.

    Args:
        boxes: Crops and symmetries.
        has: Operation -> which samples drew it.
        values: Name -> each sample's factor or factors, `[B, ...]`.
    """

    boxes: Boxes
    has: dict[str, list[bool]]
    values: dict[str, Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def to(self, device: torch.device) -> Drawn:
        """Returns the same with its values on a device."""
        values = {name: v.to(device, non_blocking=True) for name, v in self.values.items()}
        return Drawn(self.boxes, self.has, values, device)

    def each(self) -> Iterator[Drawn]:
        """Yields the draw of each sample alone; its box stays with the batch."""
        split = {name: v.chunk(len(v)) for name, v in self.values.items()}
        for row in range(len(self.boxes.x_B)):
            has = {name: [drew[row]] for name, drew in self.has.items()}
            yield Drawn(self.boxes, has, {name: v[row] for name, v in split.items()})

    def on(self, operation: str, x: Tensor, work: Callable[..., Tensor], *names: str) -> Tensor:
        """Returns `x` `[B, ...]` with `work(x, *values)` done to those samples that drew the operation, in the shape of `x`."""
        drew = self.has[operation]
        values = [self.values[n] for n in names]
        if all(drew):
            return work(x, *values)
        if not any(drew):
            return x
        rows = torch.tensor([i for i, d in enumerate(drew) if d]).to(self.device, non_blocking=True)
        return x.index_copy_(0, rows, work(x[rows], *(v[rows] for v in values)))


def draw(view: View, u_BU: Tensor, *, hw: tuple[int, int], strength_BS: Tensor | None) -> Drawn:
    """Returns what the numbers mean for a view.

    Args:
        view: Its strengths.
        u_BU: float32 numbers in [0, 1) on the processor, `[B, len(SLOTS)]`.
        hw: Height and width of the tiles in pixels.
        strength_BS: Stain strengths of the samples, on the processor; only where stains are mixed.
    """
    u = {name: u_BU[:, i] for name, i in SLOTS.items()}
    sides = crop_sides(u["area"], u["aspect"], area=view.area, aspect=view.aspect)
    off_B = torch.zeros(len(u_BU), dtype=torch.bool)
    flips = tuple(u[n] < 0.5 if view.flip else off_B for n in ("flip_x", "flip_y"))
    quarter_B = (u["quarter"] * 4).long().clamp_(max=3) if view.rot90 else off_B.long()
    boxes = place(sides, u["x"], u["y"], (flips[0], flips[1], quarter_B), hw=hw)
    has, values = _colours(view, u)
    has["stain"], values["stain"], values["stain_shift"] = _stains(view, u_BU, strength_BS)
    return Drawn(boxes, {name: drew_B.tolist() for name, drew_B in has.items()}, values)


def _colours(view: View, u: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    jitter = u["colour"] < view.colour_p
    has = {n: jitter & (getattr(view, n) > 0) for n in ("brightness", "contrast", "saturation", "hue")}
    has |= {n: u[n] < getattr(view, f"{n}_p") for n in ("grey", "blur", "solarise")}
    factors = {
        n: (1 + getattr(view, n) * (2 * u[n] - 1)).clamp(min=0)
        for n in ("brightness", "contrast", "saturation")
    }
    values = {n: factors[n][:, None, None] for n in ("brightness", "contrast")}
    values["saturation"] = saturation_map(factors["saturation"])
    values["hue"] = hue_offsets(view.hue * (2 * u["hue"] - 1))
    values["blur"] = blur_kernels(view.sigma[0] + (view.sigma[1] - view.sigma[0]) * u["sigma"], view.sigma[1])
    return has, values


def _stains(view: View, u_BU: Tensor, strength_BS: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns who draws a change of stains, and its maps: jitter and mixing are one affine map of densities."""
    jitter_B1, mix_B1 = ((u_BU[:, [SLOTS[n]]] < p) for n, p in (("stain", view.stain_p), ("mix", view.mix_p)))
    jitter_B1 = jitter_B1 & (view.stain > 0)
    spread_BS, shift_BS = (
        view.stain * (2 * u_BU[:, SLOTS[first] : SLOTS[last] + 1] - 1) * jitter_B1
        for first, last in (("stain_h", "stain_r"), ("shift_h", "shift_r"))
    )
    factor_BS = 1 + spread_BS
    if strength_BS is not None:
        weight_B = view.mix * u_BU[:, SLOTS["mix_weight"]] * mix_B1[:, 0]
        factor_BS = factor_BS * mixing_factors(strength_BS, partners(u_BU[:, SLOTS["mix_partner"]]), weight_B)
    return (jitter_B1 | mix_B1)[:, 0], *stain_maps(factor_BS, shift_BS)
