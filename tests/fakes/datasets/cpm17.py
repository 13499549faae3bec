"""A tiny CPM17: PNG pictures of two sizes and MATLAB files with `inst_map`; both splits begin at image_00."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import instances, mat_file, picture

SIZES = {"train/image_00": (128, 128), "train/image_01": (150, 130), "test/image_00": (128, 192)}


def write(folder: Path, *, seed: int = 0) -> dict[str, tuple[int, int]]:
    """Writes three pictures with a nucleus over columns 0 to 31 and rows 0 to 15 each; returns the sizes."""
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        split, stem = name.split("/")
        picture(folder / f"cpm17/{split}/Images/{stem}.png", seed + number, width, height)
        picture(folder / f"cpm17/{split}/Overlay/{stem}.png", seed + number, width, height)
        mat_file(
            folder / f"cpm17/{split}/Labels/{stem}.mat", inst_map=instances(width, height, [(0, 0, 32, 16)])
        )
    return SIZES
