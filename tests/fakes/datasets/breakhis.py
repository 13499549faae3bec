"""BreakHis as its archive is laid out: four slides, two magnifications, and the patient who is there under two diagnoses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save

SLIDES = {
    "benign/SOB/adenosis/SOB_B_A_14-22549AB": Fact("14-22549AB", "benign"),
    "benign/SOB/phyllodes_tumor/SOB_B_PT_14-21998AB": Fact("14-21998AB", "benign"),
    "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-13412": Fact("14-13412", "malignant"),
    "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-13412": Fact("14-13412", "malignant"),
}


def write(folder: Path, *, seed: int = 0, size: Size = (35, 23)) -> dict[str, Fact]:
    """Writes one image of each slide and magnification; returns what is known of each."""
    rng = np.random.default_rng(seed)
    facts = {}
    for slide, fact in SLIDES.items():
        for magnification in (40, 400):
            stem = "-".join(slide.rpartition("/")[2].rsplit("_", 1))
            path = (
                f"BreaKHis_v1/histology_slides/breast/{slide}/{magnification}X/{stem}-{magnification}-007.png"
            )
            save(folder / path, image(rng, size))
            facts[path] = fact
    (folder / "BreaKHis_v1/README.txt").write_text("BreaKHis")
    return facts
