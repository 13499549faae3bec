"""How far a preparation is, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable

from histozoo.prepare.counts import Report

Progress = Callable[[int, int], None]
"""Called with the numbers of pictures done and of all pictures."""


class Told:
    """Counts pictures for whoever watches: as many are done as were begun, less those in hand.

    Args:
        report: Of the run, with the pictures that an earlier run had done.
        workers: Processes, each of which has one picture in hand.
        tell: Called with the numbers; nobody watches where it is None.
    """

    def __init__(self, report: Report, workers: int, tell: Progress | None) -> None:
        self.begun, self.in_hand, self.n, self.tell = (
            report.n_reused,
            max(1, workers),
            report.n_pictures,
            tell,
        )

    def at(self, name: str) -> None:
        """Counts a picture that is about to be opened."""
        self.begun += 1
        if self.tell:
            self.tell(max(0, self.begun - self.in_hand), self.n)

    def end(self) -> None:
        """Says that all pictures are done."""
        if self.tell:
            self.tell(self.n, self.n)
