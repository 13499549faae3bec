"""What choosing C costs: histozoo's logistic probe beside scikit-learn's, on the same folds, the same C and the same objective.

    python benchmarks/probe.py [--rounds 3] [--tiles 10000] [--features 512]

Both fit 8 values of C, 1e-4 to 1e3, on the training rows of each of three grouped folds and predict the rows left out. scikit-learn:
StandardScaler and LogisticRegression (lbfgs, class_weight="balanced", its default tolerance, steps enough to reach it). The two take turns
fold by fold, so a ratio pairs neighbours in time; the median over folds and rounds is printed, by the processor, which a busy machine
disturbs less, and by the clock. One thread.

The objective C sum_i s_i CE_i + 1/2 ||W||^2 is computed for both in float64 by the same lines, and its largest relative difference over
folds and C is printed: at most 0 where ours is never worse. Predictions are compared too.

A fold has two thirds of the tiles. Features are float32, as a network gives them; scikit-learn gets them in float64, in which the objective
is computed, and in a row of its own as they are, which halves its work and loosens where it ends.

Three kinds of features with a decaying spectrum: classes that overlap, classes that overlap where a sixth of the labels is wrong, and
classes that can be told apart without error. For the last the default tolerance of scikit-learn stops early at large C (its objective is
then far above ours), so it is run with stricter ones as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from histozoo.evaluate.folds import grouped_folds
from histozoo.evaluate.logistic import fit_path

CS = tuple(10.0**power for power in range(-4, 4))
CLASSES = 10
Array = NDArray[Any]


class Fit(NamedTuple):
    """A classifier of standardised features for one C, and what it says of the rows left out."""

    weights_DK: Array
    bias_K: Array
    guesses_M: Array


class Round(NamedTuple):
    """One fold: seconds of both, and where they differ over the values of C."""

    cpu: tuple[float, float]
    wall: tuple[float, float]
    worse: float
    better: float
    same: float


def features(kind: str, *, tiles: int, width: int) -> tuple[Array, Array]:
    """Returns float32 features whose k-th direction has the standard deviation k^-1/2, mixed, and labels."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(CLASSES, size=tiles)
    spread_D = np.arange(1, width + 1) ** -0.5
    apart = {"overlapping": 0.06, "wrong labels": 0.1, "separable": 0.3}[kind]
    f_ND = rng.normal(size=(tiles, width)) + (apart * rng.normal(size=(CLASSES, width)))[labels_N]
    mixing_DD = np.linalg.qr(rng.normal(size=(width, width)))[0]
    if kind == "wrong labels":
        wrong_N = rng.random(tiles) < 1 / 6
        labels_N[wrong_N] = rng.integers(CLASSES, size=int(wrong_N.sum()))
    return (f_ND * spread_D @ mixing_DD).astype(np.float32), labels_N


def ours(f_ND: Array, labels_N: Array, query_MD: Array) -> list[Fit]:
    return [
        Fit(c.weights_DK, c.bias_K, c.predict(query_MD))
        for _, c in fit_path(f_ND, labels_N, CS)
    ]  # fmt: skip


def theirs(f_ND: Array, labels_N: Array, query_MD: Array, tolerance: float, dtype: str) -> list[Fit]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(f_ND.astype(dtype))
    x_ND, query_MD = scaler.transform(f_ND.astype(dtype)), scaler.transform(query_MD.astype(dtype))
    found = []
    for c in CS:
        fit = LogisticRegression(C=c, class_weight="balanced", tol=tolerance, max_iter=100_000).fit(
            x_ND, labels_N
        )
        found.append(Fit(fit.coef_.T.astype(float), fit.intercept_.astype(float), fit.predict(query_MD)))
    return found


def objective(fit: Fit, c: float, x_ND: Array, labels_N: Array) -> float:
    logits_NK = x_ND @ fit.weights_DK + fit.bias_K
    logits_NK -= logits_NK.max(1, keepdims=True)
    losses_N = np.log(np.exp(logits_NK).sum(1)) - logits_NK[np.arange(len(x_ND)), labels_N]
    weight_N = (len(x_ND) / CLASSES / np.bincount(labels_N, minlength=CLASSES))[labels_N]
    return float(c * (weight_N @ losses_N) + np.square(fit.weights_DK).sum() / 2)


def timed(work: Callable[[], list[Fit]]) -> tuple[list[Fit], float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def compare(
    f_ND: Array,
    labels_N: Array,
    fold_N: Array,
    fold: int,
    tolerance: float = 1e-4,
    dtype: str = "float64",
) -> Round:
    train, held_out = fold_N != fold, fold_N == fold
    arguments = f_ND[train], labels_N[train], f_ND[held_out]
    a, a_cpu, a_wall = timed(lambda: ours(*arguments))
    b, b_cpu, b_wall = timed(lambda: theirs(*arguments, tolerance, dtype))
    x_ND = (arguments[0] - arguments[0].mean(0, dtype=float)) / arguments[0].std(0, dtype=float)
    pairs = [
        (objective(p, c, x_ND, arguments[1]), objective(q, c, x_ND, arguments[1]))
        for c, p, q in zip(CS, a, b, strict=True)
    ]
    gaps = [(p - q) / q for p, q in pairs]
    same = statistics.mean(float((p.guesses_M == q.guesses_M).mean()) for p, q in zip(a, b, strict=True))
    return Round((a_cpu, b_cpu), (a_wall, b_wall), max(gaps), min(gaps), same)


def report(name: str, found: list[Round]) -> None:
    cpu = [statistics.median(r.cpu[i] for r in found) for i in (0, 1)]
    ratios = [r.cpu[1] / r.cpu[0] for r in found]
    by_wall = statistics.median(r.wall[1] / r.wall[0] for r in found)
    print(
        f"  {name:<28}{cpu[0]:6.2f} CPU-s   scikit-learn {cpu[1]:6.1f} CPU-s   "
        f"x {statistics.median(ratios):4.1f} CPU (least {min(ratios):.1f}), x {by_wall:4.1f} clock   "
        f"objective {max(r.worse for r in found):+.0e} at worst, {min(r.better for r in found):+.0e} at best   "
        f"same guesses {100 * statistics.mean(r.same for r in found):.2f} %",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--kinds", nargs="*", default=["overlapping", "wrong labels", "separable"])
    args = parser.parse_args()
    print(
        f"8 C, {args.tiles} tiles, {args.features} features, {CLASSES} classes, 3 folds, {args.rounds} rounds, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    for kind in args.kinds:
        f_ND, labels_N = features(kind, tiles=args.tiles, width=args.features)
        fold_N = grouped_folds(labels_N, np.arange(args.tiles) // 10, seed=0, folds=3)
        compare(f_ND[:500], labels_N[:500], fold_N[:500], 0)
        ways = [(1e-4, "float64"), (1e-4, "float32")]
        if kind == "separable":
            ways += [(1e-5, "float64"), (1e-6, "float64"), (1e-7, "float64"), (1e-6, "float32")]
        for tolerance, dtype in ways:
            rounds = [
                compare(f_ND, labels_N, fold_N, fold, tolerance, dtype)
                for _ in range(args.rounds)
                for fold in range(3)
            ]
            name = kind + (f", {tolerance:.0e}" if tolerance < 1e-4 else "")
            report(name + (", float32" if dtype == "float32" else ""), rounds)


if __name__ == "__main__":
    main()
