"""The fake Hub's endpoints for readers: who am I, what is there, give me this file."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator

from tests.fakes.hub_faults import Reply
from tests.fakes.hub_http import Call, Refused, ok
from tests.fakes.hub_store import Blob, Commit

_TIME = "2026-01-01T00:00:00.000Z"


def whoami(call: Call) -> Reply:
    """Says whose token it is, its role and its organisations."""
    user = call.request.user
    if user is None:
        raise Refused(401, None, "Invalid username or password.")
    token: dict = {"displayName": "test", "role": user.role}
    if user.role == "fineGrained":
        scoped = [
            {"entity": {"type": "any", "name": k}, "permissions": list(v)} for k, v in user.scopes.items()
        ]
        token["fineGrained"] = {"global": [], "scoped": scoped}
    orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in user.orgs.items()]
    auth = {"type": "access_token", "accessToken": token}
    return ok({"type": "user", "name": user.name, "fullname": user.name, "orgs": orgs, "auth": auth})


def resolve(call: Call) -> Reply:
    """Gives one file, or the part of it that Range asks for."""
    repo = call.open()
    commit, user = call.commit(repo), call.request.user
    if repo.gated and not (user and (user.may_read(repo.name) or user.name in repo.allowed)):
        raise Refused(403 if user else 401, "GatedRepo", f"Access to model {repo.name} is restricted.")
    blob = commit.tree.get(call.path)
    if blob is None:
        refused = Refused(404, "EntryNotFound", "Entry not found").reply()
        refused.headers["X-Repo-Commit"] = commit.oid
        return refused
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
    if blob.lfs:
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(blob.data))}
    return Reply(200, blob.data, headers)


def cdn(call: Call) -> Reply:
    """Gives a file's bytes by commit on the second origin; like the real one it knows no users."""
    blob = call.commit(call.store.repos[call.repo]).tree[call.path]
    return Reply(200, blob.data, {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"})


def tree(call: Call) -> Reply:
    """Lists the files of a commit, below a folder and recursively if asked."""
    commit = call.commit(call.open())
    below = call.path.rstrip("/") + "/" if call.path else ""
    found = [entry(p, b) for p, b in sorted(commit.tree.items()) if p.startswith(below)]
    if below and not found:
        raise Refused(404, "EntryNotFound", f"{call.path} does not exist on {call.rev}")
    return ok(found, X_Repo_Commit=commit.oid)


def paths_info(call: Call) -> Reply:
    """Describes the files that the form names."""
    commit = call.commit(call.open())
    asked = urllib.parse.parse_qs(call.request.body.decode()).get("paths", [])
    return ok([entry(p, commit.tree[p]) for p in asked if p in commit.tree])


def info(call: Call) -> Reply:
    """Describes a repository at a revision."""
    repo = call.open()
    commit = call.commit(repo)
    siblings = [
        {"rfilename": p, "blobId": b.git_oid, "size": len(b.data)} for p, b in sorted(commit.tree.items())
    ]
    flags = {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
    ids = {"_id": "0", "id": repo.name, "modelId": repo.name, "sha": commit.oid, "lastModified": _TIME}
    return ok({**ids, **flags, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})


def refs(call: Call) -> Reply:
    """Lists branches and tags."""
    repo = call.open()

    def listed(kind: str, names: dict[str, str]) -> Iterator[dict]:
        return ({"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in names.items())

    return ok(
        {
            "branches": list(listed("heads", repo.branches)),
            "tags": list(listed("tags", repo.tags)),
            "converts": [],
        }
    )


def commits(call: Call) -> Reply:
    """Lists the history of a revision, newest first."""
    repo = call.open()
    commit: Commit | None = call.commit(repo)
    found = []
    while commit:
        found.append({"id": commit.oid, "title": commit.title, "message": "", "authors": [], "date": _TIME})
        commit = repo.commits.get(commit.parent or "")
    return ok(found)


def entry(path: str, blob: Blob) -> dict:
    """Returns one file as `tree` and `paths-info` list it."""
    lfs = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
    return {
        "type": "file",
        "path": path,
        "size": len(blob.data),
        "oid": blob.git_oid,
        **({"lfs": lfs} if blob.lfs else {}),
    }
