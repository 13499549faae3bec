"""What CKA costs: histozoo's streamed sums beside the n x n Gram matrices of the formula, in numpy.

    python benchmarks/cka.py [--n 8000] [--d 512] [--rounds 5]

Naive: tr(K H L H) with the matrices multiplied as they stand, three times (XY, XX, YY), and for the unbiased estimator K and L without
their diagonals, tr(K0 L0) and 1'K0 L0 1 from the product K0 L0. Thrifty: the same from Gram matrices, but without a product of two of
them (centred by their means, traces as sums over entries), which is how a careful reader would write it. All in float32, the features'
own precision; the error is against the thrifty form in float64. Ways take turns, so that a ratio pairs neighbours in time; the naive
ways run once (--naive-rounds). One thread. The growth of the resident set is measured in a process of its own for each way, with the
features made before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from histozoo.evaluate.cka import cka

Features = np.ndarray
Way = Callable[[Features, Features], float]


def normalised(hsic: Callable[[Features, Features], float], k: Features, other: Features) -> float:
    """Returns CKA from a function of two Gram matrices."""
    return float(hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other)))


def naive_biased(x: Features, y: Features) -> float:
    def hsic(k: Features, m: Features) -> float:
        n = len(k)
        h = np.eye(n, dtype=k.dtype) - np.full((n, n), 1 / n, dtype=k.dtype)
        return float(np.trace(k @ h @ m @ h))

    return normalised(hsic, x @ x.T, y @ y.T)


def naive_unbiased(x: Features, y: Features) -> float:
    def hsic(k: Features, m: Features) -> float:
        n = len(k)
        product = k @ m
        sums = k.sum(dtype=np.float64) * m.sum(dtype=np.float64) / ((n - 1) * (n - 2))
        return float(np.trace(product) + sums - 2 / (n - 2) * product.sum(dtype=np.float64)) / (n * (n - 3))

    return normalised(hsic, hollow(x @ x.T), hollow(y @ y.T))


def hollow(k: Features) -> Features:
    np.fill_diagonal(k, 0)
    return k


def thrifty_biased(x: Features, y: Features) -> float:
    def centred(f: Features) -> Features:
        k = f @ f.T
        k -= k.mean(0, dtype=np.float64).astype(k.dtype)
        k -= k.mean(1, dtype=np.float64).astype(k.dtype)[:, None]
        return k

    return normalised(lambda k, m: float(np.einsum("ij,ij->", k, m)), centred(x), centred(y))


def thrifty_unbiased(x: Features, y: Features) -> float:
    def hsic(k: Features, m: Features) -> float:
        n, a, b = len(k), k.sum(1, dtype=np.float64), m.sum(1, dtype=np.float64)
        return float(
            np.einsum("ij,ij->", k, m) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b)
        ) / (n * (n - 3))

    return normalised(hsic, hollow(x @ x.T), hollow(y @ y.T))


WAYS: dict[str, tuple[Way, Way, Way]] = {
    "unbiased": (lambda x, y: cka(x, y), thrifty_unbiased, naive_unbiased),
    "biased": (lambda x, y: cka(x, y, unbiased=False), thrifty_biased, naive_biased),
}


def pair(n: int, d: int) -> tuple[Features, Features]:
    """Returns features like those of a trunk: not negative, with a falling spectrum, half shared."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((d, d)) / np.sqrt(np.arange(1, d + 1))[:, None]
    x = np.abs(rng.standard_normal((n, d)) @ mix)
    y = np.abs(0.5 * x @ rng.standard_normal((d, d)) / np.sqrt(d) + rng.standard_normal((n, d)))
    return x.astype(np.float32), y.astype(np.float32)


def timed(way: Way, x: Features, y: Features) -> tuple[float, float, float]:
    """Returns the value, and seconds by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = way(x, y)
    return value, time.perf_counter() - wall, time.process_time() - cpu


def growth(way: Way, x: Features, y: Features) -> float:
    """Returns by how many megabytes a way raises the peak of a fork of this process."""
    read, write = os.pipe()
    if os.fork() == 0:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
        before = _peak()
        way(x, y)
        os.write(write, str(_peak() - before).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        found = float(file.read())
    os.wait()
    return found


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def report(
    kind: str, ways: tuple[Way, Way, Way], x: Features, y: Features, *, rounds: int, naive: int
) -> None:
    """Prints seconds, ratios, memory and error of the three ways."""
    ours, thrifty, slow = ways
    memory = [growth(way, x, y) for way in (ours, thrifty)]
    found = [[timed(way, x, y) for way in (ours, thrifty)] for _ in range(rounds)]
    naive_found = [(timed(ours, x, y), timed(slow, x, y)) for _ in range(naive)]
    exact = thrifty(x.astype(np.float64), y.astype(np.float64))
    print(f"{kind}, float64 value {exact:.9f}")
    by_us = [f[0] for f in found] + [a for a, _ in naive_found]
    for name, values, extra in (
        ("histozoo, streamed", by_us, f"+{memory[0]:.0f} MB"),
        ("Gram matrices, thrifty", [f[1] for f in found], f"+{memory[1]:.0f} MB"),
        ("Gram matrices, naive", [b for _, b in naive_found], ""),
    ):
        if values:
            wall, cpu = (statistics.median(v[i] for v in values) for i in (1, 2))
            print(
                f"  {name:<24}{wall:9.3f} s  CPU {cpu:9.3f} s  error {abs(values[0][0] - exact):.1e}  {extra}"
            )
    for name, pairs in (("thrifty", [(f[0], f[1]) for f in found]), ("naive", naive_found)):
        if pairs:
            wall, cpu = (statistics.median(b[i] / a[i] for a, b in pairs) for i in (1, 2))
            print(f"  {name} / histozoo: {wall:.0f} by the clock, {cpu:.0f} of the processor")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=8000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--naive-rounds", type=int, default=1)
    args = parser.parse_args()
    x, y = pair(args.n, args.d)
    print(f"n={args.n} d={args.d}, one thread, {args.rounds} rounds, load average {os.getloadavg()[0]:.1f}")
    for kind, ways in WAYS.items():
        report(kind, ways, x, y, rounds=args.rounds, naive=args.naive_rounds)


if __name__ == "__main__":
    main()
