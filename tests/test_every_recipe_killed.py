"""Every self-supervised recipe, from its experiment file over streamed shards with two loader workers, killed (SIGKILL) and continued.

What a run ends with must not tell that it was killed: weights of trunk, heads and teacher, centre, queue and the optimizer's state are
compared as the bytes of `final/`, with those of a run that nobody disturbed and that read its tiles without workers.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from histozoo import checkpoints, pretrain, run_folder
from histozoo.recipes import OBJECTIVES, PRESETS
from histozoo.tasks import TASKS
from tests.fakes import killer
from tests.fakes import unlabelled as fakes
from tests.fakes.tasks import DRAWN, write_drawn

pytest.importorskip("datasets")
STEPS, SAVED, DIES = 5, 2, 3
FILE = """
name = "{architecture}.{recipe}_shards"
preset = "{preset}"
tasks = {tasks}
tile_px = 32
pack_px = 32
train_px = 32
steps = {steps}
batch_size = 4
eval_every = {steps}
save_every = {saved}
precision = "fp32"
{more}
[unlabelled.tars]
shards = "tars"
[unlabelled.parquet]
shards = "parquet"
[views]
{views}
[objective]
"""
SMALL: dict[str, Any] = {
    "hidden": 16, "outputs": 16, "bottleneck": 8, "prototypes": 12, "freeze_steps": 0, "freeze_last": 0.0,
    "decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1,
}  # fmt: skip
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: (name, "small", {}) for name in OBJECTIVES},
    "moco with a queue": ("moco", "queue", {"queue": 10}),
    "swav with a queue": ("swav", "small", {"queue": 8, "queue_from": 0.0}),
    "ibot as published first": ("ibot", "small", {"centring": "ema", "shared_head": True}),
    "multitaskssl": ("multitaskssl", "small", {}),
}
STATE = {
    "byol": "teacher", "dino": "centre", "ibot": "teacher", "moco": "teacher", "moco with a queue": "queue",
    "swav with a queue": "queue", "ibot as published first": "centre",
}  # fmt: skip
"""What a recipe keeps beside what it learns, by a word of its key."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """`data` with shards of both formats and two labelled tasks."""
    torch.set_num_threads(1)
    write_drawn(tmp_path)
    fakes.write_tars(tmp_path / "data/tars", [fakes.blobs(7, 32, seed=3), fakes.blobs(4, 32, seed=4)])
    fakes.write_parquet(tmp_path / "data/parquet", [fakes.blobs(5, 32, seed=5), fakes.blobs(8, 32, seed=6)])
    yield tmp_path
    for name in DRAWN:
        TASKS.pop(name)


def write(place: Path, recipe: str, preset: str, changes: dict[str, Any]) -> Path:
    """Writes the experiment of a recipe at widths that are done in a second."""
    both = recipe == "multitaskssl"
    objective = "simclr" if both else recipe
    known = {f.name for f in dataclasses.fields(OBJECTIVES[objective])}
    crops = PRESETS[recipe][preset].get("views", {}).get("local_views")
    text = FILE.format(
        architecture="test_vit" if recipe in ("ibot", "mae") else "test_resnet",
        recipe=recipe,
        preset=preset,
        tasks=list(DRAWN) if both else [],
        steps=STEPS,
        saved=SAVED,
        more="head_warmup_steps = 0\nwarmup_steps = 1" if both else "",
        views="local_px = 16\nlocal_views = 1" if crops else "",
    )
    settings = {**{k: v for k, v in SMALL.items() if k in known}, **changes}
    lines = [f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in settings.items()]
    path = place / "experiment.toml"
    path.write_text(text + "\n".join(lines) + "\n")
    return path


def train(file: Path, runs: str, *, workers: int, dies_at: int | None = None) -> Path:
    """Runs the experiment as `histozoo pretrain` does; with `dies_at` this process kills itself when that step begins."""
    build = pretrain.build_recipe

    def mortal(*args: Any, **options: Any) -> Any:
        recipe = build(*args, **options)
        begin: Callable[[int], None] = recipe.on_step

        def on_step(step: int) -> None:
            if step == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            begin(step)

        recipe.on_step = on_step  # type: ignore[method-assign]
        return recipe

    if dies_at is not None:
        pretrain.build_recipe = mortal
    place = file.parent
    return pretrain.run(file, data_root=place / "data", runs=place / runs, device="cpu", workers=workers)


@pytest.mark.parametrize("case", CASES)
def test_f40_every_recipe_killed_while_streaming_with_workers_ends_with_the_same_bits(
    case: str, place: Path
) -> None:
    file = write(place, *CASES[case])
    whole = train(file, "whole", workers=0)
    killed = place / "killed" / whole.name
    child, note = killer.start(partial(train, file, "killed", workers=2, dies_at=DIES))
    _, status = os.waitpid(child, 0)
    said = "" if os.WIFSIGNALED(status) else Path(f"/dev/fd/{note}").read_text()
    os.close(note)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, said
    newest = checkpoints.newest_valid(killed)
    assert newest is not None and checkpoints.step_of(newest) == DIES // SAVED * SAVED
    assert not (killed / "final").exists()
    assert killer.kill_until_done(partial(train, file, "killed", workers=2), kills=0) == 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (killed / "final" / name).read_bytes() == (whole / "final" / name).read_bytes(), name
    if case in STATE:
        with (whole / "final/model.safetensors").open("rb") as kept:
            size = int.from_bytes(kept.read(8), "little")
            assert STATE[case] in kept.read(size).decode()


def test_f48_what_a_killed_run_leaves_running_does_not_hold_its_folder(tmp_path: Path) -> None:
    folder, up = tmp_path / "run", tmp_path / "up"

    def outlive() -> None:
        up.touch()
        time.sleep(60)

    with run_folder.locked(folder):
        (folder / "experiment.json").touch()
        child, note = killer.start(outlive)
        while not up.exists():
            time.sleep(0.01)
    try:
        with run_folder.locked(folder):
            pass
    finally:
        killer.kill(child)
        os.close(note)
