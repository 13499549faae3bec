"""Stains, colours and blur of the self-supervised views against scikit-image's formula and torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color
from torchvision.transforms.v2 import functional as reference

from histozoo.data import photometric as p
from histozoo.data import stain
from histozoo.data.drawing import OPERATIONS, SLOTS
from histozoo.data.ssl_views import one_view

# scikit-image's published matrix (skimage.color.rgb_from_hed).
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def skimage_rgb2hed(rgb: np.ndarray) -> np.ndarray:
    stains = np.log(np.maximum(rgb, 1e-6)) / np.log(1e-6) @ np.linalg.inv(RGB_FROM_HED)
    return np.maximum(stains, 0)


def skimage_hed2rgb(hed: np.ndarray) -> np.ndarray:
    return np.clip(np.exp(hed * np.log(1e-6) @ RGB_FROM_HED), 0, 1)


def images(size: int = 6, px: int = 24) -> torch.Tensor:
    """Smooth and noisy colours, grey ones, pure channels, black and white."""
    x_BCHW = torch.rand(size, 3, px, px, generator=torch.Generator().manual_seed(0))
    x_BCHW[0, :, :2] = 0
    x_BCHW[0, :, 2:4] = 1
    x_BCHW[1] = x_BCHW[1, :1]
    x_BCHW[2, 0], x_BCHW[2, 1, :12] = 1, 0
    return (x_BCHW * 255).round() / 255


def flat(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW.clone().flatten(2)


def hwc(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).double().numpy()


# -- stains --


def test_conversions_equal_scikit_images_formula() -> None:
    x_BCHW = images()
    hed = skimage_rgb2hed(hwc(x_BCHW))
    assert np.abs(hwc(stain.rgb_to_hed(x_BCHW)) - hed).max() < 1e-6
    ours = stain.hed_to_rgb(torch.from_numpy(hed).permute(0, 3, 1, 2).float())
    assert np.abs(hwc(ours) - skimage_hed2rgb(hed)).max() < 1e-6


def test_the_formula_above_is_that_of_the_installed_scikit_image() -> None:
    assert np.array_equal(color.rgb_from_hed, RGB_FROM_HED)
    x = hwc(images())
    assert np.abs(color.rgb2hed(x) - skimage_rgb2hed(x)).max() < 1e-12
    assert np.abs(color.hed2rgb(color.rgb2hed(x)) - skimage_hed2rgb(skimage_rgb2hed(x))).max() < 1e-12


def test_jitter_is_scaling_and_shifting_scikit_images_densities() -> None:
    x_BCHW = images()
    random = torch.Generator().manual_seed(1)
    factor_BS = 1 + 0.4 * (torch.rand(6, 3, generator=random) - 0.5)
    shift_BS = 0.2 * (torch.rand(6, 3, generator=random) - 0.5)
    ours = stain.change_stains_(flat(x_BCHW), *stain.stain_maps(factor_BS, shift_BS)).view_as(x_BCHW)
    unit = -np.log(1e-6)
    factor, shift = (v.double().numpy()[:, None, None] for v in (factor_BS, shift_BS))
    theirs = skimage_hed2rgb(factor * skimage_rgb2hed(hwc(x_BCHW)) + shift / unit)
    assert np.abs(hwc(ours) - theirs).max() < 1e-6


def test_the_stain_jitter_of_a_view_equals_the_installed_scikit_images() -> None:
    """Tile to view through `rgb2hed` and `hed2rgb` themselves, with the factors and shifts that the numbers of the sample stand for."""
    tiles_BHWC = (images().permute(0, 2, 3, 1) * 255).round().byte()
    alone = tuple(name for name in OPERATIONS if name != "stain")
    views = one_view(24, (0.0,) * 3, (1.0,) * 3, without=alone, stain_p=1.0, stain=0.2)
    u_BU = torch.rand(6, views.uniforms, generator=torch.Generator().manual_seed(3))
    seen = hwc(views(tiles_BHWC, u_BU)[0])
    for row, (tile_HWC, u_U) in enumerate(zip(tiles_BHWC.numpy(), u_BU.double().numpy(), strict=True)):
        factor, shift = (
            0.2 * (2 * u_U[[SLOTS[f"{what}_{s}"] for s in "her"]] - 1) for what in ("stain", "shift")
        )
        jittered = (1 + factor) * color.rgb2hed(tile_HWC) - shift / np.log(1e-6)
        assert np.abs(seen[row] - color.hed2rgb(jittered)).max() < 1e-6
        assert np.abs(seen[row] - tile_HWC / 255).max() > 0.01


def test_jitter_of_no_strength_keeps_every_colour_that_the_stains_can_make() -> None:
    density = torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(2)) / 14
    x_BCP = stain.hed_to_rgb(density)
    same = stain.change_stains_(x_BCP.clone(), *stain.stain_maps(torch.ones(2, 3), torch.zeros(2, 3)))
    assert torch.allclose(same, x_BCP, atol=1e-6)


def test_strength_is_a_quantile_that_a_few_pixels_do_not_move() -> None:
    x_BCP = stain.hed_to_rgb(torch.full((1, 3, 1000), 0.8 / stain.UNIT))
    assert torch.allclose(stain.stain_strength(x_BCP), torch.full((1, 3), 0.8), atol=1e-4)
    x_BCP[:, :, :5] = 0.01
    assert torch.allclose(stain.stain_strength(x_BCP), torch.full((1, 3), 0.8), atol=1e-4)
    glass = stain.stain_strength(torch.ones(1, 3, 100))
    assert (glass > 0).all()


def test_mixing_takes_strengths_part_of_the_way_to_the_partners() -> None:
    strength_BS = torch.tensor([[0.5, 0.4, 0.1], [0.8, 0.2, 0.1], [0.1, 4.0, 0.1]])
    to = torch.tensor([1, 0, 1])
    whole = stain.mixing_factors(strength_BS, to, torch.ones(3))
    assert torch.allclose((whole * strength_BS)[0], strength_BS[1])
    assert torch.allclose(stain.mixing_factors(strength_BS, to, torch.zeros(3)), torch.ones(3, 3))
    half = stain.mixing_factors(strength_BS, to, torch.full((3,), 0.5))
    assert torch.allclose((half * strength_BS)[0], (strength_BS[0] * strength_BS[1]).sqrt())
    assert whole.min() >= 0.5 and whole.max() <= 2


def test_partners_follow_the_numbers_and_not_the_order_of_the_batch() -> None:
    u_B = torch.tensor([0.3, 0.9, 0.1, 0.5])
    assert stain.partners(u_B).tolist() == [3, 2, 0, 1]
    order = torch.tensor([2, 0, 3, 1])
    moved = stain.partners(u_B[order])
    assert order[moved].tolist() == stain.partners(u_B)[order].tolist()
    assert stain.partners(torch.tensor([0.4, 0.4])).tolist() == [1, 0]


# -- colours --

FACTORS = torch.tensor([0.0, 0.3, 0.8, 1.0, 1.3, 2.0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: p.brighten_(x, FACTORS[:, None, None]), reference.adjust_brightness),
        (lambda x: p.contrast_(x, FACTORS[:, None, None]), reference.adjust_contrast),
        (lambda x: p.saturate(x, p.saturation_map(FACTORS)), reference.adjust_saturation),
    ],
)
def test_colours_by_factor_equal_torchvision(ours, theirs) -> None:
    expected = torch.stack([theirs(x, float(f)) for x, f in zip(images(), FACTORS, strict=True)])
    assert torch.allclose(ours(flat(images())).view_as(expected), expected, atol=1e-5)


@pytest.mark.parametrize(
    "turns", [(-0.5, -0.31, -0.1, 0.0, 0.07, 0.2), (0.5, 0.45, 0.33, -0.17, -0.4, -0.02)]
)
def test_hue_equals_torchvision(turns: tuple[float, ...]) -> None:
    expected = torch.stack([reference.adjust_hue(x, t) for x, t in zip(images(), turns, strict=True)])
    ours = p.turn_hue(flat(images()), p.hue_offsets(torch.tensor(turns))).view_as(expected)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_grey_and_solarisation_equal_torchvision() -> None:
    grey = reference.rgb_to_grayscale(images(), num_output_channels=3)
    assert torch.allclose(p.grey_(flat(images())).view_as(grey), grey, atol=1e-5)
    assert torch.allclose(p.solarise_(images()), reference.solarize(images(), 0.5), atol=1e-6)


def test_a_chain_of_all_four_equals_torchvisions() -> None:
    x_BCP = p.brighten_(flat(images()), FACTORS[:, None, None])
    x_BCP = p.saturate(p.contrast_(x_BCP, FACTORS.flip(0)[:, None, None]), p.saturation_map(FACTORS))
    ours = p.turn_hue(x_BCP, p.hue_offsets(FACTORS / 4 - 0.2)).view(6, 3, 24, 24)
    for x, f, c, mine in zip(images(), FACTORS.tolist(), FACTORS.flip(0).tolist(), ours, strict=True):
        x = reference.adjust_contrast(reference.adjust_brightness(x, f), c)
        x = reference.adjust_hue(reference.adjust_saturation(x, f), f / 4 - 0.2)
        assert torch.allclose(mine, x, atol=1e-5)


# -- blur --

SIGMAS = torch.tensor([0.1, 0.4, 1.0, 1.3, 1.9, 2.0])


@pytest.mark.parametrize("alone", [True, False])
def test_blur_equals_torchvision_and_each_sample_has_its_own(alone: bool) -> None:
    kernels_BT = p.blur_kernels(SIGMAS, 2.0)
    if alone:
        ours = torch.cat([p.blur(x[None], k[None]) for x, k in zip(images(), kernels_BT, strict=True)])
    else:
        ours = p.blur(images(), kernels_BT)
    for mine, x, sigma in zip(ours, images(), SIGMAS.tolist(), strict=True):
        size = 2 * max(1, int(np.ceil(3 * np.float32(sigma)))) + 1
        assert torch.allclose(mine, reference.gaussian_blur(x, [size, size], [sigma, sigma]), atol=1e-5)


def test_blur_keeps_a_flat_image_and_the_mean_of_a_point() -> None:
    kernel_BT = p.blur_kernels(torch.tensor([1.5]), 1.5)
    assert torch.allclose(
        p.blur(torch.full((1, 3, 16, 16), 0.3), kernel_BT), torch.full((1, 3, 16, 16), 0.3), atol=1e-6
    )
    point = torch.zeros(1, 3, 31, 31)
    point[..., 15, 15] = 1
    blurred = p.blur(point, kernel_BT)
    assert float(blurred.sum()) == pytest.approx(3, abs=1e-4)
    assert torch.allclose(blurred, blurred.mT, atol=1e-7) and torch.allclose(
        blurred, blurred.flip(3), atol=1e-7
    )
