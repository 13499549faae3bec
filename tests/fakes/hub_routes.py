"""Which endpoint of the fake Hub answers which request.

Only what huggingface_hub, timm and transformers ask for when they download or publish a model; Xet is left out (the tests
switch it off).
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable

from tests.fakes import hub_read, hub_write
from tests.fakes.hub_faults import Reply
from tests.fakes.hub_http import Call, Refused, Request
from tests.fakes.hub_store import Store

_REPO = r"(?P<repo>[^/]+/[^/]+?)"
_API = rf"/api/models/{_REPO}"
_REV = r"(?P<rev>[^/]+)"
_PATH = r"(?P<path>.+)"
_ROUTES: list[tuple[str, str, Callable[[Call], Reply]]] = [
    ("GET", r"/api/whoami-v2", hub_read.whoami),
    ("POST", r"/api/validate-yaml", hub_write.validate_yaml),
    ("POST", r"/api/repos/create", hub_write.create_repo),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", hub_write.lfs_batch),
    ("PUT", r"/_lfs/(?P<path>[0-9a-f]{64})", hub_write.lfs_put),
    ("POST", r"/_lfs/verify", hub_write.lfs_verify),
    ("GET HEAD", rf"/_cdn/{_REPO}/{_REV}/{_PATH}", hub_read.cdn),
    ("GET HEAD", rf"{_API}/tree/{_REV}(?:/{_PATH})?", hub_read.tree),
    ("POST", rf"{_API}/paths-info/{_REV}", hub_read.paths_info),
    ("GET", rf"{_API}/refs", hub_read.refs),
    ("GET", rf"{_API}/commits/{_REV}", hub_read.commits),
    ("POST", rf"{_API}/preupload/{_REV}", hub_write.preupload),
    ("POST", rf"{_API}/commit/{_REV}", hub_write.commit),
    ("POST", rf"{_API}/branch/{_PATH}", hub_write.branch),
    ("POST", rf"{_API}/tag/{_REV}", hub_write.tag),
    ("GET HEAD", rf"{_API}/revision/{_REV}", hub_read.info),
    ("GET HEAD", _API, hub_read.info),
    ("GET HEAD", rf"/{_REPO}/resolve/{_REV}/{_PATH}", hub_read.resolve),
]


def answer(store: Store, request: Request, base: str) -> Reply:
    """Finds the endpoint for `request` and returns its reply; `base` is the server's own URL."""
    if request.token and request.token not in store.users:
        return Refused(401, None, "Invalid credentials in Authorization header").reply()
    request.user = store.users.get(request.token)
    for methods, pattern, endpoint in _ROUTES:
        match = re.fullmatch(pattern, request.path)
        if match and request.method in methods:
            groups = {k: urllib.parse.unquote(v) for k, v in match.groupdict().items() if v is not None}
            try:
                with store.lock:
                    return endpoint(Call(store, request, base, **groups))
            except Refused as refused:
                return refused.reply()
    return Refused(404, None, f"no such endpoint: {request}").reply()
