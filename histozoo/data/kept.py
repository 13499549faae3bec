"""What was worked out once about a large file, kept beside the packed tiles for as long as the file is the same one."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo import durable
from histozoo.integrity import identity

_log = logging.getLogger(__name__)
_IDENTITY = "identity"


class Kept(NamedTuple):
    """Arrays, and whether the file is still the one that they were worked out from (device, inode, size, times)."""

    arrays: dict[str, NDArray[Any]]
    current: bool


def place(path: Path, cache: str | Path, rule: str) -> Path:
    """Returns where what `rule` works out about the file at `path` is kept."""
    key = hashlib.sha256(f"{Path(path).resolve()} {rule}".encode("utf-8", "surrogateescape")).hexdigest()
    return Path(cache) / f"{key[:32]}.npz"


def place_of(cache: str | Path, *told: object) -> Path:
    """Returns where what was worked out from what is `told` (fingerprints, settings) is kept; it holds for ever."""
    return Path(cache) / f"{hashlib.sha256(repr(told).encode()).hexdigest()[:32]}.npz"


def recall(where: Path, path: Path | None = None) -> Kept | None:
    """Returns what was kept; None where nothing was, or what was is damaged, which is logged.

    Args:
        where: Of `place` or `place_of`.
        path: The file that it is about; of `place_of`, none.
    """
    try:
        with where.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        known = arrays.pop(_IDENTITY).tolist()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged and is made again: %s", where, error)
        return None
    return Kept(arrays, path is None or known == identity(path))


def remember(where: Path, arrays: dict[str, NDArray[Any]], known: list[int] | None = None) -> None:
    """Keeps arrays; about a file, with what it was `known` as (`identity`) before it was read.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:
            np.savez(file, allow_pickle=False, **{_IDENTITY: np.array(known or [])}, **arrays)

    durable.write_with(where, write, needed=sum(a.nbytes for a in arrays.values()))
