"""Worker processes that cut chunks. Each says which picture it is at, so that the picture that kills a worker can be named.

Workers write to staged folders only and are killed without harm at any moment; they end with the process that started them.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from histozoo import errors
from histozoo.errors import HistozooError, ResourceError
from histozoo.prepare.chunks import BadPicture, Cutter, Job
from histozoo.prepare.pictures import Picture

Chunk = tuple[int, Sequence[Picture], Path]
"""Number, pictures, and the folder to stage it in."""

_FIELDS = ("code", "what", "where", "expected", "got", "kept", "next_step")
_PR_SET_PDEATHSIG = 1


def cut_here(
    job: Job,
    chunks: Iterable[Chunk],
    *,
    at: Callable[[str], None],
    done: Callable[[int, dict[str, Any]], None],
) -> None:
    """Cuts all chunks in this process; the errors are those of `Cutter.chunk`."""
    cutter = Cutter(job)
    for number, pictures, folder in chunks:
        done(number, cutter.chunk(number, pictures, folder, at))


def cut_in_workers(
    job: Job,
    chunks: Iterable[Chunk],
    workers: int,
    *,
    at: Callable[[str], None],
    done: Callable[[int, dict[str, Any]], None],
) -> None:
    """Cuts all chunks in `workers` fresh processes; `at` and `done` are called here.

    Raises:
        BadPicture: As `Cutter.chunk`.
        ResourceError: `HZ-U80`, a worker ended by itself or was killed; `HZ-F42`.
        RuntimeError: A layout or rule failed in a way it should not; the worker's stack trace is in the text.
    """
    pool = _Pool(job, workers)
    try:
        pool.run(deque(chunks), at, done)
    finally:
        pool.kill()


class _Worker:
    """One process and what it is doing."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, job, os.getpid()), daemon=True)
        resource_tracker.ensure_running()  # here, because it unblocks signals when it starts its own process
        # Blocked signals stay blocked in the child: Ctrl-C and SIGTERM reach the whole group, and only the parent is to answer.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so that the worker's death ends the pipe
        self.chunk: Chunk | None = None
        self.picture = ""


class _Pool:
    def __init__(self, job: Job, workers: int) -> None:
        self.workers: list[_Worker] = []
        try:
            for _ in range(workers):
                self.workers.append(_Worker(job))
        except BaseException:
            self.kill()
            raise

    def run(
        self, chunks: deque[Chunk], at: Callable[[str], None], done: Callable[[int, dict[str, Any]], None]
    ) -> None:
        """Hands out chunks until all are done; a worker gets its next one before the last is put in place."""
        while True:
            for worker in self.workers:
                if chunks and worker.chunk is None:
                    self._give(worker, chunks.popleft())
            busy = {w.connection: w for w in self.workers if w.chunk is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                self._hear(busy[connection], chunks, at, done)

    def _give(self, worker: _Worker, chunk: Chunk) -> None:
        worker.chunk, worker.picture = chunk, ""
        try:
            worker.connection.send(chunk)
        except OSError as error:
            raise self._dead(worker) from error

    def _hear(
        self,
        worker: _Worker,
        chunks: deque[Chunk],
        at: Callable[[str], None],
        done: Callable[[int, dict[str, Any]], None],
    ) -> None:
        try:
            word, value = worker.connection.recv()
        except (EOFError, OSError) as error:
            raise self._dead(worker) from error
        assert worker.chunk is not None
        if word == "at":
            worker.picture = value
            at(value)
        elif word == "done":
            number, worker.chunk = worker.chunk[0], None
            if chunks:
                self._give(worker, chunks.popleft())
            done(number, value)
        else:
            _fail(word, value, worker)

    def _dead(self, worker: _Worker) -> ResourceError:
        worker.process.join(5)
        code = worker.process.exitcode
        how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        others = [w.picture for w in self.workers if w is not worker and w.chunk is not None and w.picture]
        return ResourceError(
            "HZ-U80",
            "a worker process ended before its work",
            where=worker.picture or "before its first picture",
            expected="workers that live until they are told to end",
            got=how + (f"; in other workers at that moment: {', '.join(others)}" if others else ""),
            kept="all finished chunks; the same command continues",
            next_step="if memory ran out, use fewer workers; called from a script, prepare must stand below if __name__ == '__main__'",
        )

    def kill(self) -> None:
        """Ends all workers at once; what they have staged is not in its place and is removed by the next start."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.connection.close()
            worker.process.close()


def _work(connection: Connection, job: Job, parent: int) -> None:
    """What a worker does: one chunk after the other until the pipe ends."""
    _end_with(parent)
    try:
        cutter = Cutter(job)
        while True:
            number, pictures, folder = connection.recv()
            connection.send(
                ("done", cutter.chunk(number, pictures, folder, lambda n: connection.send(("at", n))))
            )
    except (EOFError, BrokenPipeError):
        return
    except BadPicture as bad:
        connection.send(("bad", (bad.picture, _fields(bad.error))))
    except HistozooError as error:
        connection.send(("stop", _fields(error)))
    except Exception:
        connection.send(("bug", traceback.format_exc()))


def _end_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent ends, however that ends; elsewhere the broken pipe does it a little later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)


def _fields(error: HistozooError) -> tuple[str, dict[str, str]]:
    """Returns an error as plain values: exceptions with keyword arguments do not survive pickling."""
    return type(error).__name__, {name: getattr(error, name) for name in _FIELDS}


def _error(value: tuple[str, dict[str, str]]) -> HistozooError:
    kind, fields = value
    made: HistozooError = getattr(errors, kind, HistozooError)(
        fields["code"], fields["what"], **{k: v for k, v in fields.items() if k not in ("code", "what")}
    )
    return made


def _fail(word: str, value: Any, worker: _Worker) -> NoReturn:
    if word == "bad":
        picture, error = value
        raise BadPicture(picture, _error(error))
    if word == "stop":
        raise _error(value)
    raise RuntimeError(f"the layout or the rule failed at {worker.picture or 'the start'}\n{value}")


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Answers SIGTERM as Ctrl-C inside the block; outside the main thread signals belong to others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
