"""Tiles in a folder or a table -> one feature file that says what made it, and a report in which every tile has its fate.

Each input row ends as done, rejected with a reason, or not reached; the three sum to the input, and no row is ever replaced by another.
The tiles' place in a batch is fixed by their place in the sorted input and every batch has the same size, so a run that was stopped and
started again writes the same bits as one that was not. A row that is rejected now is not in the file, whatever an earlier run made of it.
Legend: B batch, C channels, H W pixels, N rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import histozoo
from histozoo import durable, earlier_rows, feature_files
from histozoo.claim import claimed
from histozoo.errors import HistozooError, IntegrityError, Interrupted, RejectedInputs, UsageError
from histozoo.feature_files import Features, Report, report_path
from histozoo.integrity import differing
from histozoo.tile_lists import TileList, find_tiles, printable
from histozoo.tile_rows import ENLARGED, POLICY, Edge, TileReader, counted

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
    keep_others: bool = False,
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
        keep_others: Go on where `out` holds rows of tiles that `source` does not name; they stay in it, and the report counts them.
        progress: Called with the numbers of rows handled and of all rows.

    Raises:
        UsageError: `HZ-U68` device, `HZ-U61` format, `HZ-U62` source or table, `HZ-H56` `out` holds features made by something else,
            `HZ-H60` another tile of the same name in it, or tiles of another source.
        IntegrityError: `HZ-H64`, `out` is no whole feature file; or as `histozoo.load` says.
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
    with claimed(out) as made:
        run.made_folder = bool(made)
        run.adopt_earlier_rows(keep_others=keep_others)
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

        entry = registry.resolve(model)
        contract.check_mpp(entry, mpp)
        self.names, self.out, self.batch_size = tiles.names, out, batch_size
        self.device = device
        self.model_name = model
        self.reader = TileReader(tiles, contract.transform(entry), contract=entry.contract, edge=edge)
        self.feature_dim = entry.feature_dim
        self.entry, self.mpp = entry, mpp
        self.earlier = earlier_rows.Earlier()
        self.rows: earlier_rows.Rows = {}
        self.saved = 0
        self.made_folder = False
        self.treated: list[tuple[str, ...]] = []
        self.report = Report(
            features=str(out),
            made_by=_made_by(entry, mpp, edge),
            n_input=len(tiles.names),
            ignored=[printable(name) for name in tiles.ignored],
            skipped={kind: [printable(name) for name in names] for kind, names in tiles.skipped.items()},
            policy={**POLICY, "edge": edge},
        )

    def adopt_earlier_rows(self, *, keep_others: bool) -> None:
        """Takes over what an earlier run wrote to the same file, as `earlier_rows.read` says."""
        durable.remove_stale(self.out.parent)
        self.earlier = earlier_rows.read(
            self.out, self.report.made_by, names=self.names, keep_others=keep_others
        )
        self.rows = dict(self.earlier.rows)
        self.saved = len(self.rows)

    def work(self, *, max_rejected: float, progress: Progress | None) -> None:
        """Goes through all rows batch by batch; saves at intervals, at the end, and when interrupted."""
        from histozoo.loading import load

        self.model = load(self.model_name, device=self.device)
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
            theirs, ours = differing(held, sha256)
            raise UsageError(
                "HZ-H60",
                "the feature file holds another tile of the same name",
                where=f"{name} in {self.out}",
                expected=f"sha256 {theirs}",
                got=f"sha256 {ours}",
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
        self.rows.pop(name, None)
        self.report.rejected.append({"name": printable(name), "code": code, "reason": reason})

    def _save(self) -> None:
        """Writes the features, then the report that counts them."""
        names = sorted(self.rows)
        if names or self.out.exists():
            f_ND = np.array([self.rows[name][1] for name in names], np.float32).reshape(-1, self.feature_dim)
            sha256 = tuple(self.rows[name][0] for name in names)
            made_by = self.report.made_by
            feature_files.write(
                self.out, Features(names=tuple(names), sha256=sha256, features_ND=f_ND, made_by=made_by)
            )
        self.saved = self.report.n_rows = len(names)
        self._tell()
        durable.write_json(report_path(self.out), self.report.to_json())

    def _tell(self) -> None:
        """Puts into the report what was done to tiles, why earlier runs rejected those that this one did not come to, and what to note."""
        report, before = self.report, self.earlier
        whole = report.n_reused == before.n_done
        report.treated = counted(self.treated, before.treated, n_reused=report.n_reused, whole=whole)
        settled = {row["name"] for row in report.rejected} | set(self.rows)
        report.rejected_earlier = [row for row in before.rejected if row["name"] not in settled]
        report.notes = list(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.made_folder:
            yield f"the folder {self.out.parent} was not there and was made"
        if self.mpp is not None and self.entry.mpp is None:
            yield f"the model's micrometres per pixel are not known; {self.mpp:g} was recorded and compared with nothing"
        if n := self.earlier.n_further:
            yield f"further rows in the file, of tiles that the source does not name: {n:,}"
        if n := self.report.treated.get(ENLARGED, 0):
            yield f"tiles smaller than the model's {self.reader.tile_px} px, which were enlarged: {n:,}"

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
            kept=f"{self.report.n_rows:,} rows are in {self.out}",
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
