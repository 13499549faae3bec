"""What an audit says: findings with their evidence, one record per task, and the report that holds them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SEVERITIES = ("error", "warning", "note")
"""error: a result on this task would be wrong. warning: it may be inflated. note: to be known, and in order as declared."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was measured and that a user of the task must know.

    Args:
        code: Code word, the same for the same kind of finding: `size-tells-class`.
        severity: One of `SEVERITIES`.
        task: Name of the task concerned.
        sentence: What was found, with its numbers, in one sentence.
        evidence: The numbers behind it, JSON types.
        next_step: What to do about it.
        others: Names of the other tasks concerned.
    """

    code: str
    severity: str
    task: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    next_step: str = ""
    others: tuple[str, ...] = ()

    def concerns(self, task: str) -> bool:
        """Whether the finding is about this task, first or among others."""
        return task == self.task or task in self.others


@dataclass(kw_only=True)
class TaskAudit:
    """What was measured of one task.

    Args:
        name, kind, organ, stain, licence, licence_kind, lineage: As declared; the kind of the licence as `histozoo.licence` sees it.
        classes: Class words.
        traps: What the declaration warns of; not measured.
        n: Rows of the task.
        n_read: Rows whose pixels were looked at.
        refused: Tiles that cannot be decoded: name, code, reason.
        counts: Rows of each class.
        groups: Number of groups, singletons, largest group, groups of each class.
        splits: Rows of each official split and class; empty where there is none.
        formats: Stored pixel sizes, formats, bytes.
        statistics: Per statistic and class the 5, 25, 50, 75 and 95 % points.
        probes: Per family of statistics how well it predicts the class.
        duplicates: Numbers of exact and near copies, inside groups and across them.
    """

    name: str
    kind: str
    organ: str
    stain: str
    licence: str
    licence_kind: str
    lineage: str
    classes: tuple[str, ...] = ()
    traps: tuple[str, ...] = ()
    n: int = 0
    n_read: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    formats: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)
    duplicates: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class AuditReport:
    """What an audit found, in the order of the tasks.

    Args:
        tasks: One record per task.
        findings: All findings, the gravest first.
        licence: What weights trained on these tasks, and on each alone, may be used for.
        page: The HTML page.
        numbers: The JSON file.
        compared: Tiles that were compared with each other for near and turned copies: a draw where there are too many for all.
        seconds: How long it took.
    """

    tasks: list[TaskAudit]
    findings: list[Finding]
    licence: dict[str, Any]
    page: Path
    numbers: Path
    compared: int = 0
    seconds: float = 0.0

    def of(self, task: str) -> list[Finding]:
        """Returns the findings that concern a task, the gravest first."""
        return [finding for finding in self.findings if finding.concerns(task)]

    def codes(self, task: str, *, severity: str | None = None) -> set[str]:
        """Returns the code words found for a task, of one severity where it is given."""
        return {f.code for f in self.of(task) if severity in (None, f.severity)}

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the paths as JSON types."""
        return {
            "tasks": [asdict(task) for task in self.tasks],
            "findings": [asdict(finding) for finding in self.findings],
            "licence": self.licence,
            "compared": self.compared,
            "seconds": round(self.seconds, 1),
        }


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Returns the findings, the gravest first; within a severity probes by weight, the rest in the middle or, among notes, last."""

    def key(finding: Finding) -> tuple[int, float]:
        usual = 0.0 if finding.severity == "note" else 0.5
        return SEVERITIES.index(finding.severity), -float(finding.evidence.get("weight", usual))

    return sorted(findings, key=key)
