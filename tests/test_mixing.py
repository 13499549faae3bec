"""Mixed batches: the law of the draw, and that a sample depends on the seed and its index alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from histozoo.data.mixing import UNIFORMS, MixedTiles, TaskTiles
from histozoo.errors import UsageError

SIZES = {"small": 10, "middle": 100, "large": 1000}


def tasks(sizes: dict[str, int] = SIZES) -> dict[str, TaskTiles]:
    random = np.random.default_rng(0)
    return {
        name: TaskTiles(
            tiles_NHWC=random.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8),
            labels_N=random.integers(0, 2, n),
            rows=np.arange(0, n, 2),
        )
        for name, n in sizes.items()
    }


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.0, [1 / 3, 1 / 3, 1 / 3]), (1.0, [5 / 555, 50 / 555, 500 / 555])]
)
def test_tasks_are_drawn_with_probability_n_to_the_alpha(alpha: float, expected: list[float]) -> None:
    samples = 6_000
    mixed = MixedTiles(tasks(), seed=3, samples=samples, alpha=alpha)
    counts = np.bincount([mixed.draw(i)[0] for i in range(samples)], minlength=3)
    p = np.array(expected)
    sigma = np.sqrt(samples * p * (1 - p))
    assert (np.abs(counts - samples * p) <= 3 * sigma).all(), counts


def test_tiles_are_drawn_uniformly_from_the_training_rows_only() -> None:
    mixed = MixedTiles(tasks({"only": 20}), seed=1, samples=4_000)
    counts = np.bincount([mixed.draw(i)[1] for i in range(4_000)], minlength=20)
    assert counts[1::2].sum() == 0
    # chi-square with 9 degrees of freedom: 27.9 is the 99.9 % point
    assert ((counts[::2] - 400) ** 2 / 400).sum() < 27.9


def test_uniform_numbers_are_uniform_and_differ_between_samples() -> None:
    mixed = MixedTiles(tasks(), seed=1, samples=2_000)
    u_NP = np.stack([mixed.draw(i)[2] for i in range(2_000)])
    assert u_NP.shape == (2_000, UNIFORMS)
    assert u_NP.min() >= 0
    assert u_NP.max() < 1
    assert np.abs(u_NP.mean(0) - 0.5).max() < 0.03
    assert len(np.unique(u_NP[:, 0])) > 1_990


def test_another_seed_gives_another_sequence() -> None:
    first, second = (MixedTiles(tasks(), seed=s, samples=100) for s in (0, 1))
    assert [first.draw(i)[:2] for i in range(100)] != [second.draw(i)[:2] for i in range(100)]


@pytest.mark.parametrize("workers", [0, 2])
def test_f47_order_does_not_depend_on_the_number_of_workers_or_the_starting_point(workers: int) -> None:
    mixed = MixedTiles(tasks(), seed=5, samples=24)
    loader = DataLoader(Subset(mixed, range(8, 24)), batch_size=4, num_workers=workers)
    for number, batch in enumerate(loader):
        for slot in range(4):
            one = mixed[8 + number * 4 + slot]
            assert int(batch["index"][slot]) == one["index"]
            assert int(batch["label"][slot]) == one["label"]
            assert torch.equal(batch["tiles"][slot], one["tiles"])
            assert torch.equal(batch["u"][slot], one["u"])


def test_a_task_without_training_tiles_is_refused() -> None:
    empty = TaskTiles(
        tiles_NHWC=np.zeros((2, 4, 4, 3), np.uint8), labels_N=np.zeros(2, np.int64), rows=np.arange(0)
    )
    with pytest.raises(UsageError, match="HZ-E36 a task has no training tile") as caught:
        MixedTiles({**tasks(), "empty": empty}, seed=0, samples=1)
    assert caught.value.where == "empty"
