"""What a few tiles per class are worth: the spread over episodes that few-shot cells carry, by task, model and number of shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histozoo.evaluate.compare.cells import Cell


@dataclass(frozen=True, kw_only=True)
class FewShots:
    """A model on a task after so many tiles of each class.

    Args:
        task, model: Of what.
        shots: Tiles per class that an episode learnt from.
        mean: Balanced accuracy, the mean over episodes.
        sd: Its standard deviation over episodes: how much the choice of tiles matters.
        low, high: Ends of the central 95 % of the episodes: other tiles to learn from, the same patients. No interval over patients.

    Where a model is several seeds, each number is the mean of theirs.
    """

    task: str
    model: str
    shots: int
    mean: float
    sd: float
    low: float
    high: float


def few_shots(cells: Sequence[Cell]) -> tuple[FewShots, ...]:
    """Returns the records of cells that have them, tasks and models in the order of the cells; none of other protocols."""
    seeds: dict[tuple[str, str, int], list[Any]] = {}
    for c in cells:
        for found in c.facts.get("shots", ()):
            low, _, high = found["percentiles"]
            numbers = [found["mean"], found["sd"], low, high]
            seeds.setdefault((c.task, c.model, found["shots"]), []).append(numbers)
    told = []
    for (task, model, shots), several in seeds.items():
        mean, sd, low, high = (float(v) for v in np.mean(several, 0))
        told.append(FewShots(task=task, model=model, shots=shots, mean=mean, sd=sd, low=low, high=high))
    return tuple(told)


def left_out(cells: Sequence[Cell]) -> dict[str, str]:
    """Returns task -> which numbers of shots its rarest class is too small for, in words; nothing of tasks that have all of them."""
    told = {}
    for c in cells:
        if found := c.facts.get("shots_left_out"):
            numbers = " and ".join(map(str, found["shots"]))
            told[c.task] = f"{numbers} left out, the rarest class has {found['rarest']} tiles to learn from"
    return told
