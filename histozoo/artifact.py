"""Weights files: keys, shapes, values and contract, each checked before a model is touched; and the one canonical writer.

Size, sha256 and header are checked in integrity.py and header.py, and re-exported here. Torch is imported only where tensors are
handled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histozoo import durable, strict_json
from histozoo.errors import IntegrityError
from histozoo.header import Header, TensorInfo, read_header
from histozoo.integrity import cache_folder, passed, sha256_file, stamp, verify

if TYPE_CHECKING:
    import torch

__all__ = [
    "Header",
    "TensorInfo",
    "cache_folder",
    "check_contract",
    "check_finite",
    "check_tensors",
    "passed",
]
__all__ += ["read_header", "save_canonical", "sha256_file", "stamp", "verify", "weights_metadata"]

ALIGNMENT = 64  # bytes; what torch gives to memory of its own on a CPU
_FREE_TEXT = ("license", "description", "notes")  # fields of pretrained_cfg that change no feature
_FORMAT_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
}
_FORMAT_NAMES |= {"int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}


def check_tensors(
    path: str | Path, header: Header, expected: Mapping[str, torch.Tensor], *, dtype: str
) -> None:
    """Checks that a file holds exactly the tensors of a model.

    Args:
        path: The file, for the message.
        header: Its header.
        expected: The model's state dict; tensors on the meta device will do.
        dtype: How floating-point tensors are stored: `float32` or `float16`. Counters keep the model's own type.

    Raises:
        IntegrityError: `HZ-A05`, keys missing or too many; `HZ-A03`, another shape or dtype. First five each, and counts.
    """
    missing = [key for key in expected if key not in header.tensors]
    extra = [key for key in header.tensors if key not in expected]
    if missing or extra:
        raise IntegrityError(
            "HZ-A05",
            "the weights are not those of the architecture: keys differ",
            where=path,
            expected=f"exactly {len(expected)} keys; missing {_first(missing)}",
            got=f"{len(header.tensors)} keys; not known {_first(extra)}{_prefix_hint(missing, extra)}",
            kept="nothing was loaded",
            next_step="publish from the run again; only keys below `backbone.` are the model",
        )
    stored = {"float32": "F32", "float16": "F16"}[dtype]
    wanted = {
        k: f"{k} {stored if t.is_floating_point() else _format_name(t)}{list(t.shape)}"
        for k, t in expected.items()
    }
    got = {k: f"{k} {info.dtype}{list(info.shape)}" for k, info in header.tensors.items()}
    if wanted != got:
        wrong = [k for k in wanted if wanted[k] != got[k]]
        raise IntegrityError(
            "HZ-A03",
            "the weights are not those of the architecture: shapes or dtypes differ",
            where=path,
            expected=_first([wanted[k] for k in wrong]),
            got=_first([got[k] for k in wrong]),
            kept="nothing was loaded",
            next_step="check that the entry names the architecture that was trained",
        )


def check_finite(tensors: Mapping[str, torch.Tensor], *, where: object = "") -> None:
    """Checks that every value is finite and no weight matrix is constant or made of integers.

    A matrix has at least two dimensions longer than 1; biases, gains, LayerScale and counters are therefore exempt from the last two.

    Raises:
        IntegrityError: `HZ-A06` with the tensor and the count of bad values.
    """
    for name, tensor in tensors.items():
        matrix = sum(n > 1 for n in tensor.shape) >= 2
        if not tensor.is_floating_point():
            problem = f"integers ({tensor.dtype})" if matrix else ""
        elif tensor.numel() == 0:
            problem = "no values at all"
        else:
            problem = _value_problem(tensor, matrix=matrix)
        if problem:
            raise IntegrityError(
                "HZ-A06",
                f"tensor {name!r} cannot be a trained weight",
                where=where,
                expected="finite floating-point values, not all equal in a matrix",
                got=f"{problem}, shape {list(tensor.shape)}",
                kept="nothing was loaded or published",
                next_step="publish an earlier checkpoint of the run, from before the values went wrong",
            )


def _value_problem(tensor: torch.Tensor, *, matrix: bool) -> str:
    # A NaN anywhere makes both NaN; unlike isfinite() it needs no temporary copy.
    low, high = (float(v) for v in tensor.detach().aminmax())
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        values = tensor.detach().flatten()
        return f"{int(values.isnan().sum()):,} NaN and {int(values.isinf().sum()):,} Inf of {values.numel():,} values"
    return f"all {tensor.numel():,} values equal {low:g}" if matrix and low == high else ""


def weights_metadata(raw: Mapping[str, Any]) -> dict[str, str]:
    """Returns the metadata that the weights of an entry carry: what turns pixels into features, inside the hashed file.

    So weights can never be used with another release's preprocessing, even where no sha256 is at hand.
    """
    cfg = {key: value for key, value in raw["pretrained_cfg"].items() if key not in _FREE_TEXT}
    told = {
        "name": raw["histozoo"]["name"],
        "architecture": raw["architecture"],
        "model_args": raw["model_args"],
    }
    told |= {"pretrained_cfg": cfg, "contract": raw["histozoo"]["contract"]}
    return {
        "format": "pt",
        "histozoo": json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False),
    }


def check_contract(path: str | Path, header: Header, raw: Mapping[str, Any]) -> None:
    """Checks that weights carry the name, architecture and preprocessing that their entry states.

    Raises:
        IntegrityError: `HZ-A08` with the first field that differs.
    """
    wanted, found = weights_metadata(raw)["histozoo"], header.metadata.get("histozoo", "null")
    if found == wanted:  # as text: to Python, 1 and true are equal
        return
    try:
        field, want, got = _difference(json.loads(wanted), strict_json.loads(found.encode()))
    except ValueError:
        field, want, got = "", wanted, found
    raise IntegrityError(
        "HZ-A08",
        f"the weights were published with another pipeline than the entry states: {field or 'nothing is stated in them'}",
        where=path,
        expected=f"{want!r}, as the entry says"[:300],
        got=f"{got!r} in the weights' own metadata"[:300],
        kept="nothing was loaded",
        next_step="take entry and weights from the same release, or publish again",
    )


def _difference(wanted: object, found: object, field: str = "") -> tuple[str, object, object]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in [*wanted, *found]:
            if json.dumps(wanted.get(key)) != json.dumps(found.get(key)):
                return _difference(wanted.get(key), found.get(key), f"{field}.{key}".lstrip("."))
    return field, wanted, found


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{len(keys)}: {', '.join(keys[:5])}{more}" if keys else "none"


def _prefix_hint(missing: list[str], extra: list[str]) -> str:
    wanted = set(missing)
    for key in extra:
        parts = key.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in wanted:
                return f"; looks like prefix `{'.'.join(parts[:i])}.`"
    return ""


def _format_name(tensor: torch.Tensor) -> str:
    return _FORMAT_NAMES[str(tensor.dtype).removeprefix("torch.")]


def save_canonical(
    tensors: Mapping[str, torch.Tensor], path: str | Path, metadata: Mapping[str, str] | None = None
) -> str:
    """Writes tensors as safetensors, durably, and returns the file's sha256. Equal content gives equal bytes, always.

    The reference writer puts several metadata keys in random order; here they are sorted. Tensors whose size is a multiple of 64
    bytes come first, so that they can be used where they lie in the mapped file: kernels give other last bits for memory that is not
    aligned as torch's own. Then wider types before narrower ones, then by name.

    Raises:
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    import torch

    def place(key: str) -> tuple[bool, int, str]:
        t = tensors[key]
        return t.numel() * t.element_size() % ALIGNMENT != 0, -t.element_size(), key

    order = sorted(tensors, key=place)
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for key in order:
        t = tensors[key]
        end = position + t.numel() * t.element_size()
        header[key] = {"dtype": _format_name(t), "shape": list(t.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    data = bytearray(struct.pack("<Q", len(text)) + text)
    for key in order:
        data += tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    durable.write_bytes(path, memoryview(data))
    return hashlib.sha256(data).hexdigest()
