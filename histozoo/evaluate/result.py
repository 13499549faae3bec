"""One measured number, with everything needed to read it: on what, how, how sure, by which code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Subject = Literal["trained", "random", "difference"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of an entry's `results`.

    Args:
        task: Name of the task measured on.
        protocol: A key of `histozoo.evaluate.PROTOCOLS`.
        metric: scikit-learn's name of the metric, such as `balanced_accuracy`.
        value: The metric; a plain number, not percent.
        interval: Lower and upper end of the 95 % interval.
        n: Tiles scored.
        n_groups: Groups (patients, slides, photographs) these tiles come from; the unit the interval resamples.
        seed: Seed of the folds and of the resampling.
        subject: `trained`, `random` (same architecture, random weights, mean over their seeds) or `difference` (trained minus random).
        left_out: Whether no tile of the task's lineage was in the training corpus.
        fingerprint: sha256 of the task's names, labels, groups and file contents.
        version: Version of histozoo that measured.
    """

    task: str
    protocol: str
    metric: str
    value: float
    interval: tuple[float, float]
    n: int
    n_groups: int
    seed: int
    subject: Subject
    left_out: bool
    fingerprint: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON types, in the order of the class; value and interval rounded to six decimals."""
        rounded = {"value": round(self.value, 6), "interval": [round(v, 6) for v in self.interval]}
        return {**dataclasses.asdict(self), **rounded}
