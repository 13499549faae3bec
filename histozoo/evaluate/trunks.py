"""The trunks that are compared: what a run trained, and the same architecture with random weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histozoo.candidate import round_once, size_options, trained_on
from histozoo.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from torch import nn

_PREFIX = "backbone."


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run folder, as far as evaluation needs it.

    Args:
        folder: Where it lies.
        architecture: timm name of the trunk.
        tile_px: Side of the tile it expects, in pixels.
        mean, std: Channel statistics for values scaled to [0, 1].
        tasks: Task -> lineage of what it was trained on.
        named: Tasks that the experiment names, those left out among them.
        left_out: Lineages of the experiment it was not trained on.
        sha256: Of `final/model.safetensors`.
        data: `data.json`, per task trained on: counts, licence, fingerprint, split.
    """

    folder: Path
    architecture: str
    tile_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tasks: dict[str, str]
    named: tuple[str, ...]
    left_out: tuple[str, ...]
    sha256: str
    data: dict[str, Any]


def read_run(folder: str | Path) -> Run:
    """Reads a finished run.

    Raises:
        UsageError: `HZ-U52`, the folder holds no finished run.
    """
    folder = Path(folder)
    try:
        experiment, data, done = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("experiment.json", "data.json", "final/DONE.json")
        )
        data = trained_on(data)
        return Run(
            folder=folder,
            architecture=experiment["architecture"],
            tile_px=experiment["tile_px"],
            mean=tuple(experiment["mean"]),
            std=tuple(experiment["std"]),
            tasks={name: facts["lineage"] for name, facts in data.items()},
            named=tuple(experiment.get("tasks", ())),
            left_out=tuple(experiment["leave_out"]),
            sha256=done["model.safetensors"]["sha256"],
            data=data,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "HZ-U52",
            "this is no finished run",
            where=folder,
            expected="experiment.json, data.json and final/DONE.json",
            got=f"{type(error).__name__}: {error}",
            next_step="let `histozoo pretrain` finish; the same command continues it",
        ) from error


def trained_trunk(run: Run) -> nn.Module:
    """Returns the trunk of a run in eval mode, its file checked against the hash that the run recorded.

    The weights are rounded as `publish` rounds them, so that what is measured is what is published.

    Raises:
        IntegrityError: `HZ-A02` the file is not what the run wrote; `HZ-A05` its tensors are not those of the architecture.
    """
    import timm
    from safetensors.torch import load

    path = run.folder / "final" / "model.safetensors"
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != run.sha256:
        raise IntegrityError(
            "HZ-A02",
            "the run's weights do not match their recorded hash",
            where=path,
            expected=run.sha256,
            got=found,
            kept="nothing was evaluated",
            next_step="train the run again, or restore the file",
        )
    raw = {k.removeprefix(_PREFIX): v for k, v in load(content).items() if k.startswith(_PREFIX)}
    state, _ = round_once(raw)
    size = size_options(run.architecture, run.tile_px)
    model: nn.Module = timm.create_model(run.architecture, pretrained=False, num_classes=0, **size)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise IntegrityError(
            "HZ-A05",
            "the run's weights are not those of its architecture",
            where=path,
            expected=run.architecture,
            got=str(error),
            kept="nothing was evaluated",
        ) from error
    return model.eval()


def random_trunk(architecture: str, *, seed: int, tile_px: int | None = None) -> nn.Module:
    """Returns the architecture in eval mode with timm's own initialisation; the global random state is left as it was.

    Args:
        architecture: timm's name.
        seed: Of the initialisation.
        tile_px: What a transformer of fixed input size is built for; its own size where it is None.
    """
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = size_options(architecture, tile_px) if tile_px else {}
        model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **size)
    return model.eval()
