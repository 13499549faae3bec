"""Pretraining settings on left-out lineages: trained without each, scored on its validation rows, and on its test rows when chosen.

Shapes: T tasks, C candidates, S seeds, R resamples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histozoo import experiment as experiments
from histozoo.data.splits import Split, make_split
from histozoo.errors import UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.compare import cells
from histozoo.evaluate.compare.measure import FRACTIONS
from histozoo.evaluate.encoders import Encoder, digest, encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.labelled import LabelledTiles, read
from histozoo.evaluate.leave_out import refuse_shared, tile_digests
from histozoo.evaluate.protocol import Predictions
from histozoo.evaluate.resampling import Floats, Ints
from histozoo.experiment import Experiment
from histozoo.experiment_values import overrides
from histozoo.studies.folder import Bench
from histozoo.studies.settings import Selection
from histozoo.tasks import task

METRIC = "balanced_accuracy"

_CANDIDATE = re.compile(r"[a-z][a-z0-9]{0,30}")
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A task of a left-out lineage, and its rows to learn on, to choose a setting by and to report."""

    labelled: LabelledTiles
    split: Split

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.labelled.task

    def rows(self, part: str) -> Ints:
        """Returns the rows that are scored: of `val` or `test`."""
        found: Ints = getattr(self.split, part)
        return found

    def groups(self, part: str) -> int:
        """Returns how many groups these rows come from."""
        return len(np.unique(self.labelled.groups_N[self.rows(part)]))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Models on the rows of a target.

    Args:
        values_MS: The metric of each model and seed.
        resampled_RM: Its mean over seeds, on resamples of the groups.
    """

    values_MS: Floats
    resampled_RM: Floats


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A target's test rows: the chosen setting, the first one where it is another, and random weights."""

    target: Target
    lineage: str
    chosen: str
    models: tuple[str, ...]
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that is decided before anything is trained.

    Args:
        settings: Of the study.
        bench: Where it works.
        candidates: Candidate -> fields that it changes.
        base: The experiment without these changes.
        targets: Lineage -> its tasks.
    """

    settings: Selection
    bench: Bench
    candidates: dict[str, dict[str, Any]]
    base: Experiment
    targets: dict[str, list[Target]]

    def all_targets(self) -> list[Target]:
        """Returns the tasks of all lineages in order."""
        return [t for several in self.targets.values() for t in several]


def trial(settings: Selection, bench: Bench) -> Trial:
    """Reads experiment and tasks and refuses what could not be carried to its end.

    Raises:
        UsageError: `HZ-U43` a candidate has no fit name or changes what must be equal, or there are fewer than two of them or of lineages;
            `HZ-U44` a lineage that no task of the experiment has; `HZ-U66` no key=value; `HZ-E36` a task that cannot be split;
            `HZ-E38` a tile of one lineage is in another; `HZ-I62` a class is in too few groups for an interval; and what reading the
            experiment raises.
    """
    common = overrides(settings.common)
    changes = {name: common | overrides(several) for name, several in settings.candidates.items()}
    base = experiments.read(settings.experiment, **common)
    _candidates(settings, changes, base)
    names: dict[str, list[str]] = {lineage: [] for lineage in settings.lineages}
    for name in base.tasks:
        names.setdefault(task(name).lineage, []).append(name)
    if unknown := [lineage for lineage in settings.lineages if not names[lineage]]:
        raise UsageError(
            "HZ-U44",
            "no task of the experiment has this lineage",
            where=settings.experiment,
            expected=f"some of {', '.join(sorted(k for k, v in names.items() if v))}",
            got=", ".join(unknown),
        )
    found = {n: _read(n, base, bench) for several in names.values() for n in several}
    _apart(names, found)
    targets = {k: [_target(found[n], settings) for n in names[k]] for k in settings.lineages}
    for target in (x for several in targets.values() for x in several):
        _scorable(target, settings)
    return Trial(settings=settings, bench=bench, candidates=changes, base=base, targets=targets)


def _candidates(settings: Selection, changes: dict[str, dict[str, Any]], base: Experiment) -> None:
    same = ("name", "tasks", "tile_px", "mean", "std", "seed")
    for name, changed in changes.items():
        if not _CANDIDATE.fullmatch(name) or (fixed := [k for k in same if k in changed]):
            raise UsageError(
                "HZ-U43",
                f"candidate {name!r} cannot be compared with the others",
                where=settings.experiment,
                expected=f"lower case letters and digits, and changes to other keys than {', '.join(same)}",
                got=", ".join(fixed) if _CANDIDATE.fullmatch(name) else repr(name),
            )
        experiments.read(settings.experiment, **changed)
    for what, several in (("candidates", changes), ("lineages", settings.lineages)):
        if len(several) < 2:
            raise UsageError(
                "HZ-U43",
                f"there are too few {what} to choose by",
                expected="two or more",
                got=", ".join(several) or "none",
            )


def _read(name: str, base: Experiment, bench: Bench) -> LabelledTiles:
    return read(name, data_root=bench.data_root, tile_px=base.tile_px, cache=bench.cache / "tiles")


def _apart(names: dict[str, list[str]], found: dict[str, LabelledTiles]) -> None:
    digests = {name: tile_digests(labelled.tiles_NHWC) for name, labelled in found.items()}
    for lineage, several in names.items():
        others = {n: digests[n] for other, tasks in names.items() if other != lineage for n in tasks}
        for name in several:
            refuse_shared(name, digests[name], others)


def _target(labelled: LabelledTiles, settings: Selection) -> Target:
    groups = [str(g) for g in labelled.groups_N]
    split = make_split(
        labelled.labels_N, groups, seed=settings.seed, fractions=FRACTIONS, where=labelled.task
    )
    return Target(labelled=labelled, split=split)


def _scorable(target: Target, settings: Selection) -> None:
    """Refuses, before hours of training, a task whose rows hold a class in so few groups that its scores cannot have an interval."""
    for part in ("val", "test"):
        rows = target.rows(part)
        labels_N = target.labelled.labels_N[rows]
        true_1NK = np.eye(len(target.labelled.classes), dtype=np.float32)[labels_N][None]
        how = {"seed": settings.seed, "resamples": settings.resamples}
        _, drawn_R1 = scored.bootstrap(
            labels_N, true_1NK, target.labelled.groups_N[rows], metric=METRIC, **how
        )
        if 2 * np.isfinite(drawn_R1).sum() < settings.resamples:
            groups_K = [len(set(target.labelled.groups_N[rows][labels_N == k])) for k in np.unique(labels_N)]
            raise UsageError(
                "HZ-I62",
                f"the {part} rows hold a class in too few groups: their scores could not have an interval",
                where=target.name,
                expected="every class in enough groups that at least half of the resamples of the groups hold it",
                got=f"classes in {', '.join(map(str, groups_K))} of {target.groups(part)} groups",
                kept="nothing was trained",
                next_step="leave its lineage out of `lineages`; its tiles are trained on all the same",
            )


# -- models ----------------------------------------------------------------------------------------------------------------------------


def pretrained(t: Trial, candidate: str, lineage: str) -> list[Encoder]:
    """Returns the trunks of a candidate that were trained without a lineage, one per seed; those that are not there are trained now.

    Raises:
        Interrupted: `HZ-F41`, a signal asked to stop; the same study goes on at this step.
    """
    return [encoder(_trained(t, candidate, lineage, seed)) for seed in t.settings.seeds]


def _trained(t: Trial, candidate: str, lineage: str, seed: int) -> Path:
    from histozoo import pretrain

    stem, version = re.fullmatch(r"(.*?)((?:_v[0-9]+)?)", t.base.name).groups()  # type: ignore[union-attr]  # matches any name
    name = f"{stem}{candidate}{seed}{version}"
    runs = t.bench.out / "runs"
    if not (runs / f"{name}-without-{lineage}" / "final" / "DONE.json").exists():
        t.bench.say(f"{candidate}, seed {seed}: pretraining without {lineage}")
    return pretrain.run(
        t.settings.experiment,
        data_root=t.bench.data_root,
        runs=runs,
        leave_out=(lineage,),
        device="cpu" if t.bench.device == "cpu" else "auto",
        say=t.bench.say,
        **{**t.candidates[candidate], "name": name, "seed": seed},
    )


def twins(t: Trial, like: Encoder) -> list[Encoder]:
    """Returns the same architecture with random weights, one per seed of pretraining."""
    return [encoder(f"random:{like.name}@{seed}") for seed in t.settings.seeds]


# -- scores ----------------------------------------------------------------------------------------------------------------------------


def scores(t: Trial, target: Target, part: str, models: Sequence[Sequence[Encoder]]) -> Scores:
    """Returns models on the `val` or `test` rows of a target; a classifier learns on `train`, for `test` on `val` as well."""
    labelled, rows = target.labelled, np.sort(target.rows(part))
    found = [_predictions(t, target, part, one) for several in models for one in several]
    values_C, resampled_RC = scored.bootstrap(
        labelled.labels_N[rows],
        np.stack([p.scores_NK[np.argsort(p.rows_N)] for p in found]),
        labelled.groups_N[rows],
        metric=METRIC,
        seed=t.settings.seed,
        resamples=t.settings.resamples,
    )
    shape = len(models), len(t.settings.seeds)
    return Scores(values_MS=values_C.reshape(shape), resampled_RM=resampled_RC.reshape(-1, *shape).mean(2))


def _predictions(t: Trial, target: Target, part: str, one: Encoder) -> Predictions:
    labelled, split, s = target.labelled, target.split, t.settings
    facts = {
        "form": cells.FORM,
        "encoder": one.facts(),
        "task": labelled.fingerprint,
        "part": part,
        "split": split.fingerprint,
        "protocol": s.protocol,
        "seed": s.seed,
        **cells.solver(s.protocol),
    }
    path = t.bench.out / "cells" / f"{digest(facts)[:32]}.safetensors"
    if path.exists():
        return cells.read(path)[0]
    train = split.train if part == "val" else np.sort(np.concatenate([split.train, split.val]))
    t.bench.say(f"{target.name}: {s.protocol} of {one.label}, {part}")
    f_ND = cached_features(one, labelled, cache=t.bench.cache / "features", device=t.bench.device)
    # No validation rows: the classifier's own setting is chosen by folds of what it learns on.
    rows = Split(train=train, val=_NONE, test=target.rows(part), seed=s.seed)
    found = FEATURE_PROTOCOLS[s.protocol](f_ND, labelled.labels_N, labelled.groups_N, seed=s.seed, split=rows)
    cells.save(path, found, {"task": target.name, "part": part, "encoder": one.label})
    return found
