"""What a study ran on, in words: processor, cores, threads, GPU; no name of a machine."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def words(device: str = "cpu") -> str:
    """Returns one line on the machine."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else "no GPU used"
    return (
        f"{threads} thread{'s' * (threads > 1)} on {cores} core{'s' * (cores > 1)} ({_processor()}), {gpu}, "
        f"torch {torch.__version__.partition('+')[0]}"
    )


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def spell(seconds: float) -> str:
    """Returns a time in words, such as `1 h 12 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
