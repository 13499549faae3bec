"""What every protocol must do, applied to each one in `PROTOCOLS`, and a search for files that none of them comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from histozoo import evaluate
from histozoo.errors import HistozooError, UsageError
from histozoo.evaluate import PROTOCOLS
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.statistics import balanced_accuracy

NO_PROTOCOL = {
    "__init__": "the dictionary",
    "protocol": "what a protocol is",
    "result": "what one measures",
    "labelled": "what goes in",
    "statistics": "what makes values of predictions",
    "ranks": "what makes values of predictions",
    "logistic": "the classifier of probe",
    "trunks": "what is compared",
    "comparison": "what is compared",
    "leave_out": "a study over protocols",
    "corpus": "a study over protocols",
    "report": "what a study writes",
}
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


def test_every_file_is_a_protocol_or_known_not_to_be_one():
    stems = {p.stem for p in Path(evaluate.__file__).parent.glob("*.py")}
    homes = {function.__module__.rpartition(".")[2] for function in PROTOCOLS.values()}
    assert stems == homes | set(NO_PROTOCOL), "a protocol is one file and one line in PROTOCOLS"


@pytest.fixture(params=sorted(PROTOCOLS))
def protocol(request):
    return PROTOCOLS[request.param]


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
