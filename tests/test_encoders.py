"""One name, one encoder: entries, runs, random twins, pretrained models without a network, and the colour histogram."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import histozoo
from histozoo.errors import ResourceError, UsageError
from histozoo.evaluate import encoder_sources, histogram
from histozoo.evaluate.encoders import encoder
from histozoo.evaluate.probe import features
from histozoo.evaluate.trunks import random_trunk

ENTRY = "resnet18.multitask_path11"
TINY = "test_resnet"


def tiles(n: int = 3, px: int = 64):
    return np.random.default_rng(0).integers(256, size=(n, px, px, 3), dtype=np.uint8)


@pytest.fixture
def run_folder(tmp_path):
    def make(**experiment) -> Path:
        folder = tmp_path / "a_run"
        (folder / "final").mkdir(parents=True)
        torch.manual_seed(3)
        model = timm.create_model(TINY, num_classes=0)
        save_file(
            {f"backbone.{k}": v for k, v in model.state_dict().items()}, folder / "final/model.safetensors"
        )
        sha256 = hashlib.sha256((folder / "final/model.safetensors").read_bytes()).hexdigest()
        facts = {"architecture": TINY, "tile_px": 32, "mean": [0.5] * 3, "std": [0.2] * 3, "leave_out": []}
        for name, value in (
            ("experiment.json", facts | experiment),
            ("data.json", {"one": {"lineage": "blood"}}),
            ("final/DONE.json", {"model.safetensors": {"sha256": sha256}}),
        ):
            (folder / name).write_text(json.dumps(value))
        return folder

    return make


def test_an_entry_gives_what_load_gives():
    found = encoder(ENTRY)
    entry = histozoo.registry.entry(ENTRY)
    assert (found.kind, found.sha256, found.tile_px) == ("entry", entry.weights.sha256, 64)
    expected = features(histozoo.load(ENTRY), tiles(), mean=found.mean, std=found.std)
    np.testing.assert_array_equal(found.features(tiles()), expected)
    assert found.saw("glas") is True and found.saw("a lineage it never met") is False
    assert set(found.block_features(tiles())) == {"layer1", "layer2", "layer3", "layer4"}


def test_a_run_gives_its_trunk_and_says_what_it_saw(run_folder):
    folder = run_folder()
    found = encoder(folder)
    assert (found.kind, found.label, found.tile_px) == ("run", "a_run", 32)
    assert found.features(tiles(px=32)).shape == (3, 96)
    assert found.saw("blood") is True and found.saw("colon") is False
    assert encoder(str(folder)).facts() == found.facts()


@pytest.mark.parametrize(("init", "saw"), [("timm:resnet18", None), (ENTRY, True), ("gone.x_y", None)])
def test_what_the_initialisation_saw_counts(run_folder, init, saw):
    found = encoder(run_folder(init=init))
    assert found.saw("blood") is True and found.saw("glas") is saw


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="HZ-U52"):
        encoder(tmp_path)


def test_a_random_twin_differs_by_seed_alone_and_leaves_the_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (encoder(f"random:{ENTRY}{seed}").features(tiles()) for seed in ("", "@0", "@1"))
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert encoder(f"random:{ENTRY}").sha256 == encoder(f"random:{ENTRY}@0").sha256
    assert encoder(f"random:{ENTRY}@1").sha256 != encoder(f"random:{ENTRY}").sha256
    assert encoder(f"random:{ENTRY}").saw("glas") is False
    contract = encoder(ENTRY).facts() | {"sha256": ""}
    assert encoder(f"random:{ENTRY}").facts() | {"sha256": ""} == contract


def test_a_random_twin_of_a_run_and_of_an_architecture_are_those_of_comparisons(run_folder):
    of_run, of_timm = encoder(f"random:{run_folder()}@2"), encoder(f"random:{TINY}@2", tile_px=32)
    expected = features(random_trunk(TINY, seed=2), tiles(px=32), mean=of_run.mean, std=of_run.std)
    np.testing.assert_array_equal(of_run.features(tiles(px=32)), expected)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            of_run.module().state_dict().values(), of_timm.module().state_dict().values(), strict=True
        )
    )


def test_pretrained_weights_are_known_by_their_tensors(monkeypatch):
    monkeypatch.setattr(encoder_sources, "_pretrained", lambda name: random_trunk(TINY, seed=7))
    found = encoder(f"timm:{TINY}")
    cfg = timm.get_pretrained_cfg(TINY)
    assert (found.mean, found.std, found.tile_px) == (cfg.mean, cfg.std, cfg.input_size[-1])
    assert found.lineages is None and found.saw("glas") is None
    assert found.sha256 == encoder(f"timm:{TINY}", tile_px=96).sha256 and len(found.sha256) == 64
    monkeypatch.setattr(encoder_sources, "_pretrained", lambda name: random_trunk(TINY, seed=8))
    assert encoder(f"timm:{TINY}").sha256 != found.sha256


def test_b14_a_network_that_is_not_there_is_said(monkeypatch):
    def refuse(name):
        raise OSError("no route to host")

    monkeypatch.setattr(encoder_sources, "_pretrained", refuse)
    with pytest.raises(ResourceError, match="HZ-B1"):
        encoder(f"timm:{TINY}")


def test_another_tile_size_is_part_of_the_contract():
    found = encoder(ENTRY, tile_px=96)
    assert found.features(tiles(px=96)).shape == (3, 512)
    assert found.facts() != encoder(ENTRY).facts() and found.label.endswith("at 96 px")


def test_the_histogram_is_numpys_and_knows_no_place():
    found = encoder("colour-histogram")
    x_NHWC = tiles(5)
    expected = [
        np.histogramdd(t.reshape(-1, 3), bins=[np.arange(0, 257, 32)] * 3)[0].ravel() / 4096 for t in x_NHWC
    ]
    np.testing.assert_allclose(found.features(x_NHWC, batch=2), expected, atol=1e-7)
    np.testing.assert_array_equal(found.features(x_NHWC[:, ::-1]), found.features(x_NHWC))
    assert histogram.features(tiles(2, px=8)).shape == (2, 512)
    assert found.saw("glas") is False
    with pytest.raises(UsageError, match=r"(?s)HZ-I67 colour-histogram is no network.*next: .*a baseline"):
        found.module()


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("resnet18.multitask_path1", "HZ-C19", ENTRY),
        ("timm:resnet19", "HZ-I67", "resnet18"),
        ("timm:resnet18.a1_in2k", "HZ-I67", "resnet18.a1_in1k"),
        ("random:reznet50", "HZ-I67", "resnet50"),
        ("random:resnet18@x", "HZ-I67", "whole number"),
        ("random:resnet18@-1", "HZ-I67", "whole number"),
        ("hf-hub:nothing", "HZ-I67", "OWNER/NAME"),
        ("colour-histogramm", "HZ-I67", "nearest: colour-histogram"),
        ("Color_Histogram", "HZ-I67", "nearest: colour-histogram"),
        ("random:colour-histogram", "HZ-I67", "colour-histogram has no weights, so none that are random"),
        ("random:colour-histogram@1", "HZ-I67", "next:     colour-histogram alone"),
        ("nowhere/at-all", "HZ-U13", "bundle folder"),
    ],
)
def test_names_that_are_none_are_refused_with_the_nearest(name, code, says):
    with pytest.raises(UsageError, match=code) as caught:
        encoder(name)
    assert says in str(caught.value)


def test_i67_tiles_of_another_size_or_kind_are_refused():
    for bad in (tiles(px=32), tiles().astype(np.float32), tiles()[:0]):
        with pytest.raises(UsageError, match=r"HZ-I67 .* does not take these tiles"):
            encoder(ENTRY).features(bad)
    with pytest.raises(UsageError, match="HZ-I67"):
        encoder(ENTRY, tile_px=0)


def test_i67_features_are_no_encoder(tmp_path):
    file = tmp_path / "features" / "slide.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"-")
    for name in (file, file.parent):
        with pytest.raises(UsageError, match=r"(?s)HZ-I67 features.*next: .*--slides TABLE"):
            encoder(name)
    (file.parent / "experiment.json").write_text("{}")
    with pytest.raises(UsageError, match="HZ-U52"):
        encoder(file.parent)
