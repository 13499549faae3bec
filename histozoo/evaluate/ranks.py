"""Average ranks over tasks: how models are compared where raw scores of different tasks must not be averaged.

Shapes: T tasks, M models, R resamples, X any leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Floats, percentiles


def ranks(values_XM: Floats) -> Floats:
    """Returns the rank of each of M models along the last axis: 1 is the highest value, equal values share the mean of their ranks."""
    above = values_XM[..., None, :] > values_XM[..., :, None]
    equal = values_XM[..., None, :] == values_XM[..., :, None]
    ranks_XM: Floats = above.sum(-1) + (equal.sum(-1) + 1) / 2
    return ranks_XM


def average_rank(
    values_TM: ArrayLike, resampled: Sequence[Floats], *, seed: int = 0, lineages: Sequence[str] | None = None
) -> list[tuple[float, float, float]]:
    """Returns for each of M models its mean rank over tasks with the ends of a 95 % interval.

    A resample draws the tasks with replacement (whole lineages where they are told: tasks on the same tissue go together) and, within each,
    one of the task's defined resamples: the interval covers both which tasks were at hand and which groups were in them. Raw scores are
    never averaged over tasks (protocol of Mormont et al., section III).

    Args:
        values_TM: The metric of each model on each task.
        resampled: One `[R, M]` array per task, from `bootstrap`.
        seed: Seed of the draw.
        lineages: Of each task; None draws tasks one by one.

    Raises:
        UsageError: `HZ-I62`, a value is NaN or a task has no defined resample.
    """
    means_RM = resampled_ranks(values_TM, resampled, seed=seed, lineages=lineages)
    means_M = ranks(np.asarray(values_TM, dtype=np.float64)).mean(0)
    return [(float(mean), *percentiles(means_R)) for mean, means_R in zip(means_M, means_RM.T, strict=True)]


def resampled_ranks(
    values_TM: ArrayLike, resampled: Sequence[Floats], *, seed: int = 0, lineages: Sequence[str] | None = None
) -> Floats:
    """Returns the mean rank over tasks of each of M models on R resamples of tasks and groups, `[R, M]`.

    Arguments and errors as in `average_rank`.
    """
    values_TM = np.asarray(values_TM, dtype=np.float64)
    defined = [v[~np.isnan(v).any(1)] for v in resampled]
    if np.isnan(values_TM).any() or not all(len(v) for v in defined):
        raise UsageError(
            "HZ-I62", "an average rank needs every model's metric on every task", got="an undefined metric"
        )
    generator = np.random.default_rng(seed)
    resamples, tasks = max(len(v) for v in resampled), len(values_TM)
    ranks_TRM = np.stack([ranks(v[generator.integers(len(v), size=resamples)]) for v in defined])
    _, lineage_T = np.unique(range(tasks) if lineages is None else lineages, return_inverse=True)
    several = int(lineage_T.max()) + 1
    drawn_RL = generator.integers(several, size=(resamples, several))
    times_RL = (drawn_RL[:, :, None] == np.arange(several)).sum(1)
    times_RT = times_RL[:, lineage_T]
    means_RM: Floats = np.einsum("rt,trm->rm", times_RT, ranks_TRM) / times_RT.sum(1)[:, None]
    return means_RM
