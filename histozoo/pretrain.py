"""Experiment -> tasks and recipe -> Trainer -> runs/<name>/.

A run folder holds `experiment.json` (as resolved), `environment.json`, `data.json` (per task: counts, licence, lineage, fingerprint,
split), `metrics.jsonl`, `tensorboard/`, whole `checkpoint-<step>/` folders and, when the last step is done, `final/` with `DONE.json`
written last.
Starting the same command again continues the run; final weights are bit-identical to those of an uninterrupted one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from histozoo import (
    candidate,
    checkpoints,
    continuing,
    devices,
    durable,
    registry,
    run_folder,
    unlabelled_data,
)
from histozoo import experiment as experiments
from histozoo.assemble import build_recipe, check_recipe, check_start
from histozoo.data.streamed import Mixable
from histozoo.data.views import normalise
from histozoo.errors import Interrupted
from histozoo.evaluate.statistics import balanced_accuracy
from histozoo.experiment import Experiment
from histozoo.health import MOST, Health
from histozoo.recipes import LABELLED, Recipe
from histozoo.training_data import (
    Prepared,
    check_resolutions,
    describe,
    fingerprints,
    kept_tasks,
    prepare_task,
    prepare_tasks,
    sequence,
    tile_resolutions,
    watched_tasks,
)


def run(
    experiment_path: str | Path,
    *,
    data_root: str | Path | None = None,
    runs: str | Path = "runs",
    leave_out: Sequence[str] = (),
    resume_step: int | None = None,
    accept_change: bool = False,
    workers: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
    **overrides: Any,
) -> Path:
    """Trains an experiment and returns its run folder; a second call continues or, when it is done, compares and does nothing.

    Args:
        experiment_path: TOML file, see `histozoo.experiment.Experiment`.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is left out.
        runs: Where run folders lie.
        leave_out: Lineages whose tasks are not trained on; the run folder's name says so.
        resume_step: Continue from exactly this checkpoint instead of the newest whole one.
        accept_change: Continue although experiment, data, code or the number of processes changed; the change is recorded. Of a run that is
            done, only what the card says can still be changed.
        workers: Loader processes.
        device: `cpu` or `auto`.
        say: Receives a line where something is worth knowing before training ends.
        overrides: Experiment fields that win over the file.

    Raises:
        UsageError: The experiment, a task or the data is wrong; or the run folder is in use (`HZ-F48`).
        IntegrityError: `HZ-F43` damaged checkpoint, `HZ-F44` the run was started differently, `HZ-F45` non-finite steps.
        ResourceError: `HZ-F42` disk full; training stops rather than runs unsaved.
        Interrupted: `HZ-F41` a signal asked to stop; a checkpoint was written.
    """
    experiment = experiments.read(experiment_path, **overrides)
    kept, watched = kept_tasks(experiment, leave_out), watched_tasks(experiment, leave_out)
    folder = Path(runs) / "-without-".join([experiment.name, *leave_out])
    check_start(experiment)
    check_resolutions(experiment, kept, leave_out)
    looked_at = check_recipe(experiment, {t.name: len(t.classes) for t in kept})
    parents = candidate.parents_of(experiment.settings())
    settings = {**experiment.settings(), "leave_out": list(leave_out), "parents": parents}
    if parents:
        settings["init"] = parents[0]["name"]  # of a bundle folder its name: where it lay says nothing
    if resume_step is not None:
        checkpoints.check_there(folder, resume_step)
    done = (folder / "final" / "DONE.json").exists()
    if done and not accept_change:
        now = fingerprints([*kept, *watched], data_root)
        run_folder.compare(folder, {"experiment.json": settings, "data.json": now})
        return folder
    for t in (*kept, *watched):
        t.require(data_root)
    if experiment.precision == "bf16" and devices.emulates_bfloat16(devices.choose(device)):
        warnings.warn(
            "HZ-U45 this processor has no bfloat16 instructions and imitates them, about nine times slower than float32; "
            "a run of your own is faster with --set 'precision=\"fp32\"'",
            stacklevel=2,
        )
    if experiment.inherit == "everything" and not done and checkpoints.newest_valid(folder) is None:
        parent = registry.resolve(experiment.init)
        continuing.check(looked_at, parent, optimizer=experiment.optimizer)
    with run_folder.locked(folder):
        durable.remove_stale(folder)
        # Verified once, and under the lock: no other process changes it until it is loaded.
        asked = None if done or resume_step is None else checkpoints.explicit(folder, resume_step)
        where: dict[str, Any] = {"data_root": data_root, "cache": Path(runs) / "tiles"}
        prepared = prepare_tasks(experiment, leave_out=leave_out, **where)
        seen = {t.name: prepare_task(t, experiment, **where) for t in watched}
        sources = unlabelled_data.open_all(experiment, leave_out=leave_out, **where)
        tile_mpp = tile_resolutions(experiment, prepared, sources.facts)
        # Before the run folder is filled: what is refused here, or cannot be fetched, leaves nothing half-written.
        classes = {name: len(p.task.classes) for name, p in prepared.items()}
        recipe = None if done else build_recipe(experiment, classes, tile_mpp=tile_mpp)
        tasks = {name: describe(p) for name, p in prepared.items()}
        tasks |= {name: describe(p, watched=True) for name, p in seen.items()}
        facts = {"data.json": {**tasks, **sources.facts}, "experiment.json": settings}
        _record(folder, facts, done=done, accept_change=accept_change)
        if recipe is not None:
            _train(
                folder,
                experiment,
                recipe,
                prepared,
                sources.sets,
                watched=seen,
                resume_from=asked,
                workers=workers,
                device=device,
                say=say,
            )
    return folder


def _record(folder: Path, facts: Mapping[str, Any], *, done: bool, accept_change: bool) -> None:
    if not run_folder.is_first_process():
        return
    if done:
        run_folder.restate(folder, facts)
    else:
        made_by = {"environment.json": run_folder.environment()}
        run_folder.record(folder, {**made_by, **facts}, accept_change=accept_change)


def _train(
    folder: Path,
    experiment: Experiment,
    recipe: Recipe,
    tasks: Mapping[str, Prepared],
    unlabelled: Mapping[str, Mixable],
    *,
    watched: Mapping[str, Prepared],
    resume_from: Path | None,
    workers: int,
    device: str,
    say: Callable[[str], None],
) -> None:
    from histozoo.engine import Engine  # here, since it takes seconds to import, and mistakes are told before

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    samples = experiment.steps * experiment.batch_size * experiment.accumulate * processes
    dataset = sequence(experiment, tasks, unlabelled, samples=samples, uniforms=recipe.uniforms)
    checkpoint = resume_from or checkpoints.newest_valid(folder)
    if checkpoint:
        say(f"continuing from {checkpoint.name} of {experiment.steps} steps")
    transplant = experiment.own.get("transplant_batches", 0)
    if checkpoint is None and transplant and experiment.init != "random":
        recipe.prepare(_first_batches(dataset, experiment.batch_size, transplant))
    inherited = {}
    if checkpoint is None and experiment.inherit == "everything":
        parent = registry.resolve(experiment.init)
        inherited = continuing.training_state(parent)
        continuing.take_heads(recipe, inherited["heads"], parent=parent.name)
    engine = Engine(
        recipe,
        experiment=experiment,
        run=folder,
        train_dataset=dataset,
        evaluate_recipe=_measure(experiment, tasks, watched=watched, unlabelled=unlabelled),
        workers=workers,
        device=device,
        optimizer_state=inherited.get("optimizer"),
    )
    with engine.signals.caught():
        engine.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if engine.signals.received and engine.state.global_step < experiment.steps:
        raise Interrupted(
            "HZ-F41",
            f"stopped by {engine.signals.received} at step {engine.state.global_step} of {experiment.steps}",
            where=folder,
            kept=f"checkpoint-{engine.state.global_step} is written",
            next_step="run the same command again to continue",
        )
    run_folder.finish(folder, recipe, engine.optimizer)


def _measure(
    experiment: Experiment,
    tasks: Mapping[str, Prepared],
    *,
    watched: Mapping[str, Prepared],
    unlabelled: Mapping[str, Mixable],
) -> Callable[[Recipe], dict[str, float]]:
    """Returns what is asked at every evaluation: the recipe's own heads where it has some, else its trunk's features of a few tiles."""
    if experiment.recipe in LABELLED:
        return lambda recipe: validate(recipe, tasks, experiment)
    labelled = {
        name: (p.tiles_NHWC, p.labels_N, p.split.train, p.split.val)
        for name, p in {**tasks, **watched}.items()
    }
    others = None if labelled else unlabelled_data.first_tiles(unlabelled, experiment, MOST)
    look: dict[str, Any] = {"mean": experiment.mean, "std": experiment.std, "precision": experiment.precision}
    return Health(labelled, unlabelled_NHWC=others, **look)


def _first_batches(
    dataset: Dataset[dict[str, Any]], size: int, batches: int
) -> Iterator[dict[str, torch.Tensor]]:
    for first in range(0, size * batches, size):
        yield default_collate([dataset[i] for i in range(first, first + size)])


@torch.inference_mode()
def validate(recipe: Recipe, tasks: Mapping[str, Prepared], experiment: Experiment) -> dict[str, float]:
    """Returns each task's balanced accuracy on its validation tiles, by the recipe's own heads, and their mean."""
    device = next(recipe.parameters()).device
    scores = {}
    for name, p in tasks.items():
        guesses = []
        for rows in np.array_split(p.split.val, max(1, len(p.split.val) // 128)):
            x_BCHW = torch.from_numpy(p.tiles_NHWC[rows]).to(device).permute(0, 3, 1, 2).float() / 255
            with torch.autocast(device.type, torch.bfloat16, enabled=experiment.precision == "bf16"):
                logits_BK = recipe.tile_logits(name, normalise(x_BCHW, experiment.mean, experiment.std))
            if logits_BK is None:
                return {}
            guesses.append(logits_BK.argmax(1).cpu().numpy())
        classes = len(p.task.classes)
        scores[f"val_{name}"] = balanced_accuracy(p.labels_N[p.split.val], np.concatenate(guesses), classes)
    if not scores:
        return {}
    return {**scores, "val_balanced_accuracy": float(np.mean(list(scores.values())))}
