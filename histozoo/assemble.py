"""Experiment -> recipe: trunk, views and heads, every first weight a function of the experiment."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from histozoo.candidate import size_options
from histozoo.cutting import SHORTER
from histozoo.data.cropping import area_for_mpp
from histozoo.data.resolution import Span
from histozoo.data.ssl_views import SSLViews, multi_crop, one_view, two_views
from histozoo.data.views import Views
from histozoo.errors import UsageError
from histozoo.experiment import Experiment
from histozoo.recipes import LABELLED, OBJECTIVES, PRESETS, RECIPES, Recipe, refusals
from histozoo.recipes.multitask import Multitask
from histozoo.recipes.multitaskssl import MultitaskSSL, Settings


def build_recipe(
    experiment: Experiment, classes: Mapping[str, int], *, tile_mpp: Span | None = None
) -> Recipe:
    """Builds what an experiment trains.

    Args:
        experiment: As resolved.
        classes: Task -> number of classes; not looked at by a recipe that needs no labels.
        tile_mpp: Micrometres per pixel of the finest and the coarsest packed tile, where the experiment bounds those of its views.

    Raises:
        UsageError: `HZ-U87`, recipe, views and architecture do not go together.
    """
    torch.manual_seed(experiment.seed)
    trunk = backbone(experiment)
    recipe: Recipe
    if experiment.recipe not in LABELLED:
        recipe = _self_supervised(experiment.recipe, trunk, experiment, tile_mpp)
    else:
        recipe = labelled = Multitask(
            trunk, classes, views=_labelled_views(experiment), settings=experiment.settings()
        )
        if experiment.recipe == "multitaskssl":
            objective = _self_supervised(experiment.own["ssl"], trunk, experiment, tile_mpp)
            weight = Settings(weight=experiment.own["ssl_weight"])
            recipe = MultitaskSSL(trunk, multitask=labelled, objective=objective, settings=weight)
    return recipe.to(memory_format=torch.channels_last)


def check_recipe(experiment: Experiment, classes: Mapping[str, int]) -> Recipe:
    """Refuses recipe, views and architecture that do not go together, before a tile is opened; returns the recipe, built without memory.

    Bounds in micrometres per pixel need those of the tiles: `unlabelled_views` holds them when these are known.

    Args:
        experiment: As resolved, passed by `check_start`.
        classes: As in `build_recipe`.

    Raises:
        UsageError: `HZ-U86`, `HZ-U87`, as `build_recipe`.
    """
    views = {key: value for key, value in experiment.own.get("views", {}).items() if key != "mpp"}
    own = {**experiment.own, **({"views": views} if views else {})}
    with torch.device("meta"):
        recipe = build_recipe(dataclasses.replace(experiment, init="random", own=own), classes)
    if experiment.recipe in LABELLED:
        refusals.check_sizes(recipe.backbone, [experiment.train_px], what="train_px gives views that")
    refusals.check_sizes(recipe.backbone, [experiment.tile_px], what="tile_px is a side of tiles that")
    return recipe


def _self_supervised(name: str, trunk: nn.Module, e: Experiment, tile_mpp: Span | None) -> Recipe:
    make: Any = RECIPES[name]
    make.check_backbone(trunk)  # first: no other views would help
    recipe: Recipe = make(
        trunk,
        views=unlabelled_views(e, tile_mpp),
        settings=OBJECTIVES[name](**e.own["objective"]),
        steps=e.steps,
        lr=e.lr,
        weight_decay=e.weight_decay,
        seed=e.seed,
    )
    return recipe


def unlabelled_views(e: Experiment, tile_mpp: Span | None = None) -> SSLViews:
    """Returns the views of a self-supervised experiment: one, a pair, or a pair and smaller crops.

    Args:
        e: As resolved.
        tile_mpp: As in `build_recipe`. Local crops get the same bounds as the global ones: they show less tissue, not other magnifications.

    Raises:
        UsageError: `HZ-U86`, an operation of another name, local crops larger than the global views, or bounds in micrometres per pixel
            that no crop of the tiles keeps.
    """
    _check_local(e)
    strengths = dict(e.own["views"])
    bounds = strengths.pop("mpp", None)
    many, local, local_px = (strengths.pop(key) for key in ("global_views", "local_views", "local_px"))
    area, asymmetric = strengths.pop("local_area", None) or None, strengths.pop("asymmetric")
    if bounds:
        asked = _asked_crops(e, tile_mpp)
        strengths["area"] = area_for_mpp(px=e.train_px, **asked)
        area = area_for_mpp(px=local_px, **asked) if local else None
    if many == 1:
        return one_view(e.train_px, e.mean, e.std, **strengths)
    if not local:
        return two_views(e.train_px, e.mean, e.std, asymmetric=asymmetric, **strengths)
    look: dict[str, Any] = {"mean": e.mean, "std": e.std, "asymmetric": asymmetric, "local_area": area}
    return multi_crop(e.train_px, local_px, local, **look, **strengths)


def _check_local(e: Experiment) -> None:
    """Refuses local crops on more pixels than the global views: they are to show less of a tile at the same magnifications."""
    local_px = e.own["views"]["local_px"]
    if local_px <= e.train_px:
        return
    preset = PRESETS[e.recipe][e.preset].get("views", {}).get("local_px")
    raise UsageError(
        "HZ-U86",
        "local crops are larger than the global views",
        where="views, local_px",
        expected=f"local_px of at most train_px = {e.train_px}; half of it is usual",
        got=f"local_px = {local_px}" + (f", as preset {e.preset!r} has it" if local_px == preset else ""),
        kept="nothing was trained",
        next_step="set local_px in [views] (for a transformer a multiple of its patch), or local_views = 0 and local_px = 0 for none, "
        "or raise train_px",
    )


def _asked_crops(e: Experiment, tile_mpp: Span | None) -> dict[str, Any]:
    if tile_mpp is None:
        raise UsageError(
            "HZ-U86",
            "views cannot be bounded in micrometres per pixel, since those of the tiles are not known",
            where="views, mpp",
            kept="nothing was trained",
            next_step="give `tile_mpp`, as histozoo.training_data.tile_resolutions returns it",
        )
    views = e.own["views"]
    return {"tile_px": e.pack_px, "tile_mpp": tile_mpp, "mpp": views["mpp"], "aspect": views["aspect"]}


def _labelled_views(e: Experiment) -> Views:
    look = {key: e.own[key] for key in ("flip", "rot90", "area", "aspect", "colour", "stain")}
    return Views(px=e.train_px, mean=e.mean, std=e.std, **look)


def backbone(e: Experiment) -> nn.Module:
    """Returns the trunk, from random weights, timm's or those of a zoo entry; a transformer of fixed size takes `tile_px`.

    Raises:
        ResourceError: `HZ-B14`, `HZ-B15`, timm's weights cannot be had; and what `load` raises.
    """
    import timm

    if not (e.init == "random" or e.init.startswith("timm:")):
        from histozoo.loading import load

        return load(e.init, **_sizes(e)).train()
    name = e.architecture if e.init == "random" else e.init.removeprefix("timm:")
    try:
        trunk: nn.Module = timm.create_model(name, pretrained=e.init != "random", num_classes=0, **_sizes(e))
    except OSError as error:
        from histozoo.hub_errors import transport_error

        raise transport_error(e.init, "its weights", error) from error
    return trunk


def _sizes(e: Experiment) -> dict[str, Any]:
    """Returns the options that let a transformer of fixed size take the experiment's views; nothing for other trunks."""
    import timm

    cfg: Any = timm.get_pretrained_cfg(e.architecture)
    if not cfg.fixed_input_size:
        return {}
    size = size_options(e.architecture, e.tile_px)
    local_px = e.own.get("views", {}).get("local_px", 0)
    others = {e.train_px, local_px or e.train_px} - {e.tile_px}
    return {**size, "dynamic_img_size": True} if others else size


def check_start(experiment: Experiment) -> None:
    """Refuses an architecture or a start that nobody has, before tiles are decoded.

    Raises:
        UsageError: `HZ-U43`, timm has no such architecture or no such pretrained weights; `HZ-C19`, `HZ-C20`, no such entry; `HZ-U87`, one
            tile in all processes together, where the objective compares tiles.
    """
    import timm

    from histozoo import registry

    _check_batch(experiment)
    start = experiment.init.removeprefix("timm:")
    published = experiment.init not in ("random", f"timm:{start}")
    if published and (parent := registry.resolve(experiment.init)).architecture != experiment.architecture:
        raise UsageError(
            "HZ-U43",
            f"{parent.name} is of another architecture",
            expected=experiment.architecture,
            got=parent.architecture,
        )
    if published and (shorter := [k for k in SHORTER if k in parent.raw["model_args"]]):
        raise UsageError(
            "HZ-U43",
            f"{parent.name} is a trunk that ends early, and what is trained is the whole architecture",
            expected="the model that it was cut from",
            got=", ".join(f"{k} = {parent.raw['model_args'][k]}" for k in shorter),
        )
    if experiment.inherit == "everything" and not published:
        raise UsageError(
            "HZ-U43",
            "only a published model of this zoo or a bundle folder has heads and an optimizer to inherit",
            expected="inherit = 'backbone'",
            got=f"init = {experiment.init!r}",
        )
    for name, there in (
        (experiment.architecture, timm.is_model(experiment.architecture)),
        (start, not experiment.init.startswith("timm:") or timm.is_model_pretrained(start)),
    ):
        if not there:
            near = difflib.get_close_matches(name, timm.list_models(), 3, 0.5)
            raise UsageError(
                "HZ-U43",
                f"timm has no {'model' if name == experiment.architecture else 'pretrained weights'} of this name",
                expected=f"such as {', '.join(near)}" if near else "a name that timm.list_models() gives",
                got=name,
            )
    if start != experiment.init and start.partition(".")[0] != experiment.architecture:
        raise UsageError(
            "HZ-U43",
            "these weights of timm are of another architecture",
            expected=f"init = 'timm:{experiment.architecture}', or one of its tags",
            got=f"init = {experiment.init!r}",
        )


def _check_batch(e: Experiment) -> None:
    """Refuses batches of one tile where the objective is about several; accumulated batches pass one by one, so they do not help."""
    name = e.own.get("ssl", e.recipe)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if name not in OBJECTIVES or e.batch_size * processes > 1:
        return
    if why := OBJECTIVES[name](**e.own["objective"]).alone:
        raise refusals.refuse(
            f"{name} cannot learn from one tile at a time: {why}",
            got=f"batch_size = {e.batch_size} on {processes} process",
            expected="batch_size = 2 or more; the method's own batches are hundreds",
            next_step="raise batch_size",
        )
