"""What the command line shows of tasks: the list, one task in full, and what a preparation made. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from histozoo import licence
from histozoo.prepare.counts import Report
from histozoo.tasks import TASKS
from histozoo.tasks.base import Task

_GAP = (0, 2, 0, 0)


def tasks(listed: Sequence[Task], data_root: Path | None) -> RenderableType:
    """Returns one line per task; with a data root, whether it lies there."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=_GAP)
    columns = ("name", "organ", "stain", "classes", "tiles", "licence", "lineage", "there")
    for column in columns if data_root else columns[:-1]:
        right = column in ("classes", "tiles")
        # A name that is cut cannot be typed.
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "name")
    for t in listed:
        kind = licence.kind(t.stated_licence)
        row = [
            t.name,
            t.organ,
            t.stain,
            str(len(t.classes)),
            _total(t) or _of_paper(t) or "-",
            kind,
            t.lineage,
        ]
        if data_root:
            row.append("yes" if is_there(t, data_root) else "-")
        table.add_row(*map(Text, row))
    return table if listed else Text("no task matches")


def task(t: Task, data_root: Path | None) -> RenderableType:
    """Returns everything that is declared of a task, and how its tiles are made."""
    facts = {
        "classes": ", ".join(_classes(t)),
        "tiles": _tiles(t),
        "not reproducible": f"the paper's {t.not_reproduced[0]:,} tiles: {t.not_reproduced[1]}"
        if t.not_reproduced
        else "",
        "compared": _compared(t),
        "organ": t.organ,
        "stain": t.stain,
        "um/px": f"{t.mpp:g}" if t.mpp else "not known",
        "licence": _licence(t),
        "source": t.source,
        "Hub": t.hub or "no dataset there that is known",
        "cite": t.citation,
        "lineage": t.lineage,
        **_made(t),
        "notes": t.notes,
    }
    if data_root:
        facts["there"] = str(data_root / t.folder) if is_there(t, data_root) else f"not in {data_root}"
    table = _pairs(facts)
    for trap in t.traps:
        table.add_row(Text("trap"), Text(trap))
    return Group(Text(t.name, style="bold"), table)


def prepared(report: Report) -> RenderableType:
    """Returns what became of the pictures, and how many tiles there are."""
    done = f"{report.n_done:,} of {report.n_pictures:,}"
    reused = f" ({report.n_reused:,} were there already)" if report.n_reused else ""
    facts = {
        "task": report.task,
        "pictures": done + reused,
        "tiles": f"{report.n_tiles:,}: " + ", ".join(f"{c} {n:,}" for c, n in report.classes.items()),
        "groups": f"{len(report.groups):,}",
        "folder": report.folder,
    }
    if report.treated:
        facts["converted"] = "pictures: " + ", ".join(f"{how} {n:,}" for how, n in report.treated.items())
    if report.empty:
        facts["no tile from"] = f"{len(report.empty):,} pictures{_excluded(report)}"
    if report.differences:
        facts["not as published"] = "; ".join(report.differences)
    return _pairs(facts)


def is_there(t: Task, data_root: Path) -> bool:
    """Whether the task's table, or its shards, lie below the data root."""
    return any((data_root / t.folder / name).is_file() for name in (t.table, "index.json"))


def _made(t: Task) -> dict[str, str]:
    plan = t.preparation
    if plan is None:
        return {"made by": "nothing to make: a table of tiles"}
    rule = plan.rule.describe()
    told = ", ".join(f"{k} {v}" for k, v in rule.items() if k != "rule" and v not in (None, "", []))
    stored = f"{plan.format}{f' {plan.quality}' if plan.format == 'jpeg' else ''}"
    size = f", resized to {plan.resize_px} px" if plan.resize_px else ""
    cap = f", at most {plan.cap:,} per class and picture" if plan.cap else ""
    return {
        "from": ", ".join(plan.parts) or "the archive as its authors publish it",
        "made by": f"{rule.get('rule', type(plan.rule).__name__)}{f' ({told})' if told else ''}{size}{cap}; stored as {stored}",
        "prepare": f"histozoo prepare {t.name} --from ARCHIVE_OR_FOLDER --out ROOT",
    }


def _classes(t: Task) -> list[str]:
    return [f"{c} {n:,}" for c, n in zip(t.classes, t.counts, strict=True)] if t.counts else list(t.classes)


def _total(t: Task) -> str:
    n = sum(t.counts) if t.counts else t.total or sum(t.split_counts.values())
    return f"{n:,}" if n else ""


def _of_paper(t: Task) -> str:
    return f"{t.not_reproduced[0]:,} (paper)" if t.not_reproduced else ""


def _tiles(t: Task) -> str:
    if known := _total(t):
        return f"{known} ({_splits(t)})" if t.split_counts else known
    return f"{_of_paper(t)}: not reproducible, see below" if t.not_reproduced else "not known"


def _compared(t: Task) -> str:
    """Returns which published numbers a preparation is held against."""
    if t.preparation is None:
        return "tiles of each class, whenever the set is read"
    pictures = t.preparation.pictures
    numbers = [f"{pictures:,} pictures"] if pictures is not None else []
    numbers += [f"{n:,} annotated ({name})" for name, n in t.objects.items()]
    numbers += ["tiles of each class"] if t.counts else ["tiles in all"] if t.total is not None else []
    numbers += ["tiles of each split"] if t.split_counts else []
    return ", ".join(numbers) or "nothing: no number that it should give is known"


def _licence(t: Task) -> str:
    """Returns the licence, what it rests on, and what follows for weights."""
    weights = licence.weights_licence([{"task": t.name, "licence": t.stated_licence}])[0]
    note = f" ({t.licence_note})" if t.licence_checked and t.licence_note else ""
    unchecked = not t.licence_checked and t.licence != "unknown"
    why = licence.why(t.stated_licence) or (
        "a licence that is not checked" if unchecked else "no clear licence"
    )
    return f"{t.stated_licence}{note}; weights trained on it: {weights} ({why})"


def _excluded(report: Report) -> str:
    """Returns why pictures gave no tile, as far as it is that the task leaves their class out."""
    declared = TASKS[report.task].exclude_classes if report.task in TASKS else {}
    told = [
        f"{label} {n:,} tiles ({declared.get(label, 'excluded')})" for label, n in report.left_out.items()
    ]
    return f"; left out by the task: {', '.join(told)}" if told else ""


def _splits(t: Task) -> str:
    return ", ".join(f"{split} {n:,}" for split, n in t.split_counts.items())


def _pairs(facts: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=_GAP)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for key, value in facts.items():
        if value:
            table.add_row(Text(key), Text(value))
    return table
