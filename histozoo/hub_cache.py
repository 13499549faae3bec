"""The Hub client's cache on disk: where a file lies, who may fetch it, what a killed download left, and where bad files go."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from histozoo import integrity

# A temporary file not written for this long, and open in no process, was left by a killed download. The client's own read timeout
# is 10 s, so a live download is never that quiet.
QUIET_SECONDS = 30.0


def remove_orphans(repo: str, *, cache_dir: str | Path | None = None) -> int:
    """Removes what killed downloads of `repo` left in the client's cache; returns the bytes freed, and says so in a warning."""
    sizes: list[int] = []
    for path in (repo_folder(repo, cache_dir) / "blobs").glob("*.incomplete"):
        try:
            st = path.stat()
            if time.time() - st.st_mtime > QUIET_SECONDS and not _open_somewhere(path):
                path.unlink()
                sizes.append(st.st_size)
        except OSError:
            continue  # another process finished or removed it first
    freed = sum(sizes)
    if sizes:
        warnings.warn(
            f"HZ-B13 removed {freed:,} bytes in {len(sizes)} files that killed downloads of {repo} had left",
            stacklevel=3,
        )
    return freed


def _cache(cache_dir: str | Path | None) -> Path:
    from huggingface_hub import constants

    return Path(cache_dir or constants.HF_HUB_CACHE)


def repo_folder(repo: str, cache_dir: str | Path | None) -> Path:
    """Returns the folder of a repository in the cache."""
    return _cache(cache_dir) / f"models--{repo.replace('/', '--')}"


def cached(repo: str, filename: str, revision: str, cache_dir: str | Path | None) -> Path | None:
    """Returns the path of a file of a commit if it is cached."""
    path = repo_folder(repo, cache_dir) / "snapshots" / revision / filename
    return path if path.exists() else None


def quarantine(path: Path, sha256: str) -> str:
    """Takes a bad file out of the cache, so that nobody is served it again, and keeps it for whoever looks into the cause."""
    try:
        blob = path.resolve()
        got = integrity.sha256_file(blob)
        if got == sha256:
            return "nowhere: another process has put the right one in its place"
        target = integrity.cache_folder() / "quarantine" / f"{got}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(blob, target)
        path.unlink(missing_ok=True)
        return str(target)
    except FileNotFoundError:
        return "quarantine by another process"


def _open_somewhere(path: Path) -> bool:
    """Returns whether a process of this machine holds the file open; where that cannot be seen, for an hour after the last write."""
    if not Path("/proc/self/fd").is_dir():
        return time.time() - path.stat().st_mtime < 3600
    wanted = path.stat()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            st = link.stat()
        except OSError:
            continue  # closed meanwhile, or another user's process
        if (st.st_dev, st.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


@contextmanager
def alone(repo: str, filename: str, cache_dir: str | Path | None) -> Iterator[None]:
    """Lets one process at a time fetch a file; where locks do nothing, the sha256 after the transfer still decides."""
    import fcntl

    folder = integrity.cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    key = f"{repo_folder(repo, cache_dir).name}--{filename}.lock"
    descriptor = os.open(folder / key, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
