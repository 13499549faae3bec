"""A tiny BRACS: regions of different sizes in class folders, and the workbook that names the patients; patient 67 is in two splits."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import picture, workbook

CLASSES = ("0_N", "1_PB", "2_UDH", "3_FEA", "4_ADH", "5_DCIS", "6_IC")
PATIENTS = {"BRACS_1003": 85, "BRACS_1228": 67, "BRACS_271": 67.0, "BRACS_744": 12}
"""Patient of each slide; a number that Excel wrote with a point among them."""
_SLIDES = {"train": ("BRACS_1003", "BRACS_1228"), "val": ("BRACS_271",), "test": ("BRACS_744",)}


def write(folder: Path, *, seed: int = 0) -> dict[str, int]:
    """Writes one region of each class per slide; returns the regions of each split."""
    for split, slides in _SLIDES.items():
        for number, word in enumerate(CLASSES):
            for slide in slides:
                name = f"{slide}_{word.split('_')[1]}_{number + 1}.png"
                path = folder / "BRACS_RoI/latest_version" / split / word / name
                picture(path, seed + number, 40 + 8 * number, 32 + 4 * number)
    header = ("WSI Filename", "Patient Id", "RoI ", "WSI label", "Set")
    rows = [(slide, patient, "", "PB", "Training") for slide, patient in PATIENTS.items()]
    other = {"WSI_with_RoI_Distribution": [("WSI Filename", "N"), ("BRACS_1003", 3)]}
    workbook(folder / "BRACS.xlsx", {**other, "WSI_Information": [header, *rows]})
    return {split: len(slides) * len(CLASSES) for split, slides in _SLIDES.items()}
