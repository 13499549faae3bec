"""What is asked of pictures: that each is the file its table means, that its label is a class of the task, that some can be used."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from histozoo.data.manifest import MANIFEST
from histozoo.data.rows import Cells, Row, first_five, read_rows
from histozoo.errors import RejectedInputs, UsageError
from histozoo.prepare.pictures import Picture

if TYPE_CHECKING:
    from histozoo.prepare.counts import Report
    from histozoo.prepare.sources import Source
    from histozoo.tasks.base import Task


def check_fault(picture: Picture) -> None:
    """Refuses a picture of which its listing tells that it cannot be used.

    Raises:
        UsageError: `HZ-D24`, a table lists it and it is not there; `HZ-U73`, it is not as published.
    """
    if picture.fault:
        code, what, where, expected, got, next_step = picture.fault
        raise UsageError(
            code, what, where=where or picture.name, expected=expected, got=got, next_step=next_step
        )


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


def no_label_fits(task: Task, pictures: Iterable[Picture | Row]) -> Counter[str]:
    """Returns the labels of a table and their numbers where none is a class of the task, nor one it leaves out; otherwise nothing."""
    labels = Counter(p.label for p in pictures if p.label)
    return Counter() if labels.keys() & {*task.classes, *task.exclude_classes} else labels


def of_another_task(task: Task, labels: Counter[str], where: object) -> UsageError:
    """Returns the error `HZ-E34` for a source none of whose labels fits; names the tasks that know all of them."""
    from histozoo.tasks import TASKS

    owners = [t.name for t in TASKS.values() if labels.keys() <= {*t.classes, *t.exclude_classes}]
    those = f"; all of these are classes of {', '.join(owners)}" if owners else ""
    return UsageError(
        "HZ-E34",
        f"no label of this table is a class of {task.name}; is this another task's data?",
        where=where,
        expected=first_five("", task.classes, 20),
        got=first_five("", [f"{label} ({n:,})" for label, n in labels.most_common()], 20) + those,
        kept="nothing was written",
        next_step=f"`histozoo tasks {task.name}` says which data the task is made from",
    )


def rows_of(path: Path, group: Callable[[Cells], str], *, task: str) -> list[Row]:
    """Returns the lines of a table, the groups as a task of this name forms them ("" for none).

    Raises:
        UsageError: As `read_rows`; but where that fails and no label is a class of the task, what `of_another_task` gives: names that
            a rule cannot read are most often those of another dataset.
    """
    from histozoo.tasks import TASKS

    try:
        return read_rows(path, group)
    except UsageError as error:
        labels = Counter[str]()
        if task in TASKS:
            with suppress(UsageError):  # no table at all: the first error says so
                labels = no_label_fits(TASKS[task], read_rows(path, "file"))
        if labels:
            raise of_another_task(TASKS[task], labels, path) from error
        raise


def nothing_left(task: Task, rejected: Sequence[dict[str, str]], where: object) -> UsageError:
    """Returns the error `HZ-E36` for a source of which no picture could be used."""
    reasons = Counter(f"{r['code']} {r['reason']}" for r in rejected)
    return UsageError(
        "HZ-E36",
        f"every picture was rejected, so nothing is left of {task.name}",
        where=where,
        expected="at least one picture that can be used",
        got=first_five("", [f"{n:,} pictures: {reason}" for reason, n in reasons.most_common()]),
        kept="nothing was written",
        next_step=f"compare the source with what `histozoo tasks {task.name}` says; without --skip-bad the first picture is told in full",
    )


def some_rejected(report: Report, target: Path, *, accepted: bool) -> RejectedInputs:
    """Returns the error `HZ-U78`, which tells the caller that the work is done but not all of it could be used.

    Args:
        report: What became of the pictures.
        target: The finished folder.
        accepted: Whether numbers that are not the published ones were accepted.
    """
    path, differences = target / MANIFEST, report.differences
    lines = [*_told(report.rejected, path), *(f"{d}; accepted" if accepted else d for d in differences)]
    step = "to take these numbers, run the same command with --accept-counts added"
    return RejectedInputs(
        "HZ-U78",
        f"{len(report.rejected):,} of {report.n_pictures:,} pictures were rejected",
        where=path,
        expected="the published numbers" if differences and not accepted else "",
        got=("\n" + 12 * " ").join(lines),
        kept=f"{report.n_tiles:,} tiles of {report.n_done:,} pictures are in {target}",
        next_step=step if differences and not accepted else f"{MANIFEST} lists each with its reason",
    )


def _told(rejected: Sequence[dict[str, str]], path: Path, n: int = 20) -> list[str]:
    lines = [f"{r['name']}: {r['code']} {r['reason']}" for r in rejected[:n]]
    return lines + (
        [f"and {len(rejected) - n:,} more; all are listed in {path}"] if len(rejected) > n else []
    )
