"""What damage to tiles costs a classifier on frozen features: corruption error in the style of MedMNIST-C.

Formula (Di Salvo, Doerrich and Ledig, arXiv:2406.17536): E = 1 - balanced accuracy. For a corruption c at severities 1 to 5, the
balanced error is BE_c = mean over s of E_c,s divided by that of a reference model, and the relative one
rBE_c = (mean over s of E_c,s - E_clean) / (the same of the reference): what is lost, beside what the reference loses. The paper's
reference is an AlexNet trained on the task, whose errors belong to its own tiles; here it is a model measured on the same tiles, such
as the random twin. Both are averaged over corruptions. Classifiers are fitted on clean features only, of groups that are not scored.

Shapes: N tiles, H W pixels, D features, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate import statistics
from histozoo.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from histozoo.evaluate.logistic import fit_path
from histozoo.evaluate.probe import CS, features, probe
from histozoo.evaluate.resampling import Estimate

if TYPE_CHECKING:
    from torch import nn

    from histozoo.evaluate.labelled import LabelledTiles


@dataclass(frozen=True, kw_only=True)
class CorruptionError:
    """Errors of one model on one task.

    Args:
        clean: Balanced accuracy on clean tiles.
        accuracy: Corruption -> balanced accuracy at each severity, mild first.
        loss: Corruption -> balanced accuracy at the highest severity minus clean, on the same resamples.
    """

    clean: Estimate
    accuracy: Mapping[str, tuple[float, ...]]
    loss: Mapping[str, Estimate]

    def error(self, corruption: str) -> float:
        """Returns 1 - balanced accuracy, averaged over severities."""
        return 1 - float(np.mean(self.accuracy[corruption]))

    @property
    def mean_error(self) -> float:
        """The error averaged over corruptions, divided by nothing."""
        return float(np.mean([self.error(c) for c in self.accuracy]))


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """Errors of a model beside those of a reference, see the head of the file.

    Args:
        be: Corruption -> balanced error; 1 is as many errors as the reference.
        rbe: Corruption -> relative balanced error, for those that cost the reference anything; negative where the model gains.
        undefined: Corruptions that cost the reference nothing, which are in no mean of `rbe`.
    """

    be: Mapping[str, float]
    rbe: Mapping[str, float]
    undefined: tuple[str, ...]

    @property
    def mean_be(self) -> float:
        """Mean of `be` over corruptions."""
        return float(np.mean(list(self.be.values())))

    @property
    def mean_rbe(self) -> float | None:
        """Mean of `rbe` over the corruptions that have one, None where none has."""
        return float(np.mean(list(self.rbe.values()))) if self.rbe else None


def corruption_error(
    model: nn.Module,
    labelled: LabelledTiles,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    cs: Sequence[float] = CS,
    folds: int = 5,
    resamples: int = 10_000,
) -> CorruptionError:
    """Measures a frozen trunk under corruptions: one pass over the tiles per corruption and severity.

    Args:
        model: Maps normalised pixels to pooled features; not trained on the task.
        labelled: The task.
        mean: Channel means of the contract.
        std: Channel standard deviations of the contract.
        seed: Of the folds, the resampling and the damage, so that models measured with one seed see the same tiles.
        corruptions: Keys of `CORRUPTIONS`.
        cs: Values of C for the probe.
        folds: Folds of the probe.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: `HZ-I74` no such corruption; and what `probe` and `statistics.estimate` raise.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    return corruption_error_of(
        partial(features, model, mean=mean, std=std),
        labelled,
        seed=seed,
        corruptions=corruptions,
        cs=cs,
        folds=folds,
        resamples=resamples,
    )


def corruption_error_of(
    features_of: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    labelled: LabelledTiles,
    *,
    seed: int,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    cs: Sequence[float] = CS,
    folds: int = 5,
    resamples: int = 10_000,
) -> CorruptionError:
    """Measures whatever gives features, such as `Encoder.features`; arguments and errors otherwise as in `corruption_error`."""
    labels_N, groups_N, classes = labelled.labels_N, labelled.groups_N, len(labelled.classes)
    how: dict[str, Any] = {"classes": classes, "seed": seed, "resamples": resamples}
    f_ND = features_of(labelled.tiles_NHWC)
    clean = probe(f_ND, labels_N, groups_N, seed=seed, cs=cs, folds=folds)
    again = _Refit(f_ND, labels_N, clean.fold_N, clean.c_F)
    accuracy, loss = {}, {}
    for name in corruptions:
        guesses = []
        for severity in range(1, SEVERITIES + 1):
            tiles_NHWC = corrupt(labelled.tiles_NHWC, name, severity, seed=seed)
            guesses.append(again.predict(features_of(tiles_NHWC)))
        accuracy[name] = tuple(statistics.balanced_accuracy(labels_N, g_N, classes) for g_N in guesses)
        loss[name] = statistics.difference(
            labels_N, guesses[-1], clean.guesses_N, groups_N, fold_N=clean.fold_N, **how
        )
    found = statistics.estimate(labels_N, clean.guesses_N, groups_N, fold_N=clean.fold_N, **how)
    return CorruptionError(clean=found, accuracy=accuracy, loss=loss)


class _Refit:
    """The probe's classifiers, fitted again on clean features with the C that the probe chose, to predict other features of the rows."""

    def __init__(
        self,
        f_ND: NDArray[np.float32],
        labels_N: NDArray[np.int64],
        fold_N: NDArray[np.int64],
        c_F: Sequence[float],
    ) -> None:
        self.fold_N = fold_N
        self.classifiers = []
        for fold, c in enumerate(c_F):
            train = fold_N != fold
            [(_, classifier)] = fit_path(f_ND[train], labels_N[train], [c])
            self.classifiers.append(classifier)

    def predict(self, f_ND: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns a guess per row, by the classifier that saw no tile of its group."""
        guesses_N = np.empty(len(f_ND), dtype=np.int64)
        for fold, classifier in enumerate(self.classifiers):
            held_out = self.fold_N == fold
            guesses_N[held_out] = classifier.predict(f_ND[held_out])
        return guesses_N


def against(found: CorruptionError, reference: CorruptionError) -> Balanced:
    """Returns balanced and relative balanced errors of a model beside a reference measured on the same tiles.

    Raises:
        UsageError: `HZ-I74`, other corruptions were measured, or the reference makes no error to divide by.
    """
    if set(found.accuracy) != set(reference.accuracy) or found.clean.n != reference.clean.n:
        raise UsageError(
            "HZ-I74",
            "model and reference were not measured alike",
            expected=f"{', '.join(reference.accuracy)} on {reference.clean.n} tiles",
            got=f"{', '.join(found.accuracy)} on {found.clean.n} tiles",
        )
    perfect = [c for c in reference.accuracy if reference.error(c) <= 0]
    if perfect:
        raise UsageError(
            "HZ-I74",
            "the reference makes no error, so that nothing can be divided by its errors",
            where=", ".join(perfect),
            expected="a reference that the task is not too easy for",
            got="balanced accuracy 1 at all severities",
            next_step="read the errors themselves",
        )
    be, rbe, undefined = {}, {}, []
    for name in found.accuracy:
        be[name] = found.error(name) / reference.error(name)
        cost = reference.error(name) - (1 - reference.clean.value)
        if cost > 0:
            rbe[name] = (found.error(name) - (1 - found.clean.value)) / cost
        else:
            undefined.append(name)
    return Balanced(be=be, rbe=rbe, undefined=tuple(undefined))
