"""Tiles in a folder or a table -> one feature file that says what made it, and a report in which every tile has its fate.

Each input row ends as done, rejected with a reason, or not reached; the three sum to the input, and no row is ever replaced by another.
The tiles' place in a batch is fixed by their place in the sorted input and every batch has the same size, so a run that was stopped and
started again writes the same bits as one that was not. Legend: B batch, C channels, H W pixels, N rows, D features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import histozoo
from histozoo import durable, feature_files
from histozoo.claim import claimed
from histozoo.errors import (
    HistozooError,
    IntegrityError,
    Interrupted,
    RejectedInputs,
    UsageError,
)
from histozoo.feature_files import Features, Report, report_path
from histozoo.tile_lists import TileList, find_tiles, printable
from histozoo.tile_rows import POLICY, Edge, TileReader, counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from histozoo.registry import Entry

SAVE_EVERY = 4096
"""Rows between two saves at first; later a save follows when as many new rows are there as saved ones, so saving costs O(N) in all."""

ALWAYS_TOLERATED = 10
"""Rejected rows that never stop a run, so that a small folder with a bad file is still worked through."""

Progress = Callable[[int, int], None]


def embed(
    source: str | Path,
    out: str | Path,
    *,
    model: str,
    batch_size: int = 32,
    device: str = "auto",
    mpp: float | None = None,
    edge: Edge = "reject",
    max_rejected: float = 0.01,
    progress: Progress | None = None,
) -> Report:
    """Embeds every tile of `source` and writes features and a report `<out>.report.json`; running it again adds only what is missing.

    Args:
        source: A folder, searched with its subfolders, or a CSV whose column `file` holds paths relative to the CSV; a column `sha256`
            is compared with the files.
        out: Feature file; `.safetensors`, `.h5` or `.hdf5`.
        model: Name of a zoo entry, or a bundle folder.
        batch_size: Tiles per forward pass.
        device: `auto`, `cpu`, `cuda`, ...
        mpp: Micrometres per pixel of the tiles, when known; compared with what the model expects and recorded.
        edge: What becomes of a tile whose shorter side is under a quarter of the model's: `reject`, or `pad-white`.
        max_rejected: Share of rejected rows above which the run stops (the first ten never stop it).
        progress: Called with the numbers of rows handled and of all rows.

    Raises:
        UsageError: `HZ-U68` device, `HZ-U61` format, `HZ-U62` source or table, `HZ-H56` `out` holds features made by something else,
            `HZ-H60` another tile of the same name in it.
        RejectedInputs: `HZ-U63`, the work is finished or stopped and some rows were rejected; they are in the report.
        Interrupted: `HZ-H55`, stopped by Ctrl-C; what was done is saved.
        ResourceError: `HZ-H60` another process writes to `out`; `HZ-F42` disk full.
    """
    from histozoo import devices

    out = Path(out)
    feature_files.check_suffix(out)
    place = devices.choose(device)
    tiles = find_tiles(Path(source))
    run = _Run(tiles, out, model=model, batch_size=batch_size, device=place, mpp=mpp, edge=edge)
    with claimed(out):
        run.adopt_earlier_rows()
        run.work(max_rejected=max_rejected, progress=progress)
    return run.report


class _Run:
    """One call of `embed`: the model, the rows so far and the report."""

    def __init__(
        self,
        tiles: TileList,
        out: Path,
        *,
        model: str,
        batch_size: int,
        device: torch.device,
        mpp: float | None,
        edge: Edge,
    ) -> None:
        from histozoo import contract, registry
        from histozoo.loading import load

        entry = registry.resolve(model)
        contract.check_mpp(entry, mpp)
        self.names, self.out, self.batch_size = tiles.names, out, batch_size
        self.device = device
        self.model = load(model, device=device)
        tile_px = entry.ours["contract"]["tile_px"]
        self.reader = TileReader(tiles, contract.transform(entry), tile_px=tile_px, edge=edge)
        self.feature_dim = entry.feature_dim
        self.rows: dict[str, tuple[str, NDArray[np.float32]]] = {}
        self.saved = 0
        self.treated: list[tuple[str, ...]] = []
        self.earlier_report: dict[str, Any] = {}
        self.report = Report(
            features=str(out),
            made_by=_made_by(entry, mpp, edge),
            n_input=len(tiles.names),
            ignored=[printable(name) for name in tiles.ignored],
            skipped={kind: [printable(name) for name in names] for kind, names in tiles.skipped.items()},
            policy={**POLICY, "edge": edge},
        )

    def adopt_earlier_rows(self) -> None:
        """Takes over what an earlier run wrote to the same file, if the very same thing made it.

        Raises:
            UsageError: `HZ-H56`, the file was made by something else; the first differing field is shown.
        """
        durable.remove_stale(self.out.parent)
        if not self.out.exists():
            return
        earlier = feature_files.read(self.out)
        for key in {**earlier.made_by, **self.report.made_by}:
            theirs, ours = earlier.made_by.get(key), self.report.made_by.get(key)
            if theirs != ours:
                raise UsageError(
                    "HZ-H56",
                    f"the file holds features that something else made: {key} differs",
                    where=self.out,
                    expected=f"{key} = {ours}",
                    got=f"{key} = {theirs}",
                    kept="the file is untouched",
                    next_step="write to another file, or remove this one",
                )
        self.rows = {
            n: (s, f) for n, s, f in zip(earlier.names, earlier.sha256, earlier.features_ND, strict=True)
        }
        self.saved = len(self.rows)
        if (path := report_path(self.out)).is_file():
            self.earlier_report = json.loads(path.read_text(encoding="utf-8"))

    def work(self, *, max_rejected: float, progress: Progress | None) -> None:
        """Goes through all rows batch by batch; saves at intervals, at the end, and when interrupted."""
        limit = max(ALWAYS_TOLERATED, int(max_rejected * len(self.names)))
        try:
            for start in range(0, len(self.names), self.batch_size):
                self._batch(self.names[start : start + self.batch_size])
                if progress:
                    progress(self.report.n_done + len(self.report.rejected), len(self.names))
                if len(self.report.rejected) > limit:
                    break
                if len(self.rows) - self.saved >= max(SAVE_EVERY, self.saved):
                    self._save()
        except KeyboardInterrupt as interrupt:
            self._save()
            raise Interrupted(
                "HZ-H55",
                "stopped before all tiles were embedded",
                where=self.out,
                got=f"{self.report.n_done:,} of {self.report.n_input:,} done",
                kept="the finished rows are saved",
                next_step="run the same command again; it continues",
            ) from interrupt
        self._save()
        self._raise_for_rejected()

    def _batch(self, names: Sequence[str]) -> None:
        """Embeds the rows that are not there yet, each in its own slot; slots without a tile stay zero."""
        import torch

        pixels: dict[int, tuple[str, Tensor, tuple[str, ...]]] = {}
        for slot, name in enumerate(names):
            if fresh := self._fresh(name):
                pixels[slot] = fresh
        if not pixels:
            return
        x_BCHW = torch.zeros((self.batch_size, *next(iter(pixels.values()))[1].shape))
        for slot, (_, x_CHW, _) in pixels.items():
            x_BCHW[slot] = x_CHW
        with torch.inference_mode():
            f_BD = self.model(x_BCHW.to(self.device)).float().cpu().numpy()
        for slot, (sha256, _, treated) in pixels.items():
            self._take(names[slot], sha256, f_BD[slot], treated)

    def _fresh(self, name: str) -> tuple[str, Tensor, tuple[str, ...]] | None:
        """Returns a tile's sha256, pixels `[C, H, W]` and what was done to it; None where its row is rejected or there already."""
        try:
            data, sha256 = self.reader.file(name)
            pixels = None if name in self.rows else self.reader.pixels(name, data)
        except HistozooError as error:
            self._reject(name, error.code, error.what + (f": {error.got}" if error.got else ""))
            return None
        if pixels is None:
            self._reuse(name, sha256)
            return None
        return sha256, *pixels

    def _reuse(self, name: str, sha256: str) -> None:
        """Counts a row that is there already; a name that stands for other bytes would lose one of the two tiles."""
        held = self.rows[name][0]
        if held != sha256:
            raise UsageError(
                "HZ-H60",
                "the feature file holds another tile of the same name",
                where=f"{name} in {self.out}",
                expected=f"sha256 {held[:12]}...",
                got=f"sha256 {sha256[:12]}...",
                kept="the feature file keeps the tile it has",
                next_step="write to another file, or embed a folder that holds both tiles under different names",
            )
        self.report.n_done += 1
        self.report.n_reused += 1

    def _take(self, name: str, sha256: str, f_D: NDArray[np.float32], treated: tuple[str, ...]) -> None:
        if f_D.shape != (self.feature_dim,):
            raise IntegrityError(
                "HZ-H61",
                "the model gives features of another size than its entry says",
                where=self.report.made_by["model"],
                expected=self.feature_dim,
                got=f_D.shape,
            )
        if not np.isfinite(f_D).all():
            self._reject(
                name, "HZ-H61", f"{int((~np.isfinite(f_D)).sum())} of {f_D.size} features are not finite"
            )
            return
        self.rows[name] = (sha256, f_D)
        self.treated.append(treated)
        self.report.n_done += 1

    def _reject(self, name: str, code: str, reason: str) -> None:
        self.report.rejected.append({"name": printable(name), "code": code, "reason": reason})

    def _save(self) -> None:
        """Writes the features, then the report that counts them."""
        names = sorted(self.rows)
        if names:
            f_ND = np.stack([self.rows[name][1] for name in names])
            sha256 = tuple(self.rows[name][0] for name in names)
            made_by = self.report.made_by
            feature_files.write(
                self.out, Features(names=tuple(names), sha256=sha256, features_ND=f_ND, made_by=made_by)
            )
        self.saved = len(names)
        reused, before = self.report.n_reused, self.earlier_report
        whole = reused == before.get("n_done")
        self.report.treated = counted(self.treated, before.get("treated", {}), n_reused=reused, whole=whole)
        durable.write_json(report_path(self.out), self.report.to_json())

    def _raise_for_rejected(self) -> None:
        if not self.report.rejected:
            return
        first = self.report.rejected[0]
        rest = self.report.n_not_reached
        raise RejectedInputs(
            "HZ-U63",
            f"{len(self.report.rejected):,} of {self.report.n_input:,} tiles were rejected"
            + (f"; stopped before the last {rest:,}" if rest else ""),
            where=report_path(self.out),
            got=f"first: {first['name']}: {first['code']} {first['reason']}",
            kept=f"{self.report.n_done:,} rows are in {self.out}",
            next_step="the report lists each with its reason"
            + ("; raise --max-rejected to go on" if rest else ""),
        )


def _made_by(entry: Entry, mpp: float | None, edge: Edge) -> dict[str, Any]:
    made_by = {
        "model": entry.name,
        "sha256": entry.weights.sha256,
        "contract": entry.ours["contract"],
        "mpp": mpp,
        "histozoo_version": histozoo.__version__,
        "dtype": "float32",
    }
    # Padding makes rows that rejecting does not; without it the file is the one that it always was.
    return made_by if edge == "reject" else {**made_by, "edge": edge}
