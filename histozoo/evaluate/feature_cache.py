"""Features are computed once: kept on the disk under everything that decides them, and checked whenever they are read.

The name of a file is a hash of the encoder (weights and contract), the task's fingerprint, the tiles themselves, what is taken (pooled
features, or every block's), and the versions of this code, torch and timm. A file is written beside its place and renamed, so a killed
process leaves nothing half-written; two processes that want the same features wait for one another, so that they are computed once. A
file that is not what was written is not believed: `HZ-I66` is warned of, and it is computed again.

Shapes: N tiles, H W pixels, C channels, D features.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from histozoo import durable
from histozoo.errors import IntegrityError
from histozoo.evaluate.blocks import Level
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.labelled import LabelledTiles

VERSION = 1
"""Raise it when features of the same weights and tiles come out otherwise."""

_POOLED = "pooled"
_BATCH = 64  # fixed, since a kernel may give other last bits for other batches
_log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[np.float32]]


@overload
def cached_features(
    encoder: Encoder,
    labelled: LabelledTiles,
    *,
    cache: str | Path,
    blocks: Literal[False] = False,
    level: Level = "stage",
    device: str = "cpu",
) -> NDArray[np.float32]: ...


@overload
def cached_features(
    encoder: Encoder,
    labelled: LabelledTiles,
    *,
    cache: str | Path,
    blocks: Literal[True],
    level: Level = "stage",
    device: str = "cpu",
) -> Arrays: ...


def cached_features(
    encoder: Encoder,
    labelled: LabelledTiles,
    *,
    cache: str | Path,
    blocks: bool = False,
    level: Level = "stage",
    device: str = "cpu",
) -> NDArray[np.float32] | Arrays:
    """Returns the features of a task's tiles, `[N, D]`; with `blocks`, those of every block by name, as `blocks.block_features` does.

    Args:
        encoder: What computes them.
        labelled: The task, read at the encoder's tile size.
        cache: Folder of the files; made when absent.
        blocks: Whether every block's features are wanted.
        level: Which blocks: `stage` or `block`.
        device: Where the model runs; the processor and each kind of accelerator have files of their own.

    Raises:
        UsageError: `HZ-I67` tiles of another size, or no network to take blocks of; `HZ-I73` the model does not say what its blocks are.
        IntegrityError: `HZ-I62`, a feature is not finite: nothing is kept then; and what loading the weights raises.
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    encoder.check_size(labelled.tiles_NHWC)
    facts = key_facts(encoder, labelled, taken=level if blocks else _POOLED, device=device)
    path = Path(cache) / f"features-{_digest(facts)[:32]}.safetensors"

    def compute() -> Arrays:
        tiles_NHWC = labelled.tiles_NHWC
        if blocks:
            return encoder.block_features(tiles_NHWC, level=level, batch=_BATCH, device=device)
        return {_POOLED: encoder.features(tiles_NHWC, batch=_BATCH, device=device)}

    found = _read(path, facts)
    if found is None:
        with _alone(path):
            found = _read(path, facts)  # another process may have written it meanwhile
            if found is None:
                _log.info("%s: computing features of %d tiles", encoder.label, len(labelled.tiles_NHWC))
                found = compute()
                durable.remove_stale(path.parent)
                durable.write_bytes(path, _serialised(found, facts))
    return found if blocks else found[_POOLED]


def key_facts(
    encoder: Encoder, labelled: LabelledTiles, *, taken: str = _POOLED, device: str = "cpu"
) -> dict[str, Any]:
    """Returns everything that decides the features, as JSON types.

    The tiles are hashed themselves: a part of a task has the task's fingerprint and other rows.
    """
    import timm
    import torch

    tiles_NHWC, sha = labelled.tiles_NHWC, hashlib.sha256()
    for start in range(0, len(tiles_NHWC), 1024):
        sha.update(tiles_NHWC[start : start + 1024].tobytes())
    return {
        "encoder": encoder.facts(),
        "taken": taken,
        "task": labelled.task,
        "fingerprint": labelled.fingerprint,
        "tiles": {"sha256": sha.hexdigest(), "shape": list(tiles_NHWC.shape)},
        "device": device.partition(":")[0],
        "versions": {"features": VERSION, "torch": torch.__version__, "timm": timm.__version__},
    }


# -- files -----------------------------------------------------------------------------------------------------------------------------


def _serialised(arrays: Arrays, facts: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    order = json.dumps(list(arrays))  # the format sorts by name, blocks have an order
    told = {"made_of": facts, "order": order, "sha256": _checksum(arrays, order)}
    # One text, since the format's writer puts several in no fixed order.
    metadata = {"histozoo": json.dumps(told, sort_keys=True)}
    data: bytes = save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata=metadata)
    return data


def _read(path: Path, facts: Mapping[str, Any]) -> Arrays | None:
    """Returns the arrays of a file, or None where there is none or it cannot be believed."""
    if not path.exists():
        return None
    try:
        return verified(path, facts)
    except IntegrityError as error:
        warnings.warn(f"{error}", stacklevel=3)
        return None


def verified(path: Path, facts: Mapping[str, Any]) -> Arrays:
    """Reads a file of features and checks all of it.

    Args:
        path: The file.
        facts: What it must have been made of, from `key_facts`.

    Raises:
        IntegrityError: `HZ-I66`, it is damaged, or made of something else.
    """
    from safetensors import safe_open

    from histozoo.header import read_header

    try:
        told = json.loads(read_header(path).metadata["histozoo"])
        with safe_open(path, framework="np") as file:
            arrays: Arrays = {name: file.get_tensor(name) for name in json.loads(told["order"])}
            complete = set(arrays) == set(file.keys())
        good = complete and told["sha256"] == _checksum(arrays, told["order"])
        same = told["made_of"] == json.loads(json.dumps(facts))
    except Exception as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if not (good and same):
        raise _damaged(
            path, "other bytes than were written" if not good else "features made of something else"
        )
    return arrays


def _checksum(arrays: Arrays, order: str) -> str:
    sha = hashlib.sha256(order.encode())
    for name, array in arrays.items():
        sha.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _damaged(path: Path, got: str) -> IntegrityError:
    return IntegrityError(
        "HZ-I66",
        "a file of features is damaged",
        where=path,
        expected="the bytes that were written, and their checksum",
        got=got,
        kept="it is not used; the features are computed again",
        next_step="if it happens again, look at the disk",
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process computes the same file. The kernel drops the lock with its owner, so a killed one blocks nobody."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("a")
    except OSError as error:
        raise durable.resource_error(path, 0, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            _log.info("%s: no locks here; another process may compute the same", path.parent)
        yield


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
