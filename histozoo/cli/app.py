"""The command line itself: its name, its options, and how it ends. The verbs stand in the modules beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from histozoo import __version__
from histozoo.console import Verbs, out

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"histozoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Pathology backbones with verified weights."""
