"""What views cost: histozoo's batch of views beside lightly's transform image by image, same operations, strengths and batch.

    python benchmarks/views.py [--rounds 9] [--threads 1] [--batch 64] [--tiles FOLDER]

Takes lightly where it can be imported, and always the same recipe of torchvision v2 on PIL images, which is what lightly uses inside (its
blur apart). Both sides begin with decoded tiles (uint8 arrays, PIL images) and end with one stacked float tensor per view; loaders and
transfers are on neither side. The sides take turns, so a ratio pairs neighbours in time; medians over the rounds are printed, by the
processor, which a busy machine disturbs less, and by the clock. Tiles are resized to 96 px (views of 96) and to 256 px (views of 224).

SimCLR: crop of 0.08 to 1 of the area, mirrors, colour jitter 0.8, 0.8, 0.8, 0.2 with p 0.8, grey 0.2, blur 0.5. DINO: two such views with
BYOL's asymmetry and six local ones. `ours` alone are the defaults for histology, with quarter turns and stain jitter, and stain mixing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from histozoo.data.ssl_views import SSLViews, multi_crop, two_views

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLOUR = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
PLAIN = {"rot90": False, "stain_p": 0.0}
SIZES = ((96, 96), (256, 224))


class Cost(NamedTuple):
    """Seconds by the clock and of the processor."""

    wall: float
    cpu: float


def torchvision_v2(px: int) -> Callable[[Image.Image], list[Tensor]]:
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(px, scale=(0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], p=0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return lambda image: [view(image), view(image)]


def others(px: int) -> dict[str, tuple[Callable[[Image.Image], list[Tensor]], SSLViews]]:
    """Returns what is compared: name -> the transform of one image, and our views with the same operations."""
    simclr = two_views(px, MEAN, STD, area=(0.08, 1.0), **PLAIN, **COLOUR)
    found = {"SimCLR, torchvision v2": (torchvision_v2(px), simclr)}
    try:
        from lightly.transforms import DINOTransform, SimCLRTransform
    except ImportError:
        print("lightly cannot be imported: torchvision v2 only")
        return found
    local = 48 if px == 96 else 96
    strong = {"brightness": 0.8 * 0.5, "contrast": 0.8 * 0.5, "saturation": 0.4 * 0.5, "hue": 0.2 * 0.5}
    dino = multi_crop(
        *(px, local, 6),
        mean=MEAN,
        std=STD,
        area=(0.4, 1.0),
        local_area=(0.05, 0.4),
        sigma=(0.1, 2.0),
        **PLAIN,
        **strong,
    )
    theirs = DINOTransform(
        global_crop_size=px,
        global_crop_scale=(0.4, 1.0),
        local_crop_size=local,
        local_crop_scale=(0.05, 0.4),
        n_local_views=6,
    )
    return {
        "SimCLR, lightly": (SimCLRTransform(input_size=px), simclr),
        "DINO 2+6, lightly": (theirs, dino),
        **found,
    }


def timed(work: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def per_image(transform: Callable[[Image.Image], list[Tensor]], images: list[Image.Image]) -> list[Tensor]:
    return [torch.stack(views) for views in zip(*map(transform, images), strict=True)]


def ours(views: SSLViews, tiles_BHWC: Tensor) -> list[Tensor]:
    return views(tiles_BHWC, torch.rand(len(tiles_BHWC), views.uniforms))


def report(name: str, found: list[tuple[Cost, Cost]], count: int) -> None:
    """Prints medians per image, and the median and extremes of the ratios of each round."""
    mine, theirs = (1e3 * statistics.median(pair[i].cpu for pair in found) / count for i in (0, 1))
    cpu = sorted(b.cpu / a.cpu for a, b in found)
    wall = statistics.median(b.wall / a.wall for a, b in found)
    print(
        f"  {name:<24}{mine:7.2f} ms   theirs {theirs:7.2f} ms   x {statistics.median(cpu):5.2f} CPU "
        f"({cpu[0]:.2f} to {cpu[-1]:.2f})   x {wall:5.2f} clock",
        flush=True,
    )


def tiles(folder: Path, px: int, batch: int) -> tuple[Tensor, list[Image.Image]]:
    names = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))
    images = [Image.open(names[i % len(names)]).convert("RGB").resize((px, px)) for i in range(batch)]
    return torch.from_numpy(np.stack([np.asarray(i) for i in images])), images


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--tiles", type=Path, default=Path(__file__).parents[1] / "examples/tiles")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0]
    print(
        f"per image, batches of {args.batch}, {args.rounds} rounds, {args.threads} threads, load average {load:.1f}"
    )
    for tile_px, px in SIZES:
        tiles_BHWC, images = tiles(args.tiles, tile_px, args.batch)
        print(f" tiles of {tile_px} px, views of {px} px")
        for name, (transform, views) in others(px).items():
            ours(views, tiles_BHWC), per_image(transform, images[:4])
            found = [
                (timed(lambda: ours(views, tiles_BHWC)), timed(lambda: per_image(transform, images)))  # noqa: B023
                for _ in range(args.rounds)
            ]
            report(name, found, args.batch)
        for name, alone in {
            "ours, histology": two_views(px, MEAN, STD),
            "ours, with mixing": two_views(px, MEAN, STD, mix_p=0.5),
        }.items():
            ours(alone, tiles_BHWC)
            costs = [timed(lambda: ours(alone, tiles_BHWC)).cpu for _ in range(args.rounds)]  # noqa: B023
            print(f"  {name:<24}{1e3 * statistics.median(costs) / args.batch:7.2f} ms")


if __name__ == "__main__":
    main()
