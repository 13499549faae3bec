"""Self-supervised recipes on tiles whose class is their texture, in seconds each.

The colour of a tile is drawn apart from its texture and is what a trunk that was not trained sees: fewer than half of its nearest
neighbours share the texture. Trained on views that leave little of the colour, more than nine of ten do. Trained without stain jitter,
colour jitter and grey, the same recipe turns to colour: far more neighbours share it, and fewer share the texture. Nothing forbids it to
learn both, but the trunk has hardly room for it; iBOT's, a vision transformer, has.

Beside SimCLR, `multitaskssl` has for every other tile a label that tells in which of two pairs of textures its own is, and no more.

DINO in so few steps does not always find the textures with four features (0.8 to 1.0 from seed to seed): it has eight, of which colour
keeps some, so that the gap in colour is smaller.

MAE has one view, which it draws again as it is: what a view leaves of the colour it has to keep. So it learns from grey views and is asked
on grey tiles, then learns from coloured ones and is asked on coloured tiles: the colour decides, as before training, though with room for
both it learns most of the textures, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from histozoo.data.views import Views
from histozoo.recipes import (
    barlow,
    byol,
    dino,
    ibot,
    mae,
    moco,
    multitask,
    multitaskssl,
    simclr,
    swav,
    vicreg,
)
from histozoo.recipes.base import Recipe
from tests.fakes import textures

TILES, ROWS, LEARNT, BLIND, HALF_TOLD = 2048, 64, 0.9, 0.5, 0.8
MORE_COLOUR, LESS_TEXTURE = 0.15, 0.1
"""By how much the shares of neighbours must differ between training with and without what changes colours."""


class Toy(NamedTuple):
    """A recipe at widths and lengths of the toy."""

    kind: type[Recipe]
    settings: Any
    steps: int = 150
    lr: float = 3e-3
    trunk: Callable[[], nn.Module] = textures.Trunk
    more_colour: float = MORE_COLOUR


HEAD = {"hidden": 128, "outputs": 64}
FAST: dict[str, Any] = {**HEAD, "momentum": 0.9, "warmup": 0.1}
"""In a run of so few steps the teacher follows within ten."""
SHARP: dict[str, Any] = {
    "outputs": 64,
    "hidden": 128,
    "bottleneck": 32,
    "freeze_last": 1.0,
    "weight_decay_end": 1e-4,
}
"""The prototypes stay as they were drawn: so short a run has no time for both to settle."""
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
    "dino": Toy(
        dino.DINO,
        dino.Settings(**SHARP, momentum=0.97, centre_momentum=0.5),
        steps=200,
        trunk=partial(textures.Trunk, features=8, loud=3.0),
        more_colour=0.05,
    ),
    "ibot": Toy(
        ibot.IBOT, ibot.Settings(**SHARP, momentum=0.95, token_weight=0.1), steps=200, trunk=textures.vit
    ),
    "multitaskssl": Toy(multitaskssl.MultitaskSSL, multitaskssl.Settings()),
}


def made(toy: Toy, trunk: nn.Module, *, colours: bool, seed: int) -> Recipe:
    """Returns the recipe around `trunk`; beside labels it is SimCLR."""
    options = {"steps": toy.steps, "lr": toy.lr, "weight_decay": 1e-4}
    views = textures.views(colours=colours)
    if toy.kind is not multitaskssl.MultitaskSSL:
        return toy.kind(trunk, views=views, settings=toy.settings, seed=seed, **options)  # type: ignore[call-arg]
    plain = Views(px=textures.PX, mean=textures.MEAN, std=textures.STD)
    values = {**multitask.PRESETS["modern"], **options, "warmup_steps": toy.steps // 10}
    labelled = multitask.Multitask(trunk, {"pair": 2}, views=plain, settings=values)
    objective = simclr.SimCLR(trunk, views=views, settings=TOYS["simclr"].settings, seed=seed, **options)  # type: ignore[arg-type]
    return toy.kind(trunk, multitask=labelled, objective=objective, settings=toy.settings)  # type: ignore[call-arg]


def neighbours(toy: Toy, *, colours: bool, seed: int = 0) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns how often the nearest tiles share the texture, and the colour, before and after the recipe was trained."""
    torch.manual_seed(seed)
    trunk = toy.trunk()
    before = textures.nearest(trunk, seed=seed)
    recipe = made(toy, trunk, colours=colours, seed=seed)
    textures.learn(recipe.train(), textures.drawn(TILES, seed), steps=toy.steps, rows=ROWS, seed=seed)
    return before, textures.nearest(trunk, seed=seed)


@pytest.mark.parametrize("name", TOYS)
def test_a_recipe_learns_textures_and_without_stain_jitter_it_turns_to_colour(name: str) -> None:
    torch.set_num_threads(1)
    (untrained, _), (texture, colour) = neighbours(TOYS[name], colours=True)
    assert untrained < BLIND and texture > LEARNT
    _, (less, latched) = neighbours(TOYS[name], colours=False)
    assert latched > colour + TOYS[name].more_colour and less < texture - LESS_TEXTURE


def test_mae_learns_textures_from_grey_views_and_keeps_the_colour_of_coloured_ones() -> None:
    torch.set_num_threads(1)

    def asked(*, colours: bool) -> tuple[tuple[float, float], tuple[float, float]]:
        torch.manual_seed(0)
        trunk = textures.vit(depth=2, flat=0.0)
        before = textures.nearest(trunk, seed=0, grey=not colours)
        view = textures.one(colours=colours)
        small = mae.Settings(decoder_width=32, decoder_depth=1, decoder_heads=2, warmup=0.1)
        recipe = mae.MAE(trunk, views=view, settings=small, steps=1200, lr=4e-3, weight_decay=0.05, seed=0)
        textures.learn(recipe.train(), textures.drawn(TILES, 0), steps=1200, rows=ROWS, seed=0)
        return before, textures.nearest(trunk, seed=0, grey=not colours)

    (untrained, _), (texture, _) = asked(colours=False)
    assert untrained < BLIND and texture > LEARNT
    _, (_, latched) = asked(colours=True)
    assert latched > LEARNT


def test_labels_of_pairs_alone_do_not_tell_the_textures() -> None:
    torch.set_num_threads(1)
    alone = TOYS["multitaskssl"]._replace(settings=multitaskssl.Settings(weight=0.0))
    _, (texture, _) = neighbours(alone, colours=True)
    assert texture < HALF_TOLD
