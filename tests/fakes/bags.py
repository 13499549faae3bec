"""Bags of drawn features whose answer is known, and a tiny encoder with pixels that it tells apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from histozoo.evaluate.slides.bags import Bags, from_tiles

CLASSES = ("benign", "malignant")


def toy(
    *, slides: int = 12, signal: float = 4.0, seed: int = 0, sizes: tuple[int, int] = (2, 6), d: int = 6
) -> Bags:
    """Returns bags of two classes in turn; the first feature is `signal` where the slide is malignant."""
    random = np.random.default_rng(seed)
    tiles_S = random.integers(*sizes, slides, endpoint=True)
    slide_N = np.repeat(np.arange(slides), tiles_S)
    f_ND = random.standard_normal((len(slide_N), d)).astype(np.float32) * 0.3
    f_ND[:, 0] += signal * (slide_N % 2)
    names = [f"s{s:02}/{t:04}.png" for t, s in enumerate(slide_N)]
    return from_tiles(
        f_ND, slide_N % 2, [f"s{s:02}" for s in slide_N], task="toy", classes=CLASSES, names=names
    )


class Encoder(nn.Module):
    """Convolution, batch norm, pooling: 4 features."""

    def __init__(self, *, pooled: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.pooled = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), pooled

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.conv(x_BCHW)))
        return maps.mean((2, 3)) if self.pooled else maps


MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def pixels(*, slides: int = 12, tiles: int = 4) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Returns tiles, labels, slides and names; one tile of each slide is dark (benign) or bright (malignant), the others are grey."""
    random = np.random.default_rng(0)
    slide_N = np.repeat(np.arange(slides), tiles)
    tiles_NHWC = random.integers(118, 138, (len(slide_N), 8, 8, 3), dtype=np.uint8)
    telling = np.arange(slides) * tiles + random.integers(tiles, size=slides)
    tiles_NHWC[telling] = np.where(np.arange(slides) % 2, 250, 5)[:, None, None, None]
    names = [f"s{s:02}_{t % tiles * 8}_0.png" for t, s in enumerate(slide_N)]
    return tiles_NHWC, slide_N % 2, [f"s{s:02}" for s in slide_N], names
