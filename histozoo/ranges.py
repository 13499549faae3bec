"""Ranges of numbers, declared where a setting is declared and held against an experiment when it is read. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Range:
    """Finite numbers between two bounds.

    Args:
        least: Lower bound.
        most: Upper bound.
        without_least: The lower bound itself is none of them.
        without_most: The upper bound itself is none of them.
    """

    least: float = -math.inf
    most: float = math.inf
    without_least: bool = False
    without_most: bool = False

    def holds(self, value: float) -> bool:
        """Returns whether the number is one of them; NaN and infinity never are."""
        low = value > self.least if self.without_least else value >= self.least
        high = value < self.most if self.without_most else value <= self.most
        finite = abs(value) != math.inf and value == value  # math.isfinite fails on large integers
        return finite and low and high

    def __str__(self) -> str:
        if not math.isfinite(self.least):
            return "finite"
        if math.isfinite(self.most):
            ends = (("above " if self.without_least else "") + f"{self.least:g}", f"{self.most:.10g}")
            return f"{ends[0]} to {'below ' if self.without_most else ''}{ends[1]}"
        return f"{'above' if self.without_least else 'at least'} {self.least:g}"


POSITIVE = Range(least=0, without_least=True)
NOT_NEGATIVE = Range(least=0)
COUNT = Range(least=1)
SHARE = Range(least=0, most=1)
PART = Range(least=0, most=1, without_least=True)
"""Of a share of something that must be seen at all."""
SEED = Range(least=0, most=2**32 - 1)
"""What numpy's global generator takes, which the training loop seeds, too."""
BELOW_ONE = Range(least=0, most=1, without_most=True)
"""Of a share that may be 0 and must leave something: a moment's decay, the unlabelled part of a batch."""


def setting(default: T, within: Range) -> T:
    """Returns a dataclass field with its default and the range of its value, or of each of its values."""
    made: Any = field(default=default, metadata={"range": within})
    return made  # type: ignore[no-any-return]
