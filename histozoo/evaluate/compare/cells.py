"""One encoder on one task by one protocol: its predictions, kept in a file that says what made them.

Shapes: N tiles predicted, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import __version__, durable
from histozoo.errors import IntegrityError
from histozoo.evaluate import feature_cache, logistic
from histozoo.evaluate.encoders import Encoder, digest
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.protocol import Predictions

FORM = 1
"""Form of the files; another one is measured again."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was predicted, with what is needed to score it.

    Args:
        model: Column that it belongs to; several cells of one task share it where random weights are averaged over seeds.
        encoder: The encoder's name, as it was typed.
        task: Name of the task.
        lineage: Its lineage.
        classes: Names of the classes.
        protocol: Label of the job, such as `knn` or `finetune_full@10%`.
        seed: Of the fits.
        seen: Whether the encoder was trained on this lineage; None where nobody knows.
        fingerprint: Of the task's data.
        labels_N: Class indices of the rows predicted.
        groups_N: Their groups.
        scores_NK: float32 scores.
        probabilities: Whether the scores are probabilities.
        fold_N: The fold that held each row out, all one for a split; None counts as a split.
        facts: What else is worth telling, as JSON types: settings chosen, seconds, spread over episodes.
    """

    model: str
    encoder: str
    task: str
    lineage: str
    classes: tuple[str, ...]
    protocol: str
    seed: int
    seen: bool | None
    fingerprint: str
    labels_N: NDArray[np.int64]
    groups_N: NDArray[Any]
    scores_NK: NDArray[np.float32]
    probabilities: bool
    fold_N: NDArray[np.int64] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def solver(protocol: str) -> dict[str, int]:
    """Returns what a file's name says of the classifier's solver, where it has changed since the first."""
    return {"logistic": logistic.VERSION} if protocol == "logistic" else {}


def key(encoder: Encoder, labelled: LabelledTiles, *, protocol: str, seed: int, settings: Any = None) -> str:
    """Returns the name of the cell's file: everything that decides the predictions, as 32 hexadecimal digits.

    Args:
        encoder: What is measured.
        labelled: On what.
        protocol: By what.
        seed: Of the fits.
        settings: What else decides them, as JSON types.
    """
    rows = hashlib.sha256(labelled.labels_N.tobytes())
    rows.update("\n".join(map(str, labelled.groups_N)).encode())
    facts = {
        "form": FORM,
        "versions": {"histozoo": __version__, "features": feature_cache.VERSION},
        "encoder": encoder.facts(),
        "task": labelled.task,
        "fingerprint": labelled.fingerprint,
        "rows": rows.hexdigest(),
        "protocol": protocol,
        "settings": settings,
        "seed": seed,
        **solver(protocol),
    }
    return digest(facts)[:32]


def cell(
    encoder: Encoder,
    labelled: LabelledTiles,
    found: Predictions,
    *,
    model: str,
    protocol: str,
    seed: int,
    facts: Mapping[str, Any],
) -> Cell:
    """Returns the cell of predictions; rows in ascending order, so that cells of one task are of the same rows."""
    order = np.argsort(found.rows_N)
    rows_N = found.rows_N[order]
    return Cell(
        model=model,
        encoder=encoder.name,
        task=labelled.task,
        lineage=labelled.lineage,
        classes=labelled.classes,
        protocol=protocol,
        seed=seed,
        seen=encoder.saw(labelled.lineage),
        fingerprint=labelled.fingerprint,
        labels_N=labelled.labels_N[rows_N],
        groups_N=labelled.groups_N[rows_N],
        scores_NK=found.scores_NK[order],
        probabilities=found.probabilities,
        fold_N=found.fold_N[order],
        facts=facts,
    )


# -- files -----------------------------------------------------------------------------------------------------------------------------


def save(path: Path, found: Predictions, facts: Mapping[str, Any]) -> None:
    """Writes predictions durably; `facts` must be JSON types."""
    from safetensors.numpy import save as serialise

    arrays: dict[str, NDArray[Any]] = {
        "rows_N": np.ascontiguousarray(found.rows_N, dtype=np.int64),
        "guesses_N": np.ascontiguousarray(found.guesses_N, dtype=np.int64),
        "fold_N": np.ascontiguousarray(found.fold_N, dtype=np.int64),
        "scores_NK": np.ascontiguousarray(found.scores_NK, dtype=np.float32),
    }
    said = {
        "probabilities": found.probabilities,
        "c_F": list(found.c_F),
        "facts": dict(facts),
        "key": path.stem,
    }
    text = json.dumps(said, sort_keys=True)
    durable.write_bytes(path, serialise(arrays, metadata={"histozoo": text, "sha256": _hash(arrays, text)}))


def read(path: Path) -> tuple[Predictions, dict[str, Any]]:
    """Reads what `save` wrote.

    Raises:
        IntegrityError: `HZ-I75`, the file is not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        whole = _hash(arrays, metadata["histozoo"]) == metadata["sha256"]
        said = json.loads(metadata["histozoo"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if not whole:
        raise damaged(path, "another sha256 than it was written with")
    if said["key"] != path.stem:
        raise damaged(path, f"the file {said['key']} under another name")
    found = Predictions(c_F=tuple(said["c_F"]), probabilities=said["probabilities"], **arrays)
    return found, said["facts"]


def damaged(path: Path, got: str) -> IntegrityError:
    """Returns the error `HZ-I75` for a kept file that is not as it was written."""
    return IntegrityError(
        "HZ-I75",
        "a stored prediction is damaged",
        where=path,
        got=got,
        kept="every other stored prediction",
        next_step="delete this file and give the same command again: only this one is measured anew",
    )


def _hash(arrays: Mapping[str, NDArray[Any]], text: str) -> str:
    found = hashlib.sha256(f"{text}\n".encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()
