"""Copies: exact, re-encoded, turned by any angle; inside groups, across groups, splits, labels and tasks."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from histozoo import feature_files
from histozoo.audit import AuditReport, audit, between, copies
from histozoo.audit.frames import best_match
from histozoo.audit.pool import Pool
from histozoo.data import rings
from histozoo.data.duplicates import find_duplicates
from histozoo.errors import UsageError
from histozoo.feature_files import Features
from histozoo.tasks import Task
from tests.fakes import traps
from tests.fakes.tiles import draw_tile


def drawn(n: int, *, px: int = 200, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.stack([draw_tile(rng, px, i % 4) for i in range(n)])


def textured(n: int, *, px: int = 240, seed: int = 0) -> NDArray[np.uint8]:
    """Draws fields of soft stains of all colours, as rich in detail as tissue is."""
    rng = np.random.default_rng(seed)
    fields = [Image.fromarray(rng.integers(60, 240, (40, 40, 3), dtype=np.uint8)) for _ in range(n)]
    return np.stack([np.asarray(field.resize((px, px), Image.Resampling.BICUBIC)) for field in fields])


def augmented(
    tile: NDArray[np.uint8], degrees: float, *, mirror: bool = False, zoom: float = 1.0
) -> NDArray[np.uint8]:
    """Turns about the centre, mirrors, enlarges, and crops to the middle half, as augmentation tools do."""
    image = Image.fromarray(tile[:, ::-1] if mirror else tile).rotate(degrees, Image.Resampling.BICUBIC)
    side = tile.shape[0] / 2 / zoom
    low, high = tile.shape[0] / 2 - side / 2, tile.shape[0] / 2 + side / 2
    return np.asarray(
        image.resize((rings.PX, rings.PX), Image.Resampling.BICUBIC, box=(low, low, high, high))
    )


def ringed(tiles: list[NDArray[np.uint8]]) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    found = [rings.ringed(tile) for tile in tiles]
    return np.stack([f.contrast_RA for f in found]), np.stack([f.colour_raC for f in found])


TURNS = [
    (0, False, 1.0),
    (17, False, 1.0),
    (25, True, 1.3),
    (90, False, 1.0),
    (133, True, 1.15),
    (200, False, 0.8),
]


@pytest.mark.parametrize(("degrees", "mirror", "zoom"), TURNS)
def test_a_picture_turned_mirrored_or_enlarged_is_found_again(
    degrees: float, mirror: bool, zoom: float
) -> None:
    tiles = textured(12)
    first = [augmented(tile, 0) for tile in tiles]
    second = [augmented(tile, degrees, mirror=mirror, zoom=zoom) for tile in tiles]
    pairs, strength = rings.find_turned(*ringed(first + second))
    assert (np.diff(pairs, axis=1) == 12).all(), "two different pictures were called one"
    assert len(pairs) >= 9 and strength.min() >= rings.CORRELATION


def test_different_pictures_are_not_called_copies() -> None:
    pairs, _ = rings.find_turned(*ringed([augmented(tile, 0) for tile in textured(80, px=120, seed=5)]))
    assert len(pairs) == 0


def test_one_tile_alone_and_blank_tiles_have_no_copies() -> None:
    blank = [np.full((rings.PX, rings.PX, 3), value, dtype=np.uint8) for value in (0, 128, 255)]
    assert len(rings.find_turned(*ringed(blank[:1]))[0]) == 0
    assert len(rings.find_turned(*ringed(blank))[0]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_search_in_blocks_gives_the_pairs_of_find_duplicates(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    tiles = drawn(90, px=32, seed=seed)
    for copy, (source, turn) in enumerate(zip(rng.integers(0, 45, 20), rng.integers(0, 8, 20), strict=True)):
        turned = np.rot90(tiles[source][:, ::-1] if turn >= 4 else tiles[source], turn % 4).astype(int)
        tiles[60 + copy] = np.clip(turned + rng.normal(0, 3, turned.shape), 0, 255)
    monkeypatch.setattr(copies, "_ROWS", 7)
    monkeypatch.setattr(copies, "_COLUMNS", 11)
    monkeypatch.setattr(copies, "_AT_ONCE", 13)
    expected = find_duplicates(tiles)
    assert len(expected) >= 20
    assert np.array_equal(copies.near(tiles), expected)


def test_exact_copies_are_joined_to_the_first() -> None:
    assert copies.exact(["a", "b", "a", "c", "a", "b"]).tolist() == [[0, 2], [0, 4], [1, 5]]
    assert copies.exact([]).shape == (0, 2)


def test_a_piece_is_found_at_its_place_and_nowhere_in_another_picture() -> None:
    frame, other = (
        draw_tile(np.random.default_rng(seed), 240, 2).mean(axis=2).astype(np.float32) for seed in (1, 2)
    )
    assert best_match(frame[40:140, 60:160], frame[10:200, 30:230]) > 0.99
    assert best_match(frame[40:140, 60:160], other) < 0.8
    assert best_match(np.full((90, 90), 7, np.float32), frame) == 0


# -- what the audit says of them --


def copied(root: Path) -> list[Task]:
    """Two tasks: one with copies inside groups, across groups, labels and splits; one that has tiles of the first."""
    first, second = (
        traps.write(root, "first", px=96, per_class=24),
        traps.write(root, "second", px=96, per_class=24),
    )
    folder, rows = root / "first", read_csv(root / "first/labels.csv")
    at = {row["file"].removeprefix("images/").removesuffix(".png"): row for row in rows}
    for row in rows:
        row["split"] = "test" if row["group"].endswith(("-0", "-1", "-2")) else "train"
    turned(folder, "left_003", "left_015")  # one group: -3
    turned(folder, "left_004", "left_005")  # two groups, one split
    turned(folder, "right_000", "right_006")  # groups -0 and -6: two splits
    turned(folder, "left_007", "right_008", quarter=True)  # two labels
    assert at["left_003"]["group"] == at["left_015"]["group"] != at["left_004"]["group"]
    traps.write_csv(folder / "labels.csv", rows)
    for name in ("left_010", "right_010"):
        (root / "second/images" / f"{name}.png").write_bytes((folder / "images" / f"{name}.png").read_bytes())
    return [first, second]


def turned(folder: Path, source: str, target: str, *, quarter: bool = False) -> None:
    """Puts a copy of one tile in another's place: mirrored, or turned by a quarter and stored as it is."""
    image = Image.open(folder / "images" / f"{source}.png")
    image = image.transpose(Image.Transpose.ROTATE_90 if quarter else Image.Transpose.FLIP_LEFT_RIGHT)
    data = io.BytesIO()
    image.save(data, "PNG")
    (folder / "images" / f"{target}.png").write_bytes(data.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    root = tmp_path_factory.mktemp("copied")
    return audit(copied(root), data_root=root, out=root / "page")


def examples(report: AuditReport, code: str) -> list[list[str]]:
    return next(f for f in report.findings if f.code == code).evidence["examples"]


def test_copies_are_told_by_what_they_cross(report: AuditReport) -> None:
    severity = {f.code: f.severity for f in report.of("first")}
    assert severity["copies-in-two-groups"] == "warning"
    assert severity["copies-in-two-splits"] == severity["labels-contradict"] == "error"
    assert ["first/images/left_004.png", "first/images/left_005.png"] in examples(
        report, "copies-in-two-groups"
    )
    assert examples(report, "copies-in-two-splits") == [
        ["first/images/right_000.png", "first/images/right_006.png"]
    ]
    assert examples(report, "labels-contradict") == [
        ["first/images/left_007.png", "first/images/right_008.png"]
    ]
    (record,) = (t for t in report.tasks if t.name == "first")
    assert record.duplicates["pairs"] == 4 and record.duplicates["in_groups"] == 1


def test_tasks_of_two_lineages_that_share_tiles_are_an_error_and_of_one_a_note(
    tmp_path: Path, report: AuditReport
) -> None:
    [shared] = [f for f in report.findings if f.code == "tasks-share-pictures"]
    assert shared.severity == "error" and shared.task == "first" and shared.others == ("second",)
    assert shared.evidence["exact"] == shared.evidence["pairs"] == 2 and shared in report.of("second")
    kin = [traps.task(t.name, lineage="one") for t in copied(tmp_path)]
    [known] = [f for f in audit(kin, data_root=tmp_path, out=tmp_path / "p").findings if f.others]
    assert known.code == "tasks-share-pictures" and known.severity == "note"


@pytest.mark.parametrize(
    ("pairs", "sure", "severity"),
    [
        ([(0, n) for n in range(3, 10)], False, "note"),  # one bland tile that looks like many
        ([(0, 3), (1, 4), (2, 5)], False, "warning"),
        ([(0, 3)], True, "error"),
    ],
)
def test_tiles_that_merely_look_alike_are_no_proof_that_two_tasks_share_pictures(
    pairs: list[tuple[int, int]], sure: bool, severity: str
) -> None:
    none = np.array([""] * 10)
    pool = Pool(
        names=("first", "second"), task_N=np.array([0] * 3 + [1] * 7), row_N=np.arange(10), labels=none, groups=none, splits=none,
        pairs=np.array(pairs), way_P=np.ones(len(pairs), np.int64), sure_P=np.full(len(pairs), sure), compared=10,
    )  # fmt: skip
    first, second = (traps.task(name, lineage=name) for name in ("first", "second"))
    (found,) = between.find(pool, (first, second), {})
    assert found.severity == severity
    kin, kind = (traps.task(name, lineage="one") for name in ("first", "second"))
    assert [f.severity for f in between.find(pool, (kin, kind), {})] == ["note"]


def test_many_copies_inside_groups_are_called_augmentation(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "copies", px=120, per_class=24)
    for word in ("left", "right"):
        for i in range(12):
            turned(tmp_path / "copies", f"{word}_{i:03d}", f"{word}_{i + 12:03d}")
    [finding] = [f for f in audit([task], data_root=tmp_path, out=tmp_path / "p").findings if f.code == "augmented-copies"]  # fmt: skip
    assert (
        finding.severity == "warning" and finding.evidence["pairs"] == 24 and "48 of 48" in finding.sentence
    )


def framed(root: Path, name: str, px: int, shift: int, *, share: bool = True) -> Task:
    """Writes tiles cut around the same places of the same twenty drawn frames."""

    def cut(tile: traps.Drawn, label: int, rng: np.random.Generator) -> traps.Drawn:
        nonlocal number
        frame = draw_tile(np.random.default_rng([number if share else number + 100]), 256, 1)
        group, number = f"frame_{number:05d}", number + 1
        return traps.Drawn(frame[shift : shift + px, shift : shift + px], cells={"group": group})

    number = 0
    return traps.write(root, name, cut, per_class=10, groups=10)


@pytest.mark.parametrize("share", [True, False])
def test_two_crops_of_one_frame_at_other_places_and_sizes_are_found_by_name_and_pixels(
    tmp_path: Path, share: bool
) -> None:
    tasks = [framed(tmp_path, "small", 110, 60), framed(tmp_path, "large", 170, 45, share=share)]
    report = audit(tasks, data_root=tmp_path, out=tmp_path / "p")
    found = {f.code: f for f in report.findings if f.others}
    assert ("tasks-share-frames" in found) == share
    assert ("tasks-share-group-names" in found) == (not share)
    if share:
        assert (
            found["tasks-share-frames"].severity == "error"
            and found["tasks-share-frames"].evidence["names"] == 20
        )


# -- features --


def features(
    root: Path, task: str, *, d: int = 16, same: tuple[str, str] | None = None, prefix: str = ""
) -> Path:
    names = sorted(row["file"] for row in read_csv(root / task / "labels.csv"))
    f_ND = np.random.default_rng(0).normal(size=(len(names), d)).astype(np.float32)
    if same:
        f_ND[names.index(same[1])] = f_ND[names.index(same[0])] * 1.02
    path = root / f"{task}.safetensors"
    named = tuple(prefix + name for name in names)
    feature_files.write(
        path, Features(names=named, sha256=("0" * 64,) * len(names), features_ND=f_ND, made_by={})
    )
    return path


def test_features_find_pairs_that_pixels_do_not(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "embedded")
    path = features(
        tmp_path, "embedded", same=("images/left_001.png", "images/left_002.png"), prefix="embedded/"
    )
    report = audit([task], data_root=tmp_path, out=tmp_path / "p", features={"embedded": path})
    [finding] = [f for f in report.findings if f.code == "copies-in-two-groups"]
    assert finding.evidence["features"] == finding.evidence["pairs"] == 1
    assert finding.evidence["examples"] == [["embedded/images/left_001.png", "embedded/images/left_002.png"]]


def test_feature_files_of_other_tiles_or_of_two_models_are_refused(tmp_path: Path) -> None:
    tasks = [traps.write(tmp_path, name, per_class=6, groups=6) for name in ("one", "two")]
    other = tmp_path / "other.safetensors"
    feature_files.write(
        other,
        Features(names=("z.png",), sha256=("0" * 64,), features_ND=np.ones((1, 4), np.float32), made_by={}),
    )
    with pytest.raises(UsageError, match="HZ-U81"):
        audit(tasks, data_root=tmp_path, out=tmp_path / "p", features={"one": other})
    files = {"one": features(tmp_path, "one"), "two": features(tmp_path, "two", d=8)}
    with pytest.raises(UsageError, match="HZ-U82"):
        audit(tasks, data_root=tmp_path, out=tmp_path / "p", features=files)
    assert not (tmp_path / "p").exists()
