"""What a selection of settings ran, and what its numbers cannot say, in words.

Shapes: R resamples, M models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from histozoo.studies.selecting import Tested, Trial

SAME = 1e-9
"""Scores and mean ranks closer than this are equal but for rounding."""


def limits(t: Trial, tested: Sequence[Tested]) -> tuple[str, ...]:
    """Returns what is in no interval, and what the ranks and differences depend on."""
    seeds = (
        "of differences over pretraining seeds, too."
        if len(t.settings.seeds) > 1
        else "of differences widened for few of them; one training of each setting without each lineage and one draw of random weights: "
        "others are in no interval."
    )
    svm = (
        "The linear SVM is the paper's: features as they are, C at most 1. Features of small values, such as those of random weights, can "
        "be held back by it.",
    )
    return (
        f"Intervals of scores are over the groups of the scored rows, those {seeds}",
        "Groups are patients, slides or photographs where the sets know them, else single tiles and their copies: there, intervals are too "
        "short.",
        "Intervals of mean ranks are over lineages and over the groups of validation rows, those of differences widened for few lineages.",
        "The ranks are of these settings alone: another list of settings has other ranks.",
        "A lineage's scores take no part in the choice of what is scored on it, but its tiles do: the runs that the other lineages judged "
        "were trained on them.",
        *(svm if t.settings.protocol == "linear_svm" else ()),
        *_one_class(tested),
        "A setting is chosen for frozen features; fine-tuning may rank settings otherwise.",
        "Test rows were scored for the chosen setting, for the first one in the file and for random weights, and for nothing else.",
    )


def _one_class(tested: Sequence[Tested]) -> list[str]:
    """Returns where a classifier calls every test row the same class: it scores chance on every resample."""
    found: dict[str, list[str]] = {}
    for one in tested:
        chance = 1 / len(one.target.labelled.classes)
        for i, model in enumerate(one.models):
            if np.nanmax(np.abs(one.scores.resampled_RM[:, i] - chance)) < SAME:
                found.setdefault(model, []).append(one.target.name)
    return [
        f"On {', '.join(tasks)} the classifier on {model} calls every row the same class; what is better there is better than chance."
        for model, tasks in found.items()
    ]


def ran(t: Trial) -> tuple[str, ...]:
    """Returns what was pretrained and how it was scored."""
    seeds = ", ".join(map(str, t.settings.seeds))
    told = "; ".join(
        f"{name} ({', '.join(t.settings.candidates[name]) or 'as the experiment is'})"
        for name in t.candidates
    )
    common = f", all with {', '.join(t.settings.common)}" if t.settings.common else ""
    return (
        f"{t.base.name} pretrained with {len(t.candidates)} settings{common}, seeds {seeds}, without each of {len(t.targets)} lineages: "
        f"{told}.",
        f"Tasks: {', '.join(f'{x.name} ({len(x.labelled.labels_N):,} tiles)' for x in t.all_targets())}.",
        f"{t.settings.protocol} on frozen features: to choose, learnt on training rows and scored on validation rows; to report, learnt on "
        "both and scored on test rows. Parts are drawn by group.",
    )
