"""Encoders whose features are known, drawn tasks, and cells of predictions, for comparisons of models that take no time."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from histozoo.evaluate.compare import measure, plan
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.encoders import Encoder, digest
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.tasks import TASKS
from tests.fakes.tasks import drawn_task

GROUPS, EACH, PX = 20, 2, 8


def labelled(name: str, *, lineage: str = "", groups: int = GROUPS, seed: int = 0) -> LabelledTiles:
    """Two classes; every group has one; the first pixel of a tile tells its class, all others are noise."""
    random = np.random.default_rng([seed, *name.encode()])
    group_N = np.repeat(np.arange(groups), EACH)
    tiles_NHWC = random.integers(0, 256, (len(group_N), PX, PX, 3), dtype=np.uint8)
    tiles_NHWC[:, 0, 0] = (255 * (group_N % 2))[:, None]
    return LabelledTiles(
        task=name,
        lineage=lineage or f"{name}_slides",
        classes=("a", "b"),
        tiles_NHWC=tiles_NHWC,
        labels_N=(group_N % 2).astype(np.int64),
        groups_N=np.array([f"g{g:03}" for g in group_N]),
        fingerprint=hashlib.sha256(f"{name}{seed}{groups}".encode()).hexdigest(),
    )


class Known(Encoder):
    """An encoder whose features come from pixels: `perfect` knows the class, `noise` nothing."""

    def features(self, tiles_NHWC: Any, *, batch: int = 128, device: str = "cpu") -> Any:
        pixels = tiles_NHWC.reshape(len(tiles_NHWC), -1).astype(np.float32) / 255
        if self.label.startswith("perfect"):
            return np.concatenate([pixels[:, :1] - 0.5, 1e-3 * pixels[:, 3:6]], 1)
        return pixels[:, 12:18] - 0.5


def known(name: str, *, saw: Sequence[str] = ()) -> Known:
    return Known(
        name=name,
        label=name.removeprefix("random:"),
        kind="entry",
        sha256=digest({"name": name}),
        tile_px=PX,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        mpp=None,
        lineages=frozenset(saw),
        complete=not name.startswith("unclear"),
        build=None,
    )


def install(monkeypatch: pytest.MonkeyPatch, tasks: dict[str, LabelledTiles], **saw: Sequence[str]) -> None:
    """Puts drawn tasks and known encoders in the place of those of the disk; `saw` are lineages that encoders were trained on."""
    for name, found in tasks.items():
        declared = drawn_task(name, found.classes, lineage=found.lineage)
        monkeypatch.setitem(TASKS, name, declared)
    monkeypatch.setattr(type(declared), "require", lambda self, root=None: root)
    monkeypatch.setattr(measure, "GROUPS_PX", PX)
    monkeypatch.setattr(measure, "read", lambda name, **_: tasks[name])
    monkeypatch.setattr(plan, "encoder", lambda name: known(name, saw=saw.get(name, ())))


def cell(model: str, task: str, scores_N: Any, **changes: Any) -> Cell:
    """A cell of two classes; `scores_N` are probabilities of class 1."""
    of = labelled(task)
    p_N = np.asarray(scores_N, dtype=np.float32)
    found = Cell(
        model=model,
        encoder=model,
        task=task,
        lineage=of.lineage,
        classes=of.classes,
        protocol="knn",
        seed=0,
        seen=False,
        fingerprint=of.fingerprint,
        labels_N=of.labels_N,
        groups_N=of.groups_N,
        scores_NK=np.stack([1 - p_N, p_N], 1),
        probabilities=True,
    )
    return dataclasses.replace(found, **changes)


def guesses(task: str, right: float, *, seed: int = 0) -> Any:
    """Probabilities of class 1 that are on the right side for so large a share of the tiles."""
    random, labels_N = np.random.default_rng([seed, 7]), labelled(task).labels_N
    hit_N = random.random(len(labels_N)) < right
    sure_N = random.uniform(0.5, 1, len(labels_N))
    return np.where(hit_N == (labels_N == 1), sure_N, 1 - sure_N)
