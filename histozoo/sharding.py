"""One recipe over several processes: each holds a part of every weight, gradient, moment and teacher (FSDP2); files hold whole tensors.

Every tensor is split along its first axis. A block of a trunk is whole only while it computes; what lies outside the blocks (first and last
layers, heads) is whole from the forward pass to the end of the backward pass. Gradients are averaged over the processes, as
DistributedDataParallel does. Buffers (statistics, centres, queues) are whole in every process.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from histozoo.errors import UsageError
from histozoo.evaluate import blocks
from histozoo.recipes import Recipe, refusals

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shard(recipe: Recipe, device: torch.device) -> Recipe:
    """Splits a recipe over all processes, in place, and returns a copy without weights, which `whole` fills.

    Args:
        recipe: Its weights become those of the first process; its optimizer is built afterwards.
        device: Where this process computes.

    Raises:
        UsageError: `HZ-U87`, a parameter has no axis to be split along.
    """
    from torch.distributed.device_mesh import init_device_mesh  # here, since these take seconds to import
    from torch.distributed.fsdp import fully_shard

    if scalars := [name for name, p in recipe.named_parameters() if not p.ndim]:
        raise refusals.refuse(
            "a parameter without an axis cannot be split over processes",
            got=", ".join(scalars[:3]),
            expected="parameters with at least one axis",
            next_step="leave out shard = true, or choose another backbone",
        )
    empty = {id(p): _empty(p) for p in recipe.parameters()}
    blank: Recipe = copy.deepcopy(recipe, empty)
    for p in recipe.parameters():
        first = p.data.to(device).contiguous()  # other orders, such as channels last, cannot be split
        dist.broadcast(first, 0)
        p.data = first.to(p.device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*_blocks(recipe), recipe]:
        fully_shard(module, mesh=mesh)
    return blank


def _empty(p: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)


def _blocks(recipe: Recipe) -> list[nn.Module]:
    """Returns the blocks of all trunks, teachers' too, none inside another; a trunk that does not say what its blocks are has none."""
    found: dict[str, nn.Module] = {}
    for prefix, trunk in recipe.named_modules():
        with suppress(UsageError):
            names = blocks.ends(trunk, level="block") if prefix.endswith("backbone") else ()
            found |= {f"{prefix}.{n}": trunk.get_submodule(n) for n in names if n != blocks.WHOLE}
    inner = {name for name in found for other in found if name.startswith(f"{other}.")}
    return [m for name, m in found.items() if name not in inner and any(True for _ in m.parameters())]


@contextmanager
def whole(recipe: Recipe, blank: Recipe | None) -> Iterator[Recipe]:
    """Yields what can be evaluated: the recipe, or the copy that `shard` made of it, which has all weights until then.

    Every process must ask.
    """
    if blank is None:
        yield recipe
        return
    device = next(recipe.parameters()).device
    blank.load_state_dict({k: gathered(v) for k, v in recipe.state_dict().items()}, assign=True)
    blank.to(device)  # buffers that no state dict holds
    try:
        yield blank
    finally:
        nothing = {k: torch.empty_like(v, device="meta") for k, v in blank.state_dict().items()}
        blank.load_state_dict(nothing, assign=True)


def _is_part(value: Any) -> TypeGuard[DTensor]:
    return hasattr(value, "device_mesh")


def gathered(value: Tensor) -> Tensor:
    """Returns a whole tensor, on its device; every process must ask."""
    return value.full_tensor() if _is_part(value) else value


def for_file(state: Any) -> Any:
    """Returns a state dict with whole tensors, one after the other moved to the memory of the first process; the others get none.

    Every process must ask. What is not sharded stays as it is.
    """
    if isinstance(state, Mapping):
        return {k: for_file(v) for k, v in state.items()}
    if not _is_part(state):
        return state
    value = state.full_tensor()
    return value.cpu() if dist.get_rank() == 0 else value.new_empty(0)


def like(value: Tensor, p: Tensor) -> Tensor:
    """Returns a whole tensor as a parameter of its shape lies here: this process's part of it, in its memory order.

    Fused AdamW walks through weights and moments side by side and looks at no strides. Tensors of another shape (a step's number) stay.
    """
    if value.shape != p.shape:
        return value
    if _is_part(p):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value, p.device_mesh, p.placements, src_data_rank=None)
    return torch.empty_like(p).copy_(value)


def weights_like(state: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Returns whole tensors of a file, each as the recipe's own of this name lies here."""
    own = recipe.state_dict()
    return {k: like(v, own[k]) if _is_part(own.get(k)) else v for k, v in state.items()}


def moments_like(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns an optimizer's state dict of whole tensors, each as its parameter lies here."""
    order = [p for group in optimizer.param_groups for p in group["params"]]
    found = {
        number: {k: like(v, order[number]) if isinstance(v, Tensor) else v for k, v in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": found}
