"""Areas: pixels counted exactly, box by box, for masks, class maps and polygons."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from histozoo.errors import UsageError
from histozoo.prepare.areas import Drawn, Either, MaskArea, PolygonArea, class_areas
from histozoo.prepare.pictures import Box, Size

SEEDS = range(6)


def random_box(rng: np.random.Generator, size: Size) -> Box:
    left, right = sorted(rng.choice(size[0] + 1, 2, replace=False).tolist())
    top, bottom = sorted(rng.choice(size[1] + 1, 2, replace=False).tolist())
    return left, top, right, bottom


def random_polygon(rng: np.random.Generator, size: Size, corners: int = 9) -> NDArray[np.float64]:
    """Returns a star around a random point, which may leave the picture."""
    turn = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(0.05, 0.6, (corners, 1)) * max(size)
    return rng.uniform(0, 1, 2) * size + reach * np.c_[np.cos(turn), np.sin(turn)]


def whole_mask(area: Drawn) -> NDArray[np.bool_]:
    return area.mask((0, 0, *area.size))


def centres_inside(polygon: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """Asks every pixel centre by itself: does a ray to the left cross an odd number of edges?"""
    result = np.zeros((size[1], size[0]), bool)
    for row, column in np.ndindex(result.shape):
        x, y = column + 0.5, row + 0.5
        for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if (ay > y) != (by > y) and ax + (y - ay) / (by - ay) * (bx - ax) < x:
                result[row, column] ^= True
    return result


# -- masks and maps --


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mask_counts_the_pixels_of_any_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask_HW = rng.random((37, 53)) < rng.random()
    area = MaskArea(mask_HW)
    assert area.size == (53, 37)
    for _ in range(50):
        left, top, right, bottom = random_box(rng, area.size)
        ones = sum(bool(mask_HW[y, x]) for y in range(top, bottom) for x in range(left, right))
        assert area.fraction((left, top, right, bottom)) == ones / ((right - left) * (bottom - top))
        assert area.holds(left, top) is bool(mask_HW[top, left])


def test_a_box_larger_than_a_band_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("histozoo.prepare.areas._BAND_PX", 100)
    mask_HW = np.random.default_rng(0).random((41, 37)) < 0.3
    assert MaskArea(mask_HW).fraction((0, 0, 37, 41)) == mask_HW.mean()
    assert MaskArea(mask_HW).fraction((5, 3, 30, 38)) == mask_HW[3:38, 5:30].mean()


def test_class_areas_part_the_map_and_know_words_without_a_pixel() -> None:
    map_HW = np.random.default_rng(0).integers(0, 4, (30, 40), dtype=np.uint16)
    areas = class_areas(map_HW, {1: "tumour", 2: "stroma", 3: "tumour", 9: "necrosis"})
    assert list(areas) == ["tumour", "stroma", "necrosis"]
    assert np.array_equal(whole_mask(areas["tumour"]), (map_HW == 1) | (map_HW == 3))
    assert np.array_equal(whole_mask(areas["stroma"]), map_HW == 2)
    assert areas["necrosis"].fraction((0, 0, 40, 30)) == 0
    y, x = np.argwhere(map_HW == 2)[0].tolist()
    assert areas["stroma"].holds(x, y) and not areas["tumour"].holds(x, y)


@pytest.mark.parametrize(
    "wrong_HW", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), bool), np.zeros(4, bool), np.zeros((4, 4))]
)
def test_a_mask_that_is_no_plane_of_booleans_is_refused(wrong_HW: NDArray[np.bool_]) -> None:
    with pytest.raises(UsageError, match=r"HZ-U71.*\n.*boolean"):
        MaskArea(wrong_HW)


@pytest.mark.parametrize("wrong_HW", [np.zeros(4, bool), np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4))])
def test_a_map_that_is_no_plane_of_whole_numbers_is_refused(wrong_HW: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match=r"HZ-U71.*\n.*whole numbers"):
        class_areas(wrong_HW, {1: "tumour"})


@pytest.mark.parametrize(
    "box", [(0, 0, 11, 5), (0, 0, 5, 9), (-1, 0, 5, 5), (0, -1, 5, 5), (3, 3, 3, 5), (3, 5, 5, 5)]
)
def test_a_box_off_the_picture_or_without_a_pixel_is_refused(box: Box) -> None:
    mask, polygon = MaskArea(np.ones((8, 10), bool)), PolygonArea([[(0, 0), (10, 0), (10, 8)]], (10, 8))
    for area in (mask, polygon, Either([mask, polygon])):
        with pytest.raises(UsageError, match="HZ-U71"):
            area.fraction(box)
    with pytest.raises(UsageError, match="HZ-U71"):
        mask.holds(10, 0)


# -- polygons --


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pixel_belongs_to_a_polygon_where_its_centre_is_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (29, 23)
    polygon = (
        random_polygon(rng, size) if seed % 2 else rng.uniform(-5, 35, (8, 2))
    )  # the odd-even rule where it crosses itself
    assert np.array_equal(whole_mask(PolygonArea([polygon], size)), centres_inside(polygon, size))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_box_of_polygons_is_that_part_of_the_whole_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (90, 70)
    area = PolygonArea(
        [random_polygon(rng, size) for _ in range(3)],
        size,
        holes=[random_polygon(rng, size) for _ in range(2)],
    )
    whole_HW = whole_mask(area)
    assert 0 < whole_HW.mean() < 1
    for _ in range(100):
        left, top, right, bottom = box = random_box(rng, size)
        part_HW = whole_HW[top:bottom, left:right]
        assert np.array_equal(area.mask(box), part_HW)
        assert area.fraction(box) == part_HW.sum() / part_HW.size
        assert area.holds(left, top) is bool(whole_HW[top, left])


@pytest.mark.parametrize("seed", SEEDS)
def test_polygons_join_and_holes_are_taken_out_of_all_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (60, 50)
    one, two, hole = (random_polygon(rng, size) for _ in range(3))
    inside = [whole_mask(PolygonArea([polygon], size)) for polygon in (one, two, hole)]
    expected_HW = (inside[0] | inside[1]) & ~inside[2]
    assert np.array_equal(whole_mask(PolygonArea([one, two], size, holes=[hole])), expected_HW)


@pytest.mark.parametrize("seed", SEEDS)
def test_polygons_agree_with_pillow_but_for_its_outline(seed: int) -> None:
    """Pillow adds the outline to what it fills, and takes whole coordinates only."""
    rng = np.random.default_rng(seed)
    size = (200, 150)
    polygon = np.round(random_polygon(rng, size))
    filled, outline = Image.new("1", size), Image.new("L", size)
    corners = [tuple(corner) for corner in polygon.astype(int).tolist()]
    ImageDraw.Draw(filled).polygon(corners, fill=1, outline=1)
    ImageDraw.Draw(outline).line([*corners, corners[0]], fill=255)
    near_HW = np.asarray(outline.filter(ImageFilter.MaxFilter(5))) > 0
    ours_HW, theirs_HW = whole_mask(PolygonArea([polygon], size)), np.asarray(filled)
    assert (ours_HW & ~near_HW).sum() > 100 and (~ours_HW & ~near_HW).sum() > 100
    assert np.array_equal(ours_HW[~near_HW], theirs_HW[~near_HW])


def test_a_circle_has_its_area_and_pillow_would_add_half_its_outline() -> None:
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 100 + 60 * np.c_[np.cos(turn), np.sin(turn)]
    drawn = Image.new("1", (200, 200))
    ImageDraw.Draw(drawn).polygon([tuple(corner) for corner in circle.tolist()], fill=1, outline=1)
    share = PolygonArea([circle], (200, 200)).fraction((0, 0, 200, 200))
    assert share * 40000 == pytest.approx(np.pi * 60**2, rel=1e-3)
    assert np.asarray(drawn).sum() > 1.01 * np.pi * 60**2


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_that_share_edges_share_no_pixel_and_leave_none_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (64, 48)
    middle = rng.uniform(5, 40, 2)
    frame = [(0, 0), (rng.uniform(1, 63), 0), (64, 0), (64, 48), (rng.uniform(1, 63), 48), (0, 48)]
    wedges = [[frame[i - 1], frame[i], middle] for i in range(len(frame))]
    rng.shuffle(wedges)
    turned = [wedge if rng.random() < 0.5 else wedge[::-1] for wedge in wedges]
    covered = sum(whole_mask(PolygonArea([wedge], size)).astype(int) for wedge in turned)
    assert np.array_equal(covered, np.ones((48, 64), int))


def test_rectangles_are_their_own_pixels_in_the_convention_of_crop() -> None:
    area = PolygonArea([[(2, 3), (7, 3), (7, 5), (2, 5)]], (10, 8))
    expected_HW = np.zeros((8, 10), bool)
    expected_HW[3:5, 2:7] = True
    assert np.array_equal(whole_mask(area), expected_HW)
    assert area.fraction((2, 3, 7, 5)) == 1 and not area.holds(7, 3) and not area.holds(2, 5)


def test_an_edge_through_pixel_centres_gives_them_to_the_right_and_lower_side() -> None:
    area = PolygonArea([[(1.5, 2.5), (4.5, 2.5), (4.5, 5.5), (1.5, 5.5)]], (10, 8))
    expected_HW = np.zeros((8, 10), bool)
    expected_HW[2:5, 1:4] = True
    assert np.array_equal(whole_mask(area), expected_HW)


def test_few_corners_hold_nothing_and_a_closed_ring_is_the_open_one() -> None:
    ring = [(1.5, 1.5), (8.0, 2.0), (4.0, 7.0)]
    box = (0, 0, 10, 8)
    assert PolygonArea([], (10, 8)).fraction(box) == 0
    for few in ([], [(1, 1)], [(1, 1), (9, 7)]):
        assert PolygonArea([few], (10, 8)).fraction(box) == 0
        assert (
            PolygonArea([few, ring], (10, 8)).fraction(box) == PolygonArea([ring], (10, 8)).fraction(box) > 0
        )
    assert PolygonArea([[*ring, ring[0]]], (10, 8)).fraction(box) == PolygonArea([ring], (10, 8)).fraction(
        box
    )


@pytest.mark.parametrize(
    "wrong", [[(0, 0), (1, float("nan")), (2, 2)], [(0, 0, 0), (1, 1, 1), (2, 0, 0)], [1, 2, 3]]
)
def test_a_polygon_that_is_none_is_refused(wrong: list[object]) -> None:
    with pytest.raises(UsageError, match="HZ-U71"):
        PolygonArea([wrong], (10, 8))
    with pytest.raises(UsageError, match="HZ-U71"):
        PolygonArea([], (10, 8), holes=[wrong])


def test_a_slide_is_never_drawn_whole() -> None:
    size = (100_000, 80_000)
    turn = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    tumour = np.array([50_000, 40_000]) + 20_000 * np.c_[np.cos(turn), np.sin(turn)]
    tracemalloc.start()
    area = PolygonArea([tumour], size)
    shares = [area.fraction((x, 39_936, x + 768, 40_704)) for x in range(0, 99_000, 768)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min(shares) == 0 and max(shares) == 1 and 0 < shares[39] < 1
    assert sum(shares) * 768 == pytest.approx(40_000, rel=0.01)
    assert peak < 32_000_000


# -- joined --


@pytest.mark.parametrize("seed", SEEDS)
def test_either_counts_a_pixel_of_two_areas_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (40, 30)
    mask_HW, map_HW = rng.random((30, 40)) < 0.3, rng.integers(0, 3, (30, 40))
    parts = [
        MaskArea(mask_HW),
        class_areas(map_HW, {1: "a"})["a"],
        PolygonArea([random_polygon(rng, size)], size),
    ]
    expected_HW = mask_HW | (map_HW == 1) | whole_mask(parts[2])
    before_HW = mask_HW.copy()
    area = Either(parts)
    assert np.array_equal(whole_mask(area), expected_HW) and np.array_equal(mask_HW, before_HW)
    left, top, right, bottom = box = random_box(rng, size)
    assert area.fraction(box) == expected_HW[top:bottom, left:right].mean()


def test_either_refuses_no_areas_and_areas_of_two_pictures() -> None:
    with pytest.raises(UsageError, match="HZ-U71"):
        Either([])
    with pytest.raises(UsageError, match="HZ-U71"):
        Either([MaskArea(np.ones((4, 5), bool)), PolygonArea([], (4, 5))])


def test_areas_can_be_handed_to_a_worker() -> None:
    mask_HW = np.eye(8, dtype=bool)
    polygon = PolygonArea([[(1, 1), (7, 2), (3, 6)]], (8, 8), holes=[[(2, 2), (4, 2), (3, 4)]])
    for area in (
        MaskArea(mask_HW),
        class_areas(mask_HW.astype(int), {1: "a"})["a"],
        polygon,
        Either([polygon]),
    ):
        again = pickle.loads(pickle.dumps(area))
        assert again.size == (8, 8) and np.array_equal(whole_mask(again), whole_mask(area))
