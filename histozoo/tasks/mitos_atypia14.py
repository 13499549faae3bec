"""Mitosis, look-alike or neither (MITOS-ATYPIA 14), breast, H&E.

Read in Mormont 2020 (tables of tasks and of detection sets; the author's thesis, appendix B): 64,873 tiles (40,364 train, 12,799 val,
11,710 test) of 22 slides, 323 px, ten shifted tiles per annotated object, three classes. Names and coordinates of the authors' own tiles,
as a public repository lists some, show a grid without overlap (multiples of 323) over frames that were put together again; here every 40x
frame is a picture of its own, as published, so the number of `nothing` tiles is lower and the total is not the paper's.

Read in public repositories that prepare the set: folders and names, two CSV files for each 40x frame, x,y,confidence in that order,
frames of 1539 x 1376 px (Aperio, 0.2455 micrometres per pixel) and 1663 x 1485 px (Hamamatsu, 0.2274). From memory and not verified:
which five slides are the test set (06, 08, 09, 13, 16; the eleven others twice make the paper's 22). The licence was not found.
"""

from __future__ import annotations

from histozoo.prepare.layouts.mitos_atypia14 import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Around
from histozoo.tasks.base import Task

TASK = Task(
    name="mitos_atypia14",
    kind="multiclass",
    folder="mitos_atypia14",
    classes=("mitosis", "non_mitosis", "nothing"),
    not_reproduced=(
        64_873,
        (
            "the paper put frames together before it laid its grid; here every 40x frame is a picture of its own. How many frames there "
            "are was not found, so nothing is compared"
        ),
    ),
    organ="breast",
    stain="H&E",
    licence="unknown",
    licence_note="the terms of the challenge site were not read",
    source="https://mitos-atypia-14.grand-challenge.org/",
    citation="L. Roux et al., MITOS & ATYPIA: detection of mitosis and evaluation of nuclear atypia score, ICPR 2014 contest",
    lineage="mitos_atypia14",
    preparation=Preparation(
        layout=LAYOUT,
        rule=Around(
            px=323,
            shifts=10,
            kinds={"mitosis": "mitosis", "non_mitosis": "non_mitosis"},
            nothing="nothing",
            stride=323,
        ),
        parts=("Training Aperio and Training Hamamatsu, one archive per slide: A03 ... A18, H03 ... H18",),
    ),
    notes=(
        "40x frames of 11 training slides, each scanned by two scanners; 0.2455 (Aperio) or 0.2274 (Hamamatsu) micrometres per pixel, so "
        "mpp is None. Groups are slides, both scans together. The test slides have no published annotation and are left out."
    ),
    traps=(
        "A03 and H03 are one slide scanned twice; the paper counts 22 slides and may have put the two scans on different sides.",
        "The scanner differs in size and tint of the frames.",
        "Shifted tiles of one object overlap: split by group, never by tile.",
    ),
)
