"""A tiny PCam: gzipped HDF5 files of tiles and labels, and a table per split."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from tests.fakes.datasets.pieces import csv_file, pixels

COLUMNS = ("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")


def write(folder: Path, *, seed: int = 0, n: int = 3) -> dict[str, list[int]]:
    """Writes `n` rows of each split; returns the labels of each word in the file names."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number, word in enumerate(("train", "valid", "test")):
        stem = f"camelyonpatch_level_2_split_{word}"
        y_N = np.array([(row + number) % 2 for row in range(n)], np.uint8)
        x_NHWC = np.stack([pixels(seed + row, 96, 96) for row in range(n)])
        for part, array in (("x", x_NHWC), ("y", y_N.reshape(n, 1, 1, 1))):
            plain = folder / f"{stem}_{part}.h5"
            with h5py.File(plain, "w") as file:
                file.create_dataset(part, data=array)
            (folder / f"{stem}_{part}.h5.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        rows = [
            (i, 10 * i, 20 * i, bool(y), bool(y), f"camelyon16_{word}_{i // 2}") for i, y in enumerate(y_N)
        ]
        csv_file(folder / f"{stem}_meta.csv", [COLUMNS, *rows])
        labels[word] = [int(y) for y in y_N]
    return labels
