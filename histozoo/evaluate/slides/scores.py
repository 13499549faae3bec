"""Metrics of slides with intervals over patients; mean over seeds, which all judged every slide once.

`roc_auc_ovr` ranks slides of different folds by the probabilities of different models: where these are not calibrated alike it is too low,
never too high, and far fewer than 100 slides make it noisy. Balanced accuracy does not compare folds.

Shapes: M seeds, S slides, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from histozoo.evaluate import auroc, scored, statistics
from histozoo.evaluate.resampling import Estimate, Floats, Ints, same_rows

METRICS = ("balanced_accuracy", "accuracy", "roc_auc_ovr")
"""What is measured of slides, named as scikit-learn's scorers."""


def estimates(
    labels_S: Ints,
    patients: Sequence[str],
    probabilities_MSK: Floats,
    *,
    minus_MSK: Floats | None = None,
    fold_S: Ints | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, Estimate]:
    """Returns each metric, the mean over seeds, with its cluster-bootstrap interval over patients.

    Args:
        labels_S: Class index of each slide.
        patients: Patient of each slide.
        probabilities_MSK: Of the classes, from each seed.
        minus_MSK: Where given, the metric of these on the same resamples is subtracted.
        fold_S: The fold that held each slide out: intervals are then wider, see `resampling.over_folds`.
        seed: Of the resampling.
        resamples: Their number.

    Raises:
        UsageError: `HZ-I62` a class has no slide; `HZ-I63` one patient only; `HZ-I64` rows differ; `HZ-I65` a probability is not finite.
    """
    parts = [probabilities_MSK] if minus_MSK is None else [probabilities_MSK, minus_MSK]
    all_MSK = np.concatenate(parts)
    auroc.finite(all_MSK, "probabilities")
    same_rows(len(labels_S), all_MSK.shape[1], "probabilities")
    found: dict[str, Estimate] = {}
    for metric in METRICS[:2]:
        options: Any = {"classes": all_MSK.shape[2], "metric": metric, "fold_N": fold_S}
        options |= {"seed": seed, "resamples": resamples}
        first_MS = probabilities_MSK.argmax(2)
        if minus_MSK is None:
            found[metric] = statistics.estimate(labels_S, first_MS, patients, **options)
        else:
            found[metric] = statistics.difference(
                labels_S, first_MS, minus_MSK.argmax(2), patients, **options
            )
    how: Any = {"metric": METRICS[2], "fold_N": fold_S, "seed": seed, "resamples": resamples}
    if minus_MSK is None:
        found[METRICS[2]] = scored.estimate(labels_S, probabilities_MSK, patients, **how)
    else:
        found[METRICS[2]] = scored.difference(labels_S, probabilities_MSK, minus_MSK, patients, **how)
    return found
