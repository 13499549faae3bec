"""The colour histogram of segmentation: a baseline without a network, which says how much of a mask colours alone give away.

Every pixel is called by its own colour: the share of foreground among training pixels of that colour and those around it, by a joint
histogram of red, green and blue with 32 bins a channel (Jones and Rehg, "Statistical color models with application to skin detection", IJCV
46 (2002) 81-96, who found 32 better than 16 and 256), smoothed by a Gaussian, without which a colour that few training pictures hold would
be called background. It knows nothing of the pixels around, so a net that does not beat it has not been shown to see shapes.

Shapes: H W pixels, D bins of a channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.evaluate import histogram
from histozoo.evaluate.segment.pictures import Pictures

Probability = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Picture uint8 RGB `[H, W, 3]` -> probability of foreground `[H, W]`."""

_FAINT = 1e-6
"""Pixels that the share of foreground of all colours counts as everywhere: decides where no training pixel is near."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Stands among the initialisations of a study; it is fitted on the same training pictures as their U-Nets, on all their pixels.

    Args:
        name: What it is called in results.
        bins: Equal bins of each channel.
        sigma: Standard deviation of the smoothing, in bins.
    """

    name: str = histogram.NAME
    bins: int = 32
    sigma: float = 1.5

    @property
    def lineages(self) -> frozenset[str]:
        """Lineages that it was trained on before: none."""
        return frozenset()

    def facts(self) -> list[Any]:
        """Returns what decides its scores, as JSON types."""
        return [self.name, self.bins, self.sigma]

    def fit(self, pictures: Pictures) -> Probability:
        """Returns the share of foreground by colour, of these pictures."""
        from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

        side = (self.bins,) * 3
        all_DDD, foreground_DDD = np.zeros(side), np.zeros(side)
        for image, mask_HW in zip(pictures.images, pictures.masks, strict=True):
            cell_HW = histogram.cells(image, self.bins)
            for counts_DDD, chosen in ((all_DDD, cell_HW), (foreground_DDD, cell_HW[mask_HW > 0])):
                counts_DDD += np.bincount(chosen.ravel(), minlength=self.bins**3).reshape(side)
        near_DDD, hit_DDD = (
            gaussian_filter(counts_DDD, self.sigma, mode="constant")
            for counts_DDD in (all_DDD, foreground_DDD)
        )
        usual = foreground_DDD.sum() / all_DDD.sum()
        share = ((hit_DDD + _FAINT * usual) / (near_DDD + _FAINT)).ravel()
        return lambda image: share[histogram.cells(image, self.bins)]
