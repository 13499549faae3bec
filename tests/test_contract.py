"""The contract as code: pixels bit-equal to stock timm's, images refused rather than converted, mpp compared."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

from histozoo import contract, registry
from histozoo.errors import UsageError
from tests.fakes.zoo import entry_json

NAME = "resnet18.multitask_path11"


def entry(**changes: Any) -> registry.Entry:
    raw = entry_json(NAME)
    raw["histozoo"]["contract"].update(changes)
    return registry.parse_entry(raw, Path("config.json"))


def test_pixels_are_stock_timms() -> None:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    from PIL import Image

    noise = torch.randint(
        0, 256, (130, 107, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    image = Image.fromarray(noise.numpy())
    config = timm.data.resolve_data_config(pretrained_cfg=entry_json(NAME)["pretrained_cfg"])
    stock = timm.data.create_transform(**config, is_training=False)
    ours = contract.transform(entry())
    assert torch.equal(ours(image), stock(image)) and ours(image).shape == (3, 96, 96)
    again = pickle.loads(pickle.dumps(ours))
    assert torch.equal(again(image), stock(image)) and NAME in repr(again)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "I;16", "1", "F"])
def test_an_image_of_another_mode_is_refused(mode: str) -> None:
    from PIL import Image

    with pytest.raises(UsageError) as caught:
        contract.transform(entry())(Image.new(mode, (96, 96)))
    assert caught.value.code == "HZ-U15" and caught.value.got == f"mode {mode}"


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UsageError, match=r"(?s)HZ-U15.*BytesIO"):
        contract.transform(entry())(io.BytesIO())  # type: ignore[arg-type]


def test_mpp_within_ten_percent_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contract.check_mpp(entry(), 0.5)
        contract.check_mpp(entry(), 0.5 * 1.099)
        contract.check_mpp(entry(mpp=[0.25, 0.5]), 0.25)
        contract.check_mpp(entry(mpp=None, mpp_reason="mixed"), 3.0)


@pytest.mark.parametrize("mpp", [0.25, 0.56, 1.0, None])
def test_h57_another_mpp_is_warned_of(mpp: float | None) -> None:
    with pytest.warns(UserWarning, match=f"HZ-H57 {NAME} was trained at 0.5, it gets tiles"):
        contract.check_mpp(entry(), mpp)


@pytest.mark.parametrize("mpp", [0.0, -0.5, float("nan"), float("inf"), 1e6])
def test_h57_an_impossible_mpp_is_refused(mpp: float) -> None:
    with pytest.raises(UsageError, match="HZ-H57"):
        contract.check_mpp(entry(), mpp)
