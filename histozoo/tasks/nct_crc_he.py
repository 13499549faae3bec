"""Nine tissues of the large bowel: NCT-CRC-HE-100K with CRC-VAL-HE-7K as its test split, H&E.

Read: Zenodo record 1214456 as quoted by public readers (sizes, patients, licence, normalisation); kaiko-ai/eva (folders, classes, 100,000
and 7,180 tiles). From memory: the class counts, which add up to 107,180 and of which NORM 741 and TUM 1,233 of the test split were found;
where the slides come from.
"""

from __future__ import annotations

from histozoo.prepare.layouts.nct_crc_he import CLASSES, LAYOUT
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task

TASK = Task(
    name="nct_crc_he",
    kind="multiclass",
    folder="nct_crc_he",
    classes=CLASSES,
    counts=(11745, 11413, 11851, 12191, 9931, 14128, 9504, 10867, 15550),
    split_counts={"train": 100_000, "test": 7_180},
    organ="colon and rectum",
    stain="H&E",
    mpp=0.5,
    licence="CC-BY-4.0",
    licence_note="read in public texts that quote the Zenodo record",
    licence_checked=True,
    source="https://doi.org/10.5281/zenodo.1214456",
    hub="1aurent/NCT-CRC-HE",
    citation=(
        "J. N. Kather, N. Halama, A. Marx, 100,000 histological images of human colorectal cancer and healthy tissue, Zenodo (2018); "
        "J. N. Kather et al., Predicting survival from colorectal cancer histology slides using deep learning, PLOS Medicine 16 (2019) "
        "e1002730"
    ),
    lineage="nct_crc_he",
    traps=(
        (
            "Colour and JPEG traces tell the class: three mean colours reach 50 %, a colour histogram 82 % (Ignatov and Malivenko, "
            "arXiv 2409.11546)."
        ),
        "All tiles of the training set are Macenko-normalised; some lost their dynamic range in it.",
        (
            "Patients are not named: the 100,000 tiles cannot be divided without dividing some of the 86 slides. Only train against "
            "test is clean."
        ),
        "The test split is 50 other patients; whether it is another centre is told differently by different sources.",
        "Kather's 5,000 textures of 2016 are from the same group of institutes (Mannheim and Heidelberg); patients may be shared.",
        "Normal tissue comes in part from stomach specimens (from memory).",
    ),
    notes=(
        "224 x 224 px TIFF. ADI adipose, BACK background, DEB debris, LYM lymphocytes, MUC mucus, MUS muscle, NORM mucosa, STR stroma, "
        "TUM tumour."
    ),
    preparation=Preparation(
        layout=LAYOUT,
        rule=Whole(),
        pictures=107_180,
        parts=("NCT-CRC-HE-100K.zip", "CRC-VAL-HE-7K.zip"),
    ),
)
