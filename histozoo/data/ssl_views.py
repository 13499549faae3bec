"""Views for self-supervised training: several random looks at each tile, on the model's device, as a pure function of uniform numbers.

Order of the operations of one view: crop, mirror and quarter turn, stain mixing and stain jitter, colour jitter (brightness, contrast,
saturation, hue), grey, blur, solarisation, normalisation. Published recipes draw the order of the four colour operations too; here it is
fixed, and every operation is drawn per sample. The defaults are those of SimCLR (Chen et al., ICML 2020, appendix A) for what it has, with
crops that keep the magnification.

Nothing here draws a random number. On the processor every sample is worked on alone, so equal numbers give equal bits whatever the batch
around them (stain mixing, which looks at another sample, aside); other devices work on the whole batch at once.

Shapes: B batch, V views, H W pixels of the packed tile, px of a view, U uniform numbers of a sample, P pixels of a view.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from histozoo.data import stain
from histozoo.data.cropping import crop_batch, crop_one
from histozoo.data.drawing import OPERATIONS, SLOTS, Drawn, View, draw
from histozoo.data.photometric import blur, brighten_, contrast_, grey_, saturate, solarise_, turn_hue
from histozoo.devices import one_thread
from histozoo.errors import UsageError

_THUMBNAIL_PX = 32
"""Pixels along a side that a sample's stain strengths are read from."""


@dataclass(frozen=True, kw_only=True)
class SSLViews:
    """What is shown of each tile.

    Args:
        views: One description per view, the global ones first.
        mean: Channel means subtracted after scaling to [0, 1].
        std: Channel standard deviations divided by.
        without: Operations left out of every view, of `OPERATIONS`; the others draw the same numbers as with them.

    Raises:
        UsageError: `HZ-U86`, an operation in `without` that there is not; the nearest names are listed.
    """

    views: tuple[View, ...]
    mean: Sequence[float]
    std: Sequence[float]
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.without:
            if name not in OPERATIONS:
                near = difflib.get_close_matches(name, OPERATIONS, n=3, cutoff=0.0)
                raise UsageError(
                    "HZ-U86",
                    "views have no such operation",
                    where="without",
                    expected=f"some of {', '.join(OPERATIONS)}; nearest: {', '.join(near)}",
                    got=name,
                )

    @property
    def uniforms(self) -> int:
        """Uniform numbers that each sample needs."""
        return len(self.views) * len(SLOTS)

    def __call__(self, tiles_BHWC: Tensor, u_BU: Tensor) -> list[Tensor]:
        """Returns normalised float32 views, `[B, 3, px, px]` each, in channels-last memory order.

        Args:
            tiles_BHWC: uint8 RGB, `[B, H, W, 3]`.
            u_BU: float32 uniform numbers in [0, 1), at least `uniforms` of each sample; they may lie on the processor.

        Raises:
            UsageError: `HZ-U86`, too few numbers.
        """
        u_BVS = self._numbers(u_BU)
        # A training step may run in half precision; pixels must not.
        with torch.no_grad(), torch.autocast(tiles_BHWC.device.type, enabled=False):
            return self._views(tiles_BHWC, u_BVS)

    def _views(self, tiles_BHWC: Tensor, u_BVS: Tensor) -> list[Tensor]:
        hw = (tiles_BHWC.shape[1], tiles_BHWC.shape[2])
        views = [self._effective(v) for v in self.views]
        strength_BS = _strengths(tiles_BHWC) if any(v.mix_p > 0 for v in views) else None
        drawn = [draw(v, u_BVS[:, i], hw=hw, strength_BS=strength_BS) for i, v in enumerate(views)]
        return [self._show(tiles_BHWC, d, v.px) for d, v in zip(drawn, views, strict=True)]

    def _numbers(self, u_BU: Tensor) -> Tensor:
        """Returns the numbers by view, on the processor: decisions are taken there, alike for every device and without waiting for it."""
        if u_BU.ndim != 2 or u_BU.shape[1] < self.uniforms:
            raise UsageError(
                "HZ-U86",
                "samples carry too few uniform numbers for these views",
                expected=f"[B, {self.uniforms}]",
                got=tuple(u_BU.shape),
                next_step="give the data set `uniforms=views.uniforms`",
            )
        return u_BU[:, : self.uniforms].cpu().view(len(u_BU), len(self.views), len(SLOTS))

    def _effective(self, view: View) -> View:
        changes: dict[str, Any] = {}
        for name in self.without:
            changes |= OPERATIONS[name]
        return replace(view, **changes)

    def _show(self, tiles_BHWC: Tensor, drawn: Drawn, px: int) -> Tensor:
        device = tiles_BHWC.device
        mean_C11, scale_C11 = (
            torch.tensor(v, device=device)[:, None, None] for v in (self.mean, [1 / s for s in self.std])
        )
        if device.type != "cpu":
            x_BCHW = _change(crop_batch(tiles_BHWC, drawn.boxes, px).div_(255), drawn.to(device), px)
            return x_BCHW.sub_(mean_C11).mul_(scale_C11).contiguous(memory_format=torch.channels_last)
        _keep_memory()
        out_BCHW = torch.empty((len(tiles_BHWC), 3, px, px), memory_format=torch.channels_last)
        boxes = zip(*(t.tolist() for t in vars(drawn.boxes).values()), strict=True)
        # On one thread: waiting for others costs such small operations more than they take, and the bits do not depend on their number.
        # One sample at a time: it stays in the processor's cache from the crop to the end. Nothing is recorded for a gradient: a quarter
        # of the time of such small operations; what is written to is an ordinary tensor.
        with one_thread(), torch.inference_mode():
            for tile_HWC, out_CHW, box, one in zip(tiles_BHWC, out_BCHW, boxes, drawn.each(), strict=True):
                x_1CHW = crop_one(tile_HWC, box, px).to(torch.float32, memory_format=torch.contiguous_format)
                changed_CHW = _change(x_1CHW.mul_(1 / 255), one, px)[0]
                torch.mul(changed_CHW.sub_(mean_C11), scale_C11, out=out_CHW)
        return out_BCHW


def _change(x_BCHW: Tensor, d: Drawn, px: int) -> Tensor:
    """Applies what changes colours and sharpness to those samples that drew it."""
    x = x_BCHW.flatten(2)
    x = d.on("stain", x, stain.change_stains_, "stain", "stain_shift")
    x = d.on("brightness", x, brighten_, "brightness")
    x = d.on("contrast", x, contrast_, "contrast")
    x = d.on("saturation", x, saturate, "saturation")
    x = d.on("hue", x, turn_hue, "hue")
    x = d.on("grey", x, grey_)
    x = d.on("blur", x.view(-1, 3, px, px), blur, "blur")
    return d.on("solarise", x, solarise_)


@cache
def _keep_memory() -> None:
    """Lets the C library keep up to 64 MB of freed memory, once per process.

    Glibc hands larger blocks back to the system after every batch and takes them again page by page: a fifth of the time of a view. It
    raises its bounds when a block of up to 32 MB is freed, here one that is never touched. Elsewhere this does nothing.
    """
    torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8)


def _strengths(tiles_BHWC: Tensor) -> Tensor:
    """Returns each tile's stain strengths, read from a grid of its pixels."""
    steps = (max(1, s // _THUMBNAIL_PX) for s in tiles_BHWC.shape[1:3])
    small_BHWC = tiles_BHWC[:, :: next(steps), :: next(steps)]
    return stain.stain_strength(small_BHWC.permute(0, 3, 1, 2).flatten(2).float() / 255).cpu()


def one_view(
    px: int, mean: Sequence[float], std: Sequence[float], *, without: Sequence[str] = (), **strengths: Any
) -> SSLViews:
    """Returns a single view per tile, as masked autoencoders take it: only crop and symmetries, unless `strengths` says otherwise.

    Args:
        px: Side of the view in pixels.
        mean: Channel means.
        std: Channel standard deviations.
        without: Operations to leave out.
        strengths: Fields of `View`.
    """
    plain = {"stain_p": 0.0, "mix_p": 0.0, "colour_p": 0.0, "grey_p": 0.0, "blur_p": 0.0, "solarise_p": 0.0}
    return SSLViews(
        views=(View(px=px, **{**plain, **strengths}),), mean=mean, std=std, without=tuple(without)
    )


def two_views(
    px: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    asymmetric: bool = False,
    without: Sequence[str] = (),
    **strengths: Any,
) -> SSLViews:
    """Returns two views per tile.

    Args:
        px: Side of the views in pixels.
        mean: Channel means.
        std: Channel standard deviations.
        asymmetric: Blur the first always and the second rarely, and solarise the second alone: Grill et al., BYOL, NeurIPS 2020, table 6.
        without: Operations to leave out.
        strengths: Fields of `View`, of both.
    """
    first, second = _pair(px, asymmetric, strengths)
    return SSLViews(views=(first, second), mean=mean, std=std, without=tuple(without))


def multi_crop(
    px: int,
    local_px: int,
    n_local: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    asymmetric: bool = True,
    local_area: tuple[float, float] | None = None,
    without: Sequence[str] = (),
    **strengths: Any,
) -> SSLViews:
    """Returns two global views and `n_local` smaller ones of less of the tile: Caron et al., SwAV, NeurIPS 2020; DINO, ICCV 2021.

    Args:
        px: Side of the global views in pixels.
        local_px: Side of the local views.
        n_local: Number of the local views.
        mean: Channel means.
        std: Channel standard deviations.
        asymmetric: As in `two_views`; DINO takes BYOL's strengths. Local views are blurred with probability 1/2.
        local_area: Share of the tile's area that local views show; where it is None, that at which they have the resolutions of the global
            views. DINO's (0.05, 0.4 or 0.32) magnifies.
        without: Operations to leave out.
        strengths: Fields of `View`, of all views.
    """
    first, second = _pair(px, asymmetric, strengths)
    share = (local_px / px) ** 2
    area = local_area or (first.area[0] * share, first.area[1] * share)
    local = View(**{"blur_p": 0.5, **strengths, "px": local_px, "area": area})
    return SSLViews(views=(first, second, *[local] * n_local), mean=mean, std=std, without=tuple(without))


def _pair(px: int, asymmetric: bool, strengths: dict[str, Any]) -> tuple[View, View]:
    if not asymmetric:
        return (View(px=px, **strengths),) * 2
    first, second = {"blur_p": 1.0, "solarise_p": 0.0}, {"blur_p": 0.1, "solarise_p": 0.2}
    return View(px=px, **{**first, **strengths}), View(px=px, **{**second, **strengths})
