"""What was found of a published model goes onto its entry, and the card is rendered again.

Only tasks of lineages that the model never saw are recorded: folds over all tiles of a task that it was trained on would score tiles whose
labels shaped the weights. For those, `histozoo evaluate RUN` keeps to the test rows of the run's own split.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from histozoo import __version__, bundle, card, durable, gates, registry
from histozoo.errors import UsageError
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.rows import by_seed
from histozoo.evaluate.compare.standings import METRICS, resampled
from histozoo.evaluate.few_groups import widened
from histozoo.evaluate.resampling import Estimate, Floats, percentiles
from histozoo.evaluate.result import Result, Subject

_KEY = ("task", "protocol", "metric", "subject", "left_out")
"""What a row is of: a new one takes the place of an old one with the same."""


def rows(
    cells: Sequence[Cell], model: str, twin: str | None, *, seed: int = 0, resamples: int = 10_000
) -> list[Result]:
    """Returns the rows of an entry's `results`: the model, its random twin and their paired difference, per clean task, protocol, metric.

    Where a metric has no number or no interval on a task, it has no row.

    Args:
        cells: What was measured; those of several fine-tuning seeds are averaged.
        model: Column of the model.
        twin: Column of the same architecture with random weights, or None.
        seed: Of the resampling, and of the folds and splits.
        resamples: Bootstrap resamples.
    """
    found = []
    places = dict.fromkeys((c.task, c.protocol) for c in cells if c.model == model and c.seen is False)
    for task, protocol in places:
        here = [c for c in cells if (c.task, c.protocol) == (task, protocol)]
        ours, others = ([c for c in here if c.model == name] for name in (model, twin))
        for metric in METRICS:
            try:
                estimates = list(_estimates(ours, others, metric, seed=seed, resamples=resamples))
            except UsageError as error:
                if error.code not in ("HZ-I62", "HZ-I63"):
                    raise
                continue
            found += [_row(ours[0], metric, subject, e, seed=seed) for subject, e in estimates]
    return found


def _estimates(
    ours: Sequence[Cell], others: Sequence[Cell], metric: str, *, seed: int, resamples: int
) -> Iterator[tuple[Subject, Estimate]]:
    """Gives what standings tell of the same cells: a difference is widened for few groups and for seeds that lie apart."""
    values_C, resampled_RC = resampled([*ours, *others], metric=metric, seed=seed, resamples=resamples)
    n, groups = len(ours), len(np.unique(ours[0].groups_N))

    def estimate(value: float, value_R: Floats) -> Estimate:
        low, high = percentiles(value_R)
        return Estimate(
            value=value,
            low=low,
            high=high,
            n=len(ours[0].labels_N),
            n_groups=groups,
            resamples=resamples,
            undefined=int(np.isnan(value_R).sum()),
        )

    means = [
        (float(values_C[some].mean()), resampled_RC[:, some].mean(1))
        for some in (slice(n), slice(n, None))[: 1 + bool(others)]
    ]
    yield "trained", estimate(*means[0])
    if others:
        yield "random", estimate(*means[1])
        value, d_R = means[0][0] - means[1][0], means[0][1] - means[1][1]
        seeds = by_seed(ours, values_C[:n]), by_seed(others, values_C[n:])
        yield "difference", estimate(value, widened(value, d_R, groups, seeds=seeds))


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


def twin(name: str, columns: Iterable[str]) -> str | None:
    """Returns the column of random weights beside a model, that of several seeds first: `random:NAME`, `random:NAME@SEED`, or None."""
    random = f"random:{name}"
    found = [c for c in columns if c == random or c.startswith(f"{random}@")]
    return min(found, key=lambda c: c != random, default=None)


def folders(name: str) -> list[Path]:
    """Returns the folders that `record` writes into; errors as of `target`."""
    path = target(name)
    cards = None if Path(name).is_dir() else _cards(path)
    return [path.parent, *([cards] if cards else [])]


def target(name: str, *, zoo: Path | None = None) -> Path:
    """Returns the file that `record` changes.

    Args:
        name: Name of a zoo entry, or a bundle folder.
        zoo: Where the entry lies; all known folders of entries where left out.

    Raises:
        UsageError: `HZ-I75`, there is no such entry or bundle; a run or a model of timm has none.
    """
    folder = Path(name)
    if folder.is_dir():
        found = folder / "config.json"
    else:
        folders = [zoo] if zoo else registry.zoo_folders()
        found = next(
            (f / f"{name}.json" for f in folders if (f / f"{name}.json").is_file()), Path(f"{name}.json")
        )
    if not found.is_file():
        raise UsageError(
            "HZ-I75",
            "there is no entry to record this on",
            where=found,
            expected="the name of a zoo entry or a bundle folder, first among the models",
            got=name,
            kept="nothing was recorded",
            next_step="leave out --record, or publish the run first",
        )
    return found


def record(name: str, found: Sequence[Result], *, zoo: Path | None = None, cards: Path | None = None) -> Path:
    """Puts rows onto an entry of the zoo, or of a bundle folder, in the place of earlier ones of the same task, protocol and metric.

    Args:
        name: Name of a zoo entry, or a bundle folder.
        found: The rows.
        zoo: Where the entry lies; all known folders of entries where left out.
        cards: Where its card lies; where left out, `model_cards` beside the package for its own entries. Cards of other folders of entries
            are then left to their owner.

    Returns:
        The file that was changed.

    Raises:
        UsageError: `HZ-I75`, nothing to record, or no entry of this name to write to.
        IntegrityError: `HZ-G49`, a row is no score with an interval; `HZ-A07`, the entry is not valid.
    """
    path = target(name, zoo=zoo)
    if not found:
        raise UsageError(
            "HZ-I75",
            "there is nothing to record",
            where=path,
            expected="scores on a lineage that the model never saw",
            kept="the entry is untouched",
            next_step="`histozoo evaluate RUN` measures a run on the test rows of its own tasks",
        )
    raw = copy.deepcopy(registry.read_entry(path).raw)
    new = [r.to_json() for r in found]
    gates.refuse(gates.results(new), name=name)
    replaced = {tuple(r[k] for k in _KEY) for r in new}
    kept = [r for r in raw["histozoo"]["results"] if tuple(r[k] for k in _KEY) not in replaced]
    raw["histozoo"]["results"] = [*kept, *new]
    registry.parse_entry(raw, path)
    durable.write_json(path, raw)
    if Path(name).is_dir():
        bundle.fresh_card(name, write=True)
    elif cards := cards or _cards(path):
        durable.write_text(cards / f"{name}.md", card.render(registry.read_entry(path)))
    return path


def _cards(path: Path) -> Path | None:
    """Returns the folder of the package's own cards if the entry is its own and the folder is there, as in a clone."""
    folder = registry.ZOO.parent.parent / "model_cards"
    return folder if path.resolve().parent == registry.ZOO and folder.is_dir() else None
