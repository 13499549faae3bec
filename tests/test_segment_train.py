"""The U-Net: verified encoders, what is trained and what is not, masks that follow, kills that leave no trace, loss that falls."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import histozoo
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.segment import inference
from histozoo.evaluate.segment.crops import Crops, mirrored
from histozoo.evaluate.segment.metrics import score
from histozoo.evaluate.segment.model import Start, start, unet
from histozoo.evaluate.segment.train import Segmentation, Training, losses, train
from tests.fakes import masks, zoo
from tests.fakes.killer import killed_at_byte

pytest.importorskip("segmentation_models_pytorch")
ARCHITECTURE = "test_resnet"
TINY = Training(
    steps=20, px=32, batch_size=4, save_every=5, warmup_steps=3, decoder=(16, 16, 8, 8, 8), lr=5e-3
)


def random_start() -> Start:
    return start("random", architecture=ARCHITECTURE)


def weights(seed: int = 3) -> Start:
    return start(zoo.random_model(ARCHITECTURE, seed=seed), architecture=ARCHITECTURE, name="weights")


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- the encoder


def test_a_zoo_entry_arrives_in_the_encoder_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = zoo.make_bundle(tmp_path, embedded=True)
    zoo.as_zoo(bundle, tmp_path)
    monkeypatch.setenv("HISTOZOO_ZOO", str(tmp_path))
    begin = start(bundle.name, architecture=ARCHITECTURE)
    encoder, *_ = unet(begin, seed=0, px=32)
    whole = histozoo.load(bundle.name).state_dict()
    state: dict[str, torch.Tensor] = encoder.model.state_dict()  # type: ignore[union-attr, operator]
    assert len(state) > 20 and all(torch.equal(v, whole[k]) for k, v in state.items())
    assert begin.mean == tuple(zoo.MEAN) and begin.lineages == {"drawn"}


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_features_in_the_u_net_are_those_of_the_whole_model(architecture: str) -> None:
    model = zoo.random_model(architecture)
    encoder, *_ = unet(start(model, architecture=architecture, name="w"), seed=1, px=64)
    x_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = encoder.eval()(x_BCHW)
        expected = model.forward_intermediates(x_BCHW, intermediates_only=True, norm=False)
    assert torch.equal(found[-1], expected[-1])
    assert [f.shape[-1] for f in found] == [64, 32, 16, 8, 4, 2]


@pytest.mark.parametrize("architecture", ["test_vit", "vit_tiny_patch16_224"])
def test_a_model_without_feature_levels_is_refused(architecture: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)HZ-I70 .* has not the feature levels.*next: .*resnet18"):
        unet(start("random", architecture=architecture), seed=0, px=64)


def test_an_unknown_architecture_and_one_that_cannot_see_the_crops_are_refused() -> None:
    with pytest.raises(UsageError, match="HZ-I70"):
        unet(start("random", architecture="no_such_architecture"), seed=0, px=64)
    with pytest.raises(UsageError, match=r"(?s)HZ-I70 .* cannot see crops.*next: .*`px`"):
        unet(start("random", architecture="test_maxvit"), seed=0, px=40)


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(UsageError, match="HZ-I70"):
        start(zoo.random_model("test_convnext"), architecture=ARCHITECTURE, name="w")
    other = dataclasses.replace(weights(), tensors=zoo.random_model("test_convnext").state_dict())
    with pytest.raises(IntegrityError, match="HZ-A05"):
        unet(other, seed=0, px=32)
    some = {k: v for k, v in (weights().tensors or {}).items() if "layer2" not in k}
    with pytest.raises(IntegrityError, match=r"HZ-A05(?s:.*)layer2"):
        unet(dataclasses.replace(weights(), tensors=some), seed=0, px=32)


def test_under_one_seed_every_initialisation_has_the_same_decoder() -> None:
    before = torch.get_rng_state()
    first, second = unet(random_start(), seed=5, px=32), unet(weights(), seed=5, px=32)
    other = unet(weights(), seed=6, px=32)
    assert same(first[1], second[1]) and same(first[2], second[2])
    assert not same(first[0], second[0]) and not same(second[1], other[1])
    assert torch.equal(torch.get_rng_state(), before)


# -- crops, views and loss


def test_crops_are_windows_of_picture_and_mask_and_follow_from_seed_and_index() -> None:
    made = masks.drawn(groups=3)
    crops = Crops(made, px=32, seed=4, samples=50)
    again = Crops(made, px=32, seed=4, samples=50)
    other = Crops(made, px=32, seed=5, samples=50)
    for i in (0, 7, 49):
        item = crops[i]
        tile, mask = item["tiles"].numpy(), item["mask"].numpy()[..., 0]
        places = [
            (n, y, x)
            for n, image in enumerate(made.images)
            for y in range(17)
            for x in range(25)
            if np.array_equal(image[y : y + 32, x : x + 32], tile)
        ]
        ((n, y, x),) = places
        assert np.array_equal(mask > 0, made.masks[n][y : y + 32, x : x + 32] > 0)
        assert torch.equal(again[i]["tiles"], item["tiles"]) and torch.equal(again[i]["u"], item["u"])
    assert any(not torch.equal(other[i]["tiles"], crops[i]["tiles"]) for i in range(5))


def test_a_small_picture_is_mirrored() -> None:
    small = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert mirrored(small, 4).tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]
    assert mirrored(small, 2) is not None and mirrored(small, 2).shape == (2, 3)


def test_the_mask_follows_every_turn_of_its_picture() -> None:
    """A picture that shows its own mask must still show it after flips, turns and crops."""
    training = dataclasses.replace(TINY, area=(0.5, 1.0), colour=0.0, stain=0.0)
    begin = dataclasses.replace(random_start(), mean=(0.0,) * 3, std=(1.0,) * 3)
    recipe = Segmentation(begin, training=training, seed=0)
    mask = torch.from_numpy(np.stack([masks.drawing(i, height=32, width=32, radius=5)[1] for i in range(24)]))
    mask_BHW1 = ((mask > 0) * 255).to(torch.uint8)[..., None]
    u_BP = torch.rand(24, 16, generator=torch.Generator().manual_seed(0))
    picture = recipe.views(mask_BHW1.expand(-1, -1, -1, 3), u_BP)
    follows = recipe.mask_views(mask_BHW1, u_BP)
    assert torch.equal(picture[:, :1], follows)
    assert not torch.equal(follows[:, 0], (mask > 0).float())


def test_the_loss_is_that_of_the_formula() -> None:
    logits, mask = torch.tensor([[[[0.0, 2.0, -1.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0]]]])
    p = 1 / (1 + np.exp(-np.array([0.0, 2.0, -1.0])))
    cross_entropy, overlap = losses(logits, mask)
    assert cross_entropy.item() == pytest.approx(-(np.log(p[0]) + np.log(p[1]) + np.log(1 - p[2])) / 3)
    assert overlap.item() == pytest.approx(1 - (2 * (p[0] + p[1]) + 1) / (p.sum() + 2 + 1))


# -- training


def ready(run: Path, *, begin: Start | None = None, seed: int = 0, **changes: Any) -> Segmentation:
    made = masks.drawn(groups=3)
    training = dataclasses.replace(TINY, **changes)
    return train(begin or weights(), made, np.arange(6), run=run, training=training, seed=seed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Segmentation]:
    """One training without interruption."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole")
    return run, ready(run)


def test_discs_are_learnt_in_seconds_and_the_loss_falls(whole: tuple[Path, Segmentation]) -> None:
    run, recipe = whole
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(logged[-3:]) < 0.6 * logged[0]
    image, mask = masks.drawing(99)
    found = inference.whole(image, inference.predictor(recipe), px=32, stride=16)
    assert score(mask, inference.objects(found > 0.5, least_px=9))["dice"] > 0.8


def test_a_frozen_encoder_stays_as_it_was_with_its_statistics_and_a_tuned_one_does_not(
    tmp_path: Path, whole: tuple[Path, Segmentation]
) -> None:
    untouched, decoder, _ = unet(weights(), seed=0, px=32, decoder=TINY.decoder)
    frozen, tuned = ready(tmp_path, mode="frozen", steps=2), whole[1]
    assert same(frozen.backbone, untouched) and not same(frozen.decoder, decoder)
    before = untouched.state_dict()
    moved = {k for k, v in tuned.backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert any("running_mean" in k for k in moved) and any(k.endswith("weight") for k in moved)
    assert not any(m.training for m in frozen.train().backbone.modules())
    assert all(p.grad is None for p in frozen.backbone.parameters())


def test_a_training_killed_while_it_writes_its_second_checkpoint_ends_with_the_same_weights(
    tmp_path: Path, whole: tuple[Path, Segmentation]
) -> None:
    checkpoint = next(whole[0].glob("checkpoint-*"))
    size = sum(p.stat().st_size for p in checkpoint.iterdir())
    assert killed_at_byte(lambda: ready(tmp_path), int(1.5 * size))
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]
    assert same(whole[1], ready(tmp_path))
    assert same(whole[1], ready(tmp_path))  # from its last checkpoint, without a step more
    with pytest.raises(IntegrityError, match="HZ-F44"):
        ready(tmp_path, lr=1.0)


def test_crops_need_not_be_a_multiple_of_32() -> None:
    recipe = Segmentation(weights(), training=dataclasses.replace(TINY, px=40), seed=0)
    with torch.inference_mode():
        assert recipe.eval().logits(torch.zeros(2, 3, 40, 40)).shape == (2, 1, 40, 40)


def test_scoring_needs_neither_torch_nor_smp() -> None:
    code = (
        "import sys; from histozoo.evaluate.segment import metrics, curves, subsets, pictures, inference; "
        "bad = {'torch', 'segmentation_models_pytorch', 'scipy', 'transformers'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_timm_s_pretrained_weights_are_asked_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    model = zoo.random_model(ARCHITECTURE)
    with monkeypatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **o: (asked.update(o, name=name), model)[1])
        begin = start("timm:test_resnet.r160_in1k", architecture=ARCHITECTURE)
    assert asked == {"name": "test_resnet.r160_in1k", "pretrained": True, "num_classes": 0}
    assert begin.name == "timm:test_resnet.r160_in1k" and begin.tensors is not None
