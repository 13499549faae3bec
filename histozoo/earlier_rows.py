"""What an earlier run of `embed` left in the same place: rows to take over, and why it rejected others.

A file is continued only by the very thing that made it, on a source that names all of its tiles, so that rows and report agree at the end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import feature_files
from histozoo.errors import UsageError
from histozoo.tile_lists import printable

Rows = dict[str, tuple[str, NDArray[np.float32]]]
"""For each tile's name the sha256 of its file and its features `[D]`."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What is there already.

    Args:
        rows: The feature file's rows.
        n_further: How many of them are of tiles that the source does not name.
        n_done: Rows that the report beside it counts as done.
        treated: Its counts of what was done to tiles.
        rejected: The rows it lists as rejected, with their reasons.
    """

    rows: Rows = field(default_factory=dict)
    n_further: int = 0
    n_done: int = 0
    treated: dict[str, int] = field(default_factory=dict)
    rejected: list[dict[str, str]] = field(default_factory=list)


def read(out: Path, made_by: Mapping[str, Any], *, names: Collection[str], keep_others: bool) -> Earlier:
    """Reads what an earlier run wrote to `out` and beside it.

    Args:
        out: The feature file, which need not be there.
        made_by: What makes rows now.
        names: The tiles of the source.
        keep_others: Take the file although it holds rows of tiles that the source does not name.

    Raises:
        UsageError: `HZ-H56`, something else made the file, the first differing field is shown; `HZ-H60`, it holds tiles of another source.
        IntegrityError: `HZ-H64`, it is no whole feature file.
    """
    told = _report(out, made_by)
    listed = [*told.get("rejected", []), *told.get("rejected_earlier", [])]
    rows: Rows = {}
    if out.exists():
        found = feature_files.read(out)
        _check_maker(out, found.made_by, made_by)
        rows = {n: (s, f) for n, s, f in zip(found.names, found.sha256, found.features_ND, strict=True)}
    others = sorted(set(rows) - set(names))
    printed = {printable(name) for name in names}
    if others and not keep_others:
        raise _others_error(out, others, n_rows=len(rows))
    return Earlier(
        rows=rows,
        n_further=len(others),
        n_done=told.get("n_done", 0),
        treated=told.get("treated", {}),
        rejected=[row for row in listed if keep_others or row["name"] in printed],
    )


def _report(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the report beside a feature file; nothing where there is none, none that can be read, or one about something else."""
    try:
        told = json.loads(feature_files.report_path(out).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    # Through JSON, as the report went: it knows no tuples.
    same = isinstance(told, dict) and told.get("made_by") == json.loads(json.dumps(made_by))
    return told if same else {}


def _check_maker(out: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for key in {**theirs, **ours}:
        if theirs.get(key) != ours.get(key):
            raise UsageError(
                "HZ-H56",
                f"the file holds features that something else made: {key} differs",
                where=out,
                expected=f"{key} = {ours.get(key)}",
                got=f"{key} = {theirs.get(key)}",
                kept="the file is untouched",
                next_step="write to another file, or remove this one",
            )


def _others_error(out: Path, others: list[str], *, n_rows: int) -> UsageError:
    more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
    return UsageError(
        "HZ-H60",
        f"the feature file holds {len(others):,} tiles that this source does not name",
        where=out,
        expected="no rows but those of the source's tiles",
        got=f"{n_rows:,} rows, among them {', '.join(others[:5])}{more}",
        kept="the file is untouched",
        next_step="write to another file, remove this one, or pass --keep-others to have both in one file",
    )
