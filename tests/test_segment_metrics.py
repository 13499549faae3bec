"""Scores of masks against cases worked out by hand and against sets of pixels compared one by one."""

from __future__ import annotations

import time
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from histozoo.errors import UsageError
from histozoo.evaluate.segment.hausdorff import hausdorff
from histozoo.evaluate.segment.metrics import METRICS, Pair, numbered, panoptic, score

TRUTH = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 2, 2, 2], [0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
GUESS = np.array([[5, 5, 0, 0, 0, 0], [5, 0, 0, 7, 7, 0], [0, 0, 0, 7, 7, 0], [0, 0, 0, 0, 0, 9]])
# Objects: 1 (4 px) meets 5 (3 px) in 3; 2 (3 px) meets 7 (4 px) in 2; 3 (1 px) and 9 (1 px) meet nothing.


def drawn(seed: int, *, side: int = 24, objects: int = 6) -> np.ndarray:
    """Rectangles and single pixels, over one another, numbered with gaps; objects may be in several pieces."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side + 3), dtype=np.int32)
    for n in range(int(random.integers(0, objects + 1))):
        y, x, h, w = random.integers(0, [side, side, 9, 9])
        mask[y : y + h + 1, x : x + w + 1] = 1 + 3 * n
    return mask


def pixels(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    return [set(zip(*np.nonzero(mask == v), strict=True)) for v in np.unique(mask) if v]


def brute(truth: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """The definitions, set by set."""
    T, P = pixels(truth), pixels(guess)
    A, B = set().union(*T), set().union(*P)
    if not T or not P:
        same = float(not T and not P)
        empty = dict.fromkeys(METRICS, same)
        return {**empty, "object_hausdorff": 0.0 if same else float(np.hypot(*np.subtract(truth.shape, 1)))}
    pairs = [(a, b) for a in T for b in P if 2 * len(a & b) > len(a | b)]
    dq = 2 * len(pairs) / (len(T) + len(P))
    sq = float(np.mean([len(a & b) / len(a | b) for a, b in pairs])) if pairs else 0.0
    return {
        "dice": 2 * len(A & B) / (len(A) + len(B)),
        "iou": len(A & B) / len(A | B),
        "object_dice": (brute_object_dice(T, P) + brute_object_dice(P, T)) / 2,
        "object_hausdorff": (brute_object_hausdorff(T, P) + brute_object_hausdorff(P, T)) / 2,
        "aji": brute_aji(T, P),
        "pq": dq * sq,
        "dq": dq,
        "sq": sq,
    }


def brute_object_dice(ones: list[Any], others: list[Any]) -> float:
    total = sum(map(len, ones))
    value = 0.0
    for a in ones:
        b = max(others, key=lambda o: len(a & o))  # the first of the largest
        value += len(a) / total * 2 * len(a & b) / (len(a) + len(b))
    return value


def brute_distance(a: set[Any], b: set[Any]) -> float:
    x, y = (np.array(sorted(s), dtype=float) for s in (a, b))
    apart = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    return float(max(apart.min(1).max(), apart.min(0).max()))


def brute_object_hausdorff(ones: list[Any], others: list[Any]) -> float:
    total, value = sum(map(len, ones)), 0.0
    for a in ones:
        b = max(others, key=lambda o: len(a & o))
        far = brute_distance(a, b) if a & b else min(brute_distance(a, o) for o in others)
        value += len(a) / total * far
    return value


def brute_aji(T: list[Any], P: list[Any]) -> float:
    shared = union = 0
    used = set()
    for a in T:
        j = max(range(len(P)), key=lambda k: len(a & P[k]) / len(a | P[k]))
        if a & P[j]:
            shared, union = shared + len(a & P[j]), union + len(a | P[j])
            used.add(j)
        else:
            union += len(a)
    return shared / (union + sum(len(P[k]) for k in range(len(P)) if k not in used))


def test_the_drawn_case_gives_what_was_worked_out_by_hand() -> None:
    found = score(TRUTH, GUESS)
    assert found["dice"] == pytest.approx(2 * 5 / (8 + 8))
    assert found["iou"] == pytest.approx(5 / 11)
    # Pair 1-5 has Dice 6/7, pair 2-7 Dice 4/7; weights 4/8, 3/8 on the true side and 3/8, 4/8 on the other.
    assert found["object_dice"] == pytest.approx(
        ((4 * 6 / 7 + 3 * 4 / 7) / 8 + (3 * 6 / 7 + 4 * 4 / 7) / 8) / 2
    )
    # 5 shared of unions 4 and 5, plus object 3 and object 9 alone.
    assert found["aji"] == found["aji_plus"] == pytest.approx(5 / (4 + 5 + 1 + 1))
    # Only 1-5 has an index above 1/2 (3/4); 2-7 has 2/5.
    assert (found["dq"], found["sq"], found["pq"]) == pytest.approx((2 / 6, 3 / 4, 1 / 4))
    # 1-5: 1 px; 2-7: pixel (1, 5) is 1 px from (1, 4), row 2 is 1 px away; 3 is nearest to 5, sqrt(9 + 1) from (0, 1) to (3, 0);
    # 9 is nearest to 2: (1, 3) is sqrt(4 + 4) from (3, 5).
    assert found["object_hausdorff"] == pytest.approx(
        ((4 + 3 + np.sqrt(10)) / 8 + (3 + 4 + np.sqrt(8)) / 8) / 2
    )


@pytest.mark.parametrize("seed", range(60))
def test_every_score_equals_the_definition_set_by_set(seed: int) -> None:
    truth, guess = drawn(seed), drawn(1_000 + seed)
    if seed % 3 == 0:  # much in common
        guess = np.where(np.random.default_rng(seed).random(truth.shape) < 0.8, truth, guess)
    found = score(truth, guess)
    for name, value in brute(truth, guess).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(12))
def test_aji_plus_takes_the_pairs_of_the_largest_sum(seed: int) -> None:
    truth, guess = drawn(seed, objects=4), drawn(500 + seed, objects=4)
    T, P = pixels(truth), pixels(guess)
    if not T or not P:
        return
    few, many = (T, P) if len(T) <= len(P) else (P, T)
    index = [[len(a & b) / len(a | b) for b in many] for a in few]
    chosen = max(
        permutations(range(len(many)), len(few)), key=lambda c: sum(index[i][j] for i, j in enumerate(c))
    )
    pairs = [(i, j) for i, j in enumerate(chosen) if index[i][j] > 0]
    shared = sum(len(few[i] & many[j]) for i, j in pairs)
    union = sum(len(few[i] | many[j]) for i, j in pairs)
    union += sum(len(few[i]) for i in range(len(few)) if i not in [p[0] for p in pairs])
    union += sum(len(many[j]) for j in range(len(many)) if j not in [p[1] for p in pairs])
    assert score(truth, guess)["aji_plus"] == pytest.approx(shared / union)
    assert score(guess, truth)["aji_plus"] == pytest.approx(shared / union)


def test_a_prediction_that_two_objects_take_counts_twice_in_aji_and_once_in_aji_plus() -> None:
    truth = np.array([[1, 1, 1, 2, 2]])
    guess = np.array([[4, 4, 4, 4, 4]])
    assert score(truth, guess)["aji"] == pytest.approx(5 / (5 + 5))
    assert score(truth, guess)["aji_plus"] == pytest.approx(3 / (5 + 2))


def test_perfect_masks_score_one_whatever_their_numbers() -> None:
    truth = drawn(7)
    other = truth.astype(np.uint16) * 11  # other numbers, gaps, another type
    found = score(truth, other)
    assert found.pop("object_hausdorff") == 0.0
    assert set(found.values()) == {1.0}


def test_exactly_half_is_no_match() -> None:
    truth, guess = np.array([[1, 1, 1, 0]]), np.array([[0, 1, 1, 1]])
    assert panoptic(Pair.of(truth, guess)) == (0.0, 0.0, 0.0)  # 2 of 4
    assert panoptic(Pair.of(truth, np.array([[1, 1, 0, 0]])))[1] == 1.0  # 2 of 3


def test_empty_masks_are_defined() -> None:
    none, some = np.zeros((4, 5), dtype=np.int64), np.eye(4, 5, dtype=np.int64)
    right = score(none, none)
    assert right.pop("object_hausdorff") == 0.0 and set(right.values()) == {1.0}
    for truth, guess in ((none, some), (some, none)):
        wrong = score(truth, guess)
        assert wrong.pop("object_hausdorff") == pytest.approx(5.0)  # 3 rows, 4 columns
        assert set(wrong.values()) == {0.0}


def test_scores_but_aji_are_symmetric() -> None:
    one, other = score(drawn(3), drawn(4)), score(drawn(4), drawn(3))
    assert {k: v for k, v in one.items() if k != "aji"} == pytest.approx(
        {k: v for k, v in other.items() if k != "aji"}
    )


def test_large_numbers_are_sorted_rather_than_tabled() -> None:
    mask = np.array([[0, 10**9, 5], [10**12, 5, 0]])
    assert numbered(mask)[0].tolist() == [[0, 2, 1], [3, 1, 0]]
    assert numbered(mask)[1] == 3
    assert numbered(np.array([[10**9, 5]]))[0].tolist() == [[2, 1]]


def test_hausdorff_counts_the_farthest_pixel_and_not_the_outline() -> None:
    ring = np.ones((9, 9), dtype=bool)
    ring[1:-1, 1:-1] = False
    full = np.ones((9, 9), dtype=bool)
    assert hausdorff(full, ring) == 4.0  # the middle is 4 px from the ring, though both outlines are one


@pytest.mark.parametrize(
    ("truth", "guess"),
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int)),
        (np.zeros((3, 4), int), np.zeros((3, 4))),
        (np.zeros((3, 4), int), np.full((3, 4), -1)),
        (np.zeros((3, 4, 1), int), np.zeros((3, 4, 1), int)),
        (np.zeros((0, 4), int), np.zeros((0, 4), int)),
    ],
)
def test_masks_that_cannot_be_compared_are_refused(truth: np.ndarray, guess: np.ndarray) -> None:
    with pytest.raises(UsageError, match="HZ-I69"):
        score(truth, guess)


def test_shuffled_pixels_score_what_chance_gives() -> None:
    """Dice of a random guess of share q on truth of share p is 2pq / (p + q)."""
    random = np.random.default_rng(0)
    truth = np.arange(400 * 400).reshape(400, 400) % 5 == 0
    values = [
        score(truth, random.permutation(truth.ravel()).reshape(400, 400), metrics=["dice"])["dice"]
        for _ in range(5)
    ]
    assert np.mean(values) == pytest.approx(0.2, abs=0.005)


def test_a_picture_of_hundreds_of_objects_takes_a_fraction_of_a_second() -> None:
    y, x = np.mgrid[:512, :512]
    truth = (y // 16 * 32 + x // 16 + 1) * ((y % 16 < 12) & (x % 16 < 12))
    began = time.perf_counter()
    score(truth, np.roll(truth, (3, 5), (0, 1)), metrics=[m for m in METRICS if m != "object_hausdorff"])
    assert time.perf_counter() - began < 2.0  # 0.1 s alone; loops over pixels take minutes
