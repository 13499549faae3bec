"""Short ways to a small copy of a dataset: its source, its pictures, and the tiles that a rule makes of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from histozoo.prepare.pictures import Layout, Marks, Picture
from histozoo.prepare.plan import Cut, Preparation, Rule
from histozoo.prepare.sources import Source, open_source
from histozoo.tasks.base import Task


def opened(folder: Path) -> Source:
    """Opens the copy; scratch lies beside it."""
    return open_source(folder, scratch=folder.parent / "scratch")


def plan(task: Task) -> Preparation:
    assert task.preparation is not None
    return task.preparation


def listed(layout: Layout, source: Source) -> dict[str, Picture]:
    """Returns the pictures by the last part of their names, which are unique in the small copies."""
    pictures = list(layout.pictures(source))
    found = {picture.name.rpartition("/")[2]: picture for picture in pictures}
    assert len(found) == len(pictures)
    return found


def marked(layout: Layout, source: Source, picture: Picture) -> Marks:
    return layout.marks(source, picture, layout.open(source, picture).size)


def cuts(layout: Layout, rule: Rule, source: Source, picture: Picture) -> list[Cut]:
    """Opens a picture, reads its marks and returns its tiles; every one of them can be cropped."""
    canvas = layout.open(source, picture)
    found = rule.cuts(canvas.size, layout.marks(source, picture, canvas.size), np.random.default_rng(0))
    for box, _ in found:
        assert canvas.crop(box).size == (box[2] - box[0], box[3] - box[1])
    return found


def labels(found: list[Cut]) -> list[str]:
    return [cut.label for cut in found]
