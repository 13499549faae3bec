"""What views and loading cost a training step on one device: augmentation there, and how busy the loader keeps it from JPEG shards.

    python benchmarks/ssl_device.py --device cuda [--rounds 9] [--batch 256] [--px 224] [--tile 256] [--workers 8] [--trunk resnet50]
    python benchmarks/ssl_device.py --device cpu          # small: that the script works, and what a processor does

Two measurements, with targets for a GPU; on a processor views and network share it, and so do the loader's processes, so that neither
target is meant there.

1. views: a step that makes its views of uint8 tiles on the device, beside the same step that is given views made before, same recipe,
   weights, trunk and batch, tiles and views lying on the device. The two take turns, so that a ratio pairs neighbours in time; medians over
   the rounds are printed, by the clock, each round some steps long. Target: the step with views takes at most 1.10 times as long.
2. loader: the same steps fed by `StreamedTiles` from WebDataset tars of JPEG tiles through torch's `DataLoader` as the training loop sets
   it up. The device is busy from the first operation of a step to its last (CUDA events; on a processor, the clock); what is left is
   waiting for the loader and copying. Gaps between the operations of one step count as busy. Target: busy for more than 90 % of the time.

A step is forward, loss, backward, AdamW and what the recipe does after it, in bfloat16 on a GPU as `histozoo pretrain` has it by default.
It ends with one number read from the device, as the training loop's guard does it, which keeps the processor from running ahead.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.ssl_step import OURS, our_recipe, trunk
from benchmarks.views import MEAN, STD, tiles
from histozoo.data.ssl_views import SSLViews, multi_crop, one_view, two_views
from histozoo.data.streamed import ShardSet, StreamedTiles
from histozoo.recipes import Recipe

TOKENS = ("ibot", "mae")
SMALL = {"rounds": 3, "batch": 8, "px": 64, "tile": 96, "workers": 1, "steps": 1, "shards": 64, "fed": 6}
LARGE = {
    "rounds": 9,
    "batch": 256,
    "px": 224,
    "tile": 256,
    "workers": 8,
    "steps": 10,
    "shards": 8192,
    "fed": 60,
}
"""Values where an option is left out, for a processor and for a GPU."""
WARM = 3
"""Steps of the second measurement that are not counted: workers start, kernels are chosen."""
QUALITY = 90
"""Of the JPEG tiles."""
TARGET = {"views": 1.10, "loader": 0.90}

Batch = dict[str, Tensor]


@dataclass
class Given:
    """Views made before: what a step costs without augmentation."""

    views: list[Tensor]
    uniforms: int

    def __call__(self, tiles_BHWC: Tensor, u_BP: Tensor) -> list[Tensor]:
        return [x[: len(tiles_BHWC)] for x in self.views]


class Clock:
    """Seconds between marks: CUDA events on a GPU, so that work already queued is not counted twice, and the clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.cuda, self.marks = device.type == "cuda", []

    def mark(self) -> None:
        if self.cuda:
            event: Any = torch.cuda.Event(enable_timing=True)
            event.record()
        else:
            event = time.perf_counter()
        self.marks.append(event)

    def seconds(self) -> list[float]:
        """Returns the time within each pair of marks."""
        if self.cuda:
            torch.cuda.synchronize()
        pairs = zip(self.marks[::2], self.marks[1::2], strict=True)
        return [a.elapsed_time(b) / 1e3 if self.cuda else b - a for a, b in pairs]


def views_of(name: str, px: int) -> SSLViews:
    """Returns the views that the recipe's preset shows of histology tiles."""
    if name == "mae":
        return one_view(px, MEAN, STD)
    if name in ("swav", "dino", "ibot"):
        return multi_crop(px, px // 2, 4, mean=MEAN, std=STD)
    return two_views(px, MEAN, STD, asymmetric=name != "simclr")


def backbone(name: str, px: int, chosen: str) -> nn.Module:
    """Returns the trunk of ssl_step.py, or the one chosen; a transformer for recipes that hide tokens."""
    torch.manual_seed(0)
    if not chosen or (name in TOKENS and not chosen.startswith("vit")):
        return trunk(name, px)
    sizes = {"img_size": px, "dynamic_img_size": True} if chosen.startswith("vit") else {}
    return timm.create_model(chosen, num_classes=0, **sizes)


def stepper(recipe: Recipe, device: torch.device) -> Callable[[Batch], float]:
    """Returns one step of the training loop."""
    recipe.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(recipe.param_groups(), fused=True)
    steps = itertools.count(100)  # beyond what is frozen at first

    def step(batch: Batch) -> float:
        recipe.on_step(next(steps))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = recipe(batch)["loss"]
        loss.backward()
        recipe.before_step()
        optimizer.step()
        recipe.after_step()
        optimizer.zero_grad()
        return loss.item()

    return step


# -- 1. views --------------------------------------------------------------------------------------------------------------------------


def compare(name: str, args: argparse.Namespace, device: torch.device) -> list[tuple[float, float]]:
    """Returns seconds a step with views made there and with views given, of each round."""
    tiles_BHWC = tiles(args.tiles, args.tile, args.batch)[0].to(device)
    views = views_of(name, args.px)
    made = views(tiles_BHWC, torch.rand(args.batch, views.uniforms))
    sides = []
    for shown in (views, Given(made, views.uniforms)):
        recipe = our_recipe(name, shown, backbone(name, args.px, args.trunk))
        u = torch.rand(args.batch, recipe.uniforms, generator=torch.Generator().manual_seed(0)).to(device)
        sides.append((stepper(recipe, device), {"tiles": tiles_BHWC, "u": u}))

    def seconds(step: Callable[[Batch], float], batch: Batch) -> float:
        start = time.perf_counter()
        for _ in range(args.steps):
            step(batch)
        return (time.perf_counter() - start) / args.steps

    for step, batch in sides:
        seconds(step, batch)
    return [(seconds(*sides[0]), seconds(*sides[1])) for _ in range(args.rounds)]


def report_views(name: str, found: list[tuple[float, float]]) -> None:
    made, given = (1e3 * statistics.median(pair[i] for pair in found) for i in (0, 1))
    ratios = sorted(a / b for a, b in found)
    print(
        f"  {name:<12}{made:9.1f} ms   views given {given:9.1f} ms   x {statistics.median(ratios):5.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f})",
        flush=True,
    )


# -- 2. loader -------------------------------------------------------------------------------------------------------------------------


def write_shards(folder: Path, args: argparse.Namespace, *, each: int = 512) -> None:
    """Writes tars of JPEG tiles: the example tiles, turned and mirrored, so that no two files are one."""
    images = tiles(args.tiles, args.tile, 64)[1]
    for first in range(0, args.shards, each):
        with tarfile.open(folder / f"{first // each:05d}.tar", "w") as archive:
            for number in range(first, min(first + each, args.shards)):
                file = io.BytesIO()
                image = images[number % len(images)].rotate(
                    number % 360, Image.Resampling.BILINEAR, fillcolor=(240,) * 3
                )
                image.save(file, "JPEG", quality=QUALITY)
                member = tarfile.TarInfo(f"{number:06d}.jpg")
                member.size = file.tell()
                file.seek(0)
                archive.addfile(member, file)


def fed(name: str, args: argparse.Namespace, device: torch.device, folder: Path) -> float:
    """Returns the share of the time that the device is busy with steps whose batches come from the shards."""
    recipe = our_recipe(name, views_of(name, args.px), backbone(name, args.px, args.trunk))
    step = stepper(recipe, device)
    samples = (args.fed + WARM) * args.batch
    dataset = StreamedTiles(
        {"jpeg": ShardSet(folder=folder)}, seed=0, samples=samples, px=args.tile, uniforms=recipe.uniforms
    )
    loader = DataLoader(
        dataset, batch_size=args.batch, num_workers=args.workers, pin_memory=device.type == "cuda"
    )
    batches: Iterator[Batch] = iter(loader)
    clock = Clock(device)
    for number, batch in enumerate(batches):
        there = {k: v.to(device, non_blocking=True) for k, v in batch.items() if k in ("tiles", "u")}
        if number >= WARM:
            clock.mark()
        step(there)
        if number >= WARM:
            clock.mark()
        elif number == WARM - 1:
            start = time.perf_counter()
    return sum(clock.seconds()) / (time.perf_counter() - start)


# -- both ------------------------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for key in SMALL:
        parser.add_argument(f"--{key}", type=int, default=None)
    parser.add_argument("--trunk", default="", help="exact timm name; that of ssl_step.py where left out")
    parser.add_argument("--only", action="append", choices=list(OURS), default=[])
    parser.add_argument("--tiles", type=Path, default=Path(__file__).parents[1] / "examples/tiles")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("nothing is measured: this machine has no CUDA device")
        return
    for key, value in (LARGE if args.device == "cuda" else SMALL).items():
        setattr(args, key, value if getattr(args, key) is None else getattr(args, key))
    device = torch.device(args.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{args.device}: {where}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}")
    names = args.only or (list(OURS) if args.device == "cuda" else ["simclr", "dino", "mae"])
    shape = f"batches of {args.batch}, tiles of {args.tile} px, views of {args.px} px"
    print(
        f"step, {shape}, {args.rounds} rounds of {args.steps}; target on a GPU: x {TARGET['views']:.2f} at most"
    )
    for name in names:
        report_views(name, compare(name, args, device))
    print(f"fed by {args.workers} workers, {shape}, JPEG; target on a GPU: above {TARGET['loader']:.0%} busy")
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), args)
        for name in names:
            print(f"  {name:<12}{fed(name, args, device, Path(folder)):9.1%} busy", flush=True)


if __name__ == "__main__":
    main()
