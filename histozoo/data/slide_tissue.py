"""Where the tissue of a slide lies, how large its pixels are, and what tells it apart from others: worked out once and kept.

Shapes: H W cells of the mask, rows and columns; K cells that may be drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histozoo.data import kept
from histozoo.errors import UsageError
from histozoo.integrity import identity
from histozoo.prepare.slides import SlideCanvas, tissue_area

_RULE = "tissue of a slide, Otsu on saturation, 1"


@dataclass(frozen=True, kw_only=True)
class Slide:
    """A slide as drawing needs it.

    Args:
        path: Its file.
        name: What errors and the fingerprint call it.
        size: Width and height of level 0 in pixels.
        mpp: Micrometres per pixel of level 0, across and down; None where the file does not say.
        power: Objective's power as the file states it, "" where it does not.
        bits: The mask, True where there is tissue, packed by rows.
        shape: Height and width of the mask in cells.
        scale: Pixels of level 0 per cell.
        quickhash: OpenSlide's hash of the coarsest level and the properties, "" where it has none.
    """

    path: Path
    name: str
    size: tuple[int, int]
    mpp: tuple[float, float] | None
    power: str
    bits: NDArray[np.uint8]
    shape: tuple[int, int]
    scale: float
    quickhash: str

    @property
    def mask_HW(self) -> NDArray[np.bool_]:
        """The mask."""
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.bits, count=count).reshape(self.shape).astype(bool)

    @property
    def fingerprint(self) -> str:
        """sha256 over name, size, resolution, quickhash and tissue: tells slides apart without reading them whole.

        A slide that is changed elsewhere, its size kept, looks the same until it is read there.
        """
        told = (self.name, self.size, self.mpp, self.quickhash, self.shape, self.bits.tobytes())
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def cells(self, side: float, least_tissue: float) -> NDArray[np.int32]:
        """Returns the tissue cells around which a tile may be drawn, `[K]`, as row * W + column.

        Args:
            side: Side of the tile in pixels of level 0.
            least_tissue: Least share of tissue in the tile around the cell, 0 to 1, counted in whole cells.
        """
        mask_HW = self.mask_HW
        if least_tissue > 0:
            sums_HW = np.pad(mask_HW.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
            (y0, y1), (x0, x1) = (_around(n, side / self.scale) for n in self.shape)
            count_HW = sums_HW[np.ix_(y1, x1)] - sums_HW[np.ix_(y0, x1)]
            count_HW += sums_HW[np.ix_(y0, x0)] - sums_HW[np.ix_(y1, x0)]
            mask_HW &= count_HW >= least_tissue * np.outer(y1 - y0, x1 - x0)
        return np.flatnonzero(mask_HW).astype(np.int32)


def scan_slide(path: Path, name: str, cache: str | Path | None) -> Slide:
    """Returns what drawing needs of a slide; from `cache` where the file is still the one that was looked at.

    Args:
        path: File of the slide, with what belongs to it beside it.
        name: What errors and the fingerprint call it.
        cache: Where masks are kept; tissue is looked for each time where it is None.

    Raises:
        UsageError: `HZ-D24`, OpenSlide does not read it, or it is damaged; `HZ-U76`, openslide is not installed.
        ResourceError: `HZ-F42`, the mask cannot be written.
    """
    where = None if cache is None else kept.place(path, cache, _RULE)
    try:
        before = identity(path)
        known = kept.recall(where, path) if where else None
    except OSError as error:
        got = error.strerror or str(error)
        raise UsageError("HZ-D24", "the slide cannot be read", where=path, got=got) from error
    if known and known.current:
        found = known.arrays
    else:
        found = _look(SlideCanvas(path))
        if where:
            kept.remember(where, found, before)
    across, down = found["mpp"].tolist()
    width, height = found["size"].tolist()
    rows, columns = found["shape"].tolist()
    return Slide(
        path=path,
        name=name,
        size=(width, height),
        mpp=(across, down) if across else None,
        power=str(found["power"]),
        bits=found["bits"],
        shape=(rows, columns),
        scale=float(found["scale"]),
        quickhash=str(found["quickhash"]),
    )


def _look(canvas: SlideCanvas) -> dict[str, NDArray[np.generic]]:
    area = tissue_area(canvas)
    return {
        "bits": np.packbits(area.mask_HW),
        "shape": np.array(area.mask_HW.shape),
        "scale": np.array(area.scale),
        "size": np.array(canvas.size),
        "mpp": np.array(canvas.mpp() or (0.0, 0.0)),
        "power": np.array(canvas.told("openslide.objective-power")),
        "quickhash": np.array(canvas.told("openslide.quickhash-1")),
    }


def _around(cells: int, side: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns first and last-but-one cell of a tile around each cell, moved inside where it would leave the slide."""
    wide = min(cells, max(1, round(side)))
    first = np.clip(np.rint(np.arange(cells) + 0.5 - wide / 2).astype(np.int64), 0, cells - wide)
    return first, first + wide
