"""Which BCCD frames show the same cells: the smear was driven over there and back, so some frames come again in reverse order.

Found by cross-correlation of the white cells of all pairs of frames (peaks of 0.5 to 0.97 in mirrored order, and each looked at where it
was below 0.7); no published list is known.
"""

from __future__ import annotations

import re

from histozoo.data.rows import Cells
from histozoo.errors import UsageError

SEEN_AGAIN = {
    38: 37, 247: 244, 248: 242, 249: 242, 250: 243, 252: 237, 253: 236, 254: 233, 255: 232, 256: 231, 257: 230, 258: 229, 259: 228,
    260: 227, 261: 226, 263: 223, 264: 224, 276: 205, 277: 204, 278: 206, 391: 386, 393: 384, 395: 382, 397: 381,
}  # fmt: skip
"""Frame -> the earlier frame that shows the same white cell."""


def frame(cells: Cells) -> str:
    """Names the first frame in which the tile's surroundings were photographed."""
    match = re.fullmatch(r"BloodImage_(\d{5})", cells["group"])
    if not match:
        raise UsageError(
            "HZ-U32",
            "the group names no frame",
            where=cells["file"],
            expected="BloodImage_00000",
            got=repr(cells["group"]),
            next_step="use the table as it was made; one without frames is another dataset's",
        )
    number = int(match[1])
    return f"BloodImage_{SEEN_AGAIN.get(number, number):05d}"
