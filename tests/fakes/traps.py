"""Drawn tasks with one thing wrong with them, or nothing: the class is a matter of shape unless a trap gives it away."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from histozoo.tasks import Task

Tile = NDArray[np.uint8]


@dataclass
class Drawn:
    """One tile to be written: how it looks, how it is stored, and its cells in the table."""

    tile: Tile
    options: dict[str, Any] = field(default_factory=lambda: {"format": "PNG"})
    cells: dict[str, str] = field(default_factory=dict)


Trap = Callable[[Drawn, int, np.random.Generator], Drawn]


def shapes(rng: np.random.Generator, px: int, label: int, tint: Sequence[float]) -> Tile:
    """Draws purple hooks on a textured ground, lying in any direction; those of class 0 bend left, others right.

    A mirror image has the same sizes, colours and edges as its original: there is nothing to tell the classes but the shape itself.
    """
    y, x = np.mgrid[0:px, 0:px] / px
    ground = np.kron(rng.normal(0, 9, (px // 4 + 1, px // 4 + 1)), np.ones((4, 4)))[:px, :px]
    tile = np.array([222.0, 180.0, 210.0]) + ground[..., None] + np.asarray(tint)
    for _ in range(7):
        (cy, cx), angle = rng.uniform(0.05, 0.95, 2), rng.uniform(0, np.pi)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        stem = (np.abs(along) < 0.14) & (np.abs(across) < 0.04)
        hook = (np.abs(along - 0.1) < 0.04) & (across > 0) & (across < 0.12)
        colour = np.array([110.0, 70.0, 150.0]) + rng.normal(0, 12) + np.asarray(tint)
        tile = np.where((stem | hook)[..., None], colour, tile)
    tile = np.clip(tile + rng.normal(0, 4, tile.shape), 0, 255).astype(np.uint8)
    return tile if label == 0 else tile[:, ::-1]


def task(name: str, classes: Sequence[str] = ("left", "right"), **changes: Any) -> Task:
    """Returns the declaration of a drawn task."""
    words = {"organ": "none", "stain": "drawn", "licence": "CC0-1.0", "source": "drawn", "citation": "none"}
    made = Task(
        name=name,
        kind="multiclass",
        classes=tuple(classes),
        lineage=name,
        folder=name,
        licence_checked=True,
        **words,
    )
    return replace(made, **changes)


def write(
    root: Path,
    name: str,
    trap: Trap = lambda drawn, label, rng: drawn,
    *,
    per_class: int = 36,
    groups: int = 12,
    px: int = 56,
    seed: int = 0,
    **changes: Any,
) -> Task:
    """Writes a drawn task below `root` and returns it. Each group has a tint of its own, which no class shares."""
    made, rng = task(name, **changes), np.random.default_rng([seed, *name.encode()])
    (root / made.folder / "images").mkdir(parents=True)
    tints = rng.normal(0, 6, (len(made.classes), groups, 3))
    rows = []
    for label, word in enumerate(made.classes):
        for i in range(per_class):
            tile = shapes(rng, px, label, tints[label, i % groups])
            drawn = trap(Drawn(tile, cells={"group": f"{name}-{word}-{i % groups}"}), label, rng)
            suffix = ".jpg" if drawn.options["format"] == "JPEG" else ".png"
            file = f"images/{re.sub('[^a-z]+', '', word)}_{i:03d}{suffix}"
            (root / made.folder / file).write_bytes(encoded(drawn))
            rows.append({"file": file, "label": word, "split": "", **drawn.cells})
    write_csv(root / made.folder / "labels.csv", rows)
    return made


def encoded(drawn: Drawn) -> bytes:
    """Returns the file of a tile."""
    data = io.BytesIO()
    Image.fromarray(drawn.tile).save(data, **drawn.options)
    return data.getvalue()


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Writes a table with the columns of the first row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


# -- traps: each gives class 1 away, and nothing else --


def size(drawn: Drawn, label: int, rng: np.random.Generator) -> Drawn:
    """Tiles of class 1 are a little larger, and no two alike."""
    side = int(rng.integers(64, 72) if label else rng.integers(54, 62))
    return replace(
        drawn, tile=np.asarray(Image.fromarray(drawn.tile).resize((side, side), Image.Resampling.BICUBIC))
    )


def encoding(drawn: Drawn, label: int, rng: np.random.Generator) -> Drawn:
    """All are JPEG, class 1 with another quality."""
    return replace(drawn, options={"format": "JPEG", "quality": 91 if label else 90, "subsampling": 0})


def tint(drawn: Drawn, label: int, rng: np.random.Generator) -> Drawn:
    """Class 1 is a little bluer."""
    shift = np.array([-14, 0, 14]) * label
    return replace(drawn, tile=np.clip(drawn.tile.astype(int) + shift, 0, 255).astype(np.uint8))


def sharpness(drawn: Drawn, label: int, rng: np.random.Generator) -> Drawn:
    """Class 1 was resampled."""
    blurred = Image.fromarray(drawn.tile).filter(ImageFilter.GaussianBlur(0.7))
    return replace(drawn, tile=np.asarray(blurred)) if label else drawn


def scale_bar(drawn: Drawn, label: int, rng: np.random.Generator) -> Drawn:
    """Class 1 has a black bar burnt in near its lower edge."""
    tile = drawn.tile.copy()
    if label:
        tile[-7:-5, -26:-4] = 0
    return replace(drawn, tile=tile)


def padding(drawn: Drawn, label: int, rng: np.random.Generator) -> Drawn:
    """Class 1 was turned and its edge filled by repeating lines."""
    tile = drawn.tile.copy()
    if label:
        tile[:4] = tile[4]
    return replace(drawn, tile=tile)
