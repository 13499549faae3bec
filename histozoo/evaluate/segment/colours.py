"""The colour histogram of segmentation: a baseline without a network, which says how much of a mask colours alone give away.

Every pixel is called by its own colour: the share of foreground among the training pixels of its bin, in the joint histogram of red, green
and blue of `histozoo.evaluate.histogram` (Swain and Ballard 1991; as a classifier of pixels, Jones and Rehg, "Statistical color models with
application to skin detection", IJCV 46 (2002) 81-96). It knows nothing of the pixels around, so a net that does not beat it has not been
shown to see shapes.

Shapes: H W pixels, D bins.
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


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Stands among the initialisations of a study; it is fitted on the same training pictures as their U-Nets, of all their pixels.

    Args:
        name: What it is called in results.
    """

    name: str = histogram.NAME

    @property
    def lineages(self) -> frozenset[str]:
        """Lineages that it was trained on before: none."""
        return frozenset()

    def facts(self) -> list[Any]:
        """Returns what decides its scores, as JSON types."""
        return [self.name, histogram.PARAMETERS]

    def fit(self, pictures: Pictures) -> Probability:
        """Returns the share of foreground by colour, of these pictures.

        A bin counts one pixel more than it holds, with the share of all bins together, so that a colour never seen has that share.
        """
        bins = histogram.BINS**3
        all_D, foreground_D = np.zeros(bins), np.zeros(bins)
        for image, mask_HW in zip(pictures.images, pictures.masks, strict=True):
            cell_HW = histogram.cells(image)
            all_D += np.bincount(cell_HW.ravel(), minlength=bins)
            foreground_D += np.bincount(cell_HW[mask_HW > 0], minlength=bins)
        share_D = (foreground_D + foreground_D.sum() / all_D.sum()) / (all_D + 1)
        return lambda image: share_D[histogram.cells(image)]
