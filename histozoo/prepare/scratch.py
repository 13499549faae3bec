"""A folder for what has to be unpacked: each file is made once, by one process, and is either whole or not there. Standard library only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from histozoo import durable
from histozoo.errors import ResourceError
from histozoo.prepare import archives
from histozoo.prepare.source_errors import unreadable

MANY = 10_000
"""Members from which on the list of an archive is kept in the scratch folder."""


def extracted(scratch: Path, archive: Path, name: str, member: archives.Member) -> Path:
    """Returns a file with the bytes of one member; it keeps its name and suffix.

    Raises:
        IntegrityError: `HZ-U74`, `HZ-U75`, as `archives.chunks` says; no file is left.
        ResourceError: `HZ-F42`, the disk is full; `HZ-U74`, the archive cannot be opened.
    """

    def fill(temporary: Path) -> None:
        with temporary.open("xb") as file:
            for chunk in archives.chunks(archive, name, member):
                file.write(chunk)

    return _made(_folder(scratch, archive) / name, fill, needed=member.size)


def unpacked(scratch: Path, packed: Path, *, check: bool) -> Path:
    """Returns a file with what a gzip, bzip2 or xz file holds.

    Args:
        scratch: Folder to keep it in.
        packed: The compressed file.
        check: Whether it is a tar that must be sound; one that is not is not kept.

    Raises:
        UsageError: `HZ-U72`, as `archives.index` says.
        IntegrityError: `HZ-U74`, `HZ-U75`, as `archives.unpack` and `archives.index` say; no file is left.
        ResourceError: `HZ-F42`, the disk is full; `HZ-U74`, the file cannot be opened.
    """

    def fill(temporary: Path) -> None:
        archives.unpack(packed, temporary)
        if check:
            archives.index(temporary, packed)

    return _made(_folder(scratch, packed) / archives.unpacked_name(packed.name), fill, needed=0)


def indexed(scratch: Path, archive: Path, where: object) -> tuple[dict[str, archives.Member], int]:
    """Returns what `archives.index` says; of an archive with `MANY` members it is kept, so that each worker need not read 100,000 headers.

    Raises:
        HistozooError: As `archives.index` says; `HZ-F42`, the disk is full.
    """
    folder = _folder(scratch, archive)
    kept = folder.with_name(f"{folder.name}.index.json")
    with suppress(OSError, ValueError, TypeError):
        left_out, lines = json.loads(kept.read_bytes())
        return {name: archives.Member(*numbers) for name, *numbers in lines}, left_out
    members, left_out = archives.index(archive, where)
    if len(members) >= MANY:
        durable.write_text(
            kept, json.dumps([left_out, [[name, *member] for name, member in members.items()]])
        )
    return members, left_out


def _folder(scratch: Path, archive: Path) -> Path:
    """Returns the folder of one archive: another one as soon as the archive changes."""
    try:
        facts = archive.stat()
    except OSError as error:
        raise unreadable(archive, error) from error
    key = f"{archive.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}"
    return scratch / f"{archive.name}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}"


def _made(target: Path, fill: Callable[[Path], None], *, needed: int) -> Path:
    """Fills `target` durably where it is not there yet; several processes may ask at once."""
    if target.exists():
        return target
    with _alone(target.parent):
        if target.exists():
            return target
        durable.remove_stale(target.parent)
        try:
            durable.write_with(target, fill, needed=needed)
        except ResourceError as error:
            # What was read could not be, and durable takes every such error for one of its own file.
            if isinstance(error.__cause__, ResourceError):
                raise error.__cause__ from None
            raise
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time write to a folder; where locks do nothing, all write the same. The kernel ends it with its owner."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise durable.resource_error(folder / "x", 0, error) from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
