"""Tiles as the training side uses them: read from tables (tables.py), decoded strictly (decoding.py), packed into one array (here).

Shapes: N tiles, H W pixels, C channels (RGB).
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo import durable
from histozoo.data.decoding import decode, decode_told
from histozoo.data.tables import read_folder, read_table
from histozoo.errors import IntegrityError, UsageError, all_of

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["decode", "fingerprint", "fit", "pack", "read_folder", "read_table"]

_log = logging.getLogger(__name__)
LARGEST_ENLARGEMENT = 4
"""How much smaller than the tile an image may be without being counted; `embed` refuses beyond it."""
_ENLARGED = "enlarged more than fourfold"
_RULE = "shorter side to px, bicubic with antialiasing, centre crop, uint8"


def pack(dataset: Dataset, px: int, cache: str | Path, *, known_as: str | None = None) -> NDArray[np.uint8]:
    """Decodes every tile once into one memory-mapped array, kept in `cache` under the data's fingerprint and `px`.

    How many files were no plain RGB is logged, by what was done to them, and so is how many tiles are enlarged more than fourfold.

    Args:
        dataset: Rows with `image`, `label`, `group` and `file`.
        px: Side of the packed tiles in pixels.
        cache: Folder of packed arrays; made when absent.
        known_as: The data's fingerprint, where the caller has it; it takes reading every file.

    Returns:
        uint8 RGB `[N, px, px, 3]`, read-only, in the order of the rows.

    Raises:
        UsageError: The code of the first tile that cannot be decoded (`HZ-D24` to `HZ-D31`), with the number of such tiles and the first
            five; nothing is left in the cache then.
        IntegrityError: `HZ-U34`, the packed file is not what its name says.
        ResourceError: `HZ-F42`, the disk is full.
    """
    key = hashlib.sha256(f"{known_as or fingerprint(dataset)} {px} {_RULE}".encode()).hexdigest()
    path = Path(cache) / f"{key[:32]}-{px}.npy"
    shape = (len(dataset), px, px, 3)
    if not path.exists():
        durable.remove_stale(path.parent)
        durable.write_with(path, lambda temporary: _write(dataset, px, temporary), needed=int(np.prod(shape)))
    try:
        tiles_NHWC: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if tiles_NHWC.shape != shape or tiles_NHWC.dtype != np.uint8:
        raise _damaged(path, f"{tiles_NHWC.dtype} {tiles_NHWC.shape}")
    return tiles_NHWC


def fingerprint(dataset: Dataset) -> str:
    """Returns the sha256 (64 hex digits) over each row's file name, label word, group and the sha256 of its file's bytes, in row order."""
    names, digest = dataset.features["label"].names, hashlib.sha256()
    columns = dataset.with_format("arrow")[:]
    hashes: dict[str, str] = {}
    for stored, label, group, file in zip(
        *(columns[c].to_pylist() for c in ("image", "label", "group", "file")), strict=True
    ):
        if stored["bytes"] is not None:
            content = hashlib.sha256(stored["bytes"]).hexdigest()
        else:
            path = _path(stored["path"])
            content = hashes.get(path) or hashes.setdefault(path, _sha256(path))
        # Repr keeps a separator inside a name apart from one between fields.
        digest.update(repr((file, names[label], group, content)).encode() + b"\n")
    return digest.hexdigest()


def fit(image: Image.Image, px: int) -> NDArray[np.uint8]:
    """Returns the image as uint8 `[px, px, 3]`: shorter side resized to `px`, bicubic with antialiasing, then the centre."""
    width, height = image.size
    scale = px / min(width, height)
    width, height = max(px, round(width * scale)), max(px, round(height * scale))
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - px) // 2, (height - px) // 2
    return np.asarray(image.crop((left, top, left + px, top + px)), dtype=np.uint8)


def _write(dataset: Dataset, px: int, path: Path) -> None:
    tiles_NHWC = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(dataset), px, px, 3))
    refused: list[UsageError] = []
    treated: Counter[str] = Counter()
    for row, image in _images(dataset, refused, treated):
        treated[_ENLARGED] += min(image.size) * LARGEST_ENLARGEMENT < px
        tiles_NHWC[row] = fit(image, px)
    tiles_NHWC.flush()
    if told := ", ".join(f"{word} {n:,}" for word, n in sorted(treated.items()) if n):
        _log.warning("%d tiles packed, of them: %s", len(dataset), told)
    if refused:
        raise all_of(refused, kept="nothing was packed") from refused[0]


def _images(
    dataset: Dataset, refused: list[UsageError], treated: Counter[str]
) -> Iterator[tuple[int, Image.Image]]:
    """Yields row and tile; an image that was cut into consecutive rows is decoded once.

    Puts what cannot be decoded into `refused`, and what was done to files into `treated`.
    """
    from histozoo.data.feature import split_fragment

    stored = dataset.with_format("arrow")[:]["image"].to_pylist()
    for _, rows in groupby(
        enumerate(stored), key=lambda r: _path(r[1]["path"]) if r[1]["bytes"] is None else r[0]
    ):
        for n, (row, value) in enumerate(rows):
            path, box = split_fragment(value["path"]) if value["bytes"] is None else ("", None)
            if n == 0:
                try:
                    whole, told = decode_told(path or value["bytes"])
                except UsageError as error:
                    refused.append(error)
                    break
                treated.update(told.words())
            yield row, whole.crop(box) if box else whole


def _path(name: str) -> str:
    from histozoo.data.feature import split_fragment

    return split_fragment(name)[0]


def _sha256(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            "HZ-D24", "the tile cannot be read", where=path, got=error.strerror or str(error)
        ) from error


def _damaged(path: Path, got: str) -> IntegrityError:
    return IntegrityError(
        "HZ-U34",
        "the packed tiles are not what their name says",
        where=path,
        got=got,
        next_step="delete the file; it is packed again from the tiles",
    )
