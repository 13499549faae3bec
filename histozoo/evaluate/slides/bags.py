"""Bags: the tiles of each slide with its label and patient, from tile tables and from feature files.

Within a slide the tiles are put in one order (by name, or by their features where they have no names) and slides are sorted by name, so
nothing that is computed from bags depends on the order of the rows they came in, not in its last bit.

Shapes: N tiles, S slides, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.probe import check_finite
from histozoo.evaluate.statistics import same_rows

Rule = Literal["same", "max", "majority"]
"""What a slide's label is where its tiles have their own: `same` refuses differing ones, `max` is the highest class index among them (one
positive tile makes a positive slide, as in HistoTransfer), `majority` the most frequent, which must be one."""


@dataclass(frozen=True, kw_only=True)
class Bags:
    """Tiles of slides; rows are sorted by slide and within it in one order.

    Args:
        task: Name of the task.
        classes: Names of the classes.
        f_ND: float32 features `[N, D]`, finite.
        slide_N: Position of each tile's slide in `slides`, ascending.
        names: N names of tiles, empty where they have none.
        slides: S names, sorted.
        labels_S: Class index of each slide.
        patients: S names; the unit never divided, the slide itself where patients are not known.
        xy_N2: Left upper corner of each tile in its slide in pixels, -1 where it is not known.
        order_N: Row of each tile in the table it came from, so that pixels can be brought into the same order.
    """

    task: str
    classes: tuple[str, ...]
    f_ND: NDArray[np.float32]
    slide_N: NDArray[np.int64]
    names: tuple[str, ...]
    slides: tuple[str, ...]
    labels_S: NDArray[np.int64]
    patients: tuple[str, ...]
    xy_N2: NDArray[np.int64]
    order_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.slides)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.searchsorted(self.slide_N, np.arange(len(self.slides) + 1))

    def rows(self, slide: int) -> slice:
        """Returns the rows of the tiles of the slide at this position."""
        return slice(int(self._starts[slide]), int(self._starts[slide + 1]))

    def bag(self, slide: int) -> NDArray[np.float32]:
        """Returns the slide's features `[T, D]`."""
        return self.f_ND[self.rows(slide)]

    def places(self, slide: int) -> NDArray[np.int64] | None:
        """Returns the corners `[T, 2]` of the slide's tiles in pixels, or None where one is not known."""
        xy_T2 = self.xy_N2[self.rows(slide)]
        return None if bool((xy_T2 < 0).any()) else xy_T2

    def with_features(self, f_ND: NDArray[np.float32]) -> Bags:
        """Returns the same bags, in the same order of tiles, with other features (of another encoder).

        Raises:
            UsageError: `HZ-I64`, other rows.
            IntegrityError: `HZ-I62`, a feature is not finite.
        """
        import dataclasses

        same_rows(len(self.f_ND), len(f_ND), "features")
        check_finite(f_ND)
        return dataclasses.replace(self, f_ND=np.ascontiguousarray(f_ND, dtype=np.float32))

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (64 hex digits) of features, labels, slides, patients and names."""
        digest = hashlib.sha256(np.ascontiguousarray(self.f_ND).tobytes())
        digest.update(self.slide_N.tobytes() + self.labels_S.tobytes())
        digest.update(
            repr((self.task, self.classes, self.f_ND.shape, self.slides, self.patients, self.names)).encode()
        )
        return digest.hexdigest()


def from_tiles(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    slides_N: Sequence[str] | NDArray[Any],
    *,
    task: str,
    classes: Sequence[str],
    patients_N: Sequence[str] | NDArray[Any] | None = None,
    names: Sequence[str] = (),
    xy_N2: NDArray[np.int64] | None = None,
    rule: Rule = "same",
) -> Bags:
    """Makes bags from a table of tiles.

    Args:
        f_ND: Features `[N, D]` in the order of the table.
        labels_N: Class index of each tile.
        slides_N: Slide of each tile.
        task: Name of the task.
        classes: Names of the classes.
        patients_N: Patient of each tile; the slide where it is left out.
        names: Names of the tiles, different ones within a slide.
        xy_N2: Corners in pixels of the slide, -1 where not known.
        rule: What the slide's label is, see `Rule`.

    Raises:
        UsageError: `HZ-I71` no tile, a slide with tiles of several labels (rule `same`) or patients, a tile named twice, an unknown rule;
            `HZ-I62` a label is no class; `HZ-I64` rows differ.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    n = len(f_ND)
    slides_N = np.asarray(slides_N, dtype=str)
    patients_N = slides_N if patients_N is None else np.asarray(patients_N, dtype=str)
    xy_N2 = np.full((n, 2), -1, dtype=np.int64) if xy_N2 is None else np.asarray(xy_N2, dtype=np.int64)
    for what, rows in {
        "labels": labels_N, "slides": slides_N, "patients": patients_N, "corners": xy_N2, "names": names or range(n)
    }.items():  # fmt: skip
        same_rows(n, len(rows), what)
    if n == 0:
        raise refused("there is no tile to make a bag of", expected="at least one tile", got="0 tiles")
    f_ND = np.asarray(f_ND, dtype=np.float32)
    check_finite(f_ND)
    slides, slide_N = np.unique(slides_N, return_inverse=True)
    labels_S = _slide_labels(np.asarray(labels_N), slide_N, slides, classes=classes, rule=rule)
    patients = _one_patient(patients_N, slide_N, slides)
    order_N = _order(f_ND, slide_N, names)
    _refuse_twins(slide_N[order_N], [names[i] for i in order_N] if names else [])
    return Bags(
        task=task,
        classes=tuple(classes),
        f_ND=np.ascontiguousarray(f_ND[order_N]),
        slide_N=slide_N[order_N].astype(np.int64),
        names=tuple(str(names[i]) for i in order_N) if names else (),
        slides=tuple(map(str, slides)),
        labels_S=labels_S,
        patients=patients,
        xy_N2=xy_N2[order_N],
        order_N=order_N,
    )


def _order(f_ND: NDArray[np.float32], slide_N: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Returns the rows sorted by slide, then by name, or by features where there is no name (equal tiles are interchangeable)."""
    if names:
        return np.lexsort((np.asarray(names, dtype=str), slide_N)).astype(np.int64)
    return np.lexsort((*f_ND.T[::-1], slide_N)).astype(np.int64)


def _slide_labels(
    labels_N: NDArray[np.int64],
    slide_N: NDArray[np.int64],
    slides: NDArray[np.str_],
    *,
    classes: Sequence[str],
    rule: Rule,
) -> NDArray[np.int64]:
    if labels_N.dtype.kind not in "iu" or labels_N.min() < 0 or labels_N.max() >= len(classes):
        raise UsageError(
            "HZ-I62",
            "labels are no class indices",
            expected=f"integers from 0 to {len(classes) - 1}",
            got=f"{labels_N.dtype} values: {', '.join(map(str, labels_N[:5]))}",
        )
    counts_SK = np.zeros((len(slides), len(classes)), dtype=np.int64)
    np.add.at(counts_SK, (slide_N, labels_N), 1)
    if rule == "max":
        highest_S: NDArray[np.int64] = (counts_SK > 0).cumsum(1).argmax(1)
        return highest_S
    if rule == "majority":
        unclear = np.flatnonzero((counts_SK == counts_SK.max(1, keepdims=True)).sum(1) > 1)
    elif rule == "same":
        unclear = np.flatnonzero((counts_SK > 0).sum(1) > 1)
    else:
        raise refused("there is no such rule for slide labels", expected="same, max or majority", got=rule)
    if len(unclear):
        first = counts_SK[unclear[0]].tolist()
        found = ", ".join(f"{n:,} {classes[k]}" for k, n in enumerate(first) if n)
        raise refused(
            "the tiles of a slide do not agree on its label",
            where=_first_five(slides[unclear]),
            expected="one label per slide" if rule == "same" else "one most frequent label per slide",
            got=f"{len(unclear):,} slides with several; {slides[unclear[0]]}: {found}",
            next_step="give a rule ('max', 'majority'), or a table of slide labels",
        )
    label_S: NDArray[np.int64] = counts_SK.argmax(1)
    return label_S


def _one_patient(
    patients_N: NDArray[np.str_], slide_N: NDArray[np.int64], slides: NDArray[np.str_]
) -> tuple[str, ...]:
    found: list[set[str]] = [set() for _ in slides]
    for slide, patient in zip(slide_N, patients_N, strict=True):
        found[slide].add(str(patient))
    several = [s for s, patients in enumerate(found) if len(patients) > 1]
    if several:
        raise refused(
            "a slide belongs to several patients",
            where=_first_five(slides[several]),
            expected="one patient per slide",
            got=", ".join(sorted(found[several[0]])[:5]),
        )
    return tuple(patients.pop() for patients in found)


def _refuse_twins(slide_N: NDArray[np.int64], names: Sequence[str]) -> None:
    twins = [
        b for a, b, s, t in zip(names, names[1:], slide_N, slide_N[1:], strict=False) if a == b and s == t
    ]
    if twins:
        raise refused(
            "a slide holds two tiles of one name",
            where=_first_five(twins),
            expected="each tile once",
            got=f"{len(twins):,} names twice",
        )


def slide_table(labels: Mapping[str, int], slides: Sequence[str], *, where: object = "") -> NDArray[np.int64]:
    """Returns the label of each slide.

    Raises:
        UsageError: `HZ-I71`, a slide with features has no label, or a labelled slide has no tile: an empty bag.
    """
    unlabelled, empty = sorted(set(slides) - set(labels)), sorted(set(labels) - set(slides))
    if unlabelled or empty:
        raise refused(
            "slides with labels and slides with tiles are not the same: a bag would be empty or without a label",
            where=where,
            got="; ".join(
                f"{len(names):,} {what}: {_first_five(names)}"
                for what, names in {"without a tile": empty, "without a label": unlabelled}.items()
                if names
            ),
            next_step="embed the missing slides, or take them out of the table",
        )
    return np.asarray([labels[s] for s in slides], dtype=np.int64)


def refused(what: str, **facts: Any) -> UsageError:
    """Returns the error `HZ-I71`: these are no bags."""
    return UsageError("HZ-I71", what, **facts)


def _first_five(names: Sequence[str] | NDArray[np.str_]) -> str:
    return ", ".join(map(str, names[:5])) + (" ..." if len(names) > 5 else "")
