"""What a study of segmentation found of published models, as rows of their entries and cards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from histozoo import __version__, durable, registry
from histozoo.errors import UsageError
from histozoo.evaluate.compare import record as entries
from histozoo.evaluate.result import Result
from histozoo.studies.comparing import Answer
from histozoo.studies.segmentation_part import BASELINE, Part, group_words, less_is_better
from histozoo.studies.settings import Segmentation
from histozoo.studies.study_file import Study

KIND = "segmentation"


def rows(parts: Sequence[Part], answers: Sequence[Answer], settings: Segmentation) -> dict[str, list[Any]]:
    """Returns the rows of every model, by the name that it was asked for, as JSON types.

    A row for the net, one for random weights and one for their difference, at each size and on each set whose lineage the net never saw.

    Args:
        parts: What was measured.
        answers: By the metric that decides; those from random weights become rows.
        settings: Of the study.
    """
    if less_is_better(settings.metrics[0]):
        return {}  # an entry holds scores
    source = {label: model for model, label in settings.called.items()}
    where = {
        (part.says(test), group_words(size)): (part, test, size)
        for part in parts
        for test in part.scores.groups
        for size in part.scores.design.sizes
    }
    found: dict[str, list[Any]] = {}
    for a in answers:
        if a.second == BASELINE and a.seen is False:
            told = _told(*where[a.setting, a.place], a, settings)
            found.setdefault(source.get(a.first, a.first), []).extend(r.to_json() for r in told)
    return found


def _told(part: Part, test: str, size: int, answer: Answer, settings: Segmentation) -> Iterator[Result]:
    scores, words = part.scores, group_words(size).replace(",", "").replace(" ", "_")
    shared = {
        "task": test,
        # With the budget: a study of another one takes no place of this one's rows.
        "protocol": f"{KIND}_{part.mode}_{settings.steps}_steps_{words}_of_{scores.train_set}",
        "metric": answer.metric,
        "n": answer.n,
        "n_groups": answer.n_groups,
        "seed": settings.seed,
        "left_out": True,
        "fingerprint": scores.fingerprints[test],
        "version": __version__,
    }
    for subject, name in (("trained", answer.first), ("random", BASELINE)):
        e = part.estimates(name, test_set=test, metric=answer.metric, settings=settings)[size]
        yield Result(**shared, subject=subject, value=e.value, interval=e.interval)  # type: ignore[arg-type]
    yield Result(
        **shared,  # type: ignore[arg-type]
        subject="difference",
        value=answer.difference,
        interval=(answer.low, answer.high),
    )


def models(study: Study) -> list[str]:
    """Returns the published models of a study that rows can be put onto, once their folders are known to be writable.

    Raises:
        UsageError: `HZ-I75`, the study is of another kind or changed, decides by a distance, or holds no published model.
        ResourceError: `HZ-F42`, a folder cannot be written.
    """
    settings = study.settings
    if not isinstance(settings, Segmentation):
        step = (
            "leave out --record; `histozoo evaluate NAME --record` puts the scores of features onto an entry"
        )
        raise _unfit(
            f"a study of kind {study.kind} puts nothing onto entries", f"a study of kind {KIND}", step
        )
    if changed := [key for key in study.changed if key != "models"]:
        step = "leave out --record, or --set; what a preset says can be asked for again"
        raise _unfit(
            f"a study with other settings is not recorded: {', '.join(changed)}",
            "a preset as it stands",
            step,
        )
    if less_is_better(settings.metrics[0]):
        step = "leave out --record, or let another metric decide"
        raise _unfit(f"{settings.metrics[0]} is no score", "a metric of at most 1 in the first place", step)
    published = [m for m in settings.models if m in registry.names()]
    for name in published or settings.models[:1]:
        for folder in entries.folders(name):
            durable.check_folder(folder)
    return published


def _unfit(what: str, expected: str, step: str) -> UsageError:
    return UsageError("HZ-I75", what, expected=expected, kept="nothing was started", next_step=step)


def record(out: Path, names: Sequence[str]) -> list[Path]:
    """Puts what a finished study in `out` found of published models onto their entries, and returns what was changed.

    Args:
        out: The study's folder.
        names: From `models`.

    Raises:
        UsageError, IntegrityError: What `compare.record.record` raises.
    """
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    found: Mapping[str, list[Any]] = results.get("entries", {})
    told = {name: [_result(r) for r in found.get(name, ())] for name in names}
    clean = {name: some for name, some in told.items() if some}
    return [entries.record(name, some) for name, some in (clean or told).items()]  # none at all is refused


def _result(row: Mapping[str, Any]) -> Result:
    low, high = row["interval"]
    return Result(**{**row, "interval": (low, high)})
