"""Checkpoints that count only when they are whole: staged beside the target, synced, renamed, marker included.

A checkpoint folder carries `MANIFEST.json` with size and sha256 of every file. The newest valid one wins; a damaged one is named and
never used.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from histozoo import durable
from histozoo.errors import IntegrityError
from histozoo.integrity import sha256_file

MANIFEST = "MANIFEST.json"
_log = logging.getLogger(__name__)


def step_of(checkpoint: Path) -> int:
    """Returns the optimizer step that a `checkpoint-<step>` folder was written after."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def save(
    run: Path, step: int, fill: Callable[[Path], None], *, keep: int = 2, good: int | None = None
) -> Path:
    """Calls `fill(folder)` on a staging folder, renames it to `run/checkpoint-<step>`, and then drops what is not needed any more.

    The newest `keep` stay. Checkpoints of later steps go: they are of an earlier life of this run, which went further than where it was
    resumed from, and would be taken for the newest otherwise.

    Args:
        run: Run folder.
        step: Steps done.
        fill: Writes the files.
        keep: How many of the newest stay.
        good: A step at which the run was found to be in order; the newest checkpoint up to it stays as well, however old it is.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    target = run / f"checkpoint-{step}"
    if target.exists():
        shutil.rmtree(target)
    with durable.staged_folder(target) as folder:
        fill(folder)
        durable.write_json(folder / MANIFEST, manifest(folder))
    kept = [c for c in _all(run) if step_of(c) <= step][:keep]
    for old in set(_all(run)) - {*kept, newest_until(run, good)}:
        shutil.rmtree(old)
    return target


def newest_until(run: Path, step: int | None) -> Path | None:
    """Returns the newest checkpoint of at most `step` steps, or None where there is none or no step is given."""
    return next((c for c in _all(run) if step is not None and step_of(c) <= step), None)


def manifest(folder: Path) -> dict[str, dict[str, object]]:
    """Returns file name -> size in bytes and sha256 for every file below `folder` but the manifest itself."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in files
    }


def damage(checkpoint: Path) -> str:
    """Returns what is wrong with a checkpoint folder, or an empty string."""
    try:
        written = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{MANIFEST}: {error}"
    found = manifest(checkpoint)
    wrong = sorted(name for name in {*written, *found} if written.get(name) != found.get(name))
    return f"changed or missing: {', '.join(wrong)}" if wrong else ""


def newest_valid(run: Path) -> Path | None:
    """Returns the newest whole checkpoint of a run, warning about each damaged one that was passed over."""
    passed: list[Path] = []
    for checkpoint in _all(run):
        reason = damage(checkpoint)
        if not reason:
            if passed:
                lost = step_of(passed[0]) - step_of(checkpoint)
                _log.warning(
                    "resuming from %s: %d steps are lost and will be repeated", checkpoint.name, lost
                )
            return checkpoint
        _log.warning("HZ-F43 %s is damaged and not used (%s)", checkpoint.name, reason)
        passed.append(checkpoint)
    return None


def explicit(run: Path, step: int) -> Path:
    """Returns `run/checkpoint-<step>`, never another one; every file is read.

    Raises:
        IntegrityError: `HZ-F43`, it is missing or damaged.
    """
    check_there(run, step)
    checkpoint = run / f"checkpoint-{step}"
    if reason := damage(checkpoint):
        raise _unusable(run, step, reason)
    return checkpoint


def check_there(run: Path, step: int) -> None:
    """Refuses a step that a run has no checkpoint of; what the checkpoint holds is not read.

    Raises:
        IntegrityError: `HZ-F43`, it is missing.
    """
    if not (run / f"checkpoint-{step}").is_dir():
        raise _unusable(run, step, "there is no such folder")


def _unusable(run: Path, step: int, reason: str) -> IntegrityError:
    return IntegrityError(
        "HZ-F43",
        f"checkpoint {step} cannot be used",
        where=run / f"checkpoint-{step}",
        got=reason,
        kept="the run folder is untouched",
        next_step=f"name another step: {', '.join(str(step_of(c)) for c in _all(run)) or 'there is none'}",
    )


def _all(run: Path) -> list[Path]:
    """Newest first."""
    found = [
        p for p in run.glob("checkpoint-*") if p.is_dir() and p.name.removeprefix("checkpoint-").isdigit()
    ]
    return sorted(found, key=step_of, reverse=True)
