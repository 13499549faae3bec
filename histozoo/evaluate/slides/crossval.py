"""Every slide judged once, by a model fitted on slides of other patients.

Of the patients outside a fold, one part chooses the epoch and the rest is learnt from; the fold is judged once. Metrics are per slide.

Shapes: S slides, K classes, N tiles, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.probe import check_finite, grouped_folds
from histozoo.evaluate.slides.bags import Bags
from histozoo.evaluate.statistics import same_rows

if TYPE_CHECKING:
    from torch import Tensor

    from histozoo.evaluate.slides.fitting import Fitted, Part
    from histozoo.evaluate.slides.model import Settings


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """What the model of one fold says of the slides it held out.

    Args:
        fold: Its number.
        slides_S: Positions of the held-out slides in the bags.
        probabilities_SK: Of the classes, each row sums to 1.
        attention_N: Weight of each tile of these slides, slide by slide in the order of the bags; empty for max pooling.
        best: The epoch kept, counted from 1.
        epochs: Validation loss and accuracy after each epoch.
    """

    fold: int
    slides_S: NDArray[np.int64]
    probabilities_SK: NDArray[np.float64]
    attention_N: NDArray[np.float32]
    best: int
    epochs: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        lists = ("slides_S", "probabilities_SK", "attention_N")
        return {
            **{k: v.tolist() if k in lists else v for k, v in vars(self).items()},
            "epochs": [list(e) for e in self.epochs],
        }

    @staticmethod
    def from_json(stored: dict[str, Any]) -> FoldResult:
        """Undoes `to_json`, bit for bit."""
        return FoldResult(
            fold=stored["fold"],
            slides_S=np.asarray(stored["slides_S"], dtype=np.int64),
            probabilities_SK=np.asarray(stored["probabilities_SK"], dtype=np.float64),
            attention_N=np.asarray(stored["attention_N"], dtype=np.float32),
            best=stored["best"],
            epochs=tuple((loss, accuracy) for loss, accuracy in stored["epochs"]),
        )


class Sides(NamedTuple):
    """Positions of the slides to learn from, to choose the epoch with, and held out."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    held_out: NDArray[np.int64]


def slide_folds(bags: Bags, *, folds: int, seed: int) -> NDArray[np.int64]:
    """Returns the fold of each slide: patients whole, classes spread evenly; equal patients, labels and seed give equal folds.

    Raises:
        UsageError: `HZ-I63` one slide only; `HZ-I62` one class only; `HZ-I72` a class has fewer patients than folds.
    """
    if len(bags) < 2:
        raise UsageError(
            "HZ-I63",
            "one slide cannot be both learnt from and scored",
            where=", ".join(bags.slides),
            expected=f"slides of at least {folds} patients per class",
            got=f"{len(bags)} slides, {len(bags.f_ND):,} tiles",
            next_step="add slides; tiles of one slide are never divided",
        )
    _enough_patients(bags, folds)
    return grouped_folds(bags.labels_S, np.asarray(bags.patients), seed=seed, folds=folds)


def _enough_patients(bags: Bags, folds: int) -> None:
    patients = np.asarray(bags.patients)
    found = {k: len(np.unique(patients[bags.labels_S == k])) for k in np.unique(bags.labels_S)}
    short = {k: n for k, n in found.items() if n < folds}
    if short and len(found) > 1:
        raise UsageError(
            "HZ-I72",
            "a class has fewer patients than there are folds",
            where=", ".join(bags.classes[k] for k in short),
            expected=f"at least {folds} patients of each class",
            got="; ".join(f"{bags.classes[k]}: {n}" for k, n in short.items()),
            next_step="add patients of the class, or leave it out of the task; from Python, `folds` may be fewer, 2 at least",
        )


def check_folds(bags: Bags, fold_S: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns folds given by the caller, one number per slide, from 0 on without gaps.

    Raises:
        UsageError: `HZ-E37` a patient in two folds; `HZ-I64` another number of slides; `HZ-I72` fewer than two folds, or a gap.
    """
    fold_S = np.asarray(fold_S, dtype=np.int64)
    same_rows(len(bags), len(fold_S), "folds")
    if not np.array_equal(np.unique(fold_S), np.arange(max(2, fold_S.max() + 1))):
        raise UsageError(
            "HZ-I72",
            "these are no folds",
            expected="numbers from 0 on, at least 0 and 1",
            got=np.unique(fold_S),
        )
    _in_one_fold(bags.patients, fold_S, what="patient")
    return fold_S


def tile_folds(bags: Bags, fold_N: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the fold of each slide from a column of the tile table, in the order of that table; otherwise as `check_folds`.

    Raises:
        UsageError: `HZ-E37`, a slide has tiles in two folds.
    """
    same_rows(len(bags.f_ND), len(fold_N), "folds")
    fold_N = np.asarray(fold_N, dtype=np.int64)[bags.order_N]
    _in_one_fold([bags.slides[s] for s in bags.slide_N], fold_N, what="slide")
    return check_folds(bags, fold_N[[bags.rows(s).start for s in range(len(bags))]])


def _in_one_fold(names: Sequence[str], folds: NDArray[np.int64], *, what: str) -> None:
    held: dict[str, set[int]] = {}
    for name, fold in zip(names, folds.tolist(), strict=True):
        held.setdefault(name, set()).add(fold)
    torn = [name for name, found in held.items() if len(found) > 1]
    if torn:
        raise UsageError(
            "HZ-E37",
            f"a {what} is in two folds",
            where=", ".join(torn[:5]) + (" ..." if len(torn) > 5 else ""),
            expected=f"each {what} in one fold",
            got=f"{len(torn):,} in several; {torn[0]}: folds {', '.join(map(str, sorted(held[torn[0]])))}",
            kept="nothing was scored",
        )


def sides(bags: Bags, fold_S: NDArray[np.int64], fold: int, *, validation: int, seed: int) -> Sides:
    """Divides the slides outside a fold into those to learn from and those that choose the epoch, patients whole, every class in both.

    Args:
        bags: The slides.
        fold_S: Fold of each slide.
        fold: The one held out.
        validation: One part in this many chooses the epoch; fewer parts where a class has fewer patients.
        seed: Of the division.

    Raises:
        UsageError: `HZ-I72`, a class has fewer than two patients outside the fold.
    """
    outside, held_out = np.flatnonzero(fold_S != fold), np.flatnonzero(fold_S == fold)
    labels, patients = bags.labels_S[outside], np.asarray(bags.patients)[outside]
    fewest = min(len(np.unique(patients[labels == k])) for k in np.unique(bags.labels_S))
    if fewest < 2:
        raise UsageError(
            "HZ-I72",
            "a class has too few patients to learn from and to choose the epoch with",
            where=f"outside fold {fold}",
            expected="at least 2 patients of each class outside each fold",
            got=f"{fewest}",
            next_step="use fewer folds, or add slides",
        )
    part = grouped_folds(labels, patients, seed=seed, folds=min(validation, fewest)) == 0
    return Sides(train=outside[~part], validation=outside[part], held_out=held_out)


def cross_fold(
    bags: Bags, fold_S: NDArray[np.int64], fold: int, *, settings: Settings, seed: int, device: str = "cpu"
) -> FoldResult:
    """Fits a model on the slides outside a fold and judges those in it.

    Args:
        bags: The slides.
        fold_S: Fold of each slide, from `slide_folds`, `check_folds` or `tile_folds`.
        fold: The one held out.
        settings: How the model is fitted.
        seed: Of initial weights, the order of the bags and the choice of validation slides; never of the folds.
        device: As in `Engine`.

    Raises:
        UsageError: `HZ-I72`, too few patients of a class.
        IntegrityError: `HZ-I62` a feature is not finite; `HZ-F45` training diverged.
    """
    check_finite(bags.f_ND)
    divided = sides(bags, fold_S, fold, validation=settings.validation, seed=seed)
    fitted = fit_head(bags, divided, settings=settings, seed=seed, device=device)
    return judged(fitted, bags, divided.held_out, fold)


def fit_head(bags: Bags, divided: Sides, *, settings: Settings, seed: int, device: str = "cpu") -> Fitted:
    """Fits a head of its own initial weights on frozen features."""
    import torch

    from histozoo.evaluate.slides.attention import SlideHead
    from histozoo.evaluate.slides.fitting import fit
    from histozoo.evaluate.slides.model import SlideModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = SlideHead(bags.f_ND.shape[1], len(bags.classes), pooling=settings.pooling)
    if settings.standardise:
        head.standardise(torch.from_numpy(bags.f_ND[np.isin(bags.slide_N, divided.train)]))
    model = SlideModel(head, settings=settings)
    return fit(model, part(bags, divided.train), part(bags, divided.validation), seed=seed, device=device)


def part(bags: Bags, slides: NDArray[np.int64]) -> Part:
    """Returns slides as bags of features to learn or choose from."""
    import torch

    from histozoo.evaluate.slides.fitting import Part

    def bag(i: int) -> Tensor:
        return torch.from_numpy(bags.bag(int(slides[i])))

    return Part(bags=bag, labels=bags.labels_S[slides].tolist())


def judged(
    fitted: Fitted,
    bags: Bags,
    slides: NDArray[np.int64],
    fold: int,
    *,
    bag: Callable[[int], Tensor] | None = None,
) -> FoldResult:
    """Returns what a fitted model says of slides, each with all its tiles.

    Args:
        fitted: The model.
        bags: The slides.
        slides: Positions of those to judge.
        fold: Their fold.
        bag: Gives the bag of a slide; its features where this is left out.
    """
    import torch

    from histozoo.evaluate.slides.model import judge

    probabilities, weights = [], []
    for slide in slides.tolist():
        given = bag(slide) if bag else torch.from_numpy(bags.bag(slide))
        logits_K, _, attention_T = judge(fitted.model, given)
        probabilities.append(torch.softmax(logits_K.double(), 0).numpy())
        if attention_T is not None:
            weights.append(attention_T.numpy())
    return FoldResult(
        fold=fold,
        slides_S=slides,
        probabilities_SK=np.stack(probabilities),
        attention_N=np.concatenate(weights) if weights else np.zeros(0, dtype=np.float32),
        best=fitted.best,
        epochs=fitted.epochs,
    )
