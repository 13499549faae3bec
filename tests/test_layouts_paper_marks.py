"""The datasets of the multi-task paper: what is marked on a picture, and how many tiles the paper's rules make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Marks, Size
from histozoo.prepare.plan import Cut
from histozoo.prepare.sources import open_source
from tests.fakes.datasets import (
    camelyon16,
    crchistophenotypes,
    janowczyk,
    janowczyk_mitosis,
    mitos_atypia14,
    tupac16_mitosis,
)
from tests.fakes.datasets.paper import CASES, cut, listed, marked, opened, tally

# -- tiles of an image with a label --


@pytest.mark.parametrize(
    ("name", "size", "tiles", "pictures"),
    [
        ("bach_micro", (2048, 1536), 12, 400),
        ("janowczyk7_lymphoma", (1388, 1040), 6, 374),
        ("umcm_kather2016", (150, 150), 1, 5000),
        ("janowczyk6_idc", (50, 50), 1, 277524),
        ("bone_marrow_kainz", (64, 64), 1, 1291),
        ("breakhis", (700, 460), 1, 7909),
    ],
)
def test_labelled_pictures_give_the_published_number_of_tiles(
    name: str, size: Size, tiles: int, pictures: int
) -> None:
    task = CASES[name].task
    assert CASES[name].plan.pictures == pictures
    assert tally(cut(name, size, Marks(label="x"))) == {"x": tiles}
    assert task.total == tiles * pictures


# -- areas --


@pytest.mark.parametrize(
    ("name", "size", "columns", "pictures"),
    [("janowczyk1_nuclei", (2000, 2000), 15, 141), ("janowczyk2_epithelium", (1000, 1000), 9, 42)],
)
def test_areas_give_the_published_number_of_tiles(
    name: str, size: Size, columns: int, pictures: int, tmp_path: Path
) -> None:
    CASES[name].write(tmp_path / "data", size=size, block=size)
    source, found = opened(name, tmp_path)
    marks = CASES[name].layout.marks(source, next(iter(found.values())), size)
    assert tally(cut(name, size, marks)) == {"present": columns**2}
    assert CASES[name].task.total == columns**2 * pictures


@pytest.mark.parametrize(
    ("block", "present"),
    # Tiles of 250 px at 0, 125 and 250; 5 % of one are 3,125 px, so 125 x 25 px in it are not enough and 126 x 25 px are.
    [
        ((125, 25), []),
        ((126, 25), [0]),
        ((125, 26), [0]),
        ((250, 25), [0]),
        ((251, 25), [0, 1]),
        ((375, 25), [0, 1]),
        ((376, 25), [0, 1, 2]),
    ],
)
def test_more_than_five_percent_of_nuclei_make_a_tile_present(
    block: Size, present: list[int], tmp_path: Path
) -> None:
    size = (500, 250)
    janowczyk.write_nuclei(tmp_path / "data", size=size, block=block)
    marks = marked("janowczyk1_nuclei", "8863_500_f00020_original", size, tmp_path)
    found = [one.label == "present" for one in cut("janowczyk1_nuclei", size, marks)]
    assert [k for k, yes in enumerate(found) if yes] == present and len(found) == 3


def test_masks_of_epithelium_may_lie_beside_the_images(tmp_path: Path) -> None:
    facts = janowczyk.write_epithelium(tmp_path / "data", beside=True)
    assert listed("janowczyk2_epithelium", tmp_path / "data", tmp_path) == facts
    marks = marked("janowczyk2_epithelium", "10253_500_f00020", (40, 40), tmp_path)
    assert marks.areas["epithelium"].holds(7, 7) and not marks.areas["epithelium"].holds(8, 7)


def test_tumour_is_outlines_less_holes_and_glass_is_left_out(tmp_path: Path) -> None:
    size = (1536, 768)
    camelyon16.write(tmp_path / "data", size=size)
    marks = marked("camelyon16", "tumor_001", size, tmp_path)
    tumour, tissue = marks.areas["tumour"], marks.tissue
    assert tumour.fraction((0, 0, 768, 768)) == pytest.approx(256 * 512 / 768**2)
    assert tumour.holds(400, 300) and not tumour.holds(200, 300) and not tumour.holds(700, 300)
    assert (
        tissue is not None
        and tissue.fraction((0, 0, 768, 768)) == 1.0
        and tissue.fraction((768, 0, 1536, 768)) == 0.0
    )
    assert cut("camelyon16", size, marks) == [Cut((0, 0, 768, 768), "tumour")]
    normal = marked("camelyon16", "normal_001", size, tmp_path)
    assert cut("camelyon16", size, normal) == [Cut((0, 0, 768, 768), "normal")]
    plan = CASES["camelyon16"].plan
    assert (plan.resize_px, plan.cap, plan.format) == (384, 1000, "jpeg")


def test_the_other_host_of_camelyon16_is_read_the_same(tmp_path: Path) -> None:
    facts = camelyon16.write(tmp_path / "data", flat=True)
    assert listed("camelyon16", tmp_path / "data", tmp_path) == facts


def test_outlines_of_an_unknown_group_are_refused(tmp_path: Path) -> None:
    camelyon16.write(tmp_path / "data", flat=True)
    text = camelyon16.asap(("Benign", camelyon16.TUMOUR))
    (tmp_path / "data/annotations/Tumor_001.xml").write_text(text)
    with pytest.raises(UsageError, match="HZ-U73") as caught:
        marked("camelyon16", "Tumor_001", (1024, 768), tmp_path)
    assert "Tumor_001.xml" in str(caught.value.where) and "Benign" in str(caught.value.got)


# -- things --


@pytest.mark.parametrize("stem", crchistophenotypes.CENTRES)
def test_tiles_with_an_inflammatory_nucleus_are_present_and_25_per_image(stem: str, tmp_path: Path) -> None:
    crchistophenotypes.write(tmp_path / "data")
    marks = marked("warwick_crc", stem, (500, 500), tmp_path)
    n = sum(map(len, crchistophenotypes.CENTRES[stem].values()))
    assert len(marks.things) == n and {t.kind for t in marks.things} <= set(crchistophenotypes.CENTRES[stem])
    cuts = cut("warwick_crc", (500, 500), marks)
    present = {(one.box[0] // 100, one.box[1] // 100) for one in cuts if one.label == "present"}
    assert len(cuts) == 25 and present == crchistophenotypes.INFLAMMATORY[stem]
    assert CASES["warwick_crc"].task.total == 25 * 100


def test_blobs_of_a_mask_are_mitoses_with_ten_tiles_each_and_one_in_the_corner(tmp_path: Path) -> None:
    janowczyk_mitosis.write(tmp_path / "data")
    size = (2000, 2000)
    marks = marked("janowczyk5_mitosis", "01_01", size, tmp_path)
    assert sorted(t.box for t in marks.things if t.box) == sorted(janowczyk_mitosis.BLOBS["01_01"])
    assert sorted((t.x, t.y) for t in marks.things) == [(610.5, 705.5), (1995.0, 4.5)]
    counts = tally(cut("janowczyk5_mitosis", size, marks))
    # 8 x 8 tiles of 250 px less the two that show a mitosis; the one in the corner leaves only one place for a tile
    assert counts == {"mitosis": 10 + 1, "nothing": 62}
    (one,) = marked("janowczyk5_mitosis", "02_01", size, tmp_path).things
    assert one.box == (100, 100, 120, 120)
    empty = cut("janowczyk5_mitosis", size, marked("janowczyk5_mitosis", "10_01", size, tmp_path))
    assert tally(empty) == {"nothing": 64}


def test_tupac_coordinates_are_row_before_column_and_no_file_is_no_mitosis(tmp_path: Path) -> None:
    tupac16_mitosis.write(tmp_path / "data")
    source = open_source(tmp_path / "data", scratch=tmp_path / "scratch")
    layout = CASES["tupac16_mitosis"].layout
    pictures = {p.name[-9:-4]: p for p in layout.pictures(source)}
    size = (2000, 2000)
    marks = layout.marks(source, pictures["01/01"], size)
    assert [(t.x, t.y, t.kind) for t in marks.things] == [(600, 700, "mitosis"), (1999, 0, "mitosis")]
    assert layout.marks(source, pictures["01/02"], size) == Marks()
    counts = tally(cut("tupac16_mitosis", size, marks))
    assert counts == {"mitosis": 10 + 1, "nothing": 62}
    large = layout.marks(source, pictures["73/01"], (5657, 5657))
    counts = tally(cut("tupac16_mitosis", (5657, 5657), large))
    assert counts == {"mitosis": 10, "nothing": 22 * 22 - 1}


@pytest.mark.parametrize(
    ("stem", "size", "mitosis", "other", "grid"),
    [
        ("A03_00Aa", (1539, 1376), 2, 1, 16),
        ("A03_00Ab", (1539, 1376), 0, 0, 16),
        ("H03_00Aa", (1663, 1485), 0, 1, 20),
    ],
)
def test_mitosis_goes_before_its_look_alike_and_both_before_nothing(
    stem: str, size: Size, mitosis: int, other: int, grid: int, tmp_path: Path
) -> None:
    mitos_atypia14.write(tmp_path / "data")
    marks = marked("mitos_atypia14", stem, size, tmp_path)
    assert [t.kind for t in marks.things] == ["mitosis"] * mitosis + ["non_mitosis"] * other
    cuts = cut("mitos_atypia14", size, marks)
    counts = tally(cuts)
    touched = {(int(t.x) // 323, int(t.y) // 323) for t in marks.things}
    inside = [t for t in touched if t[0] < size[0] // 323 and t[1] < size[1] // 323]
    assert counts["nothing"] == grid - len(inside)
    assert counts.get("mitosis", 0) + counts.get("non_mitosis", 0) == 10 * (mitosis + other)
    assert counts.get("mitosis", 0) >= 10 * mitosis


def test_x_is_read_before_y_in_mitos(tmp_path: Path) -> None:
    mitos_atypia14.write(tmp_path / "data")
    marks = marked("mitos_atypia14", "A03_00Aa", (1539, 1376), tmp_path)
    assert [(t.x, t.y) for t in marks.things] == [(1094, 1223), (1375, 40), (700, 500)]
