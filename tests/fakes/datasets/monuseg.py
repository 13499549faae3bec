"""A tiny MoNuSeg 2018: TIFF pictures and ImageScope XML, in folders for training and side by side for the test."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import Rectangle, picture

PX = 128
"""Side of a picture; real ones have 1,000 px."""
TRAIN = {
    "TCGA-18-5592-01Z-00-DX1": [(0, 0, 32, 32), (70, 0, 74, 4)],
    "TCGA-G9-6336-01Z-00-DX1": [],
}
TEST: dict[str, list[Rectangle]] = {"TCGA-2Z-A9J9-01A-01-TS1": [(64, 64, 128, 128)]}


def write(folder: Path, *, seed: int = 0) -> None:
    """Writes two training pictures and one of the test; a nucleus is a rectangle."""
    train, test = folder / "MoNuSeg 2018 Training Data", folder / "MoNuSegTestData"
    test.mkdir(parents=True)
    (train / "Annotations").mkdir(parents=True)
    for number, (name, nuclei) in enumerate(TRAIN.items()):
        picture(train / f"Tissue Images/{name}.tif", seed + number, PX, PX)
        (train / f"Annotations/{name}.xml").write_text(_xml(nuclei), encoding="utf-8")
    for name, nuclei in TEST.items():
        picture(test / f"{name}.tif", seed + 9, PX, PX)
        (test / f"{name}.xml").write_text(_xml(nuclei), encoding="utf-8")


def _xml(nuclei: list[Rectangle]) -> str:
    regions = "".join(_region(number, nucleus) for number, nucleus in enumerate(nuclei, 1))
    head = '<?xml version="1.0" encoding="utf-8"?>\n<Annotations MicronsPerPixel="0.252000">'
    layer = '<Annotation Id="1" Name="" ReadOnly="0" LineColor="65280"><Attributes/>'
    return f"{head}{layer}<Regions><RegionAttributeHeaders/>{regions}</Regions></Annotation></Annotations>"


def _region(number: int, nucleus: Rectangle) -> str:
    left, top, right, bottom = nucleus
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    vertices = "".join(f'<Vertex X="{x:.6f}" Y="{y:.6f}" Z="0"/>' for x, y in corners)
    return f'<Region Id="{number}" Type="0" NegativeROA="0"><Vertices>{vertices}</Vertices></Region>'
