"""What the Hub client raises, said as what happened: the HTTP status, a stall, a broken transfer, a login page, no network.

The client raises OSError, ValueError and its transport's own types, and says "check your connection" to all of them. Here the chain of
causes is searched for the real one. Standard library only: types are known by their names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from histozoo.errors import ResourceError

_STATUS = {
    401: "the repository is private or gated, or does not exist, and no valid token was sent",
    403: "access to the repository is restricted, and this token has no access",
    404: "the repository, commit or file does not exist on the Hub",
    429: "the Hub limits the rate of requests",
}
_NEXT = {
    401: "ask for access on the model's page, then `hf auth login`, or set HF_TOKEN",
    403: "ask for access on the model's page with the account of your token",
    404: "check the name and the pinned commit; update histozoo if the model was moved",
    429: "wait, then run the same command again; a token (`hf auth login`) raises the limit",
}


def transport_error(repo: str, revision: str, error: Exception) -> ResourceError:
    """Returns our error for one that the client raised while it asked for `repo@revision`: `HZ-B14` or `HZ-B15`."""
    causes = list(_chain(error))
    status = next((s for s in map(_status, causes) if s), None)
    names = {type(c).__name__ for c in causes}
    where, kept = f"{repo}@{revision}", "nothing was loaded; no partial file is under the final name"
    if status:
        what = _STATUS.get(
            status, "the Hub has a problem of its own" if status >= 500 else "the Hub refused the request"
        )
        next_step = _NEXT.get(status, "run the same command again later")
        return ResourceError(
            "HZ-B14", what, where=where, got=f"HTTP status {status}", kept=kept, next_step=next_step
        )
    if "OfflineModeIsEnabled" in names or os.environ.get("HF_HUB_OFFLINE") == "1":
        return ResourceError(
            "HZ-B14",
            "HF_HUB_OFFLINE is set and the file is not in the cache",
            where=where,
            kept=kept,
            next_step="unset HF_HUB_OFFLINE once, or put the bundle below $HISTOZOO_WEIGHTS_DIR",
        )
    if names & {
        "ReadTimeout",
        "ConnectTimeout",
        "WriteTimeout",
        "PoolTimeout",
        "TimeoutException",
        "TimeoutError",
    }:
        return _broken_off("the Hub stopped answering", where, error, kept)
    if names & {"RemoteProtocolError", "ReadError", "ChunkedEncodingError"} or "Consistency check" in str(
        error
    ):
        return _broken_off("the transfer broke off", where, error, kept)
    if "FileMetadataError" in names:
        return ResourceError(
            "HZ-B14",
            "what answered is not the Hub: a login page of the network, or a proxy",
            where=where,
            got=_first_line(error),
            kept=kept,
            next_step="open a web page once to log in to the network, or set HF_ENDPOINT correctly",
        )
    return ResourceError(
        "HZ-B14",
        "the Hub cannot be reached",
        where=where,
        got=_first_line(causes[-1]),
        kept=kept,
        next_step="check network and proxy; offline, put the bundle below $HISTOZOO_WEIGHTS_DIR",
    )


def _broken_off(what: str, where: str, error: Exception, kept: str) -> ResourceError:
    return ResourceError(
        "HZ-B15",
        what,
        where=where,
        got=_first_line(error),
        kept=kept,
        next_step="run the same command again; HF_HUB_DOWNLOAD_TIMEOUT sets the seconds of silence allowed",
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None
