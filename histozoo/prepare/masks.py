"""Masks: images whose numbers or colours say what each pixel is. Nothing is scaled, rounded or resized.

Legend: H rows, W columns of pixels.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo.data.decoding import MAX_PIXELS
from histozoo.errors import UsageError
from histozoo.prepare.pictures import Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

_MASKS = ("PNG", "TIFF", "BMP", "GIF", "JPEG")
_SPREAD = {"L;2": 85, "L;4": 17}  # Pillow spreads 2 and 4 bits of grey over 0..255
_ORIENTATION_TAG = 0x0112
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
    Image.DecompressionBombError,
)


def mask_image(
    source: Source,
    name: str,
    size: Size | None,
    *,
    values: Collection[int] | None = None,
    colours: Mapping[tuple[int, int, int], int] | None = None,
) -> NDArray[Any]:
    """Reads a mask as whole numbers (H, W), as they are stored: 8, 16 or 32 bits, the index of a palette, 0 and 1 where it is bilevel.

    Args:
        source: Where the mask lies.
        name: Its member name.
        size: Width and height of the picture; None where the mask decides it.
        values: The values that may be there; None where any may, as in numbered objects.
        colours: Value of each colour of a mask that is drawn in colours.

    Raises:
        UsageError: `HZ-U73`, not decodable, of another size than the picture, with a value or colour that is not known, in colours
            though none were named, with fractions, transparent, of several pages or turned by EXIF.
    """
    image, stored = _decoded_mask(source.read(name), name, size)
    if colours is not None:
        mask_HW = _by_colour(_opaque(image, name), name, colours)
    else:
        mask_HW = _by_value(image, stored, name)
    if values is not None:
        found = np.unique(mask_HW)
        if odd := [int(value) for value in found if int(value) not in values]:
            expected, got = ", ".join(map(str, sorted(values))), ", ".join(map(str, odd[:10]))
            raise malformed("a mask has values that are not known", name, expected=expected, got=got)
    return mask_HW


def _decoded_mask(data: bytes, name: str, size: Size | None) -> tuple[Image.Image, str]:
    """Returns the image, loaded, and Pillow's name of how its pixels are stored."""
    try:
        with Image.open(io.BytesIO(data), formats=_MASKS) as image:
            _check_size(image, name, size)
            stored = _stored(image)  # before anything else: asking a PNG for its EXIF decodes it
            if ";16" in stored and len(image.getbands()) > 1:  # Pillow would keep the upper byte
                raise malformed("a mask in colours has 16 bits", name, expected="8 bits", got=stored)
            _check_header(image, name)
            image.load()
            return image.copy(), stored
    except UsageError:
        raise
    except _DAMAGED as error:
        expected = f"a whole {', '.join(_MASKS)} file of at most {MAX_PIXELS:,} px"
        got = f"{len(data):,} bytes: {error or type(error).__name__}"
        raise malformed("the mask cannot be decoded", name, expected=expected, got=got) from error


def _check_size(image: Image.Image, name: str, size: Size | None) -> None:
    width, height = image.size
    if size is not None and image.size != tuple(size):
        expected, got = f"{size[0]} x {size[1]} px", f"{width} x {height} px"
        raise malformed("a mask has another size than its picture", name, expected=expected, got=got)
    if width * height > MAX_PIXELS:
        expected, got = f"at most {MAX_PIXELS:,} px", f"{width} x {height} px"
        raise malformed("a mask is too large", name, expected=expected, got=got)


def _check_header(image: Image.Image, name: str) -> None:
    if (pages := getattr(image, "n_frames", 1)) > 1:
        raise malformed("a mask has several pages", name, expected="1", got=pages)
    if (turned := image.getexif().get(_ORIENTATION_TAG, 1)) not in (0, 1):
        raise malformed("a mask is turned by EXIF", name, expected="orientation 1", got=turned)


def _stored(image: Image.Image) -> str:
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return name if isinstance(name, str) else ""


def _by_value(image: Image.Image, stored: str, name: str) -> NDArray[Any]:
    if image.mode in ("RGB", "RGBA", "LA"):
        image = _grey(image, name)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode not in ("L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"):
        raise malformed(
            "a mask does not hold whole numbers", name, expected="8, 16 or 32 bits", got=image.mode
        )
    return np.array(image) // _SPREAD.get(stored, 1)


def _grey(image: Image.Image, name: str) -> Image.Image:
    """Returns the one channel of a mask that was saved in colours."""
    channels = _opaque(image, name).split()
    if any(channel.tobytes() != channels[0].tobytes() for channel in channels):
        raise malformed(
            "a mask is in colours", name, expected="one number per pixel", got=f"mode {image.mode}"
        )
    return channels[0]


def _opaque(image: Image.Image, name: str) -> Image.Image:
    if image.mode not in ("RGBA", "LA"):
        return image
    if image.getchannel("A").getextrema()[0] != 255:
        raise malformed("a mask is transparent in places", name, expected="opaque", got=f"mode {image.mode}")
    return image.convert("RGB" if image.mode == "RGBA" else "L")


def _by_colour(image: Image.Image, name: str, colours: Mapping[tuple[int, int, int], int]) -> NDArray[Any]:
    if image.mode not in ("RGB", "P", "L", "1"):
        raise malformed("a mask is not in colours", name, expected="RGB or a palette", got=image.mode)
    rgb = np.asarray(image.convert("RGB")).astype(np.uint32)
    packed_HW = rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]
    keys = {red << 16 | green << 8 | blue: value for (red, green, blue), value in colours.items()}
    found, places = np.unique(packed_HW, return_inverse=True)
    if odd := [int(key) for key in found if int(key) not in keys]:
        got = ", ".join(f"#{key:06x}" for key in odd[:10])
        raise malformed(
            "a mask has colours that are not known",
            name,
            expected=", ".join(f"#{k:06x}" for k in keys),
            got=got,
        )
    numbers = np.array([keys[int(key)] for key in found], np.int32)
    mask_HW: NDArray[np.int32] = numbers[places.reshape(packed_HW.shape)]
    return mask_HW
