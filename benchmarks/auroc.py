"""What an interval costs: 10,000 cluster-bootstrap resamples by histozoo beside a loop over scikit-learn, and how often intervals hold.

    python benchmarks/auroc.py [--rounds 9] [--loop 150]
    python benchmarks/auroc.py --coverage 2000

The loop draws groups, gathers their rows and calls scikit-learn's metric on them; it is timed on `--loop` resamples and scaled to 10,000.
The two take turns, so a ratio pairs neighbours in time; medians over the rounds are printed, by the clock and by the processor, which a
busy machine disturbs less. Both draw from the same random numbers, so every resample of the loop has its twin: the largest difference of
the two is printed. Peak memory is what numpy allocates (tracemalloc). One thread.

`--coverage` simulates patients whose tiles resemble each other, and counts how often the 95 % interval over patients holds the truth: for
scores of a model trained elsewhere, and for scores pooled over five folds of the same patients (a ridge classifier on features of noise and
of a signal), whose intervals are too narrow.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from histozoo.evaluate import scored

RESAMPLES = 10_000
Array = NDArray[Any]


class Cost(NamedTuple):
    """Seconds by the clock and of the processor for 10,000 resamples."""

    wall: float
    cpu: float


class Case(NamedTuple):
    """A metric to resample: labels and scores of tiles, their groups, scikit-learn's function."""

    metric: str
    labels_N: Array
    scores: Array
    groups_N: Array
    reference: Callable[[Array, Array], float]

    def ours(self, resamples: int = RESAMPLES) -> Array:
        found = scored.bootstrap(
            self.labels_N, self.scores, self.groups_N, metric=self.metric, resamples=resamples
        )
        return found[1][:, 0]

    def loop(self, resamples: int) -> Array:
        groups = int(self.groups_N.max()) + 1
        rows = [np.flatnonzero(self.groups_N == g) for g in range(groups)]
        generator, values = np.random.default_rng(0), []
        for _ in range(resamples):
            drawn = np.concatenate([rows[g] for g in generator.integers(groups, size=groups)])
            values.append(self.reference(self.labels_N[drawn], self.scores[drawn]))
        return np.array(values)


def cases(tiles: int) -> dict[str, Case]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    two_N, many_N = rng.integers(2, size=tiles), rng.integers(5, size=tiles)
    scores_N = np.round(rng.normal(size=tiles) + two_N, 2)  # about three tiles to a score: ties are in
    p_NK = rng.dirichlet(np.ones(5), tiles) + 0.3 * np.eye(5)[many_N]
    p_NK /= p_NK.sum(1, keepdims=True)
    alone_N, of_ten_N = np.arange(tiles), np.arange(tiles) // 10

    def one_vs_rest(labels_N: Array, p_NK: Array) -> float:
        return roc_auc_score(labels_N, p_NK, multi_class="ovr", average="macro")

    return {
        "roc_auc, every tile a group": Case("roc_auc", two_N, scores_N, alone_N, roc_auc_score),
        "roc_auc, groups of 10 tiles": Case("roc_auc", two_N, scores_N, of_ten_N, roc_auc_score),
        "average_precision, groups of 10": Case(
            "average_precision", two_N, scores_N, of_ten_N, average_precision_score
        ),
        "roc_auc_ovr, 5 classes, of 10": Case("roc_auc_ovr", many_N, p_NK, of_ten_N, one_vs_rest),
    }


def timed(work: Callable[[], object], scale: float = 1.0) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(scale * (time.perf_counter() - wall), scale * (time.process_time() - cpu))


def compare(case: Case, *, rounds: int, loop: int) -> list[tuple[Cost, Cost]]:
    """Times the two in turn."""
    case.ours(100)
    case.loop(3)
    return [(timed(case.ours), timed(lambda: case.loop(loop), RESAMPLES / loop)) for _ in range(rounds)]


def peak(case: Case) -> float:
    """Returns megabytes that numpy holds at most."""
    tracemalloc.start()
    case.ours()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / 1e6


def report(name: str, case: Case, found: list[tuple[Cost, Cost]], loop: int) -> None:
    """Prints medians, and the median of the ratios of each round."""
    ours, theirs = (statistics.median(pair[i].cpu for pair in found) for i in (0, 1))
    by_wall = statistics.median(b.wall / a.wall for a, b in found)
    by_cpu = statistics.median(b.cpu / a.cpu for a, b in found)
    least = min(b.cpu / a.cpu for a, b in found)
    apart = np.abs(case.ours(loop) - case.loop(loop)).max()
    print(
        f"  {name:<33}{ours:6.2f} CPU-s   loop {theirs:7.1f} CPU-s   x {by_cpu:5.0f} CPU (least {least:.0f}), "
        f"x {by_wall:5.0f} clock   differs by {apart:.0e}   peak {peak(case):.0f} MB"
    )


# -- coverage --


def patients(rng: np.random.Generator, groups: int, shift: float, features: int = 20) -> tuple[Array, ...]:
    """Labels of patients by lot, features that tell the patient and, in the first one, the label by `shift`."""
    groups_N = np.repeat(np.arange(groups), 5)
    labels_G = rng.permutation(np.arange(groups) % 2)
    f_GD = rng.normal(size=(groups, features))
    f_GD[:, 0] += shift * labels_G
    return labels_G[groups_N], f_GD[groups_N] + 0.5 * rng.normal(size=(len(groups_N), features)), groups_N


def fitted(f_ND: Array, labels_N: Array) -> Array:
    """Returns the weights of a ridge classifier."""
    centred_ND = f_ND - f_ND.mean(0)
    gram_DD = centred_ND.T @ centred_ND + len(f_ND) * np.eye(f_ND.shape[1])
    return np.linalg.solve(gram_DD, centred_ND.T @ (2.0 * labels_N - 1))


def true_value(weights_D: Array, shift: float) -> float:
    """Returns a linear model's AUROC over all patients there could be: both classes score normally, `patients` says how."""
    apart = shift * weights_D[0] / np.linalg.norm(weights_D)
    return statistics.NormalDist().cdf(float(apart) / (2 * (1 + 0.5**2)) ** 0.5)


def holds(seed: int, *, groups: int, shift: float, folds: bool, spread: bool) -> tuple[bool, float]:
    """Returns whether the interval holds the true AUROC of the model (the mean of the five folds' models), and that value."""
    rng = np.random.default_rng(seed)
    labels_N, f_ND, groups_N = patients(rng, groups, shift)
    fold_N = rng.permutation(groups)[groups_N] % 5 if folds else np.zeros(len(groups_N))
    scores_N, truths = np.empty(len(groups_N)), []
    for k in np.unique(fold_N):
        train_N, train_ND = labels_N[fold_N != k], f_ND[fold_N != k]
        if not folds:
            train_N, train_ND, _ = patients(rng, groups, shift)
        weights_D = fitted(train_ND, train_N)
        scores_N[fold_N == k] = f_ND[fold_N == k] @ weights_D
        truths.append(true_value(weights_D, shift))
    told = fold_N if spread else None
    found = scored.estimate(labels_N, scores_N, groups_N, metric="roc_auc", fold_N=told, resamples=1000)
    truth = statistics.mean(truths)
    return found.low <= truth <= found.high, truth


def coverage(repeats: int) -> None:
    error = 100 * (0.05 * 0.95 / repeats) ** 0.5
    print(f"95 % intervals of roc_auc that hold the truth, of {repeats} (standard error {error:.1f} points)")
    kinds = {
        "scores of a model trained on other patients": (False, False),
        "scores pooled over five folds, intervals that allow for it (what histozoo tells)": (True, True),
        "scores pooled over five folds, intervals that do not": (True, False),
    }
    for name, (folds, spread) in kinds.items():
        print(f"  {name}")
        for groups in (10, 20, 40, 80, 160):
            cells = []
            for shift in (0.0, 1.0, 2.5):
                found = [
                    holds(s, groups=groups, shift=shift, folds=folds, spread=spread) for s in range(repeats)
                ]
                hit, truth = (statistics.mean(column) for column in zip(*found, strict=True))
                cells.append(f"AUROC {truth:.2f}: {100 * hit:5.1f} %")
            print(f"    {groups:>4} groups   {'   '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--loop", type=int, default=150)
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--coverage", type=int, default=0, metavar="REPEATS")
    args = parser.parse_args()
    if args.coverage:
        coverage(args.coverage)
        return
    print(
        f"{RESAMPLES} resamples of {args.tiles} tiles, {args.rounds} rounds, load average {os.getloadavg()[0]:.1f}"
    )
    for name, case in cases(args.tiles).items():
        report(name, case, compare(case, rounds=args.rounds, loop=args.loop), args.loop)


if __name__ == "__main__":
    main()
