"""The tasks of an experiment as training takes them: chosen, decoded, split by group, described."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from histozoo.data import resolution, splits, tiles
from histozoo.data.mixing import MixedTiles, TaskTiles
from histozoo.data.resolution import Span
from histozoo.data.streamed import Mixable, StreamedTiles
from histozoo.data.unlabelled import TileSet
from histozoo.errors import UsageError
from histozoo.experiment import Experiment
from histozoo.recipes import LABELLED
from histozoo.tasks import Task, task
from histozoo.unlabelled_data import PartlyLabelled, lineage, named

FRACTIONS = (0.7, 0.15)
"""Shares of training and validation; the rest is for testing. Pretraining wants most tiles, and no choice is made on the rest."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One task, decoded and split.

    Args:
        task: The declaration.
        packed_NHWC: uint8 `[N, px, px, 3]`, RGB, at the experiment's `pack_px`; views are cropped from these.
        tiles_NHWC: The same at the experiment's `tile_px`, as the published model expects them.
        labels_N: int64 class indices.
        groups: The unit kept on one side of the split, one string per tile.
        split: Row indices of train, validation and test.
        fingerprint: sha256 over names, labels, groups and file contents.
        packed_mpp: Micrometres per pixel of the finest and the coarsest packed tile; None where no bound on views asks for it.
    """

    task: Task
    packed_NHWC: NDArray[np.uint8]
    tiles_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    groups: Sequence[str]
    split: splits.Split
    fingerprint: str
    packed_mpp: Span | None = None


def prepare_tasks(
    experiment: Experiment, *, data_root: str | Path | None, cache: Path, leave_out: Sequence[str] = ()
) -> dict[str, Prepared]:
    """Decodes and splits the experiment's tasks, without those of the lineages left out."""
    kept = kept_tasks(experiment, leave_out)
    return {t.name: prepare_task(t, experiment, data_root=data_root, cache=cache) for t in kept}


def kept_tasks(experiment: Experiment, leave_out: Sequence[str] = ()) -> list[Task]:
    """Returns the experiment's tasks without those of the lineages left out; opens nothing.

    Raises:
        UsageError: `HZ-U44` a left-out lineage that no task of the experiment has, or nothing left to train on.
    """
    chosen = [task(name) for name in experiment.tasks]
    sources = {lineage(name, source) for name, source in named(experiment).items()}
    lineages = {t.lineage for t in chosen} | sources
    kept = [t for t in chosen if t.lineage not in leave_out]
    if unknown := set(leave_out) - lineages:
        raise UsageError(
            "HZ-U44",
            "no task of the experiment has this lineage",
            got=", ".join(sorted(unknown)),
            expected=f"some of {', '.join(sorted(lineages))}",
        )
    if not kept and not sources - set(leave_out):
        raise UsageError("HZ-U44", "no task is left to train on", got=f"left out: {', '.join(leave_out)}")
    return kept


def watched_tasks(experiment: Experiment, leave_out: Sequence[str] = ()) -> list[Task]:
    """Returns the tasks that a run is measured on and never trained on, without those of the lineages left out; opens nothing.

    Raises:
        UsageError: `HZ-U44`, one of them is trained on, too, or gives its tiles no class.
    """
    chosen = [task(name) for name in experiment.own.get("watch", ())]
    for t in chosen:
        if t.name in experiment.tasks or t.kind != "multiclass":
            raise UsageError(
                "HZ-U44",
                f"task {t.name} cannot be watched",
                expected="a task of kind multiclass that is not trained on (those of `tasks` are watched by themselves)",
                got="it is trained on" if t.name in experiment.tasks else f"kind {t.kind}",
            )
    return [t for t in chosen if t.lineage not in leave_out]


def fingerprints(tasks: Sequence[Task], data_root: str | Path | None) -> dict[str, dict[str, str]]:
    """Returns what the data of each task is now; a task whose data is no longer there is left out."""
    found = {}
    for t in tasks:
        try:
            t.require(data_root)
        except UsageError:
            continue
        found[t.name] = {"fingerprint": tiles.fingerprint(t.load(data_root))}
    return found


def prepare_task(t: Task, experiment: Experiment, *, data_root: str | Path | None, cache: Path) -> Prepared:
    """Decodes one task at the experiment's tile size and splits it by group; the decoded tiles are kept in `cache`."""
    dataset = t.load(data_root)
    packed_NHWC = tiles.pack(dataset, experiment.pack_px, cache)
    labels_N, groups = np.asarray(dataset["label"], dtype=np.int64), list(dataset["group"])
    split = splits.make_split(
        labels_N,
        groups,
        seed=experiment.split_seed,
        tiles=packed_NHWC,
        turned=experiment.turned,
        fractions=FRACTIONS,
        where=f"task {t.name}",
    )
    return Prepared(
        task=t,
        packed_NHWC=packed_NHWC,
        tiles_NHWC=tiles.pack(dataset, experiment.tile_px, cache),
        labels_N=labels_N,
        groups=groups,
        split=split,
        fingerprint=tiles.fingerprint(dataset),
        packed_mpp=resolution.of_tiles(dataset, mpp=t.mpp, px=experiment.pack_px)
        if t.mpp and view_bounds(experiment)
        else None,
    )


def view_bounds(experiment: Experiment) -> Span | None:
    """Returns the bounds in micrometres per pixel that the experiment sets on its views without labels, or None."""
    bounds = experiment.own.get("views", {}).get("mpp")
    return tuple(bounds) if bounds else None


def check_resolutions(experiment: Experiment, kept: Sequence[Task], leave_out: Sequence[str] = ()) -> None:
    """Refuses bounds in micrometres per pixel on tiles whose resolution nobody stated; opens nothing.

    Raises:
        UsageError: `HZ-U86`; tasks and sources without a resolution are named.
    """
    if not view_bounds(experiment):
        return
    silent = [t.name for t in kept if not t.mpp]
    silent += [
        f"unlabelled.{name}"
        for name, source in named(experiment).items()
        if lineage(name, source) not in leave_out and "mpp" not in source
    ]
    if silent:
        raise UsageError(
            "HZ-U86",
            "views cannot be bounded in micrometres per pixel, since those of some training tiles are not known",
            where="views, mpp",
            expected="a resolution of every task and source that is trained on",
            got=f"none of {', '.join(silent)}",
            kept="nothing was trained",
            next_step="say mpp of a source, leave these tasks out, or bound the crops by their area instead",
        )


def tile_resolutions(
    experiment: Experiment, tasks: Mapping[str, Prepared], sources: Mapping[str, Mapping[str, Any]]
) -> Span | None:
    """Returns micrometres per pixel of the finest and the coarsest tile of a run, or None where no bound on views asks for them.

    Args:
        experiment: Passed by `check_resolutions`.
        tasks: Those trained on.
        sources: What data.json says of each.
    """
    if not view_bounds(experiment):
        return None
    opened = [facts["opened"] for facts in sources.values()]
    spans = [p.packed_mpp for p in tasks.values() if p.packed_mpp]
    spans += [facts.get("packed_mpp") or (facts["mpp"], facts["mpp"]) for facts in opened]
    return min(finest for finest, _ in spans), max(coarsest for _, coarsest in spans)


def describe(p: Prepared, *, watched: bool = False) -> dict[str, Any]:
    """Returns what `data.json` says of a task: the declaration, the numbers, the fingerprint and the split, as JSON types.

    Args:
        p: The task.
        watched: It is measured on and not trained on.
    """
    t = p.task
    facts = {
        key: getattr(t, key) for key in ("kind", "organ", "stain", "mpp", "source", "citation", "lineage")
    }
    return {
        **facts,
        "licence": t.stated_licence,
        "classes": list(t.classes),
        "n": len(p.labels_N),
        "n_groups": len(set(p.groups)),
        "n_train": 0 if watched else len(p.split.train),
        "fingerprint": p.fingerprint,
        "split": json.loads(p.split.to_json()),
        **({"watched": True} if watched else {}),
        **({"packed_mpp": p.packed_mpp} if p.packed_mpp and not watched else {}),
    }


def sequence(
    experiment: Experiment,
    tasks: Mapping[str, Prepared],
    unlabelled: Mapping[str, Mixable],
    *,
    samples: int,
    uniforms: int,
) -> Dataset[dict[str, Any]]:
    """Returns the tiles of a run in training order, of tasks those of the training sides: with labels where the recipe learns from them.

    Args:
        experiment: As resolved.
        tasks: Decoded and split.
        unlabelled: Further sets.
        samples: Length of the sequence.
        uniforms: Uniform numbers of each sample.
    """
    order: dict[str, Any] = {"seed": experiment.seed, "uniforms": uniforms}
    if experiment.recipe not in LABELLED:
        weight = {name: float(len(p.split.train)) ** experiment.alpha for name, p in tasks.items()}
        sets = {
            name: TileSet(tiles_NHWC=p.packed_NHWC, rows=p.split.train, weight=weight[name])
            for name, p in tasks.items()
        }
        return StreamedTiles({**sets, **unlabelled}, px=experiment.pack_px, samples=samples, **order)
    labelled = MixedTiles(
        {
            name: TaskTiles(tiles_NHWC=p.packed_NHWC, labels_N=p.labels_N, rows=p.split.train)
            for name, p in tasks.items()
        },
        alpha=experiment.alpha,
        samples=samples,
        **order,
    )
    if not unlabelled:
        return labelled
    others = StreamedTiles(unlabelled, px=experiment.pack_px, samples=samples, **order)
    return PartlyLabelled(labelled, others, share=experiment.own["unlabelled_share"], samples=samples)
