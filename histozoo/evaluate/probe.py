"""The feature-extraction protocol: a frozen trunk, standardised features, a linear classifier, groups never divided.

Classifier: logistic regression with L2 penalty and balanced class weights (the metric is balanced accuracy),
C chosen on training rows only. `probe` predicts every tile of a task by a classifier that saw no tile of its
group (grouped stratified folds); `probe_split` keeps to a split made before, for tasks that the trunk was
trained on. House protocol; Mormont et al. (2021) used a linear SVM, C by grouped folds.

Shapes: N tiles, H W pixels, C channels, B batch, D features, F folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate.logistic import Linear, fit_path
from histozoo.evaluate.protocol import Predictions
from histozoo.evaluate.statistics import balanced_accuracy, same_rows

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from histozoo.data.splits import Split
    from histozoo.evaluate.labelled import LabelledTiles

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


def check_finite(f_ND: NDArray[Any]) -> None:
    """Refuses features that are not finite: a NaN row is nobody's neighbour and everybody's, depending on the library.

    Raises:
        IntegrityError: `HZ-I62`, with the number of bad rows and the first five.
    """
    bad = np.flatnonzero(~np.isfinite(f_ND).all(1))
    if len(bad):
        raise IntegrityError(
            "HZ-I62",
            "features are not finite",
            where=f"rows {', '.join(map(str, bad[:5]))}" + (" ..." if len(bad) > 5 else ""),
            expected=f"{len(f_ND)} finite rows",
            got=f"{len(bad)} rows with NaN or infinity",
            kept="nothing was scored",
            next_step="run `histozoo verify` on the model; a float16 overflow shows like this too",
        )


# -- probes ----------------------------------------------------------------------------------------------------------------------------


def probe(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: Sequence[str] | NDArray[Any],
    *,
    seed: int,
    folds: int = 5,
    cs: Sequence[float] = CS,
) -> Predictions:
    """Predicts every row once, by a classifier that saw no row of its group; C by inner folds of the training rows.

    Args:
        f_ND: Features `[N, D]`.
        labels_N: Class indices.
        groups_N: The group of each row.
        seed: Seed of the folds; equal groups, labels and seed give equal folds, whatever the features.
        folds: Number of folds.
        cs: Values of C to choose from; among equals the strongest penalty wins.

    Raises:
        UsageError: `HZ-I62` a class is in one group only; `HZ-I63` fewer groups than folds; `HZ-I64` rows differ; `HZ-U51` not converged.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    check_finite(f_ND)
    same_rows(len(labels_N), len(f_ND), "features")
    groups_N = np.asarray(groups_N)
    fold_N = grouped_folds(labels_N, groups_N, seed=seed, folds=folds)
    guesses_N, chosen = np.full(len(labels_N), -1, dtype=np.int64), []
    for fold in range(folds):
        train, held_out = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        c = _choose_c(f_ND[train], labels_N[train], groups_N[train], seed=seed, cs=cs)
        guesses_N[held_out] = _fit(f_ND[train], labels_N[train], c).predict(f_ND[held_out])
        chosen.append(c)
    return Predictions(rows_N=np.arange(len(labels_N)), guesses_N=guesses_N, fold_N=fold_N, c_F=tuple(chosen))


def probe_split(
    f_ND: NDArray[np.float32], labels_N: NDArray[np.int64], split: Split, *, cs: Sequence[float] = CS
) -> Predictions:
    """Trains on `split.train`, chooses C on `split.val`, predicts `split.test`.

    The protocol for a task of the training corpus: the trunk has seen the train rows, so only groups outside them are reported.

    Raises:
        UsageError: `HZ-I62` the validation rows lack a class; `HZ-U51` not converged.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    check_finite(f_ND)
    same_rows(len(labels_N), len(f_ND), "features")
    classes = int(labels_N.max()) + 1
    best, score = None, -1.0
    for c, classifier in fit_path(f_ND[split.train], labels_N[split.train], cs):
        found = balanced_accuracy(labels_N[split.val], classifier.predict(f_ND[split.val]), classes)
        if found > score:
            best, score, chosen = classifier, found, c
    if best is None:
        raise UsageError("HZ-U50", "no value of C to choose from", expected="at least one positive number")
    rows = np.asarray(split.test, dtype=np.int64)
    return Predictions(
        rows_N=rows, guesses_N=best.predict(f_ND[rows]), fold_N=np.zeros_like(rows), c_F=(chosen,)
    )


def grouped_folds(
    labels_N: NDArray[np.int64], groups_N: NDArray[Any], *, seed: int, folds: int
) -> NDArray[np.int64]:
    """Returns the fold of each row: groups whole, classes spread as evenly as they allow, every class outside every fold.

    Raises:
        UsageError: `HZ-I62` a fold would take away every tile of a class; `HZ-I63` fewer groups than folds; `HZ-I64` rows differ.
    """
    same_rows(len(labels_N), len(groups_N), "groups")
    if len(np.unique(labels_N)) < 2:
        raise UsageError(
            "HZ-I62",
            "a single class cannot be scored",
            expected="at least two classes with tiles",
            got=f"{len(np.unique(labels_N))} classes, {len(labels_N)} tiles",
        )
    n_groups = len(np.unique(groups_N))
    if n_groups < folds:
        raise UsageError(
            "HZ-I63",
            "fewer groups than folds",
            expected=f"at least {folds} groups",
            got=f"{n_groups} groups, {len(labels_N)} tiles",
            next_step="use fewer folds; tiles of one group are never divided between folds",
        )
    fold_N = _stratified(labels_N, groups_N, seed=seed, folds=folds)
    for fold in range(folds):
        absent = np.setdiff1d(labels_N, labels_N[fold_N != fold])
        if len(absent):
            raise UsageError(
                "HZ-I62",
                "a class would be missing from the training rows of a fold",
                where=f"fold {fold}, class index {', '.join(map(str, absent))}",
                expected="every class in at least two groups",
                got=f"{len(np.unique(groups_N[np.isin(labels_N, absent)]))} groups hold it",
                next_step="use fewer folds, or take the class out of the task",
            )
    return fold_N


def _stratified(
    labels_N: NDArray[np.int64], groups_N: NDArray[Any], *, seed: int, folds: int
) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    fold_N = np.empty(len(labels_N), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer tiles than folds is in order here: what it needs is checked by the caller, group by group.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, rows) in enumerate(splitter.split(labels_N, labels_N, groups_N)):
            fold_N[rows] = fold
    return fold_N


def _choose_c(
    f_ND: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[Any],
    *,
    seed: int,
    cs: Sequence[float],
) -> float:
    """Returns the C with the best balanced accuracy over the inner folds, all rows pooled; the smallest of equals.

    An inner training fold may lack a rare class, which it then never predicts: that is scored as it is, for every C alike.
    """
    values = sorted(cs)
    if len(values) == 1:
        return values[0]
    inner = min(3, len(np.unique(groups_N)))
    fold_N = _stratified(labels_N, groups_N, seed=seed, folds=inner)
    guesses_CN = np.empty((len(values), len(labels_N)), dtype=np.int64)
    for fold in range(inner):
        train, held_out = fold_N != fold, fold_N == fold
        for i, (_, classifier) in enumerate(fit_path(f_ND[train], labels_N[train], values)):
            guesses_CN[i, held_out] = classifier.predict(f_ND[held_out])
    classes = int(labels_N.max()) + 1
    scores = [balanced_accuracy(labels_N, guesses_N, classes) for guesses_N in guesses_CN]
    return values[int(np.argmax(scores))]


def _fit(f_ND: NDArray[np.float32], labels_N: NDArray[np.int64], c: float) -> Linear:
    [(_, classifier)] = fit_path(f_ND, labels_N, [c])
    return classifier
