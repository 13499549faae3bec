"""A task's original archive -> its table of tiles, on all cores, in bounded memory, continued after any end.

Pictures are dealt in fixed chunks, a function of their list alone. A chunk is cut by one worker into a staged folder and moved into place
by this process, so that a run that was killed and started again ends with the same bytes as one that was not. Every picture ends as
done, rejected with a reason, or not reached; the three sum to the number of pictures.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from histozoo import durable
from histozoo.claim import claimed
from histozoo.errors import Interrupted, ResourceError, UsageError
from histozoo.prepare import checks, counts, facts, output, pool
from histozoo.prepare.chunks import BadPicture, Job, folder_name
from histozoo.prepare.counts import Report
from histozoo.prepare.journal import Journal
from histozoo.prepare.pictures import Picture
from histozoo.prepare.plan import Preparation
from histozoo.prepare.progress import Progress, Told
from histozoo.tasks.base import Task


def prepare(
    task: Task,
    source: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    shards: bool = False,
    skip_bad: bool = False,
    max_pictures: int | None = None,
    accept_counts: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Cuts the tiles of `task` from its original files into `out/<task.folder>`; started again, it continues, and ends with the same bytes.

    The folder appears in one step when all is done and the numbers are the published ones: `labels.csv` with the columns of
    `chunks.COLUMNS` and the tiles below `images/`, or Parquet shards with `index.json`; and `prepared.json`, which says what was made of
    what. Until then everything is in `out/.prepare/<task.name>`. Where the folder is there already and made of the same, nothing is done.

    Args:
        task: A task that declares a preparation.
        source: Folder or archive as its authors published it.
        out: Folder of the task folders.
        workers: Processes; None is one per core, 0 works in this process. The output does not depend on it.
        shards: Write Parquet shards in place of single files.
        skip_bad: Leave out pictures that cannot be used, that a table lists and that are missing, that lack their annotation or are of
            no published class or name, and list them in `prepared.json`; otherwise the first one ends the run.
        max_pictures: A trial with so many pictures, evenly spaced, in a root of its own (`output.trial_root`); published numbers of
            tiles are then not compared, and `prepared.json` says so.
        accept_counts: Take other numbers than the published ones; `prepared.json` and the report list every difference. A finished
            folder whose numbers were not accepted then gets that written down.
        progress: Called with the numbers of pictures done and of all pictures.

    Raises:
        UsageError: `HZ-U30` the task has no preparation; `HZ-U66` `out` lies inside the source; `HZ-U72` to `HZ-U75` the source is not
            as published; `HZ-U77` the folder holds something else; `HZ-E34` unknown label, or none that is a class of the task; `HZ-E35`
            other numbers than published; `HZ-E36` a class without a tile, or every picture rejected; or the code of the first bad
            picture.
        RejectedInputs: `HZ-U78`, finished, but pictures were left out.
        Interrupted: `HZ-U79`, stopped by Ctrl-C or SIGTERM; what was done is kept.
        ResourceError: `HZ-U80` a worker was killed; `HZ-H60` another process prepares this task here; `HZ-F42` disk full.
    """
    plan = _declared(task)
    output.check_outside(source, out)
    root = Path(out) if max_pictures is None else output.trial_root(out, max_pictures)
    work = root / ".prepare" / task.name
    made = [folder for folder in (root, Path(out)) if not folder.exists()]
    run = _Run(task, plan, work, root / task.folder, accept=accept_counts, skip_bad=skip_bad)
    try:
        with claimed(work), pool.sigterm_as_ctrl_c():
            try:
                run.open(str(source), shards=shards, max_pictures=max_pictures)
                run.go(workers=workers, progress=progress)
            except KeyboardInterrupt as interrupt:
                raise run.interrupted() from interrupt
            finally:
                run.tidy()
    finally:
        output.remove_empty([work.parent, *made])
    run.raise_for_rejected()
    return run.report


class _Run:
    """One call of `prepare`."""

    def __init__(
        self, task: Task, plan: Preparation, work: Path, target: Path, *, accept: bool, skip_bad: bool
    ) -> None:
        self.task, self.plan, self.work, self.target = task, plan, work, target
        self.accept, self.skip_bad = accept, skip_bad
        self.accepted = False
        self.worthless = False
        self.scratch = work / "scratch"
        self.report = Report(task=task.name, folder=str(work), n_pictures=0)
        self.chunks: list[Sequence[Picture]] = []
        self.trial = False
        self.shards = False
        self.common = ""

    def open(self, where: str, *, shards: bool, max_pictures: int | None) -> None:
        """Opens the source, lists the pictures and writes down what is going to be prepared."""
        from histozoo.prepare.sources import open_source

        self.scratch.mkdir(parents=True, exist_ok=True)
        self.where = where
        self.source = open_source(where, scratch=self.scratch, lists_faults=self.skip_bad)
        listed = facts.pictures_of(self.source, self.plan)
        self.other = counts.check_pictures(where, self.plan, listed, accept=self.accept)
        pictures = facts.sample(listed, max_pictures)
        self.trial, self.shards = len(pictures) < len(listed), shards
        self.chunks = facts.dealt(pictures)
        self.common = facts.common_folder(listed)
        self.report.n_pictures = len(pictures)
        self.facts = facts.facts_of(self.task, self.plan, self.source, pictures, shards=shards)
        self.journal = Journal(self.work, shards=shards)

    def go(self, *, workers: int | None, progress: Progress | None) -> None:
        """Cuts what no earlier run has cut, checks the numbers and puts the folder into place."""
        if manifest := output.earlier(self.target, self.facts, self.task.table):
            self.report = Report.read(self.task.name, self.target, manifest)
            self.accepted = manifest["published"].get("accepted", False)
            if self.accept and self.report.differences and not self.accepted:
                output.accept(self.target, manifest)
                self.accepted = True
            shutil.rmtree(self.work)
            return
        self.journal.begin(self.facts, self._without_refused)
        try:
            self._cut(workers, progress)
        except BadPicture as bad:
            raise self._refused(bad) from bad.error
        finally:
            with suppress(ResourceError):  # must not hide the error that is on its way
                durable.write_json(self.work / "report.json", self.report.to_json())
        self._finish()

    def _cut(self, workers: int | None, progress: Progress | None) -> None:
        finished = self.journal.finished(len(self.chunks))
        for known in finished.values():
            self.report.add(known)
        self.report.n_reused = self.report.n_done
        left = [
            (number, pictures, self.journal.staged / folder_name(number))
            for number, pictures in enumerate(self.chunks)
            if number not in finished
        ]
        n = min(pool.cores() if workers is None else workers, len(left))
        tell = Told(self.report, n, progress)
        job = Job(
            source=self.source,
            plan=replace(self.plan, notes={}),
            classes=self.task.classes,
            excluded=frozenset(self.task.exclude_classes),
            skip_bad=self.skip_bad,
            packed=self.shards,
            common=self.common,
        )

        def done(number: int, known: dict[str, Any]) -> None:
            self.journal.commit(number, self.journal.staged / folder_name(number))
            self.report.add(known)

        if n:
            pool.cut_in_workers(job, left, n, at=tell.at, done=done)
        elif left:
            pool.cut_here(job, left, at=tell.at, done=done)
        tell.end()

    def _finish(self) -> None:
        n = len(self.chunks)
        if self.report.rejected and not self.report.n_done:
            raise self._of_another_task() or self._nothing_left()
        compared = [] if self.trial else counts.differences(self.task, self.report)
        self.report.differences = [*self.other, *compared]
        if not self.trial:
            counts.check_tiles(self.task, self.report, kept=self.work, accept=self.accept)
        self.accepted = self.accept and bool(self.report.differences)
        table_sha256 = output.table_sha256(self.journal, n)
        if self.shards:
            from histozoo.prepare.parquet import write_shards

            write_shards(self.journal, n, self.task)
        else:
            output.write_table(self.journal, n, self.task.table)
        published = {
            "pictures": self.plan.pictures,
            "classes": dict(zip(self.task.classes, self.task.counts or (), strict=False)),
            "splits": dict(self.task.split_counts),
            "tiles": self.task.total,
            "compared": not self.trial,
            "accepted": self.accepted,
        }
        manifest = {
            "made_of": self.facts,
            "source_name": Path(self.where).name,
            "published": published,
            "came_out": self.report.to_json(),
            "table_sha256": table_sha256,
        }
        output.put_in_place(self.journal, self.target, manifest)
        self.report.folder = str(self.target)
        shutil.rmtree(self.work)

    def _without_refused(self, before: dict[str, Any]) -> bool:
        """Says whether the source differs from an earlier start's only in the picture that was refused then, because it was mended."""
        note = self.journal.refused()
        if not note or before["source"] == self.facts["source"]:
            return False
        return bool(
            {**before, "source": 0} == {**self.facts, "source": 0}
            and note["source"] == facts.fingerprint(self.source, note["members"])
        )

    def _of_another_task(self) -> UsageError | None:
        """Returns the error for a source none of whose labels fits, if it is one."""
        labels = checks.no_label_fits(self.task, (p for chunk in self.chunks for p in chunk))
        self.worthless = bool(labels)
        return checks.of_another_task(self.task, labels, self.where) if labels else None

    def _nothing_left(self) -> UsageError:
        self.worthless = True
        return checks.nothing_left(self.task, self.report.rejected, self.where)

    def _refused(self, bad: BadPicture) -> UsageError:
        if bad.error.code == "HZ-E34" and (other := self._of_another_task()):
            return other
        members = [m for m in (bad.picture.name.partition("#")[0], bad.picture.marks) if m]
        self.journal.note_refused(members, facts.fingerprint(self.source, members))
        error = bad.error
        where = error.where if bad.picture.name in error.where else f"{bad.picture.name}: {error.where}"
        step = "mend the picture and run the same command again, or leave out bad pictures with --skip-bad"
        return UsageError(
            error.code,
            error.what,
            where=where.removesuffix(": "),
            expected=error.expected,
            got=error.got,
            kept=self._kept(),
            next_step=f"{error.next_step}; then {step}" if error.next_step else step,
        )

    def interrupted(self) -> Interrupted:
        """Returns the error `HZ-U79`."""
        return Interrupted(
            "HZ-U79",
            "stopped before all pictures were cut",
            where=self.work,
            got=f"{self.report.n_done:,} of {self.report.n_pictures:,} pictures done",
            kept=self._kept(),
            next_step="run the same command again; it continues",
        )

    def raise_for_rejected(self) -> None:
        """Raises what tells the caller that the work is done but not all of it could be used."""
        if self.report.rejected:
            raise checks.some_rejected(self.report, self.target, accepted=self.accepted)

    def tidy(self) -> None:
        """Removes what `open` left if nothing was begun, and what is of no use; whatever else lies in the work folder stays."""
        if self.worthless:
            shutil.rmtree(self.work, ignore_errors=True)
        if not (self.work / "facts.json").exists():
            shutil.rmtree(self.scratch, ignore_errors=True)
            with suppress(OSError):  # there is something else in it, or it is gone already
                self.work.rmdir()

    def _kept(self) -> str:
        return (
            f"{self.report.n_done:,} of {self.report.n_pictures:,} pictures are done and kept in {self.work}"
        )


def _declared(task: Task) -> Preparation:
    if task.preparation is None:
        raise UsageError(
            "HZ-U30",
            f"task {task.name!r} has no preparation",
            expected="a task whose declaration says how its tiles are cut",
            next_step="its folder is read as its authors give it; `histozoo tasks` says where to get it",
        )
    if task.cut_px or task.centre_px or task.group_rule or task.group_column != "group":
        raise ValueError(
            f"task {task.name!r} is prepared, so it must be read as it lies, by the column group"
        )
    return task.preparation
