"""What every kind of study hands over: numbers, parts of the report, sentences, and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from histozoo.evaluate.few_groups import NOT_CALLED
from histozoo.studies.comparing import Answer
from histozoo.studies.document import Section, Table

SEEN = {True: "trained on it", False: "new", None: "unknown"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a study found.

    Args:
        rows: Records of results.csv, see `folder.HEAD`.
        ran: What was measured, in sentences.
        clean: Sections on lineages that no compared model is known to have seen.
        marked: Sections on lineages that a model was trained on.
        follows: Sentences, from `comparing.sentences`.
        limits: What the numbers cannot say.
        facts: What stands behind them, as JSON types.
        private: Files that stay in the study's folder (pictures of tiles, which are not ours to pass on).
    """

    rows: Sequence[Mapping[str, Any]]
    ran: tuple[str, ...]
    clean: tuple[Section, ...]
    marked: tuple[Section, ...] = ()
    follows: tuple[str, ...]
    limits: tuple[str, ...]
    facts: Mapping[str, Any]
    private: Mapping[str, bytes] = field(default_factory=dict)


def spelled(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """Returns a value with its interval to three decimals."""
    form = "+.3f" if signed else ".3f"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def row(a: Answer, part: str) -> dict[str, Any]:
    """Returns an answer as a record of results.csv."""
    names = (
        "setting",
        "metric",
        "low",
        "high",
        "p_holm",
        "detectable",
        "outcome",
        "n",
        "n_groups",
        "lineage",
    )
    told = {"part": part, "task": a.place, "model": a.first, "minus": a.second, "value": a.difference}
    return {**told, **{name: getattr(a, name) for name in names}, "seen": SEEN[a.seen]}


def rank_row(
    model: str, told: tuple[float, float, float], *, setting: str, tasks: int, of: str
) -> dict[str, Any]:
    """Returns a mean rank over tasks with the ends of its interval as a record of results.csv.

    Args:
        model: Whose.
        told: Value, low, high.
        setting: As in other records.
        tasks: Over how many tasks the mean is.
        of: Metric that ranks are made by.
    """
    value, low, high = told
    found = {"part": "clean", "task": f"mean over {tasks} tasks", "setting": setting, "model": model}
    return {
        **found,
        "metric": f"mean_rank_by_{of}",
        "value": value,
        "low": low,
        "high": high,
        "seen": SEEN[False],
    }


def differences(answers: Sequence[Answer], *, place: str) -> Table:
    """Returns answers as a table; `place` heads the first column, and what all of them share is left out."""
    head = (place, "comparison", "difference", "groups", "p, Holm", "better", "would have shown")
    settings, firsts = {a.setting for a in answers}, {a.first for a in answers}
    return Table(head, tuple(_line(a, several=len(settings) > 1, named=len(firsts) > 1) for a in answers))


def _line(a: Answer, *, several: bool, named: bool) -> tuple[str, ...]:
    pair = f"{a.first} minus {a.second}" if named else f"minus {a.second}"
    said = (
        a.outcome
        if a.outcome != NOT_CALLED
        else f"{NOT_CALLED} ({'trained on it' if a.seen else 'few groups'})"
    )
    return (
        a.place,
        f"{a.setting}: {pair}" if several else pair,
        spelled(a.difference, a.low, a.high, signed=True),
        f"{a.n_groups:,}",
        "" if a.p_holm is None else f"{a.p_holm:.4f}",
        said,
        f"{a.detectable:.3f}",
    )
