"""What a comparison measures: models, tasks, protocols, seeds and shares of labels, refused before anything slow begins if it cannot be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histozoo.errors import UsageError
from histozoo.evaluate.encoders import Encoder, encoder
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS

RANDOM_SEEDS = (0, 1, 2)
"""Seeds of `random:NAME` without a seed: their mean is shown, since one initialisation differs from the next."""

FINETUNE = "finetune_"


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
        seeds: The first is of folds, splits and resampling; each is of one fine-tuning, on the same split.
        preset: Of fine-tuning, a key of its `PRESETS`.
        fractions: Shares of the training rows' labels that fine-tuning gets, each above 0 and at most 1.
        device: Where models run.
    """

    columns: Mapping[str, Sequence[Encoder]]
    tasks: Sequence[str]
    protocols: Sequence[str]
    out: Path
    cache: Path
    data_root: Path | None = None
    seeds: Sequence[int] = (0,)
    preset: str = "small"
    fractions: Sequence[float] = (1.0,)
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One way to measure an encoder on a task.

    Args:
        label: What tables call it: the protocol, and behind an @ the share of the labels where it is not all.
        protocol: One of `protocol_names()`.
        seed: Of its fits.
        fraction: Share of the labels.
    """

    label: str
    protocol: str
    seed: int
    fraction: float = 1.0

    @property
    def tunes(self) -> bool:
        """Whether the encoder is trained on."""
        return self.protocol.startswith(FINETUNE)


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


def jobs(plan: Plan) -> list[Job]:
    """Returns the ways to measure, in the order of the plan; features are measured with the first seed alone."""
    found = []
    for protocol in dict.fromkeys(plan.protocols):
        if not protocol.startswith(FINETUNE):
            found.append(Job(label=protocol, protocol=protocol, seed=plan.seeds[0]))
            continue
        for fraction in dict.fromkeys(plan.fractions):
            label = protocol if fraction == 1 else f"{protocol}@{100 * fraction:.4g}%"
            found += [
                Job(label=label, protocol=protocol, seed=seed, fraction=fraction)
                for seed in dict.fromkeys(plan.seeds)
            ]
    return found


def check(plan: Plan) -> None:
    """Refuses a plan that could not be carried out to its end.

    Raises:
        UsageError: `HZ-I75` no such protocol or preset, nothing to do, a share that is none, a model that cannot be fine-tuned, or shares
            and seeds of a fine-tuning that is not asked for; `HZ-U30` no such task; `HZ-U37` a task's folder is not there.
    """
    from histozoo.evaluate.finetune.settings import PRESETS
    from histozoo.tasks import task

    for what, given in (("task", plan.tasks), ("protocol", plan.protocols), ("seed", plan.seeds)):
        if not given:
            raise UsageError("HZ-I75", f"no {what} is given", expected="one or more", got="none")
    for protocol in plan.protocols:
        _one_of("protocol", protocol, protocol_names())
    _one_of("preset", plan.preset, PRESETS)
    for fraction in plan.fractions:
        if not 0 < fraction <= 1:
            raise UsageError(
                "HZ-I75",
                "this is no share of the labels",
                expected="above 0 and at most 1, such as 0.1",
                got=fraction,
            )
    _tuning(plan)
    for name in plan.tasks:
        task(name).require(plan.data_root)


def _tuning(plan: Plan) -> None:
    if not any(p.startswith(FINETUNE) for p in plan.protocols):
        if len(set(plan.seeds)) > 1 or set(plan.fractions) != {1.0}:
            raise UsageError(
                "HZ-I75",
                "several seeds and shares of the labels are for fine-tuning",
                expected="one seed and all labels, or a protocol that begins with finetune_",
                got=f"seeds {', '.join(map(str, plan.seeds))}; fractions {', '.join(map(str, plan.fractions))}",
            )
        return
    for name, encoders in plan.columns.items():
        if any(one.build is None for one in encoders):
            raise UsageError(
                "HZ-I75",
                f"{name} is no network and cannot be fine-tuned",
                expected="models with weights beside protocols that begin with finetune_",
                got=", ".join(plan.protocols),
                next_step="compare it by protocols of features, in another command",
            )


def _one_of(what: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    raise UsageError(
        "HZ-I75",
        f"there is no {what} {name!r}",
        expected=", ".join(names),
        got=repr(name),
        next_step=f"did you mean {near[0]}?" if near else "",
    )
