"""What the layouts of the multi-task paper's datasets share: the parts of a published name, and that they agree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from histozoo.prepare.layouts.reading import some
from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


def listed(source: Source, pattern: str) -> list[str]:
    """Returns the members whose last parts match the shell pattern, sorted.

    Raises:
        UsageError: `HZ-U73`, there are none.
    """
    return some(source.matching(pattern), pattern, source.where)


def fields(name: str, pattern: str, *, like: str) -> Mapping[str, str]:
    """Returns the named groups of a regular expression that the last parts of a member's name must match.

    Args:
        name: Member of the source.
        pattern: Regular expression; it begins at a `/` or at the beginning, and reaches to the end.
        like: A published name, for the message.

    Raises:
        UsageError: `HZ-U73`, another name.
    """
    match = re.search(rf"(?:^|/)(?:{pattern})\Z", name)
    if match is None:
        raise malformed(
            "a file has another name than those published", name, expected=f"such as {like}", got=name
        )
    return match.groupdict()


def agree(name: str, what: str, values: Sequence[str]) -> None:
    """Refuses a member whose folder and file name say different things.

    Raises:
        UsageError: `HZ-U73`.
    """
    if len(set(values)) > 1:
        raise malformed(
            f"folder and file name disagree on the {what}", name, expected=values[0], got=values[1]
        )


def by_last_part(names: Sequence[str]) -> dict[str, str]:
    """Returns the members by the last part of their names.

    Raises:
        UsageError: `HZ-U73`, two have the same.
    """
    found: dict[str, str] = {}
    for name in names:
        last = name.rpartition("/")[2]
        if last in found:
            raise malformed("a file is there several times", name, expected="once", got=f"also {found[last]}")
        found[last] = name
    return found
