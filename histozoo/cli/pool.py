"""Verbs of the task pool: what tasks there are, preparing them from their originals, and auditing what was prepared."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from histozoo.cli.app import app
from histozoo.console import out, progress_bar, staged_bar
from histozoo.errors import HistozooError, RejectedInputs, UsageError


@app.command("tasks")
def tasks_(
    name: Annotated[str, typer.Argument(help="Name of a task, or a shell pattern.")] = "*",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the task folders; else $HISTOZOO_DATA.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Audit the tasks that are there and draw a page into this folder.")
    ] = None,
    sample: Annotated[int | None, typer.Option(min=100, help="Most tiles audited per task.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Folder of NAME.safetensors from `embed`: copies are looked for by features, too."),
    ] = None,
) -> None:
    """List the tasks, show one in full, or audit those that are prepared."""
    from histozoo import task_tables, tasks

    chosen = [t for t in tasks.TASKS.values() if fnmatchcase(t.name, name)]
    if not chosen:
        tasks.task(name)
    root = data_root or (Path(os.environ["HISTOZOO_DATA"]) if os.environ.get("HISTOZOO_DATA") else None)
    if html:
        _audit(chosen, root, html, sample, features)
    elif name in tasks.TASKS:
        out.print(task_tables.task(chosen[0], root))
    elif out.is_terminal:
        out.print(task_tables.tasks(chosen, root))
    else:
        out.print("\n".join(t.name for t in chosen))


@app.command()
def prepare(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="Archive or folder as its authors publish it; hub: the task's dataset there; with --all, a folder of archives.",
        ),
    ],
    target: Annotated[Path, typer.Option("--out", help="Folder of the task folders.")],
    name: Annotated[str | None, typer.Argument(help="Name of a task.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every task whose original is in the folder.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; one per core where left out.")
    ] = None,
    shards: Annotated[
        bool, typer.Option("--shards", help="Parquet shards in place of single files.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out pictures that are unusable, missing or not as published, and list them.",
        ),
    ] = False,
    allow_unlisted: Annotated[
        bool,
        typer.Option(
            "--allow-unlisted",
            help="Pass over tiles that the set's table does not list; their number is said.",
        ),
    ] = False,
    accept_counts: Annotated[
        bool,
        typer.Option("--accept-counts", help="Take other numbers than the published ones, and record them."),
    ] = False,
    pictures: Annotated[
        int | None,
        typer.Option(min=1, help="A trial with so many pictures, in ROOT/trial-N-pictures; not compared."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Audit what was prepared into this folder.")] = None,
) -> None:
    """Make the tiles of a task from its original archive; the same command continues a stopped run."""
    from histozoo import task_tables, tasks
    from histozoo.prepare import engine, everything
    from histozoo.prepare.layouts import tile_table

    _check(name, all_, "--pictures" if pictures else "--allow-unlisted" if allow_unlisted else "")
    options: dict[str, Any] = {
        "workers": workers, "shards": shards, "skip_bad": skip_bad, "accept_counts": accept_counts
    }  # fmt: skip
    root = target
    if name is None:
        found = everything.sources(source)
        failure = _prepare_all(found, target, options)
    else:
        task = everything.preparable(tasks.task(name))
        if allow_unlisted:
            task = tile_table.allowing_unlisted(task)
        if str(source) == "hub":
            from histozoo.prepare.from_hub import fetch

            task, source = fetch(task, target / ".prepare" / task.name)
        found, failure = [(task, source)], None
        with progress_bar(name) as progress:
            report = engine.prepare(task, source, target, max_pictures=pictures, progress=progress, **options)
        out.print(task_tables.prepared(report))
        root = Path(report.folder).parent
    if html:
        _audit([tasks.TASKS[t.name] for t, _ in found], root, html)
    if failure:
        raise failure


def _check(name: str | None, every: bool, of_one: str) -> None:
    """Refuses names and options that cannot be meant; `of_one` is an option given that is for one task."""
    if (name is None) == (not every):
        raise UsageError(
            "HZ-U66", "give the name of one task, or --all", got=f"{name or 'no name'}, --all {every}"
        )
    if every and of_one:
        raise UsageError("HZ-U66", f"{of_one} is for one task", got=f"--all and {of_one}")


def _prepare_all(found: Any, target: Path, options: dict[str, Any]) -> HistozooError | None:
    """Prepares each task under a bar of its own; what failed is returned, so that an audit of the others can follow."""
    from histozoo.prepare import everything

    with progress_bar("pictures") as progress:

        def on_task(task: Any, outcome: Any) -> Any:
            if isinstance(outcome, HistozooError):
                out.print(f"{task.name:24} {outcome.code} {outcome.what}", markup=False, soft_wrap=True)
            elif outcome is not None:
                line = f"{outcome.n_tiles:>9,} tiles of {outcome.n_done:,} pictures -> {outcome.folder}"
                out.print(f"{task.name:24}{line}", markup=False, soft_wrap=True)
            return progress

        try:
            everything.prepare_all(found, target, on_task=on_task, **options)
        except RejectedInputs as error:
            return error
    return None


def _audit(
    asked: list[Any], root: Path | None, html: Path, sample: int | None = None, features: Path | None = None
) -> None:
    """Audits those of the tasks asked for that are there."""
    from histozoo import task_tables
    from histozoo.audit.audit import audit
    from histozoo.audit.tables import summary
    from histozoo.data.rows import first_five

    chosen = [t for t in asked if root and task_tables.is_there(t, root)]
    if not chosen:
        names = [t.name for t in asked]
        raise UsageError(
            "HZ-U37",
            f"task {names[0]!r} is not there" if len(names) == 1 else "none of these tasks is there",
            expected=first_five("", [f"{t.folder}/{t.table}" for t in asked]),
            where=root or "no data folder was given",
            next_step="prepare them first, and give their folder as --data-root or $HISTOZOO_DATA",
        )
    files = {t.name: features / f"{t.name}.safetensors" for t in chosen} if features else {}
    there = {name: file for name, file in files.items() if file.is_file()}
    if files and not there:
        raise UsageError(
            "HZ-U81",
            "none of the tasks has a feature file there",
            where=features,
            expected=first_five("", [file.name for file in files.values()]),
            next_step="histozoo embed ROOT/NAME FOLDER/NAME.safetensors -m MODEL, for each task",
        )
    with staged_bar("opening tasks") as progress:
        report = audit(chosen, data_root=root, out=html, sample=sample, features=there, progress=progress)
    out.print(summary(report))
    out.print(f"page: {report.page}", markup=False, soft_wrap=True)
