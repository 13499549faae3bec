"""Whose access token it is and whether it may write: asked before anything is sent, never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from histozoo.errors import ResourceError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_WRITING_ROLES = frozenset({"admin", "write", "contributor"})


def client(token: str | None, repo: str) -> HfApi:
    """Returns a client that holds the access token: the one given, `$HF_TOKEN`, or that of `hf auth login`.

    Raises:
        ResourceError: `HZ-G54`, there is none.
    """
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    if not token:
        _no_permission(repo, "no access token was found", "run `hf auth login`, or set HF_TOKEN")
    return HfApi(token=token)


def require_write(api: HfApi, repo: str) -> None:
    """Asks the Hub whose token it is, before anything is sent.

    Raises:
        ResourceError: `HZ-G54`, the Hub does not know the token, or it cannot write to `repo`.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        me = api.whoami()
    except HfHubHTTPError as error:
        if error.response.status_code != 401:
            raise
        _no_permission(
            repo,
            "the Hub does not know this access token (HTTP 401)",
            "run `hf auth login` with a valid one",
            cause=error,
        )
    token = me.get("auth", {}).get("accessToken", {})
    owner, role = repo.split("/")[0], token.get("role")
    orgs = {org["name"]: org.get("roleInOrg") for org in me.get("orgs", ())}
    if role == "read":
        _no_permission(
            repo, f"the access token of {me['name']} may only read", "make one with write permission"
        )
    if role == "fineGrained" and not _fine_grained(token, repo):
        _no_permission(
            repo,
            f"the access token of {me['name']} has no repo.write for {owner}",
            "add that permission to it",
        )
    # An organisation whose role is not told is left to the Hub to decide; create_repo asks before anything is sent.
    if (
        owner != me["name"]
        and orgs.get(owner, "none" if owner not in orgs else "write") not in _WRITING_ROLES
    ):
        _no_permission(
            repo,
            f"{me['name']} may not write to {owner}",
            "push to a repository of your own with repo=, or ask to be added",
        )


def _fine_grained(token: Mapping[str, Any], repo: str) -> bool:
    scopes = token.get("fineGrained", {}).get("scoped", ())
    allowed = [
        scope.get("entity", {}).get("name")
        for scope in scopes
        if "repo.write" in scope.get("permissions", ())
    ]
    return repo in allowed or repo.split("/")[0] in allowed


def _no_permission(repo: str, what: str, next_step: str, *, cause: Exception | None = None) -> NoReturn:
    raise ResourceError("HZ-G54", what, where=repo, kept="nothing was sent", next_step=next_step) from cause
