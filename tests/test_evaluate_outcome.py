"""`histozoo evaluate` where tasks have no number: what was asked, why nothing came of it, what to do, and the exit code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from histozoo.cli import app
from histozoo.errors import UsageError
from histozoo.evaluate import outcome
from histozoo.evaluate.compare import looking, measure
from histozoo.evaluate.report import Findings, summarise
from tests.fakes.compared import install, labelled


def evaluate(folder: Path, *arguments: str) -> Any:
    given = ["perfect", *arguments, "--out", folder / "out", "--cache", folder, "--resamples", 200]
    return CliRunner().invoke(app, ["evaluate", *map(str, given)])


def mixed(name: str) -> Any:
    """A task whose groups hold both classes, so that none of them is a slide."""
    task = labelled(name)
    return dataclasses.replace(task, labels_N=np.arange(len(task.labels_N)) % 2)


def test_i76_a_command_that_measured_nothing_fails_and_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = labelled("few", groups=4)
    install(monkeypatch, {"few": few, "mixed": mixed("mixed")})
    asked = ["--task", "few", "--task", "mixed", "--protocol", "slides_mean"]
    for _ in range(2):  # nothing that was kept makes it end well
        result = evaluate(tmp_path, *asked)
        assert result.exit_code == 2, result.output
        assert "HZ-I76 nothing could be measured" in result.stderr
        assert "- few by slides_mean: HZ-I72" in result.stderr
        assert "- mixed by slides_mean: HZ-I71" in result.stderr
        assert outcome.STEPS["HZ-I71"] in result.stderr and outcome.STEPS["HZ-I72"] in result.stderr
    assert "results.html" in result.stdout and (tmp_path / "out" / "results.html").exists()


def test_i76_looks_alone_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = labelled("lone")
    lone = dataclasses.replace(task, groups_N=np.full(len(task.labels_N), "one"))
    install(monkeypatch, {"lone": lone})
    result = evaluate(tmp_path, "--task", "lone", "--protocol", "invariance")
    assert result.exit_code == 2 and "- lone by invariance: HZ-I63" in result.stderr


def test_i76_comes_before_there_being_nothing_to_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo.evaluate.compare import record

    install(monkeypatch, {"few": labelled("few", groups=4)})
    monkeypatch.setattr(record, "target", lambda name: tmp_path / "entry.json")
    result = evaluate(tmp_path, "--task", "few", "--protocol", "knn", "--record")
    assert result.exit_code == 2 and "HZ-I76" in result.stderr, result.stderr


def test_what_has_a_number_ends_well_and_the_rest_is_told_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, {"few": labelled("few", groups=4), "many": labelled("many")})
    result = evaluate(tmp_path, "--task", "few", "--task", "many", "--protocol", "knn")
    assert result.exit_code == 0, result.output
    told = [line for line in result.stdout.splitlines() if line.startswith("no number: ")]
    assert told == [f"no number: few by knn, HZ-I63; next: {outcome.STEPS['HZ-I63']}"]
    assert "no number" not in evaluate(tmp_path, "--task", "many", "--protocol", "knn").stdout


def test_every_reason_has_a_step() -> None:
    known = {*measure.UNDEFINED, *measure.NO_SLIDES, *looking.UNDEFINED, "HZ-I68"}
    assert set(outcome.STEPS) == known


def test_a_study_of_a_run_without_a_number_says_what_to_do() -> None:
    findings = Findings(study="s", resamples=100, undefined={"a": "HZ-I63 fewer groups than folds: 2"})
    with pytest.raises(UsageError) as caught:
        summarise(findings)
    assert caught.value.next_step == outcome.STEPS["HZ-I63"]
