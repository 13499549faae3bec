"""What was measured of slides with the features of one encoder, and where it lies.

Shapes: M seeds, R resamples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.resampling import Floats
from histozoo.evaluate.slides import topk
from histozoo.evaluate.slides.bags import Bags

METRIC, RANDOM = "balanced_accuracy", "random weights"


class Drawn(NamedTuple):
    """The value of each seed `[M]`, and their mean on each resample of the patients `[R]`."""

    values_M: Floats
    value_R: Floats

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.values_M.mean())


@dataclass(frozen=True, kw_only=True)
class Heads:
    """What was measured with the features of one encoder.

    Args:
        one: The encoder.
        bags: Its slides.
        labelled: Their tiles.
        seen: Whether it was trained on their lineage; None where that is not known.
        found: (weights, what was fitted) -> balanced accuracy; weights are the encoder's name, `random weights` or `colour-histogram`.
        tuning: How it is fine-tuned.
        report: What `slides.study` wrote.
    """

    one: Encoder
    bags: Bags
    labelled: LabelledTiles
    seen: bool | None
    found: dict[tuple[str, str], Drawn]
    tuning: topk.Tuning | None
    report: dict[str, Any]


def pixels(one: Encoder, labelled: LabelledTiles) -> topk.Encoder:
    """Returns the encoder with the tiles that its features are of."""
    return topk.Encoder(model=one.module(), tiles_NHWC=labelled.tiles_NHWC, mean=one.mean, std=one.std)


def folder(out: Path, name: str) -> Path:
    """Returns where the heads of an encoder lie."""
    return out / "heads" / word(name)


def word(name: str) -> str:
    """Returns a name that is good for a file."""
    return re.sub(r"[^A-Za-z0-9._]", "_", name)
