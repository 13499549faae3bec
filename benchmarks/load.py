"""What loading costs: histozoo.load beside timm.create_model(pretrained=True) from the same safetensors file.

    python benchmarks/load.py [--arch resnet50] [--rounds 9]

Each load runs in a fresh fork of a process that has imported torch and timm, after both ways have loaded a tiny model in that fork
(so that neither pays for first use of library code), and touches every parameter, so that a mapped file is not flattered. The ways
take turns, so a ratio pairs neighbours in time; medians over the rounds are printed, by the clock and by the processor, which a busy
machine disturbs less. Peak memory is the growth of the resident set (mapped pages count), in multiples of the file. Random weights;
the page cache is warm.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


class Cost(NamedTuple):
    """What one load took: seconds by the clock and of the processor, and growth of the peak resident set in bytes."""

    wall: float
    cpu: float
    peak: int


def forked(work: Callable[[], object], warm_up: Callable[[], object]) -> Cost:
    """Runs `work` in a fork, after `warm_up`."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            warm_up()
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
            before, wall, cpu = _status("VmRSS"), time.perf_counter(), time.process_time()
            kept = work()
            cost = time.perf_counter() - wall, time.process_time() - cpu, _status("VmHWM") - before
            os.write(write, pickle.dumps(cost))
            del kept
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        cost = Cost(*pickle.loads(file.read()))
    os.wait()
    return cost


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def ways(bundle: Path, cache: Path) -> dict[str, Callable[[], object]]:
    """Returns the three ways to load a bundle: by timm, by histozoo on a file it never saw, and with its stamp there."""
    import timm
    import torch

    import histozoo
    from histozoo import registry

    entry = registry.resolve(bundle)
    cfg = {**entry.raw["pretrained_cfg"], "file": str(bundle / "model.safetensors")}

    def touched(model: torch.nn.Module) -> torch.nn.Module:
        for p in model.parameters():
            p.detach().aminmax()
        return model

    def by_timm() -> object:
        model = timm.create_model(entry.architecture, pretrained=True, pretrained_cfg=cfg, num_classes=0)
        return touched(model.eval())

    def by_histozoo() -> object:
        return touched(histozoo.load(bundle))

    def first() -> object:
        shutil.rmtree(cache, ignore_errors=True)
        return by_histozoo()

    return {"timm": by_timm, "first": first, "histozoo": by_histozoo}


def compare(bundle: Path, tiny: Path, *, rounds: int, cache: Path) -> dict[str, list[Cost]]:
    """Times the three ways in turn."""
    small = ways(tiny, cache)

    def warm_up() -> None:
        small["timm"]()
        small["histozoo"]()

    found: dict[str, list[Cost]] = {"timm": [], "first": [], "histozoo": []}
    for _ in range(rounds):
        for name, work in ways(bundle, cache).items():
            found[name].append(forked(work, warm_up))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", nargs="+", default=["resnet50"])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="histozoo-bench-"))
    os.environ["HISTOZOO_CACHE"] = str(folder / "cache")
    import torch

    from tests.fakes.zoo import make_bundle

    torch.set_num_threads(1)  # a fork does not inherit threads
    try:
        tiny = make_bundle(folder, "bench_tiny", "test_resnet")
        for arch in args.arch:
            bundle = make_bundle(folder, "bench_random", arch)
            size = (bundle / "model.safetensors").stat().st_size
            report(arch, size, compare(bundle, tiny, rounds=args.rounds, cache=folder / "cache"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(arch: str, size: int, found: dict[str, list[Cost]]) -> None:
    """Prints medians, and the median of the ratios of each round."""
    print(f"{arch}: {size / 1e6:.1f} MB, {len(found['timm'])} rounds, load average {os.getloadavg()[0]:.1f}")
    for name, label in (
        ("timm", "timm.create_model(pretrained=True)"),
        ("first", "histozoo.load, never seen"),
        ("histozoo", "histozoo.load, verified before"),
    ):
        wall = 1000 * statistics.median(cost.wall for cost in found[name])
        pairs = list(zip(found[name], found["timm"], strict=True))
        by_wall = statistics.median(ours.wall / theirs.wall for ours, theirs in pairs)
        by_cpu = statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs)
        peak = max(cost.peak for cost in found[name]) / size
        print(f"  {label:<36}{wall:8.1f} ms   x {by_wall:.3f} (CPU x {by_cpu:.3f})   peak {peak:.2f} x file")


if __name__ == "__main__":
    main()
