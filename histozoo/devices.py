"""Which device a name means, said before anything slow begins; and how many threads compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from histozoo.errors import UsageError

if TYPE_CHECKING:
    import torch


def emulates_bfloat16(device: torch.device) -> bool:
    """Says whether bfloat16 is imitated on this device: such a processor takes about nine times as long as in float32."""
    import torch

    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def choose(name: str | torch.device = "auto", *, computes: bool = True) -> torch.device:
    """Returns the device of this name; `auto` is the first GPU where there is one, and the processor elsewhere.

    Args:
        name: `auto`, or torch's name of a device.
        computes: Whether something is to be computed there, which refuses `meta`, where tensors have no values.

    Raises:
        UsageError: `HZ-U68`, torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return torch.device(next((device for device in _known() if device != "cpu"), "cpu"))
    try:
        device = torch.device(name)
        probe = torch.zeros(1, device=device)
        if computes:
            probe.cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ImportError) as error:
        raise UsageError(
            "HZ-U68",
            "there is no such device here",
            expected=f"auto, {', '.join(_known())}",
            got=repr(str(name)),
            next_step="leave the device out, or name one of these",
        ) from error
    return device


def _known() -> list[str]:
    import torch

    known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return known + (["mps"] if torch.backends.mps.is_available() else [])


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes with one thread inside the block and restores the number of threads after it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
