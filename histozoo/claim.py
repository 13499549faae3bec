"""One writer per file: a claim that ends with its owner, however that ends. Standard library only."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from histozoo import durable
from histozoo.errors import ResourceError


@contextmanager
def claimed(target: Path) -> Iterator[list[Path]]:
    """Holds `target` for this process through a lock file beside it, which goes when the claim ends.

    Gives the folders that were made for it, innermost first; those that are empty in the end go again.

    Raises:
        ResourceError: `HZ-H60`, another process holds it; `HZ-F42`, its folder cannot be made or written.
    """
    path = target.with_name(f".{target.name}.lock")
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path)
    except ResourceError:
        raise
    except OSError as error:
        raise durable.resource_error(target, 0, error) from error
    while not _is(path, descriptor):
        os.close(descriptor)
        descriptor = _lock(path)
    try:
        yield made
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        # The kernel drops the lock with its owner, so a killed run never blocks the next one.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ResourceError(
            "HZ-H60",
            "another process writes here",
            where=path.with_name(path.name.removeprefix(".").removesuffix(".lock")),
            kept="nothing was changed",
            next_step="wait for it, or write to another place",
        ) from error
    return descriptor


def _is(path: Path, descriptor: int) -> bool:
    """Whether the locked file is still the one at `path`: its last owner may have removed it in between."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
