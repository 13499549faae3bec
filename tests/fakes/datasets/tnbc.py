"""A tiny TNBC: RGBA pictures with an opaque alpha channel, and masks of 0 and 255."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import instances, mask, picture

PX = 128
"""Side of a picture; real ones have 512 px."""
PICTURES = ("01_1", "01_2", "02_1", "11_3")


def write(folder: Path, *, seed: int = 0) -> tuple[str, ...]:
    """Writes four pictures of three patients, each with a nucleus over the lower right 64 px; returns their stems."""
    root = folder / "TNBC_NucleiSegmentation"
    for number, stem in enumerate(PICTURES):
        patient = stem.split("_")[0]
        picture(root / f"Slide_{patient}/{stem}.png", seed + number, PX, PX, mode="RGBA")
        mask(root / f"GT_{patient}/{stem}.png", 255 * instances(PX, PX, [(64, 64, 128, 128)]))
    return PICTURES
