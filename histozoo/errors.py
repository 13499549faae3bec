"""Every error a user can meet, in one shape: what, where, expected and got, what was kept, what to do next.

    HistozooError
    ├── UsageError        (ValueError)     exit 2   a name, an option, an experiment or a table is wrong
    ├── IntegrityError    (RuntimeError)   exit 3   bytes, tensors or provenance are not what was published
    ├── RejectedInputs    (ValueError)     exit 4   the work finished, but some inputs were refused; a report was written
    ├── ResourceError     (OSError)        exit 5   disk, network or permission
    └── Interrupted       (RuntimeError)   exit 75  stopped by a signal; run the same command again

Each error carries a stable code such as ``HZ-A02``; docs/errors.md explains every code. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SECRETS = re.compile(r"\b(hf_|ghp_|gho_|github_pat_)[A-Za-z0-9_]{4,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def redact(text: str) -> str:
    """Returns `text` with access tokens and URL passwords masked."""
    return _SECRETS.sub(lambda m: f"{m[1] or ''}***", text)


class HistozooError(Exception):
    """Base of all errors raised on purpose. `str()` gives the full text; fields stay readable one by one.

    Args:
        code: Stable code, `HZ-` plus a letter and two digits, explained in docs/errors.md.
        what: One sentence: what is wrong.
        where: The file, row, tensor or `repo@commit` concerned.
        expected: What would have been accepted.
        got: What was found.
        kept: What is still safe or was left untouched.
        next_step: What the reader can do now.
    """

    exit_code = 1

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: object = "",
        expected: object = "",
        got: object = "",
        kept: str = "",
        next_step: str = "",
    ) -> None:
        self.code, self.what, self.kept, self.next_step = code, what, kept, next_step
        self.where, self.expected, self.got = str(where), str(expected), str(got)
        super().__init__(self.text())

    def text(self) -> str:
        """Returns the message as printed: the sentence, then one indented line per field that is set."""
        fields = {
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "kept": self.kept,
            "next": self.next_step,
        }
        lines = [f"{self.code} {self.what}"]
        lines += [f"  {name + ':':<10}{value}" for name, value in fields.items() if value]
        return redact("\n".join(lines))

    def __str__(self) -> str:
        return self.text()


class UsageError(HistozooError, ValueError):
    """A name, an option, an experiment file or a label table is wrong."""

    exit_code = 2


def all_of(errors: Sequence[UsageError], *, kept: str) -> UsageError:
    """Returns one error for several inputs that were looked at: the first, with the number and the first places of the others.

    Args:
        errors: At least one.
        kept: What is still safe or was left untouched.
    """
    first, others = errors[0], errors[1:]
    more = f"; and {len(others):,} more: " + ", ".join(e.where for e in others[:4]) if others else ""
    fields = {name: getattr(first, name) for name in ("expected", "got", "next_step")}
    return UsageError(first.code, first.what, where=first.where + more, kept=kept, **fields)


class IntegrityError(HistozooError, RuntimeError):
    """Bytes, tensors, preprocessing or provenance are not what was published."""

    exit_code = 3


class RejectedInputs(HistozooError, ValueError):
    """The work finished, but some inputs were refused and are listed in a report."""

    exit_code = 4


class ResourceError(HistozooError, OSError):
    """The disk, the network or a permission stands in the way."""

    exit_code = 5


class Interrupted(HistozooError, RuntimeError):
    """A signal stopped the work after it was saved; the same command continues it."""

    exit_code = 75
