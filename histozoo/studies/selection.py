"""Which setting of a pretraining transfers best? Left-out lineages choose it by average rank on validation; test rows are scored once.

After Mormont et al. (2021), section III: every setting is pretrained without each lineage, a linear classifier on its frozen features is
scored on the validation rows of the lineage's tasks, scores are ranked within a task and ranks averaged. What is reported for a task is the
setting that is best on the tasks of all other lineages, so that no task takes part in the choice of what is scored on it. Settings that
were not chosen have no test score, but for the first one in the file.

Shapes: T tasks, C candidates, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from histozoo.evaluate.compare.standings import FEWEST
from histozoo.evaluate.ranks import average_rank, ranks, resampled_ranks
from histozoo.evaluate.resampling import Floats, percentiles
from histozoo.evaluate.verdicts import NO_WINNER
from histozoo.studies import selecting
from histozoo.studies import selection_words as words
from histozoo.studies.comparing import Answer, Asked, decide, sentences
from histozoo.studies.document import Plot, Section, Table
from histozoo.studies.drawing import Dot, forest
from histozoo.studies.folder import Bench
from histozoo.studies.outcome import Outcome, differences, rank_row, row, spelled
from histozoo.studies.selecting import METRIC, Scores, Target, Tested, Trial
from histozoo.studies.selection_words import SAME
from histozoo.studies.settings import Selection

CHOSEN, RANDOM = "the chosen setting", "random weights"


def run(settings: Selection, bench: Bench) -> Outcome:
    """Pretrains every setting without each lineage, chooses by validation ranks, scores the test rows of what was chosen.

    Raises:
        UsageError, IntegrityError: What `selecting.trial`, pretraining and the classifier raise.
        Interrupted: `HZ-F41`, a signal asked to stop while pretraining.
    """
    t = selecting.trial(settings, bench)
    validated = {
        target.name: selecting.scores(t, target, "val", models)
        for lineage, targets in t.targets.items()
        for models in [[selecting.pretrained(t, c, lineage) for c in t.candidates]]
        for target in targets
    }
    chosen = {lineage: _chosen(t, validated, without=lineage) for lineage in t.targets}
    tested = [
        _test(t, target, lineage, chosen[lineage]) for lineage in t.targets for target in t.targets[lineage]
    ]
    answers = decide([asked for one in tested for asked in _asked(t, one)])
    return Outcome(
        rows=[
            *_validation_rows(t, validated),
            *(r for x in tested for r in _records(x.target, x.lineage, "test", x.models, x.scores)),
            *(row(a, "clean") for a in answers),
        ],
        ran=words.ran(t),
        clean=(_validation(t, validated), _testing(tested, answers)),
        follows=(_over_all(t, validated), *_same(t, tested), *sentences(answers)),
        limits=words.limits(t, tested),
        facts={"chosen": chosen, "candidates": t.candidates, "final": _chosen(t, validated)},
    )


# -- choosing --------------------------------------------------------------------------------------------------------------------------


def _matrix(t: Trial, validated: Mapping[str, Scores], *, without: str = "") -> tuple[Floats, list[Floats]]:
    """Returns the validation scores of tasks of all lineages but one, `[T, C]`, and each task's on resamples `[R, C]`."""
    names = [x.name for lineage, several in t.targets.items() if lineage != without for x in several]
    some = [validated[n] for n in names]
    return np.stack([s.values_MS.mean(1) for s in some]), [s.resampled_RM for s in some]


def _chosen(t: Trial, validated: Mapping[str, Scores], *, without: str = "") -> str:
    """Returns the setting of the lowest average rank; of equal ones the first in the file."""
    values_TC, _ = _matrix(t, validated, without=without)
    return list(t.candidates)[int(np.argmin(ranks(values_TC).mean(0)))]


def _test(t: Trial, target: Target, lineage: str, chosen: str) -> Tested:
    first = next(iter(t.candidates))
    names = (chosen, *(() if chosen == first else (first,)))
    models = [selecting.pretrained(t, name, lineage) for name in names]
    models.append(selecting.twins(t, models[0][0]))
    told = (f"{CHOSEN} ({chosen})", *names[1:], RANDOM)
    found = selecting.scores(t, target, "test", models)
    return Tested(target=target, lineage=lineage, chosen=chosen, models=told, scores=found)


def _asked(t: Trial, one: Tested) -> Iterator[tuple[Asked, float, Floats]]:
    values_MS, resampled_RM = one.scores.values_MS, one.scores.resampled_RM
    for i, second in enumerate(one.models[1:], 1):
        by_seed_S = values_MS[0] - values_MS[i]
        asked = Asked(
            place=one.target.name,
            lineage=one.lineage,
            setting=f"test rows, {t.settings.protocol}",
            first=CHOSEN,
            second=second,
            metric=METRIC,
            n=len(one.target.rows("test")),
            n_groups=one.target.groups("test"),
            seen=False,
            by_seed=tuple(by_seed_S.tolist()),
        )
        yield asked, float(by_seed_S.mean()), resampled_RM[:, 0] - resampled_RM[:, i]


# -- words, tables, plots --------------------------------------------------------------------------------------------------------------


def _mean_ranks(t: Trial, validated: Mapping[str, Scores]) -> list[tuple[float, float, float]]:
    values_TC, resampled = _matrix(t, validated)
    return average_rank(values_TC, resampled, seed=t.settings.seed, lineages=_lineages(t))


def _lineages(t: Trial) -> list[str]:
    return [lineage for lineage, several in t.targets.items() for _ in several]


def _pairs(t: Trial, validated: Mapping[str, Scores]) -> list[Answer]:
    """Returns by how much each setting's mean rank is better than that of each behind it, the best first, corrected for all pairs."""
    values_TC, resampled = _matrix(t, validated)
    names, means_C = list(t.candidates), ranks(values_TC).mean(0)
    drawn_RC = resampled_ranks(values_TC, resampled, seed=t.settings.seed, lineages=_lineages(t))
    found = []
    for a, b in combinations(np.argsort(means_C, kind="stable"), 2):
        asked = Asked(
            place=f"mean over {len(values_TC)} tasks",
            lineage="",
            setting="val",
            first=names[a],
            second=names[b],
            metric="lead_in_mean_rank",
            n=sum(len(x.rows("val")) for x in t.all_targets()),
            n_groups=len(t.targets),
            seen=False,
        )
        found.append((asked, float(means_C[b] - means_C[a]), drawn_RC[:, b] - drawn_RC[:, a]))
    return decide(found)


def _over_all(t: Trial, validated: Mapping[str, Scores]) -> str:
    """Returns which setting is to be taken for new tasks, and whether it is shown to rank better than the next one."""
    lead = _pairs(t, validated)[0]
    mean, _, _ = _mean_ranks(t, validated)[list(t.candidates).index(lead.first)]
    if lead.p_holm is None:
        said = f"{NO_WINNER}: {len(t.targets)} lineages are too few to tell, {FEWEST} the fewest"
    else:
        better = NO_WINNER if lead.outcome == NO_WINNER else f"{lead.outcome} is better"
        would = (
            f"{lead.detectable:.2f}"
            if lead.detectable < len(t.candidates) - 1
            else "no lead that is possible"
        )
        said = f"{better}; p = {lead.p_holm:.3f} after Holm's correction over {lead.family} pairs; {would} would have shown"
    apart = spelled(lead.difference, lead.low, lead.high, signed=True)
    if lead.difference < SAME:
        best = f"{lead.first} and {lead.second} share the lowest mean rank on validation, {mean:.3f}; they lie {apart} apart"
    else:
        best = f"{lead.first} has the lowest mean rank on validation, {mean:.3f}; {lead.second}, the next, lies {apart} behind"
    return f"Over all {len(_lineages(t))} tasks {best} ({said})."


def _same(t: Trial, tested: Sequence[Tested]) -> list[str]:
    first = next(iter(t.candidates))
    same = [one.target.name for one in tested if one.chosen == first]
    if not same:
        return []
    return [
        f"On {', '.join(same)} the other lineages choose {first}, the first setting: nothing to compare it with but random weights."
    ]


def _validation(t: Trial, validated: Mapping[str, Scores]) -> Section:
    values_TC, _ = _matrix(t, validated)
    told = _mean_ranks(t, validated)
    head = ("setting", *(f"{x.name} ({x.groups('val')} groups)" for x in t.all_targets()), "mean rank")
    lines = [
        (name, *(f"{values_TC[i, c]:.3f}" for i in range(len(values_TC))), spelled(*told[c]))
        for c, name in enumerate(t.candidates)
    ]
    return Section(
        "Validation rows of left-out lineages: what the choice is made by",
        (
            f"{METRIC}{', the mean over seeds' if len(t.settings.seeds) > 1 else ''}; 1 is the best rank.",
            Table(head, tuple(lines)),
        ),
    )


def _testing(tested: Sequence[Tested], answers: Sequence[Answer]) -> Section:
    dots, lines = [], []
    for one in tested:
        for i, model in enumerate(one.models):
            value, (low, high) = (
                float(one.scores.values_MS[i].mean()),
                percentiles(one.scores.resampled_RM[:, i]),
            )
            series = CHOSEN if i == 0 else model
            dots.append(Dot(place=one.target.name, series=series, value=value, low=low, high=high))
            size = (f"{len(one.target.rows('test')):,}", f"{one.target.groups('test'):,}")
            lines.append((one.target.name, model, *size, spelled(value, low, high)))
    return Section(
        "Test rows: the setting that the other lineages chose, scored once",
        (
            Table(("task", "model", "tiles", "groups", METRIC), tuple(lines)),
            Plot("test.svg", forest(dots, label=METRIC), f"{METRIC} on test rows"),
            differences(answers, place="task"),
        ),
    )


def _records(
    target: Target, lineage: str, part: str, models: Iterable[str], found: Scores
) -> Iterator[dict[str, Any]]:
    for i, model in enumerate(models):
        low, high = percentiles(found.resampled_RM[:, i])
        yield {
            "part": "clean",
            "task": target.name,
            "lineage": lineage,
            "setting": part,
            "model": model,
            "metric": METRIC,
            "value": float(found.values_MS[i].mean()),
            "low": low,
            "high": high,
            "seen": "new",
            "n": len(target.rows(part)),
            "n_groups": target.groups(part),
        }


def _validation_rows(t: Trial, validated: Mapping[str, Scores]) -> Iterator[dict[str, Any]]:
    for lineage, several in t.targets.items():
        for x in several:
            yield from _records(x, lineage, "val", t.candidates, validated[x.name])
    for name, told in zip(t.candidates, _mean_ranks(t, validated), strict=True):
        yield rank_row(name, told, setting="val", tasks=len(_lineages(t)), of=METRIC)
    for a in _pairs(t, validated):
        yield row(a, "clean")
