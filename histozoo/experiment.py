"""An experiment: one TOML file that says what is trained on what; a frozen object once read."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histozoo.errors import UsageError
from histozoo.registry import check_name


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides the weights, apart from the data itself.

    A field the TOML leaves out takes the value of the recipe's `preset`.

    Args:
        name: `<architecture>.<recipe>_<corpus>[_vN]`, the name of the model-to-be.
        architecture: Exact timm name, from `name`.
        recipe: File stem in histozoo/recipes, from `name`.
        preset: Which of the recipe's presets fills the gaps.
        init: `random`, `timm:<model>` (timm's pretrained weights) or the name of a zoo entry.
        tasks: Names of the tasks trained on.
        seed: Seed of initialisation, sampling and augmentation.
        split_seed: Seed of the train/validation/test split.
        turned: Copies of a tile that were turned by any angle or enlarged stay on one side of the split, too; plain copies always do.
        tile_px: Side of the tile that the published model expects, in pixels.
        pack_px: Side to which training tiles are decoded once, in pixels; views are cropped from them.
        train_px: Side of the augmented view, in pixels.
        mean, std: Channel statistics for values scaled to [0, 1].
        alpha: A task is drawn with probability ~ (number of tiles)^alpha.
        steps, batch_size: Optimizer steps and tiles per step and process.
        accumulate: Batches per optimizer step.
        precision: `bf16` (autocast) or `fp32`.
        eval_every, save_every: In optimizer steps.
        corpus: One sentence on the corpus, for the card.
        intended_use, limits: For the card.
    """

    name: str
    architecture: str
    recipe: str
    preset: str
    init: str
    tasks: tuple[str, ...]
    seed: int
    split_seed: int
    turned: bool
    tile_px: int
    pack_px: int
    train_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    alpha: float
    steps: int
    batch_size: int
    accumulate: int
    precision: str
    eval_every: int
    save_every: int
    loss: str
    optimizer: str
    lr: float
    head_lr_factor: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup_steps: int
    head_warmup_steps: int
    head_warmup_lr: float
    transplant_batches: int
    max_grad_norm: float
    flip: bool
    rot90: bool
    area: tuple[float, float]
    aspect: float
    colour: float
    stain: float
    corpus: str
    intended_use: str
    limits: str

    def settings(self) -> dict[str, Any]:
        """Returns the fields as JSON types, in the order of the class."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


_DEFAULTS: dict[str, Any] = {
    "preset": "modern", "init": "random", "seed": 0, "split_seed": 0, "turned": True, "alpha": 0.0, "accumulate": 1, "precision": "bf16",
    "eval_every": 500, "save_every": 500, "corpus": "", "intended_use": "", "limits": "",
}  # fmt: skip
_CHOICES = {
    "precision": ("bf16", "fp32"),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine"),
    "loss": ("batch_mean", "task_mean"),
}


def read(path: str | Path, **overrides: Any) -> Experiment:
    """Reads an experiment; `overrides` win over the file.

    Raises:
        UsageError: `HZ-U41` no such file or no TOML, `HZ-U42` unknown key, `HZ-U43` a value of the wrong type or range.
    """
    return resolve(glance(path, **overrides), where=path)


def glance(path: str | Path, **overrides: Any) -> dict[str, Any]:
    """Returns what file and overrides say, keys checked, values not: what can be told without importing the recipes.

    Raises:
        UsageError: `HZ-U41` no such file or no TOML, `HZ-U42` unknown key.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            "HZ-U41",
            f"cannot read the experiment: {error}",
            where=path,
            next_step="see experiments/ for examples",
        ) from error
    raw = {**raw, **overrides}
    _check_keys(raw, path)
    return raw


def _check_keys(raw: dict[str, Any], where: object) -> None:
    fields = [f.name for f in dataclasses.fields(Experiment)]
    for key in raw:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.65)
            raise UsageError(
                "HZ-U42",
                f"unknown experiment key {key!r}",
                where=where,
                expected=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(fields))}",
                got=key,
                next_step="correct or remove the key",
            )


def resolve(raw: dict[str, Any], *, where: object = "") -> Experiment:
    """Fills `raw` from the preset and checks every key and type.

    Raises:
        UsageError: `HZ-U42` unknown key, with the nearest known one; `HZ-U43` a value of the wrong type or range.
    """
    _check_keys(raw, where)
    fields = {f.name: f.type for f in dataclasses.fields(Experiment)}
    values = {**_DEFAULTS, **raw}
    architecture, _, tag = check_name(values.get("name")).partition(".")
    recipe = tag.partition("_")[0]
    values = {
        **_preset(recipe, values["preset"], where),
        "architecture": architecture,
        "recipe": recipe,
        **values,
    }
    checked = {key: _convert(key, str(kind), values.get(key), where) for key, kind in fields.items()}
    return Experiment(**checked)


def _preset(recipe: str, preset: object, where: object) -> dict[str, Any]:
    from histozoo.recipes import PRESETS  # here, since it imports torch

    if recipe not in PRESETS:
        raise UsageError(
            "HZ-U43", "unknown recipe", where=where, expected=f"one of {', '.join(PRESETS)}", got=recipe
        )
    if preset not in PRESETS[recipe]:
        known = ", ".join(PRESETS[recipe])
        raise UsageError(
            "HZ-U43", f"unknown preset of {recipe}", where=where, expected=f"one of {known}", got=preset
        )
    return PRESETS[recipe][str(preset)]


def _convert(key: str, kind: str, value: Any, where: object) -> Any:
    """Returns `value` as the field's type, refusing what is not exactly that (a float for an int, a string for a number)."""
    if kind.startswith("tuple"):
        item = "str" if "str" in kind else "float"
        count = kind.count(item) if "..." not in kind else None
        good = isinstance(value, list | tuple) and len(value) > 0 and count in (None, len(value))
        good = good and all(_is(item, v) for v in value)
        result: Any = tuple(float(v) if item == "float" else v for v in value) if good else None
    else:
        good = _is(kind, value) and value in _CHOICES.get(key, (value,)) and _in_range(key, value)
        result = float(value) if good and kind == "float" else value
    if not good:
        expected = " or ".join(_CHOICES.get(key, (kind,))) + (", at least 1" if key in _POSITIVE else "")
        raise UsageError(
            "HZ-U43",
            f"experiment key {key!r} has a wrong value",
            where=where,
            expected=expected,
            got=repr(value),
        )
    return result


_POSITIVE = (
    "steps",
    "batch_size",
    "accumulate",
    "tile_px",
    "pack_px",
    "train_px",
    "eval_every",
    "save_every",
)
_NOT_NEGATIVE = (
    "seed",
    "split_seed",
    "warmup_steps",
    "head_warmup_steps",
    "transplant_batches",
    "lr",
    "weight_decay",
)


def _in_range(key: str, value: Any) -> bool:
    return not (key in _POSITIVE and value < 1) and not (key in _NOT_NEGATIVE and value < 0)


def _is(kind: str, value: Any) -> bool:
    types: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    return isinstance(value, types[kind]) and (kind == "bool" or not isinstance(value, bool))
