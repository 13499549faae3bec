"""Self-supervised recipes on tiles whose class is their texture, in seconds each.

The colour of a tile is drawn apart from its texture and is what a trunk that was not trained sees: fewer than half of its nearest
neighbours share the texture. Trained on views that leave little of the colour, more than nine of ten do. Trained without stain jitter,
colour jitter and grey, the same recipe turns to colour: far more neighbours share it, and fewer share the texture. Nothing forbids it to
learn both, but the trunk has hardly room for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from histozoo.recipes import barlow, byol, moco, simclr, swav, vicreg
from histozoo.recipes.base import Recipe
from tests.fakes import textures

TILES, ROWS, LEARNT, BLIND = 2048, 64, 0.9, 0.5
MORE_COLOUR, LESS_TEXTURE = 0.2, 0.1
"""By how much the shares of neighbours must differ between training with and without what changes colours."""


class Toy(NamedTuple):
    """A recipe at widths and lengths of the toy."""

    kind: type[Recipe]
    settings: Any
    steps: int = 150
    lr: float = 3e-3


HEAD = {"hidden": 128, "outputs": 64}
FAST: dict[str, Any] = {**HEAD, "momentum": 0.9, "warmup": 0.1}
"""In a run of so few steps the teacher follows within ten."""
TOYS = {
    "simclr": Toy(simclr.SimCLR, simclr.Settings(**HEAD)),
    "moco": Toy(moco.MoCo, moco.Settings(**FAST), lr=5e-3),
    "moco_queue": Toy(
        moco.MoCo,
        moco.Settings(**{**moco.VERSION_2, **FAST, "momentum_end": 0.9, "queue": 256}),
        lr=5e-3,
    ),
    "byol": Toy(byol.BYOL, byol.Settings(**FAST), steps=300, lr=2e-3),
    "barlow": Toy(barlow.Barlow, barlow.Settings(**HEAD, vector_lr=1.0)),
    "vicreg": Toy(vicreg.VICReg, vicreg.Settings(**HEAD)),
    "swav": Toy(
        swav.SwAV,
        swav.Settings(prototypes=64, hidden=128, outputs=32, epsilon=0.03, freeze_steps=0, warmup=0.1),
        lr=5e-3,
    ),
}


def neighbours(name: str, *, colours: bool, seed: int = 0) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns how often the nearest tiles share the texture, and the colour, before and after the recipe was trained."""
    toy = TOYS[name]
    torch.manual_seed(seed)
    trunk = textures.Trunk()
    before = textures.nearest(trunk, seed=seed)
    options = {"steps": toy.steps, "lr": toy.lr, "weight_decay": 1e-4, "seed": seed}
    recipe = toy.kind(trunk, views=textures.views(colours=colours), settings=toy.settings, **options)  # type: ignore[call-arg]
    textures.learn(recipe.train(), textures.drawn(TILES, seed), steps=toy.steps, rows=ROWS, seed=seed)
    return before, textures.nearest(trunk, seed=seed)


@pytest.mark.parametrize("name", TOYS)
def test_a_recipe_learns_textures_and_without_stain_jitter_it_turns_to_colour(name: str) -> None:
    torch.set_num_threads(1)
    (untrained, _), (texture, colour) = neighbours(name, colours=True)
    assert untrained < BLIND and texture > LEARNT
    _, (less, latched) = neighbours(name, colours=False)
    assert latched > colour + MORE_COLOUR and less < texture - LESS_TEXTURE
