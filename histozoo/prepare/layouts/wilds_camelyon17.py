"""Camelyon17-WILDS: `metadata.csv` and `patches/patient_<p>_node_<n>/patch_patient_<p>_node_<n>_x_<x>_y_<y>.png`, 96 x 96 px.

Columns of the table (p-lambda/wilds, loader and scripts that made it): an index, patient, node, x_coord, y_coord, tumor (0 or 1: tumour
within the central 32 px), slide, center (0 to 4), split (0 train, 1 validation within the training hospitals). The loader makes hospital
1 the validation and hospital 2 the test split, whatever the column says; so do we. The validation tiles of the training hospitals share
slides with the training tiles and are in no split here.

The group is the patient, which is stricter than the slide that WILDS scores by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import Row, keyed, known, table
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
    rows = keyed(table(source, metadata, COLUMNS), lambda row: root + _file(row), metadata)

    def tile(name: str) -> Picture:
        if name not in names:
            raise malformed("a tile is missing", metadata, expected=name, got="no such file")
        return _tile(name, rows[name], metadata)

    return each(source, rows, tile)


def _patient(row: Row) -> str:
    # pandas wrote patients as text, 004, but a table that was saved again has 4.
    return f"patient_{row['patient'].zfill(3)}"


def _file(row: Row) -> str:
    folder = f"{_patient(row)}_node_{row['node']}"
    return f"patches/{folder}/patch_{folder}_x_{row['x_coord']}_y_{row['y_coord']}.png"


def _tile(name: str, row: Row, metadata: str) -> Picture:
    label = CLASSES[int(known(row["tumor"], ("0", "1"), metadata))]
    centre = known(row["center"], ("0", "1", "2", "3", "4"), metadata)
    inside = "train" if known(row["split"], ("0", "1"), metadata) == "0" else ""
    split = _HOSPITALS.get(centre, inside)
    return Picture(name=name, group=_patient(row), label=label, split=split)


LAYOUT = Layout(pictures=pictures)
