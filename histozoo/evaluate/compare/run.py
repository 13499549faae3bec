"""A plan from measurement to files: results.csv, .parquet, .json, .txt and .html, pictures, and the entry if asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from histozoo import __version__, durable
from histozoo.evaluate.compare import centre_table, table
from histozoo.evaluate.compare import record as recording
from histozoo.evaluate.compare.look_pages import drawn
from histozoo.evaluate.compare.looking import Looked, look, text
from histozoo.evaluate.compare.measure import Measured, measure
from histozoo.evaluate.compare.page import page
from histozoo.evaluate.compare.plan import Plan, check, jobs
from histozoo.evaluate.compare.standings import METRICS, Standings, nothing, offered, standings
from histozoo.evaluate.verdicts import enough


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
        record: Put rows of the first column onto its entry, beside its twin where there is one.
        say: Receives a line per step.

    Raises:
        UsageError, IntegrityError: What `measure` and `recording.record` raise; `HZ-I65`, too few resamples for so many comparisons.
            Whatever can be known beforehand is refused before anything is measured.
        ResourceError: `HZ-F42`, a folder cannot be written.
    """
    check(plan)
    if plan.centres:
        centre_table.require(plan.centres, plan.tasks, plan.data_root)
    first = next(iter(plan.columns))
    # What is written at the end is tried at the beginning: there may be hours between.
    for folder in (plan.out, plan.cache, *(recording.folders(first) if record else [])):
        durable.check_folder(folder)
    models, tasks = len(plan.columns), len(set(plan.tasks))
    enough(resamples, max(tasks * (models - 1), models * (models - 1) // 2))
    measured = measure(plan, say=say)
    looked = look(plan, resamples=resamples, say=say)
    found = all_standings(measured, plan, resamples=resamples)
    facts = _facts(plan, measured, command=command, resamples=resamples)
    told = write(found, looked, plan.out, facts=facts, say=say)
    # Where nothing has a number, that is what is to be told, not that there was nothing to record.
    if record and (not found or any(s.rows for s in found)):
        twin = recording.twin(first, plan.columns)
        rows = recording.rows(measured.cells, first, twin, seed=plan.seeds[0], resamples=resamples)
        say(f"recorded: {recording.record(first, rows)}")
    return told


def write(
    found: Sequence[Standings],
    looked: Sequence[Looked],
    out: Path,
    *,
    facts: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Writes every file of results and returns the tables of the deciding metric, and of looks, as text."""
    if kept := keep_earlier(out, command=facts["command"]):
        say(f"results of another command are kept in {kept}")
    table.write(found, out, facts=facts, looked=looked)
    for name, data in drawn(looked).items():
        durable.write_bytes(out / "pictures" / name, data)
    durable.write_text(out / "results.html", page(found, looked, facts=facts))
    texts = [table.table(s) for s in found if s.metric == METRICS[0]]
    return "\n\n".join([*texts, *map(text, looked)])


def keep_earlier(out: Path, *, command: str) -> Path | None:
    """Moves the files of results of another command out of the way; returns where to, None where there are none.

    Args:
        out: The folder of results.
        command: What is about to write there; its own earlier results may be replaced.
    """
    try:
        earlier = (out / "results.json").read_bytes()
    except FileNotFoundError:
        return None
    try:
        same = json.loads(earlier).get("command") == command
    except (ValueError, AttributeError):
        same = False
    if same:
        return None
    folder = out / "earlier" / hashlib.sha256(earlier).hexdigest()[:12]
    # The JSON last: as long as it lies there, a call that was cut off is made good by the next.
    names = ("pictures", *(f"results.{kind}" for kind in ("html", "csv", "parquet", "txt", "json")))
    for name in names:
        if (out / name).exists():
            durable.move(out / name, folder / name)
    return folder


def all_standings(measured: Measured, plan: Plan, *, resamples: int = 10_000) -> list[Standings]:
    """Returns standings of every protocol by every metric that it gives."""
    found = []
    for label in dict.fromkeys(job.label for job in jobs(plan)):
        cells, undefined = measured.of(label)
        if not cells:
            found.append(nothing(label, list(plan.columns), undefined))
        for metric in offered(cells):
            found.append(
                standings(cells, metric=metric, seed=plan.seeds[0], resamples=resamples, undefined=undefined)
            )
    return found


def _facts(plan: Plan, measured: Measured, *, command: str, resamples: int) -> dict[str, Any]:
    return {
        "command": command,
        "version": __version__,
        "seeds": list(plan.seeds),
        "resamples": resamples,
        "preset": plan.preset,
        "encoders": {one.name: one.facts() for several in plan.columns.values() for one in several},
        "cells": [
            {
                "model": c.model,
                "encoder": c.encoder,
                "task": c.task,
                "protocol": c.protocol,
                "seed": c.seed,
                **c.facts,
            }
            for c in measured.cells
        ],
    }
