"""A tiny GlaS: BMP pictures, masks that number glands, and `Grade.csv` with its blanks behind the commas."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import Rectangle, instances, mask, picture

WIDTH, HEIGHT = 280, 150
"""Size of most pictures; real ones have 775 x 522 px."""
GLANDS: dict[str, list[Rectangle]] = {
    "train_1": [(0, 0, 128, 13), (140, 0, 150, 10)],
    "train_2": [],
    "testA_1": [(0, 0, 64, 128), (64, 0, 128, 128)],
    "testB_1": [(0, 0, 128, 12)],
}
GRADES = {
    "testA_1": ("4", " benign", " adenomatous"),
    "testB_1": ("5", " malignant", " poorly differentiated"),
    "train_1": ("4", " benign", " healthy"),
    "train_2": ("16", " malignant", " moderately differentiated"),
}


def write(folder: Path, *, seed: int = 0) -> dict[str, tuple[str, str, str]]:
    """Writes four pictures; returns patient and grades of each in the order of the table."""
    root = folder / "Warwick QU Dataset (Released 2016_07_08)"
    for number, (name, glands) in enumerate(GLANDS.items()):
        picture(root / f"{name}.bmp", seed + number, WIDTH, HEIGHT)
        mask(root / f"{name}_anno.bmp", instances(WIDTH, HEIGHT, glands))
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    lines += [",".join((name, *cells)) for name, cells in GRADES.items()]
    (root / "Grade.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return GRADES
