"""What a valid entry is: every key, its type and its range, in one table. Nothing has a default.

An entry is a published config.json. Stock timm and transformers read its first half and ignore `"histozoo"`; both halves state the
preprocessing, and this room refuses an entry whose halves disagree. Standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from histozoo.errors import IntegrityError
from histozoo.fields import (
    Invalid,
    any_number,
    any_text,
    boolean,
    list_of,
    mapping,
    matches,
    number,
    one_of,
    or_null,
    record,
    refuse,
    text,
    where,
    whole,
)

NAME_LIMIT = 96
_TAG = r"(?P<tag>(?P<recipe>[a-z0-9]+)_(?P<corpus>[a-z0-9]+)(_v[0-9]+)?)"
NAME = re.compile(r"(?P<architecture>[a-z0-9_]+)\." + _TAG)
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\..*")  # file names that Windows gives to devices
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")
REPOSITORY = re.compile(r"(?!.*--)[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
KERNELS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # timm's names of Pillow's filters
# timm's crop_mode -> how the tile is resized before it is cropped
RESIZES = {"center": "shorter_side", "squash": "squash", "border": "longest_side"}
SUBJECTS = ("trained", "random", "difference")
# Set by the caller or by the loader, so an entry that names one of them would be ignored or would break stock timm.
FORBIDDEN_ARGS = tuple(
    "num_classes pretrained pretrained_cfg pretrained_cfg_overlay pretrained_strict pretrained_filter_fn checkpoint_path "
    "cache_dir features_only out_indices scriptable exportable no_jit device dtype".split()
)


def is_name(value: object) -> bool:
    """Returns whether `value` follows the grammar of model names."""
    return (
        isinstance(value, str)
        and len(value) <= NAME_LIMIT
        and bool(NAME.fullmatch(value))
        and not DEVICE.fullmatch(value)
    )


def check_entry(raw: object, path: Path) -> None:
    """Checks that `raw` is a complete, consistent entry.

    Args:
        raw: The JSON of a published config.json.
        path: Where it came from, for the message only.

    Raises:
        IntegrityError: `HZ-A07` with the field, its value and what is allowed.
    """
    try:
        _ENTRY(raw, "")
        _check_agreement(raw)
    except Invalid as invalid:
        raise entry_error(path, invalid.field, invalid.value, invalid.allowed) from None


def entry_error(path: Path, field: str, value: object, allowed: str) -> IntegrityError:
    """Returns the one error for an entry that breaks the schema (`HZ-A07`)."""
    shown = repr(value)
    return IntegrityError(
        "HZ-A07",
        f"the entry's field {field!r} is not valid" if field else "the entry is not valid",
        where=path,
        expected=allowed,
        got=shown if len(shown) <= 200 else shown[:197] + "...",
        kept="nothing was loaded; no default is put in its place",
        next_step="publish the bundle again, or restore the file from its release",
    )


_positive, _count = whole(1), whole(0)
_sha256 = matches(SHA256, "64 hexadecimal digits, lower case")
_file = matches(FILE, "a file name ending in .safetensors, without folders")
_name = where(is_name, f"<architecture>.<recipe>_<corpus>[_vN], at most {NAME_LIMIT} characters")
_mean = list_of(number(lambda v: 0 <= v <= 1, "a finite number in [0, 1]"), 3)
_std = list_of(number(lambda v: 0 < v <= 1, "a finite number in (0, 1]"), 3)
_mpp = list_of(number(lambda v: 0 < v <= 100, "micrometres per pixel in (0, 100]"), least=1)
_module = where(
    lambda v: v is None or isinstance(v, str) or (isinstance(v, list) and all(isinstance(x, str) for x in v)),
    "null, a module name or a list of them",
)

_PRETRAINED_CFG = record(
    {
        "tag": text,
        "custom_load": one_of(False),
        "input_size": list_of(_positive, 3),
        "fixed_input_size": boolean,
        "interpolation": one_of(*KERNELS),
        "crop_pct": number(lambda v: 0 < v <= 1, "a number in (0, 1]"),
        "crop_mode": one_of(*RESIZES),
        "mean": _mean,
        "std": _std,
        "num_classes": one_of(0),
        "pool_size": or_null(list_of(_positive, 1, 2)),
        "first_conv": _module,
        "classifier": _module,
        "license": text,
        "description": any_text,
        "notes": list_of(text),
    },
    {"min_input_size": list_of(_positive, 3)},
)
_PUBLISHED = record({"file": _file, "sha256": _sha256, "bytes": _positive})
_EMBEDDED = record(
    {"file": _file, "sha256": _sha256, "bytes": _positive, "dtype": one_of("float16", "float32")}
)
_WEIGHTS = record(
    {
        "file": one_of("model.safetensors"),  # the one name that stock timm and transformers look for
        "sha256": _sha256,
        "bytes": _positive,
        "dtype": one_of("float32"),
        "repo": matches(REPOSITORY, "owner/name of a Hub repository", longest=96),
        "revision": or_null(matches(COMMIT, "null or a commit of 40 hexadecimal digits")),
        "embedded": or_null(_EMBEDDED),
    }
)
_CONTRACT = record(
    {
        "tile_px": _positive,
        "mpp": or_null(_mpp),
        "mpp_reason": or_null(text),
        "resize": one_of(*RESIZES.values()),
        "kernel": one_of(*KERNELS),
        "antialias": one_of(True),  # Pillow always does, so stock timm could not reproduce anything else
        "crop": one_of(*RESIZES),
        "value_range": where(lambda v: repr(v) == "[0.0, 1.0]", "[0.0, 1.0]"),
        "mean": _mean,
        "std": _std,
        "colour_order": one_of("RGB"),
        "pooling": text,
        "prefix_tokens": _count,
        "feature_dim": _positive,
    }
)
_CORPUS = dict.fromkeys(("task", "organ", "stain", "licence", "source", "citation", "lineage"), text)
_RESULT = {
    **dict.fromkeys(("task", "protocol", "metric", "fingerprint", "version"), text),
    "value": any_number,
    "interval": or_null(list_of(any_number, 2)),
    "n": _positive,
    "n_groups": or_null(_positive),
    "seed": or_null(_count),
    "subject": one_of(*SUBJECTS),
    "left_out": boolean,
}
_HISTOZOO = record(
    {
        "schema": one_of(1),
        "name": _name,
        "weights": _WEIGHTS,
        "golden": _PUBLISHED,
        "contract": _CONTRACT,
        "recipe": text,
        "experiment": mapping(),
        "corpus": list_of(record({**_CORPUS, "n": _positive, "n_groups": or_null(_positive)})),
        "licence": record({"id": text, "reason": text}),
        "parents": list_of(record({"name": text, "sha256": or_null(_sha256)})),
        "results": list_of(record(_RESULT)),
        "intended_use": text,
        "limits": text,
        "notes": any_text,
        "withdrawn": or_null(record({"reason": text, "replacement": or_null(_name)})),
    },
    {
        "training_state": record({"heads": _PUBLISHED, "optimizer": _PUBLISHED})
    },  # absent from entries of 0.1.0
)
_ENTRY = record(
    {
        "architecture": text,
        "num_classes": one_of(0),
        "num_features": _positive,
        "global_pool": text,
        "model_args": mapping(without=FORBIDDEN_ARGS),
        "pretrained_cfg": _PRETRAINED_CFG,
        "histozoo": _HISTOZOO,
    }
)


def _check_agreement(raw: Any) -> None:
    """Refuses an entry that says one thing in two ways."""
    ours = raw["histozoo"]
    for field, value, other, told in [*_names_told_twice(raw), *_pixels_told_twice(raw)]:
        if value != told:
            refuse(field, value, f"{told!r}, as {other} says")
    if ours["contract"]["mpp"] is None and ours["contract"]["mpp_reason"] is None:
        refuse("histozoo.contract.mpp_reason", None, "a reason, because histozoo.contract.mpp is null")


def _names_told_twice(raw: Any) -> list[tuple[str, object, str, object]]:
    cfg, ours, args = raw["pretrained_cfg"], raw["histozoo"], raw["model_args"]
    parts = NAME.fullmatch(ours["name"])
    contract = ours["contract"]
    return [
        ("architecture", raw["architecture"], "histozoo.name", parts and parts["architecture"]),
        ("pretrained_cfg.tag", cfg["tag"], "histozoo.name", parts and parts["tag"]),
        ("histozoo.recipe", ours["recipe"], "histozoo.name", parts and parts["recipe"]),
        ("pretrained_cfg.license", cfg["license"], "histozoo.licence.id", ours["licence"]["id"]),
        ("num_features", raw["num_features"], "histozoo.contract.feature_dim", contract["feature_dim"]),
        ("global_pool", raw["global_pool"], "histozoo.contract.pooling", contract["pooling"]),
        (
            "model_args.global_pool",
            args.get("global_pool", contract["pooling"]),
            "global_pool",
            contract["pooling"],
        ),
        ("model_args.in_chans", args.get("in_chans", 3), "histozoo.contract.colour_order", 3),
    ]


def _pixels_told_twice(raw: Any) -> list[tuple[str, object, str, object]]:
    cfg, contract = raw["pretrained_cfg"], raw["histozoo"]["contract"]
    size = [3, contract["tile_px"], contract["tile_px"]]
    return [
        ("pretrained_cfg.input_size", cfg["input_size"], "histozoo.contract.tile_px", size),
        (
            "pretrained_cfg.interpolation",
            cfg["interpolation"],
            "histozoo.contract.kernel",
            contract["kernel"],
        ),
        ("pretrained_cfg.crop_mode", cfg["crop_mode"], "histozoo.contract.crop", contract["crop"]),
        ("histozoo.contract.resize", contract["resize"], "histozoo.contract.crop", RESIZES[contract["crop"]]),
        ("pretrained_cfg.mean", cfg["mean"], "histozoo.contract.mean", contract["mean"]),
        ("pretrained_cfg.std", cfg["std"], "histozoo.contract.std", contract["std"]),
    ]
