"""Small valid bundles without a training run: random weights of timm's test architectures, written as publishing writes them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

TILE_PX = 96
MEAN, STD = [0.70, 0.53, 0.69], [0.17, 0.21, 0.16]


def entry_json(
    name: str, *, feature_dim: int = 64, pooling: str = "avg", pretrained: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A valid entry without files: hashes are zeros. `pretrained` overrides fields that timm knows of the architecture."""
    architecture, tag = name.split(".")
    cfg = {
        "tag": tag,
        "custom_load": False,
        "input_size": [3, TILE_PX, TILE_PX],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": MEAN,
        "std": STD,
        "num_classes": 0,
        "pool_size": [3, 3],
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
        "description": "Random weights for tests.",
        "notes": ["random weights"],
    }
    contract = {
        "tile_px": TILE_PX,
        "mpp": [0.5],
        "mpp_reason": None,
        "resize": "shorter_side",
        "kernel": "bicubic",
        "antialias": True,
        "crop": "center",
        "value_range": [0.0, 1.0],
        "mean": MEAN,
        "std": STD,
        "colour_order": "RGB",
        "pooling": pooling,
        "prefix_tokens": 0,
        "feature_dim": feature_dim,
    }
    weights = {"file": "model.safetensors", "sha256": "0" * 64, "bytes": 1, "dtype": "float32"}
    task = {"task": "drawn", "organ": "none", "stain": "none", "n": 8, "n_groups": 4, "licence": "CC0-1.0"}
    return {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": feature_dim,
        "global_pool": pooling,
        "model_args": {"in_chans": 3, "global_pool": pooling},
        "pretrained_cfg": {**cfg, **(pretrained or {})},
        "histozoo": {
            "schema": 1,
            "name": name,
            "weights": {**weights, "repo": f"histozoo/{name}", "revision": None, "embedded": None},
            "golden": {"file": "golden.safetensors", "sha256": "0" * 64, "bytes": 1},
            "contract": contract,
            "recipe": tag.split("_")[0],
            "experiment": {"seed": 0},
            "corpus": [{**task, "source": "drawn by the tests", "citation": "none", "lineage": "drawn"}],
            "licence": {"id": "apache-2.0", "reason": "the drawn tiles are CC0"},
            "parents": [],
            "results": [],
            "intended_use": "Tests.",
            "limits": "Random weights.",
            "notes": "",
            "withdrawn": None,
        },
    }


def random_model(architecture: str, *, seed: int = 0) -> Any:
    """A timm model in eval mode whose every parameter is random, so that no two channels give the same feature."""
    import timm
    import torch

    torch.manual_seed(seed)
    model = timm.create_model(architecture, num_classes=0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p + 0.05 * torch.randn_like(p)).half().float())
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_((0.05 * torch.randn_like(buffer)).half().float())
    return model.eval()


def make_bundle(
    folder: str | Path,
    name: str = "test_resnet.multitask_tiny",
    arch: str | None = None,
    seed: int = 0,
    embedded: bool = False,
) -> Path:
    """Writes `folder/<name>/` with weights, golden tensors, config.json and a card; returns that folder.

    With `arch` given, `name` is its tag alone. With `embedded`, `folder/<name>.safetensors` is written too, in fp16, so that
    `folder` can serve as a zoo as soon as config.json is copied to `folder/<name>.json` (`as_zoo` does).
    """
    import timm
    import torch

    from histozoo import artifact, durable

    name = f"{arch}.{name}" if arch else name
    model = random_model(name.split(".")[0], seed=seed)
    known = model.pretrained_cfg
    raw = entry_json(
        name,
        feature_dim=getattr(model, "head_hidden_size", model.num_features),
        pooling=model.global_pool
        if isinstance(getattr(model, "global_pool", None), str)
        else _pooling(model),
        pretrained={
            k: _plain(known[k]) for k in ("pool_size", "first_conv", "classifier", "fixed_input_size")
        },
    )
    if known["fixed_input_size"]:
        _set_tile_px(raw, known["input_size"][-1])
    raw["histozoo"]["contract"]["prefix_tokens"] = getattr(model, "num_prefix_tokens", 0)
    bundle, ours = Path(folder) / name, raw["histozoo"]
    bundle.mkdir(parents=True)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    told = artifact.weights_metadata(raw)
    ours["weights"] |= _saved(state, bundle / "model.safetensors", told)
    if embedded:
        half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        path = Path(folder) / f"{name}.safetensors"
        ours["weights"]["embedded"] = {"file": path.name, **_saved(half, path, told), "dtype": "float16"}
    px = ours["contract"]["tile_px"]
    tiles_BHWC = torch.randint(
        0, 256, (2, px, px, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    pixels_BCHW = _pixels(timm.data, raw, tiles_BHWC)
    with torch.no_grad():
        golden = {"tiles_BHWC": tiles_BHWC, "pixels_BCHW": pixels_BCHW, "features_BD": model(pixels_BCHW)}
    ours["golden"] |= _saved(golden, bundle / "golden.safetensors", {})
    durable.write_json(bundle / "config.json", raw)
    durable.write_text(bundle / "README.md", f"---\nlibrary_name: timm\nlicense: apache-2.0\n---\n# {name}\n")
    return bundle


def as_zoo(bundle: Path, folder: Path, *, revision: str | None = None) -> Path:
    """Copies a bundle's config.json to `folder/<name>.json`, as publishing does, with the revision that pushing gave it."""
    import json

    from histozoo import durable

    raw = json.loads((bundle / "config.json").read_text())
    raw["histozoo"]["weights"]["revision"] = revision
    durable.write_json(folder / f"{raw['histozoo']['name']}.json", raw)
    return folder / f"{raw['histozoo']['name']}.json"


def tiny_zoo(folder: str | Path) -> list[str]:
    """Makes three models in `folder`, the first with embedded weights, and adds the folder to the zoo; returns their names.

    The bundles lie in `folder/dist/<name>/`, which `$HISTOZOO_WEIGHTS_DIR` names. Both variables stay set: call it from a fixture
    that restores them.
    """
    folder = Path(folder)
    names = [f"{arch}.multitask_tiny" for arch in ("test_resnet", "test_vit", "test_convnext")]
    for seed, name in enumerate(names):
        bundle = make_bundle(folder / "dist", name, seed=seed, embedded=seed == 0)
        as_zoo(bundle, folder)
    (folder / "dist" / f"{names[0]}.safetensors").rename(folder / f"{names[0]}.safetensors")
    os.environ["HISTOZOO_ZOO"], os.environ["HISTOZOO_WEIGHTS_DIR"] = str(folder), str(folder / "dist")
    return names


def edit(path: Path, change: Any) -> None:
    """Applies `change(raw)` to an entry on disk."""
    import json

    from histozoo import durable

    raw = json.loads(path.read_text())
    change(raw)
    durable.write_json(path, raw)


def _saved(tensors: dict[str, Any], path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    from histozoo import artifact

    return {"sha256": artifact.save_canonical(tensors, path, metadata), "bytes": path.stat().st_size}


def _pooling(model: Any) -> str:
    if isinstance(getattr(model, "global_pool", None), str):
        return str(model.global_pool)
    pool = getattr(getattr(model, "head", model), "global_pool", None) or getattr(model, "global_pool", None)
    return str(getattr(pool, "pool_type", None) or model.default_cfg.get("global_pool") or "avg")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _set_tile_px(raw: dict[str, Any], px: int) -> None:
    raw["histozoo"]["contract"]["tile_px"] = px
    raw["pretrained_cfg"]["input_size"] = [3, px, px]


def _pixels(data: Any, raw: dict[str, Any], tiles_BHWC: Any) -> Any:
    import torch
    from PIL import Image

    config = data.resolve_data_config(pretrained_cfg=raw["pretrained_cfg"])
    transform = data.create_transform(**config, is_training=False)
    return torch.stack([transform(Image.fromarray(tile.numpy())) for tile in tiles_BHWC])


def sha256(data: bytes) -> str:
    """The sha256 of bytes in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
