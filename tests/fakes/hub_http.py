"""Requests, replies and refusals of the fake Hub, and the checks that its endpoints share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.fakes.hub_faults import Reply
from tests.fakes.hub_store import Commit, Repo, Store, User


class Refused(Exception):
    """A request that the Hub answers with an error."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)

    def reply(self) -> Reply:
        """Returns the reply that carries the error."""
        headers = {"Content-Type": "application/json", "X-Error-Message": self.message}
        headers |= {"X-Error-Code": self.code} if self.code else {}
        return Reply(self.status, json.dumps({"error": self.message}).encode(), headers)


@dataclass
class Request:
    """One request as the server read it; after it was answered, also the line of the log."""

    method: str
    path: str
    origin: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: User | None = None
    status: int = 0

    @property
    def token(self) -> str:
        """Returns the access token that came with the request, or an empty string."""
        return self.headers.get("authorization", "").removeprefix("Bearer ").strip()

    @property
    def range(self) -> str:
        """Returns the Range header, or an empty string."""
        return self.headers.get("range", "")

    def json(self) -> dict:
        """Returns the body as JSON."""
        return json.loads(self.body or b"{}")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def ok(value: object, status: int = 200, **headers: str) -> Reply:
    """Returns a JSON reply."""
    extra = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **extra})


@dataclass
class Call:
    """A request with the parts of its path, and the checks that several endpoints share."""

    store: Store
    request: Request
    base: str
    repo: str = ""
    rev: str = "main"
    path: str = ""

    def open(self, *, write: bool = False) -> Repo:
        """Returns the repository if this user may see it (and, with `write`, commit to it)."""
        repo, user = self.store.repos.get(self.repo), self.request.user
        if repo is None or (repo.private and not (user and user.may_read(repo.name))):
            raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        if write and not (user and user.may_write(repo.name)):
            raise Refused(403 if user else 401, None, "Forbidden: this token cannot write here")
        return repo

    def commit(self, repo: Repo) -> Commit:
        """Returns the commit that the path names."""
        found = repo.find(self.rev)
        if found is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {self.rev}")
        return found
