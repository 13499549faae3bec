"""The finished folder: the table, the manifest, and the one rename that makes them appear."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from histozoo import durable
from histozoo.data.manifest import MANIFEST
from histozoo.errors import IntegrityError, UsageError
from histozoo.prepare.chunks import COLUMNS
from histozoo.prepare.journal import Journal, check_same

_PIECE = 1 << 20


def trial_root(out: str | Path, max_pictures: int) -> Path:
    """Returns the root of a trial: a folder of its own, so that no trial stands where the whole set belongs or is taken for it."""
    return Path(out) / f"trial-{max_pictures}-pictures"


def check_outside(source: str | Path, out: str | Path) -> None:
    """Refuses an output that lies inside its own source: the next start would take it for a part of the source.

    Raises:
        UsageError: `HZ-U66`.
    """
    if Path(source).is_dir() and Path(out).resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(
            "HZ-U66",
            "the output would lie inside the source that it is made of",
            where=out,
            expected=f"a folder outside {source}",
            kept="nothing was written",
            next_step="prepare into another folder",
        )


def table_sha256(journal: Journal, chunks: int) -> str:
    """Returns the sha256 of the table, whether it is written as a CSV or its rows go into shards."""
    digest = hashlib.sha256()
    for piece in _pieces(journal, chunks):
        digest.update(piece)
    return digest.hexdigest()


def write_table(journal: Journal, chunks: int, name: str) -> None:
    """Writes the table by putting the chunks' lines one behind the other; memory does not grow with their number."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            _copy(journal, chunks, file)

    durable.write_with(journal.work / name, write)
    journal.add(journal.work / name)


def put_in_place(journal: Journal, target: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest and gives the finished folder its name."""
    durable.write_json(journal.work / MANIFEST, manifest)
    journal.add(journal.work / MANIFEST)
    durable.move(journal.table, target)


def earlier(target: Path, facts: Mapping[str, Any], table: str) -> dict[str, Any] | None:
    """Returns the manifest of a folder that was prepared from the same facts before, or None where there is no folder.

    Raises:
        UsageError: `HZ-U77`, the folder was not prepared by us, or from something else.
        IntegrityError: `HZ-U77`, its table was changed since.
    """
    if not target.exists():
        return None
    path = target / MANIFEST
    if not path.is_file():
        raise UsageError(
            "HZ-U77",
            "the folder is there already, and prepare did not write it",
            where=target,
            expected=f"no such folder, or one with {MANIFEST}",
            kept="the folder is untouched",
            next_step="prepare into another folder, or move this one away",
        )
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    check_same(target, manifest["made_of"], facts)
    if (target / table).is_file():
        with (target / table).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != manifest["table_sha256"]:
            raise IntegrityError(
                "HZ-U77",
                "the table was changed after it was prepared",
                where=target / table,
                expected=f"sha256 {manifest['table_sha256']}",
                got=f"sha256 {found}",
                kept="the folder is untouched",
                next_step="restore the table, or remove the folder and prepare again",
            )
    return manifest


def accept(target: Path, manifest: dict[str, Any]) -> None:
    """Writes down that the numbers of a finished folder are taken although they are not the published ones."""
    manifest["published"]["accepted"] = True
    durable.write_json(target / MANIFEST, manifest)


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes those of the folders, in their order, that are empty."""
    for folder in folders:
        with suppress(OSError):  # there is something in it, or it is gone already
            folder.rmdir()


def _pieces(journal: Journal, chunks: int) -> Any:
    yield (",".join(COLUMNS) + "\n").encode()
    for path, _ in journal.lines(chunks):
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _copy(journal: Journal, chunks: int, file: BinaryIO) -> None:
    for piece in _pieces(journal, chunks):
        file.write(piece)
