"""A study's folder: what it was started with, the time it took, its report, and the mark that the report is whole."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histozoo import __version__, durable, run_folder
from histozoo.errors import IntegrityError, UsageError
from histozoo.studies.crew import Crew

HEAD = (
    "part", "task", "lineage", "setting", "model", "minus", "metric", "value", "low", "high", "p_holm", "detectable", "outcome",
    "n", "n_groups", "seen",
)  # fmt: skip
"""Columns of results.csv; `minus` is blank where the value is no difference; `low`, `high` are the 95 % interval over groups, of mean ranks
over tasks and groups."""

LARGEST = 300_000
"""Bytes of a report that is put into a repository."""

DONE = "DONE.json"
"""The mark that a report is whole."""

_STUDY, _TIME = "study.json", "time.json"


@dataclass
class Bench:
    """Where a study works, and what it says of its progress.

    Args:
        out: Its folder.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        cache: Folder of decoded tiles and features.
        device: Where models run.
        tell: Receives a line per step.
        crew: The processes that work on it together.
        before: Seconds of earlier starts.
        starts: Earlier starts.
    """

    out: Path
    data_root: Path | None
    cache: Path
    device: str = "cpu"
    tell: Callable[[str], None] = lambda line: None
    crew: Crew = field(default_factory=Crew)
    before: float = 0.0
    starts: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds of this start and of those before it, as far as they were written down."""
        return self.before + time.monotonic() - self.began

    def say(self, line: str) -> None:
        """Tells a line and writes the time down, so that a kill loses one step of it."""
        self.tell(line)
        self.note()

    def note(self) -> None:
        """Writes the time down."""
        durable.write_json(self.out / _TIME, {"seconds": round(self.seconds, 1), "starts": self.starts + 1})


@contextmanager
def opened(bench: Bench, facts: Mapping[str, Any]) -> Iterator[Bench]:
    """Holds the folder for this process; a study that was killed goes on, and a later start may add models.

    Args:
        bench: Where to work.
        facts: What the study is; a second start must agree.

    Raises:
        UsageError: `HZ-F48`, another process works in the folder.
        IntegrityError: `HZ-F44`, the folder holds another study, preset or settings.
    """
    bench.out.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(bench.out):
        durable.remove_stale(bench.out)
        _agree(bench.out, json.loads(json.dumps(facts)))
        (bench.out / DONE).unlink(missing_ok=True)
        known = _read(bench.out / _TIME) or {"seconds": 0.0, "starts": 0}
        bench.before, bench.starts, bench.began = known["seconds"], known["starts"], time.monotonic()
        bench.note()
        yield bench


def _fixed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what no later start may change: models may join, and be called otherwise."""
    parts = {
        part: {k: v for k, v in facts.get(part, {}).items() if k not in ("models", "called")}
        for part in ("settings", "changed")
    }
    return {**facts, **parts}


def _models(facts: Mapping[str, Any]) -> set[str]:
    return set(facts.get("settings", {}).get("models", ()))


def _agree(out: Path, facts: dict[str, Any]) -> None:
    before = _read(out / _STUDY)
    if before is None:
        durable.write_json(out / _STUDY, facts)
    elif _fixed(before) == _fixed(facts) and _models(before) <= _models(facts):
        durable.write_json(out / _STUDY, facts)
    else:
        flat = [{**f, **f.get("settings", {})} for f in (before, facts)]
        changed = [k for k in sorted({*flat[0], *flat[1]} - {"settings"}) if flat[0].get(k) != flat[1].get(k)]
        raise IntegrityError(
            "HZ-F44",
            "the folder holds a study of other settings",
            where=out,
            got=", ".join(f"{k}: {flat[0].get(k)!r} before, {flat[1].get(k)!r} now" for k in changed[:3]),
            kept="the folder is untouched",
            next_step="give another folder with --out, or the preset and settings that it was started with",
        )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def finished(out: Path, facts: Mapping[str, Any]) -> bool:
    """Returns whether this very study is finished here, by this version, and every file of its report is what was written.

    Args:
        out: The folder.
        facts: As for `opened`.
    """
    done, before = _read(out / DONE), _read(out / _STUDY)
    whole = done is not None and before == json.loads(json.dumps(facts)) and not _changed(out, done)
    return whole and (_read(out / "results.json") or {}).get("version") == __version__


def _changed(out: Path, done: Mapping[str, str]) -> list[str]:
    """Returns the files that are not what was written, or not there."""
    contents = {n: (out / n).read_bytes() if (out / n).is_file() else b"" for n in done}
    return [n for n, sha256 in done.items() if hashlib.sha256(contents[n]).hexdigest() != sha256]


def finish(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files of the report, and last the mark that they are whole."""
    for name, content in files.items():
        durable.write_bytes(out / name, content)
    durable.write_json(
        out / DONE, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    )


def tidy(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns results as CSV, one line per number, floats to six decimals."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEAD, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def publish(out: Path, target: Path) -> list[str]:
    """Copies report.md, results.csv and plots of a finished study into `target`; returns their names.

    Raises:
        UsageError: `HZ-U85`, the study is not finished, a file of the report was changed, or the report is larger than `LARGEST`.
    """
    done = _read(out / DONE)
    if done is None:
        raise _unfit(
            "the study is not finished",
            out,
            got=f"no {DONE}",
            next_step="give the command that began it again",
        )
    names = [n for n in done if n in ("report.md", "results.csv") or n.endswith((".svg", ".png"))]
    changed = _changed(out, {n: done[n] for n in names})
    if changed:
        raise _unfit(
            "a file of the report was changed",
            out,
            got=", ".join(changed),
            next_step="give the command of the study again: it writes the report anew from what was measured",
        )
    contents = {n: (out / n).read_bytes() for n in names}
    size = sum(map(len, contents.values()))
    if size > LARGEST:
        raise _unfit(
            "the report is too large for a repository",
            out,
            got=f"{size:,} bytes, at most {LARGEST:,}",
            next_step="compare fewer models or tasks",
        )
    for name, content in contents.items():
        durable.write_bytes(target / name, content)
    return names


def _unfit(what: str, where: Path, *, got: str, next_step: str) -> UsageError:
    return UsageError("HZ-U85", what, where=where, got=got, kept="nothing was copied", next_step=next_step)
