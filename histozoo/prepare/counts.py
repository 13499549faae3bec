"""What came out of a preparation, and whether it is what was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histozoo.data.rows import check_classes
from histozoo.errors import UsageError
from histozoo.prepare.pictures import Picture
from histozoo.prepare.plan import Preparation
from histozoo.tasks.base import Task

_ACCEPT = (
    "or, if this archive is what you mean to use, run the same command with --accept-counts: the numbers that came out "
    "then stand beside the published ones in prepared.json"
)
_COUNTED = ("classes", "splits", "groups", "left_out", "treated")


@dataclass(kw_only=True)
class Report:
    """What became of every picture and how many tiles there are.

    Args:
        task: Name of the task.
        folder: Where the table is, or the work folder while it is not finished.
        n_pictures: Pictures to prepare; done, rejected and not reached sum to it.
        n_done: Pictures whose tiles are there.
        n_reused: Of those, the ones that an earlier run had done.
        n_not_reached: Pictures that nobody opened, because the run stopped.
        rejected: Name, code and reason of each picture that was left out.
        empty: Names of pictures that are done and gave no tile.
        classes: Tiles of each class.
        splits: Tiles of each split; "" where there is none.
        groups: Tiles of each group.
        left_out: Tiles not written because the task excludes their label.
        treated: Pictures that were stored as something else than upright 8-bit RGB, by what was done to them (`Told.words`).
        differences: Where the numbers are not the published ones; one sentence each.
    """

    task: str
    folder: str
    n_pictures: int
    n_done: int = 0
    n_reused: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    treated: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    @property
    def n_not_reached(self) -> int:
        """Pictures that were not opened."""
        return self.n_pictures - self.n_done - len(self.rejected)

    @property
    def n_tiles(self) -> int:
        """Tiles written."""
        return self.classes.total()

    def add(self, facts: Mapping[str, Any]) -> None:
        """Adds what the `done.json` of one chunk says."""
        self.n_done += facts["pictures"]
        self.rejected += facts["rejected"]
        self.empty += facts["empty"]
        self.left_out.update(facts["left_out"])
        self.treated.update(facts["treated"])
        for label, split, group, n in facts["counts"]:
            self.classes[label] += n
            self.splits[split] += n
            self.groups[group] += n

    @classmethod
    def read(cls, task: str, folder: Path, manifest: Mapping[str, Any]) -> Report:
        """Returns the report of an earlier run, from its manifest."""
        came = manifest["came_out"]
        pictures = came["pictures"]
        return cls(
            task=task,
            folder=str(folder),
            n_pictures=pictures["input"],
            n_done=pictures["done"],
            n_reused=pictures["done"],
            rejected=came["rejected"],
            empty=came["without_tiles"],
            differences=came["differences"],
            **{name: Counter(came[name]) for name in _COUNTED},
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the part of the manifest that says what came out; equal however often the run was interrupted.

        Raises:
            AssertionError: The pictures do not sum up.
        """
        assert self.n_not_reached >= 0 and self.classes.total() == self.splits.total() == self.groups.total()
        by_name = {"key": lambda r: r["name"]}
        return {
            "pictures": {
                "input": self.n_pictures,
                "done": self.n_done,
                "rejected": len(self.rejected),
                "not_reached": self.n_not_reached,
                "without_tiles": len(self.empty),
            },
            "tiles": self.n_tiles,
            **{name: dict(sorted(getattr(self, name).items())) for name in _COUNTED},
            "differences": self.differences,
            "rejected": sorted(self.rejected, **by_name),  # type: ignore[call-overload]
            "without_tiles": sorted(self.empty),
        }


def check_pictures(
    where: str, plan: Preparation, pictures: Sequence[Picture], *, accept: bool = False
) -> list[str]:
    """Refuses an archive that has another number of pictures than published, or returns the difference as a sentence.

    Args:
        where: The source, for the message.
        plan: Says how many were published, where that is known.
        pictures: What is there.
        accept: Another number is accepted.

    Raises:
        UsageError: `HZ-E35`, with what is there by label, split and group; not where it is accepted.
    """
    # One that is not as published may be a published one that was damaged, or a stranger: neither number is a difference.
    usable = sum(picture.fault is None for picture in pictures)
    if plan.pictures is None or usable <= plan.pictures <= len(pictures):
        return []
    n = max(usable, min(len(pictures), plan.pictures))
    if accept:
        return [_differs("pictures", plan.pictures, n)]
    missing = plan.pictures - n
    what = f"{missing:,} pictures are missing" if missing > 0 else f"there are {-missing:,} pictures too many"
    parts = f" of these parts: {', '.join(plan.parts)}" if plan.parts else ""
    raise UsageError(
        "HZ-E35",
        f"{what}: the archive is not the published one",
        where=where,
        expected=f"{plan.pictures:,} pictures{parts}",
        got=f"{n:,} pictures; {_there(pictures)}",
        kept="nothing was written",
        next_step=f"complete the archive and run the same command again; {_ACCEPT}",
    )


def differences(task: Task, report: Report) -> list[str]:
    """Returns a sentence for each number that was published and did not come out; empty where all agree or none was published."""
    published = [
        ("class", report.classes, dict(zip(task.classes, task.counts or (), strict=False))),
        ("split", report.splits, dict(task.split_counts)),
    ]
    found = [
        _differs(f"{kind} {name}", expected, got[name])
        for kind, got, wanted in published
        for name, expected in wanted.items()
        if got[name] != expected
    ]
    shifts = getattr(task.preparation.rule, "shifts", 0) if task.preparation else 0
    for name, n in task.objects.items() if shifts else ():
        # Each object gives that many tiles, fewer only in a corner.
        if (objects := -(-report.classes[name] // shifts)) != n:
            found.append(_differs(f"annotated objects of class {name}", n, objects))
    if task.total is not None and report.n_tiles != task.total:
        found.append(_differs("tiles in all", task.total, report.n_tiles))
    return found


def check_tiles(task: Task, report: Report, *, kept: Path, accept: bool = False) -> None:
    """Refuses a result that is not the published one; a picture that was rejected excuses other numbers, not an empty class.

    Args:
        task: Says what was published.
        report: Says what came out.
        kept: Where the tiles are, for the message.
        accept: Other numbers are accepted; an empty class is not.

    Raises:
        UsageError: `HZ-E36` a class without a tile; `HZ-E35` other numbers than published.
    """
    if report.differences and not report.rejected and not accept:
        raise UsageError(
            "HZ-E35",
            "the tiles are not as many as published",
            where=f"task {task.name}",
            expected=_table(task, published=True, report=report),
            got=_table(task, published=False, report=report) + "; " + "; ".join(report.differences),
            kept=f"all tiles are in {kept} and nothing was moved into place; {_empty(report)}",
            next_step=f"complete the archive, then remove that folder and prepare again; {_ACCEPT}",
        )
    check_classes(kept, report.classes, task.classes)


def _differs(what: str, expected: int, got: int) -> str:
    change = f"{expected - got:,} missing" if got < expected else f"{got - expected:,} too many"
    return f"{what}: {got:,} instead of {expected:,} ({change})"


def _table(task: Task, *, published: bool, report: Report) -> str:
    counts = dict(zip(task.classes, task.counts, strict=False)) if task.counts else {}
    numbers: Iterable[tuple[str, Any]] = (
        [(c, counts.get(c, "?")) for c in task.classes]
        if published
        else [(c, report.classes[c]) for c in task.classes]
    )
    return ", ".join(f"{c}: {n:,}" if isinstance(n, int) else f"{c}: not known" for c, n in numbers)


def _empty(report: Report) -> str:
    if not report.empty:
        return "every picture gave tiles"
    more = f" and {len(report.empty) - 5:,} more" if len(report.empty) > 5 else ""
    return f"{len(report.empty):,} pictures gave no tile: {', '.join(sorted(report.empty)[:5])}{more}"


def _there(pictures: Sequence[Picture]) -> str:
    """Returns what is there, by label, by split and by group, as far as it says something."""
    parts = []
    for what, values in (
        ("label", [p.label for p in pictures]),
        ("split", [p.split for p in pictures]),
        ("group", [p.group for p in pictures]),
    ):
        counts = Counter(v for v in values if v)
        if 1 <= len(counts) <= 40:
            parts.append(f"by {what}: " + ", ".join(f"{k}: {n:,}" for k, n in sorted(counts.items())))
        elif counts:
            parts.append(f"{len(counts):,} {what}s of {min(counts.values()):,} to {max(counts.values()):,}")
    return "; ".join(parts) or "none"
