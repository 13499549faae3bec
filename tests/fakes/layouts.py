"""Synthetic datasets for the engine: small pictures in folders, pictures drawn from their names, and pictures that misbehave.

Everything here is at module level, because worker processes import it by name.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from histozoo.errors import HistozooError, UsageError
from histozoo.prepare.pictures import Box, Layout, Marks, Picture, Size, decoded
from histozoo.prepare.plan import Preparation, Rule
from histozoo.prepare.rules import Tiles
from histozoo.prepare.sources import Source
from histozoo.tasks.base import Task
from tests.fakes.tiles import draw_tile

CLASSES = ("stroma", "tumour")


def write_pictures(
    folder: Path, n: int, *, px: int = 64, classes: Sequence[str] = CLASSES, seed: int = 0
) -> Path:
    """Writes `n` PNG pictures of each class as `pictures/<class>/<patient>_<number>.png`; returns `folder`."""
    rng = np.random.default_rng(seed)
    for kind, label in enumerate(classes):
        (folder / "pictures" / label).mkdir(parents=True)
        for i in range(n):
            image = Image.fromarray(draw_tile(rng, px, kind))
            image.save(folder / "pictures" / label / f"p{i % 4}_{i:03d}.png")
    return folder


def list_pictures(source: Source) -> Iterable[Picture]:
    """Lists them: class from the folder, patient from the name, patients 0 to 2 in the training split."""
    for name in source.matching("pictures/*/*"):
        label, file = name.split("/")[-2:]
        patient = file.split("_")[0]
        split = "test" if patient == "p3" else "train"
        yield Picture(name=name, group=f"{label}-{patient}", label=label, split=split)


def slow_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Takes its time, so that a signal comes in between."""
    time.sleep(0.05)
    return Marks(label=picture.label)


def killing_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Kills the worker that reads picture `p2_006`, as the kernel does when memory runs out."""
    if "tumour/p2_006" in picture.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return Marks(label=picture.label)


def hanging_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Hangs at the sixth picture, as a reader of a dead network drive does."""
    if "stroma/p3_003" in picture.name:
        time.sleep(600)
    return Marks(label=picture.label)


def shielded_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Works only where Ctrl-C and SIGTERM are left to the parent process."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if not {signal.SIGINT, signal.SIGTERM} <= blocked:
        raise RuntimeError("a signal to the group ends this worker before its parent")
    return Marks(label=picture.label)


def faulty_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Has a fault of its own, which is not the picture's."""
    raise ZeroDivisionError("a fault in the layout")


def refused_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Refuses the pictures of patient 1, as a reader of annotations does, with an error that does not name the picture."""
    if "/p1_" in picture.name:
        raise UsageError(
            "HZ-U73", "the mask has another size than its picture", expected="64 x 64", got="32 x 32"
        )
    return Marks(label=picture.label)


def other_label_marks(source: Source, picture: Picture, size: Size) -> Marks:
    """Calls one class by a name that differs in a letter."""
    return Marks(label=picture.label.replace("tumour", "Tumour "))


class Torn:
    """A picture whose lower half cannot be read."""

    def __init__(self, canvas: Any) -> None:
        self.size, self._canvas = canvas.size, canvas

    def crop(self, box: Box) -> Image.Image:
        if box[1] >= 32:
            raise UsageError("HZ-D24", "the lower half cannot be read")
        image: Image.Image = self._canvas.crop(box)
        return image


def torn(source: Source, picture: Picture) -> Any:
    """Opens pictures; those of patient 1 are torn."""
    canvas = decoded(source, picture)
    return Torn(canvas) if "/p1_" in picture.name else canvas


PICTURES = Layout(pictures=list_pictures)


class Drawn:
    """A picture of noise that is drawn from its name; a large one costs no file."""

    def __init__(self, name: str, size: Size) -> None:
        self.size = size
        rng = np.random.default_rng(crc32(name.encode()))
        self._pixels = (
            rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        )

    def crop(self, box: Box) -> Image.Image:
        return Image.fromarray(self._pixels[box[1] : box[3], box[0] : box[2]])


def write_list(folder: Path, n: int) -> Path:
    """Writes a list of `n` pictures that are drawn when they are opened; returns `folder`."""
    folder.mkdir(parents=True)
    (folder / "list.txt").write_text("".join(f"drawn/{i:06d}\n" for i in range(n)))
    return folder


def listed(source: Source) -> Iterable[Picture]:
    """Lists the drawn pictures, the classes by turns."""
    for i, name in enumerate(source.read(source.one("list.txt")).decode().split()):
        yield Picture(name=name, group=f"g{i // 20}", label=CLASSES[i % 2])


def drawn(source: Source, picture: Picture) -> Drawn:
    """Draws a picture of 320 x 320 px: 100 tiles of 32 px."""
    return Drawn(picture.name, (320, 320))


DRAWN = Layout(pictures=listed, open=drawn)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """A rule that uses its generator: boxes at random places, some of them twice, the class by chance."""

    px: int
    n: int

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Any]:
        from histozoo.prepare.plan import Cut

        cuts = []
        for _ in range(self.n):
            x, y = (int(rng.integers(0, side - self.px + 1)) // 16 * 16 for side in size)
            cuts.append(Cut((x, y, x + self.px, y + self.px), CLASSES[int(rng.integers(2))]))
        return cuts

    def describe(self) -> dict[str, Any]:
        return {"rule": "chance", "px": self.px, "n": self.n}


def plan(layout: Layout = PICTURES, rule: Rule | None = None, **options: Any) -> Preparation:
    """Returns a preparation; by default four tiles of 32 px from each picture of 64 px."""
    return Preparation(layout=layout, rule=rule or Tiles(px=32), **options)


def task(preparation: Preparation | None = None, **options: Any) -> Task:
    """Returns a task with this preparation, two classes and no published numbers."""
    given = {"classes": CLASSES, "preparation": preparation or plan(), **options}
    return Task(
        **{
            "name": "synthetic",
            "kind": "multiclass",
            "organ": "none",
            "stain": "none",
            "licence": "CC0-1.0",
            "source": "drawn",
            "citation": "none",
            "lineage": "synthetic",
            "folder": "synthetic",
            **given,
        }
    )


def layout(marks: Any) -> Layout:
    """Returns the layout of small pictures with another function for the marks."""
    return replace(PICTURES, marks=marks, open=decoded)


def tree(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below `folder`, by relative name."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def expected_tiles(source: Path, px: int = 32) -> dict[tuple[str, int, int], bytes]:
    """Returns the pixels of every tile that the grid gives, by picture and corner, cut here without the engine."""
    found = {}
    for path in sorted((source / "pictures").rglob("*.png")):
        pixels = np.asarray(Image.open(path))
        for y in range(0, pixels.shape[0] - px + 1, px):
            for x in range(0, pixels.shape[1] - px + 1, px):
                name = path.relative_to(source).as_posix()
                found[name, x, y] = pixels[y : y + px, x : x + px].tobytes()
    return found


def accounts(path: Path) -> dict[str, int]:
    """Returns the numbers of pictures that a report or manifest gives, which must sum up."""
    facts = json.loads(path.read_text())
    pictures: dict[str, int] = facts.get("came_out", facts)["pictures"]
    assert pictures["input"] == pictures["done"] + pictures["rejected"] + pictures["not_reached"]
    return pictures


def refused(code: str, call: Callable[[], object], exit_code: int = 2) -> HistozooError:
    """Calls what must fail with this code and exit code; returns the error."""
    import pytest

    with pytest.raises(HistozooError) as caught:
        call()
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code), str(caught.value)
    return caught.value
