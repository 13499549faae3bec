"""The verbs. Each imports what it needs when it runs, so that `histozoo list` costs no torch; the work itself is done elsewhere.

Exit codes: 0 done; 2 usage; 3 bytes or provenance are not what was published; 4 finished, with rejected inputs listed in a report;
5 disk, network or permission; 75 interrupted, safe to run again. Errors are one short text; `--debug` adds the stack trace.
"""

from __future__ import annotations

from histozoo.cli import looking, making, measuring, pool, studying, using
from histozoo.cli.app import app

__all__ = ["app", "looking", "main", "making", "measuring", "pool", "studying", "using"]


def main() -> None:
    """Runs the command line; the entry point of the console script."""
    app(prog_name="histozoo")
