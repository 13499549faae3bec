from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import timm
import torch
from torch import nn

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.blocks import WHOLE, block_features, ends, features_at
from histozoo.evaluate.cut_scores import CutScore, cheapest, probe_cuts
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.probe import features
from histozoo.evaluate.resampling import Estimate
from histozoo.evaluate.stock_door import stock_door
from histozoo.evaluate.truncate import Cut, count_flops, cuts, truncate

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
TINY = ("test_resnet", "test_vit", "test_vit2", "test_efficientnet", "test_convnext")


def trunk(architecture: str, **options) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(architecture, **{"num_classes": 0, **options}).eval()
    for module in model.modules():  # as after training: no residual branch is zero
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


# -- cutting


@pytest.mark.parametrize("architecture", TINY)
def test_a_cut_trunk_gives_the_hooked_features_bit_for_bit(architecture: str) -> None:
    model = trunk(architecture, num_classes=5)
    before, x_BCHW = copy.deepcopy(model.state_dict()), torch.randn(3, 3, 160, 160)
    for level in ("stage", "block"):
        names = ends(model, level=level)
        hooked = features_at(model, x_BCHW, names)
        for name in names:
            cut = truncate(model, name, tile_px=160)
            with torch.inference_mode():
                assert torch.equal(cut(x_BCHW), hooked[name])
            assert cut.state_dict().keys() <= before.keys() and cut.num_features == hooked[name].shape[1]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_cut_trunk_embeds_tiles_like_any_other_and_can_be_stored() -> None:
    model = trunk("test_resnet")
    tiles_NHWC = np.random.default_rng(0).integers(256, size=(5, 64, 64, 3), dtype=np.uint8)
    cut = truncate(model, "layer2", tile_px=64)
    hooked = block_features(model, tiles_NHWC, mean=MEAN, std=STD)
    np.testing.assert_array_equal(features(cut, tiles_NHWC, mean=MEAN, std=STD), hooked["layer2"])
    stored = pickle.loads(pickle.dumps(cut))
    np.testing.assert_array_equal(features(stored, tiles_NHWC, mean=MEAN, std=STD), hooked["layer2"])
    assert {k.split(".")[0] for k in cut.state_dict()} == {"conv1", "bn1", "layer1", "layer2"}


# -- cost


def test_parameters_are_those_of_the_published_architectures() -> None:
    """Parameters of torchvision's ResNet18 and DenseNet121 up to each stage, as their papers' tables give them."""
    found = {c.after: (c.dim, c.parameters) for c in cuts(trunk("resnet18"), tile_px=64)}
    assert found == {
        "layer1": (64, 157_504), "layer2": (128, 683_072), "layer3": (256, 2_782_784), "layer4": (512, 11_176_512)
    }  # fmt: skip
    dense = trunk("densenet121")
    some = {
        "features.transition1": (128, 377_856),
        "features.denseblock3": (1024, 4_267_392),
        "features.norm5": (1024, 6_953_856),
    }
    for name, (dim, parameters) in some.items():
        cut = truncate(dense, name, tile_px=64)
        assert (cut.num_features, sum(p.numel() for p in cut.parameters())) == (dim, parameters)


def test_operations_of_a_resnet_are_those_of_its_convolutions_counted_by_hand() -> None:
    def conv(side: int, k: int, before: int, after: int) -> int:
        return 2 * side**2 * k**2 * before * after

    by_hand = [conv(32, 7, 3, 64) + 4 * conv(16, 3, 64, 64)]
    for side, channels in ((8, 128), (4, 256), (2, 512)):
        half = channels // 2
        stage = (
            conv(side, 3, half, channels)
            + conv(side, 1, half, channels)
            + 3 * conv(side, 3, channels, channels)
        )
        by_hand.append(by_hand[-1] + stage)
    found = cuts(trunk("resnet18"), tile_px=64)
    assert [c.flops for c in found] == by_hand
    assert found[-1].share == found[-1].flops_share == 1
    assert found[0].flops_share > 20 * found[0].share  # early layers hold few weights and do much of the work


def test_operations_of_a_vit_are_those_of_its_products_and_attention_counted_by_hand() -> None:
    model = trunk("test_vit")
    tokens, dim = 10 * 10 + 1, 64
    embed = 2 * 100 * (16 * 16 * 3) * dim
    hidden = model.blocks[0].mlp.fc1.out_features
    block = 2 * tokens * (4 * dim * dim + 2 * dim * hidden) + 2 * 2 * tokens**2 * dim
    found = cuts(model, tile_px=160)
    assert [c.flops for c in found] == [embed + (i + 1) * block for i in range(6)] + [embed + 6 * block]
    assert found[-1].after == WHOLE and found[-1].parameters - found[-2].parameters == 2 * dim


def test_counting_works_with_attention_pooling_and_leaves_gradients_as_they_were() -> None:
    model = trunk("test_vit3")
    model.norm.weight.requires_grad_(False)
    assert count_flops(model, tile_px=160) > 0
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["norm.weight"]


# -- worth


def stamps(n: int = 160, *, shuffled: bool = False) -> LabelledTiles:
    """Tiles of two classes, told apart by the direction of fine stripes, in 20 groups of both."""
    rng = np.random.default_rng(0)
    labels_N = np.arange(n) % 2
    stripes = np.kron(np.ones((16, 16)), [[1, 1], [-1, -1]])
    noise = rng.normal(0, 20, size=(n, 32, 32, 3))
    tiles = 128 + noise + 60 * np.stack([stripes.T if y else stripes for y in labels_N])[..., None]
    return LabelledTiles(
        task="stamps",
        lineage="stamps",
        classes=("rows", "columns"),
        tiles_NHWC=np.clip(tiles, 0, 255).astype(np.uint8),
        labels_N=rng.permutation(labels_N) if shuffled else labels_N,
        groups_N=np.arange(n) // 8,
        fingerprint="none",
    )


def scored(labelled: LabelledTiles, **options) -> tuple[CutScore, ...]:
    return probe_cuts(
        trunk("test_resnet"), labelled, mean=MEAN, std=STD, seed=0, cs=(1e-2,), resamples=200, **options
    )


def test_every_cut_is_probed_on_the_same_folds_and_scores_1_where_its_features_tell() -> None:
    found = scored(stamps())
    assert [(s.cut.after, s.cut.dim) for s in found] == [
        ("layer1", 32),
        ("layer2", 48),
        ("layer3", 192),
        ("layer4", 96),
    ]
    assert found[0].score.value == 1 and found[0].score.n_groups == 20
    for s in found:
        assert s.difference.value == pytest.approx(s.score.value - found[-1].score.value)
    assert found[-1].difference.interval == (0, 0)
    assert found == scored(stamps())


def test_shuffled_labels_score_chance_at_every_cut() -> None:
    for s in scored(stamps(shuffled=True)):
        assert s.score.low < 0.5 < s.score.high and abs(s.score.value - 0.5) < 0.15


def score(flops: int, low: float) -> CutScore:
    def estimate(low: float) -> Estimate:
        return Estimate(value=0.0, low=low, high=0.1, n=9, n_groups=3, resamples=9, undefined=0)

    cut = Cut(after=str(flops), dim=1, parameters=1, share=1, flops=flops, flops_share=1)
    return CutScore(cut=cut, score=estimate(0.5), difference=estimate(low))


def test_the_cheapest_cut_is_one_that_is_shown_to_lose_no_more_than_the_margin() -> None:
    scores = [score(1, -0.3), score(2, -0.01), score(3, 0.0), score(4, 0.0)]
    assert cheapest(scores, margin=0.02).cut.flops == 2
    assert cheapest(scores, margin=0.005).cut.flops == 3
    assert (
        cheapest([score(1, -0.3), score(4, 0.0)], margin=0.02).cut.flops == 4
    )  # none is shown to do as well
    with pytest.raises(UsageError, match="HZ-I73"):
        cheapest(scores, margin=0)


# -- stock doors


@pytest.mark.parametrize(
    ("architecture", "px", "after", "args"),
    [
        ("resnet18", 64, "layer2", {"layers": [2, 2, 0, 0], "channels": [64, 128, 128, 128]}),
        ("resnet50", 64, "layer3.1", {"layers": [3, 4, 2, 0], "channels": [64, 128, 256, 256]}),
        ("test_vit", 160, "blocks.2", {"depth": 3, "final_norm": False}),
        ("densenet121", 64, "features.transition2.norm", {"block_config": [6, 12]}),
    ],
)
def test_stock_timm_builds_cut_resnets_vits_and_densenets_with_the_same_bits(
    architecture, px, after, args
) -> None:
    door = stock_door(architecture, after, tile_px=px)
    assert door.kind == "model" and door.model_args == args and architecture in door.why
    cut = truncate(trunk(architecture), after, tile_px=px)
    stock = timm.create_model(architecture, num_classes=0, **json.loads(json.dumps(door.model_args))).eval()
    stock.load_state_dict(door.state(cut), strict=True)
    x_BCHW = torch.randn(2, 3, px, px)
    with torch.inference_mode():
        assert torch.equal(stock(x_BCHW), cut(x_BCHW))
    assert stock.head_hidden_size == cut(x_BCHW).shape[1]


def test_stock_timm_gives_maps_of_a_densenets_blocks_and_nothing_of_its_transitions() -> None:
    block = stock_door("densenet121", "features.denseblock2", tile_px=64)
    assert (block.kind, block.out_indices, block.model_args) == ("maps", (2,), {})
    assert "cannot be an entry" in block.why and block.moved == {}
    transition = stock_door("densenet121", "features.transition2", tile_px=64)
    assert (transition.kind, transition.out_indices) == ("none", ()) and "no option" in transition.why


def test_the_whole_trunk_is_its_own_door_with_the_options_it_was_made_with() -> None:
    assert stock_door("test_resnet", "layer4", tile_px=64).model_args == {}
    door = stock_door("test_vit", WHOLE, tile_px=160, model_args={"global_pool": "avg"})
    assert (door.kind, door.model_args) == ("model", {"global_pool": "avg"})
    shorter = stock_door("test_vit", "blocks.1", tile_px=160, model_args={"global_pool": "avg"})
    assert shorter.model_args == {"global_pool": "avg", "depth": 2, "final_norm": False}


# -- refused


def test_i73_a_cut_that_is_none_and_a_model_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(UsageError, match=r"(?s)HZ-I73.*layer9.*layer1, layer2"):
        truncate(trunk("test_resnet"), "layer9", tile_px=64)
    with pytest.raises(UsageError, match=r"(?s)HZ-I73.*cannot be cut"):
        truncate(
            trunk("test_vit3"), "blocks.1", tile_px=160
        )  # its pooling is attention with weights of its own
    with pytest.raises(UsageError, match="HZ-I73"):
        truncate(nn.Sequential(nn.Conv2d(3, 4, 3)), "0", tile_px=64)


def test_i62_nan_features_are_not_scored() -> None:
    model = trunk("test_resnet")
    with torch.no_grad():
        model.layer4[0].conv1.weight.fill_(float("nan"))
    with pytest.raises(IntegrityError, match=r"(?s)HZ-I62.*layer4"):
        probe_cuts(model, stamps(), mean=MEAN, std=STD, seed=0)
