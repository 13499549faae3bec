"""Fine-tuning an encoder on the tiles attended most: stage two of HistoTransfer, with its defects left out.

For every fold: heads that did not see a slide choose its k tiles; then a fresh copy of the encoder and a copy of the fold's own head learn
together from these tiles, one slide per step, Adam 1e-5, 20 epochs, batch norms in eval mode; then every tile of the held-out slides goes
through the tuned encoder and is pooled again. What differs from the released code: a slide's tiles are chosen by heads fitted without it
(there: by the head that learnt it); the epoch is chosen by validation loss (there: accuracy); metrics are per slide (there: AUROC
over tile rows, in which large slides weigh more); the encoder is the one that made the features (there: always ResNet18).

Shapes: N tiles, S slides, k tiles per slide, D features, H W pixels, C channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate.probe import grouped_folds
from histozoo.evaluate.slides.bags import Bags
from histozoo.evaluate.slides.crossval import FoldResult, Sides, fit_head, judged, sides
from histozoo.evaluate.statistics import same_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

    from histozoo.evaluate.slides.model import Settings


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How the encoder is fine-tuned.

    Args:
        k: Tiles per slide.
        epochs, lr: Of the fine-tuning; constant rate.
        choosers: Parts into which the slides outside a fold are divided, each chosen from by a head fitted on the others; more where a
            class has too few patients for that.
    """

    k: int = 64
    epochs: int = 20
    lr: float = 1e-5
    choosers: int = 3


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What made the features, and the pixels it made them from.

    Args:
        model: Maps normalised `[T, 3, H, W]` to pooled `[T, D]`; never changed, every fold tunes a copy.
        tiles_NHWC: uint8 RGB at the size of the encoder's contract, in the order of the table that the bags were made of.
        mean, std: Channel statistics of the contract.
    """

    model: nn.Module
    tiles_NHWC: NDArray[np.uint8]
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a fold's fine-tuning gave.

    Args:
        result: The held-out slides, all tiles, by the tuned encoder and head.
        before: The same slides by the head that the fine-tuning began with, on the frozen features.
        chosen: Slide -> rows of the tiles chosen, for the slides outside the fold.
        model: The tuned encoder, in eval mode.
    """

    result: FoldResult
    before: FoldResult
    chosen: dict[int, NDArray[np.int64]]
    model: nn.Module


def tune_fold(
    bags: Bags,
    encoder: Encoder,
    fold_S: NDArray[np.int64],
    fold: int,
    *,
    settings: Settings,
    tuning: Tuning,
    seed: int,
    run: Path | None = None,
    device: str = "cpu",
) -> Tuned:
    """Fine-tunes on the slides outside a fold and judges those in it.

    Args:
        bags: The slides, with the encoder's own features.
        encoder: What made them.
        fold_S: Fold of each slide.
        fold: The one held out.
        settings: Of the heads; the pooling must be `attention` or `gated`.
        tuning: Of the encoder.
        seed: As in `cross_fold`.
        run: Run folder with a checkpoint after every epoch, to be continued after a kill; none where it is left out.
        device: As in `Engine`.

    Raises:
        UsageError: `HZ-I72` a pooling without attention, too few patients, or features of another encoder; `HZ-I64` rows differ.
    """
    _fitting_parts(bags, encoder, settings, tuning)
    divided = sides(bags, fold_S, fold, validation=settings.validation, seed=seed)
    first = fit_head(bags, divided, settings=settings, seed=seed, device=device)
    outside = np.flatnonzero(fold_S != fold)
    chosen = choose_tiles(bags, outside, settings=settings, tuning=tuning, seed=seed, device=device)
    before = judged(first, bags, divided.held_out, fold)

    from histozoo.evaluate.slides.fitting import Part, fit
    from histozoo.evaluate.slides.model import SlideModel

    pixels = _Pixels(encoder.tiles_NHWC, bags.order_N)

    def top(slides: NDArray[np.int64]) -> Part:
        return Part(bags=lambda i: pixels(chosen[int(slides[i])]), labels=bags.labels_S[slides].tolist())

    model = SlideModel(
        copy.deepcopy(first.model.head),
        settings=replace(settings, lr=tuning.lr, epochs=tuning.epochs),
        encoder=copy.deepcopy(encoder.model).requires_grad_(True),
        mean=encoder.mean,
        std=encoder.std,
    )
    fitted = fit(model, top(divided.train), top(divided.validation), seed=seed, run=run, device=device)
    result = judged(
        fitted, bags, divided.held_out, fold, bag=lambda s: pixels(np.arange(len(bags.slide_N))[bags.rows(s)])
    )
    return Tuned(result=result, before=before, chosen=chosen, model=fitted.model.backbone)


class _Pixels:
    """Tiles by the rows of the bags."""

    def __init__(self, tiles_NHWC: NDArray[np.uint8], order_N: NDArray[np.int64]) -> None:
        self.tiles_NHWC, self.order_N = tiles_NHWC, order_N

    def __call__(self, rows: NDArray[np.int64]) -> Tensor:
        import torch

        return torch.from_numpy(np.array(self.tiles_NHWC[self.order_N[rows]]))


def choose_tiles(
    bags: Bags,
    slides: NDArray[np.int64],
    *,
    settings: Settings,
    tuning: Tuning,
    seed: int,
    device: str = "cpu",
    seen: Callable[[NDArray[np.int64], NDArray[np.int64]], None] | None = None,
) -> dict[int, NDArray[np.int64]]:
    """Returns for each slide the rows of its k tiles with the highest attention, by a head fitted on slides of other patients among these.

    Args:
        bags: The slides.
        slides: Positions of those to choose from, all outside one fold.
        settings: As in `tune_fold`.
        tuning: As in `tune_fold`.
        seed: As in `tune_fold`.
        device: As in `Engine`.
        seen: Called with the slides that a head was fitted with (epoch chosen with, too) and those it chooses from.
    """
    import torch

    from histozoo.evaluate.slides.attention import top_tiles
    from histozoo.evaluate.slides.model import judge

    labels, patients = bags.labels_S[slides], np.asarray(bags.patients)[slides]
    fewest = min(len(np.unique(patients[labels == k])) for k in np.unique(labels))
    part_S = np.full(len(bags), -1)
    part_S[slides] = grouped_folds(labels, patients, seed=seed, folds=_parts(tuning.choosers, fewest))
    chosen = {}
    for number in range(part_S.max() + 1):
        divided = _inside(bags, part_S, number, validation=settings.validation, seed=seed)
        fitted = fit_head(bags, divided, settings=settings, seed=seed, device=device)
        if seen is not None:
            seen(np.concatenate([divided.train, divided.validation]), divided.held_out)
        for slide in divided.held_out.tolist():
            _, scores_T, _ = judge(fitted.model, torch.from_numpy(bags.bag(slide)))
            assert scores_T is not None  # the pooling was checked
            chosen[slide] = bags.rows(slide).start + top_tiles(scores_T, tuning.k).numpy()
    return chosen


def _parts(asked: int, patients: int) -> int:
    """Returns the parts to divide a class of so many patients into: as asked, or more where else fewer than two were left to fit with."""
    most = max(2, patients)
    parts = range(max(2, min(asked, most)), most)
    return next((n for n in parts if patients - math.ceil(patients / n) >= 2), most)


def _inside(bags: Bags, part_S: NDArray[np.int64], number: int, *, validation: int, seed: int) -> Sides:
    """Divides the slides that have a part (part -1 is the outer fold, which no head may see)."""
    known = np.flatnonzero(part_S >= 0)
    inner = replace_slides(bags, known)
    found = sides(inner, part_S[known], number, validation=validation, seed=seed)
    return Sides(*(known[side] for side in found))


def replace_slides(bags: Bags, slides: NDArray[np.int64]) -> Bags:
    """Returns bags of some of the slides, for what needs their labels and patients; features and tiles stay behind."""
    return replace(
        bags,
        slides=tuple(bags.slides[s] for s in slides),
        labels_S=bags.labels_S[slides],
        patients=tuple(bags.patients[s] for s in slides),
        f_ND=bags.f_ND[:0],
        slide_N=bags.slide_N[:0],
        order_N=bags.order_N[:0],
        xy_N2=bags.xy_N2[:0],
        names=(),
    )


def _fitting_parts(bags: Bags, encoder: Encoder, settings: Settings, tuning: Tuning) -> None:
    """Refuses, before anything is fitted, what cannot go together."""
    from histozoo.evaluate.probe import features

    same_rows(len(bags.f_ND), len(encoder.tiles_NHWC), "tiles")
    if settings.pooling not in ("attention", "gated") or tuning.k < 1:
        raise UsageError(
            "HZ-I72",
            "tiles can be chosen by attention only",
            expected="pooling attention or gated, and k of at least 1",
            got=f"pooling {settings.pooling}, k {tuning.k}",
        )
    few = np.arange(min(4, len(bags.f_ND)))
    found = features(encoder.model, encoder.tiles_NHWC[bags.order_N[few]], mean=encoder.mean, std=encoder.std)
    stored = bags.f_ND[few]
    if found.shape != stored.shape or not np.allclose(
        found, stored, rtol=1e-3, atol=1e-3 * np.abs(stored).max()
    ):
        raise UsageError(
            "HZ-I72",
            "the features of the bags are not those of this encoder on these tiles",
            where=", ".join(bags.names[:4]) or "the first tiles",
            expected=f"{found.shape[1]} features per tile, as the encoder gives them",
            got=f"{stored.shape[1]} features per tile"
            if found.shape != stored.shape
            else f"values that differ by up to {np.abs(found - stored).max():.3g}",
            kept="nothing was fitted",
            next_step="make the features with the encoder that is fine-tuned, from the same tiles in the same order",
        )
