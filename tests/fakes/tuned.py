"""Coloured tiles, a net of two convolutions, and a fine-tuning of it that takes half a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from histozoo.data.splits import Split
from histozoo.evaluate.finetune.run import finetune
from histozoo.evaluate.finetune.settings import FinetuneSettings
from histozoo.evaluate.finetune.store import Finetuned
from histozoo.evaluate.labelled import LabelledTiles

PX, GROUPS, EACH = 16, 36, 4
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
QUICK = FinetuneSettings(
    steps=40,
    batch_size=16,
    lrs=(3e-3,),
    warmup_steps=4,
    eval_every=10,
    patience=0,
    rank=2,
    alpha=4.0,
    colour=0.0,
    stain=0.0,
)


class TinyNet(nn.Module):
    """Two convolutions with batch norm and dropout, `num_features` pooled features."""

    def __init__(self, features: int = 8) -> None:
        super().__init__()
        self.num_features = features
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.1),  # makes the training depend on torch's generator
            nn.Conv2d(8, features, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.body(x_BCHW).mean((2, 3))


def tiny_net(seed: int = 0, **changes: Any) -> TinyNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyNet(**changes).eval()


def coloured(*, shuffled: bool = False, seed: int = 0, groups: int = GROUPS) -> LabelledTiles:
    """Two classes, one more red and one more blue, four noisy tiles of one class in each group; or labels that mean nothing."""
    random = np.random.default_rng(seed)
    class_G = np.arange(groups) % 2
    labels_N = np.repeat(class_G, EACH)
    base_N3 = np.where(labels_N[:, None] == 0, [180, 120, 110], [110, 120, 180])
    tiles_NHWC = np.clip(base_N3[:, None, None, :] + random.normal(0, 25, (len(labels_N), PX, PX, 3)), 0, 255)
    told_N = np.repeat(random.permutation(class_G), EACH) if shuffled else labels_N
    return LabelledTiles(
        task="drawn",
        lineage="drawn",
        classes=("red", "blue"),
        tiles_NHWC=tiles_NHWC.astype(np.uint8),
        labels_N=told_N.astype(np.int64),
        groups_N=np.array([f"g{i:03}" for i in np.repeat(np.arange(groups), EACH)]),
        fingerprint=f"{seed}{shuffled}{groups}",
    )


def parts(labelled: LabelledTiles) -> Split:
    """Every third pair of groups validates, every third is tested."""
    third_N = (np.arange(len(labelled.labels_N)) // (2 * EACH)) % 3
    train, val, test = (np.flatnonzero(third_N == s) for s in range(3))
    return Split(train=train, val=val, test=test, seed=0)


TASK = coloured()


def tuned(folder: Path, *, module: nn.Module | None = None, **changes: Any) -> Finetuned:
    torch.set_num_threads(1)
    keys = {f.name for f in dataclasses.fields(FinetuneSettings)}
    settings = dataclasses.replace(QUICK, **{k: changes.pop(k) for k in list(changes) if k in keys})
    labelled = changes.pop("labelled", TASK)
    given: dict[str, Any] = {"mode": "full", "seed": 0, **STATISTICS, "settings": settings, **changes}
    split = given.pop("split", None) or parts(labelled)
    return finetune(module or tiny_net(), labelled, split, folder=folder, device="cpu", **given)
