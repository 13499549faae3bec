"""The table at the head of the page: a line per task, a column per thing that can be wrong, in the colour of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from histozoo.audit.findings import SEVERITIES, AuditReport, Finding, TaskAudit

_FAMILIES = {
    "size": "size",
    "encoding": "encod-<br>ing",
    "bytes": "bytes",
    "tint": "tint",
    "sharpness": "sharp-<br>ness",
    "edges": "edges",
}
_SPLIT_FAULTS = ("group-in-two-splits", "copies-in-two-splits", "class-missing-in-split")
_EXPLAINED = (
    "Size to edges: balanced accuracy of a linear probe that sees nothing but such statistics. Red, amber and blue are error, warning and "
    "note; grey is nothing found. Tint, sharpness, bytes and edges hold some tissue, too. "
    "* of the stored picture, which the task cuts."
)


def overview(report: AuditReport) -> str:
    """Returns the section with the table."""
    left = ("task", "findings")
    right = ("tiles", "classes", "groups", "chance")
    centre = (
        *_FAMILIES.values(),
        "copies in<br>groups",
        "copies across<br>groups",
        "labels<br>contradict",
        "official<br>splits",
        "shares<br>with",
    )
    head = "".join(
        f'<th class="{kind}">{word}</th>'
        for kind, words in (("", left), ("n", right), ("c", centre), ("", ("licence",)))
        for word in words
    )
    rows = "".join(_row(task, report.of(task.name)) for task in report.tasks)
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f'<section><h2>Which task has what</h2><p class="dim">{_EXPLAINED}</p>{table}</section>'


def badges(found: Sequence[Finding]) -> str:
    """Returns the number of findings of each severity."""
    counts = {s: sum(f.severity == s for f in found) for s in SEVERITIES}
    shown = (f'<span class="badge {s}" title="{s}s">{n}</span>' for s, n in counts.items() if n)
    return " ".join(shown) or '<span class="dim">none</span>'


def _row(task: TaskAudit, found: Sequence[Finding]) -> str:
    by_code = {f.code: f for f in reversed(found)}
    name, kind = escape(task.name), task.licence_kind
    chance = f"{1 / len(task.classes):.2f}" if task.classes else ""
    counts = (f"{task.n:,}", str(len(task.classes)), f"{task.groups['n']:,}", chance)
    cells = [
        f'<td class="name"><a href="#{name}">{name}</a></td><td class="nowrap">{badges(found)}</td>',
        *(f'<td class="n">{count}</td>' for count in counts),
        *(_probe(task, family, by_code) for family in _FAMILIES),
        *_copies(task, by_code),
        _splits(task, by_code),
        _others(task, found),
        f'<td><span class="badge {kind}">{kind}</span></td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, finding: Finding | None = None, title: str = "", kind: str = "") -> str:
    colour = (finding.severity if finding else "dim") + (f" {kind}" if kind else "")
    return f'<td class="c {colour}" title="{escape(title, quote=True)}">{text or "–"}</td>'


def _probe(task: TaskAudit, family: str, by_code: Mapping[str, Finding]) -> str:
    mark = ""
    if family == "size" and task.probes["size"]["value"] is None and "stored" in task.probes:
        family, mark = "stored", "*"
    probe, finding = task.probes[family], by_code.get(f"{family}-tells-class")
    if probe["value"] is None:
        return _cell("", title=probe["reason"])
    title = f"{probe['value']:.3f} [{probe['low']:.3f}, {probe['high']:.3f}], chance {probe['chance']:.3f}"
    return _cell(f"{probe['value']:.2f}{mark}", finding, title)


def _copies(task: TaskAudit, by_code: Mapping[str, Finding]) -> list[str]:
    found, contradict = task.duplicates, by_code.get("labels-contradict")
    inside = f"{found['share']:.0%}" if found["in_groups"] else ""
    across = f"{found['across_groups']:,}" if found["across_groups"] else ""
    labels = f"{contradict.evidence['pairs']:,}" if contradict else ""
    return [
        _cell(inside, by_code.get("augmented-copies"), "share of tiles with a copy"),
        _cell(across, by_code.get("copies-in-two-groups", contradict), "pairs of tiles"),
        _cell(labels, contradict, "pairs of tiles"),
    ]


def _splits(task: TaskAudit, by_code: Mapping[str, Finding]) -> str:
    if not task.splits:
        return _cell("", title="the table names no split")
    fault = next((by_code[code] for code in _SPLIT_FAULTS if code in by_code), None)
    return _cell("leak" if fault and fault.severity == "error" else "gap" if fault else "clean", fault)


def _others(task: TaskAudit, found: Sequence[Finding]) -> str:
    shared = [f for f in found if f.others]
    names = sorted({name for f in shared for name in (f.task, *f.others)} - {task.name})
    text = escape(names[0]) if len(names) == 1 else f"{len(names)} tasks" if names else ""
    return _cell(text, shared[0] if shared else None, ", ".join(names), "kin")
