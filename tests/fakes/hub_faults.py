"""What can go wrong between the fake Hub and its client, as switches that a test sets for the requests it names."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_PAGE = b"<!doctype html><html><head><title>Log in</title></head><body>Please log in to this network</body></html>"


@dataclass
class Reply:
    """An answer before it is sent. `declared` is the Content-Length to announce when it is not the true one."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    declared: int | None = None
    keep: int | None = None
    stall_seconds: float = 0.0


@dataclass
class Fault:
    """One switch, or several, applied to the requests whose `METHOD /path` matches.

    Args:
        match: Regular expression searched in `METHOD /path`; use `GET .*` to leave HEAD requests alone.
        times: How often it strikes; -1 for always.
        p: Probability that a matching request is struck, drawn from `seed`.
        status: Answer this status with `headers` and `body` and do nothing else.
        html: Answer 200 with a web page, as a captive portal does.
        redirect: Answer 302 to a second origin on another port that serves the file.
        truncate: Close the connection after this many bytes (int) or this part (float) of the body.
        flip: Change one bit of the body, at a place drawn from `seed`, or at this bit (int).
        zero_half: Replace the second half of the body by zeros.
        short: Send and declare this many bytes less than the file has.
        stall: Send half of the body, then wait this many seconds.
        ignore_range: Answer the whole file with 200 to a request for a part.
        cut: Hang up after having read this many bytes of the request's own body.
        drop: Names of reply headers to leave out.
        then: Called before the request is answered, for example to move a branch between two requests.
    """

    match: str
    times: int = -1
    p: float = 1.0
    seed: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    html: bool = False
    redirect: bool = False
    truncate: int | float | None = None
    flip: bool | int = False
    zero_half: bool = False
    short: int = 0
    stall: float = 0.0
    ignore_range: bool = False
    cut: int = -1
    drop: tuple[str, ...] = ()
    then: Callable[[], object] | None = None
    hits: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def strikes(self, request: str) -> bool:
        """Draws whether `request` ("GET /path") is struck, and counts it."""
        with self._lock:
            if not self.times or not re.search(self.match, request) or self._random.random() >= self.p:
                return False
            self.times -= self.times > 0
            self.hits += 1
            return True

    @property
    def on_body(self) -> bool:
        """Returns whether it changes only bodies, so that a HEAD must not use it up."""
        return bool(
            self.truncate is not None
            or self.flip is not False
            or self.zero_half
            or self.short
            or self.stall
            or self.ignore_range
        )

    def instead(self) -> Reply | None:
        """Returns the reply that takes the place of the real one, or None."""
        if self.status is not None:
            return Reply(self.status, self.body, dict(self.headers))
        return Reply(200, _PAGE, {"Content-Type": "text/html"}) if self.html else None

    def spoil(self, reply: Reply) -> None:
        """Damages `reply` in place."""
        if not reply.body:
            return
        if self.flip is not False:
            bit = self._random.randrange(8 * len(reply.body)) if self.flip is True else self.flip
            reply.body = flip_bit(reply.body, bit)
        if self.zero_half:
            half = len(reply.body) // 2
            reply.body = reply.body[:half] + bytes(len(reply.body) - half)
        if self.short:
            reply.body = reply.body[: -self.short]
        if self.truncate is not None:
            part = self.truncate if isinstance(self.truncate, int) else int(self.truncate * len(reply.body))
            reply.declared, reply.keep = len(reply.body), part
        reply.stall_seconds = self.stall
        for name in self.drop:
            reply.headers.pop(name, None)


def flip_bit(data: bytes, bit: int) -> bytes:
    """Returns `data` with bit number `bit` (from the start, least significant first) changed."""
    byte, place = divmod(bit, 8)
    return data[:byte] + bytes([data[byte] ^ (1 << place)]) + data[byte + 1 :]
