"""Sizes of training set x initialisations x seeds, each trained and scored once, kept as one file each; a killed study goes on.

Initialisations may be added later; those that are there stay.

`out/` holds `study.json` (what is compared, on which data), `cells/<size>-<initialisation>-<seed>.json` (the scores of every test picture)
and, while a cell is trained, its run folder. A cell that has its file is never trained again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import durable, run_folder
from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Floats, apart
from histozoo.evaluate.segment import inference
from histozoo.evaluate.segment.cell import Cell, CellScores, Design, scores_by
from histozoo.evaluate.segment.colours import Colours
from histozoo.evaluate.segment.metrics import METRICS
from histozoo.evaluate.segment.model import Start
from histozoo.evaluate.segment.pictures import Pictures
from histozoo.evaluate.segment.subsets import nested, split
from histozoo.evaluate.segment.train import fingerprint

__all__ = ["Cells", "Design", "Scores", "run"]

Cells = dict[tuple[int, str, int], CellScores]
"""(size, initialisation, seed) -> scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a study measured.

    Args:
        design: What was compared.
        train_set: Name of the set that was trained on; its own test groups are scored under this name.
        starts: The initialisations, in the order given.
        groups: Test set -> group of each picture scored.
        fingerprints: Test set -> sha256 of the pictures scored.
        lineages: Test set -> its lineage.
        cells: Scores of every picture.
        seconds: What training and scoring took, all cells together.
        floor: Test set -> metric -> value of each picture where every pixel is called foreground.
    """

    design: Design
    train_set: str
    starts: tuple[Start | Colours, ...]
    groups: Mapping[str, NDArray[Any]]
    fingerprints: Mapping[str, str]
    lineages: Mapping[str, str]
    cells: Cells
    seconds: float
    floor: Mapping[str, Mapping[str, Floats]]

    def curve(self, start: str, *, test_set: str, metric: str) -> dict[int, Floats]:
        """Returns size -> scores `[S, N]` of one initialisation on one test set."""
        return {
            size: np.array([self.cells[size, start, seed][test_set][metric] for seed in self.design.seeds])
            for size in self.design.sizes
        }


def run(
    starts: Sequence[Start | Colours],
    pictures: Pictures,
    *,
    out: str | Path,
    design: Design,
    others: Sequence[Pictures] = (),
    accept_change: bool = False,
) -> Scores:
    """Trains and scores every cell that is not there yet, and returns all.

    Args:
        starts: The initialisations, of one architecture; the colour histogram may be among them.
        pictures: The set that is trained on and, on groups kept apart, tested on.
        out: Folder of the study.
        design: What is compared.
        others: Sets that are tested on only (out of domain).
        accept_change: Go on although data, design or weights changed; recorded in `changes.jsonl`.

    Raises:
        UsageError: `HZ-I63` too few groups, `HZ-I64` two initialisations or sets of one name, `HZ-E38` a test picture is also a training
            picture, `HZ-I69` no picture to learn from, `HZ-I70` unfit architecture, `HZ-U43` unknown metric, `HZ-F48` in use.
        IntegrityError: `HZ-F44` the study was started differently; `HZ-U35` a cell's file was changed.
        Interrupted: `HZ-F41`, a signal asked to stop; the same call continues.
    """
    out = Path(out)
    _check(starts, pictures, others, design)
    may_train, tested = split(pictures, test=design.test, seed=design.split_seed)
    tests = {pictures.name: pictures.take(tested), **{other.name: other for other in others}}
    apart(pictures.groups_N[may_train], pictures.groups_N[tested])
    _refuse_shared(pictures.take(may_train), tests)
    rows = {
        seed: nested(pictures, may_train, sizes=design.sizes, seed=seed, per_group=design.per_group)
        for seed in design.seeds
    }
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with run_folder.locked(out):
        facts = _facts(starts, pictures, tests, design)
        _record(out, facts, accept_change=accept_change)
        cells: Cells = {}
        seconds = 0.0
        for seed in design.seeds:
            for size in design.sizes:
                for begin in starts:
                    make = Cell(begin, pictures, rows[seed][size], tests, design, size, seed)
                    cells[size, begin.name, seed] = make.scores(out / "cells")
                    seconds += make.seconds(out / "cells")
    return Scores(
        design=design,
        train_set=pictures.name,
        starts=tuple(starts),
        groups={name: test.groups_N for name, test in tests.items()},
        fingerprints={name: test.fingerprint for name, test in tests.items()},
        lineages={name: test.lineage for name, test in tests.items()},
        cells=cells,
        seconds=seconds,
        floor={name: _floor(test, design) for name, test in tests.items()},
    )


def _floor(test: Pictures, design: Design) -> dict[str, Floats]:
    everywhere = scores_by(lambda image: np.ones(image.shape[:2]), test, design)
    return {metric: np.array(values) for metric, values in everywhere.items()}


def _record(out: Path, facts: dict[str, Any], *, accept_change: bool) -> None:
    """Compares with earlier starts; an initialisation may join or be left out, but none may become another."""
    path = out / "study.json"
    known = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.is_file() else {}
    all_of_them = {**known, **facts["starts"]}
    before = {name: all_of_them[name] for name in known or all_of_them}
    run_folder.record(out, {"study.json": {**facts, "starts": before}}, accept_change=accept_change)
    durable.write_json(path, {**facts, "starts": all_of_them})


def _facts(
    starts: Sequence[Start | Colours], pictures: Pictures, tests: Mapping[str, Pictures], design: Design
) -> dict[str, Any]:
    return {
        "design": design.settings(),
        "starts": {s.name: _start_facts(s) for s in starts},
        "pictures": pictures.fingerprint,
        "tests": {name: test.fingerprint for name, test in tests.items()},
    }


def _start_facts(s: Start | Colours) -> list[Any]:
    return s.facts() if isinstance(s, Colours) else [s.architecture, *s.mean, *s.std, fingerprint(s.tensors)]


def _check(
    starts: Sequence[Start | Colours], pictures: Pictures, others: Sequence[Pictures], design: Design
) -> None:
    names = [s.name for s in starts], [p.name for p in (pictures, *others)]
    for kind, found in zip(("initialisations", "sets"), names, strict=True):
        if len(set(found)) < len(found) or not found:
            raise UsageError(
                "HZ-I64",
                f"{kind} cannot be told apart",
                expected="one or more, of different names",
                got=", ".join(found),
            )
    if unknown := [m for m in design.metrics if m not in METRICS]:
        raise UsageError(
            "HZ-U43",
            "unknown metric",
            expected=f"some of {', '.join(METRICS)}",
            got=", ".join(unknown),
        )
    if design.stride:
        inference.check(design.training.px, design.stride)
    architectures = sorted({s.architecture for s in starts if isinstance(s, Start)})
    if len(architectures) > 1:
        raise UsageError(
            "HZ-I70",
            "the initialisations are of several architectures",
            expected="one architecture",
            got=", ".join(architectures),
            next_step="compare initialisations of one architecture; another one is another study",
        )


def _refuse_shared(learnt: Pictures, tests: Mapping[str, Pictures]) -> None:
    """Refuses a test picture that may also be trained on."""
    known = dict(zip(learnt.digests, learnt.files, strict=True))
    for name, test in tests.items():
        shared = [
            f"{file} = {known[d]}" for d, file in zip(test.digests, test.files, strict=True) if d in known
        ]
        if shared:
            raise UsageError(
                "HZ-E38",
                "a test picture is also a training picture",
                where=name,
                expected="no picture on both sides",
                got=f"{len(shared)}: {', '.join(shared[:5])}",
                next_step="give both copies one group, or leave one out of the table",
            )
