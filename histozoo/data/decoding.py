"""One file or byte string -> one RGB image, or an error that names the file. Pillow only; the same policy for training and embedding.

| what the header says | what is done |
|---|---|
| RGB | kept |
| gray, palette, CMYK, YCbCr with 8 bits | converted to RGB; an ICC profile is never applied |
| alpha or a transparent colour | opaque: dropped; partial: composited on white, as glass is; nothing visible: refused (HZ-D29) |
| 16 or 32 bits, float, spare channels, several pages | refused (HZ-D28): which range maps to 0..255 cannot be guessed |
| bilevel | refused (HZ-D30): a mask, not a tile |
| EXIF orientation other than upright | refused (HZ-D31): readers disagree on whether to turn it |
| more than MAX_PIXELS or MAX_BYTES, or a side under MIN_SIDE_PX | refused (HZ-D27) before a pixel is decoded |
| truncated, damaged, empty, text, missing, a PNG with a wrong checksum | refused (HZ-D24) |

The format is told by the bytes, never by the file's name. JPEG and WebP hold no checksum: a byte that changed in them gives other pixels
and no error, which nothing but a hash of the file can tell (a column `sha256` in a table: HZ-D25).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from PIL import Image, ImageFile, UnidentifiedImageError

from histozoo.errors import UsageError

MAX_PIXELS = 1 << 26
"""Largest image decoded: 8192 x 8192, 200 MB as RGB. Larger files are slides, which are read in parts."""

MAX_BYTES = 8 * MAX_PIXELS
"""Largest file read into memory: twice the largest tile with alpha and without compression, 537 MB."""

MIN_SIDE_PX = 8
"""Shortest side of a tile; below it is a thumbnail or a placeholder."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_CONVERTED = frozenset({"RGB", "L", "P", "CMYK", "YCbCr"})
_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
_ORIENTATION_TAG = 0x0112
_SAMPLES_TAG = 277
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_CHANGED = {"L": "grey", "P": "palette", "CMYK": "CMYK", "YCbCr": "YCbCr"}
# What Pillow raises for damaged files: OSError covers unidentified and truncated ones, the others come out of single format readers;
# a warning about corrupt tags counts where the caller has turned warnings into errors.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    Warning,
)


class Told(NamedTuple):
    """What a file was before it became RGB, to be counted.

    Args:
        format: Pillow's word for the format of the bytes, such as `JPEG`.
        change: What was done: `grey`, `palette`, `CMYK`, `YCbCr`, `opaque alpha dropped`, `partial alpha on white`; "" for RGB.
        icc: Whether it holds a colour profile, which was not applied.
    """

    format: str
    change: str
    icc: bool

    def words(self) -> tuple[str, ...]:
        """Returns what was done to the pixels and what was passed over, as reports count it; empty for plain RGB."""
        return tuple(word for word in (self.change, "colour profile ignored" if self.icc else "") if word)


def decode(source: str | Path | bytes) -> Image.Image:
    """Decodes one tile strictly; nothing is repaired, turned or rescaled.

    Args:
        source: Path of an image file, or its bytes.

    Returns:
        An image of mode RGB, 8 bits per channel, with the size that the header names.

    Raises:
        UsageError: `HZ-D24` unreadable, `HZ-D27` size, `HZ-D28` bits, channels or pages, `HZ-D29` nothing visible, `HZ-D30` bilevel,
            `HZ-D31` rotated by EXIF, `HZ-U31` another library told Pillow to pass over truncation.
    """
    return decode_told(source)[0]


def decode_told(source: str | Path | bytes) -> tuple[Image.Image, Told]:
    """Decodes as `decode` does and says what the file was; the errors are those of `decode`."""
    with _opened(source) as (image, where):
        if image.format == "PNG":
            _check_sums(image)
        _check_header(image, where)
        image.load()
        told = (image.format or "", _CHANGED.get(image.mode, ""), bool(image.info.get("icc_profile")))
        rgb, alpha = _to_rgb(image, where)
        return rgb, Told(told[0], alpha or told[1], told[2])


def size(source: str | Path | bytes) -> tuple[int, int]:
    """Returns width and height in pixels, which the header names; what `decode` refuses by its size or as no image is refused here too."""
    with _opened(source) as (image, _):
        return image.size


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[tuple[Image.Image, str]]:
    """Gives the image with its header read and its size checked, and what to call it; turns what Pillow raises into our errors."""
    where = f"{len(source):,} bytes in memory" if isinstance(source, bytes) else str(source)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(
            "HZ-U31",
            "a library has set Pillow's LOAD_TRUNCATED_IMAGES, which fills truncated tiles with grey without a word",
            where=where,
            next_step="set PIL.ImageFile.LOAD_TRUNCATED_IMAGES = False after the imports",
        )
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS
        ) as image:
            _check_size(image, where)
            yield image, where
    except UsageError:
        raise
    except _BOMBS as error:
        raise UsageError(
            "HZ-D27", "the image is too large for a tile", where=where, got=str(error)
        ) from error
    except _DAMAGED as error:
        raise _unreadable(where, _reason(source, error)) from error


def read(path: Path) -> bytes:
    """Returns the bytes of a tile's file.

    Raises:
        UsageError: `HZ-D24` missing or unreadable, `HZ-D27` more than `MAX_BYTES`.
    """
    try:
        if (size := path.stat().st_size) <= MAX_BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), _reason(path, error)) from error
    _refuse(
        "HZ-D27",
        "the file is too large for a tile",
        str(path),
        expected=f"at most {MAX_BYTES:,} bytes",
        got=f"{size:,}",
    )


def _unreadable(where: str, got: str) -> UsageError:
    return UsageError(
        "HZ-D24",
        "the tile cannot be decoded",
        where=where,
        expected=f"a whole {', '.join(_FORMATS)} file",
        got=got,
        next_step="restore the file from its origin, or take its row out of the table",
    )


def _reason(source: str | Path | bytes, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    except (OSError, ValueError) as unknown:
        return str(unknown)
    if size == 0:
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return f"{size:,} bytes that are no such image"
    return f"{error or type(error).__name__}"


def _check_size(image: Image.Image, where: str) -> None:
    """Refuses by the size alone, before a pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE_PX:
        _refuse(
            "HZ-D27",
            "the size is not that of a tile",
            where,
            expected=f"sides of at least {MIN_SIDE_PX} px and at most {MAX_PIXELS:,} px in all",
            got=f"{width} x {height} px",
        )


def _check_header(image: Image.Image, where: str) -> None:
    """Refuses by mode, depth, channels, pages and orientation."""
    if image.mode == "1":
        _refuse("HZ-D30", "a bilevel image is a mask, not a tile", where, expected="8-bit RGB", got="mode 1")
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        _refuse("HZ-D28", "the file has several pages", where, expected="1", got=pages)
    if image.mode not in _CONVERTED | _WITH_ALPHA or _is_deep(image) or _spare(image):
        _refuse(
            "HZ-D28",
            "the pixels are not 8-bit colours",
            where,
            expected="8 bits per channel; RGB, grey, palette, CMYK or with alpha",
            got=f"mode {image.mode}, stored as {_stored(image) or 'unknown'}{_span(image)}",
        )
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    if orientation not in (0, 1):
        _refuse(
            "HZ-D31",
            "the tile is rotated by its EXIF orientation, which readers treat differently",
            where,
            expected="orientation 1",
            got=f"orientation {orientation}",
        )


def _check_sums(image: Image.Image) -> None:
    """Compares the checksum of each chunk of a PNG; Pillow passes over those of the pixels."""
    file: Any = image.fp  # type: ignore[attr-defined]
    before, kind = file.tell(), b""
    file.seek(8)
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        body, told = file.read(length), file.read(4)
        if told != struct.pack(">I", zlib.crc32(kind + body)):
            raise OSError(f"the checksum of chunk {kind.decode('latin-1')!r} is wrong or missing")
    file.seek(before)


def _is_deep(image: Image.Image) -> bool:
    """Whether more than 8 bits are stored: Pillow opens 16-bit RGB as mode RGB and keeps the upper byte without a word."""
    return any(bits in _stored(image) for bits in (";12", ";16", ";32", "F;"))


def _spare(image: Image.Image) -> bool:
    """Whether a TIFF has more channels than its mode: Pillow opens five as RGB and drops two without a word."""
    samples: int = getattr(image, "tag_v2", {}).get(_SAMPLES_TAG, 1)
    return samples > len(image.getbands())


def _span(image: Image.Image) -> str:
    """Returns the range of values of a single-channel image that is refused for its depth, to tell a reader what it may be."""
    if image.mode in _CONVERTED | _WITH_ALPHA:
        return ""
    try:
        low, high = image.getextrema()
    except _DAMAGED:
        return ""
    return f", values {low} to {high}"


def _stored(image: Image.Image) -> str:
    """Returns Pillow's name of the stored layout, such as `RGB;16B`."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3]
        name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        if isinstance(name, str):
            return name
    return ""


def _to_rgb(image: Image.Image, where: str) -> tuple[Image.Image, str]:
    """Returns the image as RGB, and what was done about its alpha."""
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return image.convert("RGB") if image.mode != "RGB" else image.copy(), ""
    rgba = image.convert("RGBA")
    low, high = rgba.getchannel("A").getextrema()
    if high == 0:
        _refuse(
            "HZ-D29",
            "the tile is fully transparent",
            where,
            expected="visible pixels",
            got="alpha 0 everywhere",
        )
    if low == 255:
        return rgba.convert("RGB"), "opaque alpha dropped"
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB"), "partial alpha on white"


def _refuse(code: str, what: str, where: str, *, expected: object, got: object) -> NoReturn:
    step = "convert the file to an upright 8-bit RGB tile, or take its row out of the table"
    raise UsageError(code, what, where=where, expected=expected, got=got, next_step=step)
