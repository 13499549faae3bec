"""The ladder: equal work, several seeds, methods against random weights; stopped and continued."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from histozoo import durable, experiment
from histozoo.errors import UsageError
from histozoo.recipes import RECIPES
from histozoo.studies import folder, run, rungs
from histozoo.studies.settings import Ladder
from histozoo.studies.study_file import Study, read
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, drawn_task, write_drawn
from tests.fakes.tiles import write_table

FILE = Path(__file__).parents[1] / "experiments" / "studies" / "ladder.toml"
JUDGED = drawn_task("drawn_judged", ("few", "many"), lineage="third")
SMALL: dict[str, Any] = {
    "architecture": "test_vit",
    "recipes": ["multitask", "simclr", "dino", "mae"],
    "train_tasks": list(DRAWN),
    "judged": [JUDGED.name],
    "protocols": ["knn"],
    "seeds": [0, 1],
    "tiles": 32,
    "px": 32,
    "pack_px": 32,
    "batch_size": 8,
    "evaluations": 1,
    "warmup_steps": 1,
    "resamples": 400,
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    torch.set_num_threads(1)
    write_drawn(tmp_path)
    write_table(tmp_path / "data" / JUDGED.folder, 12, JUDGED.classes, px=40, seed=7)
    TASKS[JUDGED.name] = JUDGED
    yield tmp_path
    for name in (*DRAWN, JUDGED.name):
        TASKS.pop(name)


def bench(place: Path, told: list[str]) -> folder.Bench:
    return folder.Bench(out=place / "out", data_root=place / "data", cache=place / "cache", tell=told.append)


def study(**changes: Any) -> Study:
    return read(FILE, preset="small", changed={**SMALL, **changes})


def test_every_method_and_seed_is_trained_once_and_judged_on_what_it_never_saw(place: Path) -> None:
    told: list[str] = []
    run.run(study(), bench(place, told), command="histozoo study ladder.toml")
    out = place / "out"
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    values = {r["model"]: float(r["value"]) for r in rows if not r["minus"]}
    assert values.keys() == {*SMALL["recipes"], "random"} and all(0 <= v <= 1 for v in values.values())
    compared = {(r["model"], r["minus"]) for r in rows if r["minus"]}
    assert compared == {
        *((m, "random") for m in SMALL["recipes"]),
        *((m, "multitask") for m in SMALL["recipes"] if m != "multitask"),
    }
    facts = json.loads((out / "results.json").read_text())
    assert len(facts["rungs"]) == 8 and str(place) not in (out / "report.md").read_text()
    written = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/final/*")}
    assert len({p.parent.parent.name for p in written}) == 8
    (out / "DONE.json").unlink()
    run.run(study(), bench(place, told), command="histozoo study ladder.toml")
    assert {p: p.stat().st_mtime_ns for p in written} == written  # nothing was trained again


def test_all_experiments_are_written_before_the_first_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, **_: Any) -> Path:
        raise KeyboardInterrupt(path.stem)

    monkeypatch.setattr(rungs.pretrain, "run", stop)
    with pytest.raises(KeyboardInterrupt, match=r"test_vit\.multitask_ladder0"):
        run.run(study(), bench(place, []), command="histozoo study ladder.toml")
    said = [experiment.read(p) for p in (place / "out" / "experiments").iterdir()]
    assert sorted((e.recipe, e.seed) for e in said) == [
        (r, s) for r in sorted(SMALL["recipes"]) for s in SMALL["seeds"]
    ]


@pytest.mark.parametrize(
    ("processes", "batch", "said"),
    [
        (2, 8, "(?s)batches of another size.*8 tiles a step.*16 by 2 processes"),
        (1, 4, "(?s)batches of another size.*4 by 1 process\n"),
        (
            2,
            4,
            "(?s)begun by another number of processes.*2, as it was begun.*got: +1\n.*give the command to 2",
        ),
    ],
)
def test_f44_a_rung_of_other_batches_or_processes_is_refused(
    place: Path, processes: int, batch: int, said: str
) -> None:
    run_of = place / "out" / "runs" / "test_vit.multitask_ladder0"
    durable.write_json(run_of / "environment.json", {"processes": processes})
    durable.write_json(run_of / "experiment.json", {"batch_size": batch, "accumulate": 1})
    with pytest.raises(UsageError, match=said) as caught:
        run.run(study(), bench(place, []), command="histozoo study ladder.toml")
    assert caught.value.code == "HZ-F44" and {p.name for p in run_of.iterdir()} == {
        "environment.json",
        "experiment.json",
    }


def test_work_is_equal_and_counts_views_and_teachers(place: Path) -> None:
    settings = study(recipes=["multitask", "simclr", "byol", "mae"], architecture="test_vit").settings
    assert isinstance(settings, Ladder)
    unit = rungs.work_per_tile(json.dumps(rungs.fields(settings, "multitask", 0)))
    work = {r: rungs.work_per_tile(json.dumps(rungs.fields(settings, r, 0))) / unit for r in settings.recipes}
    assert work["multitask"] == 1
    assert work["simclr"] > 2  # two views, and its head
    assert work["byol"] > work["simclr"] * 0.9  # a teacher forward for both views
    for recipe in settings.recipes:
        steps = max(1, round(1000 / (work[recipe] * 8)))
        assert abs(steps * 8 * work[recipe] - 1000) <= 4.1 * work[recipe]


def test_the_trunk_of_the_study_is_one_that_every_method_takes() -> None:
    settings = read(FILE, preset="small").settings
    assert isinstance(settings, Ladder) and set(settings.recipes) == set(RECIPES)
    lineages = [{TASKS[t].lineage for t in some} for some in (settings.train_tasks, settings.judged)]
    assert not lineages[0] & lineages[1]
    for recipe in settings.recipes:
        said = {**rungs.fields(settings, recipe, 0), "steps": 10, "eval_every": 5, "save_every": 5}
        resolved = experiment.resolve(tomllib.loads(rungs.toml(said)))
        assert (resolved.recipe, resolved.tile_px, resolved.seed) == (recipe, settings.px, 0)
