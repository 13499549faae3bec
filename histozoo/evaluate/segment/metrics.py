"""Scores of a predicted mask against the true one, per picture and exact. numpy, and scipy where two sets of objects are matched.

A mask numbers its objects: 0 is background, every other whole number one object, wherever its pixels lie. All scores follow from one
table of how many pixels true and predicted objects share. Where both masks are empty the prediction is right: Dice-like scores are 1 and
distances 0; where one alone is empty, Dice-like scores are 0 and distances the picture's diagonal.

Shapes: H W pixels, T true objects, P predicted objects, E pairs (one of each) that share a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Ints

_SMALL = 1 << 22
"""Number up to which a value is looked up in a table rather than found by sorting: 32 MB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A true and a predicted mask of one picture, objects numbered from 1 without gaps, with what they share.

    Args:
        truth_HW: True objects 1..T, 0 elsewhere.
        guess_HW: Predicted objects 1..P, 0 elsewhere.
        areas_T: Pixels of each true object.
        areas_P: Pixels of each predicted object.
        truth_E: Index (from 0) of the true object of each pair that shares a pixel, ascending.
        guess_E: Index (from 0) of its predicted object, ascending within a true one.
        shared_E: Pixels that the two share.
    """

    truth_HW: Ints
    guess_HW: Ints
    areas_T: Ints
    areas_P: Ints
    truth_E: Ints
    guess_E: Ints
    shared_E: Ints

    @classmethod
    def of(cls, truth_HW: NDArray[Any], guess_HW: NDArray[Any]) -> Pair:
        """Returns the pair of two masks.

        Raises:
            UsageError: `HZ-I69`, they are of different size or no masks of objects.
        """
        check_masks(truth_HW, guess_HW)
        (true_HW, truths), (found_HW, guesses) = numbered(truth_HW), numbered(guess_HW)
        key_N = (true_HW * (guesses + 1) + found_HW).ravel()
        if (truths + 1) * (guesses + 1) <= _SMALL:
            counts = np.bincount(key_N, minlength=(truths + 1) * (guesses + 1))
            keys = np.flatnonzero(counts)
            counts = counts[keys]
        else:
            keys, counts = np.unique(key_N, return_counts=True)
        truth, guess = keys // (guesses + 1), keys % (guesses + 1)
        both = (truth > 0) & (guess > 0)
        return cls(
            truth_HW=true_HW,
            guess_HW=found_HW,
            areas_T=np.bincount(true_HW.ravel(), minlength=truths + 1)[1:],
            areas_P=np.bincount(found_HW.ravel(), minlength=guesses + 1)[1:],
            truth_E=truth[both] - 1,
            guess_E=guess[both] - 1,
            shared_E=counts[both],
        )

    @property
    def empty(self) -> tuple[bool, bool]:
        """Whether the true and whether the predicted mask holds no object."""
        return not len(self.areas_T), not len(self.areas_P)

    @property
    def union_E(self) -> Ints:
        """Pixels of either object of each pair."""
        return self.areas_T[self.truth_E] + self.areas_P[self.guess_E] - self.shared_E

    def turned(self) -> Pair:
        """Returns the pair with the roles of the two masks exchanged."""
        order = np.lexsort((self.truth_E, self.guess_E))
        return Pair(
            truth_HW=self.guess_HW,
            guess_HW=self.truth_HW,
            areas_T=self.areas_P,
            areas_P=self.areas_T,
            truth_E=self.guess_E[order],
            guess_E=self.truth_E[order],
            shared_E=self.shared_E[order],
        )

    def best_E(self, value_E: NDArray[Any]) -> Ints:
        """Returns, for each true object that shares pixels with any, the position of its pair of highest value; the first of equal ones."""
        order = np.lexsort((self.guess_E, -value_E, self.truth_E))
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = np.diff(self.truth_E[order]) > 0
        return order[first]


def check_masks(
    first_HW: NDArray[Any],
    second_HW: NDArray[Any],
    *,
    where: object = "",
    names: tuple[str, str] = ("true mask", "predicted mask"),
) -> None:
    """Refuses what cannot be compared pixel by pixel.

    Raises:
        UsageError: `HZ-I69`, the two differ in size or are not two-dimensional arrays of whole numbers from 0 (bool is one object).
    """
    for name, mask in zip(names, (first_HW, second_HW), strict=True):
        whole = mask.ndim == 2 and mask.size > 0 and (mask.dtype.kind in "bu" or _not_negative(mask))
        if not whole:
            raise UsageError(
                "HZ-I69",
                f"the {name} does not number objects",
                where=where,
                expected="[H, W] whole numbers, 0 for background",
                got=f"{mask.dtype} {list(mask.shape)}",
            )
    if first_HW.shape != second_HW.shape:
        raise UsageError(
            "HZ-I69",
            f"the {names[1]} is of another size than the {names[0]}",
            where=where,
            expected=" x ".join(map(str, first_HW.shape[::-1])) + " px",
            got=" x ".join(map(str, second_HW.shape[::-1])) + " px",
            next_step="give a mask of the picture's own size; nothing is resized here",
        )


def _not_negative(mask: NDArray[Any]) -> bool:
    return mask.dtype.kind == "i" and int(mask.min()) >= 0


def numbered(mask_HW: NDArray[Any]) -> tuple[Ints, int]:
    """Returns the mask with its objects numbered 1, 2, ... in the order of their numbers, and how many there are."""
    mask_HW = mask_HW.astype(np.int64)
    if (top := int(mask_HW.max())) > _SMALL:
        found, places = np.unique(mask_HW, return_inverse=True)
        shift = int(found[0] > 0)
        return places.reshape(mask_HW.shape) + shift, len(found) - 1 + shift
    present = np.bincount(mask_HW.ravel(), minlength=top + 1) > 0
    present[0] = False
    number = np.cumsum(present) * present
    return number[mask_HW], int(present.sum())


def dice(pair: Pair) -> float:
    """Returns 2|A and B| / (|A| + |B|) of foreground pixels, in [0, 1]."""
    return _share(2 * pair.shared_E.sum(), pair.areas_T.sum() + pair.areas_P.sum())


def iou(pair: Pair) -> float:
    """Returns |A and B| / |A or B| (the Jaccard index) of foreground pixels, in [0, 1]."""
    shared = pair.shared_E.sum()
    return _share(shared, pair.areas_T.sum() + pair.areas_P.sum() - shared)


def _share(part: Any, whole: Any) -> float:
    """Returns part / whole; of nothing, all."""
    return float(part / whole) if whole else 1.0


def object_dice(pair: Pair) -> float:
    """Returns the object-level Dice of the GlaS challenge, in [0, 1].

    The Dice of each predicted object with the true object that it shares most pixels with (0 where it shares none), weighted by its share
    of all predicted pixels; the same with the roles exchanged; and the mean of both. K. Sirinukunwattana et al., "Gland segmentation in
    colon histology images: The GlaS challenge contest", Medical Image Analysis 35 (2017) 489-502, section on object-level Dice. Of equally
    large overlaps the object with the lower number is taken (the paper leaves that open).
    """
    return _by_emptiness(pair, lambda: (_one_sided_dice(pair) + _one_sided_dice(pair.turned())) / 2)


def _one_sided_dice(pair: Pair) -> float:
    best = pair.best_E(pair.shared_E)
    area = pair.areas_T[pair.truth_E[best]]
    dice_T = 2 * pair.shared_E[best] / (area + pair.areas_P[pair.guess_E[best]])
    return float((dice_T * area).sum() / pair.areas_T.sum())


def aji(pair: Pair) -> float:
    """Returns the aggregated Jaccard index, in [0, 1].

    Each true object takes the predicted object of highest Jaccard index (two may take the same); the shared pixels of all these pairs, over
    the pixels of their unions plus those of every object that is in no pair. N. Kumar et al., "A dataset and a technique for generalized
    nuclear segmentation for computational pathology", IEEE Trans. Med. Imaging 36 (2017) 1550-1560, algorithm 1.
    """
    best = pair.best_E(pair.shared_E / pair.union_E)
    return _by_emptiness(pair, lambda: _aggregated(pair, best))


def aji_plus(pair: Pair) -> float:
    """Returns the AJI with one-to-one pairs, in [0, 1]: those of the largest sum of Jaccard indices.

    S. Graham et al., "HoVer-Net: Simultaneous segmentation and classification of nuclei in multi-tissue histology images", Medical Image
    Analysis 58 (2019) 101563, where it is used beside the AJI, which punishes a prediction that two true objects take twice.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    jaccard_TP = np.zeros((len(pair.areas_T), len(pair.areas_P)))
    jaccard_TP[pair.truth_E, pair.guess_E] = pair.shared_E / pair.union_E
    rows, columns = linear_sum_assignment(jaccard_TP, maximize=True)
    kept = jaccard_TP[rows, columns] > 0
    number = np.full(jaccard_TP.shape, -1)
    number[pair.truth_E, pair.guess_E] = np.arange(len(pair.truth_E))
    return _by_emptiness(pair, lambda: _aggregated(pair, number[rows[kept], columns[kept]]))


def _aggregated(pair: Pair, taken: Ints) -> float:
    alone_T = np.delete(pair.areas_T, pair.truth_E[taken]).sum()
    alone_P = np.delete(pair.areas_P, np.unique(pair.guess_E[taken])).sum()
    return float(pair.shared_E[taken].sum() / (pair.union_E[taken].sum() + alone_T + alone_P))


def panoptic(pair: Pair) -> tuple[float, float, float]:
    """Returns panoptic, detection and segmentation quality (PQ, DQ, SQ), each in [0, 1], PQ = DQ * SQ.

    Objects with a Jaccard index above 1/2 match, which makes the pairs unique; DQ is their F1 score and SQ the mean index of the pairs, 0
    where there are none. A. Kirillov et al., "Panoptic segmentation", CVPR 2019, equation 1.
    """
    if any(pair.empty):
        both = float(all(pair.empty))
        return both, both, both
    hit = 2 * pair.shared_E > pair.union_E
    hits = int(hit.sum())
    detection = 2 * hits / (len(pair.areas_T) + len(pair.areas_P))
    quality = float((pair.shared_E[hit] / pair.union_E[hit]).mean()) if hits else 0.0
    return detection * quality, detection, quality


def _by_emptiness(pair: Pair, score: Callable[[], float]) -> float:
    return float(all(pair.empty)) if any(pair.empty) else score()


def _hausdorff(pair: Pair) -> float:
    from histozoo.evaluate.segment.hausdorff import object_hausdorff

    return object_hausdorff(pair)


METRICS: dict[str, Callable[[Pair], float]] = {
    "dice": dice,
    "iou": iou,
    "object_dice": object_dice,
    "object_hausdorff": _hausdorff,
    "aji": aji,
    "aji_plus": aji_plus,
    "pq": lambda pair: panoptic(pair)[0],
    "dq": lambda pair: panoptic(pair)[1],
    "sq": lambda pair: panoptic(pair)[2],
}
"""Metric -> function of a pair; for all but `object_hausdorff` (in pixels) more is better."""


def score(
    truth_HW: NDArray[Any], guess_HW: NDArray[Any], *, metrics: Iterable[str] = tuple(METRICS)
) -> dict[str, float]:
    """Returns each metric of a predicted mask.

    Args:
        truth_HW: Numbered true objects, 0 for background.
        guess_HW: Numbered predicted objects of the same size.
        metrics: Keys of `METRICS`.

    Raises:
        UsageError: `HZ-I69`, the masks cannot be compared.
    """
    pair = Pair.of(truth_HW, guess_HW)
    return {name: METRICS[name](pair) for name in metrics}
