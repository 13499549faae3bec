"""Verbs that show what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from histozoo.cli.app import app
from histozoo.console import out


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern on the name.")] = "*",
    recipe: Annotated[str | None, typer.Option(help="Only models of this recipe.")] = None,
    licence: Annotated[str | None, typer.Option(help="Only weights under this licence (SPDX id).")] = None,
    max_mb: Annotated[float | None, typer.Option(help="Only weights up to this many megabytes.")] = None,
    feature_dim: Annotated[int | None, typer.Option(help="Only features of this length.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Only models trained at these micrometres per pixel.")
    ] = None,
) -> None:
    """List the models of the zoo."""
    from histozoo import registry, tables

    max_bytes = None if max_mb is None else int(max_mb * 1e6)
    names = registry.list_models(
        pattern, recipe=recipe, licence=licence, max_bytes=max_bytes, feature_dim=feature_dim, mpp=mpp
    )
    # A pipe gets names alone, one a line, for other programs.
    if out.is_terminal:
        out.print(tables.models([registry.entry(name) for name in names]))
    elif names:
        out.print("\n".join(names))


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Name of a model, or a bundle folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print the whole entry as JSON.")] = False,
) -> None:
    """Show what is known about a model."""
    from histozoo import durable, registry, tables

    entry = registry.resolve(name)
    out.print(durable.to_json(entry.raw), end="", soft_wrap=True, markup=False) if json else out.print(
        tables.entry(entry)
    )
