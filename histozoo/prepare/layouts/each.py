"""From what a dataset lists to its pictures, one by one, so that a faulty one can be left out without the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Fault, Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source

Item = TypeVar("Item")


def each(
    source: Source,
    items: Iterable[Item],
    make: Callable[[Item], Picture],
    *,
    name: Callable[[Item], str] = str,
) -> list[Picture]:
    """Returns the picture of each item; where the source lists faults, one that cannot be made is listed with its fault.

    Args:
        source: Says by `lists_faults` which of the two is asked for.
        items: Members of the source, rows of a table or whatever else stands for one picture.
        make: Makes the picture of an item.
        name: Of the picture of an item that cannot be made; unique within the dataset.

    Raises:
        UsageError: `HZ-U73`, of the first item that is not as published; only where the source does not list faults.
    """
    found = []
    for item in items:
        try:
            found.append(make(item))
        except UsageError as error:
            if error.code != "HZ-U73":
                raise
            if not source.lists_faults:
                error.next_step += "; or leave out, and list, what is not as published with --skip-bad"
                raise
            found.append(Picture(name=name(item), group="", fault=Fault.of(error)))
    return found
