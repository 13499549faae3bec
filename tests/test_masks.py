"""Masks: the numbers that are stored, or a refusal; nothing is scaled, turned or guessed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import UsageError
from histozoo.prepare.annotations import mask_image
from histozoo.prepare.sources import Source, open_source

WIDTH, HEIGHT = 21, 13
SIZE = (WIDTH, HEIGHT)
BINARY_HW = np.random.default_rng(4).integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8)
NUMBERS_HW = np.random.default_rng(5).integers(0, 4, (HEIGHT, WIDTH)).astype(np.uint8)
MANY_HW = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 200).astype(np.uint16)
COLOURS = {(255, 0, 0): 7, (0, 255, 0): 0, (0, 0, 255): 1, (1, 2, 3): 300}


def saved(image: Any, format: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(data, format, **options)
    return data.getvalue()


def holding(folder: Path, data: bytes) -> Source:
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set/m.png").write_bytes(data)
    return open_source(folder / "set", scratch=folder / "scratch")


def read(folder: Path, data: bytes, **options: Any) -> Any:
    return mask_image(holding(folder, data), "m.png", options.pop("size", SIZE), **options)


def refused(folder: Path, data: bytes, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(folder, data, **options)
    assert caught.value.code == "HZ-U73" and caught.value.where == "m.png"
    return caught.value


def palette(values_HW: Any) -> Image.Image:
    found = Image.frombytes("P", SIZE, values_HW.tobytes())
    found.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    return found


def few_bits(values_HW: Any, bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits, which Pillow reads and does not write."""
    rows = b""
    for row in values_HW:
        text = "".join(f"{int(v):0{bits}b}" for v in row)
        text = text.ljust(-(-len(text) // 8) * 8, "0")
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))

    return png(rows, depth=bits, colour=0)


def png(rows: bytes, *, depth: int, colour: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


GOOD = {
    "8 bits": (saved(NUMBERS_HW), NUMBERS_HW),
    "8 bits in TIFF": (saved(NUMBERS_HW, "TIFF", compression="tiff_lzw"), NUMBERS_HW),
    "8 bits in BMP": (saved(NUMBERS_HW, "BMP"), NUMBERS_HW),
    "16 bits": (saved(MANY_HW), MANY_HW),
    "16 bits in TIFF": (saved(MANY_HW, "TIFF"), MANY_HW),
    "32 bits": (saved(MANY_HW.astype(np.int32) * 9, "TIFF"), MANY_HW.astype(np.int32) * 9),
    "bilevel": (saved(Image.fromarray(BINARY_HW * 255).convert("1")), BINARY_HW),
    "bilevel in TIFF": (
        saved(Image.fromarray(BINARY_HW * 255).convert("1"), "TIFF", compression="group4"),
        BINARY_HW,
    ),
    "a palette": (saved(palette(NUMBERS_HW)), NUMBERS_HW),
    "a palette of 2 bits": (saved(palette(NUMBERS_HW), bits=2), NUMBERS_HW),
    "a palette in BMP": (saved(palette(NUMBERS_HW), "BMP"), NUMBERS_HW),
    "a palette in GIF": (saved(palette(NUMBERS_HW), "GIF"), NUMBERS_HW),
    "2 bits": (few_bits(NUMBERS_HW, 2), NUMBERS_HW),
    "4 bits": (few_bits(NUMBERS_HW, 4), NUMBERS_HW),
    "three equal colours": (saved(np.repeat(NUMBERS_HW[..., None], 3, axis=2)), NUMBERS_HW),
    "opaque alpha": (saved(Image.fromarray(NUMBERS_HW).convert("RGBA")), NUMBERS_HW),
    "opaque grey and alpha": (saved(Image.fromarray(NUMBERS_HW).convert("LA")), NUMBERS_HW),
}


@pytest.mark.parametrize("kind", GOOD)
def test_the_numbers_are_those_that_are_stored(tmp_path: Path, kind: str) -> None:
    data, expected = GOOD[kind]
    found = read(tmp_path, data, values=set(np.unique(expected).tolist()))
    assert found.dtype.kind in "ui" and np.array_equal(found, expected)


def test_colours_have_the_values_that_were_named(tmp_path: Path) -> None:
    keys = list(COLOURS)
    rgb = np.array(keys, np.uint8)[NUMBERS_HW]
    expected = np.array([COLOURS[k] for k in keys])[NUMBERS_HW]
    assert np.array_equal(read(tmp_path, saved(rgb), colours=COLOURS), expected)
    opaque = saved(Image.fromarray(rgb).convert("RGBA"))
    assert np.array_equal(read(tmp_path, opaque, colours=COLOURS, values={0, 1, 7, 300}), expected)
    del (fewer := dict(COLOURS))[(1, 2, 3)]
    assert "#010203" in refused(tmp_path, saved(rgb), colours=fewer).got


def test_a_mask_of_another_size_is_refused_unless_it_decides_the_size(tmp_path: Path) -> None:
    error = refused(tmp_path, saved(NUMBERS_HW), size=(HEIGHT, WIDTH))
    assert (error.expected, error.got) == ("13 x 21 px", "21 x 13 px")
    assert read(tmp_path, saved(NUMBERS_HW), size=None).shape == (HEIGHT, WIDTH)


def test_a_value_that_is_not_known_is_refused_and_named(tmp_path: Path) -> None:
    error = refused(tmp_path, saved(NUMBERS_HW), values=(0, 2))
    assert (error.expected, error.got) == ("0, 2", "1, 3")
    smooth = Image.fromarray(BINARY_HW * 255).resize((210, 130)).resize(SIZE)
    assert refused(tmp_path, saved(smooth, "JPEG"), values=(0, 255)).expected == "0, 255"


def odd() -> dict[str, bytes]:
    grey = Image.fromarray(NUMBERS_HW)
    half, exif = grey.convert("LA"), Image.Exif()
    half.putpixel((0, 0), (1, 128))
    exif[0x0112] = 6
    bomb = bytearray(saved(NUMBERS_HW))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    large = bytearray(bomb)
    large[16:24] = struct.pack(">II", 9_000, 9_000)
    large[29:33] = struct.pack(">I", zlib.crc32(large[12:29]))
    return {
        "truncated": saved(MANY_HW, "TIFF")[:300],
        "cut": saved(NUMBERS_HW)[:-30],
        "empty": b"",
        "text": b"<html>",
        "colours": saved(np.stack([NUMBERS_HW, NUMBERS_HW, NUMBERS_HW + 1], axis=2)),
        "fractions": saved(NUMBERS_HW.astype(np.float32), "TIFF"),
        "CMYK": saved(grey.convert("CMYK"), "TIFF"),
        "transparent": saved(half),
        "pages": saved(grey, "TIFF", save_all=True, append_images=[grey]),
        "turned": saved(grey, "PNG", exif=exif),
        # Pillow keeps the upper byte of these without a word.
        "16 bits and alpha": png((b"\0" + b"\1\2\xff\xff" * WIDTH) * HEIGHT, depth=16, colour=4),
        "three times 16 bits": png((b"\0" + b"\1\2\1\2\1\2" * WIDTH) * HEIGHT, depth=16, colour=2),
        "bomb": bytes(bomb),
        "large": bytes(large),
    }


@pytest.mark.parametrize("kind", odd())
def test_a_mask_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    error = refused(tmp_path, odd()[kind], size=None)
    assert error.what and error.expected and error.next_step
    if kind not in ("colours", "fractions", "CMYK"):
        assert refused(tmp_path, odd()[kind], size=None, colours=COLOURS).what == error.what


def test_a_palette_mask_is_no_colour_mask_by_itself(tmp_path: Path) -> None:
    by_colour = {(200, 0, 0): 0, (0, 200, 0): 10, (0, 0, 200): 20, (9, 9, 9): 30}
    assert np.array_equal(read(tmp_path, saved(palette(NUMBERS_HW)), colours=by_colour), NUMBERS_HW * 10)


def test_real_masks_are_read_as_their_tables_say(tmp_path: Path) -> None:
    import os

    beside = Path(__file__).parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("HISTOZOO_DATA") or beside)
    if not (root / "glas").is_dir():
        pytest.skip("the real masks are not here: set HISTOZOO_DATA to the folder of glas")
    source = open_source(root / "glas", scratch=tmp_path)
    name = source.matching("masks/*")[0]
    mask_HW = mask_image(source, name, None)
    reference = np.asarray(Image.open(root / "glas" / name))
    assert mask_HW.ndim == 2 and np.array_equal(mask_HW, reference) and mask_HW.max() > 1
