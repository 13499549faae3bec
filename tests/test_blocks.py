from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.blocks import WHOLE, block_features, ends, features_at, stream
from histozoo.evaluate.probe import features

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def trunk(architecture: str, **options) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=0, **options).eval()
    for module in model.modules():  # as after training: no residual branch is zero
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def tiles(n: int, px: int) -> np.ndarray:
    found = np.random.default_rng(0).integers(256, size=(n, px, px, 3), dtype=np.uint8)
    found.setflags(write=False)  # as packed tiles are
    return found


# -- names


def test_stage_ends_are_those_of_the_paper_and_the_whole_model_is_last() -> None:
    resnet = ("layer1", "layer2", "layer3", "layer4")
    assert ends(trunk("resnet18")) == ends(timm.create_model("resnet50", num_classes=9)) == resnet
    dense = [
        f"features.{part.format(i)}"
        for i in range(1, 4)
        for part in ("denseblock{}", "transition{}.norm", "transition{}")
    ]
    densenet = timm.create_model("densenet121")
    assert ends(densenet) == (*dense, "features.denseblock4", "features.norm5")
    assert ends(densenet, level="block") == ends(densenet)
    assert ends(trunk("test_vit")) == (*(f"blocks.{i}" for i in range(6)), WHOLE)


def test_block_ends_are_the_blocks_inside_the_stages() -> None:
    assert ends(trunk("resnet18"), level="block") == tuple(
        f"layer{i}.{j}" for i in range(1, 5) for j in range(2)
    )
    assert ends(trunk("test_vit"), level="block") == ends(trunk("test_vit"))
    assert ends(trunk("test_convnext"), level="block")[:2] == ("stages.0.blocks.0", "stages.1.blocks.0")
    # feature_info of an EfficientNet leaves out stages that keep the resolution
    net = timm.create_model("efficientnet_b0", num_classes=0)
    assert "blocks.3" not in ends(net) and "blocks.3.0" in ends(net, level="block")


# -- features


@pytest.mark.parametrize(
    "architecture", ["test_resnet", "densenet121", "test_vit", "test_vit2", "test_convnext"]
)
def test_the_last_features_are_the_models_own_bit_for_bit(architecture: str) -> None:
    model = trunk(architecture)
    x_BCHW = torch.randn(2, 3, 160, 160)
    found = features_at(model, x_BCHW, ends(model))
    with torch.no_grad():
        expected_BD = model(x_BCHW)
    assert torch.equal(found[ends(model)[-1]], expected_BD)
    assert all(f_BD.shape[0] == 2 and f_BD.ndim == 2 for f_BD in found.values())


def test_a_resnets_features_are_the_means_of_its_maps() -> None:
    model, x_BCHW = trunk("resnet18"), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        map_BCHW = model.maxpool(model.act1(model.bn1(model.conv1(x_BCHW))))
        expected = {}
        for i in range(1, 5):
            map_BCHW = model.get_submodule(f"layer{i}")(map_BCHW)
            expected[f"layer{i}"] = map_BCHW.mean((2, 3))
    found = features_at(model, x_BCHW, ends(model))
    assert [f_BD.shape[1] for f_BD in found.values()] == [64, 128, 256, 512]
    for name, f_BD in found.items():
        torch.testing.assert_close(f_BD, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("pool", "take"), [("token", lambda t: t[:, 0]), ("avg", lambda t: t[:, 1:].mean(1))]
)
def test_a_vits_tokens_are_pooled_as_the_model_pools(pool, take) -> None:
    model, x_BCHW = trunk("test_vit", global_pool=pool), torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        tokens = model.forward_intermediates(
            x_BCHW,
            indices=6,
            output_fmt="NLC",
            return_prefix_tokens=True,
            norm=False,
            intermediates_only=True,
        )
    found = features_at(model, x_BCHW, ends(model))
    for i, (patches_BND, prefix_BND) in enumerate(tokens):
        assert torch.equal(found[f"blocks.{i}"], take(torch.cat([prefix_BND, patches_BND], dim=1)))


def test_a_model_that_keeps_channels_last_is_pooled_over_its_pixels() -> None:
    model = trunk(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=2, embed_dim=12, depths=(1, 1, 1, 1)
    )
    x_BCHW = torch.randn(2, 3, 64, 64)
    assert [f.shape[1] for f in features_at(model, x_BCHW, ends(model)).values()] == [12, 24, 48, 96, 96]


def test_a_model_with_a_classifier_gives_features_not_logits() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7).eval()
    x_BCHW = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected_BD = model.forward_head(model.forward_features(x_BCHW), pre_logits=True)
    assert torch.equal(features_at(model, x_BCHW, (WHOLE,))[WHOLE], expected_BD)
    assert features_at(model, x_BCHW, ends(model))[WHOLE].shape == (2, 64)


def test_one_pass_gives_all_tiles_in_order_and_leaves_the_model_as_it_was() -> None:
    model = trunk("test_resnet").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = block_features(model, tiles(11, 64), mean=MEAN, std=STD, batch=4)
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert {n: f.shape for n, f in found.items()} == dict(
        zip(ends(model), [(11, 32), (11, 48), (11, 192), (11, 96)], strict=True)
    )
    own_ND = features(model, tiles(11, 64), mean=MEAN, std=STD, batch=4)
    np.testing.assert_array_equal(found["layer4"], own_ND)
    assert found["layer4"].dtype == np.float32
    parts = list(stream(model, tiles(11, 64), mean=MEAN, std=STD, batch=4))
    assert [len(p["layer1"]) for p in parts] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([p["layer2"] for p in parts]), found["layer2"])


# -- refused


def test_i73_a_model_without_blocks_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match=r"(?s)HZ-I73.*no feature_info"):
        block_features(model, tiles(2, 32), mean=MEAN, std=STD)
    model = trunk("test_resnet")
    model.feature_info = [{"module": "stage1"}]
    with pytest.raises(UsageError, match=r"(?s)HZ-I73.*stage1"):
        ends(model)


def test_i73_no_tile_is_refused() -> None:
    with pytest.raises(UsageError, match="HZ-I73"):
        block_features(trunk("test_resnet"), tiles(0, 64), mean=MEAN, std=STD)


def test_i62_a_feature_that_is_not_finite_is_named_by_block_and_row() -> None:
    model = trunk("test_resnet")
    with torch.no_grad():
        model.layer3[0].conv1.weight.fill_(float("nan"))
    with pytest.raises(IntegrityError, match=r"(?s)HZ-I62.*layer3, rows 0, 1, 2"):
        block_features(model, tiles(3, 64), mean=MEAN, std=STD)
    assert not any(module._forward_hooks for module in model.modules())
