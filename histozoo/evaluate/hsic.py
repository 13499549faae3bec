"""HSIC of features in feature space: sums over tiles from which both estimators follow, without an n x n matrix.

The Hilbert-Schmidt independence criterion with the kernels K = X X', L = Y Y' is estimated

- unbiased: 1/(n(n-3)) [tr(K0 L0) + 1'K0 1 1'L0 1 / ((n-1)(n-2)) - 2/(n-2) 1'K0 L0 1], K0 and L0 being K and L with a zero
  diagonal (Song et al., "Feature selection via dependence maximization", JMLR 13 (2012) 1393-1434, eq. 5);
- biased: tr(K H L H) / (n-1)^2 with H = I - 1 1'/n (Gretton et al., ALT 2005).

With C = X'Y, s = X'1, t = Y'1, r_i = |x_i|^2, q_i = |y_i|^2: tr(K H L H) = |C - s t'/n|_F^2, tr(K0 L0) = |C|_F^2 - r'q,
1'K0 1 = |s|^2 - 1'r and 1'K0 L0 1 = s'C t - s'X'q - t'Y'r + r'q. All of these are sums over tiles. Neither estimate changes when a
constant is added to a feature, and scaling all features scales it, so every set is first shifted by the mean and scaled by the size of
its first tiles, which keeps float32 exact enough.

Shapes: n or N tiles, B batch, D E features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.blocks import check_finite
from histozoo.evaluate.resampling import Floats

Batch = Mapping[str, NDArray[Any]]
ROWS = 1024
"""Tiles multiplied at once; the product has the features' own precision, sums over products have float64."""


@dataclass(frozen=True)
class Scaled:
    """Features of a batch, shifted and scaled, with their squared norms in float64; `norms_B` below `rounding` is no signal."""

    f_BD: NDArray[Any]
    norms_B: Floats
    rounding: float

    def rows(self, rows: NDArray[np.int64] | slice) -> Scaled:
        """Returns some of the rows."""
        return Scaled(self.f_BD[rows], self.norms_B[rows], self.rounding)


@dataclass
class Sums:
    """What HSIC of two sets of features needs of the tiles: `C`, `s`, `t`, `X'q`, `Y'r`, `1'r`, `1'q`, `r'q` at the head of the file."""

    n: int = 0
    c_DE: Any = 0.0
    s_D: Any = 0.0
    t_E: Any = 0.0
    xq_D: Any = 0.0
    yr_E: Any = 0.0
    r: Any = 0.0
    q: Any = 0.0
    rq: Any = 0.0
    rounding: float = 0.0

    @classmethod
    def of(cls, x: Scaled, y: Scaled) -> Self:
        """Returns the sums over any number of tiles."""
        sums = cls()
        for start in range(0, len(x.norms_B), ROWS):
            part = slice(start, start + ROWS)
            sums.add(x.rows(part), y.rows(part))
        return sums

    def add(self, x: Scaled, y: Scaled) -> None:
        """Adds tiles."""
        self.n += len(x.norms_B)
        self.c_DE = np.add(self.c_DE, x.f_BD.T @ y.f_BD, dtype=np.float64)
        self.s_D = self.s_D + x.f_BD.sum(0, dtype=np.float64)
        self.t_E = self.t_E + y.f_BD.sum(0, dtype=np.float64)
        self.xq_D = self.xq_D + y.norms_B @ x.f_BD
        self.yr_E = self.yr_E + x.norms_B @ y.f_BD
        self.r += x.norms_B.sum()
        self.q += y.norms_B.sum()
        self.rq += x.norms_B @ y.norms_B
        self.rounding = max(x.rounding, y.rounding)

    def __sub__(self, other: Self) -> Self:
        """Returns the sums without the tiles of `other`."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "rounding"]
        return dataclasses.replace(self, **{n: getattr(self, n) - getattr(other, n) for n in names})

    def hsic(self, *, unbiased: bool) -> float:
        """Returns HSIC of the tiles added."""
        n = self.n
        if not unbiased:
            return float(np.square(self.c_DE - np.outer(self.s_D, self.t_E) / n).sum() / (n - 1) ** 2)
        trace = np.square(self.c_DE).sum() - self.rq
        sums = (self.s_D @ self.s_D - self.r) * (self.t_E @ self.t_E - self.q)
        cross = self.s_D @ self.c_DE @ self.t_E - self.s_D @ self.xq_D - self.t_E @ self.yr_E + self.rq
        return float((trace + sums / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3)))

    def varying(self, block: str, *, unbiased: bool) -> float:
        """Returns HSIC of features with themselves, which must be positive for CKA to be defined."""
        value = self.hsic(unbiased=unbiased)
        if value > 0 and self.r > self.n * self.rounding:
            return value
        raise UsageError(
            "HZ-I73",
            "CKA is undefined: the features do not vary, or too few tiles show how",
            where=block,
            expected=f"HSIC with themselves above 0 over {self.n} tiles",
            got=f"{value:.3g}; features deviate by {np.sqrt(self.r / self.n):.2g} of their size",
            next_step="take more tiles, or leave the block out if it is constant",
        )


class Side:
    """One model's blocks: the shift and scale of each, and its sums with itself in `alone`."""

    def __init__(self) -> None:
        self.rows = 0
        self.alone: dict[str, Sums] = {}
        self._frames: dict[str, tuple[Any, Any]] = {}

    def take(self, batch: Batch) -> dict[str, Scaled]:
        """Adds a batch to the sums of each block with itself, and returns it scaled."""
        if self.rows and set(batch) != set(self.alone):
            raise unlike(", ".join(self.alone), ", ".join(batch), "a batch has other blocks than the first")
        scaled = {name: self.scale(name, np.asarray(f_BD)) for name, f_BD in batch.items()}
        for name, x in scaled.items():
            self.alone.setdefault(name, Sums()).add(x, x)
        self.rows += len(next(iter(scaled.values())).norms_B) if scaled else 0
        return scaled

    def scale(self, name: str, f_BD: NDArray[Any]) -> Scaled:
        """Shifts and scales a block's features by those of its first tiles."""
        check_finite(f_BD, name, first_row=self.rows)
        precision = np.float64 if f_BD.dtype == np.float64 else np.float32
        if name not in self._frames:
            self._frames[name] = _frame(f_BD)
        shift_D, scale = self._frames[name]
        f_BD = np.multiply(f_BD - shift_D.astype(precision), precision(scale), dtype=precision)
        norms_B = np.einsum("bd,bd->b", f_BD, f_BD, dtype=np.float64)
        if not np.isfinite(norms_B).all() or norms_B.max(initial=0) > np.finfo(np.float32).max:
            raise IntegrityError(
                "HZ-I62",
                "features overflow: some are beyond 1e19 times the size of the first ones",
                where=name,
                kept="nothing was compared",
                next_step="run `histozoo verify` on the model",
            )
        return Scaled(f_BD, norms_B, float(10 * np.finfo(precision).eps) ** 2)


def scaled_pair(x_ND: NDArray[Any], y_NE: NDArray[Any]) -> tuple[Scaled, Scaled]:
    """Returns both sets of features as `Sums` takes them.

    Raises:
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    return Side().scale("left", x_ND), Side().scale("right", y_NE)


def _frame(f_BD: NDArray[Any]) -> tuple[Floats, float]:
    """Returns the mean of the first tiles, and the inverse of their root mean square norm."""
    size = float(np.sqrt(np.square(f_BD, dtype=np.float64).sum() / max(1, len(f_BD))))
    return f_BD.mean(0, dtype=np.float64), 1 / size if size > 1e-30 else 1.0


def unlike(expected: str, got: str, what: str) -> UsageError:
    """Returns the error for two sides that are not of the same tiles or blocks, `HZ-I64`."""
    return UsageError(
        "HZ-I64",
        what,
        expected=expected,
        got=got,
        next_step="run both models over the same tiles in the same order",
    )


def enough(n: int, *, unbiased: bool) -> None:
    """Refuses too few tiles.

    Raises:
        UsageError: `HZ-I73`, fewer than four for the unbiased estimator, fewer than two for the biased one.
    """
    least = 4 if unbiased else 2
    if n < least:
        raise UsageError(
            "HZ-I73",
            "too few tiles for CKA",
            expected=f"at least {least}; 2,000 of 50 slides for a figure to report",
            got=f"{n} tiles",
        )
