"""Kills a child process at a seeded moment, again and again until it gets through; or at an exact written byte.

The child is forked, not spawned: importing torch takes seconds, and a test wants ten kills. So import what `work` needs before,
and keep to one thread of arithmetic (OMP_NUM_THREADS=1), because threads do not survive a fork. Nor may children share a lock: whoever
is killed while holding it would leave all others waiting, so each gets its own for progress bars.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import tqdm
import tqdm.auto

from histozoo import durable

_FAILED = 1


def kill_until_done(
    work: Callable[[], object], *, seed: int = 0, kills: int = 10, longest: float = 1.0, limit: float = 300.0
) -> int:
    """Runs `work` in a child again and again, each time killed (SIGKILL) after a random time, until it finishes.

    Args:
        work: What the child does; must be able to start again where it was killed.
        seed: Draws the moments, uniform in (0, `longest`) seconds.
        kills: After so many kills the child is left alone.
        longest: Upper bound of the moments, in seconds; a little more than `work` takes uninterrupted.
        limit: Seconds after which a child that is left alone counts as hanging.

    Returns:
        How many children were killed before one finished.

    Raises:
        AssertionError: A child failed by itself (with its traceback), or hangs.
    """
    draw = random.Random(seed)
    for done in range(kills):
        child, note = start(work)
        if wait(child, note, draw.uniform(0.0, longest)):
            return done
        kill(child)
    child, note = start(work)
    if not wait(child, note, limit):
        kill(child)
        raise AssertionError(f"the child did not finish within {limit} s")
    return kills


def killed_at_byte(work: Callable[[], object], n_bytes: int) -> bool:
    """Runs `work` in a child that kills itself as soon as `histozoo.durable` has written `n_bytes`; returns whether it did."""

    def cut() -> None:
        left, write = n_bytes, durable._write

        def writing(descriptor: int, data: bytes | memoryview) -> None:
            nonlocal left
            write(descriptor, memoryview(data)[:left])
            left -= len(data)
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        durable._write = writing
        work()

    child, note = start(cut)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            os.close(note)
            return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        time.sleep(0.002)
    kill(child)
    raise AssertionError("the child hangs")


def start(work: Callable[[], object]) -> tuple[int, int]:
    """Forks a child in its own process group; returns its id and a pipe that carries the traceback if it fails."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        os.setpgid(0, 0)
        for bar in (tqdm.tqdm, tqdm.auto.tqdm):  # theirs is a semaphore that all forked processes share
            bar.set_lock(threading.RLock())
        work()
        os._exit(0)
    except BaseException:
        os.write(writer, traceback.format_exc().encode()[-60_000:])
        os._exit(_FAILED)


def wait(child: int, note: int, seconds: float) -> bool:
    """Waits at most `seconds`; returns whether the child finished well.

    Raises:
        AssertionError: It finished with an error; the text is its traceback.
    """
    deadline = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            text = Path(f"/dev/fd/{note}").read_text() if os.WIFEXITED(status) else ""
            os.close(note)
            if status:
                raise AssertionError(f"the child failed by itself, status {status}\n{text}")
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)


def kill(child: int) -> None:
    """Kills the child's whole process group and waits for it."""
    for send in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            send(child, signal.SIGKILL)
    os.waitpid(child, 0)
