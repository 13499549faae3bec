"""Rules over a grid: the paper's arithmetic, classes on hand-made marks, thresholds to the pixel, what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest

from histozoo.prepare.areas import MaskArea, PolygonArea, class_areas
from histozoo.prepare.pictures import Box, Marks, Size, Thing
from histozoo.prepare.plan import Cut, Rule
from histozoo.prepare.rules import Around, CentrePixel, Contains, Presence, Tiles, Whole

SEEDS = range(8)
NUCLEI = {"kind": "nuclei", "threshold": 0.05, "present": "nuclei", "absent": "none"}
CENTRE = {"kinds": {"in situ": "cancer", "invasive": "cancer"}, "otherwise": "healthy"}
CELLS = {"kinds": ("inflammatory",), "present": "inflamed", "absent": "other"}
MITOSES = {"kinds": {"mitosis": "mitosis", "alike": "alike"}, "nothing": "nothing"}


def cut(rule: Rule, size: Size, marks: Marks | None = None, *, seed: int = 0) -> list[Cut]:
    return rule.cuts(size, marks or Marks(label="a"), np.random.default_rng(seed))


def empty(size: Size, *words: str) -> Marks:
    return Marks(areas={word: PolygonArea([], size) for word in words})


def plain_grid(size: Size, px: int, stride: int) -> list[Box]:
    """Tries every upper left corner of the picture."""
    corners = ((x, y) for y in range(0, size[1], stride) for x in range(0, size[0], stride))
    return [(x, y, x + px, y + px) for x, y in corners if x + px <= size[0] and y + px <= size[1]]


def drawn(rng: np.random.Generator) -> tuple[Size, int, int]:
    px = int(rng.integers(1, 20))
    return (int(rng.integers(px, 70)), int(rng.integers(px, 70))), px, int(rng.integers(1, 25))


class Seen:
    """An area as any layout may write it: the two methods of the protocol and nothing else."""

    def __init__(self, mask_HW: np.ndarray) -> None:
        self.mask_HW = mask_HW

    def fraction(self, box: Box) -> float:
        return float(self.mask_HW[box[1] : box[3], box[0] : box[2]].mean())

    def holds(self, x: int, y: int) -> bool:
        return bool(self.mask_HW[y, x])


# -- the paper's arithmetic: tiles of all pictures as published --

PUBLISHED: list[tuple[str, Rule, Size, int, int]] = [
    ("BACH", Tiles(px=512), (2048, 1536), 400, 4800),
    ("lymphoma", Tiles(px=384), (1388, 1040), 374, 2244),
    ("nuclei", Presence(px=250, stride=125, **NUCLEI), (2000, 2000), 141, 31725),
    ("epithelium", Presence(px=200, stride=100, **{**NUCLEI, "threshold": 0.1}), (1000, 1000), 42, 3402),
    ("colorectal nuclei", Contains(px=100, stride=100, **CELLS), (500, 500), 100, 2500),
]


@pytest.mark.parametrize(
    "rule, size, pictures, total", [row[1:] for row in PUBLISHED], ids=[row[0] for row in PUBLISHED]
)
def test_tiles_per_picture_give_the_published_total(
    rule: Rule, size: Size, pictures: int, total: int
) -> None:
    assert len(cut(rule, size, empty(size, "nuclei"))) * pictures == total


def test_a_whole_picture_is_one_tile_with_its_label() -> None:
    assert cut(Whole(), (37, 21), Marks(label="b")) == [((0, 0, 37, 21), "b")]


@pytest.mark.parametrize("seed", SEEDS)
def test_grids_are_complete_inside_the_picture_row_by_row_and_without_doubles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        size, px, stride = drawn(rng)
        expected = plain_grid(size, px, stride)
        assert len(set(expected)) == len(expected) > 0
        marks = empty(size, "nuclei", "in situ", "invasive")
        rules: list[Rule] = [
            Tiles(px=px, stride=stride),
            Presence(px=px, stride=stride, **NUCLEI),
            CentrePixel(px=px, stride=stride, **CENTRE),
            Contains(px=px, stride=stride, **CELLS),
            Around(px=px, stride=stride, shifts=3, **MITOSES),
        ]
        for rule in rules:
            assert [box for box, _ in cut(rule, size, marks)] == expected
        assert [box for box, _ in cut(Tiles(px=px), size)] == plain_grid(size, px, px)


# -- presence --


@pytest.mark.parametrize("px, threshold", [(250, 0.05), (200, 0.1), (250, 0.1), (768, 0.1)])
def test_exactly_the_threshold_is_absent_and_one_pixel_more_is_present(px: int, threshold: float) -> None:
    limit = int(px * px * threshold)  # 768 x 768 x 0.1 is no whole number of pixels: the next one is above it
    for pixels, expected in ((limit, "none"), (limit + 1, "nuclei")):
        mask_HW = (np.random.default_rng(0).permutation(px * px) < pixels).reshape(px, px)
        for area in (MaskArea(mask_HW), Seen(mask_HW)):
            rule = Presence(px=px, stride=px, **{**NUCLEI, "threshold": threshold})
            assert cut(rule, (px, px), Marks(areas={"nuclei": area}))[0].label == expected


def test_every_percentage_is_a_threshold_to_the_pixel() -> None:
    """Also as a sum of two areas, whose shares do not add exactly as floating point numbers."""
    order = np.random.default_rng(1).permutation(10_000).reshape(100, 100)
    for percent in range(100):
        for more, expected in ((0, "none"), (1, "nuclei")):
            pixels, half = 100 * percent + more, percent
            areas = {
                "nuclei": MaskArea(order < pixels),
                "one": MaskArea(order < half),
                "two": MaskArea((order >= half) & (order < pixels)),
            }
            for kind in ("nuclei", ("one", "two"), ("two", "one")):
                rule = Presence(px=100, stride=100, **{**NUCLEI, "threshold": percent / 100, "kind": kind})
                assert cut(rule, (100, 100), Marks(areas=areas))[0].label == expected, (percent, more, kind)


@pytest.mark.parametrize("seed", SEEDS)
def test_presence_is_what_counting_pixels_one_by_one_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(10):
        size, px, stride = drawn(rng)
        mask_HW = rng.random((size[1], size[0])) < 0.3
        threshold = round(float(rng.uniform(0.1, 0.5)), 2)
        rule = Presence(px=px, stride=stride, **{**NUCLEI, "threshold": threshold})
        for (left, top, right, bottom), label in cut(rule, size, Marks(areas={"nuclei": MaskArea(mask_HW)})):
            count = sum(bool(mask_HW[y, x]) for y in range(top, bottom) for x in range(left, right))
            assert (label == "nuclei") is (100 * count > round(100 * threshold) * px * px)
            seen.add(label)
    assert seen == {"nuclei", "none"}


def test_tiles_with_too_little_tissue_are_left_out_and_no_other() -> None:
    """Four tiles of 10 x 10 px with 49, 50, 51 and 0 pixels of tissue, at least half asked for."""
    tissue_HW = np.concatenate([np.arange(100).reshape(10, 10) < n for n in (49, 50, 51, 0)], axis=1)
    marks = Marks(areas={"nuclei": MaskArea(~tissue_HW)}, tissue=MaskArea(tissue_HW))
    rule = {"px": 10, "stride": 10, **NUCLEI}
    half = cut(Presence(**rule, least_tissue=0.5), (40, 10), marks)
    assert half == [((10, 0, 20, 10), "nuclei"), ((20, 0, 30, 10), "nuclei")]
    assert len(cut(Presence(**rule), (40, 10), marks)) == 4
    assert len(cut(Presence(**rule, least_tissue=0.5), (40, 10), Marks(areas=marks.areas))) == 4


def test_a_picture_of_the_paper_takes_milliseconds() -> None:
    mask_HW = np.random.default_rng(0).random((2000, 2000)) < 0.05
    marks, rule = Marks(areas={"nuclei": MaskArea(mask_HW)}), Presence(px=250, stride=125, **NUCLEI)
    seconds = []
    for _ in range(10):
        start = time.process_time()
        assert len(cut(rule, (2000, 2000), marks)) == 225
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.02


# -- centre pixel, things --


@pytest.mark.parametrize("px", [1, 4, 5])
def test_the_centre_pixel_alone_decides(px: int) -> None:
    mask_HW = np.zeros((11, 13), bool)
    boxes = plain_grid((13, 11), px, 3)
    for left, top, _, _ in boxes[::2]:
        mask_HW[top + px // 2, left + px // 2] = True
    rule = CentrePixel(px=px, stride=3, kinds={"tumour": "cancer"}, otherwise="healthy")
    for inverse in (False, True):
        tumour = MaskArea(mask_HW ^ inverse)
        found = [label == "cancer" for _, label in cut(rule, (13, 11), Marks(areas={"tumour": tumour}))]
        assert found == [(n % 2 == 0) ^ inverse for n in range(len(boxes))]


def test_the_first_area_that_holds_the_centre_decides() -> None:
    ones = MaskArea(np.ones((4, 4), bool))
    marks = Marks(areas={"a": ones, "b": ones, "none": PolygonArea([], (4, 4))})
    for order, expected in (
        (("a", "b"), "A"),
        (("b", "a"), "B"),
        (("none", "b", "a"), "B"),
        (("none",), "other"),
    ):
        rule = CentrePixel(px=4, stride=4, kinds={word: word.upper() for word in order}, otherwise="other")
        assert cut(rule, (4, 4), marks) == [((0, 0, 4, 4), expected)]


def test_a_thing_on_the_line_between_two_tiles_lies_in_the_right_and_lower_one() -> None:
    rule = Contains(px=100, stride=100, **CELLS)
    for x, y, expected in ((100, 250, (1, 2)), (99.99, 250, (0, 2)), (0, 0, (0, 0)), (200, 300, (2, 3))):
        found = cut(rule, (500, 500), Marks(things=(Thing(x, y, "inflammatory"),)))
        left, top = (100 * n for n in expected)
        assert [box for box, label in found if label == "inflamed"] == [(left, top, left + 100, top + 100)]


def test_things_of_other_kinds_do_not_count() -> None:
    things = (Thing(50, 50, "epithelial"), Thing(150, 50, "inflammatory"), Thing(150, 50, "epithelial"))
    found = cut(Contains(px=100, stride=100, **CELLS), (300, 100), Marks(things=things))
    assert [label for _, label in found] == ["other", "inflamed", "other"]


@pytest.mark.parametrize("seed", SEEDS)
def test_contains_is_what_asking_every_thing_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        size, px, stride = drawn(rng)
        things = tuple(
            Thing(x, y, kind)
            for (x, y), kind in zip(
                rng.uniform(0, 1, (6, 2)) * size, ["inflammatory", "other"] * 3, strict=True
            )
        )
        for (left, top, right, bottom), label in cut(
            Contains(px=px, stride=stride, **CELLS), size, Marks(things=things)
        ):
            inside = [t.kind for t in things if left <= t.x < right and top <= t.y < bottom]
            assert (label == "inflamed") is ("inflammatory" in inside)


def test_class_maps_serve_every_rule_on_areas() -> None:
    map_HW = np.kron(np.array([[0, 1], [2, 1]]), np.ones((4, 4), int))
    marks = Marks(areas=class_areas(map_HW, {1: "in situ", 2: "invasive"}))
    both = Presence(px=4, stride=4, **{**NUCLEI, "kind": ("in situ", "invasive")})
    assert [label for _, label in cut(both, (8, 8), marks)] == ["none", "nuclei", "nuclei", "nuclei"]
    centre = CentrePixel(px=4, stride=4, **{**CENTRE, "kinds": {"in situ": "early", "invasive": "late"}})
    assert [label for _, label in cut(centre, (8, 8), marks)] == ["healthy", "early", "late", "early"]
