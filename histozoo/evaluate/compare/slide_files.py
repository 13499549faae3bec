"""Slides whose features are there already: feature files of one encoder or of several, compared by attention over their tiles.

    histozoo evaluate features/a features/b --slides slides.csv --protocol slides_gated

A source is what `histozoo embed` writes: a folder with one feature file per slide, or one file whose tiles lie in folders named by slide.
The table has the columns slide and label, and patient where patients are known. Nothing else of the slides is needed, and what the encoder
was trained on is not known: scores are marked so.

Shapes: S slides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histozoo import __version__, durable
from histozoo.errors import UsageError
from histozoo.evaluate.compare import cells
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.plan import SLIDES, named
from histozoo.evaluate.compare.run import write
from histozoo.evaluate.compare.standings import offered, standings
from histozoo.evaluate.encoders import digest
from histozoo.evaluate.slides.attention import POOLINGS
from histozoo.evaluate.slides.bag_files import from_feature_files, read_slide_labels
from histozoo.evaluate.slides.bags import Bags
from histozoo.evaluate.slides.predict import predict
from histozoo.evaluate.verdicts import enough


@dataclass(frozen=True, kw_only=True)
class SlidePlan:
    """What is measured.

    Args:
        sources: Feature files or folders of them; the others are compared with the first.
        table: CSV with the columns `slide`, `label` and, where known, `patient`.
        protocols: `slides_` and a pooling.
        seeds: The first is of folds and resampling, each is of one head.
        out: Folder of predictions and results.
        device: Where heads are fitted.
    """

    sources: Sequence[str]
    table: Path
    protocols: Sequence[str]
    seeds: Sequence[int]
    out: Path
    device: str = "cpu"


def run(
    plan: SlidePlan,
    *,
    resamples: int = 10_000,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Measures every source, writes the files of results into `plan.out` and returns the tables of the deciding metric as text.

    Args:
        plan: What to measure.
        resamples: Bootstrap resamples of every interval.
        command: What was typed, for the page.
        say: Receives a line per head that is fitted.

    Raises:
        UsageError: `HZ-I75` no such protocol, or a source named twice; `HZ-I71` other slides than the table's; `HZ-U32` no such table;
            `HZ-I63` one slide only; `HZ-I72` a class with fewer patients than folds; `HZ-I65` too few
            resamples for so many comparisons.
        IntegrityError: `HZ-H64` a feature file is damaged, `HZ-I75` a kept prediction is.
    """
    known = [f"{SLIDES}{pooling}" for pooling in POOLINGS]
    for protocol in plan.protocols:
        named("protocol for slides", protocol, known)
    bags = _bags(plan)
    enough(resamples, len(bags) * (len(bags) - 1) // 2)
    protocols = list(dict.fromkeys(plan.protocols))
    found = [
        _cell(plan, source, of, protocol, seed, say)
        for protocol in protocols
        for source, of in bags.items()
        for seed in dict.fromkeys(plan.seeds)
    ]
    told = [
        standings(some, metric=metric, seed=plan.seeds[0], resamples=resamples)
        for protocol in protocols
        for some in [[c for c in found if c.protocol == protocol]]
        for metric in offered(some)
    ]
    facts = {
        "command": command,
        "version": __version__,
        "seeds": list(plan.seeds),
        "resamples": resamples,
        "cells": [{"model": c.model, "protocol": c.protocol, "seed": c.seed, **c.facts} for c in found],
    }
    durable.remove_stale(plan.out / "cells")
    return write(told, [], plan.out, facts=facts, say=say)


def _bags(plan: SlidePlan) -> dict[str, Bags]:
    if len(set(plan.sources)) < len(plan.sources):
        raise UsageError(
            "HZ-I75",
            "every source is compared once",
            expected="each once",
            got=", ".join(plan.sources),
            next_step="leave the repeated one out",
        )
    labels = read_slide_labels(plan.table)
    classes = sorted(set(labels.label.values()))
    # All sources are of the same slides: each must be of those of the table, no more and no less.
    return {
        source: from_feature_files(source, labels, task=plan.table.stem, classes=classes)
        for source in plan.sources
    }


def _cell(
    plan: SlidePlan, source: str, bags: Bags, protocol: str, seed: int, say: Callable[[str], None]
) -> Cell:
    settings = {
        "form": cells.FORM,
        "version": __version__,
        "bags": bags.fingerprint,
        "protocol": protocol,
        "seed": seed,
        "fold_seed": plan.seeds[0],
    }
    path = plan.out / "cells" / f"{digest(settings)[:32]}.safetensors"
    facts: dict[str, Any] = {"slides": len(bags), "tiles": len(bags.f_ND), "dimension": bags.f_ND.shape[1]}
    if path.exists():
        predictions, facts = cells.read(path)
    else:
        say(f"{bags.task}: {protocol} of {source}, {len(bags):,} slides, seed {seed}")
        predictions = predict(
            bags,
            pooling=protocol.removeprefix(SLIDES),  # type: ignore[arg-type]  # checked in `run`
            seed=seed,
            fold_seed=plan.seeds[0],
            device=plan.device,
        )
        cells.save(path, predictions, facts)
    order = predictions.rows_N.argsort()
    rows_S = predictions.rows_N[order]
    return Cell(
        model=source,
        encoder=source,
        task=bags.task,
        lineage=bags.task,
        classes=bags.classes,
        protocol=protocol,
        seed=seed,
        seen=None,
        fingerprint=_fingerprint(bags),
        labels_N=bags.labels_S[rows_S],
        groups_N=np.asarray(bags.patients)[rows_S],
        scores_NK=predictions.scores_NK[order],
        probabilities=True,
        fold_N=predictions.fold_N[order],
        facts=facts,
    )


def _fingerprint(bags: Bags) -> str:
    """Returns the sha256 of what is to be told: slides, patients, labels; the same for every source."""
    told = repr((bags.task, bags.classes, bags.slides, bags.patients, bags.labels_S.tolist()))
    return hashlib.sha256(told.encode()).hexdigest()
