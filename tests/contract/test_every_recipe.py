"""Applied to every recipe found: a finite scalar loss, a gradient for every parameter, and nothing that ties it to one machine."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import timm
import torch

from histozoo import experiment
from histozoo.data.mixing import UNIFORMS
from histozoo.data.views import Views
from histozoo.recipes import PRESETS, RECIPES, Recipe

FOLDER = Path(__file__).parents[2] / "histozoo" / "recipes"
HELPERS = {"__init__", "base", "batch_norm", "lars", "parts", "vit"}
UNWIRED = {"barlow", "byol", "dino", "ibot", "mae", "moco", "multitaskssl", "simclr", "swav", "vicreg"}
CASES = [(name, preset) for name, presets in PRESETS.items() for preset in presets]


def build(name: str, preset: str) -> Recipe:
    raw = {"name": f"test_resnet.{name}_tiny", "tasks": ["a", "b"], "preset": preset, "head_warmup_steps": 0}
    e = experiment.resolve(raw)
    torch.manual_seed(0)
    views = Views(px=32, mean=e.mean, std=e.std, rot90=e.rot90, area=e.area, colour=e.colour, stain=e.stain)
    backbone = timm.create_model("test_resnet", num_classes=0)
    return RECIPES[name](backbone, {"a": 2, "b": 3}, views=views, settings=e.settings()).train()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "tiles": torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=generator),
        "u": torch.rand(8, UNIFORMS, generator=generator),
        "task": torch.tensor([0, 1] * 4),
        "label": torch.tensor([0, 1, 1, 2, 0, 0, 1, 1]),
        "index": torch.arange(8),
    }


def test_files_and_registry_name_the_same_recipes() -> None:
    files = {p.stem for p in FOLDER.glob("*.py")} - HELPERS - UNWIRED
    assert files == set(RECIPES) == set(PRESETS)
    assert len(RECIPES) >= 1
    assert all("_" not in name for name in RECIPES)


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_the_loss_is_a_finite_scalar_and_every_parameter_gets_a_gradient(name: str, preset: str) -> None:
    recipe = build(name, preset)
    outputs = recipe(batch())
    assert outputs["loss"].shape == ()
    assert all(torch.isfinite(v) for v in outputs.values())
    outputs["loss"].backward()
    without = [n for n, p in recipe.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert any(n.startswith("backbone.") for n, _ in recipe.named_parameters())


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_the_loss_falls_when_one_batch_is_fitted(name: str, preset: str) -> None:
    recipe = build(name, preset)
    optimizer = torch.optim.Adam(recipe.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = recipe(batch())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_every_parameter_is_in_one_group_and_the_rate_is_finite_at_every_step(name: str, preset: str) -> None:
    recipe = build(name, preset)
    groups = recipe.param_groups()
    grouped = [id(p) for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in recipe.parameters())
    assert all(
        0 <= recipe.lr_factor(g, s) < 1e3 for g in range(len(groups)) for s in (0, 1, 199, 200, 10_000)
    )


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
