"""What becomes of tasks without a number: each is told with what to do, and where no task has one the command fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from histozoo.errors import UsageError

STEPS = {
    "HZ-E36": "add groups that hold the class, or leave it out of the task with its reason",
    "HZ-I62": "add groups that hold the class, or leave it out of the task with its reason",
    "HZ-I63": "add groups: patients, slides or photographs; those that hold copies of one tile count as one",
    "HZ-I68": "take a larger --fraction, or a task of more and smaller groups",
    "HZ-I71": "take a protocol of tiles, such as logistic: here the tiles of a group are of several classes, so no group is a slide",
    "HZ-I72": "add slides of the class, or take a protocol of tiles, such as logistic",
    "HZ-I74": "take a task with several classes in several centres, and more tiles; or leave this look out",
}
"""Code of the reason why a task has no number by a protocol -> what to do about it."""


@dataclass(frozen=True)
class Missing:
    """A task without a number.

    Args:
        task: Its name.
        protocol: By what it was to be measured.
        why: Code, sentence and what was found.
    """

    task: str
    protocol: str
    why: str

    @property
    def step(self) -> str:
        """What to do about it."""
        return STEPS.get(self.why[:6], "docs/errors.md says what the code means")


def tell(results: Path, *, say: Callable[[str], None]) -> None:
    """Says of every task without a number what to do about it.

    Args:
        results: The file results.json of a comparison.
        say: Receives a line per task and protocol.

    Raises:
        UsageError: `HZ-I76`, no task has a number by any protocol.
    """
    told = json.loads(results.read_text(encoding="utf-8"))
    parts = [*told["standings"], *told["looks"]]
    missing = list(
        dict.fromkeys(Missing(t, p["protocol"], why) for p in parts for t, why in p["undefined"].items())
    )
    if any(part["rows"] for part in parts):
        for one in missing:
            say(f"no number: {one.task} by {one.protocol}, {one.why[:6]}; next: {one.step}")
        return
    raise UsageError(
        "HZ-I76",
        "nothing could be measured: no task has a number by any protocol",
        where=results,
        expected="a number of one task or more",
        got="".join(f"\n    - {one.task} by {one.protocol}: {one.why}" for one in missing),
        kept="the features, for another protocol",
        next_step="".join(f"\n    - {step}" for step in dict.fromkeys(one.step for one in missing)),
    )
