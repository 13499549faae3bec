"""Pictures for the page: a contact sheet per class, and pairs of tiles side by side, as JPEG in data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from histozoo.audit.pool import Pool
from histozoo.audit.reading import SHOWN_PX, Read, images, small
from histozoo.errors import HistozooError

COLUMNS = 12
PAIRS = 8
_GAP, _PAPER, _QUALITY = 3, (255, 255, 255), 82


def contact_sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Returns the pictures in rows of twelve, each in a cell of 96 px, at their own shape."""
    cell = SHOWN_PX + _GAP
    columns, rows = min(COLUMNS, max(1, len(pictures))), -(-max(1, len(pictures)) // COLUMNS)
    sheet = Image.new("RGB", (columns * cell - _GAP, rows * cell - _GAP), _PAPER)
    for i, picture in enumerate(pictures):
        left, top = i % COLUMNS * cell, i // COLUMNS * cell
        sheet.paste(picture, (left + (SHOWN_PX - picture.width) // 2, top + (SHOWN_PX - picture.height) // 2))
    return sheet


def sheets(read: Read) -> dict[str, Image.Image]:
    """Returns class word -> contact sheet of the rows chosen to be shown."""
    found = {}
    for k, word in enumerate(read.rows.task.classes):
        pictures = [read.shown[row] for row in sorted(read.shown) if read.rows.labels_N[row] == k]
        if pictures:
            found[word] = contact_sheet(pictures)
    return found


def pairs_sheet(reads: Sequence[Read], pool: Pool, pairs: Sequence[Sequence[int]]) -> Image.Image | None:
    """Returns up to eight pairs of rows of the pool, evenly taken, the two tiles of each below one another; None where none opens."""
    chosen = [pairs[i * len(pairs) // min(PAIRS, len(pairs))] for i in range(min(PAIRS, len(pairs)))]
    columns = [[_picture(reads, pool, index) for index in pair] for pair in chosen]
    whole = [(a, b) for a, b in columns if a is not None and b is not None]
    if not whole:
        return None
    cell = SHOWN_PX + _GAP
    sheet = Image.new("RGB", (len(whole) * (cell + 2 * _GAP) - 3 * _GAP, 2 * cell - _GAP), _PAPER)
    for i, pair in enumerate(whole):
        for j, picture in enumerate(pair):
            sheet.paste(picture, (i * (cell + 2 * _GAP), j * cell))
    return sheet


def _picture(reads: Sequence[Read], pool: Pool, index: int) -> Image.Image | None:
    read = reads[int(pool.task_N[index])]
    row = read.drawn_N[[int(pool.row_N[index])]]
    [(_, _, image)] = list(images(read.rows, row))
    return None if isinstance(image, HistozooError) else small(image)


def data_uri(image: Image.Image) -> str:
    """Returns the picture as a JPEG inside a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
