"""Looks at every encoder on every task, each kept when it is done: a command that was killed goes on where it stopped."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from histozoo import __version__, durable
from histozoo.errors import UsageError
from histozoo.evaluate import feature_cache, logistic
from histozoo.evaluate.compare import cells
from histozoo.evaluate.compare.measure import task_at
from histozoo.evaluate.compare.plan import Plan, looks_of
from histozoo.evaluate.compare.rows import SEEN
from histozoo.evaluate.encoders import Encoder, digest
from histozoo.evaluate.labelled import LabelledTiles
from histozoo.evaluate.looks import LOOKS
from histozoo.evaluate.looks.base import Number, Setup

FORM = 1
"""Form of the files; another one is measured again."""

UNDEFINED = ("HZ-I62", "HZ-I63", "HZ-I74")
"""Codes that say of a task that it cannot be looked at so; others can."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A number with what it is of.

    Args:
        protocol, task, lineage, model: Of what.
        number: What was found.
        seen: A value of `rows.SEEN`.
        fingerprint: Of the task's data.
    """

    protocol: str
    task: str
    lineage: str
    model: str
    number: Number
    seen: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What one look found on all tasks.

    Args:
        protocol: A key of `LOOKS`.
        first: The model that others are compared with, as it was typed.
        found: Numbers, tasks and models in the order of the plan.
        undefined: Task -> why there is no number.
    """

    protocol: str
    first: str
    found: tuple[Seen, ...]
    undefined: Mapping[str, str]


def look(
    plan: Plan, *, resamples: int = 10_000, say: Callable[[str], None] = lambda line: None
) -> list[Looked]:
    """Returns what the looks of a plan found, looking where there is no file yet. Random weights are looked at by their first seed.

    Args:
        plan: What to look at.
        resamples: Bootstrap resamples.
        say: Receives a line per look that is taken.

    Raises:
        UsageError: What the looks raise, but for tasks that cannot be looked at so.
        IntegrityError: `HZ-I75` a kept look is damaged; `HZ-I62` a feature is not finite.
    """
    return [_looked(plan, protocol, resamples, say) for protocol in looks_of(plan)]


def _looked(plan: Plan, protocol: str, resamples: int, say: Callable[[str], None]) -> Looked:
    found: list[Seen] = []
    undefined: dict[str, str] = {}
    encoders = [several[0] for several in plan.columns.values()]
    for task in dict.fromkeys(plan.tasks):
        known: dict[int, LabelledTiles] = {}
        tiles_of = functools.partial(_at, plan, task, known)
        setup = Setup(
            first=encoders[0],
            cache=plan.cache / "features",
            seed=plan.seeds[0],
            resamples=resamples,
            device=plan.device,
            centre_of=_centres(plan, task) if protocol == "robustness_index" else {},
        )
        try:
            looked_at = encoders[1:] if protocol == "cka" else encoders
            here = [s for one in looked_at for s in _of_one(plan, protocol, one, tiles_of, setup, say)]
        except UsageError as error:
            if error.code not in UNDEFINED:
                raise
            undefined[task] = "; ".join(t for t in (f"{error.code} {error.what}", error.got) if t)
            continue
        found += here
    return Looked(protocol=protocol, first=encoders[0].name, found=tuple(found), undefined=undefined)


def _at(plan: Plan, task: str, known: dict[int, LabelledTiles], one: Encoder) -> LabelledTiles:
    return task_at(plan, task, one.tile_px, known)


def _centres(plan: Plan, task: str) -> dict[str, tuple[list[str], list[str]]]:
    from histozoo.evaluate.compare.centre_table import of_task

    return {task: of_task(plan.centres, task, plan.data_root)} if plan.centres else {}


def _of_one(
    plan: Plan,
    protocol: str,
    one: Encoder,
    tiles_of: Callable[[Encoder], LabelledTiles],
    setup: Setup,
    say: Callable[[str], None],
) -> Iterator[Seen]:
    labelled = tiles_of(one)
    path = plan.out / "looks" / f"{_key(protocol, one, labelled, setup)}.json"
    if path.exists():
        numbers = _read(path)
    else:
        say(f"{labelled.task}: {protocol} of {one.label}, {len(labelled.labels_N):,} tiles")
        numbers = LOOKS[protocol](one, tiles_of, setup)
        body = [asdict(n) for n in numbers]
        durable.write_json(path, {"sha256": digest({"numbers": body}), "numbers": body})
    for number in numbers:
        yield Seen(
            protocol=protocol,
            task=labelled.task,
            lineage=labelled.lineage,
            model=one.name,
            number=number,
            seen=SEEN[one.saw(labelled.lineage)],
            fingerprint=labelled.fingerprint,
        )


def _key(protocol: str, one: Encoder, labelled: LabelledTiles, setup: Setup) -> str:
    settings = {
        "form": FORM,
        "versions": {
            "histozoo": __version__,
            "features": feature_cache.VERSION,
            "logistic": logistic.VERSION,
        },
        "first": setup.first.facts() if protocol == "cka" else None,
        "resamples": setup.resamples,
        "centres": list(setup.centre_of.get(labelled.task, ())),
        "device": setup.device.partition(":")[0],
    }
    return cells.key(one, labelled, protocol=protocol, seed=setup.seed, settings=settings)


def _read(path: Path) -> list[Number]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = told["sha256"] == digest({"numbers": told["numbers"]})
        numbers = [Number(**n) for n in told["numbers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise cells.damaged(path, f"{type(error).__name__}: {error}") from error
    if not whole:
        raise cells.damaged(path, "another sha256 than it was written with")
    return numbers


# -- as records and text ---------------------------------------------------------------------------------------------------------------


def tidy(looked: Sequence[Looked]) -> list[dict[str, Any]]:
    """Returns one flat record per number, with the keys of `table.HEAD` that it has."""
    return [
        {
            "protocol": s.protocol,
            "task": s.task,
            "lineage": s.lineage,
            "model": s.model,
            "setting": s.number.setting,
            "metric": s.number.metric,
            "value": round(s.number.value, 6),
            "low": None if s.number.low is None else round(s.number.low, 6),
            "high": None if s.number.high is None else round(s.number.high, 6),
            "n": s.number.n,
            "n_groups": s.number.n_groups,
            "n_models": 1,
            "seen": s.seen,
            "fingerprint": s.fingerprint,
            "note": s.number.note,
        }
        for one in looked
        for s in one.found
    ]


def pivot(found: Sequence[Seen]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Returns the metrics as columns, and (setting, a cell per metric) for numbers of one task and model."""
    metrics = list(dict.fromkeys(s.number.metric for s in found))
    settings = dict.fromkeys(s.number.setting for s in found)
    at = {(s.number.setting, s.number.metric): s.number for s in found}
    return metrics, [
        (name, [spelled(at[name, m]) if (name, m) in at else "" for m in metrics]) for name in settings
    ]


def spelled(number: Number) -> str:
    """Returns a number as people read it, with its interval where it has one."""
    if number.low is None or number.high is None:
        whole = number.value == int(number.value) and abs(number.value) >= 2
        return f"{number.value:,.0f}" if whole else f"{number.value:.3f}"
    sign = "+" if "minus" in number.metric else ""
    return f"{number.value:{sign}.3f} [{number.low:{sign}.3f}, {number.high:{sign}.3f}]"


def text(looked: Looked) -> str:
    """Returns a look as plain text: per task and model a line per setting."""
    lines = [f"{looked.protocol}, 95 % intervals over groups"]
    for task, model in dict.fromkeys((s.task, s.model) for s in looked.found):
        here = [s for s in looked.found if (s.task, s.model) == (task, model)]
        mark = {"trained on it": " *", "unknown": " ?", "new": ""}[here[0].seen]
        beside = f" beside {looked.first}" if looked.protocol == "cka" else ""
        lines += ["", f"{task}: {model}{beside}, {here[0].number.n:,} tiles{mark}"]
        metrics, rows = pivot(here)
        cells_of = [("", metrics), *rows]
        wide = [max(len(line[0]) for line in cells_of)]
        wide += [max(len(line[1][i]) for line in cells_of) for i in range(len(metrics))]
        lines += [
            "  ".join(f"{c:<{w}}" for c, w in zip([name, *row], wide, strict=True)).rstrip()
            for name, row in cells_of
        ]
        lines += [f"  {name}: {note}" for name, note in notes(here)]
    if any(s.seen != "new" for s in looked.found):
        lines += ["", "*  trained on this lineage   ?  not known whether it was"]
    return "\n".join([*lines, *(f"no number: {t}, {why}" for t, why in looked.undefined.items())])


def notes(found: Sequence[Seen]) -> list[tuple[str, str]]:
    """Returns (setting, what is to be said of it)."""
    return list(dict.fromkeys((s.number.setting, s.number.note) for s in found if s.number.note))
