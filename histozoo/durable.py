"""The only place that writes files: beside the target, fsync, rename, fsync the folder.

A reader sees the old file or the new one, never half of one. A temporary file's name carries the process that owns it, so that
what a killed process left behind can be told from what a running one still writes, and removed. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from histozoo.errors import ResourceError

_TEMPORARY = re.compile(r"^\..+\.hz-(\d+)-[0-9a-f]{8}\.tmp$")
_CHUNK = 1 << 22


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Replaces `path` by `data`, durably; on any failure the old file stays and no temporary is left.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    path = Path(path)

    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:
            for start in range(0, len(data), _CHUNK):
                _write(file.fileno(), data[start : start + _CHUNK])

    write_with(path, write, needed=len(data))


def write_with(path: str | Path, write: Callable[[Path], None], *, needed: int = 0) -> None:
    """Calls `write(temporary)` for a path beside `path`, syncs what it wrote and renames it into place.

    For writers of their own format (HDF5, TensorBoard). `needed` is the size in bytes that an error names.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise resource_error(path, needed, error) from error
    finally:
        with suppress(OSError):  # must not hide the error that is on its way
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Replaces `path` by `text` in UTF-8, durably."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Replaces `path` by `value` as JSON (two spaces, final newline, no NaN), durably."""
    write_text(path, to_json(value))


def append_line(path: str | Path, line: str) -> None:
    """Appends one line to a log in a single write, so that a reader sees whole lines.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the file cannot be written.
    """
    try:
        with Path(path).open("ab") as file:
            _write(file.fileno(), line.encode() + b"\n")
    except OSError as error:
        raise resource_error(Path(path), len(line), error) from error


def to_json(value: object) -> str:
    """Returns the one JSON spelling used for every file: two spaces, key order kept, UTF-8, no NaN, final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def staged_folder(target: str | Path) -> Iterator[Path]:
    """Gives a folder beside `target` to fill; renames it to `target` when the block ends well, removes it otherwise.

    Raises:
        FileExistsError: `target` exists already; a finished folder is never overwritten.
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    target = Path(target)
    if target.exists():
        raise FileExistsError(f"{target} exists already; it is never overwritten")
    temporary = _temporary(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        sync_tree(temporary)
        os.rename(temporary, target)
        _sync(target.parent)
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise resource_error(target, 0, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_unsynced(path: Path, data: bytes) -> None:
    """Writes a new file that is not durable yet: for many files of one folder, which `sync_filesystem` flushes together.

    Raises:
        FileExistsError: `path` exists already.
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    try:
        with path.open("xb") as file:
            _write(file.fileno(), data)
    except FileExistsError:
        raise
    except OSError as error:
        raise resource_error(path, len(data), error) from error


class Growing:
    """A new file that grows piece by piece, may be cut back, and is not durable until `sync_filesystem`.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise resource_error(path, 0, error) from error

    def write(self, data: bytes) -> None:
        """Appends `data`."""
        try:
            _write(self._descriptor, data)
        except OSError as error:
            raise resource_error(self.path, len(data), error) from error
        self.size += len(data)

    def cut_back(self, size: int) -> None:
        """Drops what was written after the first `size` bytes."""
        os.ftruncate(self._descriptor, size)
        self.size = os.lseek(self._descriptor, size, os.SEEK_SET)

    def close(self) -> None:
        """Ends the writing."""
        os.close(self._descriptor)


def sync_filesystem(folder: Path) -> None:
    """Flushes everything below `folder` with one call (syncfs), 20 times as fast as file by file; file by file where that is unknown.

    Raises:
        ResourceError: `HZ-F42`, something could not be written back.
    """
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if call is None:
            sync_tree(folder)
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if call(descriptor):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise resource_error(folder, 0, error) from error


def move(source: Path, target: Path) -> None:
    """Renames what is synced already, on the same file system, and syncs the folder it comes to; a file there is replaced.

    Raises:
        ResourceError: `HZ-F42`, the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
        _sync(target.parent)
    except OSError as error:
        raise resource_error(target, 0, error) from error


def sync_tree(folder: Path) -> None:
    """Flushes every file and folder below `folder`, and `folder` itself, to the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            _sync(path)
    _sync(folder)


def check_folder(folder: str | Path) -> None:
    """Refuses a folder that could not be made or written, by a file that is written and removed: before the work, not after it.

    Leaves nothing, not even a folder that was not there: the file is written into the nearest one that is.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    nearest = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    probe = _temporary(nearest / "probe")
    try:
        with probe.open("xb") as file:
            _write(file.fileno(), b"\0")
    except OSError as error:
        raise resource_error(folder, 0, error) from error
    finally:
        with suppress(OSError):  # must not hide the error that is on its way
            probe.unlink(missing_ok=True)


def remove_stale(folder: str | Path) -> int:
    """Removes what killed processes left half-written in `folder`; returns the number of bytes freed."""
    freed = 0
    for path in Path(folder).glob(".*.tmp"):
        match = _TEMPORARY.match(path.name)
        if match and not _alive(int(match[1])):
            freed += sum(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return freed


def _temporary(path: Path) -> Path:
    return path.parent / f".{path.name}.hz-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resource_error(path: Path, needed: int, error: OSError) -> ResourceError:
    """Returns the error `HZ-F42` for a file that could not be written; `needed` is its size in bytes, or 0 where that is not known."""
    what, got, next_step = _reason(path, error)
    return ResourceError(
        "HZ-F42",
        what,
        where=path,
        expected=f"{needed:,} bytes to write" if needed else "",
        got=got,
        kept="the previous file, if there was one, is untouched; nothing half-written was left",
        next_step=next_step,
    )


def _reason(path: Path, error: OSError) -> tuple[str, str, str]:
    """Returns what stands in the way, what is left of it, and what to do; free bytes say nothing about a limit on one file's size."""
    if error.errno == errno.EFBIG:
        step = "raise the limit (`ulimit -f`), or write to a file system that takes larger files"
        return "the file is larger than the system lets this process write", "", step
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "cannot write: a file stands where a folder is needed", "", "name another folder"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write: {error.strerror or error}", "", "check the folder's permissions"
    folder = next((p for p in path.parents if p.exists()), Path("/"))
    free = f"{shutil.disk_usage(folder).free:,} bytes free"
    if error.errno == errno.EDQUOT:
        step = "free some space of yours, or write to another disk"
        return "your quota on this disk is used up", f"{free}, but not to you", step
    return "the disk is full", free, "free some space and run the same command again"
