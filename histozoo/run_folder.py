"""What stands in a run folder besides checkpoints: its owner, what it is made of, and its final weights."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import torch
import torch.distributed as dist

from histozoo import artifact, checkpoints, durable, sharding
from histozoo.errors import IntegrityError, UsageError
from histozoo.experiment import STATED
from histozoo.recipes import Recipe

SAID = ("licence", "source", "origin", "citation", "organ")
"""What a card says of a set of tiles, and that decides no weight. Not `stain`, which is a strength of views, too."""
_held: list[TextIO] = []


def _let_go() -> None:
    """Closes the locks in a forked child: loader workers live on for seconds after a killed run, and would hold them for it."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_let_go)


def is_first_process() -> bool:
    """Returns whether this is the process that writes (torchrun's rank 0, or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0


def leave_group() -> None:
    """Leaves the processes of torchrun: threads that still serve them at the end of the program abort it once in a while."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the run folder if need be, and holds it for this process.

    Raises:
        ResourceError: `HZ-F42`, the folder cannot be made or written.
        UsageError: `HZ-F48`, another process trains in it; says host, process id and since when.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+", encoding="utf-8") if is_first_process() else None
    except OSError as error:
        raise durable.resource_error(folder, 0, error) from error
    if lock is None:
        yield
        return
    with lock as file:
        try:
            # The kernel drops the lock with its owner, and forked children let go of it: a killed run never blocks the next one.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UsageError(
                "HZ-F48",
                "another process trains in this run folder",
                where=folder,
                got=file.read().strip(),
                kept="nothing was changed",
                next_step="wait for it, stop it, or use another folder",
            ) from error
        file.truncate(0)
        file.write(
            f"host {socket.gethostname()}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        )
        file.flush()
        _held.append(file)
        try:
            yield
        finally:
            _held.remove(file)
            _leave(folder)


def _leave(folder: Path) -> None:
    """Removes the folder of a run that was refused before it wrote anything."""
    if [path.name for path in folder.iterdir()] == [".lock"]:
        (folder / ".lock").unlink()
        with suppress(OSError):  # somebody else has just begun here
            folder.rmdir()


def record(folder: Path, facts: Mapping[str, Any], *, accept_change: bool) -> None:
    """Writes what a run is made of, or compares it with what an earlier start of the same run wrote.

    Args:
        folder: The run folder.
        facts: File name -> JSON value. The last file is the marker that all of them were written.
        accept_change: Go on where something differs, and note the differences in `changes.jsonl`.

    Raises:
        IntegrityError: `HZ-F44`, something differs and `accept_change` is false.
    """
    facts = json.loads(json.dumps(facts))
    if (folder / list(facts)[-1]).exists():
        before = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in facts}
        changes = [c for name in facts for c in _differences(name, before[name], facts[name])]
        if changes and not accept_change:
            _refuse(folder, changes)
        if changes:
            durable.append_line(folder / "changes.jsonl", json.dumps(changes))
    for name, value in facts.items():
        durable.write_json(folder / name, value)


def compare(folder: Path, facts: Mapping[str, Any]) -> None:
    """Compares facts with what a run wrote when it started; of objects, only the keys given, at every depth.

    Raises:
        IntegrityError: `HZ-F44`, something differs.
    """
    facts = json.loads(json.dumps(facts))
    changes = []
    for name, now in facts.items():
        before = json.loads((folder / name).read_text(encoding="utf-8"))
        changes += _differences(name, _part(before, now), now)
    if changes:
        _refuse(folder, changes)


def restate(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes what a card says of a finished run, and notes the differences in `changes.jsonl`; what it was trained with stays.

    Args:
        folder: The run folder.
        facts: As `record` takes them, without the environment: what trained the run is what it was.

    Raises:
        IntegrityError: `HZ-F44`, something differs that decides the weights.
    """
    facts = json.loads(json.dumps(facts))
    before = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in facts}
    if deciding := [
        c for name in facts for c in _differences(name, _bare(name, before[name]), _bare(name, facts[name]))
    ]:
        _refuse(folder, deciding, finished=True)
    record(folder, facts, accept_change=True)


def _bare(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a file of facts without what is said for the card only. By place: a set of tiles may be called "source", too."""
    if name != "experiment.json":
        return _without_said(value)
    weighs = {k: v for k, v in value.items() if k not in STATED}
    return weighs | {"unlabelled": _without_said(value.get("unlabelled") or {})}


def _without_said(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {k: v for k, v in facts.items() if k not in SAID} for name, facts in sets.items()}


def _part(before: Any, now: Any) -> Any:
    if isinstance(before, dict) and isinstance(now, dict):
        return {k: _part(before.get(k), v) for k, v in now.items()}
    return before


def _refuse(folder: Path, changes: Sequence[str], *, finished: bool = False) -> NoReturn:
    accept = "use another run folder, or pass --accept-change (it is recorded)"
    anew = "train it under another name or in another --runs folder"
    raise IntegrityError(
        "HZ-F44",
        "this run is finished, and was trained differently"
        if finished
        else "this run was started differently",
        where=folder,
        got="; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else ""),
        kept="the run folder is untouched",
        next_step=f"restore what changed, {'or ' + anew if finished else accept}",
    )


def environment() -> dict[str, Any]:
    """Returns what besides experiment and data decides the weights: versions, device, processes, and a hash of the training code."""
    import timm
    import transformers

    code = Path(__file__).parent
    trained_by = [
        code / f"{name}.py"
        for name in (
            "pretrain",
            "training_data",
            "unlabelled_data",
            "assemble",
            "engine",
            "guard",
            "hooks",
            "sharding",
            "experiment",
            "experiment_values",
            "ranges",
        )
    ]
    trained_by += sorted([*(code / "recipes").glob("*.py"), *(code / "data").glob("*.py")])
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "processor": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "code": hashlib.sha256(b"".join(p.read_bytes() for p in trained_by)).hexdigest(),
    }


def _differences(name: str, before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [d for k in keys for d in _differences(name, before.get(k), now.get(k), f"{path}.{k}")]
    short = [f"{v!r}"[:60] for v in (before, now)]
    return [] if before == now else [f"{name}{path}: {short[0]} -> {short[1]}"]


def finish(folder: Path, recipe: Recipe, optimizer: torch.optim.Optimizer | None) -> None:
    """Writes `final/` in one step: the recipe's weights, the optimizer's state by parameter name, and what they hash to.

    Every process must call it; the first one writes.

    Raises:
        IntegrityError: `HZ-A06`, a weight is not finite.
    """
    state = sharding.for_file(recipe.state_dict())
    moments = sharding.for_file(_optimizer_state(recipe, optimizer))
    if not is_first_process():
        return
    weights = contiguous(state)
    artifact.check_finite(weights, where=folder)
    with durable.staged_folder(folder / "final") as staged:
        artifact.save_canonical(weights, staged / "model.safetensors", {"format": "pt"})
        artifact.save_canonical(contiguous(moments), staged / "optimizer.safetensors", {"format": "pt"})
        durable.write_json(staged / "DONE.json", checkpoints.manifest(staged))


def _optimizer_state(recipe: Recipe, optimizer: torch.optim.Optimizer | None) -> dict[str, torch.Tensor]:
    names = {id(p): name for name, p in recipe.named_parameters()}
    state = getattr(optimizer, "optimizer", optimizer).state if optimizer else {}
    flat = {f"{names[id(p)]}.{key}": value for p, values in state.items() for key, value in values.items()}
    return {k: torch.as_tensor(v) for k, v in flat.items() if v is not None}


def contiguous(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns a state dict in the plain memory order that safetensors stores."""
    return {k: v.detach().cpu().contiguous() for k, v in state.items()}
