"""One call: prepared tasks -> findings, a page for people and a file for machines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from histozoo import durable, licence
from histozoo.audit import between, chain, judge, leaks, losses, page, pool, sheets
from histozoo.audit.families import FAMILIES
from histozoo.audit.findings import AuditReport, Finding, TaskAudit, ranked
from histozoo.audit.frames import shared_frames
from histozoo.audit.pool import Pool
from histozoo.audit.probe import Probed, probe_family
from histozoo.audit.reading import Read, Rows, draw, read, read_rows_of, to_show
from histozoo.errors import UsageError
from histozoo.tasks.base import Task, data_folder

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of it are done, and how many there are."""
READING, COMPARING, ASKING = "reading tiles", "looking for copies", "asking what tells the class"

_PERCENT = (5, 25, 50, 75, 95)
_SHOWN = 24
_MANY_CLASSES = 9


def audit(
    tasks: Sequence[Task],
    *,
    data_root: str | Path | None,
    out: str | Path,
    features: Mapping[str, Path] | None = None,
    sample: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> AuditReport:
    """Audits prepared tasks and writes `out/index.html` (one file, no script) and `out/audit.json`; older ones are replaced.

    Args:
        tasks: What to audit.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        out: Folder of the page.
        features: Task name -> feature file, for near copies that pixels do not show.
        sample: Most tiles read per task, drawn by whole groups; None reads all. Groups and splits are always judged on all rows.
        seed: Of everything that is drawn.
        progress: Told how far the audit is: tiles read, comparisons made, tasks probed.

    Raises:
        UsageError: `HZ-U83` no task or one named twice, `HZ-U81` and `HZ-U82` about feature files, and what `Task.load` raises.
        ResourceError: `HZ-F42`, the page cannot be written.
    """
    started = time.perf_counter()
    _check(tasks)
    all_rows = [read_rows_of(task, data_root) for task in tasks]
    reads = _read_all(all_rows, sample, seed, progress)
    pooled = pool.make_pool(
        reads, features=features, seed=seed, progress=progress and partial(progress, COMPARING)
    )
    chained = chain.chain(tasks)
    audits, findings = [], []
    for number, found in enumerate(reads):
        if progress:
            progress(ASKING, number, len(reads))
        probes = _probes(found, seed)
        audits.append(_record(found, probes, pool.summary(pooled, number)))
        findings += [
            *_unreadable(found), *losses.find(found.rows.task, data_root), *leaks.find(found.rows), *judge.of_copies(pooled, number),
            *judge.of_probes(found.rows.task, probes), *chain.find(found.rows.task, chained),
        ]  # fmt: skip
    findings += between.find(pooled, tasks, _frames(all_rows))
    pictures = _pairs(ranked(findings), reads, pooled)
    report = AuditReport(
        tasks=audits,
        findings=[_named(f, pooled, reads) for f in ranked(findings)],
        licence=chained,
        page=Path(out) / "index.html",
        numbers=Path(out) / "audit.json",
        compared=pooled.compared,
    )
    shown = {
        r.rows.task.name: {word: sheets.data_uri(s) for word, s in sheets.sheets(r).items()} for r in reads
    }
    report.seconds = time.perf_counter() - started
    durable.write_json(report.numbers, report.to_json())
    durable.write_text(report.page, page.write_page(report, shown, pictures))
    return report


def prepared(tasks: Mapping[str, Task], data_root: str | Path | None) -> list[Task]:
    """Returns the tasks whose folder is below the data root with a table or an index of shards.

    Raises:
        UsageError: `HZ-U37`, no data root.
    """
    root = data_folder(data_root)
    return [
        task
        for task in tasks.values()
        if (root / task.folder / task.table).is_file() or (root / task.folder / "index.json").is_file()
    ]


def _check(tasks: Sequence[Task]) -> None:
    twice = [name for name, n in Counter(task.name for task in tasks).items() if n > 1]
    if not tasks or twice:
        raise UsageError(
            "HZ-U83",
            "a task is to be audited twice" if twice else "there is no task to audit",
            got=", ".join(twice) or "nothing",
            expected="one or more prepared tasks, each once",
            next_step="prepare a task first: histozoo prepare NAME",
        )


def _read_all(
    all_rows: Sequence[Rows], sample: int | None, seed: int, progress: Progress | None
) -> list[Read]:
    drawn = [draw(rows, sample, seed=seed) for rows in all_rows]
    total, done = sum(map(len, drawn)), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(READING, done, total)

    reads = []
    for rows, drawn_N in zip(all_rows, drawn, strict=True):
        per_class = _SHOWN if len(rows.task.classes) < _MANY_CLASSES else _SHOWN // 2
        reads.append(read(rows, drawn_N, to_show(rows, drawn_N, per_class, seed=seed), on_tile=step))
    return reads


def _probes(found: Read, seed: int) -> list[Probed]:
    groups, task = found.cells("groups"), found.rows.task
    cut = bool(len(found.drawn_N)) and not np.array_equal(found.values["width"], found.values["stored_width"])
    families = [family for family in FAMILIES if family != "stored" or cut]
    return [
        probe_family(family, found.values, found.labels_N, groups, classes=len(task.classes), seed=seed)
        for family in families
    ]


def _record(found: Read, probes: Sequence[Probed], copies: dict[str, Any]) -> TaskAudit:
    rows, task = found.rows, found.rows.task
    counts = np.bincount(rows.labels_N, minlength=len(task.classes)).tolist()
    return TaskAudit(
        name=task.name, kind=task.kind, organ=task.organ, stain=task.stain, licence=task.stated_licence,
        licence_kind=licence.kind(task.stated_licence), lineage=task.lineage, classes=task.classes,
        traps=task.traps, n=len(rows.names), n_read=len(found.drawn_N), refused=found.refused,
        counts=dict(zip(task.classes, counts, strict=True)), groups=leaks.groups_of(rows), splits=leaks.splits_of(rows),
        formats=_formats(found), statistics=_statistics(found), probes={p.family: p.to_json() for p in probes}, duplicates=copies,
    )  # fmt: skip


def _formats(found: Read) -> dict[str, Any]:
    """Returns the commonest tile sizes, stored sizes and formats, and a summary of them in words."""
    widths, heights = (found.values.get(name, np.empty(0)) for name in ("width", "height"))
    tile = Counter(f"{int(w)} x {int(h)}" for w, h in zip(widths, heights, strict=True))
    stored = Counter(f"{f.width} x {f.height}" for f in found.facts)
    kinds = Counter(f.format + (f" q{f.quality}" if f.quality else "") for f in found.facts)
    sizes = np.array([f.bytes for f in found.facts] or [0])
    summary = {
        "tile": _first(tile),
        "stored": _first(stored),
        "as": _first(kinds),
        "median": f"{np.median(sizes) / 1e3:.0f} kB",
    }
    if tile == stored:
        del summary["stored"]
    return {
        "summary": summary, "tile_px": dict(tile.most_common(20)), "stored_px": dict(stored.most_common(20)),
        "formats": dict(kinds.most_common(20)), "bytes_median": float(np.median(sizes)), "bytes_sum": int(sizes.sum()),
    }  # fmt: skip


def _first(counter: Counter[str]) -> str:
    if not counter:
        return "none"
    word, n = counter.most_common(1)[0]
    return word if len(counter) == 1 else f"{word} ({n / counter.total():.0%} of {len(counter)} kinds)"


def _statistics(found: Read) -> dict[str, dict[str, list[float]]]:
    classes = found.rows.task.classes
    return {
        name: {
            word: [round(float(v), 5) for v in np.percentile(column[found.labels_N == k], _PERCENT)]
            for k, word in enumerate(classes)
            if (found.labels_N == k).any()
        }
        for name, column in found.values.items()
    }


def _unreadable(found: Read) -> list[Finding]:
    if not found.refused:
        return []
    first = ", ".join(f"{item['name']} ({item['code']})" for item in found.refused[:5])
    return [
        Finding(
            code="unreadable-tiles",
            severity="error",
            task=found.rows.task.name,
            sentence=f"{len(found.refused):,} tiles cannot be decoded and were left out of everything below: {first}.",
            evidence={"refused": found.refused},
            next_step="restore them, or take their rows out of the table",
        )
    ]


def _frames(all_rows: Sequence[Rows]) -> dict[tuple[int, int], Any]:
    found = {
        (i, j): shared_frames(all_rows[i], all_rows[j]) for i, j in combinations(range(len(all_rows)), 2)
    }
    return {pair: shared for pair, shared in found.items() if shared is not None}


def _pairs(
    findings: Sequence[Finding], reads: Sequence[Read], pooled: Pool
) -> dict[str, list[tuple[str, str]]]:
    """Returns task -> (caption, picture) for the findings that name pairs of tiles."""
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in findings:
        picture = sheets.pairs_sheet(reads, pooled, finding.evidence.get("examples") or [])
        if picture is not None:
            n = finding.evidence["pairs"]
            caption = (
                f"{finding.code}: {'the pair' if n == 1 else f'some of {n:,} pairs'}, one above the other"
            )
            found.setdefault(finding.task, []).append((caption, sheets.data_uri(picture)))
    return found


def _named(finding: Finding, pooled: Pool, reads: Sequence[Read]) -> Finding:
    """Returns the finding with file names in place of row numbers."""
    if "examples" not in finding.evidence:
        return finding

    def name(index: int) -> str:
        found = reads[int(pooled.task_N[index])]
        return f"{found.rows.task.name}/{found.rows.names[int(found.drawn_N[pooled.row_N[index]])]}"

    named = [[name(i) for i in pair] for pair in finding.evidence["examples"][:20]]
    return replace(finding, evidence={**finding.evidence, "examples": named})
