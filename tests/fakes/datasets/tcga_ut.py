"""A tiny TCGA-UT: JPEG images in folders of cancer type, resolution and slide; resolution 5 shows the same places and must not be read."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import picture

SLIDES = {
    "TCGA-06-5411-01Z-00-DX1": "Glioblastoma_multiforme",
    "TCGA-06-5411-01Z-00-DX2": "Glioblastoma_multiforme",
    "TCGA-FS-A1Z7-06Z-00-DX7": "Skin_Cutaneous_Melanoma",
}


def write(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """Writes two images of each slide at two resolutions; returns the class of each slide."""
    for number, (slide, word) in enumerate(SLIDES.items()):
        for resolution in (0, 5):
            for i in range(2):
                picture(folder / word / str(resolution) / slide / f"{i}_8_521.jpg", seed + number + i, 64, 64)
    return SLIDES
