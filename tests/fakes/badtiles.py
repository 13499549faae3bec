"""Tile files that readers get wrong, each with its true pixels and what must become of it; the same bytes on every run.

Numbers are the cases of group D. A specimen whose `code` is "" must be read, within `tolerance` grey levels of `truth_HWC` on average; any
other must be refused with that code on every path.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fakes.image_files import (
    Pixels,
    flip,
    length,
    lossy,
    png,
    profile,
    saved,
    silently_changed,
    three,
    tiff,
)
from tests.fakes.tiles import draw_tile

PX = 48
"""Side of the drawn tile: that of the tiny model, so that no path resizes it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """One file: its case, name, bytes, true pixels `[H, W, 3]`, and what must become of it.

    `change` is the word under which a report counts it, "" for RGB as it is.
    """

    case: int
    name: str
    data: bytes
    truth_HWC: Pixels
    code: str = ""
    tolerance: float = 0.0
    change: str = ""


@functools.cache
def drawn(height: int = PX, width: int = PX) -> Pixels:
    """The picture that every specimen shows, cut to a size."""
    tile = draw_tile(np.random.default_rng(24), max(height, width), 2)
    return np.ascontiguousarray(tile[:height, :width])


def smooth() -> Pixels:
    """A picture that JPEG and WebP keep to within a few grey levels."""
    coarse = Image.fromarray(drawn()).resize((6, 6), Image.Resampling.BOX)
    return np.asarray(coarse.resize((PX, PX), Image.Resampling.BICUBIC))


@functools.cache
def specimens() -> tuple[Specimen, ...]:
    """All specimens, sorted by name; every name is another."""
    made = [
        *_unreadable(),
        *_changed(),
        *_sizes(),
        *_deep(),
        *_alpha(),
        *_modes(),
        *_turned(),
        *_names(),
    ]
    assert len({s.name for s in made}) == len(made)
    return tuple(sorted(made, key=lambda s: s.name))


def write(folder: Path, chosen: Sequence[Specimen] | None = None) -> Path:
    """Writes all specimens, or those chosen, into `folder` and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for specimen in specimens() if chosen is None else chosen:
        (folder / specimen.name).write_bytes(specimen.data)
    return folder


def _unreadable() -> list[Specimen]:
    """Cases 24 and 26: what is no whole image."""
    rgb = drawn()
    whole = saved(rgb, "PNG")
    cut = {f"truncated{s}": saved(rgb, f)[: -len(saved(rgb, f)) // 3] for s, f in _SUFFIXES.items()}
    other = {
        "empty.png": b"",
        "text.png": b"patient,label\n007,benign\n",
        "moved.jpg": b"<html><body>302 Found</body></html>",
        "pointer.tif": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "animation.png": saved(rgb, "GIF"),
        "zeros.bin.png": bytes(500),
    }
    damaged = {
        "crc.png": flip(whole, whole.index(b"IDAT") - 4 + length(whole)),
        "idat.png": flip(whole, len(whole) // 2),
    }
    return [
        *(Specimen(case=24, name=n, data=d, truth_HWC=rgb, code="HZ-D24") for n, d in (cut | other).items()),
        *(Specimen(case=26, name=n, data=d, truth_HWC=rgb, code="HZ-D24") for n, d in damaged.items()),
    ]


def _changed() -> list[Specimen]:
    """Case 25: one byte is another and nothing in the file says so; read, with other pixels."""
    found = []
    for name, format, options in (
        ("byte.jpg", "JPEG", {"quality": 90}),
        ("byte.webp", "WEBP", {"quality": 90}),
    ):
        data = saved(drawn(), format, **options)
        found.append(
            Specimen(case=25, name=name, data=silently_changed(data), truth_HWC=lossy(data), tolerance=255)
        )
    return found


def _sizes() -> list[Specimen]:
    """Case 27."""
    bomb = bytearray(saved(drawn(), "PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    refused = {
        "bomb_header.png": bytes(bomb),
        "bomb_true.png": png(bytes(9001) * 9001, 9000, 9000, depth=8, colour=0),
        "one_pixel.png": saved(drawn(1, 1), "PNG"),
        "sliver.png": saved(drawn(7, 60), "PNG"),
    }
    odd = drawn(47, 31)
    return [
        *(Specimen(case=27, name=n, data=d, truth_HWC=drawn(), code="HZ-D27") for n, d in refused.items()),
        Specimen(case=27, name="odd_size.png", data=saved(odd, "PNG"), truth_HWC=odd),
    ]


def _deep() -> list[Specimen]:
    """Case 28: the drawn picture in 16 bits, where Pillow clips it to white or keeps a byte of each pixel."""
    rgb = drawn()
    grey = rgb.mean(axis=2)
    wide, twelve = (grey * 257).astype(np.uint16), (grey * 16).astype(np.uint16)
    tiffs = {
        "twelve_in_16.tif": Image.fromarray(twelve),
        "float.tif": Image.fromarray((grey / 255).astype(np.float32)),
        "int32.tif": Image.fromarray(wide.astype(np.int32)),
    }
    rows = np.repeat(rgb, 2, axis=2).reshape(PX, -1)
    filtered = np.concatenate([np.zeros((PX, 1), np.uint8), rows], axis=1).tobytes()
    files = {
        "grey16.png": saved(Image.fromarray(wide), "PNG"),
        "rgb16.png": png(filtered, PX, PX, depth=16, colour=2),
        "five_channels.tif": tiff(np.concatenate([rgb, rgb[..., :2]], axis=2)),
        "four_channels.tif": tiff(np.concatenate([rgb, rgb[..., :1]], axis=2)),
        "pages.tif": saved(rgb, "TIFF", save_all=True, append_images=[Image.fromarray(rgb[::-1])]),
        **{name: saved(image, "TIFF") for name, image in tiffs.items()},
    }
    return [Specimen(case=28, name=n, data=d, truth_HWC=rgb, code="HZ-D28") for n, d in files.items()]


def _alpha() -> list[Specimen]:
    """Case 29: black behind the alpha, so that a reader that drops it shows black tissue where there is glass."""
    rgb = drawn()
    alpha = np.full((PX, PX, 1), 255, np.uint8)
    half = alpha.copy()
    half[:, : PX // 2] = 0
    half[:, PX // 2 : PX // 2 + 4] = 128
    behind = np.where(half == 0, 0, rgb)
    share = half / 255
    on_white = np.rint(behind * share + 255 * (1 - share)).astype(np.uint8)
    grey = Image.fromarray(rgb).convert("L")
    opaque, partial = "opaque alpha dropped", "partial alpha on white"

    def rgba(colours: Pixels, mask: Pixels) -> Image.Image:
        return Image.fromarray(np.concatenate([colours, mask], axis=2).astype(np.uint8))

    def made(name: str, data: bytes, truth: Pixels, **told: Any) -> Specimen:
        return Specimen(case=29, name=name, data=data, truth_HWC=truth, **told)

    hidden = (0, 0, 0)
    keyed = rgb.copy()
    keyed[:8, :8] = hidden
    keyed_truth = np.where((keyed == hidden).all(axis=2, keepdims=True), 255, keyed).astype(np.uint8)
    return [
        made("opaque.png", saved(rgba(rgb, alpha), "PNG"), rgb, change=opaque),
        made("partial.png", saved(rgba(behind, half), "PNG"), on_white, tolerance=1, change=partial),
        made("partial.tif", saved(rgba(behind, half), "TIFF"), on_white, tolerance=1, change=partial),
        made(
            "partial.webp",
            saved(rgba(behind, half), "WEBP", lossless=True, exact=True),
            on_white,
            tolerance=1,
            change=partial,
        ),
        made(
            "grey_alpha.png",
            saved(Image.merge("LA", (grey, Image.fromarray(alpha[..., 0]))), "PNG"),
            three(grey),
            change=opaque,
        ),
        made("clear_colour.png", saved(keyed, "PNG", transparency=hidden), keyed_truth, change=partial),
        made("transparent.png", saved(rgba(rgb, alpha * 0), "PNG"), np.full_like(rgb, 255), code="HZ-D29"),
    ]


def _modes() -> list[Specimen]:
    """Case 30."""
    rgb, soft = drawn(), smooth()
    grey = Image.fromarray(rgb).convert("L")
    table = Image.fromarray(rgb).quantize(64)
    colours = np.asarray(table.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    shown = colours[np.asarray(table)]
    clear = np.where((np.asarray(table) == 5)[..., None], 255, shown).astype(np.uint8)
    ink = Image.fromarray(np.concatenate([255 - soft, np.full_like(soft[..., :1], 40)], axis=2), mode=None)
    cmyk = Image.frombytes("CMYK", (PX, PX), np.asarray(ink).tobytes())
    printed = np.rint(soft * ((255 - 40) / 255)).astype(np.uint8)

    def made(name: str, data: bytes, truth: Pixels, **told: Any) -> Specimen:
        return Specimen(case=30, name=name, data=data, truth_HWC=truth, **told)

    return [
        made("grey.png", saved(grey, "PNG"), three(grey), change="grey"),
        made(
            "grey.jpg",
            saved(Image.fromarray(soft).convert("L"), "JPEG", quality=95),
            three(Image.fromarray(soft).convert("L")),
            tolerance=3,
            change="grey",
        ),
        made("palette.png", saved(table, "PNG"), shown, change="palette"),
        made(
            "palette_clear.png", saved(table, "PNG", transparency=5), clear, change="partial alpha on white"
        ),
        made("cmyk.tif", saved(cmyk, "TIFF"), printed, tolerance=1, change="CMYK"),
        made("cmyk.jpg", saved(cmyk, "JPEG", quality=98), printed, tolerance=4, change="CMYK"),
        made("bilevel.png", saved(grey.convert("1"), "PNG"), rgb, code="HZ-D30"),
        made("bilevel.tif", saved(grey.convert("1"), "TIFF", compression="group4"), rgb, code="HZ-D30"),
        made("profile.png", saved(rgb, "PNG", icc_profile=profile()), rgb, change="colour profile ignored"),
        made("png_inside.jpg", saved(rgb, "PNG"), rgb),
        made("jpeg_inside.tif", saved(soft, "JPEG", quality=95, subsampling=0), soft, tolerance=3),
        made("plain.png", saved(rgb, "PNG"), rgb),
    ]


def _turned() -> list[Specimen]:
    """Case 31: upright pixels with each of the seven turns that a viewer would apply to them."""
    found = []
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(smooth(), "JPEG", quality=95, exif=exif)
        found.append(
            Specimen(case=31, name=f"turned_{orientation}.jpg", data=data, truth_HWC=smooth(), code="HZ-D31")
        )
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, format in (".png", "PNG"), (".tif", "TIFF"), (".webp", "WEBP"):
        data = saved(smooth(), format, exif=exif)
        found.append(
            Specimen(case=31, name=f"turned_6{suffix}", data=data, truth_HWC=smooth(), code="HZ-D31")
        )
    return found


def _names() -> list[Specimen]:
    """Case 32: names that must survive; the two spellings of one letter are two files."""
    names = (
        "Größe \u6761 #1.png",
        "cafe\u0301.png",
        "caf\u00e9.png",
        "UPPER.PNG",
        "dots.in.TCGA-A1.01Z.name.png",
        "with, comma.png",
    )
    data = saved(drawn(), "PNG")
    return [Specimen(case=32, name=name, data=data, truth_HWC=drawn()) for name in names]


_SUFFIXES = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
