"""Whole self-supervised recipes against their papers: which view meets which, what comes from the teacher, what the loss must not see.

The losses alone are in test_ssl_losses.py, whose formulas by loops are used again here. Teachers, centres and queues are moved away from
where they start, so that a mistaken one shows.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from histozoo.recipes import mae, refusals, vit
from histozoo.recipes.base import Recipe
from tests.fakes.ssl import MADE, STEPS, batch, make, train_step
from tests.test_ssl_losses import barlow_twins, byol_distance, ko_leo, moco_3, nt_xent, unit, vic_reg

Data = dict[str, Tensor]
Made = Any  # a recipe, of which tests read what its class alone has


class Double:
    """Views in double precision; `order` says in which order they come."""

    def __init__(self, views: Any, order: tuple[int, ...]) -> None:
        self.views, self.uniforms, self.order = views, views.uniforms, order

    def __call__(self, tiles: Tensor, u: Tensor) -> list[Tensor]:
        shown = [x.double() for x in self.views(tiles, u)]
        return [shown[i] for i in self.order]


def moved(name: str) -> Made:
    """Returns a recipe in double precision whose teacher, centre and queue are no longer at their start."""
    recipe: Made = make(name)
    own = getattr(recipe, "objective", recipe)
    own.views = Double(own.views, tuple(range(len(refusals.sides(own.views)))))
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, value in [*recipe.named_parameters(), *recipe.named_buffers()]:
            if value.is_floating_point() and key.startswith(
                ("teacher_", "centre", "token_centre", "mask_token")
            ):
                value.add_(0.1 * torch.randn(value.shape, generator=random))
    return recipe.double()


# -- the papers, recipe by recipe ------------------------------------------------------------------------------------------------------


def two(recipe: Made, data: Data) -> tuple[Tensor, Tensor]:
    x_1, x_2 = recipe.views(data["tiles"], data["u"])
    return x_1, x_2


def teacher(recipe: Made, x: Tensor) -> Tensor:
    with torch.no_grad():
        projected: Tensor = recipe.teacher_projector(recipe.teacher_backbone(x))
    return projected


def query(recipe: Made, x: Tensor) -> Tensor:
    answer: Tensor = recipe.predictor(recipe.projector(recipe.backbone(x)))
    return answer


def simclr_loss(recipe: Made, data: Data) -> Tensor:
    z = recipe.projector(
        torch.cat([recipe.backbone(x) for x in two(recipe, data)])
    )  # one batch norm for both
    return nt_xent(*z.chunk(2))


def barlow_loss(recipe: Made, data: Data) -> Tensor:
    a, b = (recipe.projector(recipe.backbone(x)) for x in two(recipe, data))
    sides = [(v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt() for v in (a, b)]
    c = torch.stack([(sides[0] * sides[1][:, [j]]).mean(0) for j in range(a.shape[1])], 1)
    eye = torch.eye(len(c), dtype=torch.bool)
    return (1 - c[eye]).square().sum() + 0.0051 * c[~eye].square().sum()


def vicreg_loss(recipe: Made, data: Data) -> Tensor:
    a, b = (recipe.projector(recipe.backbone(x)) for x in two(recipe, data))
    loss = 25 * (a - b).square().mean()
    for v in (a, b):
        cov = torch.cov(v.T)
        loss = loss + 25 / 2 * (1 - (cov.diagonal() + 1e-4).sqrt()).clamp(min=0).mean()
        loss = loss + (cov.square().sum() - cov.diagonal().square().sum()) / len(cov)
    return loss


def byol_loss(recipe: Made, data: Data) -> Tensor:
    x_1, x_2 = two(recipe, data)
    forth = byol_distance(query(recipe, x_1), teacher(recipe, x_2))
    return forth + byol_distance(query(recipe, x_2), teacher(recipe, x_1))


def moco_loss(recipe: Made, data: Data) -> Tensor:
    x_1, x_2 = two(recipe, data)
    return moco_3(query(recipe, x_1), teacher(recipe, x_2)) + moco_3(query(recipe, x_2), teacher(recipe, x_1))


def moco_queue_loss(recipe: Made, data: Data) -> Tensor:
    x_1, x_2 = two(recipe, data)
    terms = []
    for q, k in zip(recipe.projector(recipe.backbone(x_1)), teacher(recipe, x_2), strict=True):
        scores = torch.stack([unit(q).dot(unit(k)), *(unit(q).dot(n) for n in recipe.queue)]) / 0.2
        terms.append(scores.exp().sum().log() - scores[0])
    return torch.stack(terms).mean()


def soft(scores: Tensor, temperature: float) -> Tensor:
    e = ((scores - scores.amax(-1, keepdim=True)) / temperature).exp()
    return e / e.sum(-1, keepdim=True)


def crossed(scores: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean of the cross-entropies of every target with the scores of every other view."""
    pairs = [(g, v) for g in range(len(targets)) for v in range(len(scores)) if v != g]
    return torch.stack([-(targets[g] * soft(scores[v], 0.1).log()).sum(-1).mean() for g, v in pairs]).mean()


def even(scores: Tensor, epsilon: float) -> Tensor:
    """The authors' Sinkhorn-Knopp, prototypes by samples."""
    q = np.exp(scores.detach().numpy().T / epsilon)
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(1, keepdims=True) * q.shape[0]
        q /= q.sum(0, keepdims=True) * q.shape[1]
    return torch.from_numpy((q * q.shape[1]).T)


def swav_loss(recipe: Made, data: Data) -> Tensor:
    views = recipe.views(data["tiles"], data["u"])
    z = recipe.projector(torch.cat([recipe.backbone(x) for x in views])).split(len(data["u"]))
    scores = [
        torch.stack([torch.stack([unit(v).dot(c) for c in recipe.prototypes]) for v in one]) for one in z
    ]
    return crossed(scores, [even(s, 0.05) for s in scores[:2]])


def dino_loss(recipe: Made, data: Data) -> Tensor:
    views = recipe.views(data["tiles"], data["u"])
    with torch.no_grad():
        taught = [recipe.teacher_head(recipe.teacher_backbone(x)) for x in views[:2]]
    targets = [soft(t - recipe.centre, 0.04) for t in taught]
    return crossed([recipe.head(recipe.backbone(x)) for x in views], targets)


def hidden_tokens(recipe: Made, data: Data) -> list[Tensor]:
    """Masks of the two global crops, `[B, L]` each."""
    chunks = data["u"][:, recipe.views.uniforms :].split(vit.mask_uniforms(16), dim=1)
    s = recipe.settings
    share = {"probability": s.mask_probability, "low": s.mask_low, "high": s.mask_high}
    return [vit.masks(u, rows=4, columns=4, **share) for u in chunks]


def ibot_loss(recipe: Made, data: Data) -> Tensor:
    views, masks = recipe.views(data["tiles"], data["u"]), hidden_tokens(recipe, data)
    shared = "token" if "token" in recipe.heads else "crop"
    seen = [
        vit.features_and_grid(
            recipe.backbone, vit.embed(recipe.backbone, x, hidden_BL=m, instead_D=recipe.mask_token)
        )
        for x, m in zip(views[:2], masks, strict=True)
    ]
    taught = [
        vit.features_and_grid(recipe.teacher_backbone, vit.embed(recipe.teacher_backbone, x))
        for x in views[:2]
    ]
    crops = torch.cat([recipe.teacher_heads["crop"](f) for f, _ in taught])
    tokens = torch.cat([recipe.teacher_heads[shared](t[m]) for (_, t), m in zip(taught, masks, strict=True)])
    if recipe.settings.centring == "ema":
        p, token_p = soft(crops - recipe.centre, 0.04), soft(tokens - recipe.token_centre, 0.04)
    else:
        p, token_p = even(crops, 0.04), even(tokens, 0.04)
    features = [f for f, _ in seen] + [recipe.backbone(x) for x in views[2:]]
    loss = crossed([recipe.heads["crop"](f) for f in features], list(p.detach().chunk(2)))
    said = torch.cat([recipe.heads[shared](t[m]) for (_, t), m in zip(seen, masks, strict=True)])
    costs = iter(-(token_p.detach() * soft(said, 0.1).log()).sum(-1))
    per_crop = [sum(next(costs) for _ in range(n)) / n for n in torch.cat(masks).sum(1).tolist() if n]
    loss = loss + sum(per_crop) / len(torch.cat(masks))
    return loss + 0.1 * sum(ko_leo(f, f) for f, _ in seen)


def mae_loss(recipe: Made, data: Data) -> Tensor:
    (x,) = recipe.views(data["tiles"], data["u"])
    u = data["u"][:, recipe.views.uniforms :]
    shown = torch.stack([row.argsort()[:4].sort().values for row in u])  # a quarter of 16
    guess = recipe._decode(recipe._encode(x, shown), shown)
    errors = []
    for b, token in itertools.product(range(len(x)), range(16)):
        top, left = 8 * (token // 4), 8 * (token % 4)
        patch = x[b, :, top : top + 8, left : left + 8].permute(1, 2, 0).flatten()
        target = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
        errors += [] if token in shown[b] else [(guess[b, token] - target).square().mean()]
    assert len(errors) == 12 * len(x)
    return torch.stack(errors).mean()


PAPERS: dict[str, Callable[[Made, Data], Tensor]] = {
    "simclr": simclr_loss,
    "barlow": barlow_loss,
    "vicreg": vicreg_loss,
    "byol": byol_loss,
    "moco": moco_loss,
    "moco_queue": moco_queue_loss,
    "swav": swav_loss,
    "dino": dino_loss,
    "ibot": ibot_loss,
    "ibot_ema": ibot_loss,
    "mae": mae_loss,
}


@pytest.mark.parametrize("name", PAPERS)
def test_the_loss_of_a_batch_and_all_its_gradients_are_those_of_the_paper(name: str) -> None:
    recipe = moved(name)
    data = batch(recipe)
    trained = {k: p for k, p in recipe.named_parameters() if p.requires_grad}
    ours = recipe(data)["loss"]
    theirs = PAPERS[name](recipe, data)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    pairs = zip(*(torch.autograd.grad(v, list(trained.values())) for v in (ours, theirs)), strict=True)
    for key, (mine, paper) in zip(trained, pairs, strict=True):
        largest = float(paper.abs().max())
        assert torch.allclose(mine, paper, rtol=1e-5, atol=1e-5 * max(largest, 1e-6)), key
        assert key.endswith("prototypes") or key.startswith("decoder") or largest > 0, key


def test_every_recipe_has_a_paper_above() -> None:
    # The queue of swav is in test_ssl_state.py, the sum of multitaskssl in test_ssl_parts.py.
    assert set(MADE) - set(PAPERS) == {"swav_queue"}


def test_the_formulas_written_twice_agree() -> None:
    """Barlow Twins and VICReg are written out here for any width, and by loops in test_ssl_losses.py."""
    a, b = (
        torch.randn(6, 5, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1)
    )

    class Given:
        views = staticmethod(lambda _tiles, _u: (a, b))
        backbone = projector = staticmethod(lambda x: x)

    empty = {"tiles": a, "u": a}
    assert float(barlow_loss(Given(), empty)) == pytest.approx(float(barlow_twins(a, b)))
    assert float(vicreg_loss(Given(), empty)) == pytest.approx(float(vic_reg(a, b)))


# -- what a recipe must not see --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MADE, "multitaskssl"])
def test_the_order_of_the_tiles_does_not_change_the_loss(name: str) -> None:
    recipe = moved(name) if name != "multitaskssl" else make(name)
    data = batch(recipe)
    order = torch.tensor([3, 7, 0, 5, 1, 4, 6, 2])
    whole = float(recipe(data)["loss"].detach())
    assert float(recipe({k: v[order] for k, v in data.items()})["loss"].detach()) == pytest.approx(
        whole, rel=1e-5
    )
    other = {**data, "u": data["u"][order]}
    assert float(recipe(other)["loss"].detach()) != pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("name", ["simclr", "barlow", "vicreg", "byol", "moco"])
def test_the_swap_of_the_views_does_not_change_the_loss(name: str) -> None:
    recipe = moved(name)
    data = batch(recipe)
    before = float(recipe(data)["loss"].detach())
    recipe.views = Double(recipe.views, (1, 0))
    assert float(recipe(data)["loss"].detach()) == pytest.approx(before, rel=1e-9)
    recipe.views = Double(recipe.views, (0, 0))
    assert float(recipe(data)["loss"].detach()) != pytest.approx(before, rel=1e-5)


def test_the_queue_of_moco_2_may_lie_in_any_order_and_turn_with_the_vectors() -> None:
    recipe = moved("moco_queue")
    data = batch(recipe)
    before = float(recipe(data)["loss"].detach())
    recipe.queue.copy_(recipe.queue.flip(0))
    assert float(recipe(data)["loss"].detach()) == pytest.approx(before, rel=1e-9)
    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=random, dtype=torch.float64))[0]
    recipe.queue.copy_(recipe.queue @ turn.T)
    assert float(recipe(data)["loss"].detach()) != pytest.approx(before, rel=1e-3)
    with torch.no_grad():
        for projector in (recipe.projector, recipe.teacher_projector):
            projector[-1].weight.copy_(turn @ projector[-1].weight)
            projector[-1].bias.copy_(turn @ projector[-1].bias)
    assert float(recipe(data)["loss"].detach()) == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("name", ["swav", "dino", "ibot"])
def test_outputs_may_be_permuted(name: str) -> None:
    recipe = moved(name)
    data = batch(recipe)
    before = float(recipe(data)["loss"].detach())
    with torch.no_grad():
        for key, value in [*recipe.named_parameters(), *recipe.named_buffers()]:
            if key.endswith("prototypes") or key == "centre":
                value.copy_(value.flip(0))
    assert float(recipe(data)["loss"].detach()) == pytest.approx(before, rel=1e-6)


def test_what_is_guessed_of_shown_tokens_costs_nothing_in_mae() -> None:
    hidden = torch.tensor([[1, 0, 1, 1]], dtype=torch.bool)
    guess, target = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    before = mae.reconstruction(guess, target, hidden)
    guess[0, 1] += 5
    assert torch.equal(mae.reconstruction(guess, target, hidden), before)
    guess[0, 2] += 5
    assert mae.reconstruction(guess, target, hidden) > before


# -- schedules and centres by hand -----------------------------------------------------------------------------------------------------

# Steps of warm-up of a run of 20 steps: the published share of it, rounded; and what the cosine ends at, as a share of the highest rate.
RATES = {
    "simclr": (2, 0.0),
    "barlow": (0, 0.001),
    "vicreg": (0, 0.01),
    "byol": (0, 0.0),
    "moco": (3, 0.0),
    "moco_queue": (0, 0.0),
    "swav": (0, 0.001),
    "dino": (2, 0.002),
    "ibot": (2, 0.00025),
    "mae": (1, 0.0),
}


@pytest.mark.parametrize("name", RATES)
def test_every_recipe_warms_up_and_ends_as_published(name: str) -> None:
    recipe, (warm, end) = make(name), RATES[name]
    for group in range(len(recipe.param_groups())):
        rates = [recipe.lr_factor(group, step) for step in range(STEPS + 1)]
        assert rates[:warm] == pytest.approx([(step + 1) / warm for step in range(warm)])
        assert rates[warm] == pytest.approx(1.0) and rates[STEPS] == pytest.approx(end)
        for step in range(warm, STEPS):
            share = (step - warm) / (STEPS - warm)
            assert rates[step] == pytest.approx(end + (1 - end) * (1 + math.cos(math.pi * share)) / 2)


def test_both_centres_of_ibot_are_running_means_of_the_teachers_scores() -> None:
    recipe: Made = make("ibot_ema")
    data, masks = batch(recipe), hidden_tokens(make("ibot_ema"), batch(recipe))
    x = recipe.views(data["tiles"], data["u"])[:2]
    with torch.no_grad():
        taught = [
            vit.features_and_grid(recipe.teacher_backbone, vit.embed(recipe.teacher_backbone, v)) for v in x
        ]
        crops = torch.cat([recipe.teacher_heads["crop"](f) for f, _ in taught])
        tokens = torch.cat(
            [recipe.teacher_heads["crop"](t[m]) for (_, t), m in zip(taught, masks, strict=True)]
        )
    train_step(recipe, data, torch.optim.SGD(recipe.param_groups()), 0)
    assert len(tokens) > 4 and float(tokens.abs().max()) > 1e-3
    assert torch.allclose(recipe.centre, 0.1 * crops.mean(0), atol=1e-7)
    assert torch.allclose(recipe.token_centre, 0.1 * tokens.mean(0), atol=1e-7)
    assert not torch.allclose(recipe.centre, recipe.token_centre, atol=1e-5)


def test_only_what_is_asked_of_the_teacher_is_sharpened_by_its_schedule() -> None:
    settings = dataclasses.replace(MADE["dino"][1], teacher_temperature=0.07, temperature_warmup=0.5)
    recipe: Recipe = make("dino", settings=settings)
    data = batch(recipe)
    recipe.on_step(0)
    cold = float(recipe(data)["loss"].detach())
    recipe.on_step(STEPS // 2)
    warm = float(recipe(data)["loss"].detach())
    recipe.on_step(STEPS - 1)
    assert cold != warm and float(recipe(data)["loss"].detach()) == warm
