"""Rules for annotated objects: shifted tiles and exhaustive negatives, priority of classes, crops of cells."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Box, Marks, Size, Thing
from histozoo.prepare.plan import Cut, Rule
from histozoo.prepare.rules import Around, Crops

SEEDS = range(12)
KINDS = {"mitosis": "mitosis", "prophase": "mitosis", "alike": "non_mitosis"}


def cut(rule: Rule, size: Size, things: Sequence[Thing], *, seed: int = 0) -> list[Cut]:
    return rule.cuts(size, Marks(things=tuple(things)), np.random.default_rng(seed))


def holds(box: Box, thing: Thing) -> bool:
    return box[0] <= thing.x < box[2] and box[1] <= thing.y < box[3]


def overlaps(box: Box, thing: Thing) -> bool:
    left, top, right, bottom = thing.box or (thing.x, thing.y, thing.x, thing.y)
    return holds(box, thing) or (left < box[2] and right > box[0] and top < box[3] and bottom > box[1])


def covers(box: Box, thing: Thing) -> bool:
    left, top, right, bottom = thing.box or (thing.x, thing.y, thing.x, thing.y)
    return box[0] <= left and box[1] <= top and right <= box[2] and bottom <= box[3]


def inside(box: Box, size: Size, px: int) -> bool:
    left, top, right, bottom = box
    return (
        0 <= left
        and 0 <= top
        and right <= size[0]
        and bottom <= size[1]
        and (right - left, bottom - top) == (px, px)
    )


def scene(seed: int, *, count: int = 9, boxes: bool = False) -> tuple[Around, Size, list[Thing]]:
    """Draws things that may lie at the upper and lower border; not in a corner, where there are fewer places than shifts."""
    rng = np.random.default_rng(seed)
    px = int(rng.integers(30, 60))
    size = (int(rng.integers(4 * px, 6 * px)), int(rng.integers(px, 6 * px)))
    shifts, stride = int(rng.integers(1, 8)), int(rng.integers(1, 2 * px))
    things = []
    for _ in range(count):
        x, y = float(rng.uniform(0.3 * px + 8, size[0] - 0.3 * px - 8)), float(rng.uniform(0, size[1]))
        w, h = rng.uniform(1, 0.3 * px, 2).tolist()
        box = (x - w, max(0, y - h), x + w, min(size[1], y + h)) if boxes else None
        things.append(Thing(x, y, str(rng.choice([*KINDS, "vessel"])), box))
    return Around(px=px, shifts=shifts, kinds=KINDS, nothing="nothing", stride=stride), size, things


# -- shifted tiles and negatives --


@pytest.mark.parametrize("seed", SEEDS)
def test_shifted_tiles_hold_their_thing_and_negatives_are_every_grid_tile_without_one(seed: int) -> None:
    rule, size, things = scene(seed)
    named = [thing for thing in things if thing.kind in KINDS]
    cuts = cut(rule, size, things)
    shifted, negatives = cuts[: rule.shifts * len(named)], cuts[rule.shifts * len(named) :]
    assert all(inside(box, size, rule.px) for box, _ in cuts)
    for place, (box, label) in enumerate(shifted):
        assert holds(box, named[place // rule.shifts])
        earliest = min((t for t in named if holds(box, t)), key=lambda t: list(KINDS).index(t.kind))
        assert label == KINDS[earliest.kind]
    corners = [
        (x, y)
        for y in range(0, size[1] - rule.px + 1, rule.stride)
        for x in range(0, size[0] - rule.px + 1, rule.stride)
    ]
    grid = [(x, y, x + rule.px, y + rule.px) for x, y in corners]
    assert negatives == [(box, "nothing") for box in grid if not any(holds(box, thing) for thing in named)]
    assert len({box for box, _ in cuts}) == len(cuts)


@pytest.mark.parametrize("seed", SEEDS)
def test_known_bounding_boxes_are_held_whole_and_no_negative_shows_a_part_of_one(seed: int) -> None:
    rule, size, things = scene(seed, boxes=True)
    named = [thing for thing in things if thing.kind in KINDS]
    cuts = cut(rule, size, things)
    for place, (box, _) in enumerate(cuts[: rule.shifts * len(named)]):
        assert covers(box, named[place // rule.shifts])
    shown = [any(overlaps(box, thing) for thing in named) for box, _ in cuts]
    assert [label == "nothing" for _, label in cuts] == [not one for one in shown]
    alone = cut(rule, size, [])
    assert cuts[rule.shifts * len(named) :] == [
        one for one in alone if not any(overlaps(one.box, thing) for thing in named)
    ]


def test_a_thing_larger_than_a_tile_is_held_by_its_centre() -> None:
    wide = Thing(200, 100, "mitosis", (50, 90, 350, 110))
    cuts = cut(Around(px=100, shifts=50, kinds=KINDS, nothing="nothing", stride=50), (400, 200), [wide])
    shifted, negatives = cuts[:50], cuts[50:]
    assert all(holds(box, wide) and box[1] <= 90 and box[3] >= 110 for box, _ in shifted)
    assert len({box[0] for box, _ in shifted}) > 20
    assert negatives == []  # every tile of the grid shows a part of it


def test_a_thing_just_as_wide_as_a_tile_leaves_one_place_across() -> None:
    thing = Thing(200, 100, "mitosis", (160, 90, 260, 110))
    cuts = cut(Around(px=100, shifts=20, kinds=KINDS, nothing="nothing", stride=50), (400, 200), [thing])
    assert {box[0] for box, _ in cuts[:20]} == {160} and all(covers(box, thing) for box, _ in cuts[:20])


def test_the_seed_decides_the_shifts_and_nothing_else() -> None:
    rule, size, things = scene(3, count=3)
    first = cut(rule, size, things, seed=1)
    assert first == cut(rule, size, things, seed=1)
    other = cut(rule, size, things, seed=2)
    assert first != other and len(first) == len(other)
    negatives = [[one for one in cuts if one.label == "nothing"] for cuts in (first, other)]
    assert negatives[0] == negatives[1] != []


def test_shifts_reach_every_place_that_holds_the_thing_about_equally_often() -> None:
    rule = Around(px=8, shifts=1, kinds=KINDS, nothing="nothing", stride=8)
    count = np.zeros((8, 8), int)
    for seed in range(3200):
        (left, top, _, _), label = cut(rule, (40, 40), [Thing(20.5, 20.5, "mitosis")], seed=seed)[0]
        count[top - 13, left - 13] += 1
        assert label == "mitosis"
    assert count.sum() == 3200
    assert (
        (count - 50) ** 2 / 50
    ).sum() < 104  # chi squared, 63 degrees of freedom: chance exceeds it once in a thousand


@pytest.mark.parametrize("x, y", [(0, 200), (499.5, 200), (200, 0), (200, 400), (3, 3), (496, 396), (500, 3)])
def test_things_at_the_border_get_all_their_shifts(x: float, y: float) -> None:
    cuts = cut(
        Around(px=100, shifts=10, kinds=KINDS, nothing="nothing", stride=100),
        (500, 400),
        [Thing(x, y, "mitosis")],
    )
    found = [box for box, label in cuts if label == "mitosis"]
    held = (min(x, 499), min(y, 399))
    assert all(holds(box, Thing(*held, "mitosis")) and inside(box, (500, 400), 100) for box in found)
    if (x, y) == (500, 3):  # four places are left in this corner, and no tile is cut twice
        assert sorted(found) == [(400, top, 500, top + 100) for top in range(4)]
    else:
        assert len(set(found)) == 10


def test_crowded_things_share_the_places_without_taking_one_twice() -> None:
    """Each of the things could have any of 25 places; 5 times 5 take them all, and for a sixth there is none left."""
    rule = Around(px=5, shifts=5, kinds=KINDS, nothing="nothing", stride=5)
    for count in (5, 6):
        things = [Thing(10 + n / 100, 10, "mitosis") for n in range(count)]
        found = [box for box, label in cut(rule, (40, 40), things) if label == "mitosis"]
        assert sorted(found) == sorted((x, y, x + 5, y + 5) for x in range(6, 11) for y in range(6, 11))


def test_a_tile_that_also_holds_an_earlier_kind_has_the_class_of_that_one() -> None:
    """The mitosis lies 10 px right of the non-mitosis; of the latter's tiles just those that reach it are mitoses."""
    things = [Thing(50, 50, "alike"), Thing(60, 50, "mitosis")]
    for kinds in (KINDS, {"alike": "non_mitosis", "mitosis": "mitosis"}):
        cuts = cut(Around(px=20, shifts=60, kinds=kinds, nothing="nothing", stride=20), (120, 100), things)
        shifted = cuts[:120]
        first, second = things if next(iter(kinds)) == "alike" else things[::-1]
        assert {label for _, label in shifted} == {"mitosis", "non_mitosis"}
        assert [label for _, label in shifted] == [
            kinds[(first if holds(box, first) else second).kind] for box, _ in shifted
        ]


def test_things_that_kinds_does_not_name_do_not_count() -> None:
    rule = Around(px=20, shifts=5, kinds={"mitosis": "mitosis"}, nothing="nothing", stride=20)
    assert cut(rule, (60, 40), [Thing(30, 30, "vessel")]) == cut(rule, (60, 40), [])
    assert [label for _, label in cut(rule, (60, 40), [])] == ["nothing"] * 6


@pytest.mark.parametrize(
    "box", [(5, 5, 4, 9), (5, 9, 9, 8), (0, 0, float("nan"), 4), (float("-inf"), 0, 4, 4)]
)
def test_a_bounding_box_that_is_none_is_refused(box: tuple[float, float, float, float]) -> None:
    rule = Around(px=20, shifts=5, kinds=KINDS, nothing="nothing", stride=20)
    with pytest.raises(UsageError, match=r"HZ-U71.*bounding box"):
        cut(rule, (60, 40), [Thing(5, 5, "mitosis", box)])


def test_a_slide_with_300_things_takes_seconds() -> None:
    """Half a million negatives; comparing each with each thing would be 150 million."""
    size = (100_000, 80_000)
    places = np.random.default_rng(0).random((300, 2)) * size
    rule = Around(px=250, shifts=10, kinds=KINDS, nothing="nothing", stride=125)
    start = time.process_time()
    cuts = cut(rule, size, [Thing(x, y, "mitosis") for x, y in places.tolist()])
    assert time.process_time() - start < 10
    assert sum(label == "mitosis" for _, label in cuts) == 3000
    assert 799 * 639 - 300 * 9 <= len(cuts) - 3000 <= 799 * 639 - 300


# -- crops --


@pytest.mark.parametrize("px", [1, 2, 7, 10])
def test_a_crop_has_the_thing_in_its_central_pixel(px: int) -> None:
    rng = np.random.default_rng(px)
    things = [Thing(x, y, "alike") for x, y in rng.uniform(px, 100 - px, (50, 2)).tolist()]
    cuts = cut(Crops(px=px, kinds=KINDS), (100, 100), things)
    assert [(box[0] + px // 2, box[1] + px // 2) for box, _ in cuts] == list(
        dict.fromkeys((math.floor(t.x), math.floor(t.y)) for t in things)
    )
    assert {(box[2] - box[0], box[3] - box[1], label) for box, label in cuts} == {(px, px, "non_mitosis")}


@pytest.mark.parametrize("seed", SEEDS)
def test_crops_at_the_edge_are_left_out_or_moved_inside_as_little_as_can_be(seed: int) -> None:
    rule, size, things = scene(seed)
    px, named = rule.px, [thing for thing in things if thing.kind in KINDS]
    wished = [(math.floor(t.x) - px // 2, math.floor(t.y) - px // 2) for t in named]
    fitting = [inside((x, y, x + px, y + px), size, px) for x, y in wished]
    skipped = cut(Crops(px=px, kinds=KINDS), size, things)
    assert [box[:2] for box, _ in skipped] == [
        place for place, fits in zip(wished, fitting, strict=True) if fits
    ]
    shifted = cut(Crops(px=px, kinds=KINDS, edge="shift"), size, things)
    moved = [tuple(np.clip(place, 0, np.array(size) - px).tolist()) for place in wished]
    assert [box[:2] for box, _ in shifted] == list(dict.fromkeys(moved))
    assert all(inside(box, size, px) for box, _ in shifted) and set(skipped) <= set(shifted)


def test_a_crop_that_two_things_share_is_cut_once_for_the_nearer_one() -> None:
    near, far = Thing(9, 9, "alike"), Thing(2, 3, "mitosis")
    for things in ((near, far), (far, near)):
        cuts = cut(Crops(px=20, kinds=KINDS, edge="shift"), (50, 50), things)
        assert cuts == [((0, 0, 20, 20), "non_mitosis")]
    same = [Thing(25.5, 25.5, kind) for kind in ("alike", "mitosis", "alike")]
    assert cut(Crops(px=20, kinds=KINDS), (50, 50), same) == [((15, 15, 35, 35), "mitosis")]


def test_crops_of_kinds_that_are_not_named_are_left_out() -> None:
    cuts = cut(Crops(px=4, kinds={"alike": "cell"}), (20, 20), [Thing(5, 5, "mitosis"), Thing(9, 9, "alike")])
    assert cuts == [((7, 7, 11, 11), "cell")]
