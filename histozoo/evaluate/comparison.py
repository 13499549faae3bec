"""A trained trunk beside the same architecture at random initialisation: same tiles, same folds, same probe, same resampled groups.

Shapes: N tiles scored, S random seeds, M models, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate import statistics
from histozoo.evaluate.labelled import LabelledTiles, read
from histozoo.evaluate.probe import feature_extraction
from histozoo.evaluate.protocol import Predictions
from histozoo.evaluate.result import Result, Subject
from histozoo.evaluate.statistics import Estimate
from histozoo.evaluate.trunks import Run, random_trunk, trained_trunk

METRIC = "balanced_accuracy"
RANDOM_SEEDS = (0, 1, 2)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Trained and random trunks on one task.

    Args:
        run: The run whose trunk is compared.
        labelled: The task.
        protocol: Key of `PROTOCOLS`.
        seed: Of the folds and the resampling.
        left_out: Whether the trained trunk never saw the task's lineage.
        trained: Predictions with the trained trunk.
        random_S: Predictions with each random trunk, same rows.
        random_seeds: Their seeds.
    """

    run: Run
    labelled: LabelledTiles
    protocol: str
    seed: int
    left_out: bool
    trained: Predictions
    random_S: tuple[Predictions, ...]
    random_seeds: tuple[int, ...]

    def values_M(self) -> list[float]:
        """Returns the metric of the trained trunk and of each random one, in this order."""
        labels_N, classes = self.labels_N, len(self.labelled.classes)
        return [statistics.balanced_accuracy(labels_N, g, classes) for g in self.guesses_MN]

    def bootstrap(self, resamples: int) -> NDArray[np.float64]:
        """Returns the metric of the same models on resampled groups, `[R, M]`."""
        return statistics.bootstrap(
            self.labels_N,
            self.guesses_MN,
            self.groups_N,
            **self._how(resamples),
        )

    def estimates(self, resamples: int) -> dict[Subject, Estimate]:
        """Returns trained, random (mean over seeds) and their paired difference, each with its interval."""
        first, others, how = self.guesses_MN[:1], self.guesses_MN[1:], self._how(resamples)

        def alone(guesses_MN: NDArray[np.int64]) -> Estimate:
            return statistics.estimate(self.labels_N, guesses_MN, self.groups_N, **how)

        paired = statistics.difference(self.labels_N, first, others, self.groups_N, **how)
        return {"trained": alone(first), "random": alone(others), "difference": paired}

    def difference_from(self, index: int, resamples: int) -> Estimate:
        """Returns the paired difference of the trained trunk from one random trunk, by its position in `random_S`."""
        return statistics.difference(
            self.labels_N,
            self.trained.guesses_N,
            self.random_S[index].guesses_N,
            self.groups_N,
            **self._how(resamples),
        )

    def _how(self, resamples: int) -> dict[str, Any]:
        """Returns what every interval of this comparison shares."""
        classes, fold_N = len(self.labelled.classes), self.trained.fold_N
        return {"classes": classes, "fold_N": fold_N, "seed": self.seed, "resamples": resamples}

    def results(self, estimates: Mapping[Subject, Estimate]) -> list[Result]:
        """Returns estimates as rows of an entry's `results`."""
        from histozoo import __version__

        return [
            Result(
                task=self.labelled.task,
                protocol=self.protocol,
                metric=METRIC,
                value=e.value,
                interval=e.interval,
                n=e.n,
                n_groups=e.n_groups,
                seed=self.seed,
                subject=subject,
                left_out=self.left_out,
                fingerprint=self.labelled.fingerprint,
                version=__version__,
            )
            for subject, e in estimates.items()
        ]

    @property
    def labels_N(self) -> NDArray[np.int64]:
        """True class indices of the rows scored."""
        return self.labelled.labels_N[self.trained.rows_N]

    @property
    def groups_N(self) -> NDArray[np.str_]:
        """Groups of the rows scored."""
        return self.labelled.groups_N[self.trained.rows_N]

    @property
    def guesses_MN(self) -> NDArray[np.int64]:
        """Guesses of the trained trunk, then of each random one.

        Raises:
            UsageError: `HZ-I64`, the models did not predict the same rows.
        """
        for other in self.random_S:
            if not np.array_equal(other.rows_N, self.trained.rows_N):
                raise UsageError(
                    "HZ-I64",
                    "the models compared did not predict the same rows",
                    where=self.labelled.task,
                    expected=f"the same {len(self.trained.rows_N)} rows",
                    got=f"{len(other.rows_N)} rows",
                )
        return np.stack([p.guesses_N for p in (self.trained, *self.random_S)])


def compare_left_out(
    run: Run, labelled: LabelledTiles, *, random_seeds: Sequence[int] = RANDOM_SEEDS, seed: int = 0
) -> Comparison:
    """Compares a run's trunk with random ones on a task whose lineage it was not trained on, over grouped folds of all tiles."""

    def predict(trunk_seed: int | None) -> Predictions:
        model = (
            trained_trunk(run)
            if trunk_seed is None
            else random_trunk(run.architecture, seed=trunk_seed, tile_px=run.tile_px)
        )
        return feature_extraction(model, labelled, mean=run.mean, std=run.std, seed=seed)

    return Comparison(
        run=run,
        labelled=labelled,
        protocol="feature_extraction",
        seed=seed,
        left_out=True,
        trained=predict(None),
        random_S=tuple(predict(s) for s in random_seeds),
        random_seeds=tuple(random_seeds),
    )


def random_baseline(
    name: str,
    architecture: str,
    *,
    data_root: str | Path | None,
    cache: str | Path,
    tile_px: int,
    seeds: Sequence[int] = RANDOM_SEEDS,
) -> tuple[Estimate, list[float]]:
    """Returns what random weights reach on a task: the mean over seeds with its interval, and each seed's value.

    A task that random weights nearly solve cannot show what training adds. Channel statistics are ImageNet's.
    """
    mean, std = IMAGENET
    labelled = read(name, data_root=data_root, tile_px=tile_px, cache=cache)
    predicted = [
        feature_extraction(
            random_trunk(architecture, seed=s, tile_px=tile_px), labelled, mean=mean, std=std, seed=0
        )
        for s in seeds
    ]
    guesses_SN, classes = np.stack([p.guesses_N for p in predicted]), len(labelled.classes)
    found = statistics.estimate(
        labelled.labels_N, guesses_SN, labelled.groups_N, classes=classes, fold_N=predicted[0].fold_N
    )
    return found, [statistics.balanced_accuracy(labelled.labels_N, g, classes) for g in guesses_SN]
