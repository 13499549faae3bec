"""Views for self-supervised training: crops and symmetries, purity, probabilities, names, and the bound on the magnification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from histozoo.data import cropping
from histozoo.data.drawing import OPERATIONS, SLOTS, View
from histozoo.data.ssl_views import SSLViews, multi_crop, one_view, two_views
from histozoo.errors import UsageError

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ALL = {"mix_p": 0.5, "solarise_p": 0.3}


def batch(size: int = 8, px: int = 32) -> torch.Tensor:
    """Smooth tiles with some noise, different in colour."""
    random = torch.Generator().manual_seed(0)
    small = torch.rand(size, 3, 5, 5, generator=random)
    x = torch.nn.functional.interpolate(small, (px, px), mode="bicubic").clamp(0, 1)
    x = (x + 0.1 * torch.rand(x.shape, generator=random)).clamp(0, 1)
    return (x * 255).byte().permute(0, 2, 3, 1).contiguous()


def numbers(views: SSLViews, size: int = 8, seed: int = 0, **values: float) -> torch.Tensor:
    u_BU = torch.rand(size, views.uniforms, generator=torch.Generator().manual_seed(seed))
    for name, value in values.items():
        u_BU.view(size, -1, len(SLOTS))[..., SLOTS[name]] = value
    return u_BU


def only(*names: str) -> tuple[str, ...]:
    return tuple(n for n in OPERATIONS if n not in names)


def planar(tiles: torch.Tensor) -> torch.Tensor:
    return tiles.permute(0, 3, 1, 2).float() / 255


# -- shapes and purity --


def test_views_have_their_sizes_types_and_memory_order() -> None:
    views = multi_crop(32, 16, 3, mean=(0.5, 0.6, 0.7), std=(0.2, 0.3, 0.4), **ALL)
    tiles, u_BU = batch(px=48), numbers(views)
    before = (tiles.clone(), u_BU.clone())
    shown = views(tiles, u_BU)
    assert [tuple(v.shape) for v in shown] == [(8, 3, 32, 32)] * 2 + [(8, 3, 16, 16)] * 3
    assert all(v.dtype == torch.float32 and v.is_contiguous(memory_format=torch.channels_last) for v in shown)
    assert torch.equal(tiles, before[0]) and torch.equal(u_BU, before[1])
    for channel, (mean, std) in enumerate(zip(views.mean, views.std, strict=True)):
        values = torch.cat([v[:, channel].flatten() for v in shown])
        assert (
            (0 - mean) / std - 1e-5 <= float(values.min()) <= float(values.max()) <= (1 - mean) / std + 1e-5
        )


def test_f47_a_sample_has_the_same_bits_whatever_the_batch_around_it() -> None:
    views = multi_crop(32, 16, 2, mean=(0.5,) * 3, std=(0.25,) * 3, solarise_p=0.3)
    tiles, u_BU = batch(), numbers(views)
    whole = views(tiles, u_BU)
    torch.manual_seed(3)  # the global generator has no say
    order = torch.tensor([5, 2, 7])
    for view, part in zip(whole, views(tiles[order], u_BU[order]), strict=True):
        assert torch.equal(view[order], part)
    for view, alone in zip(whole, views(tiles[4:5], u_BU[4:5]), strict=True):
        assert torch.equal(view[4:5], alone)


def test_f47_the_number_of_threads_changes_no_bit_and_stays_as_it_was() -> None:
    views, before = two_views(224, (0.5,) * 3, (0.25,) * 3, solarise_p=0.3), torch.get_num_threads()
    tiles, u_BU = batch(4, 256), numbers(views, 4)
    try:
        torch.set_num_threads(2)
        two = views(tiles, u_BU)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        one = views(tiles, u_BU)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_views_can_be_trained_through() -> None:
    views = two_views(16, (0.5,) * 3, (0.25,) * 3, **ALL)
    layer = torch.nn.Conv2d(3, 2, 3)
    layer(views(batch(), numbers(views))[0]).sum().backward()
    assert layer.weight.grad is not None and float(layer.weight.grad.abs().sum()) > 0


def test_half_precision_of_the_step_does_not_reach_the_pixels() -> None:
    views = two_views(16, (0.5,) * 3, (0.25,) * 3, **ALL)
    u_BU = numbers(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = views(batch(), u_BU)
    assert all(torch.equal(a, b) for a, b in zip(inside, views(batch(), u_BU), strict=True))


def test_too_few_numbers_are_refused() -> None:
    views = two_views(16, *PLAIN)
    with pytest.raises(UsageError, match="HZ-U86 samples carry too few uniform numbers"):
        views(batch(), torch.rand(8, views.uniforms - 1))


# -- names --


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_does_something_and_can_be_left_out_by_name(name: str) -> None:
    alone = one_view(
        32, *PLAIN, without=only(name), stain_p=1, mix_p=1, colour_p=1, grey_p=1, blur_p=1, solarise_p=1
    )
    if name in ("brightness", "contrast", "saturation", "hue"):
        alone = one_view(32, *PLAIN, without=tuple(n for n in only(name) if n != "colour"), colour_p=1)
    if name == "colour":
        alone = one_view(
            32, *PLAIN, without=only("colour", "brightness", "contrast", "saturation", "hue"), colour_p=1
        )
    u_BU = numbers(alone, seed=1)
    changed = [
        not torch.allclose(a, b, atol=1e-3)
        for a, b in zip(alone(batch(), u_BU)[0], planar(batch()), strict=True)
    ]
    assert sum(changed) >= 4  # of 8; half of the samples may draw no flip or no turn
    none = one_view(32, *PLAIN, without=tuple(OPERATIONS))
    assert torch.allclose(none(batch(), u_BU)[0], planar(batch()), atol=1e-6)


def test_leaving_an_operation_out_changes_nothing_else() -> None:
    whole = two_views(32, *PLAIN, **ALL)
    u_BU = numbers(whole, 64, sigma=0.5)  # a sigma of 0.1 would change no bit
    without = two_views(32, *PLAIN, without=("blur",), **ALL)
    unblurred = u_BU.view(64, 2, -1)[:, :, SLOTS["blur"]] >= 0.5
    tiles = batch(64)
    for number, (a, b) in enumerate(zip(whole(tiles, u_BU), without(tiles, u_BU), strict=True)):
        same = torch.tensor([torch.equal(x, y) for x, y in zip(a, b, strict=True)])
        assert torch.equal(same, unblurred[:, number])


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="HZ-U86") as caught:
        two_views(16, *PLAIN, without=("blurr",))
    assert caught.value.got == "blurr" and "nearest: blur" in caught.value.expected


@pytest.mark.parametrize("name", ["grey", "blur", "solarise"])
def test_an_operation_is_drawn_with_its_probability(name: str) -> None:
    views = one_view(8, *PLAIN, without=only(name), **{f"{name}_p": 0.3})
    tiles = batch(400, 8)
    shown = views(tiles, numbers(views, 400))[0]
    drew = [not torch.allclose(a, b, atol=1e-4) for a, b in zip(shown, planar(tiles), strict=True)]
    assert abs(sum(drew) - 120) < 3 * (400 * 0.3 * 0.7) ** 0.5


# -- crops and symmetries --


def test_crops_equal_torchvisions_and_stay_in_the_tile() -> None:
    views = one_view(20, *PLAIN, without=only("crop"), area=(0.1, 1.0))
    tiles, u_BU = batch(64, 33), numbers(views, 64)
    u = u_BU[:, list(SLOTS.values())].T
    sides = cropping.crop_sides(u[SLOTS["area"]], u[SLOTS["aspect"]], area=(0.1, 1.0), aspect=4 / 3)
    off = torch.zeros(64, dtype=torch.bool)
    box = cropping.place(sides, u[SLOTS["x"]], u[SLOTS["y"]], (off, off, off.long()), hw=(33, 33))
    assert (
        (box.x_B >= 0).all() and (box.x_B + box.width_B <= 33).all() and (box.y_B + box.height_B <= 33).all()
    )
    assert (box.width_B * box.height_B / 33**2).min() < 0.2 and (box.x_B > 0).any()
    for row, mine in enumerate(views(tiles, u_BU)[0]):
        place = [int(t[row]) for t in (box.y_B, box.x_B, box.height_B, box.width_B)]
        expected = reference.resized_crop(tiles[row].permute(2, 0, 1), *place, [20, 20], antialias=True)
        assert torch.equal((mine * 255).round().byte(), expected)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize(("flip_x", "flip_y"), [(False, False), (True, False), (False, True), (True, True)])
def test_symmetries_are_quarter_turns_and_then_mirrors(quarter: int, flip_x: bool, flip_y: bool) -> None:
    views = one_view(32, *PLAIN, without=only("flip", "rot90"))
    u_BU = numbers(
        views, quarter=quarter / 4 + 0.1, flip_x=0.2 + 0.5 * (not flip_x), flip_y=0.2 + 0.5 * (not flip_y)
    )
    expected = planar(batch()).rot90(quarter, (2, 3))
    expected = expected.flip(3) if flip_x else expected
    expected = expected.flip(2) if flip_y else expected
    assert torch.allclose(views(batch(), u_BU)[0], expected, atol=1e-6)


def test_the_form_for_other_devices_gives_the_same_views() -> None:
    """The batched crop runs on any device; here on the processor, beside the one that runs there."""
    random = torch.rand(8, 64, generator=torch.Generator().manual_seed(4))
    sides = cropping.crop_sides(random[0], random[1], area=(0.05, 1.0), aspect=1.5)
    symmetry = (random[2] < 0.5, random[3] < 0.5, (random[4] * 4).long())
    boxes = cropping.place(sides, random[5], random[6], symmetry, hw=(40, 40))
    tiles = batch(64, 40)
    together = cropping.crop_batch(tiles, boxes, 24)
    rows = zip(*(t.tolist() for t in vars(boxes).values()), strict=True)
    alone = torch.cat([cropping.crop_one(t, box, 24) for t, box in zip(tiles, rows, strict=True)])
    assert (together - alone.float()).abs().max() <= 1
    assert (together == alone.float()).float().mean() > 0.95


def test_numbers_just_below_one_stay_inside() -> None:
    views = multi_crop(16, 8, 2, mean=(0.0,) * 3, std=(1.0,) * 3, **ALL)
    for edge in (0.0, float(np.nextafter(np.float32(1), np.float32(0)))):
        assert all(torch.isfinite(v).all() for v in views(batch(), torch.full((8, views.uniforms), edge)))


def test_local_views_have_the_resolutions_of_the_global_ones() -> None:
    views = multi_crop(96, 48, 2, mean=(0.5,) * 3, std=(0.25,) * 3, area=(0.4, 0.9)).views
    assert views[2].area == pytest.approx((0.1, 0.225))
    shrunk = [[(a**0.5) / v.px for a in v.area] for v in views]
    assert shrunk[0] == pytest.approx(shrunk[2])


def test_byols_two_views_differ_in_blur_and_solarisation() -> None:
    first, second = two_views(96, *PLAIN, asymmetric=True).views
    assert (first.blur_p, second.blur_p, first.solarise_p, second.solarise_p) == (1.0, 0.1, 0.0, 0.2)
    assert two_views(96, *PLAIN).views[0] == two_views(96, *PLAIN).views[1] == View(px=96)


def test_mixed_stains_move_towards_the_partner_and_glass_stays_glass() -> None:
    from histozoo.data import stain

    density = (
        torch.tensor([[0.4, 0.1, 0.0], [0.6, 0.15, 0.0]])[:, :, None, None].repeat(1, 1, 16, 16) / stain.UNIT
    )
    density[:, :, :4] = 0
    tiles = (stain.hed_to_rgb(density) * 255).round().byte().permute(0, 2, 3, 1)
    views = one_view(16, *PLAIN, without=only("mix"), mix_p=1.0)
    mixed = views(tiles, numbers(views, 2, mix_weight=0.999, mix=0.0))[0]
    assert torch.allclose(mixed[:, :, :4], torch.ones(2, 3, 4, 16), atol=1e-4)
    assert torch.allclose(mixed[0], planar(tiles)[1], atol=0.02) and torch.allclose(
        mixed[1], planar(tiles)[0], atol=0.02
    )
