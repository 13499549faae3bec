"""What all looks share: the numbers they give, and what they are told."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.resampling import Estimate


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number that a look found.

    Args:
        setting: Of what: a stage, a pair of blocks, a change, a corruption; empty where there is nothing to tell apart.
        metric: What was measured.
        value: The number.
        low, high: Ends of its 95 % interval; None for what is no estimate, such as a number of parameters.
        n: Tiles.
        n_groups: Groups they come from.
        note: A sentence about it, where one is needed.
    """

    setting: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    n_groups: int
    note: str = ""

    @classmethod
    def of(cls, e: Estimate, metric: str, setting: str = "") -> Number:
        """Returns an estimate as a number."""
        return cls(
            setting=setting,
            metric=metric,
            value=e.value,
            low=e.low,
            high=e.high,
            n=e.n,
            n_groups=e.n_groups,
        )


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What looks are told beside model and task.

    Args:
        first: The model that others are compared with.
        cache: Folder of features.
        seed: Of folds, changes and resampling.
        resamples: Bootstrap resamples.
        device: Where models run.
        centre_of: Task -> the centre of each of its tiles, in the order of the task's rows, and the slide of each.
    """

    first: Encoder
    cache: Path
    seed: int = 0
    resamples: int = 10_000
    device: str = "cpu"
    centre_of: Mapping[str, tuple[list[str], list[str]]] = field(default_factory=dict)


class Look(typing.Protocol):
    """A value of `LOOKS`."""

    def __call__(
        self, one: Encoder, tiles_of: Callable[[Encoder], LabelledTiles], setup: Setup
    ) -> list[Number]:
        """Returns what was found of an encoder; `tiles_of` gives the task at the tile size of an encoder."""
        ...
