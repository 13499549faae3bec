"""Group D: what becomes of tiles that readers get wrong, by number, and the same on every path that reads a tile.

Other tests of the group: folders and files that cannot be opened in test_reliability_folders.py, single decodings in test_tiles.py,
rejected rows and their neighbours in test_embed.py.
"""

from __future__ import annotations

import ast
import functools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from histozoo.data import decoding
from histozoo.data.decoding import decode, decode_told
from histozoo.errors import UsageError
from tests.fakes import badtiles, tile_paths
from tests.fakes.badtiles import PX, Specimen, drawn, saved
from tests.fakes.tile_paths import PATHS, Verdicts, embedded
from tests.fakes.tiny import NAME, tiny_zoo

ROUNDING = 1e-5
"""Largest accepted difference between a tile's features in two places of a batch."""


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))
    yield


every_path = pytest.mark.parametrize("path", PATHS)


@functools.cache
def verdicts(path: str) -> Verdicts:
    """What a path makes of every specimen; each path is run once."""
    with tempfile.TemporaryDirectory() as work:
        return PATHS[path](Path(work))


@functools.cache
def wanted(path: str) -> Verdicts:
    """What it must make of the accepted ones, from the pixels that decoding their bytes gives."""
    pixels = {s.name: np.asarray(decode(s.data)) for s in badtiles.specimens() if not s.code}
    with tempfile.TemporaryDirectory() as work:
        return tile_paths.expected(path, pixels, Path(work))


def check(case: int, path: str) -> list[Specimen]:
    """Compares the verdicts of one path on one case with what must come out; returns the case's specimens."""
    found, specimens = verdicts(path), [s for s in badtiles.specimens() if s.case == case]
    assert specimens and set(found) == {s.name for s in badtiles.specimens()}
    for s in specimens:
        verdict = found[s.name]
        if s.code:
            assert isinstance(verdict, str) and verdict == s.code, f"{s.name}: {verdict}"
        else:
            assert not isinstance(verdict, str), f"{s.name}: {verdict}"
            assert np.abs(verdict - np.asarray(wanted(path)[s.name], float)).max() <= ROUNDING, s.name
    return specimens


# -- the same verdict on every path --


def test_the_specimens_are_the_same_on_every_run_and_as_many_as_planned() -> None:
    names = [s.name for s in badtiles.specimens()]
    badtiles.specimens.cache_clear()
    again = badtiles.specimens()
    assert [s.name for s in again] == names and len(names) >= 43
    assert {s.case for s in again} == set(range(24, 33))


@pytest.mark.parametrize(
    "s", [s for s in badtiles.specimens() if not s.code], ids=lambda s: f"d{s.case}-{s.name}"
)
def test_what_is_read_has_its_true_pixels(s: Specimen) -> None:
    found = np.asarray(decode(s.data), dtype=float)
    assert found.shape == s.truth_HWC.shape
    assert np.abs(found - s.truth_HWC).mean() <= s.tolerance


@every_path
def test_d24_what_is_no_whole_image_is_refused(path: str) -> None:
    assert len(check(24, path)) >= 10


@every_path
def test_d25_a_changed_byte_that_nothing_tells_is_read_alike(path: str) -> None:
    check(25, path)


@every_path
def test_d26_a_png_with_a_wrong_checksum_is_refused_and_the_rest_is_read(path: str) -> None:
    check(26, path)


@every_path
def test_d27_bombs_and_slivers_are_refused_and_odd_sizes_are_read(path: str) -> None:
    check(27, path)


@every_path
def test_d28_pixels_of_more_than_8_bits_or_3_channels_are_refused(path: str) -> None:
    check(28, path)


@every_path
def test_d29_alpha_is_dropped_composited_on_white_or_refused(path: str) -> None:
    check(29, path)


@every_path
def test_d30_each_mode_has_its_fixed_treatment(path: str) -> None:
    check(30, path)


@every_path
def test_d31_every_rotated_tile_is_refused(path: str) -> None:
    assert len(check(31, path)) == 10


@every_path
def test_d32_names_in_any_letters_are_read(path: str) -> None:
    check(32, path)


# -- 25: without a manifest, and with one --


def test_d25_a_changed_jpeg_or_webp_is_not_seen_without_a_hash_which_is_said() -> None:
    changed = [s for s in badtiles.specimens() if s.case == 25]
    assert {Path(s.name).suffix for s in changed} == {".jpg", ".webp"}
    for s in changed:
        assert (np.asarray(decode(s.data)) != s.truth_HWC).any(), s.name
    said = decoding.__doc__ or ""
    assert "JPEG and WebP hold no checksum" in said and "HZ-D25" in said


# -- 27: sizes --


def test_d27_a_bomb_is_refused_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for s in badtiles.specimens():
        if s.name.startswith("bomb"):
            with pytest.raises(UsageError, match="HZ-D27") as caught:
                decode(s.data)
            assert "limit" in caught.value.got or caught.value.expected.count("px") == 2


def tile_of(side: int) -> NDArray[np.uint8]:
    return drawn(side, side)


def embed_sizes(folder: Path, sides: list[int], **options: object) -> tuple[Verdicts, dict[str, object]]:
    folder.mkdir()
    for side in sides:
        Image.fromarray(tile_of(side)).save(folder / f"{side:03}.png")
    out = folder.parent / f"{folder.name}.safetensors"
    found = embedded(folder, out, **options)
    return found, json.loads(Path(f"{out}.report.json").read_text())


def test_d27_a_tile_under_a_quarter_of_the_models_is_refused_with_both_sizes(tmp_path: Path) -> None:
    found, report = embed_sizes(tmp_path / "tiles", [PX // 4 - 1, PX // 4, PX - 1, PX, PX + 1])
    assert found["011.png"] == "HZ-D27"
    assert [n for n, v in found.items() if isinstance(v, str)] == ["011.png"]
    assert report["rejected"][0]["reason"] == "the tile is too small for the model: 11 x 11 px"  # type: ignore[index]
    assert report["treated"] == {"enlarged": 2} and report["policy"]["edge"] == "reject"  # type: ignore[index]


def test_d27_pad_white_puts_a_small_tile_on_glass_and_counts_it(tmp_path: Path) -> None:
    found, report = embed_sizes(tmp_path / "tiles", [10, PX], edge="pad-white")
    white = np.full((PX, PX, 3), 255, np.uint8)
    white[:10, :10] = tile_of(10)
    (tmp_path / "by_hand").mkdir()
    Image.fromarray(white).save(tmp_path / "by_hand/010.png")
    by_hand = embedded(tmp_path / "by_hand", tmp_path / "by_hand.safetensors")
    assert np.abs(np.asarray(found["010.png"]) - np.asarray(by_hand["010.png"])).max() <= ROUNDING
    assert report["treated"] == {"padded with white": 1} and report["policy"]["edge"] == "pad-white"  # type: ignore[index]


def test_d27_rows_of_two_edge_policies_are_not_mixed_and_no_other_policy_is_taken(tmp_path: Path) -> None:
    embed_sizes(tmp_path / "tiles", [10, PX], edge="pad-white")
    with pytest.raises(UsageError, match=r"HZ-H56 .*edge differs"):
        embedded(tmp_path / "tiles", tmp_path / "tiles.safetensors")
    with pytest.raises(UsageError, match=r"HZ-U62 there is no such edge policy[\s\S]*reject or pad-white"):
        embedded(tmp_path / "tiles", tmp_path / "other.safetensors", edge="mirror")


# -- 28: what the refusal says --


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("twelve_in_16.tif", ("mode I;16", "values 1498 to 3888")),
        ("grey16.png", ("mode I;16", "values 24072 to 62451")),
        ("float.tif", ("mode F", "values 0.36")),
        ("rgb16.png", ("stored as RGB;16B",)),
        ("five_channels.tif", ("stored as RGBXX",)),
        ("pages.tif", ("2",)),
    ],
)
def test_d28_a_refusal_says_mode_and_range_of_values(name: str, said: tuple[str, ...]) -> None:
    (specimen,) = (s for s in badtiles.specimens() if s.name == name)
    with pytest.raises(UsageError, match="HZ-D28") as caught:
        decode(specimen.data)
    assert all(text in caught.value.got for text in said)


# -- 29, 30: counted in the report --


def test_d29_d30_the_report_counts_what_was_done_to_which_tiles_and_says_the_policy(tmp_path: Path) -> None:
    embedded(badtiles.write(tmp_path / "tiles"), tmp_path / "f.safetensors")
    report = json.loads((tmp_path / "f.safetensors.report.json").read_text())
    words = Counter(s.change for s in badtiles.specimens() if s.change)
    assert {k: report["treated"][k] for k in words} == words
    further = {"enlarged", "named as another format", "not square: the centre kept"}
    assert set(report["treated"]) - set(words) == further
    assert report["treated"]["named as another format"] == 2 and report["treated"]["enlarged"] == 1
    assert report["policy"]["icc"] == "ignored" and "on white" in report["policy"]["alpha"]


def test_d30_the_report_of_a_continued_run_counts_all_rows_or_says_that_it_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    grey = saved(Image.fromarray(drawn()).convert("L"), "PNG")
    (folder / "1.png").write_bytes(grey)
    out = tmp_path / "f.safetensors"

    def treated(**options: object) -> object:
        embedded(folder, out, **options)
        return json.loads((tmp_path / "f.safetensors.report.json").read_text())["treated"]

    assert treated() == {"grey": 1}
    (folder / "2.png").write_bytes(grey)
    assert treated() == {"grey": 2} and treated() == {"grey": 2}
    (folder / "1.png").unlink()
    assert treated(keep_others=True) == {"rows of an earlier run, not counted again": 1}


def test_d30_a_colour_profile_changes_no_pixel_and_is_told() -> None:
    (specimen,) = (s for s in badtiles.specimens() if s.name == "profile.png")
    image, told = decode_told(specimen.data)
    assert told.icc and np.array_equal(np.asarray(image), specimen.truth_HWC)


def test_the_tiny_model_takes_the_specimens_without_resizing() -> None:
    from histozoo import registry

    assert registry.resolve(NAME).ours["contract"]["tile_px"] == PX


def test_no_other_module_opens_a_tile_by_itself() -> None:
    """A new way to read tiles goes through `decode` and so has its verdicts; whoever opens images otherwise stands here with a reason."""
    otherwise = {
        "data/decoding.py": "decode itself",
        "audit/statistics.py": "the header of bytes that decode has read",
        "prepare/chunks.py": "the format of bytes that decode has read",
        "prepare/masks.py": "masks, which are no tiles",
        "evaluate/corruptions.py": "what it has encoded itself",
    }
    package = Path(decoding.__file__).parents[1]
    opening = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("open", "imread", "read_image", "decode_image")
        and isinstance(node.value, ast.Name)
        and node.value.id
        in ("Image", "Pillow", "PIL", "cv2", "io", "imageio", "tifffile", "skimage", "torchvision")
    }
    assert opening == set(otherwise)
