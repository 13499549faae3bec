"""BACH's archive: images on both sides of borders of the published split, the table of labels, and a whole slide beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save

FACTS = {
    "Benign/b001.tif": Fact("benign-run00", "benign", "train"),
    "Benign/b041.tif": Fact("benign-run00", "benign", "train"),
    "Benign/b042.tif": Fact("benign-run01", "benign", "val"),
    "Benign/b060.tif": Fact("benign-run02", "benign", "train"),
    "InSitu/is039.tif": Fact("in_situ-run04", "in_situ", "train"),
    "InSitu/is040.tif": Fact("in_situ-run05", "in_situ", "val"),
    "Invasive/iv001.tif": Fact("invasive-run06", "invasive", "train"),
    "Invasive/iv100.tif": Fact("invasive-run10", "invasive", "train"),
    "Normal/n046.tif": Fact("normal-run11", "normal", "val"),
    "Normal/n100.tif": Fact("normal-run12", "normal", "train"),
}


def write(folder: Path, *, seed: int = 0, size: Size = (64, 48)) -> dict[str, Fact]:
    """Writes the images; returns what is known of each."""
    rng = np.random.default_rng(seed)
    top = folder / "ICIAR2018_BACH_Challenge"
    for name in FACTS:
        save(top / "Photos" / name, image(rng, size))
    lines = [f"{name.rpartition('/')[2]},{name.partition('/')[0]}\n" for name in FACTS]
    (top / "Photos/microscopy_ground_truth.csv").write_text("".join(lines))
    (top / "WSI/gt_thumbnails").mkdir(parents=True)
    (top / "WSI/A01.svs").write_bytes(b"not read")
    return {f"ICIAR2018_BACH_Challenge/Photos/{name}": fact for name, fact in FACTS.items()}
