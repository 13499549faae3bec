"""The trainings of a ladder: one experiment per method and seed, all of one trunk, on the same tiles, for the same work.

Work is counted in floating point operations of forward and backward passes, augmentation left out, in units of a tile that passes once
through the trunk with supervised heads: a method that looks at two views of a tile and asks a teacher takes fewer steps.

Shapes: B tiles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from histozoo import durable, experiment, pretrain
from histozoo.assemble import build_recipe
from histozoo.errors import UsageError
from histozoo.experiment import Experiment
from histozoo.recipes import PRESETS
from histozoo.studies.folder import Bench
from histozoo.studies.settings import Ladder
from histozoo.tasks import task

SUPERVISED = "multitask"
"""The recipe whose work on a tile is the unit, and that the others are compared with beside random weights."""

_TILES = 4  # of a trial batch; work per tile hardly depends on it


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One training.

    Args:
        recipe: Its method.
        seed: Its seed.
        folder: The run.
        processes: How many train it together, each on an equal part of every batch.
        steps, tiles: What it trained for; a tile seen twice counts twice.
        work: Units of work of one tile.
        curve: (step, mean balanced accuracy of the online probe or of its own heads) at every evaluation; empty before it is trained.
    """

    recipe: str
    seed: int
    folder: Path
    processes: int
    steps: int
    tiles: int
    work: float
    curve: tuple[tuple[int, float], ...]


def train(settings: Ladder, bench: Bench) -> list[Rung]:
    """Trains what is not there yet, in the order of seeds, then methods: a ladder that is stopped has whole rungs.

    All experiment files are written before the first training, so that other machines can train some of the rungs meanwhile. Several
    processes train every rung together, on the batches of one: each takes its part of them.

    Raises:
        UsageError: `HZ-F44` a run that is there has other batches, or was begun by another number of processes; `HZ-U43` a batch that
            cannot be dealt out evenly.
        UsageError, IntegrityError, Interrupted: What `pretrain.run` raises.
    """
    planned = [_planned(settings, bench, r, seed) for seed in settings.seeds for r in settings.recipes]
    trained = [_trained(rung, settings, bench) for rung in planned]
    bench.crew.part()
    return trained


def _planned(settings: Ladder, bench: Bench, recipe: str, seed: int) -> Rung:
    """Returns a rung before it is trained, with its experiment file written."""
    said = fields(settings, recipe, seed)
    unit, own = (
        json.dumps(fields(settings, r, settings.seeds[0])) for r in (SUPERVISED, recipe)
    )  # alike for all seeds
    work = work_per_tile(own) / work_per_tile(unit)
    steps = max(1, round(settings.tiles / (work * settings.batch_size)))
    every = max(1, steps // settings.evaluations)
    folder = bench.out / "runs" / name(settings, recipe, seed)
    processes = (_begun(folder) or (_dealt(settings, bench.crew.size), 0))[0]
    rung = Rung(
        recipe=recipe,
        seed=seed,
        folder=folder,
        processes=processes,
        steps=steps,
        tiles=steps * settings.batch_size,
        work=work,
        curve=(),
    )
    said |= {"batch_size": max(1, settings.batch_size // processes)}
    text = toml({**said, "steps": steps, "eval_every": every, "save_every": every})
    durable.write_text(_experiment(rung, bench), text)
    return rung


def _trained(rung: Rung, settings: Ladder, bench: Bench) -> Rung:
    bench.say(f"{rung.recipe}, seed {rung.seed}: {rung.steps:,} steps")
    done = (rung.folder / "final" / "DONE.json").exists()
    _require_same(rung, settings, None if done else bench.crew.size)
    path = _experiment(rung, bench)
    places: dict[str, Any] = {
        "data_root": None if bench.data_root is None else str(bench.data_root),
        "runs": str(rung.folder.parent),
        "device": "cpu" if bench.device == "cpu" else "auto",
    }
    if not done:  # a finished one is compared with what is asked for, which takes one process
        bench.crew.call_to_train(experiment_path=str(path), **places)
    folder = pretrain.run(path, **places, say=bench.tell)
    return replace(rung, folder=folder, curve=_curve(folder))


def _dealt(settings: Ladder, processes: int) -> int:
    """Returns the number of processes, or refuses one that a batch cannot be dealt out to: the work would not be what was asked for."""
    if settings.batch_size % processes:
        raise UsageError(
            "HZ-U43",
            "a batch of the ladder cannot be dealt out evenly to these processes",
            expected=f"a batch_size that {processes} divides",
            got=settings.batch_size,
            kept="nothing was trained",
            next_step="start another number of processes, or change the batch for all rungs with --set batch_size=...",
        )
    return processes


def _begun(folder: Path) -> tuple[int, int] | None:
    """Returns by how many processes a run was begun, and its tiles of a step of all of them; None where there is no run."""
    if not (folder / "experiment.json").exists():
        return None
    facts = (
        json.loads((folder / f"{n}.json").read_text(encoding="utf-8")) for n in ("environment", "experiment")
    )
    environment, said = facts
    processes = int(environment["processes"])
    return processes, processes * int(said["batch_size"]) * int(said["accumulate"])


def _require_same(rung: Rung, settings: Ladder, processes: int | None) -> None:
    """Refuses a run on other batches than the rung's, since rungs are compared at equal work; and one that other `processes` began."""
    if (begun := _begun(rung.folder)) is None:
        return
    before, batch = begun
    if batch != settings.batch_size:
        raise UsageError(
            "HZ-F44",
            "a rung of the ladder was trained on batches of another size, so that its work is not that of the others",
            where=rung.folder,
            expected=f"{settings.batch_size} tiles a step, of all processes together",
            got=f"{batch} by {before} process{'es' * (before > 1)}",
            kept="the run is untouched",
            next_step="move it away and give the command again; its file is trained by as many processes as it was written for",
        )
    if processes not in (None, before):
        raise UsageError(
            "HZ-F44",
            "a rung of the ladder was begun by another number of processes",
            where=rung.folder,
            expected=f"{before}, as it was begun",
            got=f"{processes}",
            kept="the run is untouched",
            next_step=f"give the command to {before}, or move the run away: it is then trained anew",
        )


def _experiment(rung: Rung, bench: Bench) -> Path:
    return bench.out / "experiments" / f"{rung.folder.name}.toml"


def name(settings: Ladder, recipe: str, seed: int) -> str:
    """Returns the name of a rung's experiment and run."""
    return f"{settings.architecture}.{recipe}_ladder{seed}"


def fields(settings: Ladder, recipe: str, seed: int) -> dict[str, Any]:
    """Returns what a rung's experiment says, but for its length."""
    said: dict[str, Any] = {
        "name": name(settings, recipe, seed),
        "preset": "modern" if recipe == SUPERVISED else "small",
        "tasks": list(settings.train_tasks),
        "seed": seed,
        "tile_px": settings.px,
        "train_px": settings.px,
        "pack_px": settings.pack_px,
        "batch_size": settings.batch_size,
        "precision": settings.precision,
        "alpha": settings.alpha,
        "mean": list(settings.mean),
        "std": list(settings.std),
        "max_grad_norm": settings.max_grad_norm,
    }
    if settings.shard:
        said["shard"] = True
    if recipe in settings.lr:
        said["lr"] = settings.lr[recipe]
    if recipe in (SUPERVISED, "multitaskssl"):
        said["warmup_steps"] = settings.warmup_steps
    if PRESETS[recipe][said["preset"]].get("views", {}).get("local_views"):
        said["views"] = {"local_px": settings.px // 2}
    return said


@cache
def work_per_tile(said: str) -> float:
    """Returns the floating point operations of one training step of an experiment, divided by its tiles."""
    from torch.utils.flop_counter import FlopCounterMode

    e = experiment.resolve({**json.loads(said), "steps": 100, "eval_every": 100, "save_every": 100})
    classes = {t: len(task(t).classes) for t in e.tasks}
    recipe = build_recipe(e, classes).train()
    with FlopCounterMode(display=False) as counter:
        recipe(_trial(e, recipe.uniforms))["loss"].backward()
    return float(counter.get_total_flops()) / _TILES


def _trial(e: Experiment, uniforms: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (_TILES, e.pack_px, e.pack_px, 3)
    return {
        "tiles": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        "u": torch.rand(_TILES, uniforms, generator=generator),
        "task": torch.zeros(_TILES, dtype=torch.int64),
        "label": torch.zeros(_TILES, dtype=torch.int64),
        "index": torch.arange(_TILES),
    }


def toml(values: Mapping[str, Any]) -> str:
    """Returns plain values, lists and tables of them as TOML."""
    lines = [f"{key} = {json.dumps(v)}\n" for key, v in values.items() if not isinstance(v, dict)]
    tables = [f"\n[{key}]\n{toml(v)}" for key, v in values.items() if isinstance(v, dict)]
    return "".join(lines + tables)


def _curve(folder: Path) -> tuple[tuple[int, float], ...]:
    """Returns the online score at every evaluation: of the probe where the run has one, else of the recipe's own heads."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records: Sequence[dict[str, Any]] = [json.loads(line) for line in lines]
    for key in ("knn_balanced_accuracy", "val_balanced_accuracy"):
        if found := tuple((int(r["step"]), float(r[key])) for r in records if key in r):
            return found
    return ()
