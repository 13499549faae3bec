"""Splits: groups on one side, classes in every part, duplicates found, stored and read back. Cases of group E by number."""

from __future__ import annotations

import io
import json
import logging

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from histozoo.data.duplicates import find_duplicates, merge_duplicates
from histozoo.data.splits import PARTS, Split, check_split, make_split
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.tiles import draw_tile


def drawn(n: int, *, seed: int = 0, px: int = 48, kind: int | None = None) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.stack([draw_tile(rng, px, i if kind is None else kind) for i in range(n)])


def reencoded(tile: NDArray[np.uint8], quality: int = 75) -> NDArray[np.uint8]:
    data = io.BytesIO()
    Image.fromarray(tile).resize((100, 100), Image.Resampling.BICUBIC).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data).resize(tile.shape[1::-1], Image.Resampling.BICUBIC))


def labelled(n: int, classes: int, groups: int, seed: int = 0) -> tuple[NDArray[np.int64], list[str]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), [f"g{g}" for g in rng.integers(0, groups, n)]


@pytest.mark.parametrize("seed", range(5))
def test_e37_groups_stay_together_every_row_has_one_part_and_every_class_is_everywhere(seed: int) -> None:
    labels_N, groups = labelled(600, 5, 60, seed)
    split = make_split(labels_N, groups, seed=seed)
    parts = [getattr(split, part) for part in PARTS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(600))
    sides = [{groups[i] for i in rows} for rows in parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert all(set(labels_N[rows]) == set(range(5)) for rows in parts)


def test_single_tile_groups_are_split_by_the_fractions_in_every_class() -> None:
    labels_N = np.repeat([0, 1, 2], [100, 50, 10])
    split = make_split(labels_N, [str(i) for i in range(160)], seed=0)
    assert np.bincount(labels_N[split.train]).tolist() == [60, 30, 6]
    assert np.bincount(labels_N[split.val]).tolist() == [20, 10, 2]
    other = make_split(labels_N, [str(i) for i in range(160)], seed=0, fractions=(0.8, 0.1))
    assert np.bincount(labels_N[other.train]).tolist() == [80, 40, 8]


def test_large_groups_come_as_near_to_the_fractions_as_they_can() -> None:
    labels_N, groups = labelled(1000, 3, 30)
    split = make_split(labels_N, groups, seed=0)
    for rows, share in zip((split.train, split.val, split.test), (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(labels_N[rows]) / np.bincount(labels_N) - share).max() < 0.08


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    labels_N, groups = labelled(300, 3, 80)
    first, again, other = (make_split(labels_N, groups, seed=s) for s in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.to_json() == again.to_json()


def test_labels_may_be_a_list_or_an_array() -> None:
    labels, groups = [0, 1] * 8, [f"g{i // 2}" for i in range(16)]
    assert (
        make_split(labels, groups, seed=3).fingerprint
        == make_split(np.array(labels), groups, seed=3).fingerprint
    )


@pytest.mark.parametrize(
    ("labels", "groups", "what"),
    [
        ([0] * 9, list("abcdefghi"), "the labels hold fewer than two classes"),
        ([0] * 7 + [1] * 2, list("abcdefghi"), "a class has too few groups to be in every part"),
        ([0, 1] * 4, list("aabbaabb"), "a class has too few groups to be in every part"),
    ],
)
def test_e36_a_class_that_cannot_be_in_every_part_is_refused(
    labels: list[int], groups: list[str], what: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make_split(labels, groups, seed=0)
    assert (caught.value.code, caught.value.what) == ("HZ-E36", what)
    assert f"class 0: {labels.count(0)} tiles in" in caught.value.got


def test_e36_scarce_classes_reach_every_part() -> None:
    labels, groups = [0, 1, 0, 0, 1, 1], list("aabcde")
    for seed in range(10):
        split = make_split(labels, groups, seed=seed)
        assert all(set(np.array(labels)[getattr(split, part)]) == {0, 1} for part in PARTS)


def test_e36_a_split_that_no_deal_can_make_is_refused() -> None:
    # Class 0 needs a, b, c apart and class 1 needs a, d, e apart; class 2 joins to three groups what must be in two parts each.
    labels, groups = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2], list("abcabdcdcd")
    with pytest.raises(UsageError) as caught:
        make_split(labels, groups, seed=0)
    assert caught.value.code == "HZ-E36"


@pytest.mark.parametrize(
    "call",
    [
        lambda: make_split([0, 1], ["a"], seed=0),
        lambda: make_split([], [], seed=0),
        lambda: make_split([0, -1], ["a", "b"], seed=0),
        lambda: make_split([0, 1], ["a", "b"], seed=0, fractions=(0.9, 0.1)),
        lambda: make_split([0, 1], ["a", "b"], seed=0, tiles=np.zeros((3, 8, 8, 3), dtype=np.uint8)),
    ],
)
def test_rows_and_fractions_that_make_no_sense_are_refused(call: object) -> None:
    with pytest.raises(UsageError, match="HZ-U36"):
        call()  # type: ignore[operator]


# -- stored ----------------------------------------------------------------------------------------------------------------------------


def test_a_stored_split_comes_back_and_a_changed_one_does_not() -> None:
    labels_N, groups = labelled(60, 2, 30)
    split = make_split(labels_N, groups, seed=4)
    stored = json.loads(split.to_json())
    for value in (split.to_json(), stored):
        again = Split.from_json(value)
        assert again.fingerprint == split.fingerprint and again.train.dtype == np.int64
    for change in (
        {"train": [*stored["train"][1:], 7]},
        {"seed": 5},
        {"val": None},
        {"test": ["x"]},
        {"fingerprint": "0"},
    ):
        with pytest.raises(IntegrityError, match="HZ-U35"):
            Split.from_json({**stored, **change})
    with pytest.raises(IntegrityError, match="HZ-U35"):
        Split.from_json({k: v for k, v in stored.items() if k != "val"})
    with pytest.raises(IntegrityError, match="HZ-U35"):
        Split.from_json(split.to_json()[:-3])


def split_of(train: list[int], val: list[int], test: list[int]) -> Split:
    return Split(train=np.array(train), val=np.array(val), test=np.array(test), seed=0)


def test_e37_a_patient_in_two_parts_is_refused_by_name() -> None:
    with pytest.raises(UsageError) as caught:
        check_split(split_of([0, 1], [2], [3]), ["p1", "p2", "p3", "p1"])
    assert (caught.value.code, caught.value.where, caught.value.got) == (
        "HZ-E37",
        "group 'p1', row 3",
        "train and test",
    )


def test_e37_a_row_in_two_parts_and_a_row_that_is_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="HZ-E37 a group is in two parts"):
        check_split(split_of([0, 1], [1], [2]), ["a", "b", "c"])
    with pytest.raises(UsageError, match="HZ-E37 a row of the split is not there"):
        check_split(split_of([0], [1], [3]), ["a", "b", "c"])


# -- duplicates ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(8))
def test_e38_copies_flips_turns_and_other_encodings_are_found(turn: int) -> None:
    tiles_NHWC = drawn(12)
    copy = np.rot90(tiles_NHWC[3][:, ::-1] if turn >= 4 else tiles_NHWC[3], turn % 4)
    for other in (copy, reencoded(np.ascontiguousarray(copy))):
        found = find_duplicates(np.concatenate([tiles_NHWC, other[None]]))
        assert found.tolist() == [[3, 12]]


def test_e38_different_tiles_are_not_duplicates() -> None:
    assert find_duplicates(drawn(200, px=32, kind=1)).shape == (0, 2)


def red_cell(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A pale disc on a pale ground: what is alike in all red cells, with grain of its own."""
    y, x = np.mgrid[0:96, 0:96]
    radius = np.hypot(y - rng.normal(48, 1.5), x - rng.normal(48, 1.5))
    ring = np.exp(-(((radius - rng.normal(28, 1)) / 9) ** 2))
    tile = np.array([225, 215, 225]) - ring[..., None] * np.array([20, 70, 40])
    spots = np.asarray(
        Image.fromarray(rng.normal(0, 8, (32, 32)).astype(np.float32)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
    )
    return np.clip(tile + spots[..., None] + rng.normal(0, 2, tile.shape), 0, 255).astype(np.uint8)


def test_e38_bland_cells_that_look_alike_are_not_duplicates_but_their_copies_are() -> None:
    rng = np.random.default_rng(0)
    cells = np.stack([red_cell(rng) for _ in range(150)])
    assert find_duplicates(cells).shape == (0, 2)
    assert find_duplicates(np.concatenate([cells, reencoded(cells[7], 85)[None]])).tolist() == [[7, 150]]


def test_blank_tiles_of_one_colour_are_duplicates() -> None:
    blank = np.full((3, 16, 16, 3), 240, dtype=np.uint8)
    blank[2] = 90
    assert find_duplicates(blank).tolist() == [[0, 1]]


def test_few_tiles_have_no_pairs() -> None:
    assert find_duplicates(drawn(1)).shape == (0, 2)
    assert find_duplicates(np.empty((0, 8, 8, 3), dtype=np.uint8)).shape == (0, 2)


def test_e38_make_split_puts_duplicates_of_two_groups_on_one_side() -> None:
    tiles_NHWC = drawn(30)
    for a, b in ((0, 10), (10, 20), (5, 29)):
        tiles_NHWC[b] = np.rot90(tiles_NHWC[a], 2)
    groups = [f"g{i:02}" for i in range(30)]
    labels_N = np.repeat([0, 1], 15)
    labels_N[[10, 20, 29]] = 0
    merged = merge_duplicates(groups, tiles_NHWC)
    assert {merged[i] for i in (0, 10, 20)} == {"g00"} and merged[29] == "g05" and len(set(merged)) == 27
    for seed in range(6):
        split = make_split(labels_N, groups, seed=seed, tiles=tiles_NHWC)
        assert split.duplicates == 4  # 0-10, 10-20, 0-20 and 5-29
        assert any({0, 10, 20} <= set(getattr(split, part).tolist()) for part in PARTS)
        check_split(split, groups, tiles=tiles_NHWC)


def test_e38_duplicates_across_parts_are_refused_with_their_rows() -> None:
    tiles_NHWC = drawn(4)
    tiles_NHWC[3] = reencoded(tiles_NHWC[0])
    with pytest.raises(UsageError) as caught:
        check_split(split_of([0, 1], [2], [3]), list("abcd"), tiles=tiles_NHWC)
    assert (caught.value.code, caught.value.got) == ("HZ-E38", "1 pairs of rows: 0 (train) = 3 (test)")
    check_split(split_of([0, 1, 3], [2], []), list("abcd"), tiles=tiles_NHWC)
    check_split(split_of([0, 1], [2], []), list("abcd"), tiles=tiles_NHWC)  # row 3 is in no part


def test_e38_one_picture_with_two_labels_is_refused() -> None:
    tiles_NHWC = drawn(12)
    tiles_NHWC[11] = np.rot90(tiles_NHWC[0])
    with pytest.raises(UsageError) as caught:
        make_split([0] * 6 + [1] * 6, [str(i) for i in range(12)], seed=0, tiles=tiles_NHWC)
    assert (caught.value.code, caught.value.what) == ("HZ-E38", "the same tile carries two labels")
    assert caught.value.got == "1 pairs of rows: 0 (class 0) = 11 (class 1)"


def test_e38_near_tiles_with_two_labels_are_joined_and_said(caplog: pytest.LogCaptureFixture) -> None:
    tiles_NHWC = drawn(12, px=96)
    blurred = (
        Image.fromarray(tiles_NHWC[0])
        .resize((22, 22), Image.Resampling.BOX)
        .resize((96, 96), Image.Resampling.BICUBIC)
    )
    tiles_NHWC[11] = np.asarray(blurred)
    with caplog.at_level(logging.WARNING):
        split = make_split([0] * 6 + [1] * 6, [str(i) for i in range(12)], seed=0, tiles=tiles_NHWC)
    assert "1 pairs of nearly equal tiles carry two labels: 0 (class 0) = 11 (class 1)" in caplog.text
    assert any({0, 11} <= set(getattr(split, part).tolist()) for part in PARTS)


@pytest.mark.parametrize("block", [2, 7, 512])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    tiles_NHWC = drawn(20, px=40)
    tiles_NHWC[[13, 19]] = tiles_NHWC[[2, 0]]
    monkeypatch.setattr("histozoo.data.duplicates._BLOCK", block)
    assert find_duplicates(tiles_NHWC).tolist() == [[0, 19], [2, 13]]
