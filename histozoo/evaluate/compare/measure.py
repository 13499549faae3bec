"""Every encoder on every task by every protocol, each measured once and kept: a command that was killed goes on where it stopped.

Folds depend on labels, groups and seed alone, and groups are those found at one tile size, so that encoders of different tile sizes
are tested on the same rows. Shapes: N tiles, D features.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import durable
from histozoo.data.splits import Split, make_split
from histozoo.errors import UsageError
from histozoo.evaluate.compare import cells
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.plan import FINETUNE, SLIDES, Job, Plan, check, jobs
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.labelled import LabelledTiles, read
from histozoo.evaluate.protocol import Predictions

GROUPS_PX = 112
"""Side at which duplicate tiles are looked for, whatever the encoder's own, in pixels."""

FRACTIONS = (0.6, 0.2)
"""Shares of training and validation where a model is fine-tuned; the rest is scored."""

UNDEFINED = ("HZ-E36", "HZ-I62", "HZ-I63")
"""Codes that say of a task that folds or a split of it cannot be made: it has no number then, for any model; other tasks have."""

NO_SLIDES = (*UNDEFINED, "HZ-I71", "HZ-I72")
"""The same where groups are slides: tiles of one that do not agree on its label, or a class with too few."""

Features = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a plan gave.

    Args:
        cells: Every model on every task by every label of a job, less what is undefined.
        undefined: (label, task) -> why there is no number.
    """

    cells: tuple[Cell, ...]
    undefined: Mapping[tuple[str, str], str]

    def of(self, label: str) -> tuple[list[Cell], dict[str, str]]:
        """Returns the cells of one label, and its tasks without a number with the reason."""
        return (
            [c for c in self.cells if c.protocol == label],
            {task: why for (name, task), why in self.undefined.items() if name == label},
        )


class _UndefinedError(Exception):
    """The task cannot be measured so; the text says why."""


def measure(plan: Plan, *, say: Callable[[str], None] = lambda line: None) -> Measured:
    """Returns the cells of a plan, measuring those that are not there yet.

    Args:
        plan: What to measure.
        say: Receives a line per cell that is measured.

    Raises:
        UsageError: What `plan.check` raises, before anything is measured; and what protocols raise.
        IntegrityError: `HZ-I75` a stored prediction is damaged; `HZ-I62` a feature is not finite.
        Interrupted: `HZ-F41`, stopped while fine-tuning; the same command goes on.
    """
    check(plan)
    durable.remove_stale(plan.out / "cells")
    found: list[Cell] = []
    undefined: dict[tuple[str, str], str] = {}
    for task in dict.fromkeys(plan.tasks):
        by_px: dict[int, LabelledTiles] = {}
        for column, encoders in plan.columns.items():
            for one in encoders:
                labelled = task_at(plan, task, one.tile_px, by_px)
                features = functools.cache(functools.partial(_features, plan, one, labelled))
                for job in jobs(plan):
                    if (job.label, task) in undefined:
                        continue
                    try:
                        found.append(_cell(plan, column, one, labelled, job, features, say))
                    except _UndefinedError as error:
                        undefined[job.label, task] = str(error)
    kept = tuple(c for c in found if (c.protocol, c.task) not in undefined)
    return Measured(cells=kept, undefined=undefined)


def task_at(plan: Plan, task: str, px: int, known: dict[int, LabelledTiles]) -> LabelledTiles:
    """Returns a task at a tile size, with the groups that all encoders share; `known` keeps what was read."""
    for side in (GROUPS_PX, px):
        if side not in known:
            known[side] = read(task, data_root=plan.data_root, tile_px=side, cache=plan.cache / "tiles")
    return replace(known[px], groups_N=known[GROUPS_PX].groups_N)


def _features(plan: Plan, one: Encoder, labelled: LabelledTiles) -> NDArray[np.float32]:
    return cached_features(one, labelled, cache=plan.cache / "features", device=plan.device)


def _cell(
    plan: Plan,
    column: str,
    one: Encoder,
    labelled: LabelledTiles,
    job: Job,
    features: Features,
    say: Callable[[str], None],
) -> Cell:
    settings = (plan.preset, job.fraction, plan.seeds[0]) if job.tunes else None
    key = cells.key(one, labelled, protocol=job.protocol, seed=job.seed, settings=settings)
    path = plan.out / "cells" / f"{key}.safetensors"
    if path.exists():
        predictions, facts = cells.read(path)
    else:
        # A task without a number is found out before a line says that it is measured.
        split = _split(plan, labelled, job) if job.tunes else None
        started = time.monotonic()
        say(f"{labelled.task}: {job.label} of {one.label}, {len(labelled.labels_N):,} tiles")
        if split is not None:
            folder = plan.out / "fits" / key
            predictions, facts = _finetuned(plan, one, labelled, job, split=split, folder=folder)
        elif job.pools:
            predictions, facts = _pooled(plan, labelled, job, features)
        else:
            predictions, facts = _probed(labelled, job, features)
        facts["seconds"] = round(time.monotonic() - started, 3)
        cells.save(path, predictions, facts)
    return cells.cell(
        one,
        slides_of(labelled) if job.pools else labelled,
        predictions,
        model=column,
        protocol=job.label,
        seed=job.seed,
        facts=facts,
    )


def _pooled(
    plan: Plan, labelled: LabelledTiles, job: Job, features: Features
) -> tuple[Predictions, dict[str, Any]]:
    from histozoo.evaluate.slides.bags import from_tiles
    from histozoo.evaluate.slides.predict import predict

    f_ND = features()
    with _no_number(*NO_SLIDES):
        bags = from_tiles(
            f_ND, labelled.labels_N, labelled.groups_N, task=labelled.task, classes=labelled.classes
        )
        found = predict(
            bags,
            pooling=job.protocol.removeprefix(SLIDES),  # type: ignore[arg-type]  # one of POOLINGS, see `plan.check`
            seed=job.seed,
            fold_seed=plan.seeds[0],
            device=plan.device,
        )
    return found, {"dimension": f_ND.shape[1], "slides": len(bags), "tiles": len(f_ND)}


def slides_of(labelled: LabelledTiles) -> LabelledTiles:
    """Returns the task with the first tile of each group, sorted by name as bags are: of slides, label and group alone count."""
    slides, first_S = np.unique(labelled.groups_N, return_index=True)
    return replace(
        labelled,
        tiles_NHWC=labelled.tiles_NHWC[first_S],
        labels_N=labelled.labels_N[first_S],
        groups_N=slides,
    )


def _probed(labelled: LabelledTiles, job: Job, features: Features) -> tuple[Predictions, dict[str, Any]]:
    f_ND = features()
    protocol = FEATURE_PROTOCOLS[job.protocol]
    with _no_number(*UNDEFINED):
        found = protocol(f_ND, labelled.labels_N, labelled.groups_N, seed=job.seed)
    return found, {"dimension": f_ND.shape[1], "settings": list(found.c_F), **dict(_shots(found))}


def _shots(found: Predictions) -> Iterator[tuple[str, Any]]:
    from histozoo.evaluate.simpleshot import FewShot

    if isinstance(found, FewShot):
        yield (
            "shots",
            [
                {"shots": s.shots, "mean": s.mean, "sd": s.sd, "percentiles": list(s.percentiles())}
                for s in found.shots
            ],
        )
        if found.too_many:
            yield "shots_left_out", {"shots": list(found.too_many), "rarest": found.rarest}


def _finetuned(
    plan: Plan, one: Encoder, labelled: LabelledTiles, job: Job, *, split: Split, folder: Path
) -> tuple[Predictions, dict[str, Any]]:
    from histozoo.evaluate.finetune.run import finetune
    from histozoo.evaluate.finetune.settings import PRESETS

    done = finetune(
        one.module(),
        labelled,
        split,
        mode=job.protocol.removeprefix(FINETUNE),  # type: ignore[arg-type]  # one of MODES, see `plan.check`
        mean=one.mean,
        std=one.std,
        fraction=job.fraction,
        seed=job.seed,
        settings=PRESETS[plan.preset],
        folder=folder,
        device=plan.device,
    )
    facts = {"lr": done.lr, "best_step": done.best_step, "parameters": done.parameters}
    return done.predictions, {**facts, "fraction": done.fraction, "rows": done.rows}


def _split(plan: Plan, labelled: LabelledTiles, job: Job) -> Split:
    """Returns the split that all seeds share, if the task has one and so small a share of its labels can be drawn."""
    from histozoo.evaluate.finetune.checks import check_task
    from histozoo.evaluate.finetune.fractions import label_fraction

    with _no_number(*UNDEFINED):
        # Without tiles: copies were joined into groups already, at the size that all encoders share.
        groups = [str(g) for g in labelled.groups_N]
        split = make_split(
            labelled.labels_N, groups, seed=plan.seeds[0], fractions=FRACTIONS, where=labelled.task
        )
        check_task(labelled, split)
    with _no_number("HZ-I68"):
        label_fraction(
            labelled.labels_N, labelled.groups_N, split.train, fraction=job.fraction, seed=job.seed
        )
    return split


@contextmanager
def _no_number(*codes: str) -> Iterator[None]:
    """Turns errors of these codes into "the task has no number"."""
    try:
        yield
    except UsageError as error:
        if error.code not in codes:
            raise
        said = (f"{error.code} {error.what}", error.where, error.got)
        raise _UndefinedError("; ".join(text for text in said if text)) from error
