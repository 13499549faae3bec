"""An experiment: one TOML file that says what is trained on what; a frozen object once read."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histozoo.errors import UsageError
from histozoo.experiment_values import check_keys, convert, fill, read_toml, table, wrong
from histozoo.ranges import PART, POSITIVE
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
        init: `random`, `timm:<model>` (timm's pretrained weights), the name of a zoo entry or a bundle folder.
        inherit: What is taken from a zoo entry or bundle: its `backbone`, or `everything`: heads, teachers, queues, optimizer state too.
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
        shard: Over several processes, each holds a part of the recipe and of the optimizer instead of all (FSDP).
        eval_every, save_every: In optimizer steps.
        optimizer: `sgd`, `adamw` or `lars`.
        lr, momentum, weight_decay, max_grad_norm: Of the optimizer; momentum is that of sgd and lars, a norm of 0 clips nothing.
        corpus: One sentence on the corpus, for the card.
        intended_use, limits: For the card.
        own: What only this recipe has (`Recipe.own`), such as `head_warmup_steps`, the tables `objective` and `views`, or `watch`: tasks
            that a self-supervised run is measured on and never trained on. In the file they stand among the others.
    """

    name: str
    architecture: str
    recipe: str
    preset: str
    init: str
    inherit: str
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
    shard: bool
    eval_every: int
    save_every: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    max_grad_norm: float
    corpus: str
    intended_use: str
    limits: str
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Returns all settings as JSON types, the recipe's own among them; `shard` where it is set, as it decides rounding alone."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        own = fields.pop("own")
        if not self.shard:
            del fields["shard"]
        settings: dict[str, Any] = json.loads(json.dumps({**fields, **own}))
        return settings


_COMMON = {f.name: str(f.type) for f in dataclasses.fields(Experiment) if f.name != "own"}
_DEFAULTS: dict[str, Any] = {
    "preset": "modern", "init": "random", "inherit": "backbone", "seed": 0, "split_seed": 0, "turned": True, "alpha": 0.0,
    "accumulate": 1, "precision": "bf16", "shard": False,
    "eval_every": 500, "save_every": 500, "corpus": "", "intended_use": "", "limits": "",
}  # fmt: skip
STATED = ("intended_use", "limits")
"""What only a person can say of a model: nothing is published without it."""
_LABELLED = {
    "loss": "str", "head_lr_factor": "float", "schedule": "str", "warmup_steps": "int", "head_warmup_steps": "int",
    "head_warmup_lr": "float", "transplant_batches": "int", "flip": "bool", "rot90": "bool", "area": "tuple[float, float]",
    "aspect": "float", "colour": "float", "stain": "float",
}  # fmt: skip
_UNLABELLED = {"objective": "table", "views": "table", "unlabelled": "table"}
_SELF_SUPERVISED = {**_UNLABELLED, "watch": "tuple[str, ...]"}
OWN = {
    "multitask": _LABELLED,
    "multitaskssl": {
        **_LABELLED,
        **_UNLABELLED,
        "ssl": "str",
        "ssl_weight": "float",
        "unlabelled_share": "float",
    },
}
"""Keys that only one recipe has, and their types; every other recipe is self-supervised and has `_SELF_SUPERVISED`."""


def read(path: str | Path, **overrides: Any) -> Experiment:
    """Reads an experiment; `overrides` win over the file, in a table key by key.

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
    raw = read_toml(path, what="experiment", next_step="see experiments/ for examples")
    merged = {
        k: {**raw[k], **v}
        for k, v in overrides.items()
        if isinstance(v, dict) and isinstance(raw.get(k), dict)
    }
    raw = {**raw, **overrides, **merged}
    known = {*_COMMON, *_SELF_SUPERVISED, *(key for keys in OWN.values() for key in keys)}
    check_keys(raw, known, path)
    return raw


def resolve(raw: dict[str, Any], *, where: object = "") -> Experiment:
    """Fills `raw` from the preset and checks every key and type.

    Raises:
        UsageError: `HZ-U42` unknown key, with the nearest known one; `HZ-U43` a value of the wrong type or range.
    """
    values = {**_DEFAULTS, **raw}
    architecture, _, tag = check_name(values.get("name")).partition(".")
    recipe = tag.partition("_")[0]
    preset = _preset(recipe, values["preset"], where)
    own = OWN.get(recipe, _SELF_SUPERVISED)
    _check_recipe_keys(raw, recipe, where)
    check_keys(raw, {*_COMMON, *own}, where)
    named = {"architecture": architecture, "recipe": recipe}
    given = {key: table(key, raw.get(key, {}), where) for key, k in own.items() if k == "table"}
    tables = {key: {**preset.get(key, {}), **said} for key, said in given.items()}
    if "mpp" in given.get("views", {}):
        tables["views"] = _bounded(tables["views"], given["views"], where)
    values = {**preset, **named, **values, **tables}
    if recipe not in OWN:
        values |= {key: values.get(key) or () for key in ("tasks", "watch")}
    checked = {key: convert(key, kind, values.get(key), where) for key, kind in {**_COMMON, **own}.items()}
    for key in ("tasks", "watch"):
        named_twice = [name for name, n in Counter(checked.get(key, ())).items() if n > 1]
        if named_twice:
            raise wrong(key, named_twice, "each task once", where)
    if checked["tasks"] == () and not tables.get("unlabelled"):
        raise wrong("tasks", values.get("tasks"), "at least one task, or [unlabelled] sources", where)
    checked |= _fill_tables(checked.get("ssl", recipe), tables, where)
    return Experiment(**{key: checked.pop(key) for key in _COMMON}, own=checked)


def _check_recipe_keys(raw: Mapping[str, Any], recipe: str, where: object) -> None:
    """Refuses a key that only other recipes have, and says which; of a word that no recipe knows nothing is said here."""
    from histozoo.recipes import PRESETS

    for key in raw:
        having = [name for name in PRESETS if key in OWN.get(name, _SELF_SUPERVISED)]
        if not having or recipe in having or key in _COMMON:
            continue
        expected, instead = f"such a key in experiments of {', '.join(having)}", "or name such a recipe"
        if key == "watch":
            expected = "none: a recipe with labels is measured by its own heads on the validation tiles of its own tasks"
            instead = "and measure the finished run on other tasks with histozoo evaluate"
        raise UsageError(
            "HZ-U42",
            f"recipe {recipe} has no experiment key {key!r}",
            where=where,
            expected=expected,
            got=key,
            next_step=f"remove the key, {instead}",
        )


def _fill_tables(recipe: str, tables: dict[str, dict[str, Any]], where: object) -> dict[str, Any]:
    """Returns the tables with every default written out: what an experiment was must not depend on today's defaults."""
    if not tables:
        return {}
    from histozoo.data.drawing import View
    from histozoo.recipes import OBJECTIVES

    if recipe not in OBJECTIVES:
        raise wrong("ssl", recipe, f"one of {', '.join(OBJECTIVES)}", where)
    views = dict(tables["views"])
    crops = {key: views.pop(key, default) for key, default in _CROPS.items()}
    asymmetric = bool(crops["asymmetric"])
    unset = {
        "px",
        *(_AREAS if crops["mpp"] is not None else ()),
        *({"blur_p", "solarise_p"} - views.keys() if asymmetric else ()),
    }
    strengths = {f.name: f for f in dataclasses.fields(View) if f.name not in unset}
    settings = {f.name: f for f in dataclasses.fields(OBJECTIVES[recipe])}
    objective = fill("objective", settings, tables["objective"], where)
    OBJECTIVES[recipe](**objective)  # settings that contradict each other are refused there
    filled = {
        "objective": objective,
        "views": {**_check_crops(crops, where), **fill("views", strengths, views, where, also=_CROPS)},
    }
    return {**tables, **filled}


_CROPS: dict[str, Any] = {
    "global_views": 2, "local_views": 0, "local_px": 0, "local_area": (), "asymmetric": False, "without": (), "mpp": None,
}  # fmt: skip
"""What an experiment says of its views as a whole: how many and how large, whether the two global ones differ, what is left out, and
between which micrometres per pixel they lie, which says of their areas what `area` and `local_area` would."""
_AREAS = ("area", "local_area")


def _bounded(views: dict[str, Any], given: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Returns views bounded in micrometres per pixel, without the areas of the preset; areas that the experiment gives contradict them."""
    said = [key for key in _AREAS if given.get(key)]
    said += ["without crop"] if "crop" in views.get("without", ()) else []
    if said:
        got = f"mpp and {' and '.join(said)}"
        raise wrong("views", got, "bounds on the crops by mpp or by area, not both", where)
    return {key: value for key, value in views.items() if key not in _AREAS}


def _check_crops(crops: dict[str, Any], where: object) -> dict[str, Any]:
    kinds = {"global_views": "int", "local_views": "int", "local_px": "int", "asymmetric": "bool"}
    checked = {key: convert(key, kind, crops[key], where) for key, kind in kinds.items()}
    unsaid: tuple[Any, ...] = ([], ())  # as a record writes them; 0 and false are values, and wrong ones
    names = crops["without"]
    checked["without"] = () if names in unsaid else convert("without", "tuple[str, ...]", names, where)
    # What is not said is not written: a record without bounds in micrometres per pixel is as it was before there were any.
    key = "local_area" if crops["mpp"] is None else "mpp"
    within = POSITIVE if key == "mpp" else PART
    said = key == "mpp" or crops[key] not in unsaid
    pair = convert(key, "tuple[float, float]", crops[key], where, within=within) if said else ()
    if pair and pair[0] > pair[1]:
        raise wrong(key, crops[key], f"two numbers {within}, the smaller first", where)
    checked[key] = pair
    if checked["global_views"] not in (1, 2):
        raise wrong("global_views", checked["global_views"], "1 or 2", where)
    if checked["local_views"] < 0 or (checked["local_views"] > 0) != (checked["local_px"] > 0):
        got = {key: checked[key] for key in ("local_views", "local_px")}
        raise wrong("local_views", got, "both above 0, or both 0", where)
    return checked


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
