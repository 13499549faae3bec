"""Does the class or the centre decide which tiles lie near one another: the robustness index of PathoROB."""

from __future__ import annotations

from collections.abc import Callable

from histozoo.errors import UsageError
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks.base import Number, Setup
from histozoo.evaluate.robustness import robustness_index


def centres(one: Encoder, tiles_of: Callable[[Encoder], LabelledTiles], setup: Setup) -> list[Number]:
    """Returns the robustness index and what features that know nothing would give.

    Raises:
        UsageError: `HZ-I75` the task's centres are not known; `HZ-I74` classes that are not spread over centres, too few tiles.
    """
    labelled = tiles_of(one)
    if labelled.task not in setup.centre_of:
        raise UsageError(
            "HZ-I75",
            "the robustness index needs to know which centre a tile comes from",
            where=labelled.task,
            expected="--centres FILE with the columns group and centre, or --centres group where every group is a centre",
            next_step="leave robustness_index out where there is one centre only",
        )
    centre_N, slide_N = setup.centre_of[labelled.task]
    f_ND = cached_features(one, labelled, cache=setup.cache, device=setup.device)
    found = robustness_index(
        f_ND, labelled.labels_N, centre_N, slide_N, seed=setup.seed, resamples=setup.resamples
    )
    setting = f"{found.k} neighbours, {found.n_centres} centres"
    chance = Number(
        setting=setting,
        metric="chance",
        value=found.chance,
        low=None,
        high=None,
        n=found.index.n,
        n_groups=found.index.n_groups,
    )
    return [Number.of(found.index, "robustness_index", setting), chance]
