"""Pictures -> tiles and rows in a staged folder. Runs in a worker process, or in the process itself; never touches what is in place.

A staged chunk is a folder with `tiles` (a folder, or a pack), `rows.csv` (lines of the table without a header) and `done.json`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histozoo import durable
from histozoo.errors import HistozooError, Interrupted, ResourceError
from histozoo.prepare import tile_names
from histozoo.prepare.checks import check_fault, check_hash, unknown_label
from histozoo.prepare.pictures import Box, Canvas, Picture
from histozoo.prepare.plan import Cut, Preparation
from histozoo.prepare.stores import Files, Pack, Store

if TYPE_CHECKING:
    from PIL import Image

    from histozoo.prepare.sources import Source

COLUMNS = ("file", "label", "group", "split", "source", "x", "y", "width", "height")
"""Of the table; x, y, width and height are the box in pixels of the picture named by source."""

TILES, ROWS, DONE = "tiles", "rows.csv", "done.json"
_KEPT_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to know; picklable, as long as layout and rule are.

    `common` is the folder that all pictures of the source share: chance must not depend on whether an archive was unpacked, and where.
    """

    source: Source
    plan: Preparation
    classes: tuple[str, ...]
    excluded: frozenset[str] = frozenset()
    skip_bad: bool = False
    packed: bool = False
    common: str = ""


class BadPicture(Exception):
    """One picture cannot be used: its name and the error; ends the run unless bad pictures are skipped."""

    def __init__(self, picture: Picture, error: HistozooError) -> None:
        self.picture, self.error = picture, error
        super().__init__(picture.name)


class Cutter:
    """Cuts one chunk after the other."""

    def __init__(self, job: Job) -> None:
        self.job, self.plan, self.source = job, job.plan, job.source

    def chunk(
        self, number: int, pictures: Sequence[Picture], folder: Path, at: Callable[[str], None]
    ) -> dict[str, Any]:
        """Writes one chunk to `folder`, which must not exist, flushes it, and returns what `done.json` says.

        Args:
            number: Number of the chunk; part of the tiles' names in the rows.
            pictures: Its pictures, in order.
            folder: Where to stage it.
            at: Called with each picture's name before it is opened.

        Raises:
            BadPicture: A picture cannot be opened, its marks are faulty or it cannot be cut; only without `skip_bad`.
            ResourceError: `HZ-F42`, the disk is full.
        """
        store: Store = Pack(folder / TILES) if self.job.packed else Files(folder / TILES)
        done = _Done()
        try:
            self._pictures(number, pictures, folder / ROWS, store, done, at)
        finally:
            store.close()
        facts = done.to_json()
        durable.write_unsynced(folder / DONE, durable.to_json(facts).encode())
        durable.sync_filesystem(folder)
        return facts

    def _pictures(
        self,
        number: int,
        pictures: Sequence[Picture],
        lines: Path,
        store: Store,
        done: _Done,
        at: Callable[[str], None],
    ) -> None:
        for picture, stem in zip(pictures, tile_names.stems([p.name for p in pictures]), strict=True):
            at(picture.name)
            try:
                rows, treated = self._picture(picture, stem, number, store, done)
            except (ResourceError, Interrupted):
                raise
            except HistozooError as error:
                store.forget()
                if not self.job.skip_bad:
                    raise BadPicture(picture, error) from error
                done.reject(picture, error)
                continue
            store.keep()
            done.take(picture, rows, treated)
            if rows:
                durable.append_line(lines, _lines(rows))

    def _picture(
        self, picture: Picture, stem: str, number: int, store: Store, done: _Done
    ) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
        """Puts the tiles of one picture into the store; returns their rows, and in words what was done to the picture."""
        check_fault(picture)
        canvas = self.plan.layout.open(self.source, picture)
        check_hash(self.source, picture)
        rows: list[tuple[Any, ...]] = []
        names = tile_names.Namer(stem)
        for box, label in self._cuts(picture, canvas, done):
            suffix, data = self._tile(picture, canvas, box)
            name = names.next(box, suffix)
            store.put(name, data)
            left, top, right, bottom = box
            file = f"images/{folder_name(number)}/{name}"
            place = (picture.name, left, top, right - left, bottom - top)
            rows.append((file, label, picture.group, picture.split, *place))
        return rows, getattr(canvas, "treated", ())

    def _cuts(self, picture: Picture, canvas: Canvas, done: _Done) -> list[Cut]:
        """Returns the boxes to keep: of known classes, inside the picture, at most `cap` of a class."""
        marks = self.plan.layout.marks(self.source, picture, canvas.size)
        rng = generator(self.plan.seed, picture.name.removeprefix(self.job.common))
        cuts = self.plan.rule.cuts(canvas.size, marks, rng)
        self._check(picture, canvas, cuts)
        left_out = [cut.label for cut in cuts if cut.label in self.job.excluded]
        done.left_out.update(left_out)
        if left_out:
            cuts = [cut for cut in cuts if cut.label not in self.job.excluded]
        return capped(cuts, self.plan.cap, rng)

    def _check(self, picture: Picture, canvas: Canvas, cuts: Sequence[Cut]) -> None:
        width, height = canvas.size
        for box, label in cuts:
            if label not in self.job.classes and label not in self.job.excluded:
                raise unknown_label(picture, label, self.job.classes)
            if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
                raise ValueError(
                    f"the rule cuts {box} from {picture.name}, which is {width} x {height} px"
                )  # a fault of the rule, not of the data

    def _tile(self, picture: Picture, canvas: Canvas, box: Box) -> tuple[str, bytes]:
        """Returns suffix and bytes of one tile file."""
        if self.plan.format == "keep":
            if box != (0, 0, *canvas.size):
                raise ValueError(f"format 'keep' can only keep whole pictures, not {box} of {picture.name}")
            data = self.source.read(picture.name)
            return _kept_suffix(data), data
        image = canvas.crop(box)
        if image.mode != "RGB" or image.size != (box[2] - box[0], box[3] - box[1]):
            raise ValueError(f"the canvas of {picture.name} gave {image.mode} {image.size} for {box}")
        suffix = ".png" if self.plan.format == "png" else ".jpg"
        return suffix, encode(resized(image, self.plan.resize_px), suffix, self.plan.quality)


class _Done:
    """What became of the pictures of one chunk."""

    def __init__(self) -> None:
        self.pictures = 0
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.left_out: Counter[str] = Counter()
        self.treated: Counter[str] = Counter()
        self.rejected: list[dict[str, str]] = []
        self.empty: list[str] = []

    def take(self, picture: Picture, rows: Sequence[tuple[Any, ...]], treated: Sequence[str]) -> None:
        self.pictures += 1
        self.treated.update(treated)
        self.counts.update((label, split, group) for _, label, group, split, *_ in rows)
        if not rows:
            self.empty.append(picture.name)

    def reject(self, picture: Picture, error: HistozooError) -> None:
        reason = error.what + (f"; got {error.got}" if error.got else "")
        self.rejected.append({"name": picture.name, "code": error.code, "reason": reason})

    def to_json(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "counts": [[*key, n] for key, n in self.counts.items()],
            "left_out": dict(self.left_out),
            "treated": dict(self.treated),
            "rejected": self.rejected,
            "empty": self.empty,
        }


def folder_name(number: int) -> str:
    """Returns the name of a chunk's folder."""
    return f"{number:05d}"


def generator(seed: int, name: str) -> np.random.Generator:
    """Returns the source of all chance for one picture: a function of the seed and the picture's name below what all share."""
    digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def capped(cuts: list[Cut], cap: int | None, rng: np.random.Generator) -> list[Cut]:
    """Returns at most `cap` tiles of each class, drawn without replacement, in their order; all of them where `cap` is None."""
    if cap is None:
        return cuts
    places: dict[str, list[int]] = {}
    for i, cut in enumerate(cuts):
        places.setdefault(cut.label, []).append(i)
    kept: set[int] = set()
    for label in sorted(places):
        mine = places[label]
        kept.update(rng.permutation(mine)[:cap].tolist() if len(mine) > cap else mine)
    return [cut for i, cut in enumerate(cuts) if i in kept]


def resized(image: Image.Image, px: int | None) -> Image.Image:
    """Returns the image, its shorter side at `px` pixels and its shape kept, bicubic with antialiasing; as it is where `px` is None."""
    from PIL import Image as Pillow

    if px is None or min(image.size) == px:
        return image
    width, height = image.size
    scale = px / min(width, height)
    return image.resize(
        (max(px, round(width * scale)), max(px, round(height * scale))), Pillow.Resampling.BICUBIC
    )


def encode(image: Image.Image, suffix: str, quality: int) -> bytes:
    """Returns the tile's file: pixels only, so that no profile or comment of the source can give a class away.

    PNG is deflated with run lengths alone: four times as fast as Pillow's default and no larger on tissue. JPEG keeps colour at full size.
    """
    image.info = {}
    data = io.BytesIO()
    if suffix == ".png":
        image.save(data, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    else:
        image.save(data, "JPEG", quality=quality, subsampling=0)
    return data.getvalue()


def _kept_suffix(data: bytes) -> str:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data)) as image:  # decoded strictly already, when the picture was opened
        return _KEPT_SUFFIXES[str(image.format)]


def _lines(rows: Sequence[tuple[Any, ...]]) -> str:
    """Returns the rows as CSV without the last line end, which `append_line` adds."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")
