"""The traps of the real sets, as their origins describe them, are found by measuring; a sample of each set, to stay quick."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from histozoo.audit import AuditReport, Finding, audit
from histozoo.tasks import TASKS

NAMES = (
    *("lc25000_lung", "lc25000_colon", "all_leukemia", "cervical_lbc", "glas", "bccd_cells", "bccd_wbc"),
    *("aml_lmu_mini", "pbc_mini"),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("HISTOZOO_DATA") or beside)
    if not root.is_dir():
        pytest.skip("the real tiles are not here: set HISTOZOO_DATA to their folder")
    # One of two sets that share photographs is declared as if it were unrelated: the audit must object.
    tasks = [
        dataclasses.replace(TASKS[name], lineage=name) if name == "bccd_wbc" else TASKS[name]
        for name in NAMES
    ]
    return audit(tasks, data_root=root, out=tmp_path_factory.mktemp("audit"), sample=150)


def only(report: AuditReport, task: str, code: str) -> Finding:
    [finding] = [f for f in report.of(task) if f.code == code]
    return finding


@pytest.mark.parametrize("task", ["lc25000_lung", "lc25000_colon"])
def test_augmented_copies_of_lc25000_turned_and_mirrored(task: str, report: AuditReport) -> None:
    found = only(report, task, "augmented-copies")
    assert found.severity == "warning" and found.evidence["turned"] > 20


def test_benign_lung_has_a_tint_of_its_own(report: AuditReport) -> None:
    found = only(report, "lc25000_lung", "tint-tells-class")
    assert found.severity == "warning" and found.evidence["low"] > 0.6
    assert TASKS["lc25000_lung"].classes[found.evidence["told"]] == "benign"


def test_classes_of_all_leukemia_look_like_batches(report: AuditReport) -> None:
    found = only(report, "all_leukemia", "tint-tells-class")
    assert found.severity == "warning" and found.evidence["low"] > 0.5


def test_cervical_lbc_was_resampled_by_class(report: AuditReport) -> None:
    found = only(report, "cervical_lbc", "sharpness-tells-class")
    assert found.severity == "warning" and found.evidence["told_value"] > 0.9
    assert TASKS["cervical_lbc"].classes[found.evidence["told"]] == "NILM"


def test_the_crop_size_of_bccd_cells_tells_white_cells(report: AuditReport) -> None:
    found = only(report, "bccd_cells", "stored-tells-class")
    assert found.evidence["best"].startswith("stored") and found.evidence["told_value"] > 0.95
    assert TASKS["bccd_cells"].classes[found.evidence["told"]] == "WBC"
    assert "size-tells-class" not in report.codes("bccd_cells")


def test_the_official_split_of_glas_shares_patients(report: AuditReport) -> None:
    found = only(report, "glas", "group-in-two-splits")
    assert found.severity == "error" and found.evidence["groups"] > 5


def test_the_two_bccd_sets_share_frames(report: AuditReport) -> None:
    found = only(report, "bccd_wbc", "tasks-share-frames")
    assert found.severity == "error" and {found.task, *found.others} == {"bccd_cells", "bccd_wbc"}
    assert (
        found.evidence["names"] > 300 and found.evidence["matched"] > 3 * found.evidence["matched_by_chance"]
    )


def test_rotated_copies_of_rare_cells_are_found_in_aml_lmu_mini(report: AuditReport) -> None:
    found = only(report, "aml_lmu_mini", "augmented-copies")
    assert found.severity == "warning" and found.evidence["turned"] >= 5


def test_unknown_patients_and_unequal_classes_are_said(report: AuditReport) -> None:
    assert only(report, "pbc_mini", "no-groups").severity == "warning"
    assert only(report, "bccd_wbc", "unbalanced").severity == "note"


def test_sets_without_these_traps_are_not_accused_of_them(report: AuditReport) -> None:
    assert "augmented-copies" not in report.codes("glas") | report.codes("cervical_lbc")
    assert not {"tint-tells-class", "size-tells-class", "encoding-tells-class"} & report.codes("glas")
    assert {f.task for f in report.findings if f.code == "group-in-two-splits"} == {"glas"}
    assert {f.task for f in report.findings if f.code == "tasks-share-frames"} == {"bccd_cells"}
