"""Which class is taken for which: the confusion matrix of each model on each task, each row a true class.

Shapes: N tiles, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np

from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.resampling import Floats

_WIDEST = 24
"""Classes up to which a matrix can be read on a page."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """A model on a task.

    Args:
        task, model: Of what.
        classes: Names, in the order of the matrix.
        counts_KK: Tiles by true (row) and guessed (column) class; the mean over seeds where a model is several.
    """

    task: str
    model: str
    classes: tuple[str, ...]
    counts_KK: Floats


def confusions(cells: Sequence[Cell]) -> tuple[Confusion, ...]:
    """Returns the matrices of cells of one protocol, tasks and models in the order of the cells; the guess is the class scored highest."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for c in cells:
        found.setdefault((c.task, c.model), []).append(c)
    return tuple(
        Confusion(
            task=task,
            model=model,
            classes=several[0].classes,
            counts_KK=np.mean([_counts(c) for c in several], 0),
        )
        for (task, model), several in found.items()
    )


def _counts(c: Cell) -> Floats:
    k = len(c.classes)
    pairs_N = c.labels_N * k + c.scores_NK.argmax(1)
    return np.bincount(pairs_N, minlength=k * k).reshape(k, k).astype(np.float64)


def section(found: Sequence[Confusion]) -> str:
    """Returns the matrices as HTML, folded away, tasks one after another; classes without a tile have no row."""
    readable = [c for c in found if len(c.classes) <= _WIDEST]
    if not readable:
        return ""
    told = "".join(
        f"<h3>{escape(task)}</h3>{''.join(map(_matrix, several))}"
        for task, several in groupby(readable, key=lambda c: c.task)
    )
    return (
        "<details><summary class='dim'>which class is taken for which</summary><p class='dim'>Each row is a true class: the share of its "
        f"tiles, in %, that was called each class. No intervals.</p>{told}</details>"
    )


def _matrix(c: Confusion) -> str:
    head = "".join(f"<th class='n'>{escape(name)}</th>" for name in c.classes)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(map(_share, row_K / row_K.sum()))}<td class='n'>{row_K.sum():,.0f}</td></tr>"
        for name, row_K in zip(c.classes, c.counts_KK, strict=True)
        if row_K.sum()
    )
    return (
        f"<p>{escape(c.model)}</p><div class='scroll'><table class='narrow'><tr><th>true, called as</th>{head}<th class='n'>all</th></tr>"
        f"{rows}</table></div>"
    )


def _share(share: float) -> str:
    # At most half as dark as the ink, so that the number stays legible.
    return f"<td class='n' style='background:rgba(0,114,178,{share / 2:.2f})'>{100 * share:.0f}</td>"
