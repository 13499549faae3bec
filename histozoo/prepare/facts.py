"""What a preparation is a function of: the pictures listed, the source's fingerprint, and all that decides a byte of the output."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

import histozoo
from histozoo.errors import UsageError
from histozoo.prepare.archives import is_archive, is_packed
from histozoo.prepare.pictures import Picture
from histozoo.prepare.plan import Preparation
from histozoo.prepare.sources import malformed
from histozoo.tasks.base import Task

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

SPLITS = ("", "train", "val", "test")

CHUNKS = 128
"""About so many chunks, so that many cores have work and a killed run loses little of it ..."""

LARGEST_CHUNK = 256
"""... of at most so many pictures, so that what is lost stays small in large sets too."""


def pictures_of(source: Source, plan: Preparation) -> list[Picture]:
    """Returns the pictures that the layout lists, sorted by name; those with a fault too, where the source lists faults.

    Raises:
        UsageError: `HZ-U73`, no picture, a name twice, a blank group or an unknown split; and what the layout raises.
    """
    pictures = sorted(plan.layout.pictures(source), key=lambda p: p.name)
    names = [p.name for p in pictures]
    twice = sorted({a for a, b in pairwise(names) if a == b})
    blank = [p.name for p in pictures if not p.group and not p.fault]
    odd = [f"{p.name}: {p.split!r}" for p in pictures if p.split not in SPLITS]
    if not pictures:
        raise _malformed(source, "at least one picture", "none")
    if twice:
        raise _malformed(source, "every picture listed once", "listed twice: " + _first(twice))
    if blank:
        raise _malformed(source, "a group for every picture", "none for " + _first(blank))
    if odd:
        raise _malformed(source, "the splits train, val and test, or none", _first(odd))
    return pictures


def common_folder(pictures: Sequence[Picture]) -> str:
    """Returns the folders that the names of all pictures without a fault begin with, with a final `/`; empty where there are none."""
    parents = {p.name.rpartition("/")[0] for p in pictures if not p.fault}
    shared = posixpath.commonpath(parents) if parents and "" not in parents else ""
    return f"{shared}/" if shared else ""


def sample(pictures: Sequence[Picture], most: int | None) -> list[Picture]:
    """Returns at most `most` pictures, evenly spaced over the list."""
    if most is None or len(pictures) <= most:
        return list(pictures)
    return [pictures[i * len(pictures) // most] for i in range(most)]


def dealt(pictures: Sequence[Picture]) -> list[Sequence[Picture]]:
    """Returns the chunks: consecutive pictures, as many per chunk as the length of the list says."""
    size = max(1, min(LARGEST_CHUNK, len(pictures) // CHUNKS))
    return [pictures[i : i + size] for i in range(0, len(pictures), size)]


def facts_of(
    task: Task, plan: Preparation, source: Source, pictures: Sequence[Picture], *, shards: bool
) -> dict[str, Any]:
    """Returns all that decides a byte of the output, as JSON types; two runs with equal facts give equal bytes."""
    functions = (plan.layout.pictures, plan.layout.marks, plan.layout.open)
    facts = {
        "task": task.name,
        "classes": list(task.classes),
        "excluded": sorted(task.exclude_classes),
        "layout": [f"{f.__module__}.{f.__qualname__}" for f in functions],
        "rule": plan.rule.describe(),
        "format": plan.format,
        "quality": plan.quality if plan.format == "jpeg" else None,
        "resize_px": plan.resize_px,
        "cap": plan.cap,
        "seed": plan.seed,
        "stored_as": "shards" if shards else "files",
        "source": fingerprint(source),
        "pictures": {"n": len(pictures), "sha256": _sha256(map(_line, pictures))},
        "histozoo": histozoo.__version__,
        "numpy": np.__version__,  # which decides what a seeded generator draws
        "pillow": PIL.__version__,
    }
    checked: dict[str, Any] = json.loads(json.dumps(facts))
    return checked


def fingerprint(source: Source, without: Collection[str] = ()) -> dict[str, Any]:
    """Returns number and bytes of the members, a sha256 over their names and sizes, and the sha256 of each archive.

    Args:
        source: Opened archive or folder.
        without: Members that do not count.
    """
    where = Path(source.where)
    sizes = [(name, source.size(name)) for name in source.names() if name not in without]
    return {
        "files": len(sizes),
        "bytes": sum(size for _, size in sizes),
        "sha256": _sha256(f"{size} {name}" for name, size in sizes),
        "archives": {_short(path, where): _file_sha256(path) for path in _archives(where)},
    }


def _archives(where: Path) -> list[Path]:
    if where.is_file():
        return [where]
    packed = (p for p in where.rglob("*") if is_archive(p.name) or is_packed(p.name))
    return sorted(p for p in packed if p.is_file())


def _short(path: Path, where: Path) -> str:
    return path.name if path == where else path.relative_to(where).as_posix()


def _line(picture: Picture) -> str:
    told = [picture.name, picture.group, picture.label, picture.split, picture.marks]
    return json.dumps([*told, picture.sha256] if picture.sha256 else told)


def _sha256(lines: Any) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _malformed(source: Source, expected: str, got: str) -> UsageError:
    what = "the layout of the dataset is not as published"
    return malformed(what, str(source.where), expected=expected, got=got)


def _first(names: Sequence[str], n: int = 5) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n:,} more" if len(names) > n else "")
