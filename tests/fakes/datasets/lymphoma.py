"""The lymphoma archive: three folders, a junk file among them, and the two slides that may be one case."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, image, save

FACTS = {
    "CLL/sj-03-476_001.tif": Fact("sj-03-476", "CLL"),
    "CLL/sj-03-476_002.tif": Fact("sj-03-476", "CLL"),
    "FL/sj-05-588-R1_001.tif": Fact("sj-05-588-R1", "FL"),
    "FL/sj-05-6124-R3_001.tif": Fact("sj-05-6124-R3+R4", "FL"),
    "FL/sj-05-6124-R4_001.tif": Fact("sj-05-6124-R3+R4", "FL"),
    "MCL/sj-04-3077-R2_002.tif": Fact("sj-04-3077-R2", "MCL"),
}


def write(folder: Path, *, seed: int = 0, size: Size = (69, 52)) -> dict[str, Fact]:
    """Writes the images; returns what is known of each."""
    rng = np.random.default_rng(seed)
    for name in FACTS:
        save(folder / name, image(rng, size))
    (folder / "FL/.DS_Store").write_bytes(b"\0")
    return dict(FACTS)
