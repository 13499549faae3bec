"""Reloads a bundle the way a stranger would: stock timm in a fresh process, histozoo not imported.

Run as a script with one argument, the bundle folder; writes one JSON object: by how much pixels and features differ from the
golden ones, and whether every bit is equal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def check(folder: Path) -> dict[str, Any]:
    """Returns `pixels` and `features` (largest absolute difference), `equal` (bit for bit) and `histozoo` (was it imported)."""
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    golden = load_file(folder / "golden.safetensors")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    data: Any = timm.data
    transform = data.create_transform(**data.resolve_model_data_config(model), is_training=False)
    pixels_BCHW = torch.stack([transform(Image.fromarray(tile.numpy())) for tile in golden["tiles_BHWC"]])
    with torch.inference_mode():
        # A copy, because memory mapped from a file can be aligned otherwise, which changes the last bits of some convolutions.
        f_BD = model(golden["pixels_BCHW"].clone())
    return {
        "pixels": _difference(pixels_BCHW, golden["pixels_BCHW"]),
        "features": _difference(f_BD, golden["features_BD"]),
        "equal": torch.equal(pixels_BCHW, golden["pixels_BCHW"]) and torch.equal(f_BD, golden["features_BD"]),
        "histozoo": any(name.split(".")[0] == "histozoo" for name in sys.modules),
    }


def _difference(got: Any, expected: Any) -> float | str:
    if got.shape != expected.shape:
        return f"shape {list(got.shape)} instead of {list(expected.shape)}"
    return float((got - expected).abs().max())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(check(Path(sys.argv[1]))) + "\n")
