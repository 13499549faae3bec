"""Bags from what `histozoo embed` writes: one feature file per slide, or one file whose names tell the slides apart.

A table `slide,label[,patient]` says what the slides are. Corners come from the tiles' names where they hold them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histozoo import feature_files
from histozoo.errors import UsageError
from histozoo.evaluate.slides.bags import Bags, from_tiles, refused, slide_table

_FRAGMENT = re.compile(r"^(.*)#xywh=(\d+),(\d+),\d+,\d+$")
_SUFFIX = re.compile(r"^(.*)_(0|[1-9]\d*)_(0|[1-9]\d*)(?:-\d+)?\.[A-Za-z0-9]+$")


@dataclass(frozen=True, kw_only=True)
class SlideLabels:
    """What a table says of slides.

    Args:
        label: Slide -> label word.
        patient: Slide -> patient, the slide itself where the table has no such column.
    """

    label: Mapping[str, str]
    patient: Mapping[str, str]


def read_slide_labels(path: str | Path) -> SlideLabels:
    """Reads a UTF-8 CSV with the columns `slide` and `label`, and `patient` where patients are known; every cell is text.

    Raises:
        UsageError: `HZ-U32`, no such file, a column or cell is missing, or a slide is there twice.
    """
    path = Path(path)
    try:
        table = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True)
        columns, lines = list(table.fieldnames or ()), list(table)
    except OSError as error:
        raise _malformed("the table of slides cannot be read", path, error.strerror or str(error)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed("the table of slides is no CSV in UTF-8", path, str(error)) from error
    if not {"slide", "label"} <= set(columns):
        raise _malformed("a column is missing", path, ", ".join(columns) or "an empty file")
    if not lines:
        raise _malformed("the table names no slide", path, "a header and no line below it")
    label: dict[str, str] = {}
    patient: dict[str, str] = {}
    for number, cells in enumerate(lines, start=2):
        slide, word, who = (cells.get(c) for c in ("slide", "label", "patient"))
        if not slide or not word or ("patient" in columns and not who):
            raise _malformed("a cell is blank", f"{path}, line {number}", repr(cells))
        if slide in label:
            raise _malformed("a slide is there twice", f"{path}, line {number}", slide)
        label[slide], patient[slide] = word, who or slide
    return SlideLabels(label=label, patient=patient)


def from_feature_files(
    source: str | Path,
    labels: SlideLabels,
    *,
    task: str,
    classes: Sequence[str],
    slide_of: Callable[[str], str] | None = None,
) -> Bags:
    """Makes bags from feature files.

    Args:
        source: A folder with one feature file per slide, whose stem is the slide's name; or one file with the tiles of all slides.
        labels: The slides' labels and patients.
        task: Name of the task.
        classes: The label words in their order.
        slide_of: Tile name -> slide, for one file; the first folder of the tile's name where it is left out.

    Raises:
        UsageError: `HZ-I71` no file, files of different models, a name without a folder, a slide without a label or without a tile;
            `HZ-E34` a label is no class.
        IntegrityError: `HZ-H64` a file is no whole feature file; `HZ-I62` a feature is not finite.
    """
    source = Path(source)
    if not source.exists():
        raise refused(
            "there is no such feature file or folder",
            where=source,
            expected="a folder with one feature file per slide, or one file with the tiles of all slides",
            next_step="`histozoo embed TILES FILE -m NAME` writes feature files",
        )
    parts = list(_files(source)) if source.is_dir() else list(_one_file(source, slide_of or _first_folder))
    slides = [slide for part in parts for slide in part.slides]
    word_of, number = labels.label, {word: k for k, word in enumerate(classes)}
    if unknown := sorted(set(word_of.values()) - set(classes)):
        raise UsageError(
            "HZ-E34",
            "a label is not a class of the task",
            where=task,
            expected=", ".join(classes),
            got=", ".join(unknown[:5]),
        )
    slide_table({slide: number[word] for slide, word in word_of.items()}, sorted(set(slides)), where=source)
    names = [name for part in parts for name in part.features.names]
    return from_tiles(
        np.concatenate([part.features.features_ND for part in parts]),
        np.asarray([number[word_of[slide]] for slide in slides], dtype=np.int64),
        slides,
        task=task,
        classes=classes,
        patients_N=[labels.patient[slide] for slide in slides],
        names=names,
        xy_N2=corners(names, slides),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    slides: list[str]
    features: feature_files.Features


def _files(folder: Path) -> Iterator[_Part]:
    paths = sorted(p for p in folder.iterdir() if p.suffix in feature_files.SUFFIXES)
    if not paths:
        raise refused(
            "no feature file is in the folder",
            where=folder,
            expected=f"*{', *'.join(feature_files.SUFFIXES)}",
        )
    first: feature_files.Features | None = None
    for path in paths:
        found = feature_files.read(path)
        first = first or found
        _same_model(first, found, where=path)
        yield _Part(slides=[path.stem] * len(found.names), features=found)


def _one_file(path: Path, slide_of: Callable[[str], str]) -> Iterator[_Part]:
    found = feature_files.read(path)
    yield _Part(slides=[slide_of(name) for name in found.names], features=found)


def _first_folder(name: str) -> str:
    folder, slash, _ = name.partition("/")
    if not slash:
        raise refused(
            "the tile's name does not say of which slide it is",
            where=name,
            expected="<slide>/<tile>",
            next_step="give slide_of, a function from tile name to slide",
        )
    return folder


def _same_model(first: feature_files.Features, other: feature_files.Features, *, where: Path) -> None:
    for key in ("model", "sha256", "contract"):
        if first.made_by.get(key) != other.made_by.get(key):
            raise refused(
                f"the feature files are not of one model: {key} differs",
                where=where,
                expected=first.made_by.get(key),
                got=other.made_by.get(key),
                next_step="embed all slides with one model",
            )


def corners(names: Sequence[str], slides: Sequence[str]) -> NDArray[np.int64]:
    """Returns left upper corners `[N, 2]` in pixels as the names hold them (`#xywh=x,y,w,h` or `_x_y.png`), -1 where they do not.

    A slide whose tiles come from several pictures gets -1 throughout: corners in different pictures are not places in one slide.
    """
    xy_N2 = np.full((len(names), 2), -1, dtype=np.int64)
    pictures: dict[str, set[str]] = {}
    for row, (name, slide) in enumerate(zip(names, slides, strict=True)):
        picture, corner = split_corner(name)
        pictures.setdefault(slide, set()).add(picture)
        if corner is not None:
            xy_N2[row] = corner
    several = {slide for slide, found in pictures.items() if len(found) > 1}
    xy_N2[[slide in several for slide in slides]] = -1
    return xy_N2


def split_corner(name: str) -> tuple[str, tuple[int, int] | None]:
    """Returns the picture a tile is of, and its left upper corner in pixels, or None where the name does not hold it."""
    match = _FRAGMENT.match(name) or _SUFFIX.match(name)
    return (match[1], (int(match[2]), int(match[3]))) if match else (name, None)


def _malformed(what: str, where: object, got: str) -> UsageError:
    return UsageError(
        "HZ-U32",
        what,
        where=where,
        expected="a CSV with the columns slide,label[,patient]",
        got=got,
        kept="nothing was read",
        next_step="write a CSV in UTF-8 with a line per slide below the header slide,label or slide,label,patient",
    )
