"""Haematoxylin, eosin and residual densities of a batch: exact conversion, jitter, and mixing between samples.

A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol. Histol. 23 (2001)
291-299, in the units of scikit-image (`rgb2hed`, `hed2rgb`): density d = log(max(rgb, 1e-6)) / log(1e-6) unmixed by the inverse of `STAINS`
as published (rows not normalised), negative densities cut to 0; back: rgb = 1e-6^(d STAINS), cut to [0, 1].

Shapes: B samples, P pixels of one, S stains, C channels; S = C = 3. Images are planar `[B, 3, P]` or `[B, 3, H, W]`, RGB in [0, 1].
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from histozoo.data.views import STAINS

LEAST = 1e-6
"""Transmitted light below which a pixel counts as this dark."""

UNIT = -math.log(LEAST)
"""Natural-log optical density of one unit of stain."""

STRENGTH_QUANTILE = 0.99
"""A sample's strength of a stain is this quantile of its density, a maximum that single pixels do not decide: Macenko et al., "A method for
normalizing histology slides for quantitative analysis", ISBI 2009."""

_WEAKEST = 0.05
"""Natural-log density below which a stain counts as absent: its strength is that of noise."""


def rgb_to_hed(x_BC_: Tensor) -> Tensor:
    """Returns the densities of haematoxylin, eosin and residual, at least 0, in the shape of `x_BC_`."""
    log_BCP = x_BC_.flatten(2).clamp(min=LEAST).log_()
    return torch.matmul(unmixing(x_BC_.device) / UNIT, log_BCP).clamp_(min=0).view(x_BC_.shape)


def hed_to_rgb(d_BS_: Tensor) -> Tensor:
    """Returns RGB in [0, 1] of densities, in the shape of `d_BS_`."""
    mix_CS = d_BS_.new_tensor(STAINS).T * -UNIT
    return torch.matmul(mix_CS, d_BS_.flatten(2)).exp_().clamp_(0, 1).view(d_BS_.shape)


def stain_maps(factor_BS: Tensor, shift_BS: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what `change_stains_` needs to scale and shift densities, d' = factor * d + shift: `[B, 3, 3]` and `[B, 3, 1]`.

    Jitter of this form: D. Tellez et al., Med. Image Anal. 58 (2019) 101544.

    Args:
        factor_BS: Factor per sample and stain.
        shift_BS: Shift per sample and stain, in natural-log optical density.
    """
    mix_CS = factor_BS.new_tensor(STAINS).T
    return mix_CS * -factor_BS[:, None, :], -(mix_CS @ shift_BS[:, :, None])


def change_stains_(x_BCP: Tensor, map_BCS: Tensor, shift_BC1: Tensor) -> Tensor:
    """Scales and shifts densities, overwriting the input; equals `hed_to_rgb(factor * rgb_to_hed(x) + shift)` up to rounding.

    With factor 1 and shift 0 every colour that the three stains can make stays as it is; another one goes to the nearest side of what they
    can make, as in scikit-image.

    Args:
        x_BCP: RGB in [0, 1], `[B, 3, P]`.
        map_BCS: Of `stain_maps`.
        shift_BC1: Of `stain_maps`.
    """
    unmix_BSC = unmixing(x_BCP.device).expand(len(x_BCP), 3, 3)
    density_BSP = torch.bmm(unmix_BSC, x_BCP.clamp_(min=LEAST).log_()).clamp_(min=0)
    return torch.baddbmm(shift_BC1, map_BCS, density_BSP).exp_().clamp_(max=1)


def stain_strength(x_BCP: Tensor) -> Tensor:
    """Returns each sample's strength of the three stains in natural-log density, `[B, 3]`, at least a floor; see `STRENGTH_QUANTILE`."""
    density_BSP = rgb_to_hed(x_BCP) * UNIT
    rank = max(1, math.ceil(STRENGTH_QUANTILE * density_BSP.shape[2]))
    return density_BSP.kthvalue(rank, dim=2).values.clamp_(min=_WEAKEST)


def mixing_factors(strength_BS: Tensor, partner_B: Tensor, weight_B: Tensor, *, most: float = 2.0) -> Tensor:
    """Returns the factors that take each sample's stain strengths part of the way to those of another sample, `[B, 3]`.

    The strengths are mixed geometrically, so that a factor and its inverse are equally likely, and glass, which has no density, stays
    glass. Mixing the stains of random pairs: J.-R. Chang et al., "Stain Mix-Up: Unsupervised Domain Generalization for Histopathology
    Images", MICCAI 2021; there the stain vectors are estimated and mixed too, here they are those of `STAINS`.

    Args:
        strength_BS: Of `stain_strength`.
        partner_B: Row of each sample's partner.
        weight_B: Share of the partner, 0 to 1.
        most: No stain is made stronger or weaker than by this factor.
    """
    ratio_BS = strength_BS[partner_B] / strength_BS
    return (ratio_BS ** weight_B[:, None]).clamp_(1 / most, most)


def partners(u_B: Tensor) -> Tensor:
    """Returns each sample's partner, int64 `[B]`: the sample with the next larger number, the least number after the largest.

    So the pairs depend on the numbers and not on the order of the batch, and nobody is its own partner while there is another.

    Args:
        u_B: A number per sample; equal numbers are taken in the batch's order.
    """
    order_B = torch.argsort(u_B, stable=True)
    found_B = torch.empty_like(order_B)
    found_B[order_B] = order_B.roll(-1)
    return found_B


@cache
def unmixing(device: torch.device) -> Tensor:
    """Returns the matrix `[S, C]` from the logarithm of light to natural-log stain densities; inverted in double precision."""
    unmix_CS: Tensor = torch.linalg.inv(torch.tensor(STAINS, dtype=torch.float64))
    return -unmix_CS.T.to(device, torch.float32)
