"""Opened pictures from which boxes are cut: an image file, a row of an array, a whole slide (`slides`, re-exported here).

What is a picture and what is refused decides `histozoo.data.decoding`, for arrays as for files.

Legend: H rows, W columns of pixels, C colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo.data import decoding
from histozoo.errors import UsageError
from histozoo.prepare.optional import hdf5
from histozoo.prepare.pictures import Box, Size
from histozoo.prepare.slides import SlideCanvas, TissueArea, inside, tissue_area
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

__all__ = ["ArrayRow", "Decoded", "SlideCanvas", "TissueArea", "as_image", "tissue_area"]


class Decoded:
    """A picture that was decoded whole.

    Args:
        image: Mode RGB.
        name: What errors call it.
        treated: What was done to the file to make it RGB, in the words of `Told.words`.
    """

    def __init__(
        self, image: Image.Image, name: str = "the picture", *, treated: tuple[str, ...] = ()
    ) -> None:
        self._image, self._name, self.treated = image, name, treated
        self.size: Size = image.size

    @classmethod
    def read(cls, source: Source, name: str) -> Decoded:
        """Decodes an image file of the source strictly, by the policy of `histozoo.data.decoding`.

        Raises:
            UsageError: `HZ-D24` to `HZ-D31` as `decoding.decode` says, naming the source and the file; `HZ-U73`, there is no such file.
            IntegrityError: `HZ-U74`, `HZ-U75`, the archive is damaged there.
            ResourceError: `HZ-U74`, the archive cannot be opened.
        """
        where = f"{source.where}, {name}"
        if (size := source.size(name)) > decoding.MAX_BYTES:
            raise _size_error(where, f"at most {decoding.MAX_BYTES:,} bytes", f"{size:,} bytes")
        image, told = _decode(_bytes(source, name, where), where)
        return cls(image, where, treated=told.words())

    def crop(self, box: Box) -> Image.Image:
        """Returns the box as an RGB image.

        Raises:
            UsageError: `HZ-D27`, the box is empty or leaves the picture.
        """
        return self._image.crop(inside(box, self.size, self._name))


def _bytes(source: Source, name: str, where: str) -> bytes:
    try:
        return source.read(name)
    except UsageError as error:
        if name not in source:
            raise
        step = "restore the file from its origin"
        raise UsageError(
            "HZ-D24", "the tile cannot be decoded", where=where, got=error.got, next_step=step
        ) from error


def _decode(data: bytes, where: str) -> tuple[Image.Image, decoding.Told]:
    try:
        return decoding.decode_told(data)
    except UsageError as error:
        raise UsageError(
            error.code,
            error.what,
            where=where,
            expected=error.expected,
            got=error.got,
            kept=error.kept,
            next_step=error.next_step,
        ) from error


class ArrayRow(Decoded):
    """One picture of an array that holds many."""

    @classmethod
    def read(cls, source: Source, name: str, *, dataset: str = "") -> ArrayRow:
        """Reads one row of an array of pictures, without the others.

        Args:
            source: Where the array lies.
            name: `member#row`; the member is a .npy file or, where `dataset` is named, an HDF5 file. Rows are [H, W], [H, W, 1] for grey
                or [H, W, 3]; numbers of any type that are whole and within 0..255.
            dataset: Path of the array inside an HDF5 file.

        Raises:
            UsageError: `HZ-U73`, no such member, row or dataset, or the file is damaged; `HZ-D28`, the row does not hold 8-bit colours;
                `HZ-U76`, h5py is not installed.
            IntegrityError: `HZ-U74`, `HZ-U75`, the archive is damaged there.
        """
        member, _, row = name.rpartition("#")
        if not (member and row.isascii() and row.isdigit()):
            raise malformed("this names no row of an array", name, expected="member#row", got=name)
        row_HWC = _row(source, member, int(row), dataset)
        image = as_image(row_HWC, name)
        return cls(image, name, treated=("grey",) if _is_grey(row_HWC) else ())


def _row(source: Source, member: str, row: int, dataset: str) -> NDArray[Any]:
    path = source.path(member)
    expected = f"an HDF5 file with a dataset {dataset}" if dataset else "a whole .npy file of numbers"
    try:
        if dataset:
            with hdf5(path) as file:
                return _taken(file[dataset], row, member)
        return _taken(np.load(path, mmap_mode="r", allow_pickle=False), row, member)
    except (OSError, KeyError, ValueError, EOFError, TypeError, RuntimeError) as error:
        if isinstance(error, UsageError):
            raise
        raise malformed("the array cannot be read", member, expected=expected, got=str(error)) from error


def _taken(array: Any, row: int, member: str) -> NDArray[Any]:
    if not hasattr(array, "shape") or len(array.shape) < 3 or row >= array.shape[0]:
        got = f"shape {getattr(array, 'shape', None)}"
        raise malformed(
            "the array has no such picture", member, expected=f"pictures, row {row} among them", got=got
        )
    return np.asarray(array[row])


def as_image(row_HWC: NDArray[Any], where: str) -> Image.Image:
    """Returns an array of pixels as an RGB image, unchanged in value.

    Args:
        row_HWC: [H, W], [H, W, 1] or [H, W, 3], of any type, whole numbers within 0..255.
        where: What errors call it.

    Raises:
        UsageError: `HZ-D28`, another shape, fractions, numbers that are not finite or out of range: which of them is white is unknown;
            `HZ-D27`, too small or too large for a tile.
    """
    if not _is_grey(row_HWC) and not (row_HWC.ndim == 3 and row_HWC.shape[2] == 3):
        raise _deep(where, f"shape {row_HWC.shape}")
    height, width = row_HWC.shape[:2]
    if height * width > decoding.MAX_PIXELS or min(height, width) < decoding.MIN_SIDE_PX:
        expected = (
            f"sides of at least {decoding.MIN_SIDE_PX} px and at most {decoding.MAX_PIXELS:,} px in all"
        )
        got = f"{width} x {height} px"
        raise UsageError("HZ-D27", "the size is not that of a tile", where=where, expected=expected, got=got)
    pixels = _bytes_of(row_HWC, where).reshape(height, width, -1)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3))))


def _is_grey(row_HWC: NDArray[Any]) -> bool:
    return row_HWC.ndim == 2 or (row_HWC.ndim == 3 and row_HWC.shape[2] == 1)


def _bytes_of(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise _deep(where, f"{values.dtype}")
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise _deep(where, f"{values.dtype} within {low}..{high}")
    found = values.astype(np.uint8)
    if (found != values).any():
        raise _deep(where, f"{values.dtype} with fractions, within {low}..{high}")
    return found


def _size_error(where: str, expected: str, got: str) -> UsageError:
    return UsageError("HZ-D27", "the size is not that of a tile", where=where, expected=expected, got=got)


def _deep(where: str, got: str) -> UsageError:
    return UsageError(
        "HZ-D28",
        "the pixels are not 8-bit colours",
        where=where,
        expected="[H, W], [H, W, 1] or [H, W, 3] of whole numbers within 0..255",
        got=got,
        next_step="convert the array to uint8 by the range you know",
    )
