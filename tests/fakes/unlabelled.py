"""One small set of unlabelled tiles of every kind, drawn: a folder, a table, shards of both formats, slides."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.fakes.archives import tar_bytes
from tests.fakes.slides import pyramid, tissue_on_glass

KINDS: dict[str, dict[str, Any]] = {
    "own": {"folder": "folder"},
    "listed": {"table": "table/tiles.csv"},
    "tars": {"shards": "tars"},
    "parquet": {"shards": "parquet"},
    "wsi": {"slides": "slides", "mpp": 1.0},
}
"""A source of every kind, as an experiment says it, below the folder of `write_all`."""


def blobs(n: int, px: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    """Returns tiles of smooth dark blobs, all different, `[n, px, px, 3]`."""
    small = np.random.default_rng(seed).integers(20, 160, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(s).resize((px, px), Image.Resampling.BICUBIC)) for s in small]
    )


def png(tile_HWC: NDArray[np.uint8]) -> bytes:
    """Returns the tile as a PNG."""
    file = io.BytesIO()
    Image.fromarray(tile_HWC).save(file, "PNG")
    return file.getvalue()


def write_folder(folder: Path, tiles_NHWC: NDArray[np.uint8]) -> Path:
    """Writes the tiles as `000.png` and so on."""
    folder.mkdir(parents=True)
    for number, tile_HWC in enumerate(tiles_NHWC):
        (folder / f"{number:03d}.png").write_bytes(png(tile_HWC))
    return folder


def write_table(folder: Path, tiles_NHWC: NDArray[np.uint8]) -> Path:
    """Writes the tiles and a table of them with their hashes."""
    write_folder(folder, tiles_NHWC)
    lines = [f"{p.name},{hashlib.sha256(p.read_bytes()).hexdigest()}" for p in sorted(folder.iterdir())]
    (folder / "tiles.csv").write_text("\n".join(["file,sha256", *lines, ""]))
    return folder / "tiles.csv"


def write_tars(folder: Path, parts: Sequence[NDArray[np.uint8]]) -> Path:
    """Writes a tar of each part."""
    folder.mkdir(parents=True)
    for shard, tiles_NHWC in enumerate(parts):
        members = {f"{n:03d}.png": png(tile_HWC) for n, tile_HWC in enumerate(tiles_NHWC)}
        (folder / f"{shard:03d}.tar").write_bytes(tar_bytes(members))
    return folder


def write_parquet(folder: Path, parts: Sequence[NDArray[np.uint8]]) -> Path:
    """Writes a shard of one row group of each part, and the index of them."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder.mkdir(parents=True)
    schema = pyarrow.schema({"image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})})
    listed = []
    for shard, tiles_NHWC in enumerate(parts):
        path = folder / f"{shard:03d}.parquet"
        rows = [{"image": {"bytes": png(t), "path": f"{n}.png"}} for n, t in enumerate(tiles_NHWC)]
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        listed.append({"file": path.name, "rows": len(rows), "sha256": sha256})
    index = {"classes": ["tile"], "rows": sum(s["rows"] for s in listed), "shards": listed}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def write_slide(folder: Path, name: str = "a.tif", seed: int = 0) -> Path:
    """Writes a slide of 0.5 micrometres per pixel with two levels."""
    folder.mkdir(parents=True, exist_ok=True)
    slide_HWC, _ = tissue_on_glass(210, 305, seed)
    half_HWC = np.asarray(Image.fromarray(slide_HWC).reduce(2))
    (folder / name).write_bytes(pyramid([slide_HWC, half_HWC], mpp=(0.5, 0.5)))
    return folder


def write_all(root: Path) -> Path:
    """Writes the sources of `KINDS`."""
    write_folder(root / "folder", blobs(10, seed=1))
    write_table(root / "table", blobs(6, seed=2))
    write_tars(root / "tars", [blobs(7, seed=3), blobs(4, seed=4)])
    write_parquet(root / "parquet", [blobs(5, seed=5), blobs(8, seed=6)])
    for number, name in enumerate(("a.tif", "b.tif")):
        write_slide(root / "slides", name, seed=number)
    return root
