"""A full disk without root: the one helper that writes files fails after so many bytes; or the system limits file sizes."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from histozoo import durable


@dataclass
class Disk:
    """How much is left and how much was written so far, in bytes; and how often a write was refused."""

    left: float
    written: int = 0
    refused: int = 0


@contextmanager
def no_space(after_bytes: float = float("inf")) -> Iterator[Disk]:
    """Lets `histozoo.durable` write `after_bytes` in total and then fail with ENOSPC; without an argument it only counts.

    A write that does not fit is done in part first, as a real disk does.
    """
    disk, write = Disk(after_bytes), durable._write

    def writing(descriptor: int, data: bytes | memoryview) -> None:
        part = memoryview(data)[: int(min(disk.left, len(data)))]
        write(descriptor, part)
        disk.left -= len(part)
        disk.written += len(part)
        if len(part) < len(data):
            disk.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    durable._write = writing
    try:
        yield disk
    finally:
        durable._write = write


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Lets no file of this process grow above `n_bytes` (RLIMIT_FSIZE): real writes fail with EFBIG, whoever makes them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
