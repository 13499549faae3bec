"""TCGA-UT, histology images from uniform tumour regions: `<cancer type>/<resolution>/<TCGA barcode>/<region>_<number>_<px>.jpg`.

All images are 256 x 256 px; the folders 0 to 5 hold the same places at 0.5, 0.6 ... 1.0 micrometres per pixel (from memory of the Zenodo
record 5889558; a survey of datasets gives 128 to 256 micrometres per side, which agrees). Resolution 0 is read. Barcode and file name are
those that the authors' copy on the Hub shows as keys (TCGA-FS-A1Z7-06Z-00-DX7/0_8_521); the words of the classes are those of its labels
and of public readers. The group is the TCGA patient, the first twelve characters of the barcode.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import known, some
from histozoo.prepare.pictures import Layout, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

CLASSES = (
    "Adrenocortical_carcinoma",
    "Bladder_Urothelial_Carcinoma",
    "Brain_Lower_Grade_Glioma",
    "Breast_invasive_carcinoma",
    "Cervical_squamous_cell_carcinoma_and_endocervical_adenocarcinoma",
    "Cholangiocarcinoma",
    "Colon_adenocarcinoma",
    "Esophageal_carcinoma",
    "Glioblastoma_multiforme",
    "Head_and_Neck_squamous_cell_carcinoma",
    "Kidney_Chromophobe",
    "Kidney_renal_clear_cell_carcinoma",
    "Kidney_renal_papillary_cell_carcinoma",
    "Liver_hepatocellular_carcinoma",
    "Lung_adenocarcinoma",
    "Lung_squamous_cell_carcinoma",
    "Lymphoid_Neoplasm_Diffuse_Large_B-cell_Lymphoma",
    "Mesothelioma",
    "Ovarian_serous_cystadenocarcinoma",
    "Pancreatic_adenocarcinoma",
    "Pheochromocytoma_and_Paraganglioma",
    "Prostate_adenocarcinoma",
    "Rectum_adenocarcinoma",
    "Sarcoma",
    "Skin_Cutaneous_Melanoma",
    "Stomach_adenocarcinoma",
    "Testicular_Germ_Cell_Tumors",
    "Thymoma",
    "Thyroid_carcinoma",
    "Uterine_Carcinosarcoma",
    "Uterine_Corpus_Endometrial_Carcinoma",
    "Uveal_Melanoma",
)
PATIENT_CHARACTERS = 12


def pictures(source: Source) -> list[Picture]:
    """Lists the images of resolution 0.

    Raises:
        UsageError: `HZ-U73`, there are none, or a folder is no class.
    """
    names = some(source.matching("*/0/TCGA-*/*.jpg"), "<cancer type>/0/TCGA-*/*.jpg", source.where)
    return each(source, names, _picture)


def _picture(name: str) -> Picture:
    folders = PurePosixPath(name).parents
    return Picture(
        name=name,
        group=folders[0].name[:PATIENT_CHARACTERS],
        label=known(folders[2].name, CLASSES, name),
    )


LAYOUT = Layout(pictures=pictures)
