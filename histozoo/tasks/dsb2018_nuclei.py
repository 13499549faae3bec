"""Nuclei or none in tiles of the stained tissue of the 2018 Data Science Bowl: instance masks turned into classes.

The rule is that of "Janowczyk1" in Mormont, Geurts, Maree (IEEE JBHI 25(2), 2021): present where nuclei cover more than a twentieth of the
tile, each tile half a tile from the next. Its tiles of 250 px would hold nuclei everywhere, and these images of 320 x 256 px give one:
64 px is about three nuclei wide (seen in the masks; the magnification is not published) and leaves a quarter of the tiles without them.
The counts were computed from the 107 masks with that rule; they are not published.
"""

from __future__ import annotations

from histozoo.prepare.layouts.tile_table import EachPicture, TileTable
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Presence
from histozoo.tasks.base import Task

TASK = Task(
    name="dsb2018_nuclei",
    kind="multiclass",
    folder="dsb2018_nuclei",
    classes=("no_nuclei", "nuclei"),
    counts=(1754, 4987),
    organ="several, not named",
    stain="H&E and other purple stains",
    licence="CC0-1.0",
    licence_note="read in the repository's README",
    licence_checked=True,
    source="https://bbbc.broadinstitute.org/BBBC038",
    citation=(
        "J. C. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, "
        "Nature Methods 16 (2019) 1247-1253"
    ),
    lineage="dsb2018",
    preparation=Preparation(
        layout=TileTable(folder="dsb2018_stained", instances="nucleus", groups=EachPicture()).layout(),
        rule=Presence(px=64, stride=32, kind="nucleus", threshold=0.05, present="nuclei", absent="no_nuclei"),
        format="jpeg",
        pictures=107,
        parts=("dsb2018_stained",),
    ),
    traps=(
        "slides are not known and many images are parts of the same few: a split by image leaks the look of a slide",
        "two stains with different shares of empty tissue",
    ),
    notes=(
        "Only the colour images of stage 1. Slides and patients are not known: each image is a group of its own. The magnification is "
        "not known."
    ),
)
