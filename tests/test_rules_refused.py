"""Rules: parameters and marks that make no sense are refused by name, and a rule can be written down."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.prepare.areas import PolygonArea
from histozoo.prepare.pictures import Marks, Size, Thing
from histozoo.prepare.plan import Cut, Rule
from histozoo.prepare.rules import Around, CentrePixel, Contains, Crops, Presence, Tiles, Whole

GRID = {"px": 4, "stride": 2}
NUCLEI = {"kind": "nuclei", "threshold": 0.05, "present": "nuclei", "absent": "none"}
CENTRE = {"kinds": {"in situ": "cancer", "invasive": "cancer"}, "otherwise": "healthy"}
CELLS = {"kinds": ("inflammatory",), "present": "inflamed", "absent": "other"}
MITOSES = {"kinds": {"mitosis": "mitosis", "alike": "alike"}, "nothing": "nothing"}


def cut(rule: Rule, size: Size, marks: Marks) -> list[Cut]:
    return rule.cuts(size, marks, np.random.default_rng(0))


def empty(size: Size, *words: str) -> Marks:
    return Marks(areas={word: PolygonArea([], size) for word in words})


RULES: list[tuple[type[Any], dict[str, Any]]] = [
    (Tiles, GRID),
    (Presence, {**GRID, **NUCLEI}),
    (CentrePixel, {**GRID, **CENTRE}),
    (Contains, {**GRID, **CELLS}),
    (Around, {**GRID, **MITOSES, "shifts": 3}),
    (Crops, {"px": 4, "kinds": {"mitosis": "mitosis"}}),
]
WRONG: dict[str, list[Any]] = {
    "px": [0, -4, 2.5, True, "4"],
    "stride": [0, -1, 0.5],
    "shifts": [0, -1, 1.5],
    "threshold": [-0.01, 1.01, float("nan"), "half"],
    "least_tissue": [-0.5, 2],
    "kind": ["", (), ("nuclei", "nuclei"), ("nuclei", ""), 3],
    "kinds": [{}, (), "mitosis", {"": "a"}, {"a": ""}, {"a": 3}],
    "present": ["", 3],
    "absent": [""],
    "otherwise": [""],
    "nothing": [""],
    "edge": ["cut", ""],
}


@pytest.mark.parametrize("rule, given", RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_parameters_that_make_no_sense_are_refused_by_name(rule: type[Any], given: dict[str, Any]) -> None:
    rule(**given)
    names = [name for name in rule.__dataclass_fields__ if name in WRONG]
    assert len(names) == len(rule.__dataclass_fields__)
    for name in names:
        for value in WRONG[name]:
            word = "classes" if name in ("present", "absent") else name
            with pytest.raises(UsageError, match=f"HZ-U70.*{word}"):
                rule(**{**given, name: value})


@pytest.mark.parametrize("rule", [Presence(**GRID, **NUCLEI), Contains(**GRID, **CELLS)])
def test_two_classes_must_differ(rule: Any) -> None:
    same = {name: getattr(rule, name) for name in rule.__dataclass_fields__} | {"absent": rule.present}
    with pytest.raises(UsageError, match="HZ-U70"):
        type(rule)(**same)


@pytest.mark.parametrize("rule, given", RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_a_picture_smaller_than_a_tile_is_refused_with_both_sizes(
    rule: type[Any], given: dict[str, Any]
) -> None:
    for size in ((3, 9), (9, 3), (3, 3)):
        with pytest.raises(UsageError, match="HZ-D27") as error:
            cut(rule(**given), size, empty(size, "nuclei", "in situ", "invasive"))
        assert "4 x 4 px" in str(error.value) and f"{size[0]} x {size[1]} px" in str(error.value)


@pytest.mark.parametrize("rule", [Presence(**GRID, **NUCLEI), CentrePixel(**GRID, **CENTRE)])
def test_an_area_the_layout_does_not_know_or_of_another_size_is_refused(rule: Rule) -> None:
    with pytest.raises(UsageError, match=r"HZ-U70(?s:.*)stroma, vessel"):
        cut(rule, (8, 8), empty((8, 8), "vessel", "stroma"))
    with pytest.raises(UsageError, match=r"HZ-U71(?s:.*)9 x 8 px(?s:.*)8 x 8 px"):
        cut(rule, (9, 8), empty((8, 8), "nuclei", "in situ", "invasive"))


def test_tissue_of_another_size_is_refused() -> None:
    marks = Marks(areas=empty((9, 8), "nuclei").areas, tissue=PolygonArea([], (8, 8)))
    with pytest.raises(UsageError, match=r"HZ-U71.*tissue"):
        cut(Presence(**GRID, **NUCLEI, least_tissue=0.5), (9, 8), marks)


@pytest.mark.parametrize("x, y", [(8.0, 8.0), (-1, 4), (4, -0.5), (9, 9)])
def test_a_point_up_to_a_pixel_off_counts_as_in_the_nearest_pixel(x: float, y: float) -> None:
    found = cut(Contains(px=1, stride=1, **CELLS), (8, 8), Marks(things=(Thing(x, y, "inflammatory"),)))
    nearest = tuple(int(min(max(place, 0), 7)) for place in (x, y))
    assert [box[:2] for box, label in found if label == "inflamed"] == [nearest]


@pytest.mark.parametrize("x, y", [(9.1, 4), (4, -1.1), (float("nan"), 4), (4, float("inf"))])
def test_a_point_off_the_picture_is_refused(x: float, y: float) -> None:
    for kind, rule in (
        ("inflammatory", Contains(**GRID, **CELLS)),
        ("mitosis", Around(**GRID, **MITOSES, shifts=3)),
        ("mitosis", Crops(px=4, kinds=MITOSES["kinds"])),
    ):
        with pytest.raises(UsageError, match=r"HZ-U71.*point") as error:
            cut(rule, (8, 8), Marks(things=(Thing(x, y, kind),)))
        assert kind in str(error.value)


# -- written down --


@pytest.mark.parametrize(
    "rule, given", [(Whole, {}), *RULES], ids=lambda value: getattr(value, "__name__", "")
)
def test_a_rule_can_be_written_down_and_handed_to_a_worker(rule: type[Any], given: dict[str, Any]) -> None:
    made = rule(**given)
    words = json.loads(json.dumps(made.describe()))
    assert words["rule"] == rule.__name__.lower() and set(given) <= set(words)
    assert pickle.loads(pickle.dumps(made)) == made


def test_the_order_of_kinds_is_written_down_because_it_is_the_priority() -> None:
    one, two = (
        Around(**GRID, kinds=dict(order), nothing="c", shifts=3)
        for order in ((("a", "A"), ("b", "B")), (("b", "B"), ("a", "A")))
    )
    assert json.dumps(one.describe(), sort_keys=True) != json.dumps(two.describe(), sort_keys=True)
