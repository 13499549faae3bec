"""A finished run, read and turned into what would be published: tensors and the entry that describes them. Nothing is written here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from histozoo import artifact
from histozoo.errors import IntegrityError, UsageError
from histozoo.licence import weights_licence

ZERO_HASH = "0" * 64
"""Stands for hashes of files that are not written yet."""
_CORPUS_KEYS = ("organ", "stain", "n", "n_groups", "licence", "source", "citation", "lineage")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run folder.

    Args:
        experiment: As resolved; decides architecture, tile size, mean and std.
        data: Per task: counts, licence, lineage, fingerprint.
        environment: Versions and device.
        results: Measured values, one dictionary per `Result`.
        backbone: float32 tensors by timm's own keys, as trained.
        heads: Every other tensor of the recipe, keys as in the run.
        optimizer: The optimizer's state by parameter name.
    """

    experiment: dict[str, Any]
    data: dict[str, dict[str, Any]]
    environment: dict[str, Any]
    results: list[dict[str, Any]]
    backbone: dict[str, Tensor]
    heads: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def read_run(folder: str | Path) -> Run:
    """Reads a run folder.

    Raises:
        UsageError: `HZ-U22`, the run is not finished, a file is missing or not JSON; `HZ-U23`, it left out lineages on purpose.
        IntegrityError: `HZ-A02`, a file of `final/` is not what the run wrote.
    """
    folder = Path(folder)
    experiment, data, environment, done = (
        _read_json(folder / name)
        for name in ("experiment.json", "data.json", "environment.json", "final/DONE.json")
    )
    if left_out := experiment.get("leave_out"):
        raise UsageError(
            "HZ-U23",
            "this run left out lineages to measure on them; it is a study, not a model",
            where=folder,
            got=f"left out: {', '.join(left_out)}",
            next_step="publish the run that was trained on the whole corpus",
        )
    for name in ("model.safetensors", "optimizer.safetensors"):
        _check_hash(folder / "final" / name, done.get(name, {}).get("sha256", "(none in DONE.json)"))
    weights = load_file(folder / "final" / "model.safetensors")
    return Run(
        experiment=experiment,
        data=trained_on(data),
        environment=environment,
        results=_read_json(folder / "results.json") if (folder / "results.json").exists() else [],
        backbone={k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")},
        heads={k: v for k, v in weights.items() if not k.startswith("backbone.")},
        optimizer=load_file(folder / "final" / "optimizer.safetensors"),
    )


def trained_on(data: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns what of a `data.json` was trained on: all but the tasks that were only watched."""
    return {name: facts for name, facts in data.items() if not facts.get("watched")}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "HZ-U22",
            "this is not a finished run",
            where=path,
            got=str(error),
            next_step="finish it with `histozoo pretrain`, which writes final/DONE.json last",
        ) from error


def _check_hash(path: Path, expected: str) -> None:
    got = artifact.sha256_file(path) if path.is_file() else "no such file"
    if got != expected:
        raise IntegrityError(
            "HZ-A02",
            "a file of the run is not what the run wrote",
            where=path,
            expected=f"sha256 {expected}",
            got=got,
            kept="nothing was published",
            next_step="restore the file, or remove final/ and run `histozoo pretrain` again: it continues from the last checkpoint",
        )


def round_once(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Returns the tensors as float32 with every value rounded to one that fp16 holds exactly, and an empty string.

    Where that would lose a tensor (a value above 65504, or all its values below 6e-8), returns them unrounded and the reason.
    """
    rounded: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            rounded[name] = tensor
            continue
        half = tensor.to(torch.float16)
        if bool((half.isinf() & tensor.isfinite()).any()):
            return dict(tensors), f"{name} has values outside the range of fp16"
        if bool(tensor.any()) and not bool(half.any()):
            return dict(tensors), f"all values of {name} are too small for fp16"
        rounded[name] = half.to(torch.float32)
    return rounded, ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What timm says about an architecture at the tile size of an experiment; `state` lies on the meta device."""

    features: int
    pooling: str
    prefix_tokens: int
    state: dict[str, Tensor]
    pretrained_cfg: dict[str, Any]
    model_args: dict[str, Any]


def size_options(architecture: str, tile_px: int) -> dict[str, Any]:
    """Returns the options that build a transformer of fixed input size for tiles of `tile_px` pixels; nothing for other architectures."""
    import timm

    cfg: Any = timm.get_pretrained_cfg(architecture)
    return {"img_size": tile_px} if cfg.fixed_input_size and cfg.input_size[-1] != tile_px else {}


def facts_of(architecture: str, *, tile_px: int) -> Facts:
    """Returns the facts of a stock timm architecture; builds it on the meta device, so it costs no memory."""
    import timm

    default: Any = timm.get_pretrained_cfg(architecture)
    fixed = bool(default.fixed_input_size)
    size = size_options(architecture, tile_px)
    with torch.device("meta"):
        model: Any = timm.create_model(architecture, num_classes=0, **size)
    pooling = _pooling(model)
    reduction = default.input_size[-1] / default.pool_size[-1] if default.pool_size else None
    pool_px = math.ceil(tile_px / reduction) if reduction else None
    return Facts(
        features=model.num_features,
        pooling=pooling,
        prefix_tokens=int(getattr(model, "num_prefix_tokens", 0)),
        state=model.state_dict(),
        pretrained_cfg={
            "input_size": [3, tile_px, tile_px],
            "fixed_input_size": fixed,
            "pool_size": [pool_px, pool_px] if pool_px else None,
            "first_conv": default.first_conv,
            "classifier": default.classifier,
        },
        model_args={"in_chans": 3, "global_pool": pooling, **size},
    )


def _pooling(model: Any) -> str:
    pool = getattr(model, "global_pool", None) or getattr(getattr(model, "head", None), "global_pool", None)
    return str(getattr(pool, "pool_type", pool) or "avg")


def draft(run: Run, facts: Facts, *, rounding: str, parents: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the entry as a dictionary, hashes and sizes still zero.

    Args:
        run: What was trained.
        facts: What timm says about its architecture.
        rounding: Why the weights were not rounded to fp16 values, or an empty string.
        parents: What the run was initialised from, each with `name`, `sha256` and `licence`.
    """
    e = run.experiment
    corpus = [{"task": task, **{k: d.get(k) for k in _CORPUS_KEYS}} for task, d in run.data.items()]
    sources = [*corpus, *({"task": p["name"], "licence": p["licence"]} for p in parents)]
    licence, reason = weights_licence(sources)
    mpp_reason = _mpp_reason(run.data, e["tile_px"])
    return {
        "architecture": e["architecture"],
        "num_classes": 0,
        "num_features": facts.features,
        "global_pool": facts.pooling,
        "model_args": facts.model_args,
        "pretrained_cfg": _pretrained_cfg(e, facts, licence, mpp_reason),
        "histozoo": {
            "schema": 1,
            "name": e["name"],
            "weights": _weights(e["name"]),
            "golden": _file("golden.safetensors"),
            "training_state": {part: _file(f"{part}.safetensors") for part in ("heads", "optimizer")},
            "contract": _contract(e, facts, mpp_reason),
            "recipe": e["recipe"],
            "experiment": e,
            "corpus": corpus,
            "licence": {"id": licence, "reason": reason},
            "parents": [{"name": p["name"], "sha256": p["sha256"]} for p in parents],
            "results": run.results,
            "intended_use": e["intended_use"],
            "limits": e["limits"],
            "notes": _notes(run, rounding),
            "withdrawn": None,
        },
    }


def _pretrained_cfg(e: Mapping[str, Any], facts: Facts, licence: str, mpp_reason: str) -> dict[str, Any]:
    """What stock timm reads. `crop_pct` is 1: any other value would enlarge every tile and cut its border off."""
    cfg, tag = facts.pretrained_cfg, e["name"].split(".", 1)[1]
    return {
        "tag": tag, "custom_load": False, "input_size": cfg["input_size"], "fixed_input_size": cfg["fixed_input_size"],
        "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center", "mean": e["mean"], "std": e["std"], "num_classes": 0,
        "pool_size": cfg["pool_size"], "first_conv": cfg["first_conv"], "classifier": cfg["classifier"], "license": licence,
        "description": e["corpus"] or f"{e['architecture']} trained with {e['recipe']}", "notes": [f"mpp: {mpp_reason}"],
    }  # fmt: skip


def _contract(e: Mapping[str, Any], facts: Facts, mpp_reason: str) -> dict[str, Any]:
    return {
        "tile_px": e["tile_px"], "mpp": None, "mpp_reason": mpp_reason, "resize": "shorter_side", "kernel": "bicubic",
        "antialias": True, "crop": "center", "value_range": [0.0, 1.0], "mean": e["mean"], "std": e["std"], "colour_order": "RGB",
        "pooling": facts.pooling, "prefix_tokens": facts.prefix_tokens, "feature_dim": facts.features,
    }  # fmt: skip


def _weights(name: str) -> dict[str, Any]:
    return {
        "file": "model.safetensors", "sha256": ZERO_HASH, "bytes": 1, "dtype": "float32", "repo": f"histozoo/{name}",
        "revision": None, "embedded": None,
    }  # fmt: skip


def _file(name: str) -> dict[str, Any]:
    return {"file": name, "sha256": ZERO_HASH, "bytes": 1}


def _mpp_reason(data: Mapping[str, Mapping[str, Any]], tile_px: int) -> str:
    """Says why no pixel size is promised: training resizes every tile, whatever its source's pixel size."""
    stated = ", ".join(f"{task} {d['mpp'] if d.get('mpp') else 'not stated'}" for task, d in data.items())
    return f"every tile was resized to {tile_px} px whatever its pixel size; pixel size of the sources in µm: {stated}"


def _notes(run: Run, rounding: str) -> str:
    environment = run.environment
    pairs = {task: n for task, d in run.data.items() if (n := d.get("split", {}).get("duplicates", 0))}
    told = ", ".join(f"{n:,} in {task}" for task, n in pairs.items()) or "none"
    copies = f" Pairs of equal or nearly equal tiles found and kept on one side of the split: {told}."
    if watched := run.experiment.get("watch"):
        copies += f" Watched while training, and never trained on: {', '.join(watched)}."
    made = ", ".join(f"{k} {environment[k]}" for k in ("torch", "timm", "device") if k in environment)
    if rounding:
        return f"Trained with {made}. Weights are float32 as trained, without an embedded copy: {rounding}.{copies}"
    return f"Trained with {made}. Every weight was rounded once to a value that fp16 holds exactly.{copies}"


def parents_of(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what a run starts from, as its run folder has it, or by `init`: name, sha256 where it is known, licence."""
    if "parents" in experiment:
        return list(experiment["parents"])
    init = str(experiment.get("init", "random"))
    if init == "random":
        return []
    if init.startswith("timm:"):
        import timm

        name = init.removeprefix("timm:")
        cfg: Any = timm.get_pretrained_cfg(name)
        return [{"name": init, "sha256": None, "licence": cfg.license or "unknown"}]
    from histozoo import registry

    parent = registry.resolve(init)
    return [{"name": parent.name, "sha256": parent.weights.sha256, "licence": parent.licence}]
