"""TUPAC16's four archives and the one of the test images, which numbers its patients from 01 again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image

PARTS = {"01/01": 1, "01/02": 1, "14/01": 1, "15/03": 2, "73/01": 3}
"""Images and the archive they lie in."""

ROWS_COLUMNS = {"01/01": ((700, 600), (0, 1999)), "73/01": ((5000, 100),)}
"""Row and column of each mitosis; other images have no file."""


def write(folder: Path, *, seed: int = 0, size: Size = (20, 20)) -> dict[str, Fact]:
    """Writes the archives; returns what is known of each image."""
    rng = np.random.default_rng(seed)
    facts = {}
    for place, part in PARTS.items():
        archive = f"mitoses_image_data_part_{part}.zip"
        _add(folder / archive, f"{place}.tif", _tiff(rng, size))
        facts[f"{archive}/{place}.tif"] = Fact(f"patient-{place[:2]}")
    for place, points in ROWS_COLUMNS.items():
        text = "".join(f"{row},{column}\n" for row, column in points)
        _add(folder / "mitoses_ground_truth.zip", f"mitoses_ground_truth/{place}.csv", text.encode())
    _add(folder / "mitoses-test-image-data.zip", "01/01.tif", _tiff(rng, size))
    return facts


def _add(archive: Path, name: str, data: bytes) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, data)


def _tiff(rng: np.random.Generator, size: Size) -> bytes:
    buffer = io.BytesIO()
    image(rng, size).save(buffer, "TIFF")
    return buffer.getvalue()
