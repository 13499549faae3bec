"""A study from its file to its report."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from histozoo import __version__, durable
from histozoo.errors import UsageError
from histozoo.studies import folder, machine
from histozoo.studies.document import Document, Points, Section, html, markdown
from histozoo.studies.folder import Bench
from histozoo.studies.outcome import Outcome
from histozoo.studies.study_file import Study

SHARED = ("ladder",)
"""Kinds of study that the processes of torchrun work on together."""


def run(study: Study, bench: Bench, *, command: str = "") -> bool:
    """Measures what is not there yet and writes results.csv, results.json, plots, report.md, report.html and DONE.json.

    A folder in which this study is finished, and its report whole, stays as it is. Of several processes (`crew.joined`) each must call it;
    the first one decides and writes.

    Args:
        study: From `study_file.read`.
        bench: Where to work.
        command: What was typed, for the report.

    Returns:
        Whether there was anything to do.

    Raises:
        UsageError: `HZ-F48`, the folder is in use; `HZ-U89`, several processes on a kind of study that one works on; and what the
            evaluations raise.
        IntegrityError: `HZ-F44`, the folder holds another study.
        Interrupted: `HZ-F41`, a signal asked to stop; the same command goes on.
    """
    if bench.crew.size > 1 and study.kind not in SHARED:
        raise _alone(study, bench)
    if not bench.crew.first:
        return bench.crew.follow()
    worked = not folder.finished(bench.out, study.facts())
    if worked:
        _work(study, bench, command)
    bench.crew.dismiss(worked)
    return worked


def _alone(study: Study, bench: Bench) -> UsageError:
    return UsageError(
        "HZ-U89",
        f"one process works on a study of kind {study.kind}",
        expected=f"1 process; several on a study of kind {', '.join(SHARED)}",
        got=f"{bench.crew.size} processes",
        kept="nothing was started",
        next_step="give the command without torchrun",
    )


def _work(study: Study, bench: Bench, command: str) -> None:
    with folder.opened(bench, study.facts()):
        found = _runner(study.kind)(study.settings, bench)
        bench.note()
        document = _document(study, found, bench, command)
        facts = {
            **study.facts(),
            "version": __version__,
            "command": command,
            "seconds": round(bench.seconds, 1),
        }
        facts |= {
            "machine": machine.words(bench.device),
            "follows": list(found.follows),
            **found.facts,
            "rows": list(found.rows),
        }
        files = {
            "results.csv": folder.tidy(found.rows).encode(),
            "results.json": durable.to_json(facts).encode(),
            **{
                p.file: p.content.encode() if isinstance(p.content, str) else p.content
                for p in document.plots
            },
            "report.md": markdown(document).encode(),
            "report.html": html(document).encode(),
        }
        for name, content in found.private.items():
            durable.write_bytes(bench.out / name, content)
        folder.finish(bench.out, files)


_MARKED = (
    "Below, a model is scored on a lineage that it was trained on. Such a score says nothing about new tissue; it is told and takes no "
    "part in what follows."
)


def _runner(kind: str) -> Callable[[Any, Bench], Outcome]:
    measure: Callable[[Any, Bench], Outcome] = importlib.import_module(f"histozoo.studies.{kind}").run
    return measure


def _document(study: Study, found: Outcome, bench: Bench, command: str) -> Document:
    ran = Section("What ran", (Points((*found.ran, *_how(study, bench, command))),))
    follows = found.follows or ("Nothing: no comparison counts, see below.",)
    sections = [
        Section(
            "Question",
            (study.question, f"Source: {study.source}", f"Expected before it ran: {study.expected}"),
        ),
        Section("What follows", (Points(tuple(follows)),)),
        ran,
        *found.clean,
    ]
    if found.marked:
        sections += [Section("Contaminated, told apart", (_MARKED,), marked=True), *found.marked]
    sections.append(Section("Limits", (Points(found.limits),)))
    return Document(study.title, tuple(sections))


def _how(study: Study, bench: Bench, command: str) -> list[str]:
    starts = f" in {bench.starts + 1} starts" if bench.starts else ""
    changed = ", ".join(f"{k} = {v!r}" for k, v in study.changed.items())
    return [
        f"Preset `{study.preset}`{f', changed: {changed}' if changed else ''}; command `{command}`."
        if command
        else f"Preset `{study.preset}`.",
        *_apart(study),
        f"Time: {machine.spell(bench.seconds)}{starts}, on {machine.words(bench.device)}; histozoo {__version__}.",
    ]


def _apart(study: Study) -> list[str]:
    """Returns what the preset `full` sets otherwise than what ran, in a sentence; nothing where nothing differs."""
    ran, full = dataclasses.asdict(study.settings), dataclasses.asdict(study.full or study.settings)
    apart = [
        f"{key} {_plain(ran[key])} (`full`: {_plain(full[key])})" for key in ran if ran[key] != full[key]
    ]
    return [f"Preset `full`, which was not run here, sets otherwise: {'; '.join(apart)}."] if apart else []


def _plain(value: Any) -> str:
    """Returns a setting as it is read: lists by commas, tables as `name: ...` in braces."""
    if isinstance(value, dict) and value:
        return "{" + "; ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list | dict):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
