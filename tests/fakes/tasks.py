"""Two drawn tasks and an experiment on them, small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

from histozoo.tasks import TASKS, Task
from tests.fakes.tiles import write_table

EXPERIMENT = """
name = "test_resnet.multitask_drawn"
tasks = ["drawn_nuclei", "drawn_stroma"]
steps = 12
batch_size = 8
tile_px = 32
pack_px = 32
train_px = 32
warmup_steps = 2
eval_every = 6
save_every = 4
intended_use = "Tests."
limits = "Drawn tiles."
"""


def drawn_task(name: str, classes: tuple[str, ...], *, lineage: str) -> Task:
    """Returns a task whose table `write_drawn` writes."""
    words = {"organ": "none", "stain": "drawn", "licence": "CC0-1.0", "source": "drawn", "citation": "none"}
    return Task(
        name=name,
        kind="multiclass",
        classes=classes,
        lineage=lineage,
        folder=name,
        licence_checked=True,
        **words,
    )


DRAWN = {
    "drawn_nuclei": drawn_task("drawn_nuclei", ("few", "many"), lineage="first"),
    "drawn_stroma": drawn_task("drawn_stroma", ("a", "b", "c"), lineage="second"),
}


def write_drawn(folder: Path, *, register: bool = True) -> Path:
    """Writes the tasks' tiles below `folder/data` and the experiment beside them; returns the experiment's path.

    With `register` the tasks are put among the known ones of this process; a test takes them out again.
    """
    for seed, task in enumerate(DRAWN.values()):
        write_table(folder / "data" / task.folder, 12, task.classes, px=40, seed=seed)
    if register:
        TASKS.update(DRAWN)
    path = folder / "test_resnet.multitask_drawn.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return path
