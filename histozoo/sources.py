"""Entry -> path of one of its published files, verified: bundle folder, mirror folder, beside the entry, Hub cache, Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from histozoo import hub, integrity
from histozoo.errors import ResourceError
from histozoo.registry import Entry, Published


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
        IntegrityError: `HZ-A01`, `HZ-A02`: a file that was found is not the published one. Another place is not tried in silence.
        ResourceError: `HZ-U14`, a folder lacks the file; otherwise as `hub.fetch`.
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


def _nearby(entry: Entry, published: Published) -> Iterator[tuple[Path, Published]]:
    if mirror := os.environ.get("HISTOZOO_WEIGHTS_DIR"):
        yield Path(mirror) / entry.name / published.file, published
    if published is not entry.weights:
        yield entry.path.with_name(f"{entry.name}.{published.file}"), published
    elif embedded := entry.weights.embedded:
        yield entry.path.with_name(embedded.file), embedded


def _missing(path: Path, published: Published) -> ResourceError:
    return ResourceError(
        "HZ-U14",
        f"the bundle folder lacks {published.file}",
        where=path,
        expected=f"{published.bytes:,} bytes with sha256 {published.sha256}",
        kept="nothing was loaded",
        next_step="copy the whole bundle again",
    )
