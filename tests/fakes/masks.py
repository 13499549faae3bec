"""Drawn pictures with masks: dark discs on a light ground, a set of them in memory or as the folder that a table lies in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo.evaluate.segment.pictures import Pictures


def drawing(
    seed: int, *, height: int = 48, width: int = 56, discs: int = 4, radius: int = 6
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Returns an RGB picture and the mask that numbers its discs, which do not touch."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), dtype=np.int32)
    for n in range(1, discs + 1):
        cy, cx = random.integers(radius, [height - radius, width - radius])
        near = (y - cy) ** 2 + (x - cx) ** 2 <= (radius + 2) ** 2
        if not mask[near].any():
            mask[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = n
    colours = np.where(mask[..., None] > 0, (90, 40, 120), (235, 200, 220))
    noisy = colours + random.integers(-15, 16, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8), mask


def drawn(
    name: str = "drawn", *, groups: int = 6, each: int = 2, first: int = 0, lineage: str = ""
) -> Pictures:
    """Returns a set of drawings, `each` of every group."""
    count = groups * each
    made = [drawing(first + i) for i in range(count)]
    return Pictures(
        name=name,
        lineage=lineage or name,
        files=tuple(f"{name}/{i}.png" for i in range(count)),
        images=tuple(image for image, _ in made),
        masks=tuple(mask for _, mask in made),
        groups_N=np.array([f"patient{i // each}" for i in range(count)]),
    )


def write(folder: Path, pictures: Pictures) -> None:
    """Writes a set as `labels.csv`, images and 16-bit masks."""
    lines = ["file,label,group,mask"]
    for i, (image, mask, group) in enumerate(
        zip(pictures.images, pictures.masks, pictures.groups_N, strict=True)
    ):
        for kind, array in (("images", image), ("masks", mask.astype(np.uint16))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{i}.png")
        lines.append(f"images/{i}.png,one,{group},masks/{i}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
