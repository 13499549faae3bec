"""Start from a published model with everything it was trained with: heads, teachers, queues and the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from histozoo import artifact, sharding, sources
from histozoo.errors import UsageError
from histozoo.recipes import Recipe
from histozoo.recipes.lars import optimizer_of
from histozoo.registry import Entry, Published

PARTS = ("heads", "optimizer")


def training_state(entry: Entry) -> dict[str, dict[str, Tensor]]:
    """Returns the tensors beside the backbone's, by part: `heads` (all of the recipe's others) and `optimizer`, both verified.

    Raises:
        UsageError: `HZ-U88`, the entry does not say which files these are (published by an earlier version).
        IntegrityError: `HZ-A01`, `HZ-A02`: a file is not the published one; `HZ-A06`, a value is not finite; `HZ-U14`, it is missing.
        ResourceError: The Hub cannot be reached.
    """
    files = entry.ours.get("training_state")
    if not files:
        raise UsageError(
            "HZ-U88",
            f"{entry.name} was published without a record of its heads and optimizer",
            where=entry.path,
            kept="nothing was trained",
            next_step="start from its backbone alone with --only-backbone",
        )
    return {part: _read(entry, Published(**files[part])) for part in PARTS}


def _read(entry: Entry, published: Published) -> dict[str, Tensor]:
    def read(path: Any, _: Published) -> dict[str, Tensor]:
        artifact.read_header(path)
        tensors = load_file(path)
        artifact.check_finite(tensors, where=path)
        return tensors

    return sources.read_verified(lambda: sources.locate(entry, published), read)


def check(recipe: Recipe, entry: Entry, *, optimizer: str) -> None:
    """Refuses a parent whose heads or optimizer the recipe cannot take, before anything is written.

    Args:
        recipe: On any device; it is given the state, so one without memory is best.
        entry: The parent.
        optimizer: Of the experiment, by name.

    Raises:
        UsageError: As `training_state`, `take_heads` and `take_optimizer`.
        IntegrityError: As `training_state`.
        ResourceError: As `training_state`.
    """
    state = training_state(entry)
    take_heads(recipe, state["heads"], parent=entry.name)
    built = optimizer_of(optimizer, recipe.param_groups(), lr=0.0, momentum=0.0)
    take_optimizer(built, recipe, state["optimizer"])


def take_heads(recipe: Recipe, heads: Mapping[str, Tensor], *, parent: str) -> None:
    """Gives a recipe every tensor of its parent but the backbone's, which it has.

    Raises:
        UsageError: `HZ-U88`, the parent's tensors are not this recipe's: another recipe, other tasks or other settings.
    """
    own = {k: v for k, v in recipe.state_dict().items() if not k.startswith("backbone.")}
    differing = sorted({*own} ^ {*heads}) + [k for k in own if k in heads and own[k].shape != heads[k].shape]
    if differing:
        raise UsageError(
            "HZ-U88",
            f"what {parent} was trained with does not fit this experiment",
            expected="the same recipe, tasks in the same order, objective and views",
            got=f"{len(differing):,} tensors differ, such as {', '.join(differing[:3])}",
            kept="nothing was trained",
            next_step="start from its backbone alone with --only-backbone, or train with its recipe and settings",
        )
    if next(recipe.parameters()).device.type != "meta":  # a recipe without memory takes nothing
        recipe.load_state_dict(dict(heads), strict=False)


def take_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives an optimizer the state that its parent's had, by parameter name; rates and decays stay the experiment's.

    Raises:
        UsageError: `HZ-U88`, a state is of no parameter of the model, of another shape, or of another kind of optimizer.
    """
    wanted = (
        {"step", "exp_avg", "exp_avg_sq"} if isinstance(optimizer, torch.optim.AdamW) else {"momentum_buffer"}
    )
    named = {id(p): name for name, p in model.named_parameters()}
    found: dict[int, dict[str, Tensor]] = {}
    known = optimizer.state_dict()
    left = dict(state)
    order = [p for group in optimizer.param_groups for p in group["params"]]
    for number, p in enumerate(order):
        prefix = f"{named[id(p)]}."
        keys = [k for k in left if k.startswith(prefix) and "." not in k[len(prefix) :]]
        values = {k[len(prefix) :]: left.pop(k) for k in keys}
        fits = {*values} == wanted and all(v.shape == p.shape for v in values.values() if v.ndim)
        if values and not fits:
            left |= {prefix + k: v for k, v in values.items()}
        elif values:
            found[number] = {k: sharding.like(v, p) for k, v in values.items()}
    if left:
        raise UsageError(
            "HZ-U88",
            "the optimizer's state does not fit these parameters and this optimizer",
            expected=f"{', '.join(sorted(wanted))} of each parameter, as {type(optimizer).__name__} keeps them",
            got=f"{len(left):,} others, such as {', '.join(sorted(left)[:3])}",
            kept="nothing was trained",
            next_step="train with the parent's optimizer, or start from its backbone alone with --only-backbone",
        )
    optimizer.load_state_dict({"state": found, "param_groups": known["param_groups"]})
