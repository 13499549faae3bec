"""Tiles: what is decoded and what is refused, tables against the disk, packing and fingerprints. Cases of groups D and E by number."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from histozoo.data import decoding, tiles
from histozoo.data.tables import read_folder, read_table
from histozoo.errors import HistozooError, IntegrityError, UsageError
from tests.fakes.tiles import draw_tile, write_table

CLASSES = ("benign", "malignant")


def picture(px: int = 40, mode: str = "RGB", kind: int = 1) -> Image.Image:
    return Image.fromarray(draw_tile(np.random.default_rng(5), px, kind)).convert(mode)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def png(*, depth: int, colour: int, channels: int, px: int = 16) -> bytes:
    """A PNG written by hand, for layouts that Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + bytes(range(256))[: px * channels * depth // 8].ljust(px * channels * depth // 8, b"\7")
    header = struct.pack(">IIBBBBB", px, px, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row * px))
        + chunk(b"IEND", b"")
    )


def refused(source: str | Path | bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        tiles.decode(source)
    return caught.value


# -- decoding --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_pixels_come_back_unchanged_from_path_and_bytes(tmp_path: Path, format: str) -> None:
    image = picture()
    path = tmp_path / "tile.bin"
    path.write_bytes(encoded(image, format))
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(np.asarray(tiles.decode(source)), np.asarray(image))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_d24_a_truncated_tile_is_refused_by_name(tmp_path: Path, format: str) -> None:
    path = tmp_path / "cut_short.img"
    data = encoded(picture(64), format)
    path.write_bytes(data[: len(data) * 2 // 3])
    error = refused(path)
    assert error.code == "HZ-D24" and str(path) in error.where
    assert error.text().startswith("HZ-D24 the tile cannot be decoded")


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "an empty file"),
        (b"<html>moved</html>", "18 bytes that are no such image"),
        (b"GIF89a" + bytes(50), "56 bytes that are no such image"),
    ],
)
def test_d24_what_is_no_image_is_refused(tmp_path: Path, data: bytes, got: str) -> None:
    path = tmp_path / "tile.png"
    path.write_bytes(data)
    assert (refused(path).code, refused(path).got) == ("HZ-D24", got)
    assert (refused(data).code, refused(data).got) == ("HZ-D24", got)


def test_d24_a_missing_file_a_folder_and_a_dangling_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    assert refused(tmp_path / "gone.png").got == "no such file"
    assert refused(tmp_path / "dangling.png").got == "no such file"
    assert refused(tmp_path).code == "HZ-D24"


def test_d26_a_png_with_a_wrong_checksum_is_refused() -> None:
    whole = encoded(picture())
    # A byte of the pixels, which the stream's own sum tells too; and one of the last pixels' checksum, which Pillow does not compare.
    for at in (whole.index(b"IDAT") + 20, len(whole) - 13):
        data = bytearray(whole)
        data[at] ^= 1
        assert refused(bytes(data)).code == "HZ-D24"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow only warns of corrupt TIFF tags and goes on
def test_d24_no_cut_of_a_file_is_ever_decoded_to_other_pixels() -> None:
    image = picture(24)
    for format in ("PNG", "JPEG", "BMP", "TIFF"):
        data = encoded(image, format)
        whole = np.asarray(tiles.decode(data))
        for end in range(0, len(data), 7):
            try:
                found = tiles.decode(data[:end])
            except UsageError as error:
                assert error.code.startswith("HZ-D")
            else:
                assert np.array_equal(np.asarray(found), whole), f"{format} cut at {end}"


def test_d24_pillow_told_to_pass_over_truncation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    error = refused(encoded(picture()))
    assert error.code == "HZ-U31" and "LOAD_TRUNCATED_IMAGES" in error.what


@pytest.mark.parametrize("size", [(9000, 9000), (60_000, 60_000)])
def test_d27_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    bomb = bytearray(encoded(picture()))
    bomb[16:24] = struct.pack(">II", *size)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    assert refused(bytes(bomb)).code == "HZ-D27"


def test_d27_a_one_pixel_image_is_refused() -> None:
    error = refused(encoded(picture(1)))
    assert (error.code, error.got) == ("HZ-D27", "1 x 1 px")


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (png(depth=16, colour=0, channels=1), "I;16"),
        (png(depth=16, colour=2, channels=3), "RGB;16B"),
        (png(depth=16, colour=6, channels=4), "RGBA;16B"),
        (encoded(Image.new("F", (16, 16), 0.5), "TIFF"), "F;32F"),
        (encoded(Image.new("I", (16, 16), 70_000), "TIFF"), "I;32"),
        (encoded(Image.new("I;16", (16, 16), 4095), "TIFF"), "I;16"),
        (encoded(Image.new("LAB", (16, 16)), "TIFF"), "LAB"),
    ],
)
def test_d28_deep_and_odd_pixels_are_refused(data: bytes, got: str) -> None:
    error = refused(data)
    assert error.code == "HZ-D28" and got in error.got


@pytest.mark.parametrize("format", ["TIFF", "PNG", "WEBP"])
def test_d28_several_pages_are_refused(format: str) -> None:
    data = encoded(picture(), format, save_all=True, append_images=[picture(kind=3)])
    assert (refused(data).code, refused(data).got) == ("HZ-D28", "2")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_d29_an_opaque_alpha_channel_is_dropped(mode: str) -> None:
    image = picture()
    if mode == "PA":
        palette = picture(mode="P")
        data = encoded(palette, transparency=bytes([255] * 256))
        image = palette.convert("RGB")
    else:
        data = encoded(image.convert(mode))
        image = image.convert("L").convert("RGB") if mode == "LA" else image
    assert np.array_equal(np.asarray(tiles.decode(data)), np.asarray(image))


def test_d29_partial_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (16, 16), (200, 0, 100, 255))
    image.paste((200, 0, 100, 0), (0, 0, 8, 16))
    image.putpixel((12, 12), (200, 0, 100, 128))
    found = tiles.decode(encoded(image))
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert found.getpixel((15, 15)) == (200, 0, 100)
    assert np.abs(np.array(found.getpixel((12, 12))) - (227, 127, 177)).max() <= 1


def test_d29_a_transparent_colour_becomes_white() -> None:
    image = Image.new("RGB", (16, 16), (10, 20, 30))
    image.paste((200, 0, 100), (0, 0, 8, 8))
    found = tiles.decode(encoded(image, transparency=(10, 20, 30)))
    assert (found.getpixel((0, 0)), found.getpixel((15, 15))) == ((200, 0, 100), (255, 255, 255))


def test_d29_a_fully_transparent_tile_is_refused() -> None:
    error = refused(encoded(Image.new("RGBA", (16, 16), (200, 0, 100, 0))))
    assert (error.code, error.what) == ("HZ-D29", "the tile is fully transparent")


@pytest.mark.parametrize(
    ("mode", "format"), [("L", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("YCbCr", "JPEG")]
)
def test_d30_grey_palette_and_cmyk_become_rgb(mode: str, format: str) -> None:
    data = encoded(picture(mode=mode), format)
    found = tiles.decode(data)
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_d30_a_bilevel_image_is_refused() -> None:
    assert refused(encoded(Image.new("1", (16, 16)))).code == "HZ-D30"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_d31_a_tile_rotated_by_exif_is_refused_and_an_upright_one_is_not(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    error = refused(encoded(picture(), format, exif=exif))
    assert (error.code, error.got) == ("HZ-D31", "orientation 6")
    exif[0x0112] = 1
    assert tiles.decode(encoded(picture(), format, exif=exif)).size == (40, 40)


def test_decoding_needs_no_training_library() -> None:
    code = "import sys; from histozoo.data import tiles; print([m for m in ('datasets', 'torch', 'timm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- tables ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_table(tmp_path / "set", 8, CLASSES, px=32, groups=4)


def edit(folder: Path, old: str, new: str) -> None:
    table = folder / "labels.csv"
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new, 1), encoding="utf-8")


def table_error(folder: Path, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_table(folder, classes=options.pop("classes", CLASSES), **options)
    return caught.value


def test_a_table_gives_lazy_tiles_labels_groups_and_files(folder: Path) -> None:
    dataset = read_table(folder, classes=CLASSES)
    assert dataset.column_names == ["image", "label", "group", "file"]
    assert dataset.features["label"].names == list(CLASSES)
    row = dataset[9]
    assert (row["label"], row["group"], row["file"]) == (1, "malignant-1", "images/malignant_001.png")
    assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(folder / row["file"])))


def test_reading_a_table_opens_no_image(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    assert len(read_table(folder, classes=CLASSES)) == 16


def test_e33_missing_unlisted_and_repeated_tiles_are_counted_and_named_with_lines(folder: Path) -> None:
    for i in range(6):
        (folder / f"images/benign_{i:03d}.png").unlink()
    Image.new("RGB", (16, 16)).save(folder / "images/new.png")
    with (folder / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("images/malignant_001.png,benign,g,\nimages/malignant_002.png,malignant,g,\n")
    error = table_error(folder)
    assert error.code == "HZ-E33"
    assert "6 listed but missing: images/benign_000.png (line 2), images/benign_001.png (line 3)" in error.got
    assert "images/benign_004.png (line 6) and 1 more" in error.got and "benign_005" not in error.got
    assert "1 there but not listed: images/new.png" in error.got
    assert (
        "1 listed with conflicting labels: images/malignant_001.png (line 11: malignant, line 18: benign)"
        in error.got
    )
    assert "1 listed twice: images/malignant_002.png (line 12: malignant, line 19: malignant)" in error.got
    assert error.kept == "nothing was read"


def test_e33_hidden_files_and_other_folders_are_not_tiles(folder: Path) -> None:
    (folder / "images/._benign_000.png").write_bytes(b"junk")
    (folder / "images/.ipynb_checkpoints").mkdir()
    (folder / "images/notes.txt").write_text("junk")
    (folder / "masks").mkdir()
    Image.new("L", (16, 16)).save(folder / "masks/benign_000.png")
    assert len(read_table(folder, classes=CLASSES)) == 16


def test_e34_every_cell_is_text(tmp_path: Path) -> None:
    folder = write_table(tmp_path, 3, ("NA", "1E10", "007"), px=16)
    dataset = read_table(
        folder, classes=("NA", "1E10", "007"), group=lambda cells: cells["label"] + cells["file"][-5]
    )
    assert dataset["label"][:] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset["group"][3:7] == ["1E100", "1E101", "1E102", "0070"]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_e34_separator_byte_order_mark_and_line_ends(
    tmp_path: Path, separator: str, mark: str, newline: str
) -> None:
    folder = write_table(tmp_path, 2, CLASSES, px=16, separator=separator)
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    (folder / "labels.csv").write_bytes((mark + newline.join(lines)).encode())
    assert read_table(folder, classes=CLASSES)["label"][:] == [0, 0, 1, 1]


@pytest.mark.parametrize("label", ["Benign", "benign ", " benign", "bening"])
def test_e34_an_unknown_label_names_line_and_nearest_class(folder: Path, label: str) -> None:
    edit(folder, "_002.png,benign", f"_002.png,{label}")
    error = table_error(folder)
    assert error.code == "HZ-E34"
    assert error.expected == "benign, malignant; nearest to the first is 'benign'"
    assert error.got == f"{label!r} (images/benign_002.png, line 4)"


def test_e35_the_class_list_is_the_callers_and_counts_are_checked(folder: Path) -> None:
    assert read_table(folder, classes=("malignant", "benign"), counts=(8, 8))["label"][0] == 1
    error = table_error(folder, counts=(8, 9))
    assert (error.code, error.expected, error.got) == ("HZ-E35", "malignant: 9", "malignant: 8")


def test_e36_one_class_and_an_empty_class_are_refused(folder: Path) -> None:
    error = table_error(folder, classes=("benign", "malignant", "unseen"))
    assert (error.code, error.what) == ("HZ-E36", "a class has no tile")
    assert error.got == "benign: 8, malignant: 8, unseen: 0"
    error = table_error(folder, classes=("benign",), exclude=("malignant",))
    assert (error.code, error.what) == ("HZ-E36", "the task has fewer than two classes")


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png",
        "/etc/hostname",
        "images/../../outside.png",
        "images\\benign_000.png",
        "images/a.png#xywh=",
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    Image.new("RGB", (16, 16)).save(folder.parent / "outside.png")
    edit(folder, "images/benign_000.png", name)
    error = table_error(folder)
    assert (error.code, error.got) == ("HZ-U33", repr(name)) and error.where.endswith("line 2")
    assert "without .." in error.next_step


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_that_leads_out_of_the_folder_is_refused(folder: Path, linked: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    Image.new("RGB", (16, 16)).save(outside / "benign_000.png")
    if linked == "file":
        (folder / "images/benign_000.png").unlink()
        (folder / "images/benign_000.png").symlink_to(outside / "benign_000.png")
    else:
        (folder / "images/linked").symlink_to(outside)
        edit(folder, "images/benign_000.png", "images/linked/benign_000.png")
    error = table_error(folder)
    assert (error.code, error.what) == ("HZ-U33", "a link leads out of the table's folder")
    assert (
        str(outside / "benign_000.png") in error.got and "make the whole folder the link" in error.next_step
    )


def test_a_folder_that_is_a_link_as_a_whole_is_read(folder: Path) -> None:
    whole = folder.parent / "elsewhere"
    whole.symlink_to(folder)
    assert len(read_table(whole, classes=CLASSES)) == len(read_table(folder, classes=CLASSES))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("file,label", "name,label", "a column is missing or there twice"),
        ("label,group", "label,label", "a column is missing or there twice"),
        (",benign,benign-0,", ",benign,benign-0,,,", "a line has another number of cells than the header"),
        (",benign,benign-0,", ",benign,,", "the group is blank"),
        (",benign,benign-0,", ",,benign-0,", "the label is blank"),
        (",benign,benign-0,", ',"benign,benign-0,', "the table is not readable as CSV"),
    ],
)
def test_a_malformed_table_is_refused(folder: Path, old: str, new: str, what: str) -> None:
    edit(folder, old, new)
    error = table_error(folder)
    assert (error.code, error.what) == ("HZ-U32", what)


def test_an_empty_a_missing_and_a_latin1_table_are_refused(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_bytes(b"file,label,group\n\xe9.png,benign,g\n")
    assert table_error(folder).what == "the table is not UTF-8"
    table.write_bytes(b"")
    assert table_error(folder).got == "no header"
    table.unlink()
    assert table_error(folder).what == "the table cannot be read: No such file or directory"


def test_a_folder_of_class_folders_is_read_with_sub_folders_as_groups(folder: Path) -> None:
    for name in ("b", "a"):
        (folder / name / "p1").mkdir(parents=True)
        for i in range(2):
            os.replace(
                folder / f"images/benign_00{i + 2 * (name == 'a')}.png", folder / name / "p1" / f"{i}.PNG"
            )
        Image.new("RGB", (16, 16)).save(folder / name / "single.png")
    (folder / "labels.csv").unlink()
    for path in (folder / "images").iterdir():
        path.unlink()
    dataset = read_folder(folder, classes=("b", "a"))
    assert dataset["file"][:] == [
        "a/p1/0.PNG",
        "a/p1/1.PNG",
        "a/single.png",
        "b/p1/0.PNG",
        "b/p1/1.PNG",
        "b/single.png",
    ]
    assert dataset["label"][:] == [1, 1, 1, 0, 0, 0]
    assert dataset["group"][:3] == ["a/p1", "a/p1", "a/single.png"]


def test_e35_folders_that_are_no_classes_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="HZ-E34") as caught:
        read_folder(folder, classes=CLASSES)
    assert "'images' (images/benign_000.png" in caught.value.got
    with pytest.raises(UsageError, match="HZ-U32 there is no such folder"):
        read_folder(folder / "gone", classes=CLASSES)


# -- packing ---------------------------------------------------------------------------------------------------------------------------


def test_a_packed_tile_is_the_resized_centre(folder: Path, tmp_path: Path) -> None:
    wide = Image.fromarray(draw_tile(np.random.default_rng(1), 60, 2)).crop((0, 0, 60, 40))
    wide.save(folder / "images/benign_000.png")
    packed = tiles.pack(read_table(folder, classes=CLASSES), 20, tmp_path / "cache")
    assert (packed.shape, packed.dtype, packed.flags.writeable) == ((16, 20, 20, 3), np.uint8, False)
    expected = wide.resize((30, 20), Image.Resampling.BICUBIC).crop((5, 0, 25, 20))
    assert np.array_equal(packed[0], np.asarray(expected))


@pytest.mark.parametrize("size", [(33, 32), (31, 100), (8, 9), (500, 499)])
def test_fit_never_leaves_a_border(size: tuple[int, int]) -> None:
    assert (tiles.fit(Image.new("RGB", size, (9, 8, 7)), 32) == (9, 8, 7)).all()


def test_tiles_are_packed_once_and_cut_images_decoded_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []

    def counting(source: str | Path | bytes) -> tuple[Image.Image, decoding.Told]:
        decoded.append(source)
        return decoding.decode_told(source)

    monkeypatch.setattr(tiles, "decode_told", counting)
    quarters = [(0, 0, 16, 16), (16, 0, 32, 16), (0, 16, 16, 32), (16, 16, 32, 32)]
    dataset = read_table(folder, classes=CLASSES, cut=lambda width, height: quarters)
    packed = tiles.pack(dataset, 16, tmp_path / "cache")
    assert len(decoded) == 16 and packed.shape == (64, 16, 16, 3)
    whole = np.asarray(Image.open(folder / "images/benign_000.png"))
    assert np.array_equal(packed[1], whole[:16, 16:])
    assert np.array_equal(np.asarray(dataset[1]["image"]), whole[:16, 16:])
    assert dataset["file"][1] == "images/benign_000.png#xywh=16,0,16,16"
    assert np.array_equal(tiles.pack(dataset, 16, tmp_path / "cache"), packed) and len(decoded) == 16
    shuffled = dataset.select([63, 1, 62, 0])
    assert np.array_equal(tiles.pack(shuffled, 16, tmp_path / "cache"), packed[[63, 1, 62, 0]])


def test_d24_a_damaged_tile_stops_packing_by_name_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    for name in ("benign_003.png", "malignant_004.png"):
        path = folder / "images" / name
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError) as caught:
        tiles.pack(read_table(folder, classes=CLASSES), 16, tmp_path / "cache")
    assert caught.value.code == "HZ-D24" and caught.value.kept == "nothing was packed"
    assert "benign_003.png; and 1 more: " in caught.value.where and "malignant_004.png" in caught.value.where
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_packed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    dataset = read_table(folder, classes=CLASSES)
    tiles.pack(dataset, 16, tmp_path)
    (packed,) = tmp_path.glob("*.npy")
    for data in (packed.read_bytes()[:-5], b"", b"junk"):
        packed.write_bytes(data)
        with pytest.raises(IntegrityError, match="HZ-U34"):
            tiles.pack(dataset, 16, tmp_path)


def test_the_fingerprint_changes_with_bytes_labels_groups_names_and_order(folder: Path) -> None:
    dataset = read_table(folder, classes=CLASSES)
    known = {tiles.fingerprint(dataset)}
    assert known == {tiles.fingerprint(read_table(folder, classes=CLASSES))}
    known.add(tiles.fingerprint(dataset.select([1, 0, *range(2, 16)])))
    known.add(tiles.fingerprint(read_table(folder, classes=CLASSES, group=lambda cells: "one")))
    edit(folder, "_000.png,benign,", "_000.png,malignant,")
    known.add(tiles.fingerprint(read_table(folder, classes=CLASSES)))
    path = folder / "images/benign_001.png"
    path.write_bytes(path.read_bytes() + b"\0")
    known.add(tiles.fingerprint(read_table(folder, classes=CLASSES)))
    os.replace(path, path.with_name("renamed.png"))
    edit(folder, "benign_001.png", "renamed.png")
    known.add(tiles.fingerprint(read_table(folder, classes=CLASSES)))
    assert len(known) == 6


def test_the_fingerprint_does_not_depend_on_where_the_folder_lies(folder: Path) -> None:
    before = tiles.fingerprint(read_table(folder, classes=CLASSES))
    os.replace(folder, folder.parent / "moved")
    assert tiles.fingerprint(read_table(folder.parent / "moved", classes=CLASSES)) == before


def test_every_refusal_says_what_to_do(folder: Path) -> None:
    edit(folder, "_000.png,benign,", "_000.png,begnin,")
    errors: list[HistozooError] = [
        table_error(folder),
        refused(b""),
        refused(encoded(Image.new("1", (16, 16)))),
    ]
    assert all(error.expected and error.got and error.next_step for error in errors)
