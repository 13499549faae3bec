"""The `image` column: a lazy image that is decoded strictly and may be a part of a larger file.

A part is written as a W3C media fragment behind the path, `images/a.jpg#xywh=280,0,280,280`: pixels from the left upper corner.
Importing this module imports `datasets`.
"""

from __future__ import annotations

from typing import Any

import datasets
from PIL import Image

from histozoo.data.decoding import decode
from histozoo.data.rows import FRAGMENT

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, as Pillow's crop takes them."""


class Tile(datasets.Image):  # type: ignore[misc]  # datasets is untyped
    """As `datasets.Image`, with this project's decoding and with parts of files."""

    def decode_example(self, value: dict[str, Any], token_per_repo_id: object = None) -> Image.Image:
        """Returns the tile as an RGB image; the errors are those of `decode`."""
        if value.get("bytes") is not None:
            return decode(value["bytes"])
        path, box = split_fragment(value["path"])
        image = decode(path)
        return image.crop(box) if box else image


def join_fragment(path: str, box: Box | None) -> str:
    """Returns `path`, or `path#xywh=left,top,width,height` for a part."""
    if box is None:
        return path
    left, top, right, bottom = box
    return f"{path}{FRAGMENT}{left},{top},{right - left},{bottom - top}"


def split_fragment(name: str) -> tuple[str, Box | None]:
    """Undoes `join_fragment`."""
    path, mark, numbers = name.rpartition(FRAGMENT)
    if not mark:
        return name, None
    left, top, width, height = map(int, numbers.split(","))
    return path, (left, top, left + width, top + height)
