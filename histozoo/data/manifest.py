"""What `histozoo prepare` leaves beside a table that it wrote, as far as readers of the table must know it. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "prepared.json"


def accepted_counts(
    folder: Path, classes: Sequence[str], declared: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Returns the numbers of tiles that a folder must hold: the declared ones, or those that whoever prepared it took in their place.

    They did where they accepted other numbers, left out bad pictures, or made a trial of a few pictures; the folder's manifest says so.

    Args:
        folder: Folder of a task.
        classes: Label words, in order.
        declared: Tiles of each class as published; None where that is not known.

    Returns:
        Tiles of each class; None where nobody said.
    """
    path = folder / MANIFEST
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        published, came_out = told["published"], told["came_out"]
        if published.get("accepted") or not published["compared"] or came_out["rejected"]:
            return tuple(came_out["classes"].get(name, 0) for name in classes)
    return tuple(declared) if declared else None
