"""What is asked of one picture: that it is the file its table means, and that its label is a class of the task."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from histozoo.errors import UsageError
from histozoo.prepare.pictures import Picture

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


def check_hash(source: Source, picture: Picture) -> None:
    """Refuses a file whose sha256 is not the one that its table gives; JPEG and WebP tell a changed byte in no other way.

    Raises:
        UsageError: `HZ-D25`; and what reading the member raises.
    """
    told = picture.sha256.strip().lower()
    if not told:
        return
    found = hashlib.sha256(source.read(picture.name)).hexdigest()
    if found != told:
        raise UsageError(
            "HZ-D25",
            "the file is not the one whose hash the table gives",
            where=picture.name,
            expected=f"sha256 {told[:12]}...",
            got=f"sha256 {found[:12]}...",
            next_step="restore the file from its origin",
        )


def unknown_label(picture: Picture, label: str, classes: Sequence[str]) -> UsageError:
    """Returns the error `HZ-E34` for a label that the task does not know."""
    folded = {c.strip().casefold(): c for c in classes}
    close = difflib.get_close_matches(label, classes, 1, 0.5)
    near = folded.get(label.strip().casefold()) or (close[0] if close else "")
    return UsageError(
        "HZ-E34",
        "a label is not a class of this task",
        where=picture.name,
        expected=", ".join(classes) + (f"; nearest is {near!r}" if near else ""),
        got=repr(label),
        next_step="correct the annotation; labels are matched letter by letter",
    )
