"""How little features depend on what is no biology: which centre a slide came from (robustness index).

invariance.py measures what a change to the pixels does to features, corruption_error.py what damage does to a classifier on them.

Formula: PathoROB (Koemen et al., "Towards robust foundation models for digital pathology", arXiv:2507.17845). Features are scaled to
length 1. Of the k nearest neighbours of every tile, those of its own slide left out, SO counts the ones of the same class from another
centre and OS those of another class from the same centre; the robustness index is SO / (SO + OS), both summed over all tiles: 1 where
only biology decides who is near, 0 where only the centre does. (An earlier index by some of the authors, (SS + SO) / (SS + OS), is
another and has no upper bound.) The paper balances classes and centres; where they are not, the index of features that know nothing is
not one half, so `chance` is given with it. The paper's k is the median over models of the best k of a nearest-neighbour classifier:
11 on CAMELYON, 46 on the Tolkach set, 61 on TCGA.

Shapes: N tiles, D features, B tiles at once, k neighbours, G slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.probe import check_finite
from histozoo.evaluate.resampling import (
    Estimate,
    Floats,
    Names,
    group_indices,
    percentiles,
    resample,
    same_rows,
)

K = 11
_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class RobustnessIndex:
    """The robustness index of features.

    Args:
        index: In [0, 1], with an interval over slides: slides are resampled as askers, their neighbours stay as they are.
        chance: What features that know neither class nor centre would give, from the numbers of tiles alone.
        k: Neighbours looked at.
        same_class_other_centre: SO, summed over tiles.
        other_class_same_centre: OS, summed over tiles.
        n_centres: Centres.
    """

    index: Estimate
    chance: float
    k: int
    same_class_other_centre: int
    other_class_same_centre: int
    n_centres: int


def robustness_index(
    f_ND: NDArray[Any],
    labels_N: ArrayLike,
    centres_N: Names,
    slides_N: Names,
    *,
    k: int = K,
    seed: int = 0,
    resamples: int = 10_000,
) -> RobustnessIndex:
    """Returns the robustness index, see the head of the file.

    Args:
        f_ND: Features.
        labels_N: Class (biology) of each tile.
        centres_N: Centre of each tile: hospital, scanner, staining laboratory.
        slides_N: Slide or patient of each tile; a tile's neighbours are never of its own. Every slide is of one centre.
        k: Neighbours.
        seed: Seed of the resampling.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: `HZ-I74` one centre or one class only, no class in two centres, no centre with two classes, a slide of two
            centres, too few tiles for k neighbours, or no neighbour that tells; `HZ-I63` one slide; `HZ-I64` rows differ.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    check_finite(f_ND)
    label_N, centre_N, slide_N = (_indices(v, len(f_ND), w) for v, w in _named(labels_N, centres_N, slides_N))
    _decidable(label_N, centre_N, slide_N, k=k)
    near_Nk = nearest(f_ND, slide_N, k=k)
    same_class_Nk = label_N[near_Nk] == label_N[:, None]
    same_centre_Nk = centre_N[near_Nk] == centre_N[:, None]
    so_N = (same_class_Nk & ~same_centre_Nk).sum(1)
    os_N = (~same_class_Nk & same_centre_Nk).sum(1)
    if not so_N.any() and not os_N.any():
        raise _refusal(
            "the robustness index is undefined: no neighbour tells class from centre",
            expected=f"among {k} neighbours some of the same class or the same centre, but not both",
            got="none",
            next_step="raise k; all neighbours share both, or neither",
        )
    return RobustnessIndex(
        index=_interval(so_N, os_N, slide_N, seed=seed, resamples=resamples),
        chance=_chance(label_N, centre_N, slide_N),
        k=k,
        same_class_other_centre=int(so_N.sum()),
        other_class_same_centre=int(os_N.sum()),
        n_centres=int(centre_N.max()) + 1,
    )


def nearest(f_ND: NDArray[Any], slide_N: NDArray[np.int64], *, k: int) -> NDArray[np.int64]:
    """Returns the k nearest rows by cosine of every row, `[N, k]`, in no order; none of its own slide.

    Raises:
        UsageError: `HZ-I74`, a feature vector of length 0 has no direction.
    """
    length_N = np.linalg.norm(f_ND.astype(np.float64), axis=1)
    if not length_N.all():
        raise _refusal(
            "a feature vector is zero, so that it has no direction",
            expected="features of length above 0",
            got=f"{int((length_N == 0).sum())} rows of zeros",
            next_step="leave these tiles out; blank tiles may give them",
        )
    unit_ND = (f_ND / length_N[:, None]).astype(np.float32)
    near = []
    for start in range(0, len(unit_ND), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        cosine_BN = unit_ND[rows] @ unit_ND.T
        cosine_BN[slide_N[rows, None] == slide_N] = -np.inf
        near.append(np.argpartition(cosine_BN, -k, axis=1)[:, -k:])
    return np.concatenate(near)


def _named(labels_N: ArrayLike, centres_N: Names, slides_N: Names) -> list[tuple[NDArray[Any], str]]:
    return [
        (np.asarray(v), w) for v, w in ((labels_N, "classes"), (centres_N, "centres"), (slides_N, "slides"))
    ]


def _indices(values_N: NDArray[Any], tiles: int, what: str) -> NDArray[np.int64]:
    same_rows(tiles, len(values_N), what)
    if what == "slides":
        return group_indices(values_N, tiles)[0]
    names, index_N = np.unique(values_N, return_inverse=True)
    if len(names) < 2:
        raise _refusal(
            f"the robustness index needs several {what}",
            expected=f"at least two {what}",
            got=f"{len(names)}: {names[0]}" if len(names) else "no tiles",
            next_step="it compares classes across centres; with one of either there is nothing to compare",
        )
    return index_N.astype(np.int64)


def _decidable(
    label_N: NDArray[np.int64], centre_N: NDArray[np.int64], slide_N: NDArray[np.int64], *, k: int
) -> None:
    """Refuses tiles whose index would be decided before looking at a feature."""
    table = np.zeros((label_N.max() + 1, centre_N.max() + 1), dtype=bool)
    table[label_N, centre_N] = True
    problem = ""
    if not (table.sum(1) > 1).any():
        problem = "no class has tiles in two centres, so that the index could only be 0"
    elif not (table.sum(0) > 1).any():
        problem = "no centre has tiles of two classes, so that the index could only be 1"
    elif len(np.unique(np.stack([slide_N, centre_N]), axis=1).T) > slide_N.max() + 1:
        problem = "a slide is in two centres"
    if problem:
        raise _refusal(
            problem, expected="classes that are spread over centres, slides of one centre each", got=""
        )
    left = len(slide_N) - int(np.bincount(slide_N).max())
    if not 1 <= k <= left:
        raise _refusal(
            "too few tiles for so many neighbours",
            expected=f"k from 1 to {left}, the tiles outside the largest slide",
            got=f"k = {k}, {len(slide_N)} tiles",
            next_step="lower k, or take more slides",
        )


def _interval(
    so_N: NDArray[Any], os_N: NDArray[Any], slide_N: NDArray[np.int64], *, seed: int, resamples: int
) -> Estimate:
    groups = int(slide_N.max()) + 1
    so_G, os_G = np.bincount(slide_N, so_N), np.bincount(slide_N, os_N)

    def metric(counts_BG: Floats) -> Floats:
        so_B, os_B = counts_BG @ so_G, counts_BG @ os_G
        with np.errstate(invalid="ignore"):
            index_B1: Floats = (so_B / (so_B + os_B))[:, None]
        return index_B1

    values_R = resample(metric, groups, width=groups, seed=seed, resamples=resamples)[:, 0]
    low, high = percentiles(values_R)
    value = float(so_N.sum() / (so_N.sum() + os_N.sum()))
    undefined = int(np.isnan(values_R).sum())
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=len(so_N),
        n_groups=groups,
        resamples=resamples,
        undefined=undefined,
    )


def _chance(label_N: NDArray[np.int64], centre_N: NDArray[np.int64], slide_N: NDArray[np.int64]) -> float:
    """Returns SO / (SO + OS) where every tile outside the slide is as likely a neighbour."""

    def together(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
        _, index_N, counts = np.unique(np.stack(keys), axis=1, return_inverse=True, return_counts=True)
        found_N: NDArray[np.int64] = counts[index_N.ravel()]
        return found_N

    # A slide lies in one centre, so the tiles of its own slide are among those of its centre.
    both_N, own_N = together(label_N, centre_N), together(slide_N)
    own_class_N = together(slide_N, label_N)
    outside_N = len(label_N) - own_N
    so_N = (together(label_N) - both_N) / outside_N
    os_N = (together(centre_N) - both_N - (own_N - own_class_N)) / outside_N
    return float(so_N.sum() / (so_N.sum() + os_N.sum()))


def _refusal(what: str, *, expected: str, got: str, next_step: str = "") -> UsageError:
    return UsageError("HZ-I74", what, expected=expected, got=got, next_step=next_step)
