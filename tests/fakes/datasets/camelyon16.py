"""CAMELYON16: a normal and a tumour slide, the withdrawn one, outlines, a test slide and a mask, as two hosts have them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tests.fakes.datasets.drawing import Fact, Size, save_slide

TUMOUR, HOLE = (
    ((100, 100), (612, 100), (612, 612), (100, 612)),
    ((100, 100), (356, 100), (356, 612), (100, 612)),
)
"""Outline of the tumour and of the hole in it, x and y."""


def write(folder: Path, *, seed: int = 0, size: Size = (1024, 768), flat: bool = False) -> dict[str, Fact]:
    """Writes the slides, the left half tissue and the right half glass; returns what is known of each training slide."""
    rng = np.random.default_rng(seed)
    pixels_HWC = np.full((size[1], size[0], 3), 245, np.uint8)
    pixels_HWC[:, : size[0] // 2] = (190, 110, 170)
    places = {
        "training/normal/normal_001.tif": "images/normal_001.tif",
        "training/normal/normal_086.tif": "images/normal_086.tif",
        "training/tumor/tumor_001.tif": "images/Tumor_001.tif",
        "testing/images/test_001.tif": "images/test_001.tif",
    }
    for name, other in places.items():
        path = folder / (other if flat else name)
        save_slide(path, pixels_HWC + rng.integers(0, 9, pixels_HWC.shape, dtype=np.uint8))
    text = asap(("Tumor", TUMOUR), ("_2", HOLE))
    if flat:
        (folder / "annotations").mkdir()
        (folder / "annotations/Tumor_001.xml").write_text(text)
        (folder / "masks").mkdir()
        (folder / "masks/Tumor_001_mask.tif").write_bytes(b"not read")
        return {"images/Tumor_001.tif": Fact("tumor_001"), "images/normal_001.tif": Fact("normal_001")}
    with zipfile.ZipFile(folder / "training/lesion_annotations.zip", "w") as archive:
        archive.writestr("tumor_001.xml", text)
    return {
        "training/normal/normal_001.tif": Fact("normal_001"),
        "training/tumor/tumor_001.tif": Fact("tumor_001"),
    }


def asap(*outlines: tuple[str, tuple[tuple[int, int], ...]]) -> str:
    """Returns an ASAP file with these outlines, each with its group."""
    found = [_outline(k, group, points) for k, (group, points) in enumerate(outlines)]
    groups = '<Group Name="Tumor" PartOfGroup="None" Color="#F4FA58"><Attributes /></Group>'
    return (
        '<?xml version="1.0"?>\n<ASAP_Annotations>\n<Annotations>\n'
        + "\n".join(found)
        + f"\n</Annotations>\n<AnnotationGroups>{groups}</AnnotationGroups>\n</ASAP_Annotations>\n"
    )


def _outline(number: int, group: str, points: tuple[tuple[int, int], ...]) -> str:
    corners = "".join(f'<Coordinate Order="{k}" X="{x}" Y="{y}" />' for k, (x, y) in enumerate(points))
    at = f'Name="_{number}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58"'
    return f"<Annotation {at}><Coordinates>{corners}</Coordinates></Annotation>"
