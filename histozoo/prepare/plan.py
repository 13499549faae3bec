"""How a task's tiles are made: a layout, a rule and how the tiles are stored, all of it declared and none of it guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from histozoo.prepare.pictures import Box, Layout, Marks, Size


class Cut(NamedTuple):
    """One tile to be: where it lies in its picture, and its class."""

    box: Box
    label: str


class Rule(Protocol):
    """Says which boxes of a picture become tiles and what their class is. A frozen dataclass, so that it can be written down."""

    def cuts(self, size: Size, marks: Marks, rng: np.random.Generator) -> list[Cut]:
        """Returns the tiles of one picture, all inside it, in a fixed order; all chance comes from `rng`."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns the rule's word and parameters as JSON types, for the manifest."""
        ...


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the archive of one dataset becomes the table of one task.

    Args:
        layout: Reads the original folders and files.
        rule: Cuts and labels tiles.
        format: `png` where the source is lossless; `jpeg` (4:4:4) where it is not, or where a protocol says so; `keep` copies the bytes of
            pictures that are a tile as they are (rule `Whole` only).
        quality: JPEG quality, 1 to 100.
        resize_px: Shorter side of the stored tile in pixels, the shape of the box kept; None keeps the size of the box. Bicubic with
            antialiasing.
        cap: Most tiles of one class from one picture, drawn without replacement; None keeps all.
        seed: Decides shifts and draws, together with each picture's name.
        pictures: Number of pictures that the dataset has, as published; None where it is not known.
        parts: Archives the authors publish, for the message when something is missing.
    """

    layout: Layout
    rule: Rule
    format: Literal["png", "jpeg", "keep"] = "png"
    quality: int = 95
    resize_px: int | None = None
    cap: int | None = None
    seed: int = 0
    pictures: int | None = None
    parts: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
