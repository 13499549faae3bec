"""Tiles that say their number, so that a test can tell which one it was given."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.fakes.archives import tar_bytes


def png(number: int, px: int = 8) -> bytes:
    """Returns a plain tile whose red and green are its number."""
    file = io.BytesIO()
    Image.new("RGB", (px, px), (number // 256, number % 256, 7)).save(file, "PNG")
    return file.getvalue()


def number_of(sample: Mapping[str, Any]) -> int:
    """Returns the number of the tile of a sample."""
    red, green, _ = sample["tiles"][2, 2].tolist()
    return 256 * red + green


def write_tars(folder: Path, sizes: list[int], *, first: int = 0) -> Path:
    """Writes a WebDataset of shards of these sizes, each tile with a label and a caption beside it."""
    folder.mkdir(parents=True)
    number = first
    for shard, size in enumerate(sizes):
        members = {}
        for n in range(number, number + size):
            members |= {f"{n:05d}.png": png(n), f"{n:05d}.cls": b"1", f"{n:05d}.json": b"{}"}
        (folder / f"{shard:05d}.tar").write_bytes(tar_bytes(members))
        number += size
    return folder
