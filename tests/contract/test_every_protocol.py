"""What every protocol must do, applied to each in `PROTOCOLS` and `FEATURE_PROTOCOLS`, and a search for those in neither."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from histozoo import evaluate
from histozoo.errors import HistozooError, UsageError
from histozoo.evaluate import FEATURE_PROTOCOLS, PROTOCOLS
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.probe import features
from histozoo.evaluate.protocol import FeatureProtocol, Predictions, Protocol
from histozoo.evaluate.statistics import balanced_accuracy

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Colour(nn.Module):
    """A trunk that gives the mean colour of the four quarters."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.one = nn.Parameter(nn.init.ones_(nn.Parameter().new_empty(1)))

    def forward(self, x_BCHW):
        return self.pool(x_BCHW) * self.one


def coloured(*, groups: int = 30, tiles: int = 4) -> LabelledTiles:
    """Three classes of coloured noise; every group has one class."""
    rng = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(groups), tiles)
    labels_N = groups_N % 3
    centre_N3 = np.array([[90, 120, 150], [150, 120, 90], [120, 150, 90]])[labels_N]
    noisy = centre_N3[:, None, None] + rng.normal(0, 30, size=(len(labels_N), 8, 8, 3))
    return LabelledTiles(
        task="coloured",
        lineage="drawn",
        classes=("cold", "warm", "green"),
        tiles_NHWC=noisy.clip(0, 255).astype(np.uint8),
        labels_N=labels_N,
        groups_N=groups_N.astype(str),
        fingerprint="0" * 64,
    )


def offered(package: Path) -> Iterator[Callable[..., Any]]:
    """Gives every public function of a folder's modules that can be called as a protocol is and returns predictions."""
    calls = [dict(inspect.signature(kind.__call__).parameters) for kind in (Protocol, FeatureProtocol)]
    kinds = {Predictions.__name__, *(kind.__name__ for kind in Predictions.__subclasses__())}
    for path in sorted(package.glob("*.py")):
        module = import_module(f"histozoo.evaluate.{path.stem}".removesuffix(".__init__"))
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_") or function.__module__ != module.__name__:
                continue
            given = inspect.signature(function).parameters
            needed = {n for n, p in given.items() if p.default is p.empty}
            told = str(inspect.signature(function).return_annotation)
            if told in kinds and any(
                needed <= set(call) and set(call) - {"self"} <= set(given) for call in calls
            ):
                yield function


def test_whatever_is_a_protocol_is_in_a_dictionary() -> None:
    found = {f"{f.__module__}.{f.__name__}" for f in offered(Path(evaluate.__file__).parent)}
    known = {f"{f.__module__}.{f.__name__}" for f in (*PROTOCOLS.values(), *FEATURE_PROTOCOLS.values())}
    assert found == known, "a protocol is one function and one line in PROTOCOLS or FEATURE_PROTOCOLS"


def test_a_name_means_one_protocol() -> None:
    assert not set(PROTOCOLS) & set(FEATURE_PROTOCOLS)


@pytest.fixture(params=sorted({**PROTOCOLS, **FEATURE_PROTOCOLS}))
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each protocol, called as those that take a model are: one of features gets the model's features."""
    if request.param in PROTOCOLS:
        return PROTOCOLS[request.param]

    def with_features(
        model: nn.Module, labelled: LabelledTiles, *, mean: Any, std: Any, seed: int
    ) -> Predictions:
        f_ND = features(model, labelled.tiles_NHWC, mean=mean, std=std)
        return FEATURE_PROTOCOLS[request.param](f_ND, labelled.labels_N, labelled.groups_N, seed=seed)

    return with_features


def test_predicts_each_row_once_and_repeatably(protocol):
    labelled = coloured()
    found, again = (protocol(Colour(), labelled, mean=MEAN, std=STD, seed=0) for _ in range(2))
    np.testing.assert_array_equal(np.sort(found.rows_N), np.arange(len(labelled.labels_N)))
    np.testing.assert_array_equal(found.guesses_N, again.guesses_N)
    assert len(found.guesses_N) == len(found.fold_N) == len(found.rows_N)
    assert balanced_accuracy(labelled.labels_N[found.rows_N], found.guesses_N, 3) > 0.9


def test_i63_keeps_groups_whole(protocol):
    labelled = coloured()
    found = protocol(Colour(), labelled, mean=MEAN, std=STD, seed=0)
    for group in np.unique(labelled.groups_N):
        assert len(np.unique(found.fold_N[labelled.groups_N[found.rows_N] == group])) == 1


def test_finds_nothing_in_shuffled_labels(protocol):
    labelled, values = coloured(), []
    for seed in range(10):
        of_group = np.random.default_rng(seed).permutation(np.arange(30) % 3)
        shuffled = replace(labelled, labels_N=of_group[labelled.groups_N.astype(int)])
        found = protocol(Colour(), shuffled, mean=MEAN, std=STD, seed=0)
        values.append(balanced_accuracy(shuffled.labels_N[found.rows_N], found.guesses_N, 3))
    assert np.mean(values) == pytest.approx(1 / 3, abs=0.08)


def test_i63_refuses_fewer_groups_than_folds(protocol):
    labelled = coloured(groups=3, tiles=40)
    with pytest.raises(UsageError, match="HZ-I63"):
        protocol(Colour(), labelled, mean=MEAN, std=STD, seed=0)


def test_i62_refuses_a_single_class(protocol):
    labelled = coloured()
    with pytest.raises(UsageError, match="HZ-I62"):
        protocol(
            Colour(), replace(labelled, labels_N=np.zeros_like(labelled.labels_N)), mean=MEAN, std=STD, seed=0
        )


def test_i62_refuses_features_that_are_not_finite(protocol):
    model = Colour()
    nn.init.constant_(model.one, float("nan"))
    with pytest.raises(HistozooError, match="HZ-I62"):
        protocol(model, coloured(), mean=MEAN, std=STD, seed=0)


def test_i64_labels_of_other_rows_never_reach_a_protocol():
    labelled = coloured()
    with pytest.raises(
        UsageError, match="HZ-I64 tiles, labels and groups are not of the same rows"
    ) as caught:
        replace(labelled, labels_N=labelled.labels_N[1:])
    assert caught.value.where == "coloured"


@pytest.mark.parametrize("name", sorted(FEATURE_PROTOCOLS))
def test_i62_refuses_given_features_that_are_not_finite(name: str) -> None:
    labelled = coloured()
    f_ND = np.ones((len(labelled.labels_N), 3), dtype=np.float32)
    f_ND[7, 1] = np.inf
    with pytest.raises(HistozooError, match="HZ-I62"):
        FEATURE_PROTOCOLS[name](f_ND, labelled.labels_N, labelled.groups_N, seed=0)
