"""Every encoder on every task by every protocol, each measured once and kept: a command that was killed goes on where it stopped.

Folds depend on labels, groups and seed alone, and groups are those found at one tile size, so that encoders of different tile sizes
are tested on the same rows. Shapes: N tiles, D features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from histozoo.errors import UsageError
from histozoo.evaluate.compare import cells
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.encoders import Encoder, encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.labelled import LabelledTiles, read
from histozoo.evaluate.protocol import Predictions

RANDOM_SEEDS = (0, 1, 2)
"""Seeds of `random:NAME` without a seed: their mean is shown, since one initialisation differs from the next."""

GROUPS_PX = 112
"""Side at which duplicate tiles are looked for, whatever the encoder's own, in pixels."""

FINETUNE = "finetune_"
FRACTIONS = (0.6, 0.2)
"""Shares of training and validation where a model is fine-tuned; the rest is scored."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Args:
        columns: Name as typed -> its encoders: one, or the seeds of random weights.
        tasks: Names of tasks.
        protocols: Some of `protocol_names()`.
        out: Folder of the predictions.
        cache: Folder of decoded tiles and features.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        seed: Of folds, splits and fits.
        preset: Of fine-tuning, a key of its `PRESETS`.
        fraction: Share of the training rows' labels that fine-tuning gets.
        device: Where models run.
    """

    columns: Mapping[str, Sequence[Encoder]]
    tasks: Sequence[str]
    protocols: Sequence[str]
    out: Path
    cache: Path
    data_root: Path | None = None
    seed: int = 0
    preset: str = "small"
    fraction: float = 1.0
    device: str = "cpu"


def protocol_names() -> tuple[str, ...]:
    """Returns the names of all protocols that a cell can have."""
    from histozoo.evaluate.finetune.settings import MODES

    return (*FEATURE_PROTOCOLS, *(f"{FINETUNE}{mode}" for mode in MODES))


def columns(names: Sequence[str]) -> dict[str, list[Encoder]]:
    """Returns the encoders of each name; `random:NAME` becomes one column of several seeds.

    Raises:
        UsageError: `HZ-I75`, a name is given twice; and what `encoder` raises.
    """
    if len(set(names)) < len(names) or not names:
        raise UsageError(
            "HZ-I75",
            "every model is compared once",
            expected="one or more names, each once",
            got=", ".join(names) or "none",
        )
    found = {}
    for name in names:
        several = name.startswith("random:") and "@" not in name
        found[name] = [encoder(f"{name}@{s}") for s in RANDOM_SEEDS] if several else [encoder(name)]
    return found


def measure(plan: Plan, *, say: Callable[[str], None] = lambda line: None) -> list[Cell]:
    """Returns the cells of a plan, measuring those that are not there yet.

    Args:
        plan: What to measure.
        say: Receives a line per cell.

    Raises:
        UsageError: `HZ-I75` no such protocol; `HZ-U30`, `HZ-U37` no such task or no data; and what protocols raise.
        IntegrityError: `HZ-I75` a stored prediction is damaged; `HZ-I62` a feature is not finite.
        Interrupted: `HZ-F41`, stopped while fine-tuning; the same command goes on.
    """
    _known(plan.protocols)
    found = []
    for task in plan.tasks:
        tasks_by_px: dict[int, LabelledTiles] = {}
        for column, encoders in plan.columns.items():
            for one in encoders:
                labelled = _labelled(plan, task, one.tile_px, tasks_by_px)
                for protocol in plan.protocols:
                    found.append(_cell(plan, column, one, labelled, protocol, say))
    return found


def _known(protocols: Sequence[str]) -> None:
    names = protocol_names()
    for protocol in protocols:
        if protocol not in names:
            raise UsageError(
                "HZ-I75",
                "there is no such protocol",
                expected=", ".join(names),
                got=repr(protocol),
            )


def _labelled(plan: Plan, task: str, px: int, known: dict[int, LabelledTiles]) -> LabelledTiles:
    for side in (GROUPS_PX, px):
        if side not in known:
            known[side] = read(task, data_root=plan.data_root, tile_px=side, cache=plan.cache / "tiles")
    return replace(known[px], groups_N=known[GROUPS_PX].groups_N)


def _cell(
    plan: Plan,
    column: str,
    one: Encoder,
    labelled: LabelledTiles,
    protocol: str,
    say: Callable[[str], None],
) -> Cell:
    settings = (plan.preset, plan.fraction) if protocol.startswith(FINETUNE) else None
    key = cells.key(one, labelled, protocol=protocol, seed=plan.seed, settings=settings)
    path = plan.out / "cells" / f"{key}.safetensors"
    if path.exists():
        predictions, facts = cells.read(path)
    else:
        started = time.monotonic()
        say(f"{labelled.task}: {protocol} of {one.label}, {len(labelled.labels_N):,} tiles")
        predictions, facts = _measured(plan, one, labelled, protocol, folder=plan.out / "fits" / key)
        facts["seconds"] = round(time.monotonic() - started, 3)
        cells.save(path, predictions, facts)
    return cells.cell(
        one, labelled, predictions, model=column, protocol=protocol, seed=plan.seed, facts=facts
    )


def _measured(
    plan: Plan, one: Encoder, labelled: LabelledTiles, protocol: str, *, folder: Path
) -> tuple[Predictions, dict[str, Any]]:
    if protocol.startswith(FINETUNE):
        return _finetuned(plan, one, labelled, protocol.removeprefix(FINETUNE), folder=folder)
    f_ND = cached_features(one, labelled, cache=plan.cache / "features", device=plan.device)
    found = FEATURE_PROTOCOLS[protocol](f_ND, labelled.labels_N, labelled.groups_N, seed=plan.seed)
    return found, {"dimension": f_ND.shape[1], "settings": list(found.c_F), **dict(_shots(found))}


def _shots(found: Predictions) -> Iterator[tuple[str, Any]]:
    from histozoo.evaluate.simpleshot import FewShot

    if isinstance(found, FewShot):
        yield (
            "shots",
            {
                str(s.shots): {"mean": s.mean, "sd": s.sd, "percentiles": list(s.percentiles())}
                for s in found.shots
            },
        )


def _finetuned(
    plan: Plan, one: Encoder, labelled: LabelledTiles, mode: str, *, folder: Path
) -> tuple[Predictions, dict[str, Any]]:
    from histozoo.data.splits import make_split
    from histozoo.evaluate.finetune.run import finetune
    from histozoo.evaluate.finetune.settings import PRESETS

    # Without tiles: copies were joined into groups already, at the size that all encoders share.
    split = make_split(
        labelled.labels_N, [str(g) for g in labelled.groups_N], seed=plan.seed, fractions=FRACTIONS
    )
    done = finetune(
        one.module(),
        labelled,
        split,
        mode=mode,  # type: ignore[arg-type]  # checked there, with the names of all modes
        mean=one.mean,
        std=one.std,
        fraction=plan.fraction,
        seed=plan.seed,
        settings=PRESETS[plan.preset],
        folder=folder,
        device=plan.device,
    )
    facts = {
        "lr": done.lr,
        "best_step": done.best_step,
        "parameters": done.parameters,
        "fraction": done.fraction,
    }
    return done.predictions, {**facts, "rows": done.rows}
