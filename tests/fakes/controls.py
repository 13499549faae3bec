"""Tiles whose class is a colour and whose group is a pattern: a label can be learnt from the class, or remembered from the group."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from histozoo.evaluate.encoders import Encoder, digest
from histozoo.evaluate.labelled import LabelledTiles

PX, BLOCKS, EACH = 16, 8, 4
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
RED, BLUE = (40, 0, -40), (-40, 0, 40)


def drawn(*, groups: int, lot: int | None = None, torn: bool = False) -> LabelledTiles:
    """Returns red and blue tiles, every group of one colour and with a grey pattern of its own.

    Args:
        groups: How many groups, `EACH` tiles of each.
        lot: None: the label is the colour. A number: it draws which groups have which label, as many of each as there are colours.
        torn: Every tile is called a group of its own, so that folds and splits divide what belongs together.
    """
    random = np.random.default_rng(groups)
    colour_G = np.arange(groups) % 2
    label_G = colour_G if lot is None else np.random.default_rng([groups, lot]).permutation(colour_G)
    group_N = np.repeat(np.arange(groups), EACH)
    pattern_GHW = np.kron(random.uniform(-70, 70, (groups, BLOCKS, BLOCKS)), np.ones((PX // BLOCKS,) * 2))
    tint_N3 = np.array([RED, BLUE])[colour_G[group_N]]
    noise = random.normal(0, 8, (len(group_N), PX, PX, 3))
    tiles_NHWC = 128 + pattern_GHW[group_N][..., None] + tint_N3[:, None, None] + noise
    return LabelledTiles(
        task="drawn",
        lineage="drawn",
        classes=("red", "blue"),
        tiles_NHWC=tiles_NHWC.clip(0, 255).astype(np.uint8),
        labels_N=label_G[group_N].astype(np.int64),
        groups_N=np.array([f"g{i:03}" for i in (np.arange(len(group_N)) if torn else group_N)]),
        fingerprint=digest({"groups": groups, "lot": lot, "torn": torn}),
    )


class Net(nn.Module):
    """Two convolutions with batch norm; its features keep where in the tile something was."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.num_features = channels * BLOCKS**2
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=PX // BLOCKS, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.body(x_BCHW).flatten(1)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Its layers in their order, as timm tells them, for rates that fall with depth."""
        return {"stem": r"^body\.[01]\.", "blocks": r"^body\.(\d+)\."}


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().eval()


def encoder() -> Encoder:
    """The net with random weights, as a model of a comparison."""
    return Encoder(
        name="drawn",
        label="drawn",
        kind="random",
        sha256=digest({"net": "drawn"}),
        tile_px=PX,
        mean=MEAN,
        std=STD,
        mpp=None,
        lineages=frozenset(),
        complete=True,
        build=net,
    )
