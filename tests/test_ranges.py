"""Settings outside their range are refused when an experiment is read, for every number of every recipe."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from histozoo import experiment
from histozoo.data.drawing import View
from histozoo.errors import UsageError
from histozoo.ranges import COUNT, SHARE, Range
from histozoo.recipes import OBJECTIVES, PRESETS
from tests.fakes.ssl import MADE, make, tiny_vit

NUMBERS = [
    (name, field)
    for name, settings in OBJECTIVES.items()
    for field in dataclasses.fields(settings)
    if any(word in str(field.type) for word in ("int", "float"))
]


def resolve(name: str, **said: Any) -> experiment.Experiment:
    architecture = "test_vit" if name in ("mae", "ibot") else "test_resnet"
    raw: dict[str, Any] = {"name": f"{architecture}.{name}_x", "tasks": ["a"], "preset": "small"}
    return experiment.resolve({**raw, **said})


def like(field: dataclasses.Field[Any], value: float) -> Any:
    """Returns a value of the field's type with `value` as its last number."""
    if str(field.type).startswith("tuple"):
        return [*field.default[:-1], value]
    return int(value) if field.type == "int" and math.isfinite(value) and value == int(value) else value


def outside(field: dataclasses.Field[Any]) -> list[float]:
    within: Range = field.metadata["range"]
    step = 1 if field.type == "int" else 1e-6
    found = [within.least if within.without_least else within.least - step]
    if math.isfinite(within.most):
        found.append(within.most if within.without_most else within.most + step)
    return found + ([] if field.type == "int" else [math.nan, math.inf, -math.inf])


@pytest.mark.parametrize(("name", "field"), NUMBERS, ids=[f"{name}.{field.name}" for name, field in NUMBERS])
def test_a_number_of_a_recipe_outside_its_range_is_refused_when_it_is_read(
    name: str, field: dataclasses.Field[Any]
) -> None:
    within = field.metadata["range"]
    assert math.isfinite(within.least), "every number says its range"
    for value in (like(field, v) for v in outside(field)):
        with pytest.raises(UsageError, match="HZ-U43") as caught:
            resolve(name, objective={field.name: value})
        assert repr(field.name) in caught.value.what and str(within) in caught.value.expected
        assert caught.value.got == repr(value)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("mae", {"mask": 1.5}),
        ("mae", {"mask": 0.0}),
        ("mae", {"mask": 1.0}),
        ("mae", {"betas": [0.9, 1.0]}),
        ("mae", {"decoder_width": 190, "decoder_heads": 2}),
        ("mae", {"decoder_width": 192, "decoder_heads": 5}),
        ("simclr", {"temperature": 0.0}),
        ("simclr", {"temperature": -0.1}),
        ("simclr", {"warmup": 1.1}),
        ("moco", {"momentum": 1.01}),
        ("moco", {"momentum": -0.01}),
        ("moco", {"queue": -1}),
        ("moco", {"projector_layers": 0}),
        ("byol", {"hidden": 0}),
        ("barlow", {"off_diagonal": -0.005}),
        ("vicreg", {"covariance": -1.0}),
        ("swav", {"prototypes": 1}),
        ("swav", {"epsilon": 0}),
        ("swav", {"rounds": 0}),
        ("swav", {"queue_from": 2}),
        ("dino", {"centre_momentum": 1.5}),
        ("dino", {"global_views": 3}),
        ("dino", {"teacher_temperature_start": 0}),
        ("ibot", {"koleo_weight": -0.1}),
        ("ibot", {"mask_probability": 50}),
        ("ibot", {"mask_low": 0.6, "mask_high": 0.5}),
    ],
)
def test_settings_that_no_training_can_have_are_refused_whatever_their_declaration(
    name: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="HZ-U43") as caught:
        resolve(name, objective=wrong)
    assert repr(next(iter(wrong))) in caught.value.what


@pytest.mark.parametrize(("name", "preset"), [(n, p) for n in OBJECTIVES for p in PRESETS[n]])
def test_every_preset_and_every_default_lies_in_its_range(name: str, preset: str) -> None:
    resolve(name, preset=preset)
    for field in dataclasses.fields(OBJECTIVES[name]):
        if "range" in field.metadata:
            values = field.default if isinstance(field.default, tuple) else (field.default,)
            assert all(map(field.metadata["range"].holds, values)), field.name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("lr", v) for v in (-0.1, math.nan, math.inf)),
        *(("momentum", v) for v in (-0.1, 1.0)),
        *(("weight_decay", v) for v in (-1.0, math.nan)),
        *(("max_grad_norm", v) for v in (-1.0, math.inf)),
        ("std", [0.2, 0.0, 0.2]),
        ("mean", [0.5, math.nan, 0.5]),
        ("alpha", math.nan),
        *((key, v) for key in ("seed", "split_seed") for v in (-1, 2**32, 10**400)),
    ],
)
def test_numbers_at_the_top_of_an_experiment_are_held_to_their_range(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match="HZ-U43") as caught:
        resolve("simclr", **{key: value})
    assert repr(key) in caught.value.what


@pytest.mark.parametrize(
    ("key", "value"),
    [("ssl_weight", -1.0), ("unlabelled_share", 1.0), ("head_lr_factor", -1.0), ("aspect", 0.5)],
)
def test_numbers_of_the_labelled_recipes_are_held_to_their_range(key: str, value: float) -> None:
    with pytest.raises(UsageError, match="HZ-U43"):
        resolve("multitaskssl", **{key: value})


STRENGTHS = [f.name for f in dataclasses.fields(View) if f.type == "float"]


@pytest.mark.parametrize("key", STRENGTHS)
def test_strengths_of_views_are_finite_and_not_negative(key: str) -> None:
    for value in (-0.01, math.nan, math.inf, *([1.01] if key.endswith("_p") else [])):
        with pytest.raises(UsageError, match="HZ-U43"):
            resolve("simclr", views={key: value})


def test_a_mask_that_rounds_to_no_token_is_refused() -> None:
    small = MADE["mae"][1]
    with pytest.raises(UsageError, match="HZ-U87 mae learns from the tokens that it hides"):
        make("mae", trunk=tiny_vit(), settings=dataclasses.replace(small, mask=0.01))


def test_a_range_is_said_in_words() -> None:
    open_ends = Range(least=0, most=1, without_least=True, without_most=True)
    assert [str(r) for r in (COUNT, SHARE, open_ends)] == ["at least 1", "0 to 1", "above 0 to below 1"]
