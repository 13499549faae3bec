"""Pictures with masks, splits by group, nested training sets, windows and objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import UsageError
from histozoo.evaluate.segment import inference
from histozoo.evaluate.segment.metrics import score
from histozoo.evaluate.segment.pictures import MaskedSet, Pictures, connected, read, shrunk
from histozoo.evaluate.segment.subsets import nested, split
from tests.fakes import masks

# -- pictures


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = masks.drawn(groups=3)
    masks.write(tmp_path / "set", made)
    found = read(
        "set",
        data_root=tmp_path,
        declared=MaskedSet(folder="set", lineage="made", objects="disc"),
    )
    for got, wanted in zip((*found.images, *found.masks), (*made.images, *made.masks), strict=True):
        assert np.array_equal(got, wanted)
    assert found.groups_N.tolist() == made.groups_N.tolist() and found.lineage == "made"
    assert found.digests == made.digests


def test_one_value_of_a_mask_becomes_its_connected_areas(tmp_path: Path) -> None:
    image, mask = masks.drawing(3)
    two = np.where(mask > 0, 2, 1)
    made = Pictures(
        name="two", lineage="", files=("a",), images=(image,), masks=(two,), groups_N=np.array(["g"])
    )
    masks.write(tmp_path / "two", made)
    declared = MaskedSet(folder="two", lineage="", objects="disc", value=2)
    found = read("two", data_root=tmp_path, declared=declared)
    assert score(mask, found.masks[0])["pq"] == 1.0


def test_a_mask_of_another_size_than_its_picture_is_refused_by_name(tmp_path: Path) -> None:
    masks.write(tmp_path / "set", masks.drawn(groups=3))
    Image.fromarray(np.zeros((48, 55), np.uint16)).save(tmp_path / "set/masks/4.png")
    with pytest.raises(UsageError, match=r"HZ-I69 .*(?s:.*)4\.png(?s:.*)56 x 48(?s:.*)55 x 48"):
        read("set", data_root=tmp_path, declared=MaskedSet(folder="set", lineage="", objects=""))


def test_a_table_without_masks_and_an_unknown_set_are_refused(tmp_path: Path) -> None:
    masks.write(tmp_path / "set", masks.drawn(groups=3))
    table = tmp_path / "set/labels.csv"
    table.write_text(table.read_text().replace("masks/3.png", ""))
    declared = MaskedSet(folder="set", lineage="", objects="")
    with pytest.raises(UsageError, match="HZ-U32"):
        read("set", data_root=tmp_path, declared=declared)
    with pytest.raises(UsageError, match="HZ-U30"):
        read("no_such_set", data_root=tmp_path)
    with pytest.raises(UsageError, match="HZ-U37"):
        read("glas", data_root=tmp_path)


def test_rows_that_do_not_belong_together_are_refused() -> None:
    made = masks.drawn(groups=3)
    with pytest.raises(UsageError, match="HZ-I64"):
        dataclasses.replace(made, masks=made.masks[1:])
    with pytest.raises(UsageError, match="HZ-I69"):
        dataclasses.replace(made, masks=(made.masks[0][1:], *made.masks[1:]))


def test_shrinking_takes_means_of_pixels_and_the_middle_of_masks() -> None:
    image = np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3)
    mask = np.arange(63).reshape(7, 9)
    small, few = shrunk(image, mask, 2)
    assert small.shape == (3, 4, 3) and few.shape == (3, 4)
    assert small[1, 2].tolist() == np.rint(image[2:4, 4:6].reshape(4, 3).mean(0)).tolist()
    assert few[1, 2] == mask[3, 5]
    assert np.array_equal(shrunk(image, mask, 1)[0], image)


def test_the_fingerprint_follows_pixels_masks_and_groups() -> None:
    made = masks.drawn(groups=3)
    other_mask = made.masks[0].copy()
    other_mask[0, 0] = 9
    changed = [
        dataclasses.replace(made, masks=(other_mask, *made.masks[1:])),
        dataclasses.replace(made, groups_N=made.groups_N[::-1]),
        made.take([1, 0, *range(2, 6)]),
        masks.drawn(groups=3, first=1),
    ]
    assert len({p.fingerprint for p in (made, *changed)}) == 5
    assert masks.drawn(groups=3).fingerprint == made.fingerprint


# -- splits and nested sets


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_divided_and_both_parts_are_there(seed: int) -> None:
    made = masks.drawn(groups=7, each=3)
    train, test = split(made, test=0.4, seed=seed)
    assert not set(made.groups_N[train]) & set(made.groups_N[test])
    assert sorted([*train, *test]) == list(range(len(made)))
    assert len(set(made.groups_N[test])) == 3
    assert np.array_equal(split(made, test=0.4, seed=seed)[1], test)


def test_too_few_groups_for_a_split_are_refused() -> None:
    with pytest.raises(UsageError, match="HZ-I63"):
        split(masks.drawn(groups=2), test=0.5, seed=0)
    with pytest.raises(UsageError, match="HZ-U36"):
        split(masks.drawn(groups=4), test=1.0, seed=0)


@pytest.mark.parametrize("per_group", [None, 1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_each_training_set_contains_the_smaller_ones_and_can_be_learnt_from(
    seed: int, per_group: int | None
) -> None:
    made = masks.drawn(groups=6, each=3)
    empty = tuple(
        np.zeros_like(m) if g in ("patient0", "patient3", "patient4") or i % 3 else m
        for i, (m, g) in enumerate(zip(made.masks, made.groups_N, strict=True))
    )
    made = dataclasses.replace(made, masks=empty)
    rows = np.arange(len(made))
    found = nested(made, rows, sizes=(1, 2, 4, 6), seed=seed, per_group=per_group)
    before: set[int] = set()
    for size, chosen in found.items():
        assert before <= set(chosen.tolist())
        assert len(set(made.groups_N[chosen])) == size and len(chosen) == size * (per_group or 3)
        assert any(made.masks[r].any() for r in chosen)
        before = set(chosen.tolist())


def test_nested_sets_depend_on_the_seed_and_not_on_which_sizes_are_asked_for() -> None:
    made, rows = masks.drawn(groups=8), np.arange(16)
    first = nested(made, rows, sizes=(1, 3, 5), seed=1, per_group=1)
    again = nested(made, rows, sizes=(3,), seed=1, per_group=1)
    assert first[3].tolist() == again[3].tolist()
    assert len({tuple(nested(made, rows, sizes=(3,), seed=s)[3]) for s in range(9)}) > 3


@pytest.mark.parametrize("sizes", [(), (0, 1), (2, 2), (3, 1), (7,)])
def test_sizes_that_the_groups_do_not_give_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="HZ-I63"):
        nested(masks.drawn(groups=6), np.arange(12), sizes=sizes, seed=0)


def test_a_set_without_an_object_is_refused() -> None:
    made = masks.drawn(groups=3)
    with pytest.raises(UsageError, match="HZ-I69"):
        nested(
            dataclasses.replace(made, masks=tuple(np.zeros_like(m) for m in made.masks)),
            np.arange(6),
            sizes=(1,),
            seed=0,
        )


# -- windows


@pytest.mark.parametrize("size", [(40, 53), (32, 32), (20, 70), (7, 9)])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_windows_give_back_what_each_pixel_says(size: tuple[int, int], stride: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = inference.whole(
        image, lambda windows: windows[..., 0].astype(np.float32) / 255, px=32, stride=stride, batch=3
    )
    assert found.shape == size
    np.testing.assert_allclose(found, image[..., 0] / 255, atol=1e-6)


def test_a_window_counts_more_in_its_middle_and_shows_no_edge() -> None:
    calls = iter(range(100))
    image = np.zeros((32, 96, 3), dtype=np.uint8)
    found = inference.whole(
        image,
        lambda windows: np.array([np.full((32, 32), next(calls)) for _ in windows], np.float32),
        px=32,
        stride=16,
    )
    steps = np.abs(np.diff(found[16]))
    assert found[16, 0] == 0.0 and found[16, -1] == 4.0 and steps.max() < 0.2  # 1 at an edge that shows
    with pytest.raises(UsageError, match="HZ-U43"):
        inference.whole(image, lambda w: w[..., 0].astype(np.float32), px=32, stride=33)


# -- objects


def discs(*centres: tuple[int, int], radius: int = 8, side: int = 48) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres], axis=0)


def test_touching_discs_are_one_area_and_two_objects() -> None:
    both = discs((20, 14), (24, 28))
    assert inference.objects(both).max() == 1
    divided = inference.objects(both, how="watershed")
    truth = np.where(both, np.where(discs((20, 14)) & (np.mgrid[:48, :48][1] < 21), 1, 2), 0)
    assert divided.max() == 2 and score(truth, divided)["aji"] > 0.9
    assert np.array_equal(divided > 0, both)


@pytest.mark.parametrize("seed", range(10))
def test_watershed_keeps_the_foreground_and_divides_no_disc_that_is_alone(seed: int) -> None:
    _, mask = masks.drawing(seed)
    found = inference.objects(mask > 0, how="watershed")
    assert score(mask, found)["pq"] == 1.0
    ragged = np.random.default_rng(seed).random((40, 40)) < 0.5
    divided, areas = inference.objects(ragged, how="watershed", reach_px=2), connected(ragged)
    assert np.array_equal(divided > 0, ragged)
    assert len({(a, d) for a, d in zip(areas[ragged], divided[ragged], strict=True)}) == divided.max()
    assert set(areas[ragged].tolist()) == set(range(1, areas.max() + 1))


def test_small_areas_are_left_out_and_nothing_gives_nothing() -> None:
    mask = discs((20, 20))
    mask[0, :3] = True
    assert inference.objects(mask, least_px=4).max() == 1
    assert inference.objects(mask, least_px=3).max() == 2
    for how in ("components", "watershed"):
        assert not inference.objects(np.zeros((9, 9), bool), how=how).any()  # type: ignore[arg-type]
        assert inference.objects(np.ones((9, 9), bool), how=how).max() == 1  # type: ignore[arg-type]
