"""Are these the published bytes? Size and sha256, remembered so that a file is read once and not at every load.

A file found right is known by its inode, size and times afterwards (`$HISTOZOO_VERIFY`: once, always or off). Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from histozoo import durable
from histozoo.errors import IntegrityError, ResourceError, UsageError
from histozoo.header import looks_like, next_step, unreadable

_CHECKS = 1  # raise it when a check becomes stricter, so that files stamped before are checked again
# Linux takes a file's times from a clock that ticks every 1 to 10 ms; a later change within one tick could not be seen.
_TICK_SECONDS = 0.05


def cache_folder() -> Path:
    """Returns `$HISTOZOO_CACHE`, or `histozoo` in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`)."""
    if chosen := os.environ.get("HISTOZOO_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "histozoo"


def sha256_file(path: str | Path) -> str:
    """Returns the sha256 of a file as 64 lower-case hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: str | Path, sha256: str, size: int) -> None:
    """Checks size and sha256 of a published file.

    A file found right before (same size, times and inode, as stamped below `cache_folder()`) is not hashed again, unless
    `$HISTOZOO_VERIFY` is `always`; `off` checks the size alone.

    Raises:
        IntegrityError: `HZ-A01`, the size is wrong; `HZ-A02`, the sha256 is wrong.
        ResourceError: `HZ-U11`, the file cannot be read.
        UsageError: `HZ-U12`, `$HISTOZOO_VERIFY` is none of the three words.
    """
    path, mode = Path(path), _verify_mode()
    try:
        _check_size(path, size)
        if mode == "off" or passed(path, sha256, "sha256"):
            return
        before = identity(path)
        if mode == "once":
            _wait_for_tick(before)
        got = sha256_file(path)
        if got != sha256:
            raise mismatch_error(path, sha256, got)
        if before == identity(path):
            stamp(path, sha256, "sha256")
    except OSError as error:
        raise (error if isinstance(error, ResourceError) else unreadable(path, error)) from error


def passed(path: str | Path, sha256: str, check: str) -> bool:
    """Returns whether this very file passed `check` ("sha256" or "values") before; never under `HISTOZOO_VERIFY=always`."""
    if _verify_mode() != "once":
        return _verify_mode() == "off"
    try:
        now = identity(path)
        record = json.loads(_stamp_path(now).read_bytes())
        return bool(record["identity"] == now and record["sha256"] == sha256 and check in record["passed"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def stamp(path: str | Path, sha256: str, *checks: str) -> None:
    """Records that `path`, as it is now, passed `checks`, so that the next load need not read it twice."""
    if _verify_mode() != "once":
        return
    try:
        now = identity(path)
        durable.write_json(_stamp_path(now), {"identity": now, "sha256": sha256, "passed": list(checks)})
    except OSError:
        return  # a cache folder that cannot be written costs time, never safety


def _verify_mode() -> str:
    mode = os.environ.get("HISTOZOO_VERIFY") or "once"
    if mode not in ("always", "once", "off"):
        raise UsageError(
            "HZ-U12", "HISTOZOO_VERIFY is not valid", expected="always, once or off", got=repr(mode)
        )
    return mode


def _check_size(path: Path, size: int) -> None:
    found = path.stat().st_size
    if found == size:
        return
    with path.open("rb") as file:
        looks = looks_like(file.read(512), found)
    by_size = (
        "cut off, or another file" if found < size else f"{found - size:,} too many, so it is another file"
    )
    raise IntegrityError(
        "HZ-A01",
        f"{path.name} does not have its published size",
        where=path,
        expected=f"{size:,} bytes",
        got=f"{found:,} bytes: {looks or by_size}",
        kept="nothing was loaded; the file was left where it is",
        next_step=next_step(looks, "delete the file and fetch or copy it again"),
    )


def mismatch_error(path: Path, sha256: str, got: str) -> IntegrityError:
    """Returns the error for a file of the right size whose bytes are not the published ones (`HZ-A02`)."""
    return IntegrityError(
        "HZ-A02",
        f"{path.name} does not match its published sha256",
        where=path,
        expected=f"sha256 {sha256}",
        got=f"sha256 {got} (its size is right: corruption, not truncation)",
        kept="nothing was loaded; the file was left where it is",
        next_step="delete the file and fetch or copy it again",
    )


def differing(one: str, two: str) -> tuple[str, str]:
    """Returns two unequal hashes shortened to twelve digits in which they differ; whole where their lengths differ."""
    if len(one) != len(two):
        return one, two
    start = next(i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)
    if start < 12:
        return f"{one[:12]}...", f"{two[:12]}..."
    return tuple(f"...{text[start : start + 12]}, from digit {start + 1} on" for text in (one, two))  # type: ignore[return-value]


def identity(path: str | Path) -> list[int]:
    """Returns what changes whenever the file does: device and inode, size, and both times in nanoseconds."""
    st = Path(path).stat()
    return [_CHECKS, st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns]


def _wait_for_tick(known: list[int]) -> None:
    age = time.time() - known[-1] / 1e9
    if 0 <= age < _TICK_SECONDS:
        time.sleep(_TICK_SECONDS - age)


def _stamp_path(known: list[int]) -> Path:
    return cache_folder() / "verified" / f"{known[1]:x}-{known[2]:x}.json"
