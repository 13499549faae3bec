"""Augmentation of a batch on the model's device, as a pure function of uint8 tiles and uniform numbers.

Shapes: B batch, H W pixels of the packed tile, h w pixels of the view, P uniform numbers (`histozoo.data.mixing.UNIFORMS`).
Nothing here draws a random number: equal inputs give equal views on any number of workers or processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SLOTS = {
    name: i
    for i, name in enumerate(
        (
            *("flip_x", "flip_y", "quarter", "area", "aspect", "x", "y"),
            *("brightness", "contrast", "saturation"),
            *("stain_h", "stain_e", "stain_r", "shift_h", "shift_e", "shift_r"),
        )
    )
}
"""Which uniform number steers what."""

# Rows: optical density of haematoxylin, eosin and residual (DAB) in R, G, B. Ruifrok and Johnston, "Quantification of histochemical
# staining by color deconvolution", Anal. Quant. Cytol. Histol. 23 (2001) 291-299, table of stain vectors.
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
# ITU-R BT.601 luma weights.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Views:
    """Strengths of the augmentation.

    Args:
        px: Side of the view in pixels.
        mean: Channel means subtracted after scaling to [0, 1].
        std: Channel standard deviations divided by.
        flip: Mirror left-right and up-down, each with probability 1/2.
        rot90: Rotate by 0, 90, 180 or 270 degrees, each with probability 1/4.
        area: Smallest and largest share of the tile's area that a view shows; (1, 1) shows the whole tile.
        aspect: Largest ratio of the crop's sides, at least 1.
        colour: Half-width of the uniform factor on brightness, contrast and saturation around 1.
        stain: Half-width of the uniform factor on the three stain densities around 1, and of their shift around 0: Tellez et al.,
            "Quantifying the effects of data augmentation and stain color normalization", Med. Image Anal. 58 (2019) 101544, "HED".
    """

    px: int
    mean: Sequence[float]
    std: Sequence[float]
    flip: bool = True
    rot90: bool = False
    area: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    colour: float = 0.0
    stain: float = 0.0

    def __call__(self, tiles_BHWC: Tensor, u_BP: Tensor) -> Tensor:
        """Returns normalised float32 views `[B, 3, px, px]` in channels-last memory order.

        Args:
            tiles_BHWC: uint8 RGB, `[B, H, W, 3]`.
            u_BP: float32 uniform numbers in [0, 1), `[B, P]`.
        """
        x_BCHW = tiles_BHWC.permute(0, 3, 1, 2).float() / 255
        x_BCHW = self._crop(x_BCHW, u_BP)
        if self.stain:
            x_BCHW = stain_jitter(x_BCHW, *_stain_factors(u_BP, self.stain))
        if self.colour:
            x_BCHW = self._jitter(x_BCHW, u_BP)
        return normalise(x_BCHW, self.mean, self.std)

    def _crop(self, x_BCHW: Tensor, u_BP: Tensor) -> Tensor:
        """Flips, rotates, crops and resizes in one bilinear sampling."""
        low, high = self.area
        area_B = low + (high - low) * u_BP[:, SLOTS["area"]]
        spread = math.log(self.aspect)
        ratio_B = torch.exp(spread * (2 * u_BP[:, SLOTS["aspect"]] - 1) / 2)
        side = area_B.sqrt()
        half_w_B, half_h_B = (side * ratio_B).clamp(max=1), (side / ratio_B).clamp(max=1)
        centre_x_B = (2 * u_BP[:, SLOTS["x"]] - 1) * (1 - half_w_B)
        centre_y_B = (2 * u_BP[:, SLOTS["y"]] - 1) * (1 - half_h_B)
        turn_B22 = self._turns(u_BP)
        scale_B22 = torch.diag_embed(torch.stack([half_w_B, half_h_B], dim=1))
        theta_B23 = torch.cat(
            [scale_B22 @ turn_B22, torch.stack([centre_x_B, centre_y_B], dim=1)[:, :, None]], dim=2
        )
        grid = F.affine_grid(theta_B23, [len(x_BCHW), 3, self.px, self.px], align_corners=False)
        return F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _turns(self, u_BP: Tensor) -> Tensor:
        """Returns the symmetry of the square drawn for each sample, `[B, 2, 2]`."""
        quarter_B = (u_BP[:, SLOTS["quarter"]] * 4).floor() if self.rot90 else torch.zeros_like(u_BP[:, 0])
        # Sines and cosines of whole quarter turns, written without rounding error.
        cos_B = (quarter_B == 0).float() - (quarter_B == 2).float()
        sin_B = (quarter_B == 1).float() - (quarter_B == 3).float()
        turn_B22 = torch.stack([cos_B, -sin_B, sin_B, cos_B], dim=1).view(-1, 2, 2)
        if not self.flip:
            return turn_B22
        signs_B2 = 1 - 2 * (u_BP[:, [SLOTS["flip_x"], SLOTS["flip_y"]]] < 0.5).float()
        return turn_B22 * signs_B2[:, None, :]

    def _jitter(self, x_BCHW: Tensor, u_BP: Tensor) -> Tensor:
        names = ("brightness", "contrast", "saturation")
        factors_B3 = 1 + self.colour * (2 * u_BP[:, [SLOTS[n] for n in names]] - 1)
        brightness, contrast, saturation = (f_B[:, None, None, None] for f_B in factors_B3.unbind(1))
        luma_BCHW = (x_BCHW * x_BCHW.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        x_BCHW = luma_BCHW + saturation * (x_BCHW - luma_BCHW)
        mean_BCHW = luma_BCHW.mean((2, 3), keepdim=True)
        return (brightness * (mean_BCHW + contrast * (x_BCHW - mean_BCHW))).clamp(0, 1)


def normalise(x_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtracts `mean` and divides by `std` per channel; the result is in channels-last memory order."""
    mean_C11, std_C11 = (x_BCHW.new_tensor(v)[:, None, None] for v in (mean, std))
    return ((x_BCHW - mean_C11) / std_C11).contiguous(memory_format=torch.channels_last)


def stain_jitter(x_BCHW: Tensor, factor_BS: Tensor, shift_BS: Tensor) -> Tensor:
    """Scales and shifts the densities of the three stains: d' = factor * d + shift in the space of `STAINS`.

    Densities may become negative and are not clamped before returning to RGB, so that scaling by 1 and shifting by 0 is the identity.

    Args:
        x_BCHW: RGB in [0, 1].
        factor_BS: Factor per sample and stain, `[B, 3]`.
        shift_BS: Shift per sample and stain in natural-log optical density, `[B, 3]`.
    """
    stains_SC = F.normalize(x_BCHW.new_tensor(STAINS), dim=1)
    unmix_CS = torch.linalg.inv(stains_SC)
    mix_BCC = unmix_CS @ (factor_BS[:, :, None] * stains_SC)
    density_BPC = -torch.log(x_BCHW.flatten(2).transpose(1, 2).clamp(min=1 / 255))
    density_BPC = torch.baddbmm((shift_BS @ stains_SC)[:, None, :], density_BPC, mix_BCC)
    return torch.exp(-density_BPC).clamp(0, 1).transpose(1, 2).reshape(x_BCHW.shape)


def _stain_factors(u_BP: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    factor_BS = 1 + strength * (2 * u_BP[:, SLOTS["stain_h"] : SLOTS["stain_r"] + 1] - 1)
    shift_BS = strength * (2 * u_BP[:, SLOTS["shift_h"] : SLOTS["shift_r"] + 1] - 1)
    return factor_BS, shift_BS
