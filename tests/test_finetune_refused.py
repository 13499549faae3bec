"""What fine-tuning refuses, and that it refuses before anything is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.evaluate.finetune import PRESETS
from tests.fakes.tuned import QUICK, TASK, TinyNet, parts, tiny_net, tuned

SPLIT = parts(TASK)


def refused(tmp_path: Path, **changes: Any) -> HistozooError:
    with pytest.raises(HistozooError) as caught:
        tuned(tmp_path / "never", **changes)
    assert not (tmp_path / "never").exists()
    return caught.value


def test_a_model_that_does_not_say_its_features_is_refused(tmp_path: Path) -> None:
    silent = tiny_net()
    del silent.num_features
    assert refused(tmp_path, module=silent).code == "HZ-I68"
    wrong = tiny_net()
    wrong.num_features = 9
    assert "[1, 8]" in refused(tmp_path, module=wrong).got


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = tiny_net()
    with torch.no_grad():
        broken.body[0].weight[0, 0, 0, 0] = float("nan")
    assert refused(tmp_path, module=broken).code == "HZ-A06"
    floats = TASK.tiles_NHWC.astype(np.float32)
    floats[3] = np.nan
    assert refused(tmp_path, labelled=dataclasses.replace(TASK, tiles_NHWC=floats)).code == "HZ-I68"
    assert refused(tmp_path, mean=(0.5, float("nan"), 0.5)).code == "HZ-I68"
    assert refused(tmp_path, std=(0.5, 0.0, 0.5)).code == "HZ-I68"


def test_a_training_that_diverges_stops_and_names_the_step(tmp_path: Path) -> None:
    class Diverges(TinyNet):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            f_BD = super().forward(x_BCHW)
            return f_BD * float("nan") if self.training else f_BD

    with pytest.raises(IntegrityError, match="HZ-F45"):
        tuned(tmp_path, module=Diverges())
    assert not (tmp_path / "final").exists()


def test_splits_and_labels_that_cannot_be_measured_on_are_refused(tmp_path: Path) -> None:
    first = np.flatnonzero(TASK.labels_N[SPLIT.test] == 0)
    lacking = dataclasses.replace(SPLIT, test=SPLIT.test[first])
    error = refused(tmp_path, split=lacking)
    assert error.code == "HZ-I62" and "test" in error.what and "blue" in error.where
    divided = dataclasses.replace(
        SPLIT, train=SPLIT.train[1:], val=np.sort(np.append(SPLIT.val, SPLIT.train[0]))
    )
    assert refused(tmp_path, split=divided).code == "HZ-E37"
    assert refused(tmp_path, split=dataclasses.replace(SPLIT, val=SPLIT.val[:0])).code == "HZ-I62"
    assert (
        refused(tmp_path, labelled=dataclasses.replace(TASK, labels_N=TASK.labels_N + 1), split=SPLIT).code
        == "HZ-I68"
    )


def test_modes_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    assert "full, frozen_bn" in refused(tmp_path, mode="adapters").expected
    assert "group_matcher" in refused(tmp_path, mode="layer_decay").expected
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    plain.num_features = 3  # type: ignore[assignment]
    assert "weights" in refused(tmp_path, module=plain).expected
    plain.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    for mode in ("frozen_bn", "lora"):
        assert refused(tmp_path, mode=mode, module=plain).code == "HZ-I68"


def test_too_small_a_part_of_the_labels_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, fraction=0.1)
    assert error.code == "HZ-I68" and "at least 0.1667: 2 of 12 groups" in error.expected
    found = tuned(tmp_path / "ever", fraction=0.1667, steps=2, eval_every=2, warmup_steps=0)
    assert found.rows == 8 and found.fraction == 8 / 48


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"lrs": ()}, {"lrs": (-1.0,)}, {"layer_decay": 0.0}, {"rank": 0}, {"batch_size": 1}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"HZ-I68(?s:.*){next(iter(wrong))}"):
        dataclasses.replace(QUICK, **wrong)


def test_presets_are_a_small_one_and_a_full_one() -> None:
    assert list(PRESETS) == ["small", "full"]
    assert (
        PRESETS["small"].steps * PRESETS["small"].batch_size * 50
        <= PRESETS["full"].steps * PRESETS["full"].batch_size
    )
