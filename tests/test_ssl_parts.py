"""Schedules, parameter groups, LARS, masks and refusals of the self-supervised recipes, against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from histozoo.errors import UsageError
from histozoo.recipes import dino, mae, moco, parts, vit
from histozoo.recipes.base import Recipe
from histozoo.recipes.lars import LARS
from histozoo.recipes.multitaskssl import MultitaskSSL
from tests.fakes.ssl import CROPS, MADE, STEPS, TWO, UNIFORMS, Stub, Trunk, batch, make, tiny_vit, train_step

EVERY = [*MADE, "multitaskssl"]

# -- schedules -------------------------------------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    factors = [parts.warmup_cosine(s, steps=12, warmup=1 / 3, final=0.2) for s in range(13)]
    assert factors[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert factors[8] == pytest.approx(0.6)  # half way between 1 and 0.2
    assert factors[6] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert factors[12] == pytest.approx(0.2) and parts.warmup_cosine(0, steps=5, warmup=0) == 1.0


def test_momentum_and_temperature_follow_their_published_curves() -> None:
    byol = [
        1 - (1 - 0.996) * (math.cos(math.pi * k / 10) + 1) / 2 for k in range(11)
    ]  # Grill et al., section 3.2
    assert [parts.cosine(0.996, 1.0, step=k, steps=10) for k in range(11)] == pytest.approx(byol)
    warm = [dino.warm_temperature(s, start=0.04, end=0.07, warmup=0.3, steps=10) for s in (0, 1, 2, 3, 9)]
    assert warm == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07])


def test_weight_decay_of_dino_rises_for_matrices_only_and_other_recipes_leave_theirs() -> None:
    for name in ("dino", "ibot"):
        recipe = make(name)
        values = [recipe.weight_decay_at(0, step) for step in (0, STEPS // 2, STEPS)]
        assert values == pytest.approx([0.01, 0.205, 0.4])
        assert recipe.weight_decay_at(1, STEPS) == 0.0
    assert make("simclr").weight_decay_at(0, 5) is None and make("multitaskssl").weight_decay_at(0, 5) is None


# -- parameter groups ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_every_trained_parameter_is_in_one_group_gets_a_gradient_and_vectors_have_no_decay(name: str) -> None:
    recipe = make(name)
    groups = recipe.param_groups()
    ids = [id(p) for g in groups for p in g["params"]]
    trained = {id(p) for p in recipe.parameters() if p.requires_grad}
    assert len(ids) == len(set(ids)) and set(ids) == trained
    for group in groups:
        vectors = {p.ndim <= 1 for p in group["params"]}
        assert vectors in ({True}, {False})
        assert (group["weight_decay"] == 0) == vectors.pop()
    assert [g["adapt"] for g in make("simclr").param_groups()] == [True, False]
    recipe(batch(recipe))["loss"].backward()
    assert [k for k, p in recipe.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(isinstance(recipe.lr_factor(i, 3), float) for i in range(len(groups)))


def test_barlows_vectors_and_maes_betas_are_the_published_ones() -> None:
    matrices, vectors = make("barlow").param_groups()
    assert vectors["lr"] / matrices["lr"] == pytest.approx(0.0048 / 0.2)
    groups = make("mae").param_groups()
    optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
    assert [g["betas"] for g in optimizer.param_groups] == [(0.9, 0.95)] * 2


def test_the_first_layer_of_a_vit_rests_in_moco_3() -> None:
    kind, settings, _ = MADE["moco"]
    recipe = kind(
        tiny_vit(), views=Stub((32, 32)), settings=settings, steps=5, lr=0.1, weight_decay=0.0, seed=0
    )  # type: ignore[call-arg]
    before = {k: p.clone() for k, p in recipe.named_parameters()}
    train_step(recipe, batch(recipe), torch.optim.SGD(recipe.param_groups()), 1)
    for key, p in recipe.named_parameters():
        assert torch.equal(p, before[key]) or "patch_embed" not in key
    assert not torch.equal(recipe.backbone.pos_embed, before["backbone.pos_embed"])  # type: ignore[arg-type]


def test_heads_are_a_function_of_their_seed_alone_and_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(1)
    trunk, state = Trunk(), torch.get_rng_state()
    kind, settings, views = MADE["dino"]

    def built(seed: int) -> Recipe:
        return kind(trunk, views=views, settings=settings, steps=5, lr=0.1, weight_decay=0.0, seed=seed)  # type: ignore[call-arg]

    one, two, other = built(3), built(3), built(4)
    assert torch.equal(torch.get_rng_state(), state)
    keys = {k: v for k, v in one.state_dict().items() if k.startswith("head") and v.ndim > 1}
    assert len(keys) == 4
    for key, value in keys.items():
        assert torch.equal(value, two.state_dict()[key]) and not torch.equal(value, other.state_dict()[key])


@pytest.mark.parametrize("name", EVERY)
def test_the_loss_is_a_function_of_the_batch_and_its_numbers(name: str) -> None:
    recipe = make(name)
    data = batch(recipe)
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        recipe.load_state_dict(make(name).state_dict())
        losses.append(recipe(data)["loss"].detach())
    assert torch.equal(*losses)
    other = {**data, "u": 1 - data["u"]}
    assert not torch.equal(recipe(other)["loss"].detach(), losses[0])


@pytest.mark.parametrize("name", EVERY)
def test_recipes_train_under_mixed_precision_and_keep_their_state_in_float32(name: str) -> None:
    recipe = make(name)
    data, opt = batch(recipe), torch.optim.SGD(recipe.param_groups())
    expected = float(recipe(data)["loss"].detach())
    recipe.load_state_dict(make(name).state_dict())
    recipe.on_drop()
    with torch.autocast("cpu", torch.bfloat16):
        terms = recipe(data)
    assert terms["loss"].dtype == torch.float32
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=0.15, abs=0.1)
    terms["loss"].backward()
    recipe.before_step()
    opt.step()
    recipe.after_step()
    assert {v.dtype for v in recipe.state_dict().values()} <= {torch.float32, torch.int64}


# -- LARS ------------------------------------------------------------------------------------------------------------------------------


def test_lars_does_what_its_formula_says() -> None:
    w, b = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    groups = [
        {"params": [w], "weight_decay": 0.1},
        {"params": [b], "weight_decay": 0.0, "adapt": False},
    ]
    optimizer = LARS(groups, lr=0.5, momentum=0.9, trust=0.01)
    # Step 1: d = g + 0.1 w = (0.3, 0.4) + (0.3, 0.4), |d| = 1, |w| = 5: d * 0.01 * 5 = (0.03, 0.04).
    w.grad, b.grad = torch.tensor([[0.3, 0.4]]), torch.tensor([2.0])
    optimizer.step()
    assert w.tolist()[0] == pytest.approx([3 - 0.015, 4 - 0.02]) and b.tolist() == pytest.approx([0.0])
    # Step 2: with g = -0.1 w + (0, 1), d = (0, 1), scaled by 0.01 * |w|; the buffer keeps 0.9 of the first.
    length = math.hypot(2.985, 3.98)
    w.grad, b.grad = -0.1 * w.detach() + torch.tensor([[0.0, 1.0]]), torch.tensor([1.0])
    optimizer.step()
    buffer = (0.9 * 0.03, 0.9 * 0.04 + 0.01 * length)
    assert w.tolist()[0] == pytest.approx([2.985 - 0.5 * buffer[0], 3.98 - 0.5 * buffer[1]], rel=1e-5)
    assert b.tolist() == pytest.approx([0.0 - 0.5 * (0.9 * 2 + 1)])


def test_lars_takes_weights_of_length_zero_and_leaves_what_has_no_gradient() -> None:
    w, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([w, still], lr=0.5)
    w.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(w.detach(), torch.full((2, 2), -0.5)) and torch.equal(still.detach(), torch.ones(2, 2))
    w.grad = -optimizer.param_groups[0]["weight_decay"] * w.detach()
    optimizer.step()
    assert torch.isfinite(w).all() and list(optimizer.state) == [w]


# -- masks -----------------------------------------------------------------------------------------------------------------------------


def test_mae_shows_the_tokens_with_the_smallest_numbers() -> None:
    u = torch.tensor([[0.5, 0.1, 0.9, 0.2], [0.3, 0.3, 0.1, 0.8]])
    shown, hidden = mae.choose(u, 2)
    assert shown.tolist() == [[1, 3], [0, 2]]
    assert hidden.tolist() == [[True, False, True, False], [False, True, False, True]]
    counts = (
        mae.choose(torch.rand(4000, 16, generator=torch.Generator().manual_seed(0)), 4)[1].float().mean(0)
    )
    assert torch.allclose(counts, torch.full((16,), 0.75), atol=0.03)


def test_ibots_masks_hide_the_drawn_share_in_blocks_and_prefer_no_side() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(3000, vit.mask_uniforms(14 * 14), generator=generator)
    hidden = vit.masks(u, rows=14, columns=14, probability=0.5, low=0.1, high=0.5)
    counts = hidden.sum(1)
    expected = torch.where(u[:, 0] < 0.5, ((0.1 + 0.4 * u[:, 1]) * 196).floor(), 0.0)
    assert torch.equal(counts.float(), expected) and 0.46 < float((counts > 0).float().mean()) < 0.54
    grid = hidden[counts > 0].view(-1, 14, 14).float()
    beside = (grid[:, :, 1:] * grid[:, :, :-1]).sum() / (grid[:, :, 1:].sum())
    assert (
        float(beside) > 0.7 > 2 * float(grid.mean())
    )  # tokens beside hidden ones are hidden far more often than others
    rate = grid.mean(0)
    assert float(rate.min()) > 0.02  # corners are hidden least: a rectangle has to end there
    for other in (rate.flip(0), rate.flip(1), rate.T):
        assert torch.allclose(rate, other, atol=0.07)


def test_the_token_that_hides_takes_the_place_of_hidden_ones_only_and_features_are_the_backbones() -> None:
    model = tiny_vit().eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[1, 5] = True
    seen = vit.embed(model, x)
    masked = vit.embed(model, x, hidden_BL=hidden, instead_D=torch.zeros(32))
    where = (seen != masked).any(-1).nonzero().tolist()
    assert where == [[1, 6]] and vit.prefix(model) == 1  # after the class token
    assert torch.allclose(masked[1, 6], model.pos_embed[0, 6])  # type: ignore[index]
    for pool in ("token", "avg"):
        model = tiny_vit(global_pool=pool).eval()
        features, tokens = vit.features_and_grid(model, vit.embed(model, x))
        assert torch.equal(features, model(x)) and tokens.shape == (2, 16, 32)


def test_maes_decoder_puts_every_shown_token_back_in_its_place() -> None:
    recipe = make("mae")
    assert isinstance(recipe, mae.MAE)
    seen: list[torch.Tensor] = []
    recipe.decoder.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    shown = torch.tensor([[2, 7, 11, 12]])
    tokens = torch.randn(1, 5, 32)
    recipe._decode(tokens, shown)
    grid = seen[0][:, 1:] - recipe.positions_LE
    assert torch.allclose(grid[0, [2, 7, 11, 12]], recipe.narrow(tokens)[0, 1:], atol=1e-6)
    assert torch.allclose(grid[0, [0, 1, 15]], recipe.gap.expand(3, -1), atol=1e-6)


# -- two objectives --------------------------------------------------------------------------------------------------------------------


def test_multitask_and_ssl_are_summed_and_rows_without_label_count_in_one_only() -> None:
    recipe = make("multitaskssl")
    assert isinstance(recipe, MultitaskSSL)
    data = batch(recipe)
    terms = recipe(data)
    ssl = recipe.objective({**data, "u": data["u"][:, UNIFORMS:]})["loss"]
    rows = data["task"] >= 0
    own = {k: v[rows] for k, v in data.items()}
    labelled = recipe.multitask({**own, "u": own["u"][:, :UNIFORMS]})["loss"]
    assert torch.allclose(terms["loss"], labelled + 0.5 * ssl)
    none = recipe({**data, "task": torch.full_like(data["task"], -1)})
    assert torch.allclose(none["loss"], 0.5 * ssl)
    none["loss"].backward()
    assert all(p.grad is not None for p in recipe.parameters())
    names = [k for k in recipe.state_dict() if k.endswith("stem.weight")]
    assert names == ["backbone.stem.weight"]
    assert recipe.tile_logits("two", torch.zeros(2, 3, 16, 16)).shape == (2, 3)


# -- refusals --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "backbone", "views", "words"),
    [
        ("mae", "resnet", Stub((32,)), "mae hides tokens: convolutions"),
        ("ibot", "resnet", Stub((32, 32)), "ibot hides tokens: convolutions"),
        ("ibot", "dropping", Stub((32, 32)), "drops tokens of its own accord"),
        ("simclr", "vit", CROPS, "simclr compares 2 view(s)"),
        ("byol", "vit", Stub((32,)), "byol compares 2 view(s)"),
        ("dino", "vit", Stub((32,)), "dino compares 2 or more view(s)"),
        ("mae", "vit", TWO, "mae compares 1 view(s)"),
        ("dino", "vit", Stub((32, 32, 20)), "does not take"),
        ("dino", "fixed", Stub((32, 32, 16)), "dynamic_img_size=True"),
    ],
)
def test_impossible_pairs_are_refused_with_the_reason(
    name: str, backbone: str, views: Any, words: str
) -> None:
    trunks = {
        "resnet": lambda: timm.create_model("test_resnet", num_classes=0),
        "vit": tiny_vit,
        "fixed": lambda: tiny_vit(dynamic_img_size=False),
        "dropping": lambda: tiny_vit(patch_drop_rate=0.5),
    }
    kind, settings, _ = MADE[name]
    with pytest.raises(UsageError, match="HZ-U87") as caught:
        kind(trunks[backbone](), views=views, settings=settings, steps=5, lr=0.1, weight_decay=0.0, seed=0)  # type: ignore[call-arg]
    assert words in str(caught.value) and "next:" in str(caught.value)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("name", ["simclr", "dino", "swav", "moco"])
def test_recipes_for_any_backbone_take_those_of_timm(name: str, architecture: str) -> None:
    options = {"img_size": 32} if architecture == "test_vit" else {}
    kind, settings, _ = MADE[name]
    views = Stub((32, 32)) if name in ("simclr", "moco") else Stub((64, 64, 32))
    model = timm.create_model(architecture, num_classes=0, **options)
    recipe = kind(model, views=views, settings=settings, steps=5, lr=0.1, weight_decay=0.0, seed=0).train()  # type: ignore[call-arg]
    loss = recipe(batch(recipe, 4))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert [k for k, p in recipe.named_parameters() if p.requires_grad and p.grad is None] == []


def test_moco_2_has_the_published_values() -> None:
    s = moco.Settings(**moco.VERSION_2)
    assert (s.queue, s.outputs, s.temperature, s.momentum, s.momentum_end) == (65536, 128, 0.2, 0.999, 0.999)


def test_a_head_of_prototypes_gives_cosines() -> None:
    head = parts.PrototypeHead(8, hidden=16, bottleneck=4, outputs=5)
    f = torch.randn(3, 8)
    z, c = F.normalize(head.mlp(f), dim=1), F.normalize(head.prototypes, dim=1)
    assert torch.allclose(head(f), z @ c.T, atol=1e-5) and bool((head(f).abs() <= 1 + 1e-6).all())
