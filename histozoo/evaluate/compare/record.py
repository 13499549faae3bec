"""What was found of a published model goes onto its entry, and the card is rendered again.

Only tasks of lineages that the model never saw are recorded: folds over all tiles of a task that it was trained on would score tiles whose
labels shaped the weights. For those, `histozoo evaluate RUN` keeps to the test rows of the run's own split.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histozoo import __version__, bundle, card, durable, gates, registry
from histozoo.errors import UsageError
from histozoo.evaluate import scored
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.standings import METRICS
from histozoo.evaluate.resampling import Estimate
from histozoo.evaluate.result import Result, Subject

_KEY = ("task", "protocol", "metric", "subject", "left_out")


def rows(
    cells: Sequence[Cell], model: str, twin: str | None, *, seed: int = 0, resamples: int = 10_000
) -> list[Result]:
    """Returns the rows of an entry's `results`: the model, its random twin and their paired difference, per clean task, protocol, metric.

    Args:
        cells: What was measured.
        model: Column of the model.
        twin: Column of the same architecture with random weights, or None.
        seed: Of the resampling.
        resamples: Bootstrap resamples.
    """
    found = []
    for c in cells:
        if c.model == model and c.seen is False:
            others = [o for o in cells if (o.model, o.task, o.protocol) == (twin, c.task, c.protocol)]
            for metric in METRICS:
                estimates = _estimates(c, others, metric, seed=seed, resamples=resamples)
                found += [_row(c, metric, subject, e, seed=seed) for subject, e in estimates]
    return found


def _estimates(
    c: Cell, others: Sequence[Cell], metric: str, *, seed: int, resamples: int
) -> Iterator[tuple[Subject, Estimate]]:
    how: dict[str, Any] = {"metric": metric, "seed": seed, "resamples": resamples}
    yield "trained", scored.estimate(c.labels_N, c.scores_NK, c.groups_N, **how)
    if others:
        random_MNK = np.stack([o.scores_NK for o in others])
        yield "random", scored.estimate(c.labels_N, random_MNK, c.groups_N, **how)
        yield "difference", scored.difference(c.labels_N, c.scores_NK, random_MNK, c.groups_N, **how)


def _row(c: Cell, metric: str, subject: Subject, e: Estimate, *, seed: int) -> Result:
    return Result(
        task=c.task,
        protocol=c.protocol,
        metric=metric,
        value=e.value,
        interval=(e.low, e.high),
        n=e.n,
        n_groups=e.n_groups,
        seed=seed,
        subject=subject,
        left_out=True,
        fingerprint=c.fingerprint,
        version=__version__,
    )


def record(
    name: str, found: Sequence[Result], *, zoo: Path = registry.ZOO, cards: Path | None = None
) -> Path:
    """Puts rows onto an entry of the zoo, or of a bundle folder, in the place of earlier ones of the same task, protocol and metric.

    Args:
        name: Name of a zoo entry, or a bundle folder.
        found: The rows.
        zoo: Where entries lie.
        cards: Where their cards lie; beside the package where left out.

    Returns:
        The file that was changed.

    Raises:
        UsageError: `HZ-I75`, nothing to record, or no entry of this name to write to.
        IntegrityError: `HZ-G49`, a row is no score with an interval; `HZ-A07`, the entry is not valid.
    """
    folder = Path(name)
    path = folder / "config.json" if folder.is_dir() else zoo / f"{name}.json"
    if not found or not path.is_file():
        raise UsageError(
            "HZ-I75",
            "there is nothing to record" if not found else "there is no entry to record this on",
            where=path,
            expected="scores on a lineage that the model never saw"
            if not found
            else "a zoo entry or a bundle folder",
            kept="the entry is untouched",
            next_step="`histozoo evaluate RUN` measures a run on the test rows of its own tasks"
            if not found
            else "",
        )
    raw = copy.deepcopy(registry.read_entry(path).raw)
    new = [r.to_json() for r in found]
    gates.refuse(gates.results(new), name=name)
    replaced = {tuple(r[k] for k in _KEY) for r in new}
    kept = [r for r in raw["histozoo"]["results"] if tuple(r[k] for k in _KEY) not in replaced]
    raw["histozoo"]["results"] = [*kept, *new]
    registry.parse_entry(raw, path)
    durable.write_json(path, raw)
    if folder.is_dir():
        bundle.fresh_card(folder, write=True)
    else:
        cards = cards or registry.ZOO.parent.parent / "model_cards"
        durable.write_text(cards / f"{name}.md", card.render(registry.read_entry(path)))
    return path
