"""One number of a table: a model on a task by a metric, with its interval over groups and, of several seeds, over these too.

Shapes: C cells averaged, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.resampling import Floats, percentiles
from histozoo.evaluate.scored import bounds
from histozoo.evaluate.seeds import SeedSummary, over_seeds

SEEN = {True: "trained on it", False: "new", None: "unknown"}
"""What a table says of an encoder and a lineage."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model on a task.

    Args:
        protocol, task, lineage, model: Of what.
        metric: A key of `scored.METRICS`.
        value: Of all rows predicted; the mean over seeds where a model is several.
        low, high: The 95 % interval over groups: these very models, other patients.
        n, n_groups: Tiles (slides, where groups are slides) scored and the groups they come from.
        n_models: Cells averaged: seeds of random weights and of fine-tuning.
        seed_sd: Standard deviation over seeds (of the weights where these are random, else of fine-tuning); None of a single one.
        total_low, total_high: The 95 % interval over groups and seeds, see `histozoo.evaluate.seeds`; None of a single one.
        seen: A value of `SEEN`.
        undefined: Resamples that lacked a class and were left out.
        fingerprint: Of the task's data.
        chance: What guessing gives: the same class for every tile, or any order of them; None where that says nothing.
    """

    protocol: str
    task: str
    lineage: str
    model: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    n_groups: int
    n_models: int
    seed_sd: float | None
    total_low: float | None
    total_high: float | None
    seen: str
    undefined: int
    fingerprint: str
    chance: float | None


def row(cells: Sequence[Cell], metric: str, values_C: Floats, resampled_RC: Floats) -> Row:
    """Returns the row of one model, which is one cell or several seeds.

    Args:
        cells: The model's cells of one task.
        metric: What was measured.
        values_C: The metric of each cell on all rows.
        resampled_RC: The same on resamples of the groups.

    Raises:
        UsageError: `HZ-I62` most resamples are undefined; `HZ-I63` fewer than two groups.
    """
    first, value_R = cells[0], resampled_RC.mean(1)
    low, high = percentiles(value_R)
    n_groups = len(np.unique(first.groups_N))
    spread = _over_seeds(cells, metric, values_C, resampled_RC, n_groups)
    return Row(
        protocol=first.protocol,
        task=first.task,
        lineage=first.lineage,
        model=first.model,
        metric=metric,
        value=float(values_C.mean()),
        low=low,
        high=high,
        n=len(first.labels_N),
        n_groups=n_groups,
        n_models=len(cells),
        seed_sd=spread.seed_sd if spread else None,
        total_low=spread.total_low if spread else None,
        total_high=spread.total_high if spread else None,
        seen=SEEN[first.seen],
        undefined=int(np.isnan(value_R).sum()),
        fingerprint=first.fingerprint,
        chance=chance(metric, len(np.unique(first.labels_N))),
    )


def chance(metric: str, classes: int) -> float | None:
    """Returns what guessing gives by a metric on so many classes; None where it depends on how often each class occurs."""
    return {"balanced_accuracy": 1 / classes, "roc_auc_ovr": 0.5}.get(metric)


def units(cells: Sequence[Cell]) -> list[list[int]]:
    """Returns the places of the cells of each seed: of the weights where there are several of them, else of the fits."""
    encoders = list(dict.fromkeys(c.encoder for c in cells))
    found = [[i for i, c in enumerate(cells) if c.encoder == e] for e in encoders]
    return found if len(found) > 1 else [[i] for i in found[0]]


def by_seed(cells: Sequence[Cell], values_C: Floats) -> tuple[float, ...]:
    """Returns what each seed of one model gave, the mean of its cells."""
    return tuple(float(values_C[places].mean()) for places in units(cells))


def _over_seeds(
    cells: Sequence[Cell], metric: str, values_C: Floats, resampled_RC: Floats, n_groups: int
) -> SeedSummary | None:
    """Returns the spread over seeds; None of a single one."""
    apart = units(cells)
    if len(apart) == 1:
        return None
    resampled_RS = np.stack([resampled_RC[:, places].mean(1) for places in apart], 1)
    return over_seeds(by_seed(cells, values_C), resampled_RS, groups=n_groups, bounds=bounds(metric))


def tidy(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns one flat record per row, values rounded to six decimals."""
    return [{k: round(v, 6) if isinstance(v, float) else v for k, v in vars(r).items()} for r in rows]
