"""The datasets of the multi-task paper: archives that are not as published are refused, and the file is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Size
from tests.fakes.datasets import crchistophenotypes, tupac16_mitosis
from tests.fakes.datasets.drawing import save_mask
from tests.fakes.datasets.paper import CASES, cut, listed, marked


@pytest.mark.parametrize(
    ("name", "lost", "named"),
    [
        ("warwick_crc", "CRCHistoPhenotypes_2016_04_28/Classification/img2/img2_others.mat", "img2.bmp"),
        ("janowczyk1_nuclei", "8863_500_f00020_original.tif", "8863_500_f00020_mask.png"),
        ("janowczyk2_epithelium", "12880_500_f00077.tif", "12880_500_f00077_mask.png"),
        ("janowczyk5_mitosis", "02_01_pc.png", "02_01.tif"),
        ("mitos_atypia14", "Training Hamamatsu/H03/mitosis/H03_00Aa_not_mitosis.csv", "H03_00Aa.tiff"),
        ("camelyon16", "training/lesion_annotations.zip", "tumor_001.tif"),
        ("tupac16_mitosis", "mitoses_image_data_part_3.zip", "73/01.csv"),
    ],
)
def test_a_missing_partner_is_refused_and_the_file_that_lacks_it_named(
    name: str, lost: str, named: str, tmp_path: Path
) -> None:
    CASES[name].write(tmp_path / "data")
    (tmp_path / "data" / lost).unlink()
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed(name, tmp_path / "data", tmp_path)
    assert str(caught.value.where).endswith(named)


def test_tupac_without_its_ground_truth_is_refused(tmp_path: Path) -> None:
    tupac16_mitosis.write(tmp_path / "data")
    (tmp_path / "data/mitoses_ground_truth.zip").unlink()
    with pytest.raises(UsageError, match="HZ-U73"):
        listed("tupac16_mitosis", tmp_path / "data", tmp_path)


def test_an_image_that_is_in_two_parts_of_tupac_is_refused(tmp_path: Path) -> None:
    tupac16_mitosis.write(tmp_path / "data")
    shutil.copy(
        tmp_path / "data/mitoses_image_data_part_3.zip", tmp_path / "data/mitoses_image_data_part_4.zip"
    )
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed("tupac16_mitosis", tmp_path / "data", tmp_path)
    assert "part_4.zip/73/01.tif" in str(caught.value.where)


def test_centres_of_an_unknown_class_are_refused(tmp_path: Path) -> None:
    crchistophenotypes.write(tmp_path / "data")
    at = tmp_path / "data/CRCHistoPhenotypes_2016_04_28/Classification/img1"
    shutil.copy(at / "img1_others.mat", at / "img1_plasma.mat")
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        listed("warwick_crc", tmp_path / "data", tmp_path)
    assert "img1_plasma.mat" in str(caught.value.where)


@pytest.mark.parametrize(
    ("name", "stem", "mask", "size"),
    [
        ("janowczyk1_nuclei", "8863_500_f00020_original", "8863_500_f00020_mask.png", (40, 40)),
        ("janowczyk2_epithelium", "10253_500_f00020", "masks/10253_500_f00020_mask.png", (40, 40)),
        ("janowczyk5_mitosis", "01_01", "01_01_pc.png", (2000, 2000)),
    ],
)
def test_a_mask_of_another_size_is_refused(
    name: str, stem: str, mask: str, size: Size, tmp_path: Path
) -> None:
    CASES[name].write(tmp_path / "data")
    save_mask(tmp_path / "data" / mask, np.zeros((39, 40), bool))
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        marked(name, stem, size, tmp_path)
    assert mask in str(caught.value.where)


@pytest.mark.parametrize(
    ("name", "stem", "table", "text"),
    [
        ("mitos_atypia14", "A03_00Ab", "Training Aperio/A03/mitosis/A03_00Ab_mitosis.csv", "12,x,0.5\n"),
        ("mitos_atypia14", "A03_00Ab", "Training Aperio/A03/mitosis/A03_00Ab_mitosis.csv", "12,13\n"),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(
    name: str, stem: str, table: str, text: str, tmp_path: Path
) -> None:
    CASES[name].write(tmp_path / "data")
    (tmp_path / "data" / table).write_text(text)
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        marked(name, stem, (1539, 1376), tmp_path)
    assert str(caught.value.where).endswith(f"{Path(table).name}, line 1")


def test_a_nucleus_off_its_image_is_refused_by_the_rule(tmp_path: Path) -> None:
    crchistophenotypes.write(tmp_path / "data")
    marks = marked("warwick_crc", "img1", (500, 500), tmp_path)
    with pytest.raises(UsageError, match="HZ-U71"):
        cut("warwick_crc", (400, 400), marks)
