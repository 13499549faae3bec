"""A Hub on the loopback interface that the real huggingface_hub, timm and transformers clients talk to.

    hub = Hub().start()                               # set HF_ENDPOINT=hub.url before huggingface_hub is imported
    hub.add("histozoo/m", {"config.json": b"{}"})     # a commit; returns its 40-digit id
    hub.fault(r"GET .*model\\.safetensors", flip=True, times=1)
    hub.requests(r"GET .*resolve")                    # what was asked, in order

Two origins: the Hub, and a second port to which `fault(..., redirect=True)` sends a download. Standard library only.
"""

from __future__ import annotations

import http.server
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fakes.hub_faults import Fault, Reply
from tests.fakes.hub_http import Request
from tests.fakes.hub_routes import answer
from tests.fakes.hub_store import Store, User

OWNER = "hf_ownerCanary0123456789abcdef"  # may write to histozoo/
READER = "hf_readerCanary0123456789abcde"  # same organisation, token without write permission
STRANGER = "hf_strangerCanary0123456789ab"  # may write, but not to histozoo/
TOKENS = (OWNER, READER, STRANGER)


class Hub(Store):
    """The store behind two loopback servers, with faults and a log. `start` it before use."""

    def __init__(self) -> None:
        super().__init__({})
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self._ports = {"hub": 0, "cdn": 0}
        self._servers: dict[str, _Server] = {}
        self._wake = threading.Event()
        self.reset()

    @property
    def url(self) -> str:
        """Returns the Hub's address."""
        return f"http://127.0.0.1:{self._ports['hub']}"

    @property
    def cdn_url(self) -> str:
        """Returns the address of the second origin."""
        return f"http://127.0.0.1:{self._ports['cdn']}"

    def reset(self) -> None:
        """Forgets repositories, uploads, faults and the log, and restores the three users."""
        with self.lock:
            for kept in (self.repos, self.objects, self.log, self.faults, self.users):
                kept.clear()
            self.users[OWNER] = User("owner", "write", {"histozoo": "admin"})
            self.users[READER] = User("reader", "read", {"histozoo": "read"})
            self.users[STRANGER] = User("stranger", "write")
        self._wake.set()
        self._wake = threading.Event()

    def start(self) -> Hub:
        """Starts both servers, on the ports they had before if they ran before."""
        for origin, port in self._ports.items():
            if origin not in self._servers:
                server = _Server(("127.0.0.1", port), self, origin)
                self._servers[origin], self._ports[origin] = server, server.server_port
                threading.Thread(
                    target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
                ).start()
        return self

    def stop(self) -> None:
        """Closes both servers and every connection that is still open."""
        self._wake.set()
        for origin in list(self._servers):
            self._servers.pop(origin).close()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Makes the Hub unreachable for the time of the block."""
        from huggingface_hub import close_session  # here, since conftest must set its environment first

        self.stop()
        close_session()  # a connection that the client kept may be reset in the middle of a request, which is another fault
        try:
            yield
        finally:
            self.start()

    def fault(self, match: str, **switches: object) -> Fault:
        """Sets a fault for the requests that match and returns it; see `Fault` for the switches."""
        fault = Fault(match, **switches)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def requests(self, match: str = "") -> list[Request]:
        """Returns the answered requests whose `METHOD /path` matches, in order."""
        with self.lock:
            return [r for r in self.log if re.search(match, str(r))]

    def add_folder(self, name: str, folder: str | Path) -> str:
        """Commits every file of `folder` and returns the commit id."""
        folder = Path(folder)
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        return self.add(name, {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths})

    def tag(self, name: str, tag: str, *, oid: str = "") -> None:
        """Sets a tag, moving it if it exists (which the HTTP endpoint refuses)."""
        self.repos[name].tags[tag] = oid or self.head(name)

    def reply(self, request: Request) -> Reply:
        """Returns the answer to one request, with the faults that strike it."""
        struck = [f for f in list(self.faults) if f.cut < 0 and not (f.on_body and request.method == "HEAD")]
        struck = [
            f for f in struck if not (f.redirect and request.origin == "cdn") and f.strikes(str(request))
        ]
        for fault in struck:
            if fault.then:
                fault.then()
            if (instead := fault.instead()) is not None:
                return instead
        reply = answer(self, request, self.url)
        if reply.status == 200 and request.range and not any(f.ignore_range for f in struck):
            reply = _part(reply, request.range)
        for fault in struck:
            fault.spoil(reply)
            if fault.redirect and reply.status < 300 and "/resolve/" in request.path:
                reply = _moved(reply, request, self.cdn_url)
        return reply

    def send(self, reply: Reply, handler: _Handler) -> None:
        """Writes `reply`, cut or stalled as it says."""
        declared = len(reply.body) if reply.declared is None else reply.declared
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(declared), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        body = reply.body if reply.keep is None else reply.body[: reply.keep]
        if reply.stall_seconds:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            self._wake.wait(reply.stall_seconds)
            body = body[len(body) // 2 :]
        handler.wfile.write(body)
        if len(body) < declared and reply.keep is not None:
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hub: Hub, origin: str) -> None:
        self.hub, self.origin = hub, origin
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def close(self) -> None:
        self.shutdown()
        with suppress(OSError):  # a forked worker may hold the listener too: closing ours would leave it open
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()
        for connection in list(self.open):  # keep-alive connections outlive the listener
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stays silent: clients that hang up in the middle are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal quiet; the log is `Hub.log`."""

    def _serve(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        for fault in [
            f for f in list(self.server.hub.faults) if f.cut >= 0 and f.strikes(f"{self.command} {url.path}")
        ]:
            self.rfile.read(min(fault.cut, length))
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        body = self.rfile.read(length)  # exactly once per request
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(urllib.parse.parse_qsl(url.query))
        request = Request(self.command, url.path, self.server.origin, query, headers, body)
        reply = self.server.hub.reply(request)
        request.status = reply.status
        self.server.hub.log.append(request)
        self.server.hub.send(reply, self)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve


def _part(reply: Reply, wanted: str) -> Reply:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if not match:
        return reply
    size = len(reply.body)
    first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
    if first >= size:
        return Reply(416, b"", {"Content-Range": f"bytes */{size}"})
    part = {"Content-Range": f"bytes {first}-{last}/{size}"}
    return Reply(206, reply.body[first : last + 1], {**reply.headers, **part})


def _moved(reply: Reply, request: Request, base: str) -> Reply:
    repo, _, rest = request.path.lstrip("/").partition("/resolve/")
    path = rest.partition("/")[2]
    location = f"{base}/_cdn/{repo}/{reply.headers['X-Repo-Commit']}/{path}"
    return Reply(302, b"", {**reply.headers, "Location": location})
