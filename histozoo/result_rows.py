"""Results of an entry for readers: one row per task, with the trained trunk, random weights and their difference side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HEAD = ("task", "protocol, metric", "tiles", "groups", "trained", "random weights", "difference")
"""Columns of `by_task`; the last three hold the value and its 95 % interval."""

Result = Mapping[str, Any]
_COUNTED = ("balanced_accuracy", "dice")
_SUBJECTS = ("trained", "random", "difference")


def by_task(results: Iterable[Result], *, left_out: bool) -> list[tuple[object, ...]]:
    """Returns a row of `HEAD` for every task, protocol and metric, in the order they first appear.

    Args:
        results: The entry's results.
        left_out: Which half: tasks left out of training, or tasks trained on.
    """
    rows: dict[tuple[object, ...], dict[str, Result]] = {}
    for r in results:
        if r["left_out"] is left_out:
            key = (r["task"], f"{r['protocol']}, {r['metric']}", r["n"], r["n_groups"])
            rows.setdefault(key, {})[r["subject"]] = r
    return [(*key, *(_cell(found.get(s)) for s in _SUBJECTS)) for key, found in rows.items()]


def verdict(results: Sequence[Result], corpus: Iterable[Mapping[str, Any]]) -> str:
    """Returns a sentence per protocol on the tasks left out of training, counted from the differences; empty where there are none.

    Counted by balanced accuracy, or by Dice of masks, alone: further metrics of the same predictions are no further evidence.

    Args:
        results: The entry's results.
        corpus: The entry's corpus, for the lineage of each task.
    """
    differences = [
        r for r in results if r["left_out"] and r["subject"] == "difference" and r["metric"] in _COUNTED
    ]
    protocols = list(dict.fromkeys(r["protocol"] for r in differences))
    said = [_verdict([r for r in differences if r["protocol"] == p], corpus) for p in protocols]
    if len(said) < 2:
        return "".join(said)
    return "\n\n".join(f"By {p}: {s[0].lower()}{s[1:]}" for p, s in zip(protocols, said, strict=True))


def lineage_by_task(corpus: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the lineage of every task of the pool and of a corpus: tasks that a model never saw may share slides all the same."""
    from histozoo.tasks import TASKS

    lineage = {name: task.lineage for name, task in TASKS.items()}
    return lineage | {part["task"]: part["lineage"] for part in corpus}


def _verdict(differences: Sequence[Result], corpus: Iterable[Mapping[str, Any]]) -> str:
    lineage = lineage_by_task(corpus)
    lineages = {lineage.get(r["task"], r["task"]) for r in differences}
    above = sum(r["interval"] is not None and r["interval"][0] > 0 for r in differences)
    below = sum(r["interval"] is not None and r["interval"][1] < 0 for r in differences)
    higher = sum(r["value"] > 0 for r in differences)
    rank = sum(1.5 - 0.5 * ((r["value"] > 0) - (r["value"] < 0)) for r in differences) / len(differences)
    return (
        f"Higher than random weights on {higher} of {len(differences)} tasks of {len(lineages)} lineages "
        f"(average rank {rank:.2f} against {3 - rank:.2f}); the interval of the difference, not corrected for the number of tasks, "
        f"lies above zero on {above} and below zero on {below}."
    )


def _cell(r: Result | None) -> str:
    if r is None:
        return "not measured"
    interval = "[{:.3f}, {:.3f}]".format(*r["interval"]) if r["interval"] else "(no interval)"
    return f"{r['value']:.3f} {interval}"
