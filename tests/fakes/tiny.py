"""A zoo of one tiny published model, and tiles to embed; the model is made once per session."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

NAME = "test_resnet.multitask_drawn2"


@functools.cache
def tiny_zoo() -> Path:
    """Returns a folder with `zoo/` (the entry and its embedded weights), `dist/<NAME>/` (the bundle), `model_cards/`; not to be changed."""
    from histozoo import publish
    from tests.fakes.run import make_run

    root = Path(tempfile.mkdtemp(prefix="histozoo-tiny-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    run = make_run(root / "runs")
    publish.publish(run, out=root / "dist", zoo=root / "zoo", cards=root / "model_cards")
    return root


def draw_tiles(folder: Path, names: list[str], *, px: int = 60, seed: int = 0) -> Path:
    """Writes one PNG of coloured noise per name, all different, and returns the folder."""
    for i, name in enumerate(names):
        colour = np.random.default_rng([seed, i])
        coarse = colour.integers(60, 250, (6, 6, 3), dtype=np.uint8)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((px, px), Image.Resampling.BICUBIC).save(path)
    return folder
