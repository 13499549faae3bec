"""How much of the trunk is needed: every stage's features under the probe, beside what they cost and which door gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from histozoo.evaluate.cut_scores import CutScore, score_cuts
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks.base import Number, Setup


def cut(one: Encoder, tiles_of: Callable[[Encoder], LabelledTiles], setup: Setup) -> list[Number]:
    """Returns features, parameters, operations, balanced accuracy and its difference from the whole trunk, per stage.

    The note of a stage says through which door of stock timm its features can be had, where the architecture is known by name.

    Raises:
        UsageError: `HZ-I73`, the model does not say what its blocks are or cannot be cut; and what the probe raises.
    """
    from histozoo.evaluate import truncate

    labelled, model = tiles_of(one), one.module()
    blocks = cached_features(one, labelled, cache=setup.cache, blocks=True, device=setup.device)
    costs = truncate.cuts(model, tile_px=one.tile_px)
    scores = score_cuts(blocks, costs, labelled, seed=setup.seed, resamples=setup.resamples)
    return [number for score in scores for number in _numbers(one, score)]


def _numbers(one: Encoder, score: CutScore) -> Iterator[Number]:
    found, n, groups = score.cut, score.score.n, score.score.n_groups
    note = _door(one, found.after)
    for metric, value in (
        ("features", found.dim),
        ("parameters", found.parameters),
        ("share_of_parameters", found.share),
        ("operations", found.flops),
        ("share_of_operations", found.flops_share),
    ):
        yield Number(
            setting=found.after,
            metric=metric,
            value=float(value),
            low=None,
            high=None,
            n=n,
            n_groups=groups,
            note=note if metric == "features" else "",
        )
    yield Number.of(score.score, "balanced_accuracy", found.after)
    yield Number.of(score.difference, "minus_whole", found.after)


def _door(one: Encoder, after: str) -> str:
    from histozoo.evaluate.stock_door import stock_door

    if not one.architecture:
        return ""
    return stock_door(one.architecture, after, tile_px=one.tile_px, model_args=one.model_args).why
