"""What preparing a task left out or took although it is not what was published, as its manifest tells: the page says it, too."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from histozoo.audit.findings import Finding
from histozoo.data.manifest import MANIFEST
from histozoo.data.rows import first_five
from histozoo.tasks.base import Task, data_folder


def find(task: Task, data_root: str | Path | None) -> list[Finding]:
    """Returns the findings on how a task was prepared; none where it lies as its authors give it."""
    path = data_folder(data_root) / task.folder / MANIFEST
    if not path.is_file():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    return [*_left_out(task, told["came_out"]), *_other_numbers(task, told)]


def _left_out(task: Task, came_out: dict[str, Any]) -> list[Finding]:
    rejected, n = came_out["rejected"], came_out["pictures"]["input"]
    if not rejected:
        return []
    codes = Counter(item["code"] for item in rejected)
    first = first_five(", ".join(f"{code} {k:,}" for code, k in codes.items()), [r["name"] for r in rejected])
    return [
        Finding(
            code="pictures-left-out",
            severity="warning",
            task=task.name,
            sentence=f"{len(rejected):,} of {n:,} pictures were left out when the task was prepared ({first}).",
            evidence={"pictures": n, "left_out": len(rejected), "codes": dict(codes)},
            next_step=f"mend them and prepare again, or see in {MANIFEST} that no class or group lost more than others",
        )
    ]


def _other_numbers(task: Task, told: dict[str, Any]) -> list[Finding]:
    differences = told["came_out"]["differences"]
    trial = not told["published"]["compared"]
    if not differences and not trial:
        return []
    trial_of = f"This is a trial of {told['came_out']['pictures']['input']:,} pictures"
    what = trial_of if trial else "The numbers are not those declared"
    said = (
        f"{what}: {first_five('', differences)}."
        if differences
        else f"{what}, compared with no published number."
    )
    return [
        Finding(
            code="not-as-published",
            severity="warning",
            task=task.name,
            sentence=said,
            evidence={"differences": differences, "trial": trial},
            next_step="do not set results on it beside those of others",
        )
    ]
