"""Applied to every recipe found: a finite scalar loss, a gradient for every parameter, and nothing that ties it to one machine."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from histozoo import experiment
from histozoo.assemble import build_recipe
from histozoo.recipes import LABELLED, OBJECTIVES, PRESETS, RECIPES, Recipe

FOLDER = Path(__file__).parents[2] / "histozoo" / "recipes"
HELPERS = {"__init__", "base", "batch_norm", "lars", "parts", "presets", "refusals", "vit"}
EVERY = [(name, preset) for name, presets in PRESETS.items() for preset in presets]
CASES = [(name, preset) for name, preset in EVERY if preset in ("faithful", "modern", "small")]
TOKENS = ("ibot", "mae")
NARROW = {
    "hidden": 32,
    "outputs": 24,
    "bottleneck": 8,
    "prototypes": 12,
    "decoder_width": 16,
    "decoder_heads": 2,
}


def resolved(name: str, preset: str) -> experiment.Experiment:
    architecture = "test_vit" if name in TOKENS else "test_resnet"
    raw = {
        "name": f"{architecture}.{name}_tiny",
        "tasks": ["a", "b"],
        "preset": preset,
        "tile_px": 32,
        "train_px": 32,
    }
    if name in ("multitask", "multitaskssl"):
        raw |= {"head_warmup_steps": 0}
    if name in OBJECTIVES:
        known = {f.name for f in dataclasses.fields(OBJECTIVES[name])}
        raw |= {"objective": {k: v for k, v in NARROW.items() if k in known}}
    if PRESETS[name][preset].get("views", {}).get("local_views"):
        raw |= {"views": {"local_px": 16}}
    return experiment.resolve(raw)


def build(name: str, preset: str) -> Recipe:
    return build_recipe(resolved(name, preset), {"a": 2, "b": 3}).train()


def batch(recipe: Recipe) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "tiles": torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=generator),
        "u": torch.rand(8, recipe.uniforms, generator=generator),
        "task": torch.tensor([0, 1] * 4),
        "label": torch.tensor([0, 1, 1, 2, 0, 0, 1, 1]),
        "index": torch.arange(8),
    }


def test_files_and_registry_name_the_same_recipes() -> None:
    files = {p.stem for p in FOLDER.glob("*.py")} - HELPERS
    assert files == set(RECIPES) == set(PRESETS)
    assert len(RECIPES) >= 1
    assert all("_" not in name for name in RECIPES)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_an_experiment_of_every_preset_resolves_and_writes_out_what_it_is(name: str, preset: str) -> None:
    e = resolved(name, preset)
    settings = json.loads(json.dumps(e.settings()))
    assert settings == e.settings() and "own" not in settings
    if name not in LABELLED:
        fields = {f.name for f in dataclasses.fields(OBJECTIVES[name])}
        assert settings["objective"].keys() == fields
        assert {"area", "hue", "stain_p", "global_views", "without"} <= settings["views"].keys()


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_the_loss_is_a_finite_scalar_and_every_parameter_gets_a_gradient(name: str, preset: str) -> None:
    recipe = build(name, preset)
    outputs = recipe(batch(recipe))
    assert outputs["loss"].shape == ()
    assert all(torch.isfinite(v) for v in outputs.values())
    outputs["loss"].backward()
    without = [n for n, p in recipe.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert any(n.startswith("backbone.") for n, _ in recipe.named_parameters())


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_the_loss_falls_when_one_batch_is_fitted(name: str, preset: str) -> None:
    recipe = build(name, preset)
    data = batch(recipe)
    optimizer = torch.optim.Adam([p for p in recipe.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = recipe(data)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if name in LABELLED:
        assert losses[-1] < 0.3 * losses[0]
    else:  # a floor above zero (cross-entropies with soft targets), or a loss that may be negative (koleo)
        assert losses[-1] < losses[0] - 0.05 * abs(losses[0])


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_every_parameter_is_in_one_group_and_the_rate_is_finite_at_every_step(name: str, preset: str) -> None:
    recipe = build(name, preset)
    groups = recipe.param_groups()
    grouped = [id(p) for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in recipe.parameters() if p.requires_grad)
    for group in range(len(groups)):
        for step in (0, 1, 199, 200, 10_000):
            assert 0 <= recipe.lr_factor(group, step) < 1e3
            decay = recipe.weight_decay_at(group, step)
            assert decay is None or 0 <= decay < 1


def test_no_recipe_prints_names_a_device_or_runs_backward_itself() -> None:
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                assert called not in ("print", "cuda", "backward"), (
                    f"{path.name}:{node.lineno} calls {called}"
                )
