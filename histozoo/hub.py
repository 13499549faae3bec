"""The Hub as transport: one pinned commit, our own sha256 after the client's, quarantine and one refetch, errors that state the cause.

huggingface_hub checks sizes, not content, and hands a damaged cache to everyone who shares it; whatever it returns is therefore
verified here before anybody sees the path. It is imported only when the Hub's cache is really asked.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from histozoo import integrity
from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError
from histozoo.hub_errors import transport_error
from histozoo.schema import COMMIT, FILE, REPOSITORY

T = TypeVar("T")

# A temporary file not written for this long, and open in no process, was left by a killed download. The client's own read timeout
# is 10 s, so a live download is never that quiet.
QUIET_SECONDS = 30.0


def fetch(
    repo: str,
    filename: str,
    *,
    revision: str,
    sha256: str,
    size: int,
    cache_dir: str | Path | None = None,
) -> Path:
    """Returns the path of one file of a Hub repository, its content verified.

    Args:
        repo: `owner/name`.
        filename: Name of the file at the repository's root.
        revision: Commit of 40 hexadecimal digits. A file of it that is cached already costs no request.
        sha256: What the file must hash to.
        size: Its size in bytes.
        cache_dir: The Hub client's cache folder, its own default if None.

    Raises:
        IntegrityError: `HZ-B11`, the bytes served are not the published ones, twice; `HZ-B17`, another commit was served.
        UsageError: `HZ-B18`, repository, file name or commit is not of the expected form.
        ResourceError: `HZ-B14`, the Hub refuses or cannot be reached; `HZ-B15`, the transfer stalled or broke off.
    """
    _check_form(repo, filename, revision)
    cached = _cached(repo, filename, revision, cache_dir)
    if cached and _problem(cached, sha256, size) is None:
        return cached
    with _alone(repo, filename, cache_dir):
        remove_orphans(repo, cache_dir=cache_dir)
        path = _download(repo, filename, revision, cache_dir)
        problem = _problem(path, sha256, size)
        if problem is None:
            return path
        kept = _quarantine(path)
        try:
            path = _download(repo, filename, revision, cache_dir)
        except ResourceError as error:
            raise _corrupt(f"{repo}@{revision}, {filename}", problem, kept, error.what) from error
        problem = _problem(path, sha256, size)
        if problem is None:
            return path
        raise _corrupt(f"{repo}@{revision}, {filename}", problem, _quarantine(path)) from problem


def resolve(repo: str, filename: str, revision: str | None, *, cache_dir: str | Path | None = None) -> str:
    """Returns the commit that a branch or tag points to now, asked once, so that all files come from one commit.

    Args:
        repo: `owner/name`.
        filename: A file that the commit must have.
        revision: A commit of 40 digits is returned as it is; None means the branch `main`.
        cache_dir: The Hub client's cache folder; read instead of the network where `HF_HUB_OFFLINE` is set.

    Raises:
        IntegrityError: `HZ-B17`, the revision is not pinned and `$HISTOZOO_STRICT` is 1.
        ResourceError: As `fetch`.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    _check_form(repo, filename, "0" * 40)
    if revision is not None and (not revision.isprintable() or ".." in revision or not revision.strip()):
        raise _form_error("revision", revision, "a commit, branch or tag")
    if os.environ.get("HISTOZOO_STRICT") == "1":
        raise IntegrityError(
            "HZ-B17",
            f"{repo} is not pinned to a commit, and HISTOZOO_STRICT=1 refuses that",
            where=f"{repo}@{revision or 'main'}",
            expected="a commit of 40 hexadecimal digits",
            got=repr(revision or "main"),
            kept="nothing was fetched",
            next_step="pass revision= with the commit, or unset HISTOZOO_STRICT",
        )
    commit = _commit_now(repo, filename, revision or "main", cache_dir)
    warnings.warn(
        f"HZ-B17 {repo} is not pinned: {revision or 'main'} is commit {commit} now; pin it with revision={commit!r}",
        stacklevel=3,
    )
    return commit


def remove_orphans(repo: str, *, cache_dir: str | Path | None = None) -> int:
    """Removes what killed downloads of `repo` left in the client's cache; returns the bytes freed, and says so in a warning."""
    sizes: list[int] = []
    for path in (_repo_folder(repo, cache_dir) / "blobs").glob("*.incomplete"):
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


def _check_form(repo: str, filename: str, revision: str) -> None:
    for what, value, pattern, allowed in (
        ("repository", repo, REPOSITORY, "owner/name"),
        ("file name", filename, FILE, "a name ending in .safetensors, without folders"),
        ("commit", revision, COMMIT, "40 hexadecimal digits, lower case"),
    ):
        if not isinstance(value, str) or not pattern.fullmatch(value) or ".." in value:
            raise _form_error(what, value, allowed)


def _form_error(what: str, value: object, allowed: str) -> UsageError:
    return UsageError(
        "HZ-B18",
        f"this is not the form of a {what}",
        expected=allowed,
        got=ascii(value)[:200],
        kept="neither disk nor network was touched",
        next_step="correct the entry, or publish it again",
    )


def _cache(cache_dir: str | Path | None) -> Path:
    from huggingface_hub import constants

    return Path(cache_dir or constants.HF_HUB_CACHE)


def _repo_folder(repo: str, cache_dir: str | Path | None) -> Path:
    return _cache(cache_dir) / f"models--{repo.replace('/', '--')}"


def _cached(repo: str, filename: str, revision: str, cache_dir: str | Path | None) -> Path | None:
    path = _repo_folder(repo, cache_dir) / "snapshots" / revision / filename
    return path if path.exists() else None


def _problem(path: Path, sha256: str, size: int) -> IntegrityError | None:
    """Returns None for the published bytes, and what is wrong otherwise."""
    try:
        integrity.verify(path, sha256, size)
    except IntegrityError as error:
        return error
    return None


def _corrupt(where: str, problem: IntegrityError, kept: Path, refetch: str = "") -> IntegrityError:
    again = f"fetching it again failed: {refetch}" if refetch else "it was fetched again, and was wrong again"
    return IntegrityError(
        "HZ-B11",
        "a file of the Hub does not match its published sha256",
        where=where,
        expected=problem.expected,
        got=problem.got,
        kept=f"nothing was loaded; the bad file was moved to {kept}; {again}",
        next_step="try again later or from another network; if it stays, tell the model's publisher",
    )


def _quarantine(path: Path) -> Path:
    """Takes a bad file out of the cache, so that nobody is served it again, and keeps it for whoever looks into the cause."""
    blob = path.resolve()
    target = integrity.cache_folder() / "quarantine" / f"{integrity.sha256_file(blob)}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(blob, target)
    path.unlink(missing_ok=True)
    return target


def _download(repo: str, filename: str, revision: str, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import hf_hub_download

    path = _asking(
        repo,
        revision,
        lambda: Path(
            hf_hub_download(repo, filename, revision=revision, cache_dir=cache_dir, library_name="histozoo")
        ),
    )
    served = path.parent.name
    if served != revision:
        raise IntegrityError(
            "HZ-B17",
            f"{repo} served another commit than the one asked for",
            where=f"{repo}, {filename}",
            expected=f"commit {revision}",
            got=f"commit {served}",
            kept="nothing was loaded",
            next_step="the repository may have been made anew by someone else: ask the model's publisher",
        )
    return path


def _commit_now(repo: str, filename: str, revision: str, cache_dir: str | Path | None) -> str:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    def ask() -> str | None:
        if constants.HF_HUB_OFFLINE:
            found = hf_hub_download(
                repo, filename, revision=revision, cache_dir=cache_dir, local_files_only=True
            )
            return Path(found).parent.name
        return get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision)).commit_hash

    commit = _asking(repo, revision, ask)
    if not commit or not COMMIT.fullmatch(commit):
        raise _form_error("commit", commit, "40 hexadecimal digits from the Hub")
    return commit


def _asking(repo: str, revision: str, call: Callable[[], T]) -> T:
    """Runs one request and turns the client's errors into ours."""
    try:
        return call()
    except HistozooError:
        raise
    except Exception as error:  # OSError, ValueError and the transport's own types; chained below ours
        raise transport_error(repo, revision, error) from error


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
def _alone(repo: str, filename: str, cache_dir: str | Path | None) -> Iterator[None]:
    """Lets one process at a time fetch a file; where locks do nothing, the sha256 after the transfer still decides."""
    import fcntl

    folder = integrity.cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    key = f"{_repo_folder(repo, cache_dir).name}--{filename}.lock"
    descriptor = os.open(folder / key, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
