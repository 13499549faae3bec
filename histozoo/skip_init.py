"""Building a model whose random initialisation is thrown away anyway: on the meta device, with the initialisers skipped.

Initialisation is 60 to 70 % of what timm takes to load a checkpoint. The switch is a torch function mode: it holds in this thread
alone and patches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# In-place arithmetic that initialisers do. On a meta tensor it changes nothing, so skipping it there is always right.
_IN_PLACE = {
    getattr(torch.Tensor, name)
    for name in (
        "uniform_",
        "normal_",
        "trunc_normal_",
        "erfinv_",
        "mul_",
        "add_",
        "div_",
        "clamp_",
        "fill_",
        "zero_",
    )
    if hasattr(torch.Tensor, name)
}


class _SkipInit(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _IN_PLACE or getattr(func, "__module__", "") == "torch.nn.init":
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Makes modules built inside hold shapes and no memory."""
    with torch.device("meta"), _SkipInit():
        yield


def left_on_meta(model: torch.nn.Module) -> list[str]:
    """Returns the names of parameters and buffers that have no memory yet, those outside the state dict included."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, tensor in named if tensor.is_meta]
