"""What weights trained on the audited tasks may be used for, all together and each alone, and which tasks decide it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from histozoo import licence
from histozoo.audit.findings import Finding
from histozoo.tasks.base import Task

USE = {
    "apache-2.0": "any use, commercial use included",
    "cc-by-nc-4.0": "non-commercial use only",
    "other": "research use only",
}
"""Licence of the weights -> what it allows, in words."""


def chain(tasks: Sequence[Task]) -> dict[str, Any]:
    """Returns the licence of weights trained on all tasks, on each alone, and the tasks without which it would be freer.

    The freest corpus is every task whose own licence is permissive.
    """
    corpus = [{"task": task.name, "licence": task.stated_licence} for task in tasks]
    kinds = {task.name: licence.kind(task.stated_licence) for task in tasks}
    word, reason = licence.weights_licence(corpus)
    alone = {item["task"]: licence.weights_licence([item])[0] for item in corpus}
    return {
        "all": {"licence": word, "use": USE[word], "reason": reason},
        "deciding": [name for name in kinds if alone[name] == word and word != "apache-2.0"],
        "kinds": kinds,
        "alone": {name: {"licence": own, "use": USE[own]} for name, own in alone.items()},
        "free": [name for name, kind in kinds.items() if kind == "permissive"],
    }


def find(task: Task, found: dict[str, Any]) -> list[Finding]:
    """Returns a finding for a task whose licence narrows the use of weights."""
    own = found["alone"][task.name]
    if own["licence"] == "apache-2.0":
        return []
    why = licence.why(task.stated_licence) or "no clear licence"
    sentence = (
        f"Weights trained on this task are for {own['use']}: its licence is {task.stated_licence} ({why})."
    )
    return [
        Finding(
            code="licence-narrows-use",
            severity="note",
            task=task.name,
            sentence=sentence,
            evidence={
                "licence": task.stated_licence,
                "kind": found["kinds"][task.name],
                "weights": own["licence"],
            },
            next_step="leave it out of weights that are to be free, or ask its owners",
        )
    ]
