"""How the command line speaks: results on stdout, everything else on stderr, each error as one short text with its exit code."""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from histozoo.errors import HistozooError, Interrupted, UsageError

# A terminal knows its width; what goes to a file or another program is not to be cut at 80 columns. Names such as a:x:b are no emoji.
out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False, emoji=False, width=None if sys.stderr.isatty() else 160)


_MISTYPED: Any = typer.BadParameter.__base__
"""What the parser raises for any command that it cannot take; where it is defined depends on typer's version."""


class Verbs(TyperGroup):
    """A group of verbs that turns every error raised on purpose into its text and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; after `--debug` an error shows its stack trace first.

        Raises:
            Exit: With the exit code of the error.
        """
        warnings.showwarning = _show_warning
        # A scheduler's SIGTERM is answered like Ctrl-C; verbs that know better (pretrain) put their own answer over it.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            error: HistozooError = Interrupted(
                "HZ-U60", "interrupted", next_step="the same command may be started again"
            )
        except HistozooError as raised:
            error = raised
        except _MISTYPED as raised:
            error = _as_ours(raised)
        finally:
            signal.signal(signal.SIGTERM, before)
        if ctx.params.get("debug"):
            err.print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True)
        err.print(
            error.text(),
            style="yellow" if isinstance(error, Interrupted) else "red",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(error.exit_code)


def _as_ours(mistyped: Any) -> UsageError:
    """Returns `HZ-U66` for a command that the parser cannot take: an unknown option or verb, a value that it may not have."""
    verb = mistyped.ctx.command_path if mistyped.ctx else "histozoo"
    said = mistyped.format_message().rstrip(".")
    return UsageError("HZ-U66", said[:1].lower() + said[1:], next_step=f"`{verb} --help` shows what it takes")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows what is meant for users, our own warnings, in one line; others belong to developers and are left to `python -W`."""
    if str(message).startswith("HZ-"):
        err.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (handled, all) that moves a bar; shows nothing where stderr is no terminal."""
    with staged_bar(what) as tell:
        yield lambda handled, total: tell(what, handled, total)


@contextmanager
def staged_bar(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function of (stage, handled, all) that moves a bar which begins anew with each stage; the first is shown at once."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        job = bar.add_task(first, total=None)
        stage = first

        def tell(now: str, handled: int, total: int) -> None:
            nonlocal stage
            if now != stage:
                bar.reset(job, description=now)
                stage = now
            bar.update(job, completed=handled, total=total)

        yield tell
