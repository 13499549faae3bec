"""The health of a self-supervised run: what its numbers are on paper, that measuring changes nothing, and when a run is stopped."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

from histozoo import health
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import knn
from histozoo.health import COLLAPSED_RANK, COLLAPSED_STD, Health, Labelled, feature_std, rank_me
from tests.fakes.ssl import Trunk, make, tiny_vit

FLAT = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
Floats = NDArray[np.float64]


def gaussian(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns))


# -- feature_std -----------------------------------------------------------------------------------------------------------------------


def test_the_standard_deviation_is_0_for_constant_features_and_1_for_a_gaussian() -> None:
    constant = np.tile(gaussian(1, 40), (30, 1)) * np.arange(1, 31)[:, None]  # equal up to their length
    assert feature_std(constant) < 1e-7
    assert feature_std(gaussian(4000, 64)) == pytest.approx(1, abs=0.01)
    assert feature_std(np.zeros((5, 3))) == 0


@pytest.mark.parametrize("d", [2, 5, 32])
def test_the_standard_deviation_in_closed_form(d: int) -> None:
    # Each axis once: a feature is 1 in one of D rows, so its variance is 1/D - 1/D^2.
    assert feature_std(np.eye(d)) == pytest.approx(math.sqrt((d - 1) / d))
    # A vector and its opposite: every feature's deviation is its size, here 1 / sqrt(D).
    assert feature_std(np.stack([np.ones(d), -np.ones(d)])) == pytest.approx(1)


def test_the_standard_deviation_knows_no_length_order_or_sign() -> None:
    f = gaussian(50, 8)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (50, 1))
    changed = (f * lengths)[::-1, ::-1] * np.array([1, -1] * 4)
    assert feature_std(changed) == pytest.approx(feature_std(f))


@pytest.mark.parametrize("error", [2.0**-9, 2.0**-6])
def test_features_that_differ_by_a_relative_error_only_have_at_most_that_deviation(error: float) -> None:
    signs = np.sign(gaussian(400, 128, seed=2))
    found = feature_std(gaussian(1, 128, seed=3) * (1 + error * signs))
    assert 0.5 * error < found <= error


def test_spread_alike_the_deviation_tells_the_mean_cosine() -> None:
    f = np.ones((600, 64)) + 0.125 * gaussian(600, 64, seed=4)
    x = f / np.linalg.norm(f, axis=1, keepdims=True)
    assert 1 - feature_std(f) ** 2 == pytest.approx(float((x @ x.T).mean()), abs=2e-4)


# -- rank_me ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 7])
def test_the_rank_counts_directions_of_equal_strength(k: int) -> None:
    rotation, _ = np.linalg.qr(gaussian(16, 16))
    f = np.repeat(np.eye(16)[:k], 5, axis=0) @ rotation
    assert rank_me(f) == pytest.approx(k, rel=1e-4)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (3, 3)])
def test_the_rank_is_the_papers_formula(shape: tuple[int, int]) -> None:
    f = gaussian(*shape, seed=5) * np.linspace(0.01, 3, shape[1])
    s = np.linalg.svd(f, compute_uv=False)
    p = s / s.sum() + 1e-7
    assert rank_me(f) == pytest.approx(math.exp(-sum(p * np.log(p))), rel=1e-6)


def test_the_rank_knows_no_factor_rotation_or_order() -> None:
    f = gaussian(30, 6, seed=6)
    rotation, _ = np.linalg.qr(gaussian(6, 6, seed=7))
    assert rank_me(7 * f[::-1] @ rotation) == pytest.approx(rank_me(f), rel=1e-6)


def test_the_bound_of_the_rank_is_that_of_a_second_direction_as_short_as_the_bound_of_the_deviation() -> None:
    assert pytest.approx(rank_me(np.diag([1.0, COLLAPSED_STD])), rel=1e-4) == COLLAPSED_RANK
    assert 1.08 < COLLAPSED_RANK < 1.09


def test_features_on_one_line_are_seen_by_the_rank_although_the_deviation_is_large() -> None:
    line = gaussian(100, 1) * np.ones((1, 32))
    record = {"feature_std": feature_std(line), "rank_me": rank_me(line)}
    assert record["feature_std"] > 0.9
    assert health.collapsed(record).startswith("rank_me 1 < 1.08")


def test_untrained_trunks_have_not_collapsed() -> None:
    tiles = tiles_of_textures()["textures"]
    for name in ("test_resnet", "resnet10t", "test_vit"):
        torch.manual_seed(0)
        options = {"img_size": 32} if "vit" in name else {}
        recipe = make("simclr", trunk=timm.create_model(name, num_classes=0, **options)).eval()
        found = Health({"textures": tiles}, **FLAT)(recipe)
        assert not health.collapsed(found), (name, found)


# -- measuring -------------------------------------------------------------------------------------------------------------------------


def tiles_of_textures(n: int = 60, classes: int = 3) -> dict[str, Labelled]:
    """Stripes of as many widths as classes, noise over them; labels in no order."""
    draw = np.random.default_rng(8)
    labels = draw.permutation(np.arange(n) % classes)
    wave = np.sin(np.arange(32) * np.pi / 2 ** np.arange(1, classes + 1)[:, None])
    tiles = 128 + 90 * wave[labels][:, :, None, None] + draw.normal(0, 8, (n, 32, 32, 3))
    rows = draw.permutation(n)
    pixels = np.clip(tiles, 0, 255).astype(np.uint8)
    return {"textures": Labelled(pixels, labels.astype(np.int64), rows[: n // 2], rows[n // 2 :])}


def normed(name: str) -> Any:
    """A recipe around a trunk with batch norm or a vision transformer."""
    torch.manual_seed(1)
    trunk = tiny_vit() if name == "mae" else timm.create_model("test_resnet", num_classes=0)
    return make(name, trunk=trunk).eval()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["simclr", "byol", "mae"])
def test_measuring_tells_classes_apart_and_changes_no_bit(name: str, precision: str) -> None:
    recipe = normed(name)
    before = copy.deepcopy(recipe.state_dict())
    modes = [m.training for m in recipe.modules()]
    random_states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    measure = Health(tiles_of_textures(), **FLAT, precision=precision, batch=7)
    found = measure(recipe)
    assert list(found) == ["knn_textures", "knn_balanced_accuracy", "feature_std", "rank_me"]
    assert found["knn_textures"] == found["knn_balanced_accuracy"] == 1.0
    assert found["feature_std"] > COLLAPSED_STD and found["rank_me"] > COLLAPSED_RANK
    assert measure(recipe) == found
    after = recipe.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before) and before.keys() == after.keys()
    assert [m.training for m in recipe.modules()] == modes and not any(modes)
    assert all(p.grad is None for p in recipe.parameters())
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert (
        np.array_equal(np.random.get_state()[1], random_states[1]) and random.getstate() == random_states[2]
    )


def test_the_numbers_are_those_of_the_protocols() -> None:
    """The same features, by the kNN protocol of `histozoo evaluate` with one k, and the two numbers over all tiles."""
    tiles = tiles_of_textures(n=90)["textures"]
    labels = np.where(
        np.arange(90) % 4 == 0, (tiles.labels_N + 1) % 3, tiles.labels_N
    )  # so that it is no 1.0
    recipe = normed("simclr")
    found = Health({"a": tiles._replace(labels_N=labels)}, **FLAT)(recipe)
    order = np.concatenate([np.sort(tiles.train), np.sort(tiles.val)])
    x = torch.from_numpy(tiles.tiles_NHWC[order]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        f = recipe.backbone(x).numpy()
    k = min(20, int(np.bincount(labels[tiles.train]).min()))
    n = len(tiles.train)
    split = Split(np.arange(n), np.arange(0), np.arange(n, 90))  # one k: nothing is chosen
    guesses = knn.knn(f, labels[order], [str(i) for i in range(90)], seed=0, split=split, ks=(k,)).guesses_N
    recalls = [np.mean(guesses[labels[order][n:] == c] == c) for c in range(3)]
    assert found["knn_a"] == pytest.approx(float(np.mean(recalls)))
    assert 0.3 < found["knn_a"] < 1
    assert found["feature_std"] == pytest.approx(feature_std(f), rel=1e-4)
    assert found["rank_me"] == pytest.approx(rank_me(f), rel=1e-4)


class Split:
    def __init__(self, train: Any, val: Any, test: Any) -> None:
        self.train, self.val, self.test = train, val, test


def test_of_many_tiles_a_few_are_chosen_of_every_class_and_always_the_same(tmp_path: Path) -> None:
    labels = np.array([0] * 500 + [1] * 90 + [2] * 10)
    file = np.memmap(tmp_path / "tiles", dtype=np.uint8, mode="w+", shape=(600, 8, 8, 3))
    rows = np.random.default_rng(9).permutation(600)
    train, val = rows[rows % 2 == 0], rows[rows % 2 == 1]
    chosen = Health({"a": (file, labels, train, val)}, **FLAT, most=60).tasks["a"]
    again = Health({"a": (file, labels, np.sort(train), val[::-1])}, **FLAT, most=60).tasks["a"]
    for part, whole in ((chosen.train, train), (chosen.val, val)):
        assert np.bincount(labels[part]).tolist() == [20, 20, 5]
        assert set(part) <= set(whole) and len(set(part)) == 45
        large = part[labels[part] == 0]
        assert large.min() < 10 and large.max() > 490  # spread over the task's order, so over its patients
    assert np.array_equal(chosen.train, again.train) and np.array_equal(chosen.val, again.val)
    assert chosen.tiles_NHWC is file
    assert Health({"a": (file, labels, train, val)}, **FLAT, most=1).tasks["a"].train.size == 3


def test_the_rarest_class_bounds_the_number_of_neighbours() -> None:
    """With 20 neighbours a class of 3 tiles would be outvoted although its features are apart."""
    labels = np.array([0] * 30 + [1] * 3 + [0] * 5 + [1] * 2)
    f = np.where(labels[:, None] == 1, [[0.0, 1.0]], [[1.0, 0.0]]) + 0.01 * gaussian(40, 2)
    t = Labelled(np.zeros((40, 1, 1, 3), np.uint8), labels, np.arange(33), np.arange(33, 40))
    assert health.score(f.astype(np.float32), t) == 1.0


def test_a_class_on_one_side_only_is_refused_and_so_is_no_task() -> None:
    labels = np.array([0, 1, 2, 0, 1, 1])
    tiles = np.zeros((6, 8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="HZ-I62 a class has no validation tile") as caught:
        Health({"a": (tiles, labels, np.arange(3), np.arange(3, 6))}, **FLAT)
    assert caught.value.where == "task a" and caught.value.got == "none of class 2"
    with pytest.raises(UsageError, match="HZ-I62 a class has no training tile"):
        Health({"a": (tiles, labels, np.array([0, 2]), np.arange(1, 6))}, **FLAT)
    with pytest.raises(UsageError, match="HZ-U44 no tile"):
        Health({}, **FLAT)


def test_features_that_are_not_finite_are_told_as_such() -> None:
    recipe = make("simclr", trunk=Trunk()).eval()
    with torch.no_grad():
        recipe.backbone.out.bias[0] = float("nan")  # type: ignore[index,union-attr]
    found = Health(tiles_of_textures(), **FLAT)(recipe)
    assert found == {"features_not_finite": 1.0}
    assert health.collapsed(found) == "features of 1 tasks are not finite"


# -- judging ---------------------------------------------------------------------------------------------------------------------------

GOOD = {"feature_std": 0.5, "rank_me": 12.0}
THIN = {"feature_std": 0.5, "rank_me": 1.01}
FLAT_OUT = {"feature_std": 0.001, "rank_me": 1.4}
POISON = {"features_not_finite": 2.0}


def log(*records: dict[str, float]) -> list[dict[str, float]]:
    """Evaluations every 10 steps, with the Trainer's own records between them."""
    return [{**r, "step": 10 * (i + 1)} for i, record in enumerate(records) for r in ({"loss": 1.0}, record)]


@pytest.mark.parametrize(
    ("records", "warm_up"),
    [
        ([], 0),
        ([GOOD, GOOD], 0),
        ([FLAT_OUT], 0),
        ([GOOD, FLAT_OUT], 0),
        ([FLAT_OUT, GOOD, FLAT_OUT], 0),
        ([FLAT_OUT, FLAT_OUT, GOOD], 0),
        ([FLAT_OUT, FLAT_OUT], 20),
        ([FLAT_OUT, FLAT_OUT], 10),
        ([{"val_balanced_accuracy": 0.5}], 0),
    ],
)
def test_a_run_goes_on_unless_two_evaluations_in_a_row_after_the_warm_up_are_bad(
    records: list[dict[str, float]], warm_up: int
) -> None:
    health.refuse_collapse(log(*records), warm_up=warm_up, kept=None)


@pytest.mark.parametrize(
    ("records", "warm_up", "got"),
    [
        ([GOOD, FLAT_OUT, FLAT_OUT], 0, "feature_std 0.001 < 0.0156"),
        ([GOOD, FLAT_OUT, THIN], 0, "rank_me 1.01 < 1.08"),
        ([FLAT_OUT, FLAT_OUT, FLAT_OUT], 10, "feature_std 0.001 < 0.0156"),
        ([GOOD, POISON], 100, "features of 2 tasks are not finite"),
        ([POISON], 0, "features of 2 tasks are not finite"),
    ],
)
def test_a_collapsed_run_is_stopped(records: list[dict[str, float]], warm_up: int, got: str) -> None:
    with pytest.raises(IntegrityError, match="HZ-F49 the features have collapsed") as caught:
        health.refuse_collapse(log(*records), warm_up=warm_up, kept=None)
    assert caught.value.got == got


def test_the_message_says_since_when_what_is_kept_and_what_to_do() -> None:
    history = log(GOOD, GOOD, FLAT_OUT, FLAT_OUT)
    with pytest.raises(IntegrityError) as caught:
        health.refuse_collapse(history, warm_up=0, kept=Path("runs/a/checkpoint-15"))
    error = caught.value
    assert (
        error.where == "step 40; since the evaluation at step 30, the last healthy evaluation was at step 20"
    )
    assert error.expected == "feature_std >= 0.0156 and rank_me >= 1.08"
    assert error.kept == "checkpoint-15 is the last good checkpoint"
    for advice in ("learning rate", "larger batches", "stain augmentation", "warm-up", "momentum"):
        assert advice in error.next_step
    assert "--resume-step 15 --accept-change" in error.next_step
    with pytest.raises(IntegrityError) as caught:
        health.refuse_collapse(log(FLAT_OUT, FLAT_OUT), warm_up=0, kept=None)
    assert caught.value.where == "step 20; since the evaluation at step 10, no evaluation before was healthy"
    assert caught.value.kept.startswith("nothing") and "--resume-step" not in caught.value.next_step
