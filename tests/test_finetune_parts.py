"""The parts of a fine-tuning: low-rank updates, learning rates by depth, nested parts of the labels, checkpoints that carry the best."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from histozoo.data.views import Views
from histozoo.errors import UsageError
from histozoo.evaluate.finetune import label_fraction, lora
from histozoo.evaluate.finetune.recipe import Finetuning, Kept, Look
from tests.fakes import zoo
from tests.fakes.tuned import QUICK, STATISTICS, tiny_net


def pixels(px: int = 160) -> torch.Tensor:
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))


def recipe(trunk: nn.Module, mode: str, **changes: float) -> Finetuning:
    return Finetuning(
        trunk,
        features=trunk.num_features,  # type: ignore[arg-type]
        mode=mode,  # type: ignore[arg-type]
        views=Views(px=32, **STATISTICS),
        weight_K=torch.ones(3),
        settings=dataclasses.replace(QUICK, **changes),  # type: ignore[arg-type]
        lr=1e-3,
    )


# -- low-rank updates


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_updates_that_are_zero_leave_the_function_bit_for_bit(name: str) -> None:
    trunk = zoo.random_model(name)
    with torch.inference_mode():
        before = trunk(pixels())
        lora.add(trunk, rank=4, alpha=8.0)
        assert torch.equal(trunk(pixels()), before)


def drawn(trunk: nn.Module) -> None:
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in trunk.modules():
            if isinstance(part, lora.LowRank):
                part.b_OR.copy_(0.05 * torch.randn(part.b_OR.shape, generator=random))


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_merged_weights_give_what_the_updates_gave_under_the_old_names(name: str) -> None:
    trunk = zoo.random_model(name)
    untouched = copy.deepcopy(trunk)
    lora.add(trunk, rank=4, alpha=8.0)
    drawn(trunk)
    with torch.inference_mode():
        with_updates = trunk(pixels())
    lora.merge(trunk)
    assert not any(isinstance(part, lora.LowRank) for part in trunk.modules())
    untouched.load_state_dict(trunk.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(trunk(pixels()), with_updates)
        assert torch.equal(untouched(pixels()), with_updates)


def test_the_update_is_that_of_the_paper_added_to_a_layer_s_output() -> None:
    """W x + (alpha / r) B A x of a linear layer; a convolution is the same with A as kernels and B as a 1x1 convolution."""
    torch.manual_seed(0)
    linear, kernel = nn.Linear(6, 5).double(), nn.Conv2d(4, 5, 3, stride=2, padding=1).double()
    rows, maps = torch.randn(7, 6).double(), torch.randn(2, 4, 8, 8).double()
    plain = linear(rows), kernel(maps)
    trunks = nn.Sequential(linear), nn.Sequential(kernel)
    for trunk in trunks:
        lora.add(trunk, rank=2, alpha=6.0)
        drawn(trunk)
    first, second = (next(m for m in t.modules() if isinstance(m, lora.LowRank)) for t in trunks)
    branch = 3.0 * rows @ first.a_RI.T @ first.b_OR.T
    assert torch.allclose(trunks[0](rows), plain[0] + branch, atol=1e-12)
    inner = F.conv2d(maps, second.a_RI.view(2, 4, 3, 3), stride=2, padding=1)
    assert torch.allclose(
        trunks[1](maps), plain[1] + 3.0 * F.conv2d(inner, second.b_OR[:, :, None, None]), atol=1e-12
    )


def test_linear_layers_are_updated_and_convolutions_where_there_is_none() -> None:
    vit = lora.targets(timm.create_model("test_vit", num_classes=0))
    assert {k.rpartition(".")[2] for k in vit} == {
        "qkv",
        "proj",
        "fc1",
        "fc2",
    } and "patch_embed.proj" not in vit
    resnet = lora.targets(timm.create_model("test_resnet", num_classes=0))
    assert all(isinstance(m, nn.Conv2d) for m in resnet.values()) and "layer1.0.conv1" in resnet
    grouped = lora.targets(timm.create_model("test_efficientnet", num_classes=0))
    assert all(m.groups == 1 for m in grouped.values())


def test_only_updates_and_head_learn() -> None:
    subject = recipe(timm.create_model("test_vit", num_classes=0), "lora")
    learning = {k for k, p in subject.named_parameters() if p.requires_grad}
    adapters = {k for k in learning if k.endswith(("a_RI", "b_OR"))}
    assert learning - adapters == {"head.weight", "head.bias"} and len(adapters) == 2 * len(
        lora.targets(subject.backbone)
    )
    held = {id(p) for g in subject.param_groups() for p in g["params"]}
    assert held == {id(p) for p in subject.parameters() if p.requires_grad}


# -- learning rates by depth


def rates(subject: Finetuning) -> dict[str, float]:
    names = {id(p): k for k, p in subject.named_parameters()}
    return {names[id(p)]: g["lr"] for g in subject.param_groups() for p in g["params"]}


def test_rates_fall_with_depth_as_computed_by_hand() -> None:
    trunk = timm.create_model("test_vit", num_classes=0)
    depth = len(trunk.blocks)
    found = rates(recipe(trunk, "layer_decay", layer_decay=0.5, head_lr_factor=10.0))
    assert found.keys() == {k for k, _ in recipe(trunk, "full").named_parameters()}
    for name, lr in found.items():
        layer = name.removeprefix("backbone.").split(".")
        if layer[0] == "head":
            wanted = 1e-2
        elif layer[0] == "blocks":
            wanted = 1e-3 * 0.5 ** (depth - int(layer[1]))
        elif layer[0] in ("norm", "fc_norm"):
            wanted = 1e-3 * 0.5
        else:  # tokens, positions and the patch embedding
            wanted = 1e-3 * 0.5 ** (depth + 1)
        assert lr == pytest.approx(wanted), name


@pytest.mark.parametrize("name", ["test_vit", "resnet18", "test_convnext"])
def test_rates_are_those_of_timm_with_a_head_of_its_own(name: str) -> None:
    from timm.optim import param_groups_layer_decay

    headed = timm.create_model(name, num_classes=3)
    names = {id(p): k for k, p in headed.named_parameters()}
    theirs = {
        names[id(p)]: g["lr_scale"]
        for g in param_groups_layer_decay(headed, layer_decay=0.7)
        for p in g["params"]
    }
    ours = rates(recipe(timm.create_model(name, num_classes=0), "layer_decay", layer_decay=0.7))
    trunk = {k.removeprefix("backbone."): lr for k, lr in ours.items() if k.startswith("backbone.")}
    assert len(trunk) > 10 and len(set(trunk.values())) > 3
    assert trunk == {k: pytest.approx(1e-3 * theirs[k]) for k in trunk}


def test_vectors_and_tokens_are_not_decayed_and_rates_follow_the_schedule() -> None:
    subject = recipe(timm.create_model("test_vit", num_classes=0), "layer_decay")
    names = {id(p): k for k, p in subject.named_parameters()}
    decay = {names[id(p)]: g["weight_decay"] for g in subject.param_groups() for p in g["params"]}
    assert decay["head.weight"] == QUICK.weight_decay and decay["head.bias"] == 0.0
    assert (
        decay["backbone.pos_embed"] == 0.0
        and decay["backbone.blocks.0.attn.qkv.weight"] == QUICK.weight_decay
    )
    factors = [subject.lr_factor(0, step) for step in range(QUICK.steps + 1)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0] and factors[-1] == pytest.approx(0.0)
    assert factors[22] == pytest.approx(0.5)


# -- modes


@pytest.mark.parametrize("mode", ["frozen_bn", "lora", "head_only"])
def test_batch_norm_stays_in_eval_mode_whoever_asks_for_training(mode: str) -> None:
    subject = recipe(tiny_net(), mode).train()
    norms = [m for m in subject.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 2 and not any(m.training or p.requires_grad for m in norms for p in m.parameters())
    assert any(
        m.training for m in recipe(tiny_net(), "full").backbone.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_the_head_starts_at_zero_and_the_loss_at_the_logarithm_of_the_classes() -> None:
    subject = recipe(tiny_net(), "full")
    tiles = torch.randint(
        0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    batch = {"tiles": tiles, "label": torch.tensor([0, 0, 1, 1, 2, 2]), "u": torch.rand(6, 16)}
    assert subject(batch)["loss"].item() == pytest.approx(np.log(3))
    subject.weight_K = torch.tensor([0.5, 1.0, 4.5])
    assert subject(batch)["loss"].item() == pytest.approx(np.log(3) * 2)


# -- parts of the labels


def groups(seed: int = 0, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups: groups of 1 to 9 tiles, classes 0 and 1 in most and class 2 in three of them."""
    random = np.random.default_rng(seed)
    group_N = np.repeat(np.arange(n), random.integers(1, 10, n))
    labels_N = random.integers(0, 2, len(group_N))
    labels_N[np.isin(group_N, [5, 17, 30])] = 2
    return labels_N, np.array([f"g{g}" for g in group_N])


@pytest.mark.parametrize("seed", range(5))
def test_smaller_parts_lie_in_larger_ones_with_whole_groups_and_every_class(seed: int) -> None:
    labels_N, groups_N = groups()
    rows, before = np.arange(10, len(labels_N)), np.array([], dtype=np.int64)
    for fraction in (0.1, 0.25, 0.5, 0.75, 1.0):
        found, share = label_fraction(labels_N, groups_N, rows, fraction=fraction, seed=seed)
        assert set(before) < set(found) and set(found) <= set(rows)
        assert set(labels_N[found]) == {0, 1, 2}
        others = np.setdiff1d(rows, found)
        assert not set(groups_N[found]) & set(groups_N[others])
        assert share == len(found) / len(rows) and abs(share - fraction) <= 4.5 / len(rows)
        before = found
    assert np.array_equal(before, rows)


def test_seeds_draw_other_groups_and_the_same_seed_the_same() -> None:
    labels_N, groups_N = groups()
    rows = np.arange(len(labels_N))
    drawn = [label_fraction(labels_N, groups_N, rows, fraction=0.3, seed=s)[0].tolist() for s in (0, 1, 2, 0)]
    assert drawn[0] == drawn[3] and len({tuple(d) for d in drawn}) == 3


def test_a_part_too_small_for_every_class_is_refused_and_the_smallest_is_named() -> None:
    labels_N = np.repeat([0, 1, 0, 1], [30, 20, 40, 10])
    groups_N = np.repeat(["a", "b", "c", "d"], [30, 20, 40, 10])
    rows = np.arange(100)
    with pytest.raises(UsageError, match=r"HZ-I68(?s:.*)at least 0\.4: 2 of 4 groups") as caught:
        label_fraction(labels_N, groups_N, rows, fraction=0.39, seed=0)
    assert "0.4" in caught.value.next_step
    found, share = label_fraction(labels_N, groups_N, rows, fraction=0.4, seed=0)
    assert share == 0.4 and set(groups_N[found]) == {"a", "d"}


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_what_is_no_share_is_refused(fraction: float) -> None:
    labels_N, groups_N = groups()
    with pytest.raises(UsageError, match="HZ-I68"):
        label_fraction(labels_N, groups_N, np.arange(len(labels_N)), fraction=fraction, seed=0)


# -- the best look


def test_the_best_look_is_the_highest_then_the_least_loss_then_the_earliest() -> None:
    kept, weight = Kept(), torch.zeros(1)
    for step, score, loss in ((1, 0.5, 0.9), (2, 0.8, 0.7), (3, 0.8, 0.6), (4, 0.8, 0.6), (5, 0.7, 0.1)):
        weight.fill_(step)
        kept.note(Look(step, score, loss), {"w": weight})
    assert kept.best == Look(3, 0.8, 0.6) and kept.weights["w"].item() == 3
    assert kept.exhausted(2) and not kept.exhausted(3) and not kept.exhausted(0)


def test_looks_and_best_weights_travel_in_the_state_dict() -> None:
    subject = recipe(tiny_net(), "full")
    subject.kept.note(Look(1, 0.5, 0.123456789), subject.moving())
    subject.kept.seconds = 2.5
    with torch.no_grad():
        subject.head.bias.fill_(7.0)
    other = recipe(tiny_net(seed=1), "full")
    other.load_state_dict(subject.state_dict(), strict=True)
    assert other.kept.curve == subject.kept.curve and other.kept.seconds == 2.5
    assert other.head.bias[0] == 7.0
    other.restore()
    assert other.head.bias[0] == 0.0
