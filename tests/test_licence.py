"""What licences allow: a table of ids decides and no other word does, for each task, for weights, and for the shipped entry."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import histozoo
from histozoo import licence, task_tables, training_data
from histozoo.audit import chain
from histozoo.tasks import TASKS

SHIPPED = Path(histozoo.__file__).parent / "zoo" / "resnet18.multitask_path11.json"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CC0-1.0", "permissive"), ("CC0", "permissive"), ("MIT", "permissive"), ("CC BY 4.0", "permissive"), ("CC-BY-3.0", "permissive"),
        ("public domain", "permissive"), ("apache-2.0", "permissive"), ("CC BY-NC 4.0", "non-commercial"),
        ("cc-by-nc-3.0", "non-commercial"), ("UNKNOWN", "unknown"), ("", "unknown"), ("GPL-3.0", "unknown"),
        ("no formal licence", "unknown"), ("proprietary", "unknown"), ("MIT (not for the images)", "unknown"), ("other", "unknown"),
    ],
)  # fmt: skip
def test_licence_kinds(text: str, kind: str) -> None:
    assert licence.kind(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "CC BY 4.0; commercial use prohibited",
        "CC-BY-4.0 (from memory of the Mendeley record; check it there)",
        "Apache-2.0 (as kaiko-ai/eva states; check at the source)",
        "CC BY",
        "CC BY 9.9",
        "MIT, Apache-2.0",
        "MITRE",
        "non-commercial only",
        "NON-COMMERCIAL (research)",
    ],
)
def test_words_beside_an_id_or_near_one_decide_nothing(text: str) -> None:
    assert licence.kind(text) == "unknown"
    assert licence.weights_licence([{"task": "a", "licence": text}])[0] == "other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("CC-BY-NC-SA-4.0", "share-alike"),
        ("CC BY-SA 4.0", "share-alike"),
        ("CC BY-NC-ND 4.0", "no derivatives"),
        ("CC BY-ND 3.0", "no derivatives"),
        ("research use only", "research use only, of a"),
        ("non-commercial, research use only", "research use only, of a"),
    ],
)
def test_terms_whose_effect_on_weights_is_unsettled_make_them_other_and_say_why(text: str, says: str) -> None:
    assert licence.kind(text) == "unknown"
    identity, reason = licence.weights_licence([{"task": "a", "licence": text}])
    assert identity == "other" and says in reason and "no clear licence" not in reason


def test_the_strictest_source_decides_the_licence_of_the_weights() -> None:
    free, nc, sa, unknown = (
        {"task": t, "licence": x}
        for t, x in (("a", "MIT"), ("b", "CC BY-NC 4.0"), ("s", "CC BY-SA 4.0"), ("c", "UNKNOWN"))
    )
    assert licence.weights_licence([]) == ("apache-2.0", "every source allows any use: none was used")
    assert licence.weights_licence([free])[0] == "apache-2.0"
    assert licence.weights_licence([free, nc]) == (
        "cc-by-nc-4.0",
        "non-commercial like its sources b (CC BY-NC 4.0)",
    )
    assert licence.weights_licence([nc, sa, free, unknown]) == (
        "other",
        "research use only: no clear licence for c (UNKNOWN); share-alike: whether weights must carry the same licence is unsettled, "
        "of s (CC BY-SA 4.0); non-commercial: b (CC BY-NC 4.0)",
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_declares_an_id_and_says_apart_from_it_what_it_rests_on(name: str) -> None:
    task = TASKS[name]
    known = task.licence == "unknown" or licence.why(task.licence)
    assert known, "words belong into licence_note"
    assert not task.licence_checked or (task.licence_note and task.licence != "unknown")
    assert task.licence == "unknown" or task.licence_note, "a licence rests on something"
    doubt = ("memory", "states", "state", "check")
    assert not (task.licence_checked and set(doubt) & set(task.licence_note.split()))


@pytest.mark.parametrize("name", ["sicapv2", "tnbc_nuclei", "consep_nuclei", "pbc_mini", "oral_oscc"])
def test_a_licence_that_was_not_checked_is_unknown_whatever_its_id(name: str) -> None:
    task = TASKS[name]
    assert licence.kind(task.licence) == "permissive" and licence.kind(task.stated_licence) == "unknown"
    assert "not checked" in task.stated_licence and task.licence_note in task.stated_licence
    assert licence.kind(replace(task, licence_checked=True).stated_licence) == "permissive"


def test_list_audit_and_training_data_say_alike_on_what_is_not_checked() -> None:
    task = TASKS["sicapv2"]
    found = chain.chain([task, TASKS["pcam"]])
    assert found["free"] == ["pcam"] and found["deciding"] == ["sicapv2"]
    (finding,) = chain.find(task, found)
    assert "not checked" in finding.sentence
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(task_tables.tasks([task], None), task_tables.task(task, None))
    text = console.export_text()
    assert "permissive" not in text and "weights trained on it: other (a licence that is not checked)" in text
    split = SimpleNamespace(train=[0], to_json=lambda: "{}")
    prepared: Any = SimpleNamespace(
        task=task, labels_N=[0], groups=["g"], split=split, fingerprint="f", packed_mpp=None
    )
    assert training_data.describe(prepared)["licence"] == task.stated_licence


def test_the_shipped_entry_keeps_its_verdict() -> None:
    ours = json.loads(SHIPPED.read_text(encoding="utf-8"))["histozoo"]
    assert licence.weights_licence(ours["corpus"])[0] == ours["licence"]["id"] == "other"
    for item in ours["corpus"]:
        before, now = licence.kind(item["licence"]), licence.kind(TASKS[item["task"]].stated_licence)
        assert before == now, item["task"]
