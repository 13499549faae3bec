"""Canvases: the verdict on a picture is that of the decoder, wherever the picture lies; boxes are cut where they should be."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo.data import decoding
from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.prepare import canvases
from histozoo.prepare.canvases import ArrayRow, Decoded, as_image
from histozoo.prepare.pictures import Picture, decoded
from histozoo.prepare.sources import Source, open_source
from tests.fakes.archives import flipped, tar_bytes, zip_bytes
from tests.fakes.badtiles import Specimen, drawn, saved, specimens


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """The bad tiles in a folder, in a zip and in a tar.gz. Two spellings of one letter cannot lie in one archive."""
    top = tmp_path_factory.mktemp("bad")
    files = {one.name: one.data for one in specimens()}
    (top / "folder").mkdir()
    for name, data in files.items():
        (top / "folder" / name).write_bytes(data)
    files.pop("cafe\u0301.png")
    (top / "x.zip").write_bytes(zip_bytes(files))
    (top / "x.tar.gz").write_bytes(tar_bytes(files, "w:gz"))
    return {
        name: open_source(top / name, scratch=top / "scratch") for name in ("folder", "x.zip", "x.tar.gz")
    }


def verdict(read: Callable[[], Image.Image | Decoded]) -> tuple[str, ...] | tuple[Any, ...]:
    """Code and reason of the refusal, or size and pixels."""
    try:
        found = read()
    except HistozooError as error:
        return error.code, error.what, error.expected, error.got
    image = found.crop((0, 0, *found.size)) if isinstance(found, Decoded) else found
    return image.mode, image.size, image.tobytes()


@pytest.mark.parametrize("one", specimens(), ids=lambda one: f"d{one.case} {one.name}")
def test_the_verdict_is_that_of_the_decoder_wherever_the_picture_lies(
    one: Specimen, places: dict[str, Source]
) -> None:
    expected = verdict(lambda: decoding.decode(one.data))
    for source in places.values():
        if one.name in source:
            assert verdict(lambda source=source: Decoded.read(source, one.name)) == expected  # type: ignore[misc]


def test_the_table_of_bad_tiles_has_both_verdicts() -> None:
    codes = {one.code for one in specimens()}
    assert {"", "HZ-D24", "HZ-D27", "HZ-D28", "HZ-D29", "HZ-D30", "HZ-D31"} <= codes


@pytest.mark.parametrize("place", ["folder", "x.zip", "x.tar.gz"])
def test_a_refusal_names_the_source_and_the_picture(places: dict[str, Source], place: str) -> None:
    source = places[place]
    with pytest.raises(UsageError) as caught:
        Decoded.read(source, "text.png")
    assert caught.value.where == f"{source.where}, text.png" and caught.value.next_step


def test_layouts_open_pictures_this_way(places: dict[str, Source]) -> None:
    canvas = decoded(places["x.zip"], Picture(name="plain.png", group="g"))
    assert np.array_equal(np.asarray(canvas.crop((0, 0, 48, 48))), drawn())


def test_a_box_is_cut_where_it_lies_and_none_outside(places: dict[str, Source]) -> None:
    canvas = Decoded.read(places["folder"], "plain.png")
    assert np.array_equal(np.asarray(canvas.crop((3, 5, 20, 48))), drawn()[5:48, 3:20])
    for box in ((-1, 0, 8, 8), (0, -1, 8, 8), (0, 0, 49, 8), (0, 0, 8, 49), (8, 0, 8, 8), (0, 9, 8, 8)):
        with pytest.raises(UsageError) as caught:
            canvas.crop(box)
        assert caught.value.code == "HZ-D27" and "plain.png" in caught.value.where


def test_d24_a_missing_an_unreadable_and_a_dangling_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/gone.png").symlink_to(tmp_path / "set/nowhere.png")
    (tmp_path / "set/closed.png").write_bytes(saved(drawn(), "PNG"))
    source = open_source(tmp_path / "set", scratch=tmp_path / "scratch")
    assert verdict(lambda: Decoded.read(source, "gone.png"))[0] == "HZ-D24"
    assert verdict(lambda: Decoded.read(source, "other.png"))[0] == "HZ-U73"  # it is the layout that is wrong

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    found = verdict(lambda: Decoded.read(source, "closed.png"))
    assert (found[0], found[3]) == ("HZ-D24", "Permission denied")


def test_a_picture_whose_archive_is_damaged_is_the_archive_s_fault(tmp_path: Path) -> None:
    data = saved(drawn(), "PNG")
    whole = zip_bytes({"a.png": data, "b.png": data}, packed=False)
    (tmp_path / "x.zip").write_bytes(flipped(whole, b"IDAT", 100))
    source = open_source(tmp_path / "x.zip", scratch=tmp_path / "scratch")
    with pytest.raises(IntegrityError) as caught:
        Decoded.read(source, "a.png")
    assert caught.value.code == "HZ-U74" and "member a.png" in caught.value.where
    assert Decoded.read(source, "b.png").size == (48, 48)


def test_d27_a_file_that_no_tile_can_fill_is_not_read(
    places: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 100)
    monkeypatch.setattr(Source, "read", None)
    assert verdict(lambda: Decoded.read(places["x.zip"], "plain.png"))[0] == "HZ-D27"


# -- rows of arrays --------------------------------------------------------------------------------------------------------------------


def array_source(folder: Path, files: dict[str, bytes]) -> Source:
    (folder / "set").mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / "set" / name).write_bytes(data)
    return open_source(folder / "set", scratch=folder / "scratch")


def npy(folder: Path, array: Any) -> bytes:
    np.save(folder / "x.npy", array)
    return (folder / "x.npy").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_rows_of_whole_numbers_are_kept_as_they_are(tmp_path: Path, dtype: Any) -> None:
    rows = np.stack([drawn(), drawn()[::-1]]).astype(dtype)
    source = array_source(tmp_path, {"images.npy": npy(tmp_path, rows)})
    for row in range(2):
        canvas = ArrayRow.read(source, f"images.npy#{row}")
        assert canvas.size == (48, 48)
        assert np.array_equal(np.asarray(canvas.crop((0, 0, 48, 48))), rows[row].astype(np.uint8))


def test_rows_of_hdf5_are_read_in_place_and_out_of_gzip(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.stack([drawn(), drawn()[::-1]]), compression="gzip")
    source = array_source(tmp_path, {"x.h5.gz": gzip.compress((tmp_path / "x.h5").read_bytes())})
    canvas = ArrayRow.read(source, "x.h5#1", dataset="x")
    assert np.array_equal(np.asarray(canvas.crop((0, 0, 48, 48))), drawn()[::-1])
    for name, dataset in (("x.h5#2", "x"), ("x.h5#0", "y"), ("x.h5", "x"), ("x.h5#-1", "x"), ("x.h5#a", "x")):
        with pytest.raises(UsageError) as caught:
            ArrayRow.read(source, name, dataset=dataset)
        assert caught.value.code == "HZ-U73" and "x.h5" in caught.value.where


@pytest.mark.parametrize(
    ("row", "code", "got"),
    [
        (np.full((16, 16, 3), 0.5), "HZ-D28", "fractions"),
        (np.full((16, 16, 3), np.nan), "HZ-D28", "nan"),
        (np.full((16, 16, 3), np.inf), "HZ-D28", "inf"),
        (np.full((16, 16, 3), 256, np.uint16), "HZ-D28", "uint16 within 256..256"),
        (np.full((16, 16, 3), -1, np.int16), "HZ-D28", "int16 within -1..-1"),
        (np.full((16, 16, 3), True), "HZ-D28", "bool"),
        (np.full((16, 16, 4), 9, np.uint8), "HZ-D28", "shape (16, 16, 4)"),
        (np.full((16, 16, 2), 9, np.uint8), "HZ-D28", "shape (16, 16, 2)"),
        (np.full((3, 16, 16), 9, np.uint8), "HZ-D28", "shape (3, 16, 16)"),
        (np.full((16,), 9, np.uint8), "HZ-D28", "shape (16,)"),
        (np.full((7, 16, 3), 9, np.uint8), "HZ-D27", "16 x 7 px"),
    ],
)
def test_rows_that_are_no_8_bit_colours_are_refused(row: Any, code: str, got: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_image(row, "images.npy#3")
    assert caught.value.code == code and got in caught.value.got and caught.value.where == "images.npy#3"


def test_grey_rows_become_three_equal_channels() -> None:
    grey = drawn()[:, :, 0]
    for row in (grey, grey[:, :, None]):
        assert np.array_equal(np.asarray(as_image(row, "")), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("damage", ["cut", "text", "objects", "flat"])
def test_a_damaged_array_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    whole = npy(tmp_path, np.stack([drawn(), drawn()]))
    data = {
        "cut": whole[:-50],
        "text": b"file,label\n",
        "objects": npy(tmp_path, np.array([{}, {}], dtype=object)),
        "flat": npy(tmp_path, np.arange(9)),
    }[damage]
    source = array_source(tmp_path, {"images.npy": data})
    with pytest.raises(UsageError) as caught:
        ArrayRow.read(source, "images.npy#1")
    assert caught.value.code == "HZ-U73" and caught.value.where == "images.npy"


def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    source = array_source(tmp_path, {"x.h5": b"1"})
    with pytest.raises(UsageError) as caught:
        ArrayRow.read(source, "x.h5#0", dataset="x")
    assert caught.value.code == "HZ-U76" and caught.value.next_step == "pip install 'histozoo[prepare]'"


def test_importing_canvases_and_annotations_imports_no_optional_library() -> None:
    import subprocess

    code = (
        "import sys; from histozoo.prepare import canvases, annotations, sources\n"
        "print([m for m in ('torch', 'datasets', 'scipy', 'h5py', 'openslide') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and canvases.__all__
