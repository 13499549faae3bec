"""One tile's file -> the pixels a model is given and what was done to it, or the reason why its row is rejected.

The edge policy says what becomes of a tile whose shorter side is under a quarter of the model's: enlarged more than fourfold it would show
the model nothing but blur, or tissue at another scale. `reject` refuses it (HZ-D27); `pad-white` puts it at the left upper corner of a
white tile of the model's size, as glass lies beyond the edge of a slide. Other tiles are resized as the contract says; those that it
enlarges, and those that are not square, are counted, and a note says so of the former.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args

from histozoo.errors import UsageError
from histozoo.integrity import differing
from histozoo.tile_lists import TileList, leads_out, printable

if TYPE_CHECKING:
    from PIL import Image

    from histozoo.registry import Contract

Edge = Literal["reject", "pad-white"]
LARGEST_ENLARGEMENT = 4
"""Times a tile's shorter side may be enlarged to the model's."""

ENLARGED = "enlarged"
"""Word under which reports count tiles whose shorter side is under the model's."""

NOT_SQUARE = {
    "shorter_side": "not square: the centre kept",
    "squash": "not square: squashed",
    "longest_side": "not square: put on a border",
}
"""Rule of a contract for resizing -> word under which reports count tiles whose sides differ."""

POLICY = {
    "alpha": "opaque: dropped; partial: on white; nothing visible: rejected",
    "exif": "rotated tiles rejected",
    "icc": "ignored",
    "smaller than the model's tile": "enlarged and counted; under a quarter of its side: as edge says",
    "not square": "as the contract's resize says, and counted",
}
"""Written into every report; `histozoo.data.decoding` is where it is done."""

_SUFFIX = {"PNG": ".png", "JPEG": ".jp", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}
_EARLIER = "rows of an earlier run, not counted again"


class TileReader:
    """Reads the tiles of one list for one model.

    Args:
        tiles: Where they are, and their hashes where a table gives them.
        transform: RGB image -> pixels CHW.
        contract: Says the side of the model's tiles in pixels, and what becomes of tiles that are not square.
        edge: The edge policy.

    Raises:
        UsageError: `HZ-U62`, no such edge policy.
    """

    def __init__(
        self,
        tiles: TileList,
        transform: Callable[[Image.Image], Any],
        *,
        contract: Contract,
        edge: Edge,
    ) -> None:
        if edge not in get_args(Edge):
            raise UsageError(
                "HZ-U62", "there is no such edge policy", expected=" or ".join(get_args(Edge)), got=repr(edge)
            )
        self.tiles, self.transform, self.edge = tiles, transform, edge
        self.tile_px, self.not_square = contract.tile_px, NOT_SQUARE[contract.resize]

    def file(self, name: str) -> tuple[bytes, str]:
        """Returns a tile's bytes and their sha256.

        Raises:
            UsageError: `HZ-D24` unreadable, `HZ-D25` not the file whose hash the table gives, `HZ-D27` too large, `HZ-D32` a name that
                is not UTF-8, `HZ-U33` a name that leads out of the folder.
        """
        from histozoo.data import decoding

        if printable(name) != name:
            raise UsageError("HZ-D32", "the file's name is not UTF-8, so no table can hold it")
        if leads_out(self.tiles.root, name):
            raise UsageError("HZ-U33", "the name leads out of the folder")
        data = decoding.read(self.tiles.root / name)
        sha256 = hashlib.sha256(data).hexdigest()
        told = self.tiles.sha256.get(name, sha256).strip().lower()
        if told != sha256:
            wanted, got = differing(told, sha256)
            raise UsageError(
                "HZ-D25",
                "the file is not the one whose hash the table gives",
                expected=f"sha256 {wanted}",
                got=f"sha256 {got}",
            )
        return data, sha256

    def pixels(self, name: str, data: bytes) -> tuple[Any, tuple[str, ...]]:
        """Returns a tile's pixels CHW and, in words, what was done to it.

        Raises:
            UsageError: `HZ-D24` to `HZ-D31` of `decoding.decode`; `HZ-D27` also for the edge policy.
        """
        from histozoo.data import decoding

        image, told = decoding.decode_told(data)
        image, resized = self._sized(image)
        misnamed = "" if _SUFFIX[told.format] in PurePath(name).suffix.lower() else "named as another format"
        shaped = "" if image.width == image.height else self.not_square
        return self.transform(image), (*told.words(), *(word for word in (misnamed, resized, shaped) if word))

    def _sized(self, image: Image.Image) -> tuple[Image.Image, str]:
        side = min(image.size)
        if side >= self.tile_px:
            return image, ""
        if side * LARGEST_ENLARGEMENT >= self.tile_px:
            return image, ENLARGED
        if self.edge == "pad-white":
            return _padded(image, self.tile_px), "padded with white"
        raise UsageError(
            "HZ-D27",
            "the tile is too small for the model",
            expected=f"a shorter side of at least {-(-self.tile_px // LARGEST_ENLARGEMENT)} px",
            got=f"{image.width} x {image.height} px",
        )


def counted(
    done: Iterable[tuple[str, ...]], earlier: dict[str, int], *, n_reused: int, whole: bool
) -> dict[str, int]:
    """Returns how many tiles each thing was done to.

    Args:
        done: What was done to each tile of this run.
        earlier: The counts that an earlier report gives.
        n_reused: Rows that this run took over.
        whole: Whether they are all the rows that the earlier report counted.
    """
    counts = Counter(word for words in done for word in words)
    if n_reused:
        counts.update(earlier if whole else {_EARLIER: n_reused})
    return dict(sorted(counts.items()))


def _padded(image: Image.Image, px: int) -> Image.Image:
    from PIL import Image as Pillow

    white = Pillow.new("RGB", (max(px, image.width), max(px, image.height)), (255, 255, 255))
    white.paste(image, (0, 0))
    return white
