"""A GitHub on the loopback interface, as far as torch.hub asks: does the branch exist, which branches and tags, a zip of it.

    with GitHub() as github:
        github.add("histozoo/histozoo", folder, ref="main")
        done = fresh_python(github.redirected() + "import torch; torch.hub.load('histozoo/histozoo', name, trust_repo=True)")

torch.hub's addresses are fixed, so `redirected()` is code that makes torch.hub open this server instead of them. Standard library only.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import threading
import zipfile
from pathlib import Path

_IGNORED = {".git", "__pycache__", "runs", "dist", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_REDIRECT = """
import re, urllib.request, torch.hub
def _open(request, *args, _open=urllib.request.urlopen, **kwargs):
    request = request if isinstance(request, urllib.request.Request) else urllib.request.Request(request)
    request.full_url = re.sub(r"^https://(api\\.)?github\\.com", "{url}", request.full_url)
    return _open(request, *args, **kwargs)
torch.hub.urlopen = _open
"""


class GitHub:
    """Repositories as zip files by name and ref; a context manager that runs the server."""

    def __init__(self) -> None:
        self.archives: dict[tuple[str, str], bytes] = {}
        self.log: list[str] = []
        handler = type("Handler", (_Handler,), {"github": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> GitHub:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, folder: Path, *, ref: str = "main") -> str:
        """Makes `folder` the content of branch or tag `ref` and returns its commit id."""
        commit = hashlib.sha1(f"{name}@{ref}".encode(), usedforsecurity=False).hexdigest()
        self.archives[name, ref] = _archive(Path(folder), f"{name.replace('/', '-')}-{commit[:7]}")
        return commit

    def redirected(self) -> str:
        """Returns Python code after which torch.hub opens this server in place of github.com."""
        return _REDIRECT.format(url=self.url)

    def reply(self, path: str) -> tuple[int, bytes]:
        """Returns status and body for one path."""
        self.log.append(path)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/tree/([^/]+)/?", path):
            return (200, b"") if (match[1], match[2]) in self.archives else (404, b"")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/zipball/(.+)", path):
            found = self.archives.get(
                (match[1], match[2].removeprefix("refs/heads/").removeprefix("refs/tags/"))
            )
            return (200, found) if found else (404, b"")
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/(branches|tags)\?.*page=(\d+)", path):
            return 200, json.dumps(self._refs(match[1]) if match[3] == "1" else []).encode()
        return 404, b""

    def _refs(self, name: str) -> list[dict]:
        refs = [ref for owner, ref in self.archives if owner == name]
        return [
            {"name": r, "commit": {"sha": hashlib.sha1(f"{name}@{r}".encode()).hexdigest()}} for r in refs
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    github: GitHub

    def do_GET(self) -> None:
        status, body = self.github.reply(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal quiet; the log is `GitHub.log`."""


def _archive(folder: Path, top: str) -> bytes:
    """Returns a zip whose first entry is the top folder, as GitHub's are and as torch.hub expects."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/", "")
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and not _IGNORED & set(inside.parts):
                archive.write(path, f"{top}/{inside.as_posix()}")
    return data.getvalue()
