"""The study of slides: every pooling, seed and fold a cell that is written when it is done, then results with intervals over patients.

A study that was killed goes on with the cells that are missing. Folds are the same for all poolings, seeds and subjects.

Shapes: M seeds, S slides, K classes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from histozoo import durable
from histozoo.errors import UsageError
from histozoo.evaluate.resampling import Ints
from histozoo.evaluate.result import Subject
from histozoo.evaluate.slides.bags import Bags
from histozoo.evaluate.slides.crossval import FoldResult, cross_fold, slide_folds
from histozoo.evaluate.slides.report import Probabilities, Setting, summarise, table
from histozoo.evaluate.slides.topk import Encoder, Tuning, tune_fold

if TYPE_CHECKING:
    from histozoo.evaluate.slides.attention import Pooling
    from histozoo.evaluate.slides.model import Select, Settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Args:
        poolings: Heads that are fitted on frozen features.
        seeds: Of the heads.
        folds: Number of folds.
        seed: Of the folds and the resampling.
        epochs: Of the heads.
        select: See `Settings`.
        standardise: See `Settings`; on where encoders are compared.
        tuning: Fine-tuning on the tiles attended most, for subjects whose encoder is given; none where it is left out.
        tuned_pooling: The pooling of the fine-tuned model.
        resamples: Bootstrap resamples.
    """

    poolings: tuple[Pooling, ...] = ("attention", "gated", "mean", "max")
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: int = 5
    seed: int = 0
    epochs: int = 20
    select: Select = "loss"
    standardise: bool = False
    tuning: Tuning | None = None
    tuned_pooling: Pooling = "attention"
    resamples: int = 10_000


class Cell(NamedTuple):
    """One fit: which head on whose features, with which seed, judged on which fold."""

    protocol: str
    subject: Subject
    seed: int
    fold: int

    def path(self, out: Path) -> Path:
        """Returns where its result lies."""
        return out / "cells" / self.protocol / self.subject / f"seed{self.seed}-fold{self.fold}.json"


@dataclass(frozen=True, kw_only=True)
class _Study:
    out: Path
    plan: Plan
    subjects: Mapping[Subject, Bags]
    encoders: Mapping[Subject, Encoder]
    fold_S: Ints
    device: str

    def cells(self) -> Iterator[tuple[Cell, Callable[[Cell], dict[str, Any]]]]:
        """Gives every cell with what computes it."""
        for subject in self.subjects:
            kinds: list[tuple[str, Callable[[Cell], dict[str, Any]]]] = [
                (f"slides_{pooling}", self._frozen(pooling)) for pooling in self.plan.poolings
            ]
            if self.plan.tuning is not None and subject in self.encoders:
                kinds.append((f"slides_topk_{self.plan.tuned_pooling}", self._tuned))
            for protocol, compute in kinds:
                for seed in self.plan.seeds:
                    yield from ((Cell(protocol, subject, seed, f), compute) for f in range(self.plan.folds))

    def _frozen(self, pooling: Pooling) -> Callable[[Cell], dict[str, Any]]:
        def compute(cell: Cell) -> dict[str, Any]:
            found = cross_fold(
                self.subjects[cell.subject],
                self.fold_S,
                cell.fold,
                settings=_settings(self.plan, pooling),
                seed=cell.seed,
                device=self.device,
            )
            return {"result": found.to_json()}

        return compute

    def _tuned(self, cell: Cell) -> dict[str, Any]:
        assert self.plan.tuning is not None
        run = cell.path(self.out).with_suffix(".run")
        found = tune_fold(
            self.subjects[cell.subject],
            self.encoders[cell.subject],
            self.fold_S,
            cell.fold,
            settings=_settings(self.plan, self.plan.tuned_pooling),
            tuning=self.plan.tuning,
            seed=cell.seed,
            run=run,
            device=self.device,
        )
        chosen = {str(slide): rows.tolist() for slide, rows in found.chosen.items()}
        return {"result": found.result.to_json(), "before": found.before.to_json(), "chosen": chosen}

    def do(self, cell: Cell, compute: Callable[[Cell], dict[str, Any]]) -> dict[str, Any]:
        """Returns what a cell holds, from its file or computed and written; what a fit left behind goes once it is written."""
        path = cell.path(self.out)
        key = _key(self.subjects[cell.subject], self.fold_S, self.plan, tuned="topk" in cell.protocol)
        if path.is_file():
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if stored["key"] != key:
                raise _another(path, key, stored["key"])
        else:
            stored = {"key": key, **compute(cell)}
            durable.write_json(path, stored)
        shutil.rmtree(path.with_suffix(".run"), ignore_errors=True)
        return stored


def study(
    subjects: Mapping[Subject, Bags],
    *,
    out: str | Path,
    plan: Plan,
    left_out: bool,
    encoders: Mapping[Subject, Encoder] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Computes the cells that are missing, writes `out/results.json` and `out/results.txt`, and returns what the JSON holds.

    Args:
        subjects: `trained`, and `random` where a random twin is compared: the same slides with the features of each.
        out: Folder of the study.
        plan: What is measured.
        left_out: Whether no tile of the task's lineage was in the training corpus.
        encoders: Of the subjects, where they are fine-tuned.
        device: As in `Engine`.
        progress: Called with the numbers of cells done and of all.

    Raises:
        UsageError: `HZ-I64` the subjects' slides differ; `HZ-I72` a class has fewer patients than folds, or `out` holds another study;
            and what `tune_fold` and `scores.estimates` raise.
        Interrupted: `HZ-F41`, a signal asked to stop; finished cells are kept.
    """
    bags = _same_slides(subjects)
    fold_S = slide_folds(bags, folds=plan.folds, seed=plan.seed)
    running = _Study(
        out=Path(out),
        plan=plan,
        subjects=subjects,
        encoders=encoders or {},
        fold_S=fold_S,
        device=device,
    )
    todo = list(running.cells())
    stored: dict[Cell, dict[str, Any]] = {}
    for done, (cell, compute) in enumerate(todo, start=1):
        stored[cell] = running.do(cell, compute)
        if progress:
            progress(done, len(todo))
    setting = Setting(
        seeds=plan.seeds,
        seed=plan.seed,
        folds=plan.folds,
        resamples=plan.resamples,
        left_out=left_out,
        fold_S=fold_S,
    )
    report = summarise(bags, _gathered(bags, stored, plan), setting)
    durable.write_json(Path(out) / "results.json", report)
    durable.write_text(Path(out) / "results.txt", table(report))
    return report


def _settings(plan: Plan, pooling: Pooling) -> Settings:
    from histozoo.evaluate.slides.model import Settings

    return Settings(pooling=pooling, epochs=plan.epochs, select=plan.select, standardise=plan.standardise)


def _key(bags: Bags, fold_S: Ints, plan: Plan, *, tuned: bool) -> str:
    """What decides a cell's numbers, but for its own name: poolings, seeds, resamples and fine-tuning may be added to a study."""
    from histozoo import __version__

    own = (plan.epochs, plan.select, plan.standardise, (plan.tuning, plan.tuned_pooling) if tuned else None)
    return hashlib.sha256(repr((bags.fingerprint, fold_S.tolist(), own, __version__)).encode()).hexdigest()


def _another(path: Path, expected: str, got: str) -> UsageError:
    return UsageError(
        "HZ-I72",
        "the folder holds another study: of other features, slides, folds, settings or version",
        where=path,
        expected=f"key {expected[:16]}...",
        got=f"key {str(got)[:16]}...",
        kept="the folder is untouched",
        next_step="write to another folder, or remove this one",
    )


def _same_slides(subjects: Mapping[Subject, Bags]) -> Bags:
    first, *others = subjects.values()
    for other in others:
        same = (other.slides, other.patients, other.classes) == (first.slides, first.patients, first.classes)
        if not same or not np.array_equal(other.labels_S, first.labels_S):
            raise UsageError(
                "HZ-I64",
                "the subjects are not compared on the same slides",
                expected=f"{len(first)} slides with the same patients and labels",
                got=f"{len(other)} slides",
            )
    return first


def _gathered(bags: Bags, stored: Mapping[Cell, dict[str, Any]], plan: Plan) -> Probabilities:
    """Returns the probabilities of every protocol; those of a fine-tuned model before it was tuned as `<protocol>_before`."""
    found: Probabilities = {}
    for cell, content in stored.items():
        for suffix, part in (("", "result"), ("_before", "before")):
            if part not in content:
                continue
            fold = FoldResult.from_json(content[part])
            by_subject = found.setdefault(cell.protocol + suffix, {})
            shape = (len(plan.seeds), len(bags), len(bags.classes))
            values_MSK = by_subject.setdefault(cell.subject, np.full(shape, np.nan))
            values_MSK[plan.seeds.index(cell.seed), fold.slides_S] = fold.probabilities_SK
    return found
