"""The code that a card shows: one block per door, each running as it stands where its door's libraries are installed.

Values come from an entry that the registry accepted, so none of them can end a string or a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

DOORS = {
    "histozoo": """
import histozoo
from PIL import Image

model = histozoo.load("$name")
transform = histozoo.preprocess("$name")
tile = Image.new("RGB", ($tile_px, $tile_px), "white")  # your tile
features_BD = model(transform(tile)[None])
""",
    "torch.hub": """
import torch

model = torch.hub.load("histozoo/histozoo", "$callable", trust_repo=True)
""",
    "timm, with histozoo installed": """
import histozoo
import timm

model = timm.create_model("$name", pretrained=True).eval()
""",
    "timm, from the Hub": """
import timm
from PIL import Image

model = timm.create_model("hf-hub:$repo$at", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
tile = Image.new("RGB", ($tile_px, $tile_px), "white")  # your tile
features_BD = model(transform(tile)[None])
""",
    "timm, from a folder": """
import timm
from huggingface_hub import snapshot_download

folder = snapshot_download("$repo"$pinned)
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
""",
    "transformers": """
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained("$repo"$pinned).eval()
processor = AutoImageProcessor.from_pretrained("$repo"$pinned)
tile = Image.new("RGB", ($tile_px, $tile_px), "white")  # your tile
features_BD = model(**processor(tile, return_tensors="pt")).pooler_output
""",
}
_VERIFY = "histozoo verify $name"
_NEW_HEAD = """
import histozoo

model = histozoo.load("$name", num_classes=3).train()  # a new head for three classes
"""
_HEADS = """
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

heads = load_file(hf_hub_download("$repo", "heads.safetensors"$pinned))
optimizer = load_file(hf_hub_download("$repo", "optimizer.safetensors"$pinned))
"""


def opening(ours: Mapping[str, Any]) -> str:
    """Returns the body of the section on opening a model: one block per door.

    Args:
        ours: The `"histozoo"` object of an entry.
    """
    note = (
        "The first three check the weights' sha256 before they use them; the others trust what they download."
    )
    if not ours["weights"]["revision"]:
        note += " Pin those to a commit: `@<40 digits>` in timm, `revision=` elsewhere."
    blocks = (f"{title}:\n\n{_block('python', code, ours)}" for title, code in DOORS.items())
    return "\n\n".join([note, *blocks])


def verifying(ours: Mapping[str, Any]) -> str:
    """Returns the body of the section on checking a model on the reader's machine."""
    weights = ours["weights"]
    parts = (
        "Recomputes the features of the golden tiles and says pass, or by how much this machine differs:",
        _block("bash", _VERIFY, ours),
        f"sha256 of `{weights['file']}`: `{weights['sha256']}`",
    )
    return "\n\n".join(parts)


def training(ours: Mapping[str, Any]) -> str:
    """Returns the body of the section on training further."""
    head = ("With a new head:", _block("python", _NEW_HEAD, ours))
    if ours["experiment"].get("name", ours["name"]) != ours["name"]:  # a part of what the experiment trains
        return "\n\n".join(head)
    parts = (
        *head,
        f'In an experiment of your own, as the start of another corpus: `init = "{ours["name"]}"`. '
        "The heads and the optimizer's state lie beside the weights:",
        _block("python", _HEADS, ours),
    )
    return "\n\n".join(parts)


def _block(language: str, code: str, ours: Mapping[str, Any]) -> str:
    weights = ours["weights"]
    revision = weights["revision"]
    text = Template(code.strip()).substitute(
        name=ours["name"],
        callable=ours["name"].replace(".", "_"),
        repo=weights["repo"],
        tile_px=ours["contract"]["tile_px"],
        at=f"@{revision}" if revision else "",
        pinned=f', revision="{revision}"' if revision else "",
    )
    return f"```{language}\n{text}\n```"
