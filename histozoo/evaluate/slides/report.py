"""Predictions of slides -> results in the form of an entry's, the paired differences that the question is about, and a table to read.

Shapes: M seeds, S slides, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from histozoo.evaluate.resampling import Estimate, Floats, Ints
from histozoo.evaluate.result import Result, Subject
from histozoo.evaluate.slides import scores
from histozoo.evaluate.slides.bags import Bags

Probabilities = dict[str, dict[Subject, Floats]]
"""Protocol -> subject -> `[M, S, K]`; a fine-tuned model's before it was tuned as `<protocol>_before`."""

_BASELINE = "slides_mean"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the numbers depend on beside the predictions.

    Args:
        seeds: Of the fits.
        seed: Of folds and resampling.
        folds: Number of folds.
        resamples: Bootstrap resamples.
        left_out: Whether no tile of the task's lineage was in the training corpus.
        fold_S: The fold that held each slide out; None where no folds were made.
    """

    seeds: tuple[int, ...]
    seed: int
    folds: int
    resamples: int
    left_out: bool
    fold_S: Ints | None = None


def summarise(bags: Bags, found: Probabilities, setting: Setting) -> dict[str, Any]:
    """Returns the study as JSON types.

    `results` are rows as in an entry, with n the number of slides; `differences` are paired: each pooling from mean pooling, and the
    fine-tuned model from itself before it was tuned; `by_seed` is each metric of each seed, for how much initialisation alone changes.
    """
    results = [row.to_json() for row in _results(bags, found, setting)]
    return {
        "schema": 1,
        "study": "slides",
        "task": bags.task,
        "classes": list(bags.classes),
        "slides": len(bags),
        "patients": len(set(bags.patients)),
        "tiles": len(bags.f_ND),
        "fingerprint": bags.fingerprint,
        "folds": setting.folds,
        "seeds": list(setting.seeds),
        "resamples": setting.resamples,
        "results": results,
        "differences": list(_differences(bags, found, setting)),
        "by_seed": {
            protocol: {subject: _by_seed(bags, values, setting) for subject, values in by_subject.items()}
            for protocol, by_subject in found.items()
        },
    }


def _estimates(
    bags: Bags, values_MSK: Floats, setting: Setting, *, minus_MSK: Floats | None = None
) -> dict[str, Estimate]:
    return scores.estimates(
        bags.labels_S,
        bags.patients,
        values_MSK,
        minus_MSK=minus_MSK,
        fold_S=setting.fold_S,
        seed=setting.seed,
        resamples=setting.resamples,
    )


def _results(bags: Bags, found: Probabilities, setting: Setting) -> Iterator[Result]:
    for protocol, by_subject in found.items():
        for subject, values in by_subject.items():
            yield from _rows(bags, protocol, subject, _estimates(bags, values, setting), setting)
        if {"trained", "random"} <= set(by_subject):
            difference = _estimates(bags, by_subject["trained"], setting, minus_MSK=by_subject["random"])
            yield from _rows(bags, protocol, "difference", difference, setting)


def _rows(
    bags: Bags, protocol: str, subject: Subject, estimates: Mapping[str, Estimate], setting: Setting
) -> Iterator[Result]:
    from histozoo import __version__

    for metric, e in estimates.items():
        yield Result(
            task=bags.task,
            protocol=protocol,
            metric=metric,
            value=e.value,
            interval=e.interval,
            n=e.n,
            n_groups=e.n_groups,
            seed=setting.seed,
            subject=subject,
            left_out=setting.left_out,
            fingerprint=bags.fingerprint,
            version=__version__,
        )


def _differences(bags: Bags, found: Probabilities, setting: Setting) -> Iterator[dict[str, Any]]:
    for protocol, by_subject in found.items():
        other = f"{protocol}_before" if f"{protocol}_before" in found else _BASELINE
        if protocol in (other, _BASELINE) or protocol.endswith("_before") or other not in found:
            continue
        for subject, values in by_subject.items():
            if subject not in found[other]:
                continue
            for metric, e in _estimates(bags, values, setting, minus_MSK=found[other][subject]).items():
                value, low, high = (round(v, 6) for v in (e.value, e.low, e.high))
                names = {"subject": subject, "protocol": protocol, "minus": other, "metric": metric}
                yield {**names, "value": value, "interval": [low, high]}


def _by_seed(bags: Bags, values_MSK: Floats, setting: Setting) -> dict[str, list[float]]:
    alone = [
        scores.estimates(bags.labels_S, bags.patients, v[None], seed=setting.seed, resamples=1)
        for v in values_MSK
    ]
    return {metric: [round(e[metric].value, 6) for e in alone] for metric in scores.METRICS}


def table(report: Mapping[str, Any]) -> str:
    """Returns the study as plain text."""
    lines = [
        f"{report['task']}: {report['slides']} slides of {report['patients']} patients, {report['tiles']:,} tiles, "
        f"{report['folds']} folds, mean over seeds {', '.join(map(str, report['seeds']))}",
        "per slide, with 95 % intervals over patients",
        "",
        f"{'protocol':<30} {'subject':<12} {'metric':<20} value",
    ]
    lines += [
        f"{r['protocol']:<30} {r['subject']:<12} {r['metric']:<20} {_cell(r)}" for r in report["results"]
    ]
    if report["differences"]:
        lines += ["", "paired differences, not corrected for their number"]
    for d in report["differences"]:
        verdict = _verdict(d["interval"])
        lines.append(f"{d['protocol']} - {d['minus']} ({d['subject']}), {d['metric']}: {_cell(d)} {verdict}")
    return "\n".join(lines) + "\n"


def _verdict(interval: list[float]) -> str:
    low, high = interval
    return "interval above 0" if low > 0 else "interval below 0" if high < 0 else "interval holds 0"


def _cell(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['value']:.3f} [{low:.3f}, {high:.3f}]"
