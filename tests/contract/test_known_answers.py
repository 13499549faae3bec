"""Known answers, for every name that `histozoo evaluate --protocol` takes and for segmentation: perfect features, chance, the same seed.

Each kind of protocol has one adapter below, told apart by what it is fed; a name without one fails the first test.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from histozoo.evaluate.compare.plan import FINETUNE, SLIDES, protocol_names
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks import LOOKS
from histozoo.evaluate.looks.base import Number, Setup
from histozoo.evaluate.segment import cell
from histozoo.evaluate.segment.study import Design
from histozoo.evaluate.slides.predict import predict
from histozoo.evaluate.statistics import balanced_accuracy
from tests.fakes import masks
from tests.fakes.bags import toy
from tests.fakes.compared import known, labelled
from tests.fakes.tuned import PX, TinyNet, coloured, parts, tuned

SEGMENTATION = "segmentation"
NAMES = (*protocol_names(), SEGMENTATION)
DRAWS = 3
"""Label orders that chance is averaged over; 40 groups or slides each, so that a standard error is 0.05 at most."""


class Layered(TinyNet):
    """A tiny net that says what its stages and layers are, as models of timm do."""

    feature_info = ({"module": "body.2", "num_chs": 8}, {"module": "body.6", "num_chs": 8})

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^body\.[01]\.", "blocks": r"^body\.(\d+)\."}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a protocol says: its numbers, the one that is judged, and what it is at best and by chance."""

    numbers: tuple[float, ...]
    value: float
    best: float = 1.0
    chance: float = 0.5


# -- an adapter per kind: (name, whether labels mean something, seed of the labels) -> answer -------------------------------------------


def of_features(name: str, told: bool, draw: int) -> Answer:
    task = coloured(shuffled=not told, seed=draw, groups=40)
    f_ND = task.tiles_NHWC.astype(np.float32).mean((1, 2)) / 255
    found = FEATURE_PROTOCOLS[name](f_ND, task.labels_N, task.groups_N, seed=0)
    return _answer(found.scores_NK, task.labels_N[found.rows_N], found.guesses_N)


def of_training(name: str, told: bool, draw: int) -> Answer:
    task = coloured(shuffled=not told, seed=draw, groups=120)
    with tempfile.TemporaryDirectory() as folder:
        mode = name.removeprefix(FINETUNE)
        found = tuned(Path(folder), module=_layered(), labelled=task, mode=mode, steps=60, eval_every=30)
    p = found.predictions
    assert p.rows_N.tolist() == parts(task).test.tolist()
    return _answer(p.scores_NK, task.labels_N[p.rows_N], p.guesses_N)


def of_slides(name: str, told: bool, draw: int) -> Answer:
    bags = toy(slides=40, seed=draw)
    if not told:
        bags = dataclasses.replace(bags, labels_S=np.random.default_rng(draw).permutation(bags.labels_S))
    pooling: Any = name.removeprefix(SLIDES)
    found = predict(bags, pooling=pooling, seed=0, folds=2, epochs=4)
    return _answer(found.scores_NK, bags.labels_S[found.rows_N], found.guesses_N)


def _answer(
    scores_NK: NDArray[np.float32], labels_N: NDArray[np.int64], guesses_N: NDArray[np.int64]
) -> Answer:
    value = balanced_accuracy(labels_N, guesses_N, scores_NK.shape[1])
    return Answer(tuple(np.ravel(scores_NK).tolist()), value, chance=1 / scores_NK.shape[1])


def of_masks(name: str, told: bool, draw: int) -> Answer:
    pictures = masks.drawn("home", groups=6, first=draw)
    truth = {image.tobytes(): mask > 0 for image, mask in zip(pictures.images, pictures.masks, strict=True)}
    random = np.random.default_rng(draw)

    def probability(image: NDArray[np.uint8]) -> NDArray[Any]:
        mask = truth[image.tobytes()]
        return mask * 0.9 if told else random.permutation(mask.ravel()).reshape(mask.shape) * 0.9

    design = Design(sizes=(1,), seeds=(0,), metrics=("dice", "pq"), test=0.5, least_px=1)
    found = cell.scores_by(probability, pictures, design)
    # Dice of two independent masks of the same share p is p; no object is hit by chance.
    share = float(np.mean([mask.mean() for mask in truth.values()]))
    return Answer((*found["dice"], *found["pq"]), float(np.mean(found["dice"])), chance=share)


# -- looks: what is best and what is chance differs, and is what each look says of itself


def _look(name: str, one: Encoder, task: LabelledTiles, **setup: Any) -> list[Number]:
    with tempfile.TemporaryDirectory() as folder:
        given = {"first": one, "cache": Path(folder), "resamples": 200} | setup
        return LOOKS[name](one, lambda _: task, Setup(**given))


def _said(found: list[Number], metric: str, *, best: float = 1.0, chance: float, of: str = "") -> Answer:
    numbers = tuple(v for n in found for v in (n.value, n.low, n.high) if v is not None)
    judged = [n.value for n in found if n.metric == metric and n.setting.startswith(of)]
    return Answer(numbers, float(np.mean(judged)), best=best, chance=chance)


class Given(type(known("perfect"))):  # type: ignore[misc]  # the fake of an encoder, with features told by the test
    """An encoder whose features are told."""

    def features(self, tiles_NHWC: Any, *, batch: int = 128, device: str = "cpu") -> Any:
        return FEATURES[self.label](tiles_NHWC)


FEATURES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {}


def _given(label: str, features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> Encoder:
    FEATURES[label] = features
    return Given(**vars(known("perfect")) | {"label": label, "sha256": label})


def _noise(rows: int, draw: int, d: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng([draw, 1]).standard_normal((rows, d)).astype(np.float32)


def of_cuts(name: str, told: bool, draw: int) -> Answer:
    task = coloured(shuffled=not told, seed=draw, groups=40)
    one = dataclasses.replace(known("perfect"), build=_layered, tile_px=PX)
    return _said(_look(name, _plain(one), task), "balanced_accuracy", chance=0.5)


def of_cka(name: str, told: bool, draw: int) -> Answer:
    task = labelled("drawn_one", groups=40)

    class Blocks(Encoder):
        def block_features(self, tiles_NHWC: Any, **_: Any) -> dict[str, NDArray[np.float32]]:
            return {"all": _noise(len(tiles_NHWC), draw + 100 * (self.label == "other"))}

    def one(label: str) -> Encoder:
        return Blocks(**vars(known("perfect")) | {"label": label, "sha256": label})

    found = _look(name, one("same" if told else "other"), task, first=one("same"))
    return _said(found, "linear_cka", chance=0.0)


def of_changes(name: str, told: bool, draw: int) -> Answer:
    task = labelled("drawn_one", groups=40)
    rows, calls = len(task.labels_N), iter(range(1000))
    one = _given(
        f"changed{told}{draw}",
        (lambda tiles: np.eye(len(tiles), dtype=np.float32))
        if told
        else lambda tiles: _noise(len(tiles), draw + next(calls)),
    )
    return _said(_look(name, one, task), "retrieved", chance=1 / rows)


def of_damage(name: str, told: bool, draw: int) -> Answer:
    task = labelled("drawn_one", groups=40)
    one = _given(
        f"damaged{told}{draw}",
        (lambda tiles: task.labels_N[:, None].astype(np.float32) - 0.5)
        if told
        else lambda tiles: _noise(len(tiles), draw),
    )
    return _said(_look(name, one, task), "corruption_error", best=0.0, chance=0.5, of="mean")


def of_centres(name: str, told: bool, draw: int) -> Answer:
    task = labelled("drawn_one", groups=40)
    centre_N = np.repeat(np.arange(40) // 2 % 2, 2)
    sharp_N2 = np.eye(2, dtype=np.float32)[task.labels_N] * 100 * told
    one = _given(
        f"centres{told}{draw}", lambda tiles: np.concatenate([sharp_N2, _noise(len(tiles), draw)], 1)
    )
    centres = {task.task: ([f"c{c}" for c in centre_N], task.groups_N.tolist())}
    found = _look(name, one, task, centre_of=centres)
    return _said(found, "robustness_index", chance=next(n.value for n in found if n.metric == "chance"))


def _layered() -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Layered().eval()


def _plain(one: Encoder) -> Encoder:
    """The same encoder without the fake's own features: those of its network."""
    return Encoder(**vars(one))


ADAPTERS: dict[str, Callable[[str, bool, int], Answer]] = {
    **dict.fromkeys(FEATURE_PROTOCOLS, of_features),
    **{name: of_training for name in NAMES if name.startswith(FINETUNE)},
    **{name: of_slides for name in NAMES if name.startswith(SLIDES)},
    "cuts": of_cuts,
    "cka": of_cka,
    "invariance": of_changes,
    "corruption": of_damage,
    "robustness_index": of_centres,
    SEGMENTATION: of_masks,
}


def test_every_protocol_has_known_answers() -> None:
    assert set(ADAPTERS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_perfect_features_score_the_best_there_is(name: str) -> None:
    found = ADAPTERS[name](name, True, 0)
    assert found.value == pytest.approx(found.best, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_means_nothing_scores_chance_and_the_same_seed_the_same_numbers(name: str) -> None:
    found = [ADAPTERS[name](name, False, draw) for draw in range(DRAWS)]
    assert np.mean([a.value - a.chance for a in found]) == pytest.approx(0, abs=0.13)
    assert ADAPTERS[name](name, False, 0).numbers == found[0].numbers != found[1].numbers
