"""What the features of every cut of a trunk are worth on a task, beside what they cost.

After the question of Sharma et al., "HistoTransfer" (IEEE BHI 2021, arXiv:2106.07068): do fewer layers do as well?

Shapes: N tiles, D features of a cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histozoo.errors import UsageError
from histozoo.evaluate import statistics
from histozoo.evaluate.blocks import Level, block_features
from histozoo.evaluate.probe import CS, probe
from histozoo.evaluate.resampling import Estimate
from histozoo.evaluate.truncate import Cut, cuts

if TYPE_CHECKING:
    from torch import nn

    from histozoo.evaluate.labelled import LabelledTiles


@dataclass(frozen=True, kw_only=True)
class CutScore:
    """What the features of a cut are worth on a task.

    Args:
        cut: Where, and at what cost.
        score: Metric of the probe with its interval over groups.
        difference: The same minus that of the deepest cut, on the same resamples.
    """

    cut: Cut
    score: Estimate
    difference: Estimate


def probe_cuts(
    model: nn.Module,
    labelled: LabelledTiles,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    level: Level = "stage",
    cs: Sequence[float] = CS,
    folds: int = 5,
    resamples: int = 10_000,
) -> tuple[CutScore, ...]:
    """Returns every cut with the balanced accuracy of a probe on its features, all from one pass over the tiles.

    The folds depend on labels, groups and seed alone, so that all cuts are probed on the same ones.

    Args:
        model: A timm model that was not trained on the task.
        labelled: The task.
        mean: Channel means of the contract.
        std: Channel standard deviations of the contract.
        seed: Of the folds and the resampling.
        level: `stage` or `block`, see `blocks.ends`.
        cs: Values of C for the probe.
        folds: Folds of the probe.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: `HZ-I73` no blocks, or no cut; and what `probe` and `statistics.estimate` raise.
        IntegrityError: `HZ-I62`, a feature is not finite.
    """
    found = block_features(model, labelled.tiles_NHWC, mean=mean, std=std, level=level)
    costs = cuts(model, tile_px=labelled.tiles_NHWC.shape[1], level=level)
    return score_cuts(found, costs, labelled, seed=seed, cs=cs, folds=folds, resamples=resamples)


def score_cuts(
    found: Mapping[str, NDArray[np.float32]],
    costs: Sequence[Cut],
    labelled: LabelledTiles,
    *,
    seed: int,
    cs: Sequence[float] = CS,
    folds: int = 5,
    resamples: int = 10_000,
) -> tuple[CutScore, ...]:
    """Returns every cut with the probe of its features, which are there already; arguments and errors otherwise as in `probe_cuts`.

    Args:
        found: Block -> features `[N, D]` of the task's tiles.
        costs: From `truncate.cuts`, of the same blocks; the last one is what the others are compared with.
        labelled: The task.
        seed: Of the folds and the resampling.
        cs: Values of C for the probe.
        folds: Folds of the probe.
        resamples: Bootstrap resamples.
    """
    labels_N, groups_N = labelled.labels_N, labelled.groups_N
    probed = {
        name: probe(f_ND, labels_N, groups_N, seed=seed, cs=cs, folds=folds) for name, f_ND in found.items()
    }
    guesses = {name: p.guesses_N for name, p in probed.items()}
    options: dict[str, Any] = {"classes": len(labelled.classes), "seed": seed, "resamples": resamples}
    options["fold_N"] = probed[costs[-1].after].fold_N  # the same for all: folds do not depend on features
    deepest_N = guesses[costs[-1].after]
    return tuple(
        CutScore(
            cut=cut,
            score=statistics.estimate(labels_N, guesses[cut.after], groups_N, **options),
            difference=statistics.difference(labels_N, guesses[cut.after], deepest_N, groups_N, **options),
        )
        for cut in costs
    )


def cheapest(scores: Sequence[CutScore], *, margin: float) -> CutScore:
    """Returns the cut with the fewest operations that is shown to lose at most `margin` against the deepest.

    Shown: the lower end of the 95 % interval of the paired difference lies above -margin. The deepest cut always qualifies, so that
    "none is shown to do as well" is an outcome. The choice is made on these tiles: report its score on others.

    Args:
        scores: From `probe_cuts`.
        margin: Largest loss of balanced accuracy that would not matter, above 0.

    Raises:
        UsageError: `HZ-I73`, the margin is not positive.
    """
    if not margin > 0:
        raise UsageError(
            "HZ-I73",
            "a cut can only be shown to do as well within a margin",
            expected="a margin above 0, such as 0.02",
            got=repr(margin),
        )
    good = [s for s in scores[:-1] if s.difference.low > -margin]
    return min([*good, scores[-1]], key=lambda s: s.cut.flops)
