"""Benign or malignant breast tumours (BreakHis), H&E, at four magnifications; held out in the paper.

Read in Mormont 2020: kept aside for the final validation, measured on the five official folds, separately at 40x, 100x, 200x and 400x.
Read at the authors' site: 7,909 images of 82 patients, 700 x 460 px, PNG, 2,480 benign and 5,429 malignant; 1,995 at 40x, 2,081 at 100x,
2,013 at 200x and 1,820 at 400x (its 652 benign at 40x is a slip for 625, or the total is wrong). Read in the authors' script of the
folds: all folders and names, and the lists `dsfold1.txt` to `dsfold5.txt` with name, magnification, fold and train or test. Read in a
public repository that checked those lists: patient 14-13412 occurs as SOB_M_DC and as SOB_M_LC. From memory and not verified: CC BY 4.0;
0.49, 0.20, 0.10 and 0.05 micrometres per pixel.
"""

from __future__ import annotations

from histozoo.prepare.layouts.breakhis import LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="breakhis",
    kind="multiclass",
    folder="breakhis",
    classes=("benign", "malignant"),
    counts=(2480, 5429),
    total=7909,
    organ="breast",
    stain="H&E",
    licence="CC-BY-4.0",
    licence_note="from memory",
    source="http://web.inf.ufpr.br/vri/databases-software/breast-cancer-histopathological-database-breakhis",
    citation=(
        "F. A. Spanhol et al., A dataset for breast cancer histopathological image classification, IEEE Trans. Biomed. Eng. 63 "
        "(2016) 1455-1462"
    ),
    lineage="breakhis",
    preparation=Preparation(
        layout=LAYOUT, rule=Whole(), format="keep", pictures=7909, parts=("BreaKHis_v1.tar.gz",)
    ),
    notes=(
        "All four magnifications together; the second last part of a name in the column `source` is it, and results are compared at one of "
        "them. Groups "
        "are patients. The five official folds (mkfold.tar.gz, dsfold1.txt to dsfold5.txt) each divide all patients in train and "
        "test; they overlap, so "
        "they are no single split and the column stays empty. Held out: never in a corpus that a result on it is reported for."
    ),
    traps=(
        "Patient 14-13412 is in the archive under two diagnoses (ductal and lobular): one patient here, two in the official folds.",
        "The same field was photographed at four magnifications: a split by image shows it on both sides.",
        "Some images are 700 x 456 or 700 x 459 px.",
    ),
)
