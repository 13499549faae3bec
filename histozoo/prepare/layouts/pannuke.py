"""PanNuke: three folds of NumPy arrays, `Fold <n>/images/fold<n>/{images,types}.npy` and `Fold <n>/masks/fold<n>/masks.npy`.

    images.npy   float64 [N, 256, 256, 3], whole numbers 0 to 255
    types.npy    [N], words such as Breast or Bile-duct
    masks.npy    float64 [N, 256, 256, 6], instance numbers; neoplastic, inflammatory, connective, dead, epithelial, background

Folders and channels as in the README inside the archives (found in several public copies) and in the loader of constantinpape/torch-em; the
words of the tissues as in the dataset file of TIO-IKIM/CellViT. Fold 1 has 2,656, fold 2 has 2,523 and fold 3 has 2,722 tiles. The official
protocol rotates the folds; its first round is taken here: fold 1 train, fold 2 validation, fold 3 test. Nothing names patients or slides,
so each tile is a group of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histozoo.prepare.areas import MaskArea
from histozoo.prepare.layouts.each import each
from histozoo.prepare.layouts.reading import known
from histozoo.prepare.pictures import Canvas, Layout, Marks, Picture, Size
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

TISSUES = (
    "Adrenal_gland",
    "Bile-duct",
    "Bladder",
    "Breast",
    "Cervix",
    "Colon",
    "Esophagus",
    "HeadNeck",
    "Kidney",
    "Liver",
    "Lung",
    "Ovarian",
    "Pancreatic",
    "Prostate",
    "Skin",
    "Stomach",
    "Testis",
    "Thyroid",
    "Uterus",
)
NUCLEI = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
"""Area word of each channel of the masks; the sixth is the background."""
CHANNELS = 6
SPLITS = {1: "train", 2: "val", 3: "test"}
"""Split of each fold."""


def tissue_pictures(source: Source) -> list[Picture]:
    """Lists the tiles of the three folds with their tissue; `member#row` names them.

    Raises:
        UsageError: `HZ-U73`, an array is missing or malformed, arrays differ in length, or a tissue is none of the nineteen.
    """
    return [tile for fold in SPLITS for tile in _fold(source, fold, "")]


def nuclei_pictures(source: Source) -> list[Picture]:
    """Lists the same tiles together with the array of their masks.

    Raises:
        UsageError: `HZ-U73`, an array is missing or malformed, arrays differ in length, or a tissue is none of the nineteen.
    """
    return [
        tile for fold in SPLITS for tile in _fold(source, fold, source.one(f"masks/fold{fold}/masks.npy"))
    ]


def _fold(source: Source, fold: int, masks: str) -> list[Picture]:
    images, types = (source.one(f"images/fold{fold}/{part}.npy") for part in ("images", "types"))
    words, n = [str(word) for word in _array(source, types).reshape(-1)], len(_array(source, images))
    for name, rows in ((types, len(words)), *([(masks, len(_array(source, masks)))] if masks else [])):
        if rows != n:
            raise malformed(
                "the arrays of a fold differ in length", name, expected=f"{n:,} rows", got=f"{rows:,}"
            )

    def tile(row: int) -> Picture:
        label = known(words[row], TISSUES, f"{types}, row {row}")
        group, split = f"fold{fold}-{row:04d}", SPLITS[fold]
        return Picture(name=f"{images}#{row}", group=group, label=label, split=split, marks=masks)

    return each(source, range(n), tile, name=lambda row: f"{images}#{row}")


def nuclei_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Reads the area of each kind of nucleus.

    Raises:
        UsageError: `HZ-U73`, the masks are malformed or of another size.
    """
    masks = _array(source, picture.marks)
    if masks.ndim != 4 or masks.shape[1:] != (size[1], size[0], CHANNELS):
        expected = f"[N, {size[1]}, {size[0]}, {CHANNELS}]"
        raise malformed("the masks are of another size", picture.marks, expected=expected, got=masks.shape)
    mask_HWK = np.asarray(masks[int(picture.name.rpartition("#")[2])])
    areas = {word: MaskArea(mask_HWK[..., channel] > 0) for channel, word in enumerate(NUCLEI)}
    return Marks(label=picture.label, areas=dict(areas))


def open_row(source: Source, picture: Picture) -> Canvas:
    """Opens one row of the array of tiles."""
    from histozoo.prepare.canvases import ArrayRow

    return ArrayRow.read(source, picture.name)


def _array(source: Source, name: str) -> NDArray[np.generic]:
    """Opens an array without reading it all."""
    try:
        array: NDArray[np.generic] = np.load(source.path(name), mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise malformed("an array cannot be read", name, expected="a NumPy array", got=str(error)) from error
    return array


TISSUE_LAYOUT = Layout(pictures=tissue_pictures, open=open_row)
NUCLEI_LAYOUT = Layout(pictures=nuclei_pictures, marks=nuclei_marks, open=open_row)
