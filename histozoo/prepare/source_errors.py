"""What can be wrong with a folder or an archive, in words. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from histozoo.errors import IntegrityError, ResourceError, UsageError


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file of the source for reading.

    Raises:
        ResourceError: `HZ-U74`, the system does not let it be opened or read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        yield file


def unreadable(path: Path, error: OSError) -> ResourceError:
    """Returns the error for a file that the system does not give, `HZ-U74`."""
    step = "check the file and its permissions"
    return ResourceError(
        "HZ-U74",
        "a file of the source cannot be read",
        where=path,
        got=error.strerror or error,
        next_step=step,
    )


def damaged(
    archive: object,
    member: str = "",
    *,
    what: str = "the archive cannot be read",
    expected: str = "a whole zip, tar or tar.gz archive",
    got: str,
) -> IntegrityError:
    """Returns the error for an archive that is not what was packed, `HZ-U74`."""
    return IntegrityError(
        "HZ-U74",
        what,
        where=f"{archive}, member {member}" if member else archive,
        expected=expected,
        got=got,
        kept="nothing of it was extracted",
        next_step="fetch it again and compare its size with its page; or unpack it with its own program and give the folder",
    )


def bomb(archive: object, member: str, *, expected: str, got: str) -> IntegrityError:
    """Returns the error for an archive that would fill disk or memory, `HZ-U75`."""
    return IntegrityError(
        "HZ-U75",
        "the archive unpacks to far more than it can hold",
        where=f"{archive}, member {member}" if member else archive,
        expected=expected,
        got=got,
        kept="nothing of it was extracted",
        next_step="get the archive from its authors; if it is meant to be so, unpack it yourself and give the folder",
    )


def looks_like(head: bytes) -> str:
    """Says what the first bytes of a file that is no archive look like."""
    if not head:
        return "an empty file"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, as a server sends it instead of a download"
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer, not the file it stands for"
    if head.startswith((b"Rar!", b"7z\xbc\xaf")):
        return "a RAR or 7-Zip archive"
    return f"a file that begins with {head[:16]!r}"


def malformed(what: str, where: object, *, expected: object = "", got: object = "") -> UsageError:
    """Returns the error for a dataset that does not lie as its authors published it, `HZ-U73`.

    Args:
        what: One sentence: what is wrong.
        where: The file, and the line or element in it.
        expected: What the layout needs there.
        got: What is there.
    """
    step = "give the folder or archive as its authors publish it, complete and unchanged"
    return UsageError(
        "HZ-U73", what, where=where, expected=expected, got=got, kept="nothing was written", next_step=step
    )
