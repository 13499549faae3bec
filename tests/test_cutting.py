"""A trunk that ends early, published as a model of its own: its features are the block's through every door, and the card says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import histozoo
from histozoo import assemble, cutting, experiment
from histozoo.cli import app
from histozoo.errors import UsageError
from histozoo.evaluate import blocks
from histozoo.evaluate.encoders import encoder
from histozoo.publish import publish
from tests.fakes.run import EXPERIMENT, make_run

AFTER = "layer2"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and what the verb makes of its first two stages."""
    root = tmp_path_factory.mktemp("cut")
    run = make_run(root / "runs")
    places = [f"--{key}" for key in ("out", "zoo", "cards")]
    folders = [str(root / name) for name in ("dist", "zoo", "cards")]
    given = [word for pair in zip(places, folders, strict=True) for word in pair]
    result = CliRunner().invoke(app, ["publish", str(run), "--cut", AFTER, *given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return root


def bundle(house: Path) -> Path:
    [found] = (house / "dist").iterdir()
    return found


def test_the_name_says_where_it_ends() -> None:
    assert cutting.named("resnet18.multitask_path11", "layer2") == "resnet18.multitask_path11layer2"
    assert cutting.named("densenet121.multitask_path11", "features.transition2.norm") == (
        "densenet121.multitask_path11transition2norm"
    )
    assert cutting.named("vit_tiny_patch16_224.dino_path11_v2", "blocks.5") == (
        "vit_tiny_patch16_224.dino_path11blocks5_v2"
    )


def test_every_door_gives_the_block_s_pooled_features(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(house)
    assert folder.name == "test_resnet.multitask_drawn2layer2"
    weights = load_file(house / "runs" / "test_resnet.multitask_drawn2" / "final" / "model.safetensors")
    whole = timm.create_model("test_resnet", num_classes=0)
    whole.load_state_dict(
        {
            k.removeprefix("backbone."): v.half().to(v.dtype) if v.is_floating_point() else v
            for k, v in weights.items()
            if k.startswith("backbone.")
        }
    )
    x_BCHW = torch.rand(2, 3, 48, 48)
    expected = blocks.features_at(whole.eval(), x_BCHW, (AFTER,))[AFTER]
    monkeypatch.setenv("HISTOZOO_ZOO", str(house / "zoo"))
    stock = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    with torch.inference_mode():
        found = [m(x_BCHW) for m in (histozoo.load(folder), histozoo.load(folder.name), stock)]
    for got in found:
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert expected.shape[1] == encoder(folder).features(np.zeros((1, 48, 48, 3), np.uint8)).shape[1]


def test_a_densenet_ends_behind_the_norm_of_a_transition(tmp_path: Path) -> None:
    after = "features.transition1.norm"
    run = make_run(tmp_path / "runs", "densenet121")
    folder = publish(run, **{key: tmp_path / key for key in ("out", "zoo", "cards")}, cut=after)
    assert folder.name == "densenet121.multitask_drawn2transition1norm"
    assert json.loads((folder / "config.json").read_text())["model_args"]["block_config"] == [6]
    weights = load_file(run / "final" / "model.safetensors")
    trunk = {k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}
    whole = timm.create_model("densenet121", num_classes=0)
    whole.load_state_dict({k: v.half().to(v.dtype) if v.is_floating_point() else v for k, v in trunk.items()})
    x_BCHW = torch.rand(2, 3, 48, 48)
    expected = blocks.features_at(whole.eval(), x_BCHW, (after,))[after]
    stock = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    with torch.inference_mode():
        for got in (histozoo.load(folder)(x_BCHW), stock(x_BCHW)):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_entry_and_card_say_what_it_is_and_claim_nothing_of_the_whole(house: Path) -> None:
    folder = bundle(house)
    raw = json.loads((folder / "config.json").read_text())
    ours = raw["histozoo"]
    assert ours["experiment"]["name"] == "test_resnet.multitask_drawn2" and ours["results"] == []
    assert raw["num_features"] == ours["contract"]["feature_dim"] < 512
    said = "This is test_resnet.multitask_drawn2 up to layer2"
    card = (folder / "README.md").read_text()
    assert said in ours["notes"] and "stock timm builds it" in ours["notes"]
    assert said in card.replace("\\", "") and "optimizer" not in card
    assert {p.name for p in folder.iterdir()} == {
        *("README.md", "config.json", "golden.safetensors", "model.safetensors")
    }
    made = (house / "zoo" / f"{folder.name}.json").read_bytes()
    again = publish(
        house / "runs" / "test_resnet.multitask_drawn2",
        **{key: house / name for key, name in (("out", "dist"), ("zoo", "zoo"), ("cards", "cards"))},
        cut=AFTER,
    )
    assert again == folder and (house / "zoo" / f"{folder.name}.json").read_bytes() == made


@pytest.mark.parametrize(
    ("after", "said"),
    [("layer4", "this is the whole"), ("layer9", "no such block"), ("conv1", "no such block")],
)
def test_i73_what_is_no_shorter_trunk_is_refused(house: Path, after: str, said: str) -> None:
    places = {key: house / f"none_{key}" for key in ("out", "zoo", "cards")}
    with pytest.raises(UsageError, match=rf"(?s)HZ-I73.*{said}"):
        publish(house / "runs" / "test_resnet.multitask_drawn2", **places, cut=after)
    assert not list((house / "none_out").glob("*")) and not list((house / "none_zoo").glob("*"))


def test_i73_a_family_that_stock_timm_cannot_end_early_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "test_convnext")
    places = {key: tmp_path / key for key in ("out", "zoo", "cards")}
    with pytest.raises(UsageError, match=r"(?s)HZ-I73.*pooling is left to the caller"):
        publish(run, **places, cut="stages.1")


def test_u43_nothing_is_trained_on_from_a_part(house: Path) -> None:
    tasks = {**EXPERIMENT, "name": "test_resnet.multitask_other", "init": str(bundle(house))}
    with pytest.raises(UsageError, match=r"HZ-U43.*a trunk that ends early"):
        assemble.check_start(experiment.resolve(tasks))
