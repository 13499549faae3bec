"""One cell of a study: trained once, scored on every test picture, kept as one file.

Shapes: H W pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import durable
from histozoo.errors import IntegrityError
from histozoo.evaluate.resampling import Ints
from histozoo.evaluate.segment import inference
from histozoo.evaluate.segment.colours import Colours
from histozoo.evaluate.segment.metrics import score
from histozoo.evaluate.segment.model import Start
from histozoo.evaluate.segment.pictures import Pictures
from histozoo.evaluate.segment.train import Segmentation, Training, train

_log = logging.getLogger(__name__)
CellScores = dict[str, dict[str, list[float]]]
"""Test set -> metric -> value of each picture."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a study compares.

    Args:
        sizes: Training groups, ascending.
        seeds: Each draws its own nested training sets, decoder and crops, the same for every initialisation.
        training: How each U-Net is trained.
        test: Share of the set's pictures that is tested on, by group.
        split_seed: Draws which groups these are.
        per_group: Pictures taken of each training group at most; None takes all.
        metrics: Keys of `metrics.METRICS`.
        how: How foreground becomes objects.
        least_px: Objects of fewer pixels are left out of a prediction.
        reach_px: For `watershed`, see `inference.objects`.
        stride: From one window of the prediction to the next, in pixels; None: half a window.
    """

    sizes: tuple[int, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    training: Training = field(default_factory=Training)
    test: float = 0.5
    split_seed: int = 0
    per_group: int | None = None
    metrics: tuple[str, ...] = ("dice", "iou", "object_dice", "aji_plus", "pq")
    how: inference.Separation = "components"
    least_px: int = 16
    reach_px: int = 5
    stride: int | None = None

    def settings(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return {**fields, "training": self.training.settings()}


@dataclass(frozen=True, eq=False)
class Cell:
    """One U-Net (or the colour histogram): an initialisation on one training set under one seed, and the sets it is scored on."""

    begin: Start | Colours
    pictures: Pictures
    rows: Ints
    tests: Mapping[str, Pictures]
    design: Design
    size: int
    seed: int

    def scores(self, folder: Path) -> CellScores:
        """Returns the cell's scores, from its file or by training."""
        path = folder / f"{self._key}.json"
        if not path.exists():
            self._make(folder / self._key, path)
            shutil.rmtree(folder / self._key, ignore_errors=True)
        return self._read(path)

    def seconds(self, folder: Path) -> float:
        """Returns how long the cell took to be trained and scored; it must have been."""
        stored = json.loads((folder / f"{self._key}.json").read_text(encoding="utf-8"))
        return float(stored["seconds"])

    @property
    def _key(self) -> str:
        return f"{self.size:04d}-{_word(self.begin.name)}-{self.seed}"

    def _make(self, run: Path, path: Path) -> None:
        began = time.monotonic()
        score = self._learnt(run)
        found = {name: score(test) for name, test in self.tests.items()}
        body = {
            "size": self.size,
            "start": self.begin.name,
            "seed": self.seed,
            "files": [self.pictures.files[row] for row in self.rows],
            "seconds": round(time.monotonic() - began, 1),
            "scores": found,
        }
        durable.write_json(path, {"sha256": _sha256(body), **body})
        _log.info("%s: %.1f s", path.stem, body["seconds"])

    def _learnt(self, run: Path) -> Callable[[Pictures], dict[str, list[float]]]:
        """Returns what scores a test set, trained."""
        if isinstance(self.begin, Colours):
            probability = self.begin.fit(self.pictures.take(self.rows))
            return lambda test: scores_by(probability, test, self.design)
        recipe = train(
            self.begin, self.pictures, self.rows, run=run, training=self.design.training, seed=self.seed
        )
        return lambda test: scores_of(recipe, test, self.design)

    def _read(self, path: Path) -> CellScores:
        try:
            cell = json.loads(path.read_text(encoding="utf-8"))
            told = cell.pop("sha256")
            right = told == _sha256(cell) and cell["files"] == [self.pictures.files[row] for row in self.rows]
        except (OSError, ValueError, KeyError, AttributeError):
            right = False
        if not right:
            raise IntegrityError(
                "HZ-U35",
                "a cell of the study was changed",
                where=path,
                expected="the file as the study wrote it, of the same training pictures",
                kept="every other cell",
                next_step="delete the file; the cell is trained again",
            )
        scores: CellScores = cell["scores"]
        return scores


def scores_of(recipe: Segmentation, test: Pictures, design: Design) -> dict[str, list[float]]:
    """Returns metric -> value of each picture of a test set."""
    predict, px = inference.predictor(recipe), design.training.px
    return scores_by(
        lambda image: inference.whole(image, predict, px=px, stride=design.stride or px // 2), test, design
    )


def scores_by(
    probability: Callable[[NDArray[np.uint8]], NDArray[Any]], test: Pictures, design: Design
) -> dict[str, list[float]]:
    """Returns metric -> value of each picture, foreground where the probability is above 1/2.

    Args:
        probability: Picture `[H, W, 3]` -> probability of foreground `[H, W]`.
        test: Pictures with their true masks.
        design: Metrics, and how foreground becomes objects.
    """
    found: dict[str, list[float]] = {metric: [] for metric in design.metrics}
    for image, mask_HW in zip(test.images, test.masks, strict=True):
        guess_HW = inference.objects(
            probability(image) > 0.5, how=design.how, least_px=design.least_px, reach_px=design.reach_px
        )
        for metric, value in score(mask_HW, guess_HW, metrics=design.metrics).items():
            found[metric].append(value)
    return found


def _word(name: str) -> str:
    """Returns a name that is good for a file, distinct for distinct names."""
    plain = re.sub(r"[^A-Za-z0-9._]", "_", name)
    return plain if plain == name else f"{plain}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
