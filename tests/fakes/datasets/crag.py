"""A tiny CRAG: PNG pictures of two sizes, masks that number glands, overlays, and a mask without a picture as in version 1."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import instances, mask, picture

SIZES = {"train/train_1": (300, 260), "train/train_2": (256, 256), "test/test_1": (270, 300)}


def write(folder: Path, *, seed: int = 0, masks: str = "Annotation") -> dict[str, tuple[int, int]]:
    """Writes three pictures with a gland over the upper left 128 px each; returns the sizes."""
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        split, stem = name.split("/")
        for part in ("Images", "Overlay"):
            picture(folder / f"CRAG/{split}/{part}/{stem}.png", seed + number, width, height)
        mask(folder / f"CRAG/{split}/{masks}/{stem}.png", instances(width, height, [(0, 0, 128, 128)]))
    mask(folder / f"CRAG/test/{masks}/test_41.png", instances(32, 32, []))
    return SIZES
