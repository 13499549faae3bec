"""The feature-extraction protocol: a frozen trunk, standardised features, a linear classifier, groups never divided.

Classifier: logistic regression with L2 penalty and balanced class weights (the metric is balanced accuracy),
C chosen on training rows only. `probe` predicts every tile of a task by a classifier that saw no tile of its
group (grouped stratified folds); `probe_split` keeps to a split made before, for tasks that the trunk was
trained on. House protocol; Mormont et al. (2021) used a linear SVM, C by grouped folds.

Shapes: N tiles, H W pixels, C channels, B batch, D features, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histozoo.evaluate.crossval import Family, check_finite, checked, predicted, predictions
from histozoo.evaluate.folds import Part, grouped_folds
from histozoo.evaluate.logistic import fit_path
from histozoo.evaluate.protocol import Parts, Predictions

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from histozoo.evaluate.labelled import LabelledTiles

__all__ = ["CS", "check_finite", "family", "feature_extraction", "features", "features_of_images"]
__all__ += ["grouped_folds", "logistic", "probe", "probe_split"]

CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties tried, for standardised features: below, too little is learnt; above, too much of the training rows' noise."""


def feature_extraction(
    model: nn.Module, labelled: LabelledTiles, *, mean: Sequence[float], std: Sequence[float], seed: int
) -> Predictions:
    """Predicts every tile from frozen features, see `probe`."""
    f_ND = features(model, labelled.tiles_NHWC, mean=mean, std=std)
    return probe(f_ND, labelled.labels_N, labelled.groups_N, seed=seed)


# -- features --------------------------------------------------------------------------------------------------------------------------


def features(
    model: nn.Module,
    tiles_NHWC: NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch: int = 128,
) -> NDArray[np.float32]:
    """Returns the features of tiles that already have the model's size, `[N, D]`, in float32 and without autocast.

    Args:
        model: Maps normalised `[B, 3, H, W]` to pooled `[B, D]`; runs in eval mode and is given back in the mode it came.
        tiles_NHWC: uint8 RGB `[N, tile_px, tile_px, 3]`.
        mean: Channel means of the contract, for values scaled to [0, 1].
        std: Channel standard deviations of the contract, on the same scale.
        batch: Tiles per forward pass.

    Raises:
        IntegrityError: `HZ-I62`, a feature is not finite; names the first such rows.
    """
    import torch

    from histozoo.data.views import normalise

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(tiles_NHWC), batch):
            x_BHWC = torch.from_numpy(
                np.array(tiles_NHWC[start : start + batch])
            )  # a copy: packed tiles are read-only
            yield normalise(x_BHWC.permute(0, 3, 1, 2).float() / 255, mean, std)

    return _forward(model, batches())


def features_of_images(
    model: nn.Module, images: Iterable[Image], *, transform: Callable[[Image], torch.Tensor], batch: int = 128
) -> NDArray[np.float32]:
    """Returns the features of images of any size, `[N, D]`, each prepared by the model's own `transform` (`histozoo.preprocess`).

    Raises:
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    import torch

    def batches() -> Iterator[torch.Tensor]:
        waiting: list[torch.Tensor] = []
        for image in images:
            waiting.append(transform(image))
            if len(waiting) == batch:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)

    return _forward(model, batches())


def _forward(model: nn.Module, batches: Iterable[torch.Tensor]) -> NDArray[np.float32]:
    import torch

    before, parameter = model.training, next(model.parameters())
    model.eval()
    try:
        with torch.inference_mode():
            parts = [
                model(x_BCHW.to(parameter.device, parameter.dtype)).float().cpu().numpy()
                for x_BCHW in batches
            ]
    finally:
        model.train(before)
    f_ND: NDArray[np.float32] = np.concatenate(parts)
    check_finite(f_ND)
    return f_ND


# -- probes ----------------------------------------------------------------------------------------------------------------------------


def logistic(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    split: Parts | None = None,
    cs: Sequence[float] = CS,
) -> Predictions:
    """Predicts every row by grouped folds, or the test rows of a split, with probabilities of a prior that is equal for all classes.

    Args:
        f_ND: Features `[N, D]`.
        labels_N: Class indices.
        groups_N: The group of each row.
        seed: Seed of the folds; equal groups, labels and seed give equal folds, whatever the features.
        folds: Number of folds.
        split: An official split instead; C is chosen on its validation rows, or by folds of its training rows where it has none.
        cs: Values of C to choose from; among equals the strongest penalty wins.

    Raises:
        UsageError: `HZ-I62` a class is missing on one side; `HZ-I63` fewer groups than folds, or a group on two sides of the split;
            `HZ-I64` rows differ; `HZ-U50` no C; `HZ-U51` not converged.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    return predictions(family(cs), f_ND, labels_N, groups_N, seed=seed, folds=folds, split=split)


def probe(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    cs: Sequence[float] = CS,
) -> Predictions:
    """Predicts every row once, by a classifier that saw no row of its group; arguments and errors as in `logistic`."""
    return logistic(f_ND, labels_N, groups_N, seed=seed, folds=folds, cs=cs)


def probe_split(
    f_ND: NDArray[np.float32], labels_N: NDArray[np.int64], split: Parts, *, cs: Sequence[float] = CS
) -> Predictions:
    """Trains on `split.train`, chooses C on `split.val`, predicts `split.test`, without a look at groups: `logistic` checks them.

    The protocol for a task of the training corpus: the trunk has seen the train rows, so only groups outside them are reported.

    Raises:
        UsageError: `HZ-I62` the validation rows lack a class; `HZ-U51` not converged.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    f_ND, labels_N, _ = checked(f_ND, labels_N, [])
    part = Part(*(np.asarray(rows, dtype=np.int64) for rows in (split.train, split.val, split.test)))
    return predicted(family(cs), f_ND, labels_N, None, seed=0, each=[part])


def family(cs: Sequence[float] = CS) -> Family:
    """Returns logistic regression as a family of classifiers with the setting C."""
    return Family(scorer=_scores, settings=tuple(sorted(cs)), probabilities=True)


def _scores(
    f_ND: NDArray[Any], index_N: NDArray[np.int64], query_MD: NDArray[Any], *, settings: Sequence[float]
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    for c, classifier in fit_path(f_ND, index_N, settings):
        yield c, classifier.probabilities(query_MD)
