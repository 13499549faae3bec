"""A run on the tasks it was trained on: test rows of its own split, none of whose groups the trunk has seen, beside random weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histozoo.data.splits import Split
from histozoo.errors import UsageError
from histozoo.evaluate.comparison import RANDOM_SEEDS, Comparison
from histozoo.evaluate.labelled import LabelledTiles, read
from histozoo.evaluate.probe import features, probe_split
from histozoo.evaluate.report import Findings
from histozoo.evaluate.trunks import Run, random_trunk, read_run, trained_trunk

if TYPE_CHECKING:
    from torch import nn


def measure(
    run: str | Path,
    *,
    out: str | Path,
    cache: str | Path,
    data_root: str | Path | None = None,
    random_seeds: Sequence[int] = RANDOM_SEEDS,
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, Any]:
    """Measures every task a run was trained on, writes `out` (JSON) and a table beside it, and returns what the JSON holds.

    The probe learns on the run's train rows, chooses C on its validation rows and is scored on its test rows.

    Args:
        run: A finished run folder.
        out: The JSON file to write.
        cache: Where decoded tiles are kept.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        random_seeds: Seeds of the random initialisations.
        seed: Seed of the resampling.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: `HZ-U52` no finished run; `HZ-I64` the data is not what the run was trained on; and what the protocol raises.
    """
    known = read_run(run)
    trunks = [
        trained_trunk(known),
        *(random_trunk(known.architecture, seed=s, tile_px=known.tile_px) for s in random_seeds),
    ]
    findings = Findings(study="trained_tasks", resamples=resamples)
    for name in known.tasks:
        labelled = read(name, data_root=data_root, tile_px=known.tile_px, cache=cache)
        refuse_other_data(known, labelled)
        findings.add(
            name,
            partial(_compare, known, labelled, trunks=trunks, random_seeds=tuple(random_seeds), seed=seed),
        )
    return findings.write(out)


def _compare(
    run: Run,
    labelled: LabelledTiles,
    *,
    trunks: Sequence[nn.Module],
    random_seeds: tuple[int, ...],
    seed: int,
) -> Comparison:
    split = Split.from_json(run.data[labelled.task]["split"])
    features_M = (features(t, labelled.tiles_NHWC, mean=run.mean, std=run.std) for t in trunks)
    trained, *random_S = (probe_split(f_ND, labelled.labels_N, split) for f_ND in features_M)
    return Comparison(
        run=run,
        labelled=labelled,
        protocol="feature_extraction",
        seed=seed,
        left_out=False,
        trained=trained,
        random_S=tuple(random_S),
        random_seeds=random_seeds,
    )


def refuse_other_data(run: Run, labelled: LabelledTiles) -> None:
    """Refuses tiles that are not those the run recorded: its split would name other rows.

    Raises:
        UsageError: `HZ-I64`, the fingerprints differ.
    """
    recorded = run.data[labelled.task]["fingerprint"]
    if recorded != labelled.fingerprint:
        raise UsageError(
            "HZ-I64",
            "the task's data is not what the run was trained on",
            where=f"{labelled.task}, {run.folder}",
            expected=f"fingerprint {recorded}",
            got=f"fingerprint {labelled.fingerprint}",
            next_step="point --data-root at the data of the run",
        )
