"""Entry -> path of one of its published files, verified: bundle folder, mirror folder, beside the entry, Hub cache, Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from histozoo import hub, integrity
from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.registry import Entry, Published

T = TypeVar("T")

TRIES = 5


def locate(
    entry: Entry,
    published: Published | None = None,
    *,
    folder: str | Path | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> tuple[Path, Published]:
    """Returns where a published file lies, its size and sha256 verified, and which file it is.

    A folder given, or the entry's own bundle folder, is the only place looked at. Otherwise the first of: `$HISTOZOO_WEIGHTS_DIR/<name>/`;
    beside the entry (embedded weights, `<name>.golden.safetensors`); the Hub's cache; the Hub.

    Args:
        entry: The model.
        published: `entry.weights`, which is the default, or `entry.golden`.
        folder: A bundle folder.
        revision: A commit, branch or tag to fetch instead of the entry's pinned commit; the sha256 must be the same.
        cache_dir: The Hub client's cache folder, its own default if None.

    Raises:
        IntegrityError: `HZ-A01`, `HZ-A02`: a file that was found is not the published one, `HZ-U14`: a folder lacks it. Another place
            is not tried in silence.
        UsageError: `HZ-U10`, the folder of `$HISTOZOO_WEIGHTS_DIR` does not exist.
        ResourceError: As `hub.fetch`.
    """
    published = published or entry.weights
    if folder is None and entry.path.name == "config.json":
        folder = entry.path.parent
    if folder is not None:
        path = Path(folder) / published.file
        if not path.is_file():
            raise _missing(path, published)
        integrity.verify(path, published.sha256, published.bytes)
        return path, published
    for path, candidate in _nearby(entry, published):
        if path.is_file():
            integrity.verify(path, candidate.sha256, candidate.bytes)
            return path, candidate
    weights = entry.weights
    commit = hub.resolve(weights.repo, published.file, revision or weights.revision, cache_dir=cache_dir)
    path = hub.fetch(
        weights.repo,
        published.file,
        revision=commit,
        sha256=published.sha256,
        size=published.bytes,
        cache_dir=cache_dir,
    )
    return path, published


def read_verified(locate: Callable[[], tuple[Path, Published]], read: Callable[[Path, Published], T]) -> T:
    """Returns what `read` makes of a file, once it is certain that it read the published bytes and no others.

    Where locks do nothing (some network file systems), another process may replace or remove a file of a shared cache after it was
    verified. So the file is verified after it was read, too, and read again where it was not one and the same all the while.

    Args:
        locate: Gives the file, verified.
        read: Reads or maps it.

    Raises:
        IntegrityError: `HZ-B12`, the file was replaced at every try; otherwise as `locate` and `read` raise.
    """
    for _ in range(TRIES):
        path, published = locate()
        before = _identity(path)
        try:
            value = read(path, published)
            integrity.verify(path, published.sha256, published.bytes)
        except (HistozooError, OSError):
            if before is not None and _identity(path) == before and _is_published(path, published):
                raise  # what cannot be read are the published bytes; others were put there after `locate` had verified these
            continue
        if before is not None and _identity(path) == before:
            return value
    raise IntegrityError(
        "HZ-B12",
        "a file is replaced by another process whenever it is read",
        where=path,
        got=f"{TRIES} tries",
        kept="nothing was loaded",
        next_step="wait for the other processes, or give each a cache of its own with HF_HUB_CACHE",
    )


def _is_published(path: Path, published: Published) -> bool:
    try:
        integrity.verify(path, published.sha256, published.bytes)
    except (HistozooError, OSError):
        return False
    return True


def _identity(path: Path) -> list[int] | None:
    try:
        return integrity.identity(path)
    except OSError:
        return None  # taken away meanwhile


def _nearby(entry: Entry, published: Published) -> Iterator[tuple[Path, Published]]:
    if mirror := os.environ.get("HISTOZOO_WEIGHTS_DIR"):
        if not Path(mirror).is_dir():
            raise UsageError(
                "HZ-U10",
                "the folder of $HISTOZOO_WEIGHTS_DIR does not exist",
                where=mirror,
                next_step="correct or unset HISTOZOO_WEIGHTS_DIR",
            )
        yield Path(mirror) / entry.name / published.file, published
    if published is not entry.weights:
        yield entry.path.with_name(f"{entry.name}.{published.file}"), published
    elif embedded := entry.weights.embedded:
        yield entry.path.with_name(embedded.file), embedded


def _missing(path: Path, published: Published) -> IntegrityError:
    return IntegrityError(
        "HZ-U14",
        f"the bundle folder lacks {published.file}",
        where=path,
        expected=f"{published.bytes:,} bytes with sha256 {published.sha256}",
        kept="nothing was loaded",
        next_step="copy the whole bundle again",
    )
