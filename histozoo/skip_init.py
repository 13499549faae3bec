"""Building a model whose random initialisation is thrown away anyway: shapes without memory, and the initialisers skipped.

Initialisation is 60 to 70 % of what timm takes to load a checkpoint. The switch is a torch function mode: it holds in this thread
alone and patches nothing. What it does not know is made as always, with values, so that a gap here costs time and never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# What parameters are made with. Others (arange, linspace, tensor) compute values that a model may read while it is built.
_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
# In-place arithmetic that initialisers do. On a meta tensor it changes nothing, so skipping it there is always right.
_IN_PLACE = {
    getattr(torch.Tensor, name)
    for name in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "div_", "clamp_", "fill_", "zero_")
}


class without_values(TorchFunctionMode):
    """Inside, tensors are made on the meta device, and initialising such a tensor does nothing."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES and kwargs.get("device") is None:
            return func(*args, **{**kwargs, "device": "meta"})
        if func in _IN_PLACE or getattr(func, "__module__", "") == "torch.nn.init":
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def assign(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Puts `tensors` in the place of the model's own, without a copy; returns whether every one of the model has values then.

    The caller has compared keys and shapes. `load_state_dict(assign=True)` does the same in five times the time.
    """
    for name, old in list(model.named_parameters()):
        _put(model, name, nn.Parameter(tensors[name], requires_grad=old.requires_grad))
    for name, _ in list(model.named_buffers()):
        if name in tensors:
            _put(model, name, tensors[name])
    # Buffers outside the state dict (attention masks) have values only where the model was built with them.
    return not any(t.is_meta for t in (*model.parameters(), *model.buffers()))


def _put(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, tensor)
