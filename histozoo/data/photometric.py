"""Colour jitter, grey, blur and solarisation of a batch, each sample by its own factor, as torchvision defines them for float images.

Formulas: `torchvision.transforms.v2.functional` (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue, rgb_to_grayscale,
gaussian_blur, solarize); tests compare within 1e-5. A name that ends in `_` overwrites its input where that saves a copy: use what it
returns.

Shapes: B samples, P pixels of one, `[B, 3, P]` planar RGB in [0, 1]; factors are `[B]`.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)
"""Weights of the grey value in torchvision: ITU-R BT.601, cut to four digits there."""


def brighten_(x_BCP: Tensor, factor_B11: Tensor) -> Tensor:
    """Multiplies by the factor."""
    return x_BCP.mul_(factor_B11).clamp_(max=1)


def contrast_(x_BCP: Tensor, factor_B11: Tensor) -> Tensor:
    """Moves each pixel away from the image's mean grey value (factor above 1) or towards it."""
    # The mean grey is the grey of the mean colour.
    mean_B11 = torch.bmm(luma(x_BCP.device)[None, None].expand(len(x_BCP), 1, 3), x_BCP.mean(2, keepdim=True))
    return x_BCP.mul_(factor_B11).add_(mean_B11.sub_(mean_B11 * factor_B11)).clamp_(0, 1)


def saturation_map(factor_B: Tensor) -> Tensor:
    """Returns the matrices `[B, 3, 3]` that move each pixel away from its own grey value (factor above 1) or towards it."""
    factor_B11 = factor_B[:, None, None]
    return factor_B11 * torch.eye(3, device=factor_B.device) + (1 - factor_B11) * luma(factor_B.device)


def saturate(x_BCP: Tensor, map_BCC: Tensor) -> Tensor:
    """Applies the matrices of `saturation_map`."""
    return torch.bmm(map_BCC, x_BCP).clamp_(0, 1)


def hue_offsets(turn_B: Tensor) -> Tensor:
    """Returns what `turn_hue` needs to turn the hue by a share of the circle, -0.5 to 0.5: `[B, 3, 1]`, in sextants."""
    # Whole circles are added such that no hue in [-3, 3] comes to lie further than 6 from any channel: no modulus of every pixel.
    channel_C = torch.tensor((0.0, 2.0, 4.0), device=turn_B.device)
    return ((6 * turn_B[:, None] - channel_C + 3).remainder(6) - 3)[:, :, None]


def turn_hue(x_BCP: Tensor, offset_BC1: Tensor) -> Tensor:
    """Turns the hue; value and saturation of HSV stay.

    Both ways without the six cases, most of which a processor without `where` in its vector code would do one pixel at a time. M and m are
    the largest and smallest channel. The hue in sextants, -3 to 3, has the size 1 + (g + b - r - m) / (M - m) and the sign of g - b. With
    the hue h after the turn, channel c (0, 2, 4 for red, green, blue) is M - (M - m) * clamp(2 - ||h - c| - 3|, 0, 1).

    Args:
        x_BCP: RGB in [0, 1].
        offset_BC1: Of `hue_offsets`.
    """
    red, green, blue = x_BCP.unbind(1)
    most, least = (
        torch.maximum(torch.maximum(red, green), blue),
        torch.minimum(torch.minimum(red, green), blue),
    )
    range_BP = most - least
    size_BP = (
        (green + blue).sub_(red).sub_(least).div_(range_BP.clamp(min=torch.finfo(x_BCP.dtype).tiny)).add_(1)
    )
    away_BCP = size_BP.copysign_(green - blue)[:, None] + offset_BC1
    away_BCP.abs_().sub_(3).abs_().clamp_(1, 2)
    return torch.addcmul(most.sub_(range_BP, alpha=2)[:, None], away_BCP, range_BP[:, None])


def grey_(x_BCP: Tensor) -> Tensor:
    """Replaces every channel by the grey value."""
    return torch.bmm(luma(x_BCP.device).expand(len(x_BCP), 3, 3), x_BCP)


def solarise_(x_B__: Tensor, threshold: float = 0.5) -> Tensor:
    """Inverts the values from the threshold on."""
    above = torch.ge(x_B__, threshold, out=torch.empty_like(x_B__))
    return x_B__.lerp_(1 - x_B__, above)


@cache
def luma(device: torch.device) -> Tensor:
    """Returns `LUMA`, `[3]`."""
    return torch.tensor(LUMA, device=device)


def blur_kernels(sigma_B: Tensor, most: float) -> Tensor:
    """Returns the weights of Gaussians cut at three sigmas (at least one pixel), `[B, 2 r + 1]`; zero beyond a sample's own radius.

    Args:
        sigma_B: In pixels, above 0, at most `most`.
        most: Decides r.
    """
    radius = max(1, math.ceil(3 * most))
    reach_T = torch.arange(-radius, radius + 1, device=sigma_B.device, dtype=sigma_B.dtype)
    own_B1 = (3 * sigma_B).ceil().clamp(min=1)[:, None]
    kernel_BT = torch.exp(-0.5 * (reach_T / sigma_B[:, None]) ** 2) * (reach_T.abs() <= own_B1)
    return kernel_BT / kernel_BT.sum(1, keepdim=True)


def blur(x_BCHW: Tensor, kernel_BT: Tensor) -> Tensor:
    """Blurs each sample with its own kernel in both directions, mirrored at the borders.

    Args:
        x_BCHW: `[B, 3, px, px]`, px above the radius of the kernels.
        kernel_BT: Of `blur_kernels`.
    """
    if x_BCHW.device.type == "cpu" and len(x_BCHW) == 1:
        half = kernel_BT[0, kernel_BT.shape[1] // 2 :].tolist()
        return _blur_one(x_BCHW, [weight for weight in half if weight > 0])
    band_B1HH = _band(x_BCHW.shape[2], kernel_BT)[:, None]
    return torch.matmul(torch.matmul(band_B1HH, x_BCHW), band_B1HH.mT)


def _blur_one(x_1CHW: Tensor, half: list[float]) -> Tensor:
    """The same for one sample on the processor, as weighted sums of the shifted image: faster there than a convolution or a product.

    A shift of the padded image by rows or by pixels is a shift of its memory, so that every sum runs over one unbroken stretch. What runs
    over the edge of a row or channel ends in the padding, which is cut off. `half` is the kernel from its middle on.
    """
    radius = len(half) - 1
    padded_1CHW = F.pad(x_1CHW, (radius,) * 4, mode="reflect")
    flat = padded_1CHW.flatten()
    for step in (padded_1CHW.shape[3], 1):
        start, stop = radius * step, len(flat) - radius * step
        summed = flat[start:stop] * half[0]
        for away in range(1, radius + 1):
            summed.add_(flat[start - away * step : stop - away * step], alpha=half[away])
            summed.add_(flat[start + away * step : stop + away * step], alpha=half[away])
        flat[start:stop] = summed
    return padded_1CHW[:, :, radius:-radius, radius:-radius].contiguous()


def _band(px: int, kernel_BT: Tensor) -> Tensor:
    """Returns the matrices `[B, px, px]` that blur a line of pixels and hold the mirror at both ends."""
    batch, taps = kernel_BT.shape
    reach_T = torch.arange(taps, device=kernel_BT.device) - taps // 2
    at_HT = torch.arange(px, device=kernel_BT.device)[:, None] + reach_T
    at_HT = (px - 1) - ((px - 1) - at_HT.abs()).abs()
    band_BHH = torch.zeros(batch, px, px, device=kernel_BT.device, dtype=kernel_BT.dtype)
    return band_BHH.scatter_add_(2, at_HT.expand(batch, px, taps), kernel_BT[:, None].expand(batch, px, taps))
