"""Camelyon17-WILDS: `metadata.csv` and `patches/patient_<p>_node_<n>/patch_patient_<p>_node_<n>_x_<x>_y_<y>.png`, 96 x 96 px.

Columns of the table (p-lambda/wilds, loader and scripts that made it): an index, patient, node, x_coord, y_coord, tumor (0 or 1: tumour
within the central 32 px), slide, center (0 to 4), split (0 train, 1 validation within the training hospitals). The loader makes hospital
1 the validation and hospital 2 the test split, whatever the column says; so do we. The validation tiles of the training hospitals share
slides with the training tiles and are in no split here.

The group is the patient, which is stricter than the slide that WILDS scores by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.reading import Row, known, table
from histozoo.prepare.pictures import Layout, Picture
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

CLASSES = ("normal", "tumour")
COLUMNS = ("patient", "node", "x_coord", "y_coord", "tumor", "center", "split")
_HOSPITALS = {"1": "val", "2": "test"}


def pictures(source: Source) -> list[Picture]:
    """Lists the tiles in the order of the table.

    Raises:
        UsageError: `HZ-U73`, the table is missing or malformed, or a tile that it names is.
    """
    metadata = source.one("metadata.csv")
    root, names = metadata.removesuffix("metadata.csv"), frozenset(source.names())
    found = [_tile(row, root, metadata) for row in table(source, metadata, COLUMNS)]
    for tile in found:
        if tile.name not in names:
            raise malformed("a tile is missing", metadata, expected=tile.name, got="no such file")
    return found


def _tile(row: Row, root: str, metadata: str) -> Picture:
    # pandas wrote patients as text, 004, but a table that was saved again has 4.
    patient, node = row["patient"].zfill(3), row["node"]
    folder = f"patient_{patient}_node_{node}"
    name = f"patches/{folder}/patch_{folder}_x_{row['x_coord']}_y_{row['y_coord']}.png"
    label = CLASSES[int(known(row["tumor"], ("0", "1"), metadata))]
    centre = known(row["center"], ("0", "1", "2", "3", "4"), metadata)
    inside = "train" if known(row["split"], ("0", "1"), metadata) == "0" else ""
    split = _HOSPITALS.get(centre, inside)
    return Picture(name=root + name, group=f"patient_{patient}", label=label, split=split)


LAYOUT = Layout(pictures=pictures)
