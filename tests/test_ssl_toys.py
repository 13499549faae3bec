"""SimCLR, MoCo, Barlow Twins and VICReg on tiles whose class is their texture, in seconds each.

The colour of a tile is drawn apart from its texture and is what a trunk that was not trained sees first: fewer than six of ten of its
nearest neighbours share the texture. Trained on views that leave little of the colour, more than nine of ten do. Trained without stain
jitter, colour jitter and grey, the same recipe turns to colour: more neighbours share it, and fewer share the texture. Nothing forbids it
to learn both, and where it does the difference is small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from histozoo.recipes import barlow, moco, simclr, vicreg
from histozoo.recipes.base import Recipe
from tests.fakes import textures

TILES, ROWS, LEARNT, BLIND, CLEAR = 2048, 64, 0.9, 0.6, 0.03


class Toy(NamedTuple):
    """A recipe at widths and lengths of the toy."""

    kind: type[Recipe]
    settings: Any
    steps: int
    lr: float = 3e-3


HEAD = {"hidden": 128, "outputs": 64}
TOYS = {
    "simclr": Toy(simclr.SimCLR, simclr.Settings(**HEAD), 80),
    "moco": Toy(moco.MoCo, moco.Settings(**HEAD), 80),
    "barlow": Toy(barlow.Barlow, barlow.Settings(**HEAD, vector_lr=1.0), 80),
    "vicreg": Toy(vicreg.VICReg, vicreg.Settings(**HEAD), 80),
}


def neighbours(name: str, *, colours: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns how often the nearest tiles share the texture, and the colour, before and after the recipe was trained."""
    toy = TOYS[name]
    torch.manual_seed(0)
    trunk = textures.Trunk()
    before = textures.nearest(trunk, seed=0)
    options = {"steps": toy.steps, "lr": toy.lr, "weight_decay": 1e-4, "seed": 0}
    recipe = toy.kind(trunk, views=textures.views(colours=colours), settings=toy.settings, **options)  # type: ignore[call-arg]
    textures.learn(recipe.train(), textures.drawn(TILES, 0), steps=toy.steps, rows=ROWS, seed=0)
    return before, textures.nearest(trunk, seed=0)


@pytest.mark.parametrize("name", TOYS)
def test_a_recipe_learns_textures_and_without_stain_jitter_it_turns_to_colour(name: str) -> None:
    torch.set_num_threads(1)
    (untrained, _), (texture, colour) = neighbours(name, colours=True)
    assert untrained < BLIND and texture > LEARNT
    _, (less, latched) = neighbours(name, colours=False)
    assert latched > colour + CLEAR and less < texture - CLEAR
