"""A finished run without training: random weights in the files that `histozoo pretrain` leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from histozoo import checkpoints, durable, experiment

EXPERIMENT: dict[str, Any] = {
    "preset": "modern",
    "tasks": ["glands", "blood"],
    "tile_px": 48,
    "train_px": 48,
    "mean": [0.7, 0.5, 0.65],
    "std": [0.2, 0.25, 0.2],
    "corpus": "Two drawn tasks.",
    "intended_use": "Features of H&E tiles for research.",
    "limits": "Trained on two drawn tasks; not a medical device.",
}
TASK: dict[str, Any] = {
    "kind": "multiclass",
    "organ": "colon",
    "stain": "H&E",
    "mpp": 0.5,
    "licence": "CC0-1.0",
    "source": "https://example.org/glands",
    "citation": "A. Author, Glands, 2020.",
    "lineage": "glands",
    "classes": ["benign", "malignant"],
    "n": 120,
    "n_groups": 16,
    "n_train": 84,
    "fingerprint": "ab" * 32,
    "split": {"seed": 0},
}
RESULT: dict[str, Any] = {
    "task": "glands",
    "protocol": "probe",
    "metric": "balanced_accuracy",
    "value": 0.875,
    "interval": [0.81, 0.93],
    "n": 36,
    "n_groups": 5,
    "seed": 0,
    "subject": "trained",
    "left_out": False,
    "fingerprint": "ab" * 32,
    "version": "0.1.0",
}


def make_run(
    folder: Path,
    arch: str = "test_resnet",
    *,
    corpus: str = "drawn2",
    seed: int = 0,
    weights: Mapping[str, Tensor] | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Mapping[str, Mapping[str, Any]] | None = None,
    results: list[dict[str, Any]] | None = None,
) -> Path:
    """Writes `folder/<name>` as a finished run and returns it.

    Args:
        folder: Where run folders lie.
        arch: Any timm architecture; it is built with random weights.
        corpus: Last part of the name `<arch>.multitask_<corpus>`.
        seed: Seed of the weights.
        weights: Tensors that replace or join those of the recipe, by key.
        settings: Experiment fields that replace those of `EXPERIMENT`.
        data: Task name -> fields that replace those of `TASK`; two tasks where it is left out.
        results: Measured values; one where it is left out, no file for an empty list.
    """
    raw = {**EXPERIMENT, "name": f"{arch}.multitask_{corpus}", **(settings or {})}
    resolved = experiment.resolve(raw).settings()
    tasks = data or {
        "glands": {},
        "blood": {"organ": "blood", "stain": "Giemsa", "licence": "CC BY 4.0", "lineage": "blood"},
    }
    run = folder / str(raw["name"])
    durable.write_json(run / "experiment.json", {**resolved, "leave_out": []})
    durable.write_json(run / "data.json", {name: {**TASK, **fields} for name, fields in tasks.items()})
    durable.write_json(
        run / "environment.json", {"python": "3.11", "torch": "2.15", "timm": "1.0", "device": "cpu"}
    )
    if results != []:
        durable.write_json(run / "results.json", results or [RESULT])
    write_final(run, {**recipe_tensors(arch, list(tasks), seed=seed), **(weights or {})})
    return run


def recipe_tensors(arch: str, tasks: list[str], *, seed: int) -> dict[str, Tensor]:
    """Returns `backbone.*` and `heads.*` of an untrained recipe, batch-norm statistics included and not at their start."""
    import timm

    torch.manual_seed(seed)
    model = timm.create_model(arch, num_classes=0)
    state = {
        k: torch.rand_like(v) + 0.5 if k.endswith("running_var") else v for k, v in model.state_dict().items()
    }
    heads = {f"heads.{task}.weight": torch.randn(2, model.num_features) for task in tasks}
    heads |= {f"heads.{task}.bias": torch.randn(2) for task in tasks}
    return {**{f"backbone.{k}": v for k, v in state.items()}, **heads}


def write_final(run: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes `final/` as `pretrain.finish` does, over an earlier one."""
    final = run / "final"
    final.mkdir(parents=True, exist_ok=True)
    (final / "DONE.json").unlink(missing_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, final / "model.safetensors")
    moments = {f"{k}.exp_avg": torch.zeros_like(v) for k, v in tensors.items() if v.ndim > 1}
    save_file({**moments, "backbone.step": torch.tensor(3.0)}, final / "optimizer.safetensors")
    durable.write_json(final / "DONE.json", checkpoints.manifest(final))


def edit_json(path: Path, change: Any) -> None:
    """Reads a JSON file, calls `change(value)` on it, writes it back."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    durable.write_json(path, value)
