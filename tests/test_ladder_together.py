"""The ladder trained by two processes (gloo): the table of one process, killed and continued, and one error where either fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from histozoo import checkpoints, engine
from histozoo.cli import app
from histozoo.errors import UsageError
from histozoo.studies import ladder
from histozoo.studies.crew import Crew
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, write_drawn
from tests.fakes.tiles import write_table
from tests.test_ladder import FILE, JUDGED, SMALL

RECIPES = ("multitask", "dino")
TINY: dict[str, Any] = {
    **SMALL,
    "precision": "fp32",
    "recipes": list(RECIPES),
    "seeds": [0],
    "evaluations": 2,
    "tiles": 160,
}
SECOND = f"{TINY['architecture']}.dino_ladder0"

# One process imports torch and its like, and every other begins as a copy of it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["histozoo.engine", "histozoo.evaluate.compare.measure", __name__])


# -- what a process does -----------------------------------------------------------------------------------------------------------------


def kill_after_a_checkpoint() -> None:
    """The first process dies as soon as the second rung has its first checkpoint."""
    save: Callable[..., Path] = checkpoints.save

    def saved(run: Path, step: int, *rest: Any, **options: Any) -> Path:
        found = save(run, step, *rest, **options)
        if run.name == SECOND:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    checkpoints.save = saved


def fail_in_training() -> None:
    """The second process fails in the second step of the second rung."""
    step: Callable[..., torch.Tensor] = engine.Engine.training_step

    def failing(self: Any, *rest: Any) -> torch.Tensor:
        if os.environ["RANK"] == "1" and self.run.name == SECOND and self.state.global_step == 1:
            raise UsageError("HZ-U37", "a tile that only this process looks at is not there")
        return step(self, *rest)

    engine.Engine.training_step = failing  # type: ignore[method-assign]


def fail_in_measuring() -> None:
    """The first process fails when it measures, alone."""

    def failing(*_: Any, **__: Any) -> None:
        assert not torch.distributed.is_initialized() and "WORLD_SIZE" not in os.environ
        raise UsageError("HZ-U37", "a tile that is measured on is not there")

    ladder.measure = failing  # type: ignore[assignment]


def work(
    rank: int, place: Path, environment: dict[str, str], before: Callable[[], None] | None, words: list[str]
) -> None:
    with (place / f"said{rank}").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    TASKS.update({**DRAWN, JUDGED.name: JUDGED})
    if before:
        before()
    app(words)


def start(
    place: Path,
    out: str,
    *,
    processes: int = 2,
    before: Callable[[], None] | None = None,
    file: Path = FILE,
    **changes: Any,
) -> tuple[list[int | None], list[str]]:
    """Gives the command to so many processes; returns their exit codes and what they said."""
    places = [
        "--data-root",
        place / "data",
        "--out",
        place / out,
        "--cache",
        place / "cache",
        "--device",
        "cpu",
    ]
    settings = {**TINY, **changes} if file == FILE else changes
    sets = [w for key, value in settings.items() for w in ("--set", f"{key}={json.dumps(value)}")]
    words = ["study", str(file), *map(str, places), *sets]
    # As torchrun does it: the store in which they meet outlives them.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    started = []
    for rank in range(processes):
        numbers = {"WORLD_SIZE": processes, "RANK": rank, "LOCAL_RANK": rank}
        environment = {**meeting, **{k: str(v) for k, v in numbers.items()}} if processes > 1 else {}
        started.append(PROCESSES.Process(target=work, args=(rank, place, environment, before, words)))
        started[-1].start()
    for one in started:
        one.join(240)
        one.kill()
        one.join()
    return [one.exitcode for one in started], [
        (place / f"said{rank}").read_text() for rank in range(processes)
    ]


# -- what is looked at ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_drawn(tmp_path, register=False)
    write_table(tmp_path / "data" / JUDGED.folder, 12, JUDGED.classes, px=40, seed=7)
    return tmp_path


def table(out: Path) -> str:
    return (out / "results.csv").read_text()


def finals(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in sorted(out.glob("runs/*/final/*"))}


def said_of(out: Path, recipe: str, name: str) -> Any:
    return json.loads((out / "runs" / f"test_vit.{recipe}_ladder0" / name).read_text())


def check_weights(a: Path, b: Path) -> None:
    """Of the joint batch: as the state of recipes after some steps in tests/test_ssl_joint.py."""
    for recipe in RECIPES:
        one, two = (
            load_file(out / f"runs/test_vit.{recipe}_ladder0/final/model.safetensors") for out in (a, b)
        )
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-4, msg=key)


def check_one_error(
    codes: Sequence[int | None], said: Sequence[str], code: str, *, exit_code: int = 2
) -> str:
    """Every process ends with the exit code of the first to fail, and one of them says why."""
    assert list(codes) == [exit_code] * len(codes), said
    assert "".join(said).count("HZ-") == 1 and "Traceback" not in "".join(said), said
    (text,) = [s for s in said if f"{code} " in s]
    return text


def test_two_processes_give_the_table_of_one_also_when_killed_on_the_way(place: Path) -> None:
    one, two = place / "one", place / "two"
    codes, said = start(place, "one", processes=1)
    assert codes == [0], said
    codes, said = start(place, "two", before=kill_after_a_checkpoint)
    assert codes == [-signal.SIGKILL, 5] and "HZ-F46" in said[1] and "Traceback" not in said[1], said
    assert not (two / "DONE.json").exists()
    before = finals(two)
    assert {Path(p).parts[1] for p in before} == {"test_vit.multitask_ladder0"}

    codes, said = start(place, "two")
    assert codes == [0, 0], said
    assert "continuing from checkpoint-2 of 4 steps" in said[0] and said[0].count("report: ") == 1
    assert "report" not in said[1] and "steps" not in said[1]
    assert {
        p: t for p, t in finals(two).items() if p in before
    } == before  # the first rung was not trained again
    assert table(two) == table(one)
    check_weights(one, two)
    for out, processes, batch in ((one, 1, 8), (two, 2, 4)):
        for recipe in RECIPES:
            assert said_of(out, recipe, "environment.json")["processes"] == processes
            assert said_of(out, recipe, "experiment.json")["batch_size"] == batch
    rungs = [json.loads((out / "results.json").read_text())["rungs"] for out in (one, two)]
    assert [[r[k] for k in ("recipe", "steps", "tiles", "work")] for r in rungs[0]] == [
        [r[k] for k in ("recipe", "steps", "tiles", "work")] for r in rungs[1]
    ]
    told = "Every training by 2 processes together; 8 tiles a step in all."
    assert told in (two / "report.md").read_text() and "processes" not in (one / "report.md").read_text()

    whole = finals(two)
    codes, said = start(place, "two")
    assert codes == [0, 0] and "finished before, nothing to do" in said[0] and said[1] == "", said
    (two / "DONE.json").unlink()
    codes, said = start(
        place, "two", processes=1
    )  # what is finished is so for any number: nothing is trained, the report is written anew
    assert codes == [0] and finals(two) == whole and table(two) == table(one), said
    assert told in (two / "report.md").read_text()


@pytest.mark.slow
def test_each_process_may_hold_a_part_of_the_weights(place: Path) -> None:
    for out, processes in (("one", 1), ("two", 2)):
        codes, said = start(place, out, processes=processes, shard=processes == 2, tiles=80)
        assert codes == [0] * processes, said
    check_weights(place / "one", place / "two")
    assert table(place / "one") == table(place / "two")
    assert said_of(place / "two", "dino", "experiment.json")["shard"] is True
    assert "each holding a part of the weights" in (place / "two" / "report.md").read_text()


def test_the_first_to_fail_ends_all_with_one_error(place: Path) -> None:
    codes, said = start(place, "out", before=fail_in_training)
    check_one_error(codes, said, "HZ-U37")
    assert "only this process looks at" in said[1]
    codes, said = start(place, "out", before=fail_in_measuring)
    check_one_error(codes, said, "HZ-U37")
    assert "measured on" in said[0]


def test_what_several_processes_cannot_do_is_refused_once(place: Path) -> None:
    text = check_one_error(*start(place, "out", batch_size=7), "HZ-U43")
    assert "a batch_size that 2 divides" in text and not (place / "out" / "runs").exists()
    other = FILE.with_name("multitask.toml")
    text = check_one_error(*start(place, "other", file=other), "HZ-U89")
    assert "one process works on a study of kind multitask" in text and not (place / "other").exists()
    text = check_one_error(*start(place, "other", tiles=0), "HZ-U43")
    assert "'tiles'" in text


def two_of_a_crew() -> tuple[Crew, Crew]:
    store = torch.distributed.HashStore()
    store.set_timeout(timedelta(seconds=0.05))
    return Crew(store, rank=0, size=2), Crew(store, rank=1, size=2)


def test_who_waits_does_so_for_longer_than_any_timeout_of_the_store() -> None:
    first, second = two_of_a_crew()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(second.follow)
        time.sleep(0.5)
        assert not answer.done()
        first.dismiss(True)
        assert answer.result(60) is True


def test_the_first_failure_counts_and_ends_the_waiting() -> None:
    first, second = two_of_a_crew()
    assert second.fail(5) is None and first.fail(2) == 5 and second.fail(1) == 5
    with pytest.raises(SystemExit):
        second.follow()
    with pytest.raises(SystemExit):
        first.dismiss(True)
    assert Crew().fail(2) is None and Crew().first
