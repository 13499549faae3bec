"""The work folder of a preparation: what it is made of, which chunks are finished, and the one place where chunks come into their place.

    .prepare/<task>/facts.json         what is prepared from what; another preparation is refused
                    staged/<token>/    where the workers of this run write; other runs' are removed
                    packs/<chunk>      tiles of finished chunks that become shards, moved here in one step;
                    table/images/...   the same where they stay files
                    rows/<chunk>.csv   their lines of the table
                    rows/<chunk>.json  written last: the chunk is finished
                    table/             what becomes the task's folder, by one rename

A chunk is there when its JSON is there. Whatever else a killed run left is removed by the next one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from histozoo import durable
from histozoo.errors import UsageError
from histozoo.prepare.chunks import DONE, ROWS, TILES, folder_name


class Journal:
    """One work folder, held by this process alone."""

    def __init__(self, work: Path, *, shards: bool) -> None:
        self.work = work
        self.table = work / "table"
        self.tiles = work / "packs" if shards else self.table / "images"
        self.rows = work / "rows"
        self.staged = work / "staged" / f"{os.getpid()}-{secrets.token_hex(4)}"

    def begin(self, facts: Mapping[str, Any], accept: Callable[[dict[str, Any]], bool]) -> None:
        """Writes what is prepared, or compares it with what an earlier start wrote; clears what that left half-done.

        Args:
            facts: What the output is a function of.
            accept: Says whether facts of an earlier start that differ may be replaced.

        Raises:
            UsageError: `HZ-U77`, the folder holds the work of another preparation; names the first difference.
        """
        path = self.work / "facts.json"
        if path.exists() and not self.table.exists():
            # Its table was moved into place and then taken away: what is left here lists tiles that are gone.
            for folder in (self.rows, self.tiles, self.work / "shards"):
                shutil.rmtree(folder, ignore_errors=True)
            path.unlink()
        self.table.mkdir(parents=True, exist_ok=True)
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if not accept(before):
                check_same(self.work, before, facts)
        durable.write_json(path, facts)
        shutil.rmtree(self.work / "staged", ignore_errors=True)
        for folder in (self.tiles, self.rows, self.staged):
            folder.mkdir(parents=True, exist_ok=True)
        durable.remove_stale(self.rows)

    def finished(self, chunks: int) -> dict[int, dict[str, Any]]:
        """Returns what is known of each finished chunk; chunks with rejected pictures are undone, as the pictures may be mended now."""
        found = {}
        for number in range(chunks):
            done = self._done(number)
            facts = json.loads(done.read_text(encoding="utf-8")) if done.exists() else None
            if facts and not facts["rejected"]:
                found[number] = facts
            else:
                self._undo(number)
        return found

    def commit(self, number: int, staged: Path) -> None:
        """Moves a staged and flushed chunk into place; its JSON comes last."""
        if (staged / ROWS).exists():
            durable.move(staged / TILES, self.tiles / folder_name(number))
            durable.move(staged / ROWS, self._lines(number))
        durable.move(staged / DONE, self._done(number))
        shutil.rmtree(staged)

    def lines(self, chunks: int) -> Iterator[tuple[Path, Path]]:
        """Gives the file with the table's lines and the place of the tiles, chunk by chunk; a chunk without tiles has none."""
        for number in range(chunks):
            if self._lines(number).exists():
                yield self._lines(number), self.tiles / folder_name(number)

    def fresh(self, name: str) -> Path:
        """Returns an empty folder for something that is built as a whole and then added."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def add(self, path: Path) -> None:
        """Moves a synced file or folder of the work folder into the table's, where nothing half-written ever lies."""
        target = self.table / path.name
        if target.is_dir():
            shutil.rmtree(target)
        durable.move(path, target)

    def note_refused(self, members: Sequence[str], source: Mapping[str, Any]) -> None:
        """Remembers the members of a picture that ended the run, and the fingerprint of the source without them."""
        durable.write_json(self.work / "refused.json", {"members": list(members), "source": source})

    def refused(self) -> dict[str, Any] | None:
        """Returns what `note_refused` remembered last, or None."""
        path = self.work / "refused.json"
        noted: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return noted

    def _undo(self, number: int) -> None:
        self._done(number).unlink(missing_ok=True)
        self._lines(number).unlink(missing_ok=True)
        tiles = self.tiles / folder_name(number)
        shutil.rmtree(tiles) if tiles.is_dir() else tiles.unlink(missing_ok=True)

    def _done(self, number: int) -> Path:
        return self.rows / f"{folder_name(number)}.json"

    def _lines(self, number: int) -> Path:
        return self.rows / f"{folder_name(number)}.csv"


def check_same(where: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to continue what was begun differently.

    Raises:
        UsageError: `HZ-U77`, with the first field that differs.
    """
    difference = first_difference(before, json.loads(json.dumps(now)))
    if difference is None:
        return
    field, theirs, ours = difference
    raise UsageError(
        "HZ-U77",
        f"the folder holds another preparation: {field} differs",
        where=where,
        expected=f"{field} = {ours}",
        got=f"{field} = {theirs}",
        kept="the folder is untouched",
        next_step="prepare into another folder, restore what differs, or remove this folder to begin anew",
    )


def first_difference(before: Any, now: Any, field: str = "") -> tuple[str, str, str] | None:
    """Returns field, earlier and present value of the first difference between two JSON values, or None."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(k for k in before if k not in now)]:
            if found := first_difference(before.get(key), now.get(key), f"{field}.{key}" if field else key):
                return found
        return None
    return None if before == now else (field, _short(before), _short(now))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
