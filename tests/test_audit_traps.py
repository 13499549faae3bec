"""Each trap is found where it was planted, by its own family, and nothing is found in clean tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histozoo.audit import AuditReport, audit
from histozoo.audit.families import FAMILIES
from histozoo.audit.probe import folds, probe_family
from tests.fakes import traps

PLANTED = {
    "size": traps.size,
    "encoding": traps.encoding,
    "tint": traps.tint,
    "sharpness": traps.sharpness,
    "bar": traps.scale_bar,
    "padding": traps.padding,
}
FOUND_BY = {"bar": "edges", "padding": "edges"}
# A blur takes contrast and bytes away, a bar adds both: what a trap changes beside its own family.
MAY_SHOW_TOO = {
    "size": {"bytes", "sharpness"},
    "encoding": {"bytes"},
    "sharpness": {"bytes", "edges", "tint"},
    "bar": {"bytes", "tint", "sharpness"},
    "padding": {"bytes", "sharpness"},
}


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    root = tmp_path_factory.mktemp("trapped")
    tasks = [traps.write(root, name, trap) for name, trap in PLANTED.items()]
    tasks.append(traps.write(root, "cut", traps.size, centre_px=48))
    return audit(tasks, data_root=root, out=root / "page")


def families(report: AuditReport, task: str) -> set[str]:
    return {code.removesuffix("-tells-class") for code in report.codes(task) if code.endswith("-tells-class")} - {"group"}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_trap_is_found_by_its_family_and_by_no_unrelated_one(
    name: str, trapped: AuditReport
) -> None:
    family = FOUND_BY.get(name, name)
    assert family in families(trapped, name)
    assert families(trapped, name) <= {family} | MAY_SHOW_TOO.get(name, set())
    [finding] = [f for f in trapped.of(name) if f.code == f"{family}-tells-class"]
    assert finding.severity == ("error" if family in ("size", "encoding") else "warning")
    assert finding.evidence["low"] > finding.evidence["chance"] == 0.5
    assert finding.evidence["low"] <= finding.evidence["value"] <= finding.evidence["high"]
    assert "a model could do the same" in finding.sentence and finding.next_step


def test_a_size_that_the_task_cuts_away_is_a_warning_on_the_stored_pictures(trapped: AuditReport) -> None:
    [stored] = [f for f in trapped.of("cut") if f.code == "stored-tells-class"]
    assert stored.severity == "warning" and stored.evidence["value"] > 0.95
    assert "size-tells-class" not in trapped.codes("cut")
    (record,) = (t for t in trapped.tasks if t.name == "cut")
    assert record.formats["tile_px"] == {"48 x 48": 72} and len(record.formats["stored_px"]) > 5


def test_the_sentence_names_the_statistic_and_its_medians(trapped: AuditReport) -> None:
    [finding] = [f for f in trapped.of("encoding") if f.code == "encoding-tells-class"]
    assert finding.evidence["best"] in FAMILIES["encoding"]
    (record,) = (t for t in trapped.tasks if t.name == "encoding")
    assert record.statistics["quality"]["left"][2] == 90 and record.statistics["quality"]["right"][2] == 91


def test_twenty_clean_tasks_give_at_most_one_finding_of_any_family_or_copy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("clean")
    tasks = [
        traps.write(root, f"clean{seed}", seed=seed, per_class=24, groups=8, px=40) for seed in range(20)
    ]
    report = audit(tasks, data_root=root, out=root / "page")
    assert len(report.tasks) == 20 and all(t.n_read == 48 for t in report.tasks)
    # That each group holds one class is so in these tasks, and is a note.
    found = [f"{f.task} {f.code}" for f in report.findings if f.code != "group-tells-class"]
    assert len(found) <= 1, found


def test_statistics_of_no_relation_to_the_class_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.repeat([0, 1, 2], 60), [f"g{i // 6}" for i in range(180)]
    telling = 0
    for seed in range(20):
        values = {name: rng.normal(size=180) for name in FAMILIES["tint"]}
        telling += probe_family("tint", values, labels, groups, classes=3, seed=seed).telling
    assert telling <= 1


def test_a_mark_of_the_group_is_not_taken_for_a_mark_of_the_class() -> None:
    """Twelve slides, each with a tint of its own: in random folds that tells the class, in grouped ones it must not."""
    telling = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(12), 20)
        values = {name: rng.normal(size=12)[group] + rng.normal(0, 0.05, 240) for name in FAMILIES["tint"]}
        found = probe_family("tint", values, group % 2, group.astype(str).tolist(), classes=2, seed=seed)
        telling += found.telling
    assert telling <= 2


def test_a_class_in_the_middle_is_seen_by_a_linear_probe() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 80)
    width = np.where(
        labels == 1, rng.uniform(90, 110, 160), rng.choice([60, 140], 160) + rng.uniform(-9, 9, 160)
    )
    values = dict.fromkeys(FAMILIES["size"], width)
    found = probe_family("size", values, labels, [str(i) for i in range(160)], classes=2)
    assert found.telling and found.value > 0.95


def test_a_family_without_spread_and_a_class_too_small_are_said_not_guessed() -> None:
    same = {name: np.ones(40) for name in FAMILIES["size"]}
    assert probe_family("size", same, np.repeat([0, 1], 20), ["a", "b"] * 20, classes=2).reason
    varied = {name: np.arange(40.0) for name in FAMILIES["size"]}
    lone = probe_family("size", varied, np.repeat([0, 1], [38, 2]), [str(i) for i in range(40)], classes=2)
    assert lone.reason and not lone.telling and lone.to_json()["value"] is None


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_every_class_in_training(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 30, 300)
    group = np.unique(group, return_inverse=True)[1]
    label = rng.integers(0, 3, 300)
    fold = folds(label, group, seed=seed)
    assert all(len(set(fold[group == g])) == 1 for g in range(group.max() + 1))
    assert all(set(label[fold != f]) == {0, 1, 2} for f in set(fold))


def test_equal_tasks_give_equal_reports(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "again", traps.tint, per_class=20)
    first, second = (audit([task], data_root=tmp_path, out=tmp_path / out).to_json() for out in "ab")
    first.pop("seconds"), second.pop("seconds")
    assert first == second
