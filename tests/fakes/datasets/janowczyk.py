"""Use cases 1 and 2: images with masks; of nuclei one image has no mask and is not part of the set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save, save_mask


def write_nuclei(
    folder: Path, *, seed: int = 0, size: Size = (40, 40), block: Size = (8, 8)
) -> dict[str, Fact]:
    """Writes use case 1; each mask has one block of nuclei in its upper left corner."""
    facts = {}
    for stem, patient in (
        ("12750_500_f00003", "12750"),
        ("12750_500_f00011", "12750"),
        ("8863_500_f00020", "8863"),
    ):
        _pair(folder / f"{stem}_original.tif", folder / f"{stem}_mask.png", seed, size, block)
        facts[f"{stem}_original.tif"] = Fact(patient)
    save(folder / "9001_500_f00001_original.tif", image(np.random.default_rng(seed), size))
    return facts


def write_epithelium(
    folder: Path, *, seed: int = 0, size: Size = (40, 40), block: Size = (8, 8), beside: bool = False
) -> dict[str, Fact]:
    """Writes use case 2, masks in their own folder or beside the images; each mask has one block in its upper left corner."""
    facts = {}
    for stem in ("10253_500_f00020", "12880_500_f00077"):
        mask = folder / ("." if beside else "masks") / f"{stem}_mask.png"
        _pair(folder / f"{stem}.tif", mask, seed, size, block)
        facts[f"{stem}.tif"] = Fact(stem.partition("_")[0])
    return facts


def _pair(picture: Path, mask: Path, seed: int, size: Size, block: Size) -> None:
    save(picture, image(np.random.default_rng([seed, len(picture.name)]), size))
    mask_HW = np.zeros((size[1], size[0]), bool)
    mask_HW[: block[1], : block[0]] = True
    save_mask(mask, mask_HW)
