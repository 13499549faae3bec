"""Every way by which a tile's file becomes pixels, run over the specimens of `badtiles`: what each makes of each file.

A verdict is the pixels `[H, W, 3]`, the feature `[D]`, or the code of the refusal.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histozoo import embed, feature_files
from histozoo.data import tables, tiles
from histozoo.data.decoding import decode
from histozoo.data.streamed import open_shards
from histozoo.data.unlabelled import as_dataset
from histozoo.errors import HistozooError, RejectedInputs, UsageError
from histozoo.prepare.engine import prepare
from histozoo.prepare.layouts.tile_table import TileTable, as_is
from histozoo.prepare.plan import Preparation
from histozoo.prepare.rules import Whole
from histozoo.tasks.base import Task
from tests.fakes import badtiles
from tests.fakes.tiny import NAME

CLASSES = ("a", "b")
Verdict = str | NDArray[Any]
Verdicts = dict[str, Verdict]


def write_table(folder: Path, only: Sequence[str] = ()) -> Path:
    """Writes the specimens, or those named, and a table that lists them, labels in turn; returns the folder's parent."""
    chosen = [s for s in badtiles.specimens() if not only or s.name in only]
    badtiles.write(folder / "images", chosen)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "group"])
        for n, specimen in enumerate(chosen):
            table.writerow([f"images/{specimen.name}", CLASSES[n % 2], f"g{n}"])
    return folder.parent


def task(folder: str, **options: Any) -> Task:
    """A task over such a table."""
    words = {"organ": "none", "stain": "drawn", "licence": "CC0-1.0", "source": "drawn", "citation": "none"}
    return Task(
        name="bad", kind="multiclass", classes=CLASSES, lineage="bad", folder=folder, **words, **options
    )  # fmt: skip


def _outcome(read: Callable[[], Any]) -> Verdict:
    try:
        return np.asarray(read())
    except UsageError as error:
        return error.code


def by_path(work: Path) -> Verdicts:
    """`decode` of a path."""
    folder = badtiles.write(work / "tiles")
    return {s.name: _outcome(partial(decode, folder / s.name)) for s in badtiles.specimens()}


def by_bytes(work: Path) -> Verdicts:
    """`decode` of bytes."""
    return {s.name: _outcome(partial(decode, s.data)) for s in badtiles.specimens()}


def by_table(work: Path) -> Verdicts:
    """`Task.load` of a table, row by row."""
    dataset = task("bad").load(write_table(work / "bad"))
    return _rows(dataset, lambda row: dataset[row]["image"])


def by_folder(work: Path) -> Verdicts:
    """`read_folder`, row by row."""
    for name in CLASSES:
        badtiles.write(work / "folder" / name)
    dataset = tables.read_folder(work / "folder", classes=CLASSES)
    verdicts = _rows(dataset, lambda row: dataset[row]["image"])
    assert len(dataset) == 2 * len(verdicts)
    return verdicts


def by_pack(work: Path) -> Verdicts:
    """`tiles.pack`, one tile at a time, so that each has its own verdict."""
    dataset = task("bad").load(write_table(work / "bad"))
    return _rows(dataset, lambda row: tiles.pack(dataset.select([row]), badtiles.PX, work / "cache")[0])


def by_cut(work: Path) -> Verdicts:
    """`Task.load` with cutting, which reads every size first; each specimen in a table of its own."""
    root, verdicts = write_table(work / "bad"), {}
    made = task("bad", centre_px=10_000, table="one.csv")
    for specimen in badtiles.specimens():
        (root / "bad" / "one.csv").write_text(
            f'file,label,group\n"images/{specimen.name}",a,g\nmore/plain.png,b,h\n', encoding="utf-8"
        )
        with _alone(root / "bad", specimen.name):
            verdicts[specimen.name] = _outcome(lambda: made.load(root)[0]["image"])
    return verdicts


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Leaves one specimen and one good tile in the folder, so that the table may list them alone."""
    hidden = folder / "images"
    hidden.rename(folder / "all")
    hidden.mkdir()
    (folder / "more").mkdir(exist_ok=True)
    shutil.copy(folder / "all/plain.png", folder / "more/plain.png")
    shutil.copy(folder / "all" / name, hidden / name)
    yield
    shutil.rmtree(hidden)
    (folder / "all").rename(hidden)


def by_audit(work: Path) -> Verdicts:
    """What the audit decodes of a task's rows."""
    from histozoo.audit import reading

    rows = reading.read_rows_of(task("bad"), write_table(work / "bad"))
    found = reading.images(rows, np.arange(len(rows.names)))
    return {
        Path(rows.names[row]).name: tile.code if isinstance(tile, HistozooError) else np.asarray(tile)
        for row, _, tile in found
    }


def by_embed(work: Path) -> Verdicts:
    """`embed` of a folder with the tiny model."""
    return embedded(badtiles.write(work / "tiles"), work / "features.safetensors")


def by_embed_table(work: Path) -> Verdicts:
    """`embed` of a table."""
    found = embedded(write_table(work / "bad") / "bad/labels.csv", work / "features.safetensors")
    return {Path(name).name: verdict for name, verdict in found.items()}


def prepared(work: Path, preparation: Preparation, source: Path, **options: Any) -> Path:
    """Prepares the specimens, bad ones left out, and returns the folder."""
    made = task("made", preparation=preparation)
    try:
        prepare(made, source, work / "out", skip_bad=True, **{"workers": 0, **options})
    except RejectedInputs:
        pass
    return work / "out/made"


def as_png() -> Preparation:
    """Whole pictures, written anew."""
    return Preparation(layout=TileTable(folder="bad").layout(), rule=Whole(), format="png")


def by_prepare(work: Path) -> Verdicts:
    """`prepare` of a folder."""
    return _of_files(prepared(work, as_png(), write_table(work / "source/bad")))


def by_prepare_zip(work: Path) -> Verdicts:
    """`prepare` of two archives, which copies the bytes of what it accepts; one may not hold two spellings of a name."""
    verdicts: Verdicts = {}
    twice = unicodedata.normalize("NFD", "caf\u00e9.png")
    for n, names in enumerate(
        ([s.name for s in badtiles.specimens() if s.name != twice], [twice, "plain.png"])
    ):
        at = work / str(n)
        archive = shutil.make_archive(str(at / "bad"), "zip", write_table(at / "source/bad", names))
        verdicts |= _of_files(prepared(at, as_is("bad"), Path(archive)))
    return verdicts


def by_prepare_shards(work: Path) -> Verdicts:
    """`prepare` into shards, in worker processes."""
    import pyarrow.parquet

    out = prepared(work, as_png(), write_table(work / "source/bad"), shards=True, workers=2)
    verdicts = _rejected(out)
    for shard in sorted(out.rglob("*.parquet")):
        for row in pyarrow.parquet.read_table(shard).to_pylist():
            verdicts[Path(row["source"]).name] = np.asarray(decode(row["image"]["bytes"]))
    return verdicts


def by_unlabelled(work: Path) -> Verdicts:
    """`pack` of a folder of unlabelled tiles, one tile at a time."""
    dataset = as_dataset(badtiles.write(work / "tiles"))
    return _rows(dataset, lambda row: tiles.pack(dataset.select([row]), badtiles.PX, work / "cache")[0])


def by_tar(work: Path) -> Verdicts:
    """A WebDataset shard, whose members are called by number because a key ends at its first dot."""
    with tarfile.open(work / "tiles.tar", "w") as archive:
        for n, specimen in enumerate(badtiles.specimens()):
            member = tarfile.TarInfo(f"{n:03}.png")
            member.size = len(specimen.data)
            archive.addfile(member, io.BytesIO(specimen.data))
    return _of_shards(open_shards(work, px=badtiles.PX, cache=work / "cache"))


def by_parquet(work: Path) -> Verdicts:
    """A Parquet shard that holds encoded tiles, as others write it."""
    import pyarrow
    import pyarrow.parquet

    rows = [{"bytes": s.data, "path": s.name} for s in badtiles.specimens()]
    pyarrow.parquet.write_table(pyarrow.table({"image": rows}), work / "tiles.parquet")
    return _of_shards(open_shards(work, px=badtiles.PX, cache=work / "cache"))


def _of_shards(shards: Any) -> Verdicts:
    places = [(group, row) for group, n in enumerate(shards.sizes.tolist()) for row in range(n)]
    return {
        s.name: _outcome(partial(shards.tile, place))
        for s, place in zip(badtiles.specimens(), places, strict=True)
    }


def _rejected(out: Path) -> Verdicts:
    told = json.loads((out / "prepared.json").read_text())["came_out"]["rejected"]
    return {Path(row["name"]).name: row["code"] for row in told}


def _of_files(out: Path) -> Verdicts:
    verdicts = _rejected(out)
    with (out / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            verdicts[Path(row["source"]).name] = np.asarray(decode(out / row["file"]))
    return verdicts


PATHS: dict[str, Callable[[Path], Verdicts]] = {
    "decode of a path": by_path,
    "decode of bytes": by_bytes,
    "Task.load": by_table,
    "read_folder": by_folder,
    "pack": by_pack,
    "Task.load with a cut": by_cut,
    "embed": by_embed,
    "audit": by_audit,
    "embed of a table": by_embed_table,
    "prepare": by_prepare,
    "prepare of a zip": by_prepare_zip,
    "prepare into shards": by_prepare_shards,
    "unlabelled tiles": by_unlabelled,
    "tar shard": by_tar,
    "Parquet shard": by_parquet,
}
AT_ONE_SIZE = ("pack", "unlabelled tiles", "tar shard", "Parquet shard")
"""Paths that bring every tile to one size."""


def embedded(source: Path, out: Path, **options: Any) -> Verdicts:
    """Features and codes of refusals of all tiles of a folder or table."""
    try:
        embed.embed(source, out, model=NAME, batch_size=8, device="cpu", mpp=0.5, max_rejected=1.0, **options)
    except RejectedInputs:
        pass
    report = json.loads(embed.report_path(out).read_text(encoding="utf-8"))
    assert report["n_input"] == report["n_done"] + report["n_rejected"] and not report["n_not_reached"]
    verdicts: Verdicts = {row["name"]: row["code"] for row in report["rejected"]}
    if out.exists():
        found = feature_files.read(out)
        verdicts |= dict(zip(found.names, found.features_ND, strict=True))
    return verdicts


def expected(path: str, pixels: dict[str, NDArray[np.uint8]], work: Path) -> Verdicts:
    """What a path must make of accepted files with these pixels."""
    if path in AT_ONE_SIZE:
        return {name: tiles.fit(Image.fromarray(p), badtiles.PX) for name, p in pixels.items()}
    if not path.startswith("embed"):
        return dict(pixels)
    folder = work / "plain"
    folder.mkdir()
    for n, p in enumerate(pixels.values()):
        Image.fromarray(p).save(folder / f"{n:03}.png")
    features = embedded(folder, work / "plain.safetensors")
    shutil.rmtree(folder)
    return {name: features[f"{n:03}.png"] for n, name in enumerate(pixels)}


def _rows(dataset: Any, read: Callable[[int], Any]) -> Verdicts:
    files = dataset["file"][:]
    return {Path(name).name: _outcome(partial(read, row)) for row, name in enumerate(files)}
