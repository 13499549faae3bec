"""The fake Hub's endpoints for publishers: create, upload, commit, branch, tag."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from tests.fakes.hub_faults import Reply
from tests.fakes.hub_http import Call, Refused, ok
from tests.fakes.hub_store import Blob, is_lfs


def validate_yaml(call: Call) -> Reply:
    """Checks a card's front matter as far as the fake needs: it must be closed and name a licence as text."""
    content = call.request.json().get("content", "")
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    errors = [] if match or not content.startswith("---") else [{"message": "front matter is not closed"}]
    if match and re.search(r"^license: *\[? *$", match[1], re.MULTILINE):
        errors.append({"message": '"license" must be a string'})
    return ok({"errors": errors, "warnings": []}, 400 if errors else 200)


def create_repo(call: Call) -> Reply:
    """Makes a repository; 409 if it exists, 403 if this token may not."""
    user, asked = call.request.user, call.request.json()
    name = f"{asked.get('organization') or (user.name if user else '')}/{asked['name']}"
    if not (user and user.may_write(name)):
        raise Refused(403 if user else 401, None, f"You don't have the rights to create a model under {name}")
    url = f"{call.base}/{name}"
    if name in call.store.repos:
        return ok({"error": "You already created this model repo", "url": url}, 409)
    call.store.create(name, private=asked.get("visibility") == "private" or bool(asked.get("private")))
    return ok({"url": url, "name": name})


def lfs_batch(call: Call) -> Reply:
    """Says where each LFS object is to be uploaded, or nothing if it is there already."""
    call.open(write=True)
    answers = []
    for item in call.request.json()["objects"]:
        upload = {"href": f"{call.base}/_lfs/{item['oid']}"}
        verify = {"href": f"{call.base}/_lfs/verify"}
        known = item["oid"] in call.store.objects
        answers.append({**item, **({} if known else {"actions": {"upload": upload, "verify": verify}})})
    return ok({"transfer": "basic", "objects": answers})


def lfs_put(call: Call) -> Reply:
    """Stores one LFS object if its bytes hash to its name."""
    if hashlib.sha256(call.request.body).hexdigest() != call.path:
        raise Refused(400, None, "sha256 mismatch")
    call.store.objects[call.path] = call.request.body
    return Reply(200)


def lfs_verify(call: Call) -> Reply:
    """Confirms that an uploaded object is there with the size that was announced."""
    asked = call.request.json()
    data = call.store.objects.get(asked["oid"])
    if data is None or len(data) != asked["size"]:
        raise Refused(404, None, "object not found")
    return ok({})


def preupload(call: Call) -> Reply:
    """Says for each file how to upload it and which id it has in the repository now."""
    now = call.commit(call.open(write=True)).tree
    files = []
    for item in call.request.json()["files"]:
        path = item["path"]
        mode = "lfs" if is_lfs(path, item["size"]) else "regular"
        oid = now[path].etag if path in now else None
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return ok({"files": files})


def commit(call: Call) -> Reply:
    """Makes one commit out of the lines of the body; 412 if the branch moved away from the parent that was named."""
    repo = call.open(write=True)
    if call.rev not in repo.branches:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {call.rev}")
    lines = [json.loads(line) for line in call.request.body.split(b"\n") if line]
    head = next(line["value"] for line in lines if line["key"] == "header")
    if head.get("parentCommit") not in (None, repo.branches[call.rev]):
        raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
    files: dict[str, bytes | Blob] = {}
    deleted = []
    for key, value in ((line["key"], line["value"]) for line in lines):
        if key == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            files[value["path"]] = Blob(call.store.objects[value["oid"]], lfs=True)
        elif key in {"deletedFile", "deletedFolder"}:
            deleted.append(value["path"])
    oid = call.store.add(repo.name, files, deleted=deleted, branch=call.rev, title=head.get("summary", ""))
    return ok({"success": True, "commitOid": oid, "commitUrl": f"{call.base}/{repo.name}/commit/{oid}"})


def branch(call: Call) -> Reply:
    """Makes a branch at a starting point."""
    repo = call.open(write=True)
    if call.path in repo.branches:
        raise Refused(409, None, "Reference already exists")
    repo.branches[call.path] = (
        Call(call.store, call.request, "", rev=call.request.json().get("startingPoint", "main"))
        .commit(repo)
        .oid
    )
    return ok({}, 201)


def tag(call: Call) -> Reply:
    """Makes a tag; 409 if there is one of that name."""
    repo = call.open(write=True)
    name = call.request.json()["tag"]
    if name in repo.tags:
        raise Refused(409, None, "Tag reference exists already")
    repo.tags[name] = call.commit(repo).oid
    return ok({}, 201)
