"""histozoo.load: a device that is not there is refused before anything is read; options that give other features are told of."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import histozoo
from histozoo import sources
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.zoo import tiny_zoo

torch = pytest.importorskip("torch")

RESNET, VIT = (f"test_{arch}.multitask_tiny" for arch in ("resnet", "vit"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOZOO_ZOO", "")
        patch.setenv("HISTOZOO_WEIGHTS_DIR", "")
        tiny_zoo(folder)
    return folder


@pytest.fixture(autouse=True)
def zoo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HISTOZOO_ZOO", str(made))
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(made / "dist"))
    return made


@pytest.mark.parametrize("device", ["tpu9", "", "cuda:99", "xla", None, 99])
def test_u68_an_unknown_device_is_refused_before_weights_are_looked_for(
    device: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "locate", lambda *a, **k: pytest.fail("weights were looked for"))
    with pytest.raises(UsageError, match="HZ-U68 there is no such device here") as caught:
        histozoo.load(RESNET, device=device)  # type: ignore[arg-type]
    assert "cpu" in caught.value.expected and caught.value.got == repr(str(device))


def test_known_devices_are_taken_by_name_and_as_objects() -> None:
    kinds = [
        next(histozoo.load(RESNET, device=device).parameters()).device.type
        for device in ("cpu", torch.device("cpu"), "meta")
    ]
    assert kinds == ["cpu", "cpu", "meta"]
    assert next(histozoo.load(RESNET, device="auto").parameters()).device.type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("name", "pooling", "stated", "pretrained"),
    [
        (RESNET, "max", "avg", True),
        (RESNET, "max", "avg", False),
        (RESNET, "avgmax", "avg", True),
        (VIT, "max", "token", False),
    ],
)
def test_u84_another_pooling_than_the_cards_is_told(
    name: str, pooling: str, stated: str, pretrained: bool
) -> None:
    with pytest.warns(UserWarning, match=rf"HZ-U84 {name} pools '{pooling}' here, not '{stated}'") as told:
        histozoo.load(name, pretrained=pretrained, global_pool=pooling)
    assert [Path(w.filename).name for w in told] == [Path(__file__).name]


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}])
def test_a05_another_pooling_that_needs_other_weights_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(IntegrityError, match=r"HZ-A05 [\s\S]*fc_norm\.weight"):
        histozoo.load(VIT, global_pool="max", **options)


def test_other_options_and_the_cards_own_pooling_are_told_nothing_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, {"global_pool": "avg"}, {"global_pool": ""}, {"num_classes": 2}, {"in_chans": 1}):
            histozoo.load(RESNET, **options)  # type: ignore[arg-type]
        histozoo.load(RESNET, features_only=True)
        histozoo.load(VIT, drop_rate=0.1)


def test_u69_a_feature_level_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"HZ-U69 .*no feature level") as caught:
        histozoo.load(RESNET, features_only=True, out_indices=(9,))
    assert caught.value.got == "out_indices=(9,)"


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("num_classes", -1, "num_classes is not a whole number of at least 0"),
        ("num_classes", "5", "num_classes is not a whole number of at least 0"),
        ("num_classes", 2.5, "num_classes is not a whole number of at least 0"),
        ("in_chans", 0, "in_chans is not a whole number of at least 1"),
        ("in_chans", "rgb", "in_chans is not a whole number of at least 1"),
        ("global_pool", "mx", "does not take an option"),
        ("num_clases", 5, "does not take an option"),
    ],
)
@pytest.mark.parametrize("pretrained", [True, False])
def test_u69_an_option_that_timm_cannot_take_is_refused_by_name(
    option: str, value: object, says: str, pretrained: bool
) -> None:
    with pytest.raises(UsageError, match=f"HZ-U69 .*{says}") as caught:
        histozoo.load(RESNET, pretrained=pretrained, **{option: value})  # type: ignore[arg-type]
    assert str(value) in str(caught.value.got) or option in str(caught.value.got)
