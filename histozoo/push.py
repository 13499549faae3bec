"""bundle -> Hugging Face Hub: checked here first, sent in one commit, read back, then tagged; a published name never changes.

    gates -> token may write -> repository -> one commit on a known parent -> read back by commit -> tag -> revision recorded

Until the commit readers see what was there before, after it the whole bundle: there is no moment in between. Pushing again is
always safe: it finds out what is done already and does the rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from histozoo import artifact, card, durable, permission, registry
from histozoo import bundle as bundles
from histozoo.bundle import Bundle, Upload
from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError, redact

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["TAG", "push"]

TAG = "v1"
"""A name is published once, so its repository has one release."""
_PACKAGE = Path(__file__).parent
_HUB_FILES = frozenset({".gitattributes"})  # made by the Hub itself
_RACE = "by somebody else at the same moment"
_KEPT = "the repository shows what it showed before, or the whole new bundle; the record of revisions is untouched"


def push(
    bundle: str | Path,
    *,
    repo: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    zoo: str | Path = _PACKAGE / "zoo",
    cards: str | Path = _PACKAGE.parent / "model_cards",
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Publishes a bundle on the Hub and returns the commit that holds it, 40 hexadecimal digits.

    Args:
        bundle: `dist/<name>` as `publish` made it.
        repo: `owner/name` instead of the repository that the entry names.
        private: Make the repository private if it has to be made.
        dry_run: Pass the gates and say what would be sent, ask the Hub nothing, return an empty string.
        token: Access token; by default the one of `$HF_TOKEN` or of `hf auth login`.
        zoo: Where the entry lies in which the revision is recorded.
        cards: Where its model card lies.
        say: Receives one line per step.

    Raises:
        UsageError: `HZ-U24`, not a bundle.
        IntegrityError: `HZ-A07` invalid entry, `HZ-G49` failed gates, `HZ-G51` the name is published with other content or somebody
            else was faster, `HZ-G54` the Hub serves other bytes than were sent.
        ResourceError: `HZ-G54` no token or one that may not write here, `HZ-G50` the Hub or the network failed.
    """
    found, zoo = bundles.read(bundle, repo=repo), Path(zoo)
    say(f"checking {found.folder}: hashes, entry, card, tensors")
    bundles.check(found, zoo=zoo)
    if not (zoo / f"{found.entry.name}.json").is_file():
        say(
            f"note: {zoo} has no entry of this name, so the revision goes into the bundle only; zoo= names another folder"
        )
    uploads = found.uploads()
    say(f"{found.entry.name} passed every gate; to {found.repo}:")
    for upload in uploads:
        say(f"  {upload}")
    if dry_run:
        return ""
    api = permission.client(token, found.repo)
    with _hub_errors(found.repo, str(api.token)):
        revision = _publish(api, found, uploads, private=private, say=say)
    _record(found, revision, zoo=zoo, cards=Path(cards))
    say(f"published as {found.repo}@{revision}")
    return revision


def _publish(
    api: HfApi, found: Bundle, uploads: list[Upload], *, private: bool, say: Callable[[str], None]
) -> str:
    """Brings the repository into the state it is to be in, whatever state it is in, and returns the commit."""
    permission.require_write(api, found.repo)
    _require_repository(api, found.repo, private=private, say=say)
    tagged = _tagged(api, found.repo)
    revision = tagged or str(api.model_info(found.repo).sha)
    if _holds(api, found, uploads, revision, empty=not tagged):
        say(f"this content is there already, {revision}")
    else:
        revision = _commit(api, found, uploads, revision)
        say(f"sent in one commit, {revision}")
    _read_back(api, found.repo, uploads, revision)
    say("read back by commit: every sha256 is right")
    return tagged or _tag(api, found, uploads, revision)


def _require_repository(api: HfApi, repo: str, *, private: bool, say: Callable[[str], None]) -> None:
    if not api.repo_exists(repo):
        say(f"making {'private ' if private else ''}repository {repo}")
        api.create_repo(repo, private=private, exist_ok=True)
    if private and not api.model_info(repo).private:
        raise UsageError(
            "HZ-U25",
            "a private repository was asked for, but this one is public",
            where=repo,
            kept="nothing was sent",
            next_step="make it private in its settings on the Hub, or name another one with repo=",
        )


def _tagged(api: HfApi, repo: str) -> str:
    """Returns the commit of the release, or an empty string if there is none."""
    return next((tag.target_commit for tag in api.list_repo_refs(repo).tags if tag.name == TAG), "")


def _holds(
    api: HfApi,
    found: Bundle,
    uploads: list[Upload],
    revision: str,
    *,
    empty: bool = False,
    when: str = "already",
) -> bool:
    """Returns True if `revision` holds exactly this bundle, False if it holds nothing yet and may (`empty`).

    Raises:
        IntegrityError: `HZ-G51`, it holds something else.
    """
    from huggingface_hub.hf_api import RepoFile

    listed = api.list_repo_tree(found.repo, recursive=True, revision=revision)
    files = [f for f in listed if isinstance(f, RepoFile) and f.path not in _HUB_FILES]
    there = {f.path: f.lfs.sha256 if f.lfs else f.blob_id for f in files}
    if empty and not there:
        return False
    ours = {u.path: (u.sha256, u.git_oid) for u in uploads}
    differing = [path for path in sorted({*there, *ours}) if there.get(path) not in ours.get(path, ())]
    if differing:
        weights = found.entry.weights
        _refuse(
            f"this name was published {when} with other content; published names never change",
            where=f"{found.repo}@{revision}",
            expected=f"{weights.file} with sha256 {there.get(weights.file, '(no such file)')}, as the Hub has it",
            got=f"sha256 {weights.sha256}; differing: {', '.join(differing)}",
            next_step="publish the new model under a new name, such as the same with _v2",
        )
    return True


def _refuse(what: str, *, where: str, expected: str, got: str, next_step: str) -> NoReturn:
    kept = "what the Hub has is untouched; nothing of this bundle became visible"
    raise IntegrityError(
        "HZ-G51", what, where=where, expected=expected, got=got, kept=kept, next_step=next_step
    )


def _commit(api: HfApi, found: Bundle, uploads: list[Upload], parent: str) -> str:
    """Sends everything in one commit on top of `parent`; if somebody else was faster, their content must be the same."""
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    operations = [CommitOperationAdd(u.path, u.source) for u in uploads]
    try:
        return str(
            api.create_commit(
                found.repo, operations, commit_message=found.entry.name, parent_commit=parent
            ).oid
        )
    except HfHubHTTPError as error:
        if error.response.status_code != 412:
            raise
        head = str(api.model_info(found.repo).sha)
        if not _holds(api, found, uploads, head, empty=True, when=_RACE):
            raise
        return head


def _read_back(api: HfApi, repo: str, uploads: list[Upload], revision: str) -> None:
    """Downloads every file by commit into an empty folder and compares its sha256 with what was sent."""
    with tempfile.TemporaryDirectory(prefix="histozoo-read-back-") as folder:
        for upload in uploads:
            path = api.hf_hub_download(repo, upload.path, revision=revision, cache_dir=folder)
            got = artifact.sha256_file(path)
            if got != upload.sha256:
                raise IntegrityError(
                    "HZ-G54",
                    "the Hub serves other bytes than were sent",
                    where=f"{repo}@{revision} {upload.path}",
                    expected=f"sha256 {upload.sha256}",
                    got=f"sha256 {got}",
                    kept="it was not tagged and no revision was recorded",
                    next_step="push again: it reads back again; if it fails again, delete the repository's commit",
                )


def _tag(api: HfApi, found: Bundle, uploads: list[Upload], revision: str) -> str:
    """Sets the release tag, last of all; if somebody else just set it, it must hold the same. Returns the tagged commit."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_tag(found.repo, tag=TAG, revision=revision)
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        revision = _tagged(api, found.repo)
        _holds(api, found, uploads, revision, when=_RACE)
    return revision


def _record(found: Bundle, revision: str, *, zoo: Path, cards: Path) -> None:
    """Writes the revision into the bundle's config.json and into the zoo's entry, and renders the card again.

    A copy pushed to a second repository leaves no trace: the entry goes on pointing at the first one.
    """
    known = found.local.weights
    if known.revision and known.repo != found.repo:
        return
    raw = bundles.with_revision(found.entry, revision)
    in_zoo = zoo / f"{found.entry.name}.json"
    for path in (found.folder / "config.json", *([in_zoo] if in_zoo.is_file() else [])):
        durable.write_json(path, raw)
    if in_zoo.is_file():
        durable.write_text(cards / f"{found.entry.name}.md", card.render(registry.read_entry(in_zoo)))


@contextmanager
def _hub_errors(repo: str, token: str) -> Iterator[None]:
    """Turns what the client raises into one clear error with the HTTP status, without the token."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HistozooError:
        raise
    except Exception as error:  # the client's transport errors have no common base
        cause: BaseException | None = error
        while cause and not isinstance(cause, HfHubHTTPError):
            cause = cause.__cause__
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        raise ResourceError(
            "HZ-G54" if status in (401, 403) else "HZ-G50",
            f"the Hub answered HTTP {status}" if status else "the upload to the Hub did not go through",
            where=repo,
            got=redact(f"{type(error).__name__}: {error}".replace(token, "***")),
            kept=_KEPT,
            next_step="check the token's permissions"
            if status in (401, 403)
            else "push again; it continues where it stopped",
        ) from error
