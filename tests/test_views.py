"""Augmentation: identities, symmetries and ranges, as functions of the uniform numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from histozoo.data.mixing import UNIFORMS
from histozoo.data.views import SLOTS, STAINS, Views, normalise, stain_jitter

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def batch(size: int = 4, px: int = 16) -> torch.Tensor:
    return torch.randint(
        0, 256, (size, px, px, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def uniforms(size: int = 4, **values: float) -> torch.Tensor:
    u_BP = torch.full((size, UNIFORMS), 0.75)
    for name, value in values.items():
        u_BP[:, SLOTS[name]] = value
    return u_BP


def test_every_slot_fits_the_vector() -> None:
    assert sorted(SLOTS.values()) == list(range(UNIFORMS))


def test_without_strength_a_view_is_the_tile() -> None:
    view = Views(px=16, **PLAIN, flip=False)(batch(), uniforms())
    assert torch.allclose(view, batch().permute(0, 3, 1, 2).float() / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"flip_x": 0.2}, lambda x: x.flip(3)),
        ({"flip_y": 0.2}, lambda x: x.flip(2)),
        ({"quarter": 0.1}, lambda x: x),
        ({"quarter": 0.6}, lambda x: x.rot90(2, (2, 3))),
    ],
)
def test_flips_and_turns_are_exact_symmetries(numbers: dict[str, float], expected) -> None:
    u_BP = uniforms(**{"quarter": 0.1, **numbers})
    view = Views(px=16, **PLAIN, flip=True, rot90=True)(batch(), u_BP)
    assert torch.allclose(view, expected(batch().permute(0, 3, 1, 2).float() / 255), atol=1e-5)


def test_quarter_turns_are_turns_and_differ() -> None:
    turns = [
        Views(px=16, **PLAIN, flip=False, rot90=True)(batch(), uniforms(quarter=q))
        for q in (0.1, 0.3, 0.6, 0.9)
    ]
    x_BCHW = batch().permute(0, 3, 1, 2).float() / 255
    known = [x_BCHW.rot90(k, (2, 3)) for k in range(4)]
    matches = [[torch.allclose(t, k, atol=1e-5) for k in known] for t in turns]
    assert np.array(matches).sum(0).tolist() == [1, 1, 1, 1]


def test_a_crop_shows_the_stated_share_of_the_tile() -> None:
    # A horizontal ramp: the range of values in the view is the share of the width that it shows.
    ramp = torch.arange(256, dtype=torch.uint8).repeat(256, 1)[None, :, :, None].repeat(2, 1, 1, 3)
    views = Views(px=64, **PLAIN, flip=False, area=(0.25, 1.0))
    shown = [
        float(np.ptp(views(ramp, uniforms(2, area=a, x=0.5, y=0.5))[0, 0].numpy())) for a in (0.0, 0.999)
    ]
    assert shown[0] == pytest.approx(0.5, abs=0.02)
    assert shown[1] == pytest.approx(1.0, abs=0.03)


def test_stain_jitter_of_factor_one_and_shift_zero_is_the_identity() -> None:
    x_BCHW = batch().permute(0, 3, 1, 2).float().clamp(min=1) / 255
    same = stain_jitter(x_BCHW, torch.ones(4, 3), torch.zeros(4, 3))
    assert torch.allclose(same, x_BCHW, atol=1e-5)


def test_stain_jitter_scales_one_stain_alone() -> None:
    # A pixel of pure haematoxylin at density 0.5 becomes one at density 0.6.
    haematoxylin = torch.nn.functional.normalize(torch.tensor(STAINS), dim=1)[0]
    x_BCHW = torch.exp(-0.5 * haematoxylin)[None, :, None, None]
    scaled = stain_jitter(x_BCHW, torch.tensor([[1.2, 1.0, 1.0]]), torch.zeros(1, 3))
    assert torch.allclose(-scaled.log().flatten(), 0.6 * haematoxylin, atol=1e-5)


def test_views_stay_in_range_and_depend_on_nothing_but_their_input() -> None:
    views = Views(px=8, **PLAIN, rot90=True, area=(0.3, 1.0), aspect=1.3, colour=0.4, stain=0.1)
    u_BP = torch.rand(4, UNIFORMS, generator=torch.Generator().manual_seed(1))
    whole = views(batch(), u_BP)
    assert whole.shape == (4, 3, 8, 8)
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
    single = torch.cat([views(batch()[i : i + 1], u_BP[i : i + 1]) for i in range(4)])
    assert torch.allclose(whole, single, atol=1e-6)


def test_normalise_subtracts_the_mean_and_divides_by_the_std() -> None:
    x_BCHW = torch.full((1, 3, 2, 2), 0.7)
    assert torch.allclose(
        normalise(x_BCHW, (0.5, 0.7, 0.1), (0.2, 0.3, 0.6))[0, :, 0, 0], torch.tensor([1.0, 0.0, 1.0])
    )
