"""The processes of torchrun on one study: the first decides, measures and writes; the others train when it calls, and wait.

They speak through the store at which torchrun lets them meet, beside the collectives of a training, which give up after half an hour:
whoever waits asks again and again, however long the first one measures. The first to fail says so there, and its text is the only one.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from histozoo import run_folder
from histozoo.errors import HistozooError, Interrupted, ResourceError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_PAUSE = 0.2
"""Seconds between two questions to the store."""

_FAILED, _GONE = "failed", "gone"
_PLACES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


class Crew:
    """The processes of one start; made without arguments it is one process, which has nobody to call.

    Args:
        store: Where they meet.
        rank: Which of them this is.
        size: How many there are.
    """

    def __init__(self, store: Store | None = None, *, rank: int = 0, size: int = 1) -> None:
        self._store, self._rank, self.size = store, rank, size
        self._called = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that decides."""
        return self._rank == 0

    # -- what the first one says -----------------------------------------------------------------------------------------------------------

    def call_to_train(self, **places: str | None) -> None:
        """Has the others begin `pretrain.run` with these arguments; the first one must do the same now."""
        self._call("train", places)

    def part(self) -> None:
        """Ends training: all leave their group, and the first is one process from here on, whatever it measures with."""
        if self.size > 1:
            self._call("part", None)
            run_folder.leave_group()
            for name in _PLACES:
                os.environ.pop(name, None)

    def dismiss(self, result: bool) -> None:
        """Lets the others go with the result of `follow`, and waits until all have heard it."""
        if self._store is not None:
            self._call("end", result)
            while self._store.add(_GONE, 0) < self.size - 1:
                self._rest()

    def _call(self, word: str, what: Any) -> None:
        if self._store is not None:
            self._store.set(self._next(), json.dumps([word, what]))

    # -- what the others do ----------------------------------------------------------------------------------------------------------------

    def follow(self) -> bool:
        """Does what the first process calls for until it dismisses; returns what it says then."""
        from histozoo import pretrain

        for word, what in self._calls():
            if word == "train":
                pretrain.run(**what)
            elif word == "part":
                run_folder.leave_group()
            else:
                return bool(what)
        return False

    def _calls(self) -> Iterator[tuple[str, Any]]:
        while self._store is not None:
            key = self._next()
            while not self._store.check([key]):
                self._rest()
            word, what = json.loads(self._store.get(key))
            if word == "end":
                self._store.add(_GONE, 1)
            yield word, what

    def _next(self) -> str:
        self._called += 1
        return f"call {self._called}"

    def _rest(self) -> None:
        if self._store is not None and self._store.check([_FAILED]):
            raise SystemExit(1)  # `joined` knows the code
        time.sleep(_PAUSE)

    # -- failing ---------------------------------------------------------------------------------------------------------------------------

    def fail(self, code: int) -> int | None:
        """Tells the others that this process fails; returns None, or the exit code of another one that has failed before."""
        if self._store is None:
            return None
        said = f"{self._rank} {code}"
        first = self._store.compare_set(_FAILED, "", said).decode()
        return None if first == said else int(first.split()[1])


@contextmanager
def joined() -> Iterator[Crew]:
    """Gives the processes of this start, and ends all of them with one error where one of them fails.

    Raises:
        SystemExit: Another process has failed and tells why.
        ResourceError: `HZ-F46`, another process was killed or cannot be reached.
    """
    crew = _meet()
    try:
        yield crew
    except BaseException as error:
        if crew.size == 1:
            raise
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # of torchrun, which ends all where one ends; that is no news
        told = _as_lost(error)
        try:
            code = crew.fail(_exit_code(told or error))
        except Exception as silent:  # the store is no more, and whoever held it
            told, code = _lost(silent), None
        if code is not None:
            raise SystemExit(code) from None
        if told is not None:
            raise told from error
        raise


def _meet() -> Crew:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Crew()
    from torch.distributed import distributed_c10d as dist  # here, since it takes seconds to import
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    return Crew(dist.PrefixStore("study", store), rank=rank, size=size)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.exit_code
    return error.exit_code if isinstance(error, HistozooError) else 1


def _as_lost(error: BaseException) -> ResourceError | None:
    """Returns `HZ-F46` for what a collective or the store raises when the other side is no more."""
    import torch.distributed as dist

    words = str(error).lower()
    lost = isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in words or "closed by peer" in words)
    )
    return _lost(error) if lost and not isinstance(error, HistozooError) else None


def _lost(error: BaseException) -> ResourceError:
    return ResourceError(
        "HZ-F46",
        "another process of this start was killed or cannot be reached",
        got=str(error).partition("\n")[0],
        kept="finished trainings and whole checkpoints",
        next_step="see what torchrun says of it (memory, a signal); the same command goes on",
    )
