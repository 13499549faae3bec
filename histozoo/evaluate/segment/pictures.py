"""Pictures with masks that number their objects, kept together with their groups from the table on.

Shapes: N pictures, H W pixels (each picture its own), C channels (RGB).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data.decoding import decode
from histozoo.data.listing import check_paths
from histozoo.data.rows import Cells, Row, malformed, read_rows
from histozoo.errors import UsageError
from histozoo.evaluate.segment.metrics import check_masks

_NAMES = ("picture", "mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Pictures of one set; entries of all fields belong together.

    Args:
        name: Name of the set.
        lineage: Sets that share slides or patients share it.
        files: Name of each picture.
        images: uint8 RGB `[H, W, 3]` each.
        masks: Whole numbers `[H, W]` each: 0 background, every other number one object.
        groups_N: The unit never divided between training and scoring.

    Raises:
        UsageError: `HZ-I64` pictures, masks and groups differ in number; `HZ-I69` a mask is not of its picture's size, or numbers no
            objects.
    """

    name: str
    lineage: str
    files: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    masks: tuple[NDArray[Any], ...]
    groups_N: NDArray[Any]

    def __post_init__(self) -> None:
        counts = len(self.files), len(self.images), len(self.masks), len(self.groups_N)
        if len(set(counts)) > 1 or not counts[0]:
            raise UsageError(
                "HZ-I64",
                "pictures, masks and groups are not of the same rows",
                where=self.name,
                expected="one picture or more, each with name, mask and group",
                got="{} names, {} pictures, {} masks, {} groups".format(*counts),
            )
        for file, image, mask in zip(self.files, self.images, self.masks, strict=True):
            check_masks(image[..., 0], mask, where=f"{self.name}, {file}", names=_NAMES)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def fingerprint(self) -> str:
        """The sha256 (64 hex digits) of names, groups, pixels and masks, in their order."""
        digest = hashlib.sha256()
        for file, group, image, mask in zip(self.files, self.groups_N, self.images, self.masks, strict=True):
            parts = [hashlib.sha256(part).hexdigest() for part in (_bytes(image), _bytes(mask))]
            digest.update(repr((file, str(group), image.shape, *parts)).encode() + b"\n")
        return digest.hexdigest()

    @property
    def digests(self) -> list[str]:
        """The sha256 of each picture's pixels: equal pictures have equal ones, whatever their names."""
        return [
            hashlib.sha256(repr(i.shape).encode() + bytes(np.ascontiguousarray(i).data)).hexdigest()
            for i in self.images
        ]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Pictures:
        """Returns the pictures of these rows, in this order."""
        chosen = [int(row) for row in rows]
        return Pictures(
            name=self.name,
            lineage=self.lineage,
            files=tuple(self.files[r] for r in chosen),
            images=tuple(self.images[r] for r in chosen),
            masks=tuple(self.masks[r] for r in chosen),
            groups_N=self.groups_N[chosen],
        )


def _bytes(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype=np.int64 if array.dtype != np.uint8 else np.uint8).tobytes()


@dataclass(frozen=True, kw_only=True)
class MaskedSet:
    """How the table of one set is to be read.

    Args:
        folder: Folder below the data root; holds `labels.csv` with the columns `file`, `label` and `mask`.
        lineage: Sets that share slides or patients share it.
        objects: What the masks show.
        value: None where a mask numbers its objects; else the value whose connected areas are the objects.
        group: The column that names the group, or a rule where the table does not know one.
    """

    folder: str
    lineage: str
    objects: str
    value: int | None = None
    group: str | Callable[[Cells], str] = "group"


def each_picture(cells: Cells) -> str:
    """Returns the picture's name: every picture is a group, where slides and patients are not known. Intervals are then too narrow."""
    return cells["file"]


def zheng_blocks(cells: Cells) -> str:
    """Returns blocks of ten consecutive numbers within a source, as the task `wbc_zheng` groups them."""
    from histozoo.tasks.base import blocks

    return blocks(r"(d[12])_(\d+)\.\w+$", 10)(cells)


SETS: dict[str, MaskedSet] = {
    "glas": MaskedSet(folder="glas", lineage="glas", objects="gland"),
    "dsb2018_stained": MaskedSet(
        folder="dsb2018_stained", lineage="dsb2018", objects="nucleus", group=each_picture
    ),
    "nuclei_tcga_lgg36": MaskedSet(folder="nuclei_tcga_lgg36", lineage="tcga", objects="nucleus"),
    "wbc_zheng": MaskedSet(
        folder="wbc_zheng", lineage="wbc_zheng", objects="nucleus", value=2, group=zheng_blocks
    ),
}
"""Sets with masks that are known by name."""


def read(
    name: str, *, data_root: str | Path | None, shrink: int = 1, declared: MaskedSet | None = None
) -> Pictures:
    """Reads a set of pictures with masks.

    Args:
        name: A key of `SETS`, or any name where `declared` is given.
        data_root: Folder of the sets' folders; `$HISTOZOO_DATA` where it is None.
        shrink: Each picture is reduced by this whole factor: the mean of every `shrink` x `shrink` block of pixels, and the value in the
            middle of the mask's block; a rest at the right and lower edge is left out. Scores are then of the reduced size.
        declared: How to read a set that is not in `SETS`.

    Raises:
        UsageError: `HZ-U30` unknown name, `HZ-U37` no such data, `HZ-U32`, `HZ-U33` a malformed table or a name that leads out, `HZ-U73` a
            mask that cannot be read, `HZ-I69` a mask of another size than its picture, and what `decode` raises.
    """
    from histozoo.tasks.base import data_folder

    known = declared or _known(name)
    folder = data_folder(data_root) / known.folder
    path = folder / "labels.csv"
    if not path.is_file():
        raise UsageError("HZ-U37", f"the data of {name!r} is not there", where=path, expected="labels.csv")
    rows = read_rows(path, known.group)
    check_paths(path, rows)
    check_paths(path, [Row(r.line, _mask_of(path, r), "", "", {}) for r in rows])
    images, masks = zip(*_decoded(folder, rows, known, shrink), strict=True)
    return Pictures(
        name=name,
        lineage=known.lineage,
        files=tuple(row.file for row in rows),
        images=images,
        masks=masks,
        groups_N=np.array([row.group for row in rows]),
    )


def _known(name: str) -> MaskedSet:
    if name not in SETS:
        raise UsageError(
            "HZ-U30", "there is no such set of masks", expected=f"one of {', '.join(SETS)}", got=repr(name)
        )
    return SETS[name]


def _mask_of(path: Path, row: Row) -> str:
    mask = row.cells.get("mask", "")
    if not mask:
        raise malformed(
            "the mask is blank or has no column",
            f"{path}, line {row.line}",
            expected="a column mask",
            got="''",
        )
    return mask


def _decoded(
    folder: Path, rows: Sequence[Row], known: MaskedSet, shrink: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[Any]]]:
    import tempfile

    from histozoo.prepare.masks import mask_image
    from histozoo.prepare.sources import open_source

    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(folder, scratch=Path(scratch))
        for row in rows:
            image = np.asarray(decode(folder / row.file), dtype=np.uint8)
            mask = mask_image(source, row.cells["mask"], None)
            where = f"{known.folder}, {row.file}, {row.cells['mask']}"
            check_masks(image[..., 0], mask, where=where, names=_NAMES)
            if known.value is not None:
                mask = connected(mask == known.value)
            yield shrunk(image, mask, shrink)


def connected(mask_HW: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Returns a mask that numbers the connected areas (side by side or corner to corner) from 1."""
    from scipy.ndimage import label  # type: ignore[import-untyped]

    areas_HW: NDArray[np.int32] = label(mask_HW, structure=np.ones((3, 3)))[0]
    return areas_HW


def shrunk(
    image: NDArray[np.uint8], mask_HW: NDArray[Any], factor: int
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Returns picture and mask reduced by a whole factor, see `read`."""
    height, width = (side // factor * factor for side in mask_HW.shape)
    if factor == 1:
        return image, mask_HW
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    means = np.rint(blocks.mean((1, 3))).astype(np.uint8)
    return means, mask_HW[factor // 2 : height : factor, factor // 2 : width : factor].copy()
