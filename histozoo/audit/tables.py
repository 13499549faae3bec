"""The audit in a terminal: one line per task, then the findings, as rich tables. Prints nothing itself."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from histozoo.audit.findings import SEVERITIES, AuditReport, Finding, TaskAudit

_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}


def summary(report: AuditReport, *, findings: bool = True) -> RenderableType:
    """Returns one line per task and, with `findings`, every error and warning below."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("task", "kind", "tiles", "classes", "groups", "organ", "licence", "findings"):
        table.add_column(
            column,
            justify="right" if column in ("tiles", "classes", "groups") else "left",
            no_wrap=column == "task",
        )
    for task in report.tasks:
        table.add_row(*_cells(task), _counts(report.of(task.name)))
    grave = [f for f in report.findings if f.severity != "note"]
    lines = [_line(finding) for finding in grave] if findings else []
    licence = report.licence["all"]
    end = Text(
        f"weights trained on all of these: {licence['use']} ({licence['licence']})",
        style="dim",
    )
    return Group(table, Text(), *lines, *([Text()] if lines else []), end)


def _cells(task: TaskAudit) -> tuple[Text, ...]:
    groups = task.groups.get("n", 0)
    return tuple(
        Text(cell)
        for cell in (task.name, task.kind, f"{task.n:,}", str(len(task.classes)), f"{groups:,}", task.organ, task.licence_kind)
    )  # fmt: skip


def _counts(findings: list[Finding]) -> Text:
    text = Text()
    for severity in SEVERITIES:
        n = sum(f.severity == severity for f in findings)
        if n:
            text.append(f"{n} {severity}{'s' * (n != 1)}  ", style=_STYLE[severity])
    return text if text.plain else Text("none", style="dim")


def _line(finding: Finding) -> Text:
    text = Text()
    text.append(f"{finding.severity:8}", style=_STYLE[finding.severity])
    text.append(f"{finding.task}  ", style="bold")
    text.append(f"{finding.code}  ", style="dim")
    text.append(finding.sentence)
    return text
