"""Image files written by hand or changed on purpose, for layouts that Pillow cannot write; the same bytes on every run."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def saved(image: Image.Image | Pixels, format: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    data = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(data, format, **options)
    return data.getvalue()


def three(grey: Image.Image) -> Pixels:
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def lossy(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def length(png: bytes) -> int:
    """Offset from a chunk's length field to its checksum."""
    start = png.index(b"IDAT") - 4
    return 8 + int(struct.unpack(">I", png[start : start + 4])[0]) + 1


def silently_changed(data: bytes) -> bytes:
    """The first one-byte change from the middle on that Pillow reads without a word, to other pixels."""
    whole = lossy(data)
    for at in range(len(data) // 2, len(data)):
        found = flip(data, at)
        try:
            if (lossy(found) != whole).any():
                return found
        except (OSError, SyntaxError):
            continue
    raise AssertionError("every change was noticed")


def png(filtered: bytes, width: int, height: int, *, depth: int, colour: int) -> bytes:
    """A PNG written by hand, for layouts that Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(filtered, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(samples_HWS: Pixels) -> bytes:
    """An uncompressed TIFF with more channels than red, green and blue, none of them alpha."""
    height, width, samples = samples_HWS.shape
    data = samples_HWS.tobytes()
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8] * samples),
        259: (3, [1]),
        262: (3, [2]),
        273: (4, [0]),
        277: (3, [samples]),
        278: (4, [height]),
        279: (4, [len(data)]),
        284: (3, [1]),
        338: (3, [0] * (samples - 3)),
    }
    start = 8 + 2 + 12 * len(tags) + 4
    far = struct.pack(f"<{samples}H", *[8] * samples)
    tags[273] = (4, [start + len(far)])
    entries = b""
    for tag, (kind, values) in tags.items():
        packed = struct.pack("<" + ("H" if kind == 3 else "I") * len(values), *values)
        field = struct.pack("<I", start) if len(packed) > 4 else packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, len(values)) + field
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + far + data


def profile() -> bytes:
    """A colour profile of another space than RGB: applying it would change every pixel."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
