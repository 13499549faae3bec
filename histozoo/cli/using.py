"""Verbs that use a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from histozoo.cli.app import app
from histozoo.console import out, progress_bar

Precision = Literal["float32", "bfloat16", "float16"]
Edge = Literal["reject", "pad-white"]


@app.command()
def embed(
    source: Annotated[Path, typer.Argument(help="Folder of tiles, or a CSV with a column 'file'.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Feature file: .safetensors, .h5 or .hdf5.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Name of a model, or a bundle folder.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles per forward pass.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of the tiles, when known.")] = None,
    max_rejected: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Stop above this share of rejected tiles; the first ten never stop it."
        ),
    ] = 0.01,
    edge: Annotated[
        Edge,
        typer.Option(help="Tiles under a quarter of the model's: refuse them, or put them on white."),
    ] = "reject",
    keep_others: Annotated[
        bool, typer.Option("--keep-others", help="Go on where OUT holds tiles that SOURCE does not name.")
    ] = False,
) -> None:
    """Turn tiles into features; exit code 4 says that some tiles were rejected."""
    from histozoo import embed as embedding
    from histozoo import tables

    with progress_bar("embedding") as progress:
        report = embedding.embed(
            source,
            target,
            model=model,
            batch_size=batch_size,
            device=device,
            mpp=mpp,
            edge=edge,
            max_rejected=max_rejected,
            keep_others=keep_others,
            progress=progress,
        )
    out.print(tables.embedded(report))


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of a model, or a bundle folder.")],
    dtype: Annotated[
        Precision, typer.Option(help="Precision of the model; pixels are always compared in float32.")
    ] = "float32",
) -> None:
    """Recompute a model's golden features on this machine and compare."""
    from histozoo.verify import verify as recompute

    report = recompute(name, dtype=dtype)
    out.print(report.text(), markup=False, soft_wrap=True)
    report.require()


@app.command()
def demo(
    tiles: Annotated[
        Path | None, typer.Option(help="Folder of tiles; the shipped examples where left out.")
    ] = None,
    target: Annotated[Path, typer.Option("--out", help="Folder for features and pictures.")] = Path(
        "runs/demo"
    ),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The first embedded model where left out.")
    ] = None,
) -> None:
    """Embed a folder of tiles and draw every tile's nearest neighbours."""
    from histozoo import demo as demonstration

    with progress_bar("embedding") as progress:
        shown = demonstration.run(target, tiles=tiles, model=model, progress=progress)
    for line in shown.lines():
        out.print(line, markup=False, soft_wrap=True)
