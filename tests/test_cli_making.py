"""What the making verbs tell by themselves: simple mistakes before anything slow, and what a publisher should know of a card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from histozoo import experiment, pretrain, registry
from histozoo.cli import making
from histozoo.cli.app import app
from histozoo.errors import UsageError
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, write_drawn
from tests.fakes.tiny import NAME, tiny_zoo

# -- before anything slow --


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Path]:
    """An experiment on drawn tiles; `parent/data` holds them."""
    yield write_drawn(tmp_path)
    for name in DRAWN:
        TASKS.pop(name)


def glance(experiment: Path, **changes: Any) -> None:
    making._glance(experiment, experiment.parent / "data", experiment.parent / "runs", changes)


def test_a_glance_at_what_is_all_right_says_nothing(drawn: Path) -> None:
    glance(drawn)
    glance(drawn, steps=3)


def test_an_experiment_that_could_not_be_published_is_told_so_at_the_start(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = experiment.glance(drawn)
    assert making._unpublishable(raw, ()) == ""
    silent = {**raw, "intended_use": " ", "limits": ""}
    assert "states no intended_use and no limits, " in making._unpublishable(silent, ())
    assert making._unpublishable(silent, ["first"]) == ""  # a study, which is not published
    monkeypatch.setenv("RANK", "1")
    assert making._unpublishable(silent, ()) == ""


def test_the_note_comes_before_training(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*_: Any, **__: Any) -> Path:
        print("trained")
        return drawn.parent

    monkeypatch.setattr(pretrain, "run", trained)
    command = ["pretrain", str(drawn), "--data-root", str(drawn.parent / "data"), "--set", 'limits=" "']
    result = CliRunner().invoke(app, command)
    first, second = result.output.splitlines()[:2]
    assert first.startswith("note: the experiment states no limits, ") and "--accept-change" in first
    assert (result.exit_code, second) == (0, "trained")


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"stpes": 3}, "HZ-U42", "did you mean 'steps'?"),
        ({"tasks": ["drawn_nuclei", "drawn_stromaa"]}, "HZ-U30", "drawn_stroma"),
        ({"tasks": ["drawn_nuclei", "glas"]}, "HZ-U37", "glas"),
    ],
)
def test_a_glance_refuses_an_unknown_key_an_unknown_task_and_absent_data(
    drawn: Path, changes: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(UsageError, match=code) as caught:
        glance(drawn, **changes)
    assert says in str(caught.value)
    assert not (drawn.parent / "runs").exists()


def test_a_glance_leaves_values_of_the_wrong_kind_to_the_full_check(drawn: Path) -> None:
    glance(drawn, tasks=7)
    glance(drawn, tasks=[7])


def test_a_finished_run_is_not_asked_for_its_data(drawn: Path) -> None:
    shutil.rmtree(drawn.parent / "data")
    with pytest.raises(UsageError, match="HZ-U37"):
        glance(drawn)
    (drawn.parent / "runs" / "test_resnet.multitask_drawn" / "final").mkdir(parents=True)
    glance(drawn)


def test_a_glance_costs_no_torch(drawn: Path, fresh_python: Any) -> None:
    code = """
import sys
from pathlib import Path
from histozoo.cli import making
from histozoo.errors import HistozooError
try:
    making._glance(Path(sys.argv[1]), Path(sys.argv[2]), Path("runs"), {"stpes": 1})
except HistozooError as error:
    print(error.code, sorted({"torch", "transformers", "datasets"} & set(sys.modules)))
"""
    assert fresh_python(code, str(drawn), str(drawn.parent)).stdout.strip() == "HZ-U42 []"


# -- what a publisher should know --


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of another name than the one in the zoo, with words of its own."""
    monkeypatch.setattr(registry, "ZOO", tiny_zoo() / "zoo")
    folder = tmp_path / "dist"
    folder.mkdir()
    shutil.copy(tiny_zoo() / "dist" / NAME / "config.json", folder)
    edited(folder, name="test_resnet.multitask_other", intended_use="Its own.", limits="Its own limits.")
    return folder


def edited(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / "config.json").read_text())
    raw["histozoo"] |= changes
    if "name" in changes:
        raw["histozoo"]["weights"]["repo"] = f"histozoo/{changes['name']}"
        raw["pretrained_cfg"]["tag"] = changes["name"].partition(".")[2]
    (folder / "config.json").write_text(json.dumps(raw))


def test_a_card_of_its_own_with_results_needs_no_note(bundle: Path) -> None:
    assert registry.read_entry(bundle / "config.json").ours["results"]
    assert making._notes(bundle, None) == []


def test_a_model_that_nobody_measured_is_noted(bundle: Path) -> None:
    edited(bundle, results=[])
    (note,) = making._notes(bundle, None)
    assert note.startswith("nothing was measured") and "histozoo evaluate RUN" in note


def test_words_taken_over_from_another_card_are_noted_by_field_and_name(bundle: Path, tmp_path: Path) -> None:
    theirs = registry.entry(NAME).ours
    edited(bundle, intended_use=theirs["intended_use"], limits=theirs["limits"])
    first, second = making._notes(bundle, None)
    assert first.startswith(f"intended_use is word for word that of {NAME}")
    assert second.startswith(f"limits is word for word that of {NAME}")
    edited(bundle, limits="Its own limits.")
    (tmp_path / "zoo").mkdir()
    (only,) = making._notes(bundle, tmp_path / "zoo")
    assert only == first, "the package's own zoo is asked whatever zoo is published to"


def test_a_model_published_again_is_not_compared_with_itself(bundle: Path) -> None:
    shutil.copy(tiny_zoo() / "dist" / NAME / "config.json", bundle)
    assert making._notes(bundle, None) == []
