from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from histozoo.errors import UsageError
from histozoo.evaluate.corruption_error import CorruptionError, against, corruption_error
from histozoo.evaluate.corruptions import CORRUPTIONS, corrupt
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.resampling import Estimate

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


# -- corruptions


def drawn(n: int = 4, px: int = 64) -> np.ndarray:
    """Coloured noise with edges at many scales."""
    coarse, fine = (
        np.random.default_rng(0).integers(45, 115, size=(n, k, k, 3), dtype=np.uint8) for k in (8, 32)
    )
    return sum(c.repeat(px // c.shape[1], 1).repeat(px // c.shape[1], 2) for c in (coarse, fine))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_with_severity_and_is_the_same_for_all_who_ask(name: str) -> None:
    tiles = drawn()
    before = tiles.copy()
    moved = []
    for severity in range(1, 6):
        found = corrupt(tiles, name, severity, seed=5)
        assert found.shape == tiles.shape and found.dtype == np.uint8
        np.testing.assert_array_equal(found, corrupt(tiles, name, severity, seed=5))
        np.testing.assert_array_equal(found[:2], corrupt(tiles[:2], name, severity, seed=5))
        moved.append(np.abs(found.astype(int) - tiles).mean())
    np.testing.assert_array_equal(tiles, before)
    assert moved[0] > 0 and np.all(np.diff(moved) > -0.15 * moved[-1]) and moved[-1] > 1.2 * moved[0]


def test_corruptions_do_what_their_names_say() -> None:
    grey = np.full((1, 32, 32, 3), 100, np.uint8)
    assert (corrupt(grey, "brightness_up", 5) == 125).all() and (
        corrupt(grey, "brightness_down", 5) == 70
    ).all()
    for name in ("pixelate", "jpeg", "defocus", "motion", "contrast_up", "contrast_down", "saturate"):
        np.testing.assert_array_equal(corrupt(grey, name, 5), grey)  # nothing to blur, stretch or tint
    red = np.full((1, 8, 8, 3), (200, 100, 100), np.uint8)
    np.testing.assert_array_equal(
        corrupt(red, "saturate", 5)[0, 0, 0], (200, 50, 50)
    )  # saturation 0.5 to 0.75
    point = np.zeros((1, 224, 224, 3), np.uint8)
    point[0, 112, 112] = 255
    disc = corrupt(np.kron(point[:, 96:128, 96:128], np.ones((1, 7, 7, 1), np.uint8)), "defocus", 1)
    assert abs(int(disc.sum()) - 49 * 3 * 255) < 0.1 * 49 * 3 * 255  # light is spread, not lost
    spot = {px: np.zeros((1, px, px, 3), np.uint8) for px in (224, 448)}
    for px, tile in spot.items():
        tile[0, px // 2, px // 2] = 255
    spread = {px: int((corrupt(t, "defocus", 1) > 0).any((0, 2, 3)).sum()) for px, t in spot.items()}
    assert spread == {224: 2 * 3 + 1, 448: 2 * 6 + 1}  # lengths scale with the tile


@pytest.mark.parametrize(
    ("tiles", "name", "severity"),
    [
        (drawn(), "fog", 1),
        (drawn(), "jpeg", 0),
        (drawn(), "jpeg", 6),
        (drawn().astype(float), "jpeg", 1),
        (drawn()[0], "jpeg", 1),
        (drawn()[:0], "jpeg", 1),
    ],
)
def test_i74_other_corruptions_severities_or_tiles_are_refused(tiles, name: str, severity: int) -> None:
    with pytest.raises(UsageError, match="HZ-I74"):
        corrupt(tiles, name, severity)


# -- corruption error


class Colour(nn.Module):
    """Mean colour of the four quarters: knows brightness and place, no texture."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.adaptive_avg_pool2d(x_BCHW, 2).flatten(1)


def shades(*, shuffled: bool = False) -> LabelledTiles:
    """Tiles of two classes, a dark and a bright grey, in 20 groups of both."""
    rng = np.random.default_rng(0)
    labels_N = np.arange(160) % 2
    tiles = 120 + 20 * labels_N[:, None, None, None] + rng.normal(0, 4, size=(160, 16, 16, 3))
    return LabelledTiles(
        task="shades",
        lineage="shades",
        classes=("dark", "bright"),
        tiles_NHWC=np.clip(tiles, 0, 255).astype(np.uint8),
        labels_N=rng.permutation(labels_N) if shuffled else labels_N,
        groups_N=np.arange(160) // 8,
        fingerprint="none",
    )


def errors(labelled: LabelledTiles, names: tuple[str, ...]) -> CorruptionError:
    return corruption_error(
        Colour(), labelled, mean=MEAN, std=STD, seed=0, corruptions=names, cs=(1e-2,), resamples=200
    )


def test_what_a_model_looks_at_decides_which_damage_costs_it() -> None:
    found = errors(shades(), ("jpeg", "brightness_up"))
    assert found.clean.value == 1 and found.clean.n_groups == 20
    assert found.accuracy["jpeg"] == (1,) * 5 and found.error("jpeg") == 0
    assert found.accuracy["brightness_up"][-1] == 0.5  # all look bright
    assert found.loss["brightness_up"].value == -0.5 and found.loss["brightness_up"].high < -0.4
    assert found.mean_error == found.error("brightness_up") / 2
    assert found == errors(shades(), ("jpeg", "brightness_up"))


def test_shuffled_labels_score_chance_clean_and_corrupted() -> None:
    found = errors(shades(shuffled=True), ("contrast_down",))
    assert found.clean.low < 0.5 < found.clean.high
    assert all(abs(a - 0.5) < 0.15 for a in found.accuracy["contrast_down"])


def told(clean: float, **accuracy: float) -> CorruptionError:
    estimate = Estimate(value=clean, low=0, high=1, n=160, n_groups=20, resamples=9, undefined=0)
    return CorruptionError(clean=estimate, accuracy={c: (a,) * 5 for c, a in accuracy.items()}, loss={})


def test_balanced_errors_are_ratios_to_the_reference_as_in_the_paper() -> None:
    found = against(told(0.9, jpeg=0.8, motion=0.6), told(0.7, jpeg=0.6, motion=0.7))
    assert found.be == pytest.approx({"jpeg": 0.2 / 0.4, "motion": 0.4 / 0.3})
    assert found.rbe == pytest.approx({"jpeg": 0.1 / 0.1}) and found.undefined == ("motion",)
    assert found.mean_be == pytest.approx((0.5 + 4 / 3) / 2) and found.mean_rbe == pytest.approx(1)
    assert against(told(0.9, jpeg=0.9), told(0.5, jpeg=0.5)).mean_rbe is None
    for other in (told(0.9, motion=0.5), told(1, jpeg=1, motion=0.5)):
        with pytest.raises(UsageError, match="HZ-I74"):
            against(told(0.9, jpeg=0.8, motion=0.6), other)
