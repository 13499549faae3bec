"""Results side by side, and the one sentence that sums them up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from histozoo.result_rows import HEAD, by_task, verdict

CORPUS = [
    {"task": "lung", "lineage": "lc"},
    {"task": "colon", "lineage": "lc"},
    {"task": "oral", "lineage": "oral"},
]


def result(
    task: str, subject: str, value: float, interval: list[float] | None, left_out: bool = True
) -> dict[str, Any]:
    facts = {"protocol": "feature_extraction", "metric": "balanced_accuracy", "n": 10, "n_groups": 5}
    return {
        "task": task,
        "subject": subject,
        "value": value,
        "interval": interval,
        "left_out": left_out,
        **facts,
    }


RESULTS = [
    result("lung", "trained", 0.8, [0.7, 0.9]),
    result("lung", "random", 0.6, [0.5, 0.7]),
    result("lung", "difference", 0.2, [0.1, 0.3]),
    result("colon", "difference", 0.1, [-0.1, 0.3]),
    result("oral", "difference", -0.2, [-0.3, -0.1]),
    result("glas", "trained", 0.9, None, left_out=False),
]


def test_the_three_values_of_a_task_stand_in_one_row() -> None:
    rows = by_task(RESULTS, left_out=True)
    assert [row[0] for row in rows] == ["lung", "colon", "oral"]
    values = ("0.800 [0.700, 0.900]", "0.600 [0.500, 0.700]", "0.200 [0.100, 0.300]")
    assert rows[0] == ("lung", "feature_extraction, balanced_accuracy", 10, 5, *values)
    assert len(rows[0]) == len(HEAD)
    assert rows[1][4:6] == ("not measured", "not measured")


def test_tasks_trained_on_are_kept_apart() -> None:
    assert by_task(RESULTS, left_out=False) == [
        (
            "glas",
            "feature_extraction, balanced_accuracy",
            10,
            5,
            "0.900 (no interval)",
            "not measured",
            "not measured",
        )
    ]


def test_the_verdict_counts_tasks_lineages_and_intervals() -> None:
    said = verdict(RESULTS, CORPUS)
    assert said.startswith(
        "Higher than random weights on 2 of 3 tasks of 2 lineages (average rank 1.33 against 1.67);"
    )
    assert said.endswith("above zero on 1 and below zero on 1.")
    assert "not corrected for the number of tasks" in said and "better" not in said.lower()
    assert verdict(RESULTS[-1:], CORPUS) == ""


def test_the_verdict_counts_masks_by_dice_under_the_protocol_s_name() -> None:
    masks = [{**r, "protocol": "segmentation_frozen", "metric": "dice"} for r in RESULTS]
    more = [{**r, "metric": "iou"} for r in masks]
    one, other = verdict([*RESULTS, *masks, *more], CORPUS).split("\n\n")
    assert one == f"By feature_extraction: h{verdict(RESULTS, CORPUS)[1:]}"
    assert other == one.replace("feature_extraction", "segmentation_frozen")


def test_the_readme_says_what_the_entry_says() -> None:
    root = Path(__file__).parents[1]
    text = (root / "histozoo/zoo/resnet18.multitask_path11.json").read_text(encoding="utf-8")
    facts = json.loads(text)["histozoo"]
    left_out = [r for r in facts["results"] if r["protocol"] == "feature_extraction"]
    assert verdict(left_out, facts["corpus"]) in (root / "README.md").read_text(encoding="utf-8")
