"""What the study of segmentation measured of one training set in one mode, and what nets are compared with.

Shapes: S seeds, N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histozoo.evaluate import histogram
from histozoo.evaluate.resampling import Estimate, Floats
from histozoo.evaluate.segment.curves import estimate
from histozoo.evaluate.segment.study import Scores
from histozoo.studies.settings import Segmentation

BASELINE = "random"
"""An encoder with random weights."""
COLOURS, FLOOR = histogram.NAME, "every pixel foreground"
"""What is no net: each pixel called by its own colour, and all of them called alike."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One set trained on in one mode.

    Args:
        mode: `frozen` or `finetuned`.
        scores: Of the nets.
        colours: Of the colour histogram, fitted on the same pictures.
    """

    mode: str
    scores: Scores
    colours: Scores

    @property
    def word(self) -> str:
        """The mode as it is written."""
        return {"finetuned": "fine-tuned"}.get(self.mode, self.mode)

    def label(self, name: str) -> str:
        """Returns what a net, or what is none, is called beside those of the other mode."""
        return name if name in (COLOURS, FLOOR) else f"{name}, {self.word}"

    def says(self, test: str) -> str:
        """Returns mode, training set and test set in words."""
        train = self.scores.train_set
        where = train if test == train else f"{train}, tested on {test}"
        return f"{self.word} encoder, trained on {where}"

    def curve(self, name: str, *, test_set: str, metric: str) -> dict[int, Floats]:
        """Returns size -> scores `[S, N]` of an initialisation, of `COLOURS` or of `FLOOR` on one test set."""
        if name == FLOOR:
            every_SN = np.tile(self.scores.floor[test_set][metric], (len(self.scores.design.seeds), 1))
            return dict.fromkeys(self.scores.design.sizes, every_SN)
        return (self.colours if name == COLOURS else self.scores).curve(
            name, test_set=test_set, metric=metric
        )

    def estimates(
        self, name: str, *, test_set: str, metric: str, settings: Segmentation
    ) -> dict[int, Estimate]:
        """Returns size -> value with its interval over groups, of what `curve` gives."""
        groups_N = self.scores.groups[test_set]
        return {
            size: estimate(values_SN, groups_N, seed=settings.seed, resamples=settings.resamples)
            for size, values_SN in self.curve(name, test_set=test_set, metric=metric).items()
        }


def group_words(size: int) -> str:
    """Returns a number of groups in words."""
    return f"{size:,} group{'s' * (size > 1)}"


def less_is_better(metric: str) -> bool:
    """Returns whether a metric is a distance."""
    return metric == "object_hausdorff"


def gain_name(metric: str) -> str:
    """Returns what a difference by this metric is called: of it more is always better."""
    return f"{metric}, sign turned" if less_is_better(metric) else metric
