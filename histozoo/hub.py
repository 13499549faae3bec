"""The Hub as transport: one pinned commit, our own sha256 after the client's, quarantine and one refetch, errors that state the cause.

huggingface_hub checks sizes, not content, and hands a damaged cache to everyone who shares it; whatever it returns is therefore
verified here before anybody sees the path. It is imported only when the Hub's cache is really asked.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from histozoo import hub_cache, integrity
from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError
from histozoo.hub_errors import transport_error
from histozoo.schema import COMMIT, FILE, REPOSITORY

T = TypeVar("T")

TRIES = 5


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
        IntegrityError: `HZ-B11`, the bytes served are not the published ones, twice; `HZ-B12`, other processes take
            them away; `HZ-B17`, another commit was served.
        UsageError: `HZ-B18`, repository, file name or commit is not of the expected form.
        ResourceError: `HZ-B14`, the Hub refuses or cannot be reached; `HZ-B15`, the transfer stalled or broke off.
    """
    _check_form(repo, filename, revision)
    where = f"{repo}@{revision}, {filename}"
    known = hub_cache.cached(repo, filename, revision, cache_dir)
    if known and _problem(known, sha256, size) is None and known.exists():
        return known
    with hub_cache.alone(repo, filename, cache_dir):
        hub_cache.remove_orphans(repo, cache_dir=cache_dir)
        path, problem = _download(repo, filename, revision, sha256, size, cache_dir)
        if problem is None:
            return path
        kept = hub_cache.quarantine(path, sha256)
        try:
            path, again = _download(repo, filename, revision, sha256, size, cache_dir)
        except ResourceError as error:
            raise _corrupt(where, problem, kept, error.what) from error
        if again is None:
            return path
        raise _corrupt(where, again, hub_cache.quarantine(path, sha256)) from again


def resolve(repo: str, filename: str, revision: str | None, *, cache_dir: str | Path | None = None) -> str:
    """Returns the commit that a branch or tag points to now, asked once, so that all files come from one commit.

    Args:
        repo: `owner/name`.
        filename: A file that the commit must have.
        revision: A commit of 40 digits is returned as it is; None means the branch `main`.
        cache_dir: The Hub client's cache folder; read instead of the network where `HF_HUB_OFFLINE` is set.

    Raises:
        IntegrityError: `HZ-B17`, the revision is not pinned and `$HISTOZOO_STRICT` is 1.
        UsageError: `HZ-U12`, `$HISTOZOO_STRICT` is neither 0 nor 1.
        ResourceError: As `fetch`.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    _check_form(repo, filename, "0" * 40)
    if revision is not None and (not revision.isprintable() or ".." in revision or not revision.strip()):
        raise _form_error("revision", revision, "a commit, branch or tag")
    if _strict():
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


def _strict() -> bool:
    """Whether `$HISTOZOO_STRICT` is 1; another word than 0 or 1 must not mean "not strict" in silence."""
    strict = os.environ.get("HISTOZOO_STRICT") or "0"
    if strict not in ("0", "1"):
        raise UsageError("HZ-U12", "HISTOZOO_STRICT is not valid", expected="0 or 1", got=repr(strict))
    return strict == "1"


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


def _problem(path: Path, sha256: str, size: int) -> IntegrityError | None:
    """Returns None for the published bytes, or for a file that is gone; what is wrong otherwise."""
    try:
        integrity.verify(path, sha256, size)
    except IntegrityError as error:
        return error
    except ResourceError:
        if path.exists():
            raise
    return None


def _corrupt(where: str, problem: IntegrityError, kept: str, refetch: str = "") -> IntegrityError:
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


def _download(
    repo: str, filename: str, revision: str, sha256: str, size: int, cache_dir: str | Path | None
) -> tuple[Path, IntegrityError | None]:
    """Returns the file, from the cache or fetched, and what is wrong with it.

    Where locks do nothing, another process may take a bad file away between the two; then it is asked for again.
    """
    from huggingface_hub import hf_hub_download

    def ask() -> Path:
        found = hf_hub_download(
            repo, filename, revision=revision, cache_dir=cache_dir, library_name="histozoo"
        )
        return Path(found)

    for _ in range(TRIES):
        path = _asking(repo, revision, ask)
        if path.parent.name != revision:
            raise _other_commit(f"{repo}, {filename}", revision, path.parent.name)
        problem = _problem(path, sha256, size)
        if path.exists():
            return path, problem
    raise _broken_up(f"{repo}@{revision}, {filename}")


def _broken_up(where: str) -> IntegrityError:
    return IntegrityError(
        "HZ-B12",
        "other processes keep taking a file of the cache away",
        where=where,
        got=f"{TRIES} tries",
        kept="nothing was loaded",
        next_step="wait for them, or give each process a cache of its own with HF_HUB_CACHE",
    )


def _other_commit(where: str, pinned: str, served: str) -> IntegrityError:
    return IntegrityError(
        "HZ-B17",
        "the Hub served another commit than the one asked for",
        where=where,
        expected=f"commit {pinned}",
        got=f"commit {served}",
        kept="nothing was loaded",
        next_step="the repository may have been made anew by someone else: ask the model's publisher",
    )


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
