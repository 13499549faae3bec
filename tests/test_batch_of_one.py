"""A batch of one tile: refused with the reason by objectives that compare tiles, and trained on by the others."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from histozoo import experiment
from histozoo.assemble import check_start
from histozoo.errors import UsageError
from histozoo.recipes import ibot
from tests.fakes.ssl import MADE, batch, make

ALONE = {"koleo_weight": 0.0, "centring": "ema"}
REASONS: list[tuple[str, dict[str, Any], str]] = [
    ("simclr", {}, "among those of other tiles"),
    ("moco", {}, "among those of other tiles"),
    ("byol", {}, "over the batch"),
    ("barlow", {}, "correlations are taken over the tiles"),
    ("vicreg", {}, "variances and covariances"),
    ("swav", {"queue": 3840}, "over its prototypes"),
    ("ibot", {}, "sinkhorn"),
    ("ibot", {"centring": "ema"}, "koleo"),
]


def resolved(name: str, objective: dict[str, Any], **more: Any) -> experiment.Experiment:
    architecture = "test_vit" if name in ("mae", "ibot") else "test_resnet"
    raw = {"name": f"{architecture}.{name}_x", "tasks": ["a"], "preset": "small", "batch_size": 1, **more}
    return experiment.resolve({**raw, "objective": objective})


@pytest.mark.parametrize(("name", "objective", "why"), REASONS)
def test_an_objective_that_compares_tiles_refuses_a_batch_of_one(
    name: str, objective: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=f"HZ-U87 {name} cannot learn from one tile") as caught:
        check_start(resolved(name, objective, accumulate=8))
    assert why in caught.value.what and "batch_size = 1" in caught.value.got
    check_start(resolved(name, objective, batch_size=2))
    monkeypatch.setenv("WORLD_SIZE", "2")  # the batch of all processes together
    check_start(resolved(name, objective))


def test_the_unlabelled_objective_beside_labels_refuses_it_too() -> None:
    with pytest.raises(UsageError, match="HZ-U87 vicreg cannot learn"):
        check_start(resolved("multitaskssl", {}, ssl="vicreg"))


@pytest.mark.parametrize(
    ("name", "objective"), [("mae", {}), ("dino", {}), ("moco", {"queue": 64}), ("ibot", ALONE)]
)
def test_an_objective_about_each_tile_alone_is_not_refused(name: str, objective: dict[str, Any]) -> None:
    check_start(resolved(name, objective))


@pytest.mark.parametrize("name", ["mae", "dino", "moco_queue", "ibot_ema"])
def test_what_is_not_refused_learns_from_one_tile(name: str) -> None:
    settings: Any = MADE[name][1]
    if isinstance(settings, ibot.Settings):
        settings = dataclasses.replace(settings, **ALONE)
    assert settings.alone == ""
    recipe = make(name, settings=settings)
    loss = recipe(batch(recipe, 1))["loss"]
    loss.backward()
    gradients = [p.grad for p in recipe.parameters() if p.grad is not None]
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0
