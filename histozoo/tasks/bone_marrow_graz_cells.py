"""Cell or none in tiles of human bone marrow from Graz, H&E: marked nuclei turned into classes.

The rule is that of "Warwick CRC" in Mormont, Geurts, Maree (IEEE JBHI 25(2), 2021): a grid without overlap, present where the centre of a
marked nucleus lies in the tile. Its tiles of 100 px would hold one nearly everywhere: 64 px, about 10 micrometres, is one cell wide and
leaves two fifths without. The counts were computed from the 4205 points with that rule; they are not published.

The laboratory (P. Kainz, Medical University of Graz), organ, stain and objective are those of the 1291 cells of P. Kainz, H. Burgsteiner,
M. Asslaber, H. Ahammer, "Training echo state networks for rotation-invariant bone marrow cell classification", Neural Computing and
Applications 28 (2017) 1277-1292. Whether slides are shared is not published; they are taken to be, so the lineage is one.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tile_table import TileTable
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Contains
from histozoo.tasks.base import Task

TASK = Task(
    name="bone_marrow_graz_cells",
    kind="multiclass",
    folder="bone_marrow_graz_cells",
    classes=("no_cell", "cell"),
    counts=(1522, 2042),
    organ="bone marrow",
    stain="H&E",
    mpp=0.155,
    licence="unknown",
    licence_note="the README permits non-commercial use of the code; whether it means the images is not said",
    source="https://github.com/pkainz/MICCAI2015",
    citation=(
        "P. Kainz, M. Urschler, S. Schulter, P. Wohlhart, V. Lepetit, You should use regression to detect cells, MICCAI 2015, 276-283"
    ),
    lineage="bone_marrow_graz",
    preparation=Preparation(
        layout=TileTable(folder="bone_marrow_graz", points="cell").layout(),
        rule=Contains(px=64, stride=64, kinds=("cell",), present="cell", absent="no_cell"),
        format="jpeg",
        pictures=44,
        parts=("bone_marrow_graz",),
    ),
    traps=(
        "a nucleus that is cut by the edge of a tile counts only in the tile that holds its centre",
        "the images are those of MBM of Count-ception",
    ),
    notes=(
        "Quadrants of 600 px of eleven images. 0.155 micrometres per pixel is from memory of the paper. Groups are slides, of eight "
        "patients. Stroma, fat and unmarked cells are the class without a cell."
    ),
)
