"""A plan from measurement to files: results.csv, results.json, results.txt, results.html, and the entry if asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from histozoo import __version__, durable
from histozoo.evaluate.compare import record as recording
from histozoo.evaluate.compare import table
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.measure import Plan, measure
from histozoo.evaluate.compare.page import page
from histozoo.evaluate.compare.standings import METRICS, Standings, offered, standings


def run(
    plan: Plan,
    *,
    resamples: int = 10_000,
    command: str = "",
    record: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Measures a plan, writes the files into `plan.out` and returns the tables of the deciding metric as text.

    Args:
        plan: What to measure.
        resamples: Bootstrap resamples of every interval.
        command: What was typed, for the page.
        record: Put rows of the first column onto its entry; its twin is the column `random:` of the same name, if there is one.
        say: Receives a line per step.

    Raises:
        UsageError, IntegrityError: What `measure` and `recording.record` raise.
    """
    cells = measure(plan, say=say)
    found = all_standings(cells, seed=plan.seed, resamples=resamples)
    facts: dict[str, Any] = {
        "command": command,
        "version": __version__,
        "seed": plan.seed,
        "resamples": resamples,
        "encoders": {one.name: one.facts() for several in plan.columns.values() for one in several},
        "cells": [
            {"model": c.model, "encoder": c.encoder, "task": c.task, "protocol": c.protocol, **c.facts}
            for c in cells
        ],
    }
    table.write(found, plan.out, facts=facts)
    durable.write_text(plan.out / "results.html", page(found, facts=facts))
    if record:
        first = next(iter(plan.columns))
        twin = next((name for name in plan.columns if name == f"random:{first}"), None)
        rows = recording.rows(cells, first, twin, seed=plan.seed, resamples=resamples)
        say(f"recorded: {recording.record(first, rows)}")
    return "\n\n".join(table.table(s) for s in found if s.metric == METRICS[0])


def all_standings(cells: Sequence[Cell], *, seed: int = 0, resamples: int = 10_000) -> list[Standings]:
    """Returns standings of every protocol by every metric that it gives."""
    found = []
    for protocol in dict.fromkeys(c.protocol for c in cells):
        part = [c for c in cells if c.protocol == protocol]
        found += [standings(part, metric=m, seed=seed, resamples=resamples) for m in offered(part)]
    return found
