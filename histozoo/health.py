"""Is a self-supervised run learning anything? Measured while it trains, on a few labelled tiles; a run whose features collapse is stopped.

A self-supervised loss can fall while the features die, so the engine asks `Health` at every evaluation: how well near neighbours share a
class (the protocol of `histozoo.evaluate.knn`), and two numbers that need no label, `feature_std` and `rank_me`.

Shapes: N tiles, D features, K classes; M rows asked about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from histozoo import checkpoints
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import knn
from histozoo.evaluate.probe import features
from histozoo.evaluate.statistics import balanced_accuracy
from histozoo.recipes import Recipe

NEIGHBOURS = 20
"""k: the value that worked best for Caron et al. (ICCV 2021, arXiv 2104.14294, section 3.2), or fewer where a class is rare."""
MOST = 200
"""Training and validation tiles of each task: enough for a trend, few enough for a CPU."""

COLLAPSED_STD = 2.0**-6
"""`feature_std` below which the trunk no longer tells tiles apart.

If each feature differed from its mean by a relative error e and nothing else, `feature_std` would be at most e. One rounding to bfloat16 is
at most 2^-9, and 64 independent ones add up to 8 * 2^-9 = 2^-6: what lies below is what the arithmetic of a mixed-precision trunk makes by
itself. With all features spread alike, std^2 is 1 minus the mean cosine of two tiles: 0.0002. Of ten architectures with random weights none
had less than 0.07 on real tiles of one organ and stain; a vision transformer trained to collapse fell below the bound within 80 steps.
"""
COLLAPSED_RANK = (1 + COLLAPSED_STD) * COLLAPSED_STD ** (-COLLAPSED_STD / (1 + COLLAPSED_STD))
"""`rank_me` (1.083) of two directions of which the second is `COLLAPSED_STD` times as long as the first: features on one line.

It sees what `feature_std` does not: features that are one vector times numbers of either sign.
"""

ADVICE = (
    "lower the learning rate, take larger batches, stronger colour and stain augmentation, a longer warm-up, "
    "or a slower teacher (momentum nearer 1)"
)

_PAPERS_EPSILON = 1e-7


def feature_std(f_ND: NDArray[Any]) -> float:
    """Returns how far features are spread over the sphere: 0 where all are one, 1 for an isotropic Gaussian.

    X. Chen, K. He, "Exploring simple Siamese representation learning", CVPR 2021 (arXiv 2011.10566), section 4.1 and figure 2: the standard
    deviation of z / |z| of each feature over the tiles, averaged over features, here times sqrt(D) since its value is 1 / sqrt(D) for an
    isotropic Gaussian:

        sqrt(D) * mean over d of  std over n of  f_nd / |f_n|

    Invariances: the length of each row, the order of rows and of features, the sign of a feature.

    Args:
        f_ND: Features `[N, D]`.
    """
    x_ND = np.asarray(f_ND, dtype=np.float64)
    length_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    x_ND = x_ND / np.where(length_N1 > 0, length_N1, 1.0)
    return float(math.sqrt(x_ND.shape[1]) * x_ND.std(0).mean())


def rank_me(f_ND: NDArray[Any]) -> float:
    """Returns how many directions the features use, from 1 to min(N, D).

    Q. Garrido et al., "RankMe: assessing the downstream performance of pretrained self-supervised representations by their rank", ICML
    2023 (arXiv 2210.02885), equation 1, with the singular values s of F, not centred, and e = 1e-7:

        exp(-sum over k of p_k log p_k),   p_k = s_k / sum(s) + e

    The effective rank of Roy and Vetterli (EUSIPCO 2007) is the same without e. Features that are all positive (after a ReLU) share one
    long direction, their mean, so that low values are common among sound ResNets: look at the trend.
    Invariances: a factor on F, a rotation of the features, the order of rows.

    Args:
        f_ND: Features `[N, D]`, not all zero.
    """
    x_ND = np.asarray(f_ND, dtype=np.float64)
    # Squares of the singular values; what is lost by squaring in float64 (1e-8 of the largest) is below the paper's e.
    squares = np.linalg.eigvalsh(x_ND @ x_ND.T if len(x_ND) < x_ND.shape[1] else x_ND.T @ x_ND)
    s_K = np.sqrt(np.clip(squares, 0, None))
    p_K = s_K / s_K.sum() + _PAPERS_EPSILON
    return float(np.exp(-(p_K * np.log(p_K)).sum()))


# -- measuring -------------------------------------------------------------------------------------------------------------------------


class Labelled(NamedTuple):
    """Tiles of one task with labels; a plain tuple in this order will do as well.

    Args:
        tiles_NHWC: uint8 `[N, px, px, 3]`, RGB, at the size that the published model expects; may be a memory map.
        labels_N: int64, `[N]`, class indices.
        train: Rows that are neighbours.
        val: Rows asked about, of other groups.
    """

    tiles_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]


class Health:
    """Measures a recipe's trunk; the `evaluate_recipe` of the engine.

    Nothing of the recipe is changed and no random number is drawn. Of several processes the first measures and tells the others.

    Args:
        tasks: Task name -> `Labelled`.
        mean: Channel means, for values scaled to [0, 1].
        std: Channel standard deviations on the same scale.
        precision: `bf16` (autocast) or `fp32`.
        batch: Tiles per forward pass.
        most: Training and validation tiles of each task, at most; every class is there, spread evenly over the task's order.
        unlabelled_NHWC: uint8 tiles without labels; where there is no task they are enough for `feature_std` and `rank_me`.

    Raises:
        UsageError: `HZ-I62`, a class has no training or no validation tile; `HZ-U44`, no tile.
    """

    def __init__(
        self,
        tasks: Mapping[str, Labelled | tuple[Any, Any, Any, Any]],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        precision: str = "fp32",
        batch: int = 128,
        most: int = MOST,
        unlabelled_NHWC: NDArray[np.uint8] | None = None,
    ) -> None:
        if not tasks and unlabelled_NHWC is None:
            raise UsageError(
                "HZ-U44", "no tile to measure the health of a run on", expected="a task, or tiles"
            )
        self.unlabelled_NHWC = unlabelled_NHWC
        self.tasks = {name: _chosen(name, Labelled(*t), most) for name, t in tasks.items()}
        self.mean, self.std, self.precision, self.batch = mean, std, precision, batch

    def __call__(self, recipe: Recipe) -> dict[str, float]:
        """Returns `knn_<task>`, balanced accuracy in [0, 1], their mean `knn_balanced_accuracy`, `feature_std` and `rank_me`.

        Without a task only the last two. Where features are not finite it returns `features_not_finite` alone: in how many tasks.

        Args:
            recipe: In eval mode; its `backbone` maps normalised `[B, 3, px, px]` to `[B, D]`.
        """
        first = not dist.is_initialized() or dist.get_rank() == 0
        found = [self._measured(recipe.backbone) if first else {}]
        if dist.is_initialized():
            dist.broadcast_object_list(found, src=0, device=next(recipe.parameters()).device)
        return found[0]

    def _measured(self, backbone: torch.nn.Module) -> dict[str, float]:
        f = {
            name: self._features(backbone, t.tiles_NHWC[np.concatenate([t.train, t.val])])
            for name, t in self.tasks.items()
        }
        if self.unlabelled_NHWC is not None:
            f["unlabelled"] = self._features(backbone, self.unlabelled_NHWC)
        if bad := sum(not np.isfinite(f_ND).all() for f_ND in f.values()):
            return {"features_not_finite": float(bad)}
        scores = {f"knn_{name}": score(f[name], t) for name, t in self.tasks.items()}
        mean = {"knn_balanced_accuracy": float(np.mean(list(scores.values())))} if scores else {}
        f_ND = np.concatenate(list(f.values()))
        return {**scores, **mean, "feature_std": feature_std(f_ND), "rank_me": rank_me(f_ND)}

    def _features(self, backbone: torch.nn.Module, tiles_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the tiles' features; NaN where one of them is not finite."""
        device = next(backbone.parameters()).device.type
        try:
            with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
                return features(backbone, tiles_NHWC, mean=self.mean, std=self.std, batch=self.batch)
        except IntegrityError:  # HZ-I62: it becomes a line of the log first, then the end of the run
            return np.full((1, 1), np.nan, dtype=np.float32)


def score(f_ND: NDArray[np.float32], t: Labelled) -> float:
    """Returns the balanced accuracy of the validation rows' nearest training rows, in [0, 1].

    Args:
        f_ND: Features of the training rows, then of the validation rows.
        t: The task.
    """
    classes_K, index_N = np.unique(t.labels_N[np.concatenate([t.train, t.val])], return_inverse=True)
    n, classes = len(t.train), len(classes_K)
    # A class with fewer tiles than half of k could never win.
    k = min(NEIGHBOURS, int(np.bincount(index_N[:n]).min()))
    [(_, votes_MK)] = knn.votes(f_ND[:n], index_N[:n], f_ND[n:], settings=(k,))
    return balanced_accuracy(index_N[n:], votes_MK.argmax(1), classes)


def _chosen(name: str, t: Labelled, most: int) -> Labelled:
    classes_K = np.unique(t.labels_N[np.concatenate([t.train, t.val])])
    each = max(1, most // len(classes_K))

    def some(rows: NDArray[np.int64], part: str) -> NDArray[np.int64]:
        rows = np.sort(rows)
        of_class = [rows[t.labels_N[rows] == c] for c in classes_K]
        if lacking := [int(c) for c, found in zip(classes_K, of_class, strict=True) if not len(found)]:
            raise UsageError(
                "HZ-I62",
                f"a class has no {part} tile to measure the health of the run on",
                where=f"task {name}",
                expected="every class among the training and the validation tiles",
                got=f"none of class {', '.join(map(str, lacking))}",
            )
        spread = [
            found[np.linspace(0, len(found) - 1, min(each, len(found))).astype(int)] for found in of_class
        ]
        return np.sort(np.concatenate(spread))

    return t._replace(train=some(t.train, "training"), val=some(t.val, "validation"))


# -- judging ---------------------------------------------------------------------------------------------------------------------------


def collapsed(record: Mapping[str, Any]) -> str:
    """Returns what is wrong with the features of one evaluation, with value and bound, or an empty string."""
    if bad := record.get("features_not_finite"):
        return f"features of {bad:.0f} tasks are not finite"
    bounds = {"feature_std": COLLAPSED_STD, "rank_me": COLLAPSED_RANK}
    return ", ".join(
        f"{k} {record[k]:.3g} < {low:.3g}" for k, low in bounds.items() if record.get(k, low) < low
    )


def evaluations(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns those records of a run's log that `Health` made."""
    return [r for r in history if "feature_std" in r or "features_not_finite" in r]


def last_good(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the step of the last evaluation whose features had not collapsed, or None."""
    return next((int(r["step"]) for r in reversed(evaluations(history)) if not collapsed(r)), None)


def refuse_collapse(history: Sequence[Mapping[str, Any]], *, warm_up: int, kept: Path | None) -> None:
    """Stops a run whose last two evaluations found collapsed features, or whose last one found some that are not finite.

    The log that is asked is part of every checkpoint, so a run that was killed between the two is stopped where an unbroken one is.

    Args:
        history: The run's log, each record with its `step`.
        warm_up: Evaluations up to this step do not count: before the highest learning rate a trunk may still look as it was drawn.
        kept: The checkpoint that is named as the last good one.

    Raises:
        IntegrityError: `HZ-F49`.
    """
    records = evaluations(history)
    if not records or not (reason := collapsed(records[-1])):
        return
    judged = [bool(collapsed(r)) for r in records if r["step"] > warm_up]
    if "features_not_finite" not in records[-1] and judged[-2:] != [True, True]:
        return
    good = last_good(history)
    since = next(int(r["step"]) for r in records if good is None or r["step"] > good)
    last = (
        "no evaluation before was healthy"
        if good is None
        else f"the last healthy evaluation was at step {good}"
    )
    raise IntegrityError(
        "HZ-F49",
        "the features have collapsed: the trunk tells tiles apart no more",
        where=f"step {records[-1]['step']}; since the evaluation at step {since}, {last}",
        expected=f"feature_std >= {COLLAPSED_STD:.3g} and rank_me >= {COLLAPSED_RANK:.3g}",
        got=reason,
        kept=f"{kept.name} is the last good checkpoint"
        if kept
        else "nothing: no checkpoint is as old as the last healthy evaluation",
        next_step=f"{ADVICE}; start anew, or continue with --resume-step {checkpoints.step_of(kept)} --accept-change"
        if kept
        else ADVICE,
    )
