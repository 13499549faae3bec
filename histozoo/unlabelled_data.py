"""The tiles without labels that an experiment names: opened, described for data.json, and put among the labelled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from histozoo.data.opening import check_sources, open_sources
from histozoo.data.streamed import Mixable, StreamedTiles
from histozoo.data.tiles import fit
from histozoo.errors import UsageError
from histozoo.experiment import Experiment
from histozoo.tasks.base import data_folder

WORDS = ("organ", "stain", "licence", "origin", "citation", "lineage")
"""What the card should know of a source, said beside its kind and path; what is not said is unknown."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Opened sources.

    Args:
        sets: Name -> what can be mixed.
        facts: Name -> what data.json says of it.
    """

    sets: Mapping[str, Mixable]
    facts: Mapping[str, dict[str, Any]]


def named(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Returns what the experiment says of its sources, checked as far as it can be without opening them.

    Raises:
        UsageError: `HZ-U86`; a word that is no text among them, or a source with the name of a task.
    """
    said: dict[str, dict[str, Any]] = experiment.own.get("unlabelled", {})
    tasks = {*experiment.tasks, *experiment.own.get("watch", ())}
    for name, source in said.items():
        if name in tasks:
            raise _refused(name, "a source has the name of a task", "another name", name)
        words = {key: source[key] for key in WORDS if isinstance(source, dict) and key in source}
        if wrong := [key for key, value in words.items() if not (isinstance(value, str) and value.strip())]:
            raise _refused(name, f"{wrong[0]!r} has a wrong value", "a text", repr(words[wrong[0]]))
    if said:
        check_sources({name: _without_words(source) for name, source in said.items()})
    return said


def lineage(name: str, source: Mapping[str, Any]) -> str:
    """Returns the lineage of a source: as said, or a lineage of its own."""
    return str(source.get("lineage", name))


def open_all(
    experiment: Experiment, *, data_root: str | Path | None, cache: Path, leave_out: Sequence[str] = ()
) -> Sources:
    """Opens the experiment's sources, without those of the lineages left out.

    Raises:
        UsageError: As `histozoo.data.opening.open_sources`.
        IntegrityError: `HZ-E39`, a shard is not what it was.
    """
    kept = {n: s for n, s in named(experiment).items() if lineage(n, s) not in leave_out}
    if not kept:
        return Sources(sets={}, facts={})
    plain = {name: _without_words(source) for name, source in kept.items()}
    sets, facts = open_sources(plain, px=experiment.pack_px, cache=cache, root=data_folder(data_root))
    return Sources(sets=sets, facts={name: _describe(name, kept[name], facts[name]) for name in kept})


def _describe(name: str, said: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what data.json says of a source, in the words of a task."""
    words = {key: str(said.get(key, "unknown")) for key in ("organ", "stain", "licence", "citation")}
    n = int(facts.get("kept", facts["tiles"]))
    return {
        "kind": "unlabelled",
        **words,
        "mpp": said.get("mpp"),
        "source": str(said.get("origin", "unknown")),
        "lineage": lineage(name, said),
        "classes": [],
        "n": n,
        "n_groups": None,
        "n_train": n,
        "fingerprint": facts["fingerprint"],
        "opened": dict(facts),
    }


def first_tiles(sets: Mapping[str, Mixable], experiment: Experiment, count: int) -> NDArray[np.uint8]:
    """Returns the first `count` tiles of the sources' order as the published model expects them, uint8 `[N, tile_px, tile_px, 3]`."""
    order = StreamedTiles(sets, px=experiment.pack_px, seed=experiment.seed, samples=count, uniforms=0)
    tiles = (Image.fromarray(order[i]["tiles"].numpy()) for i in range(count))
    return np.stack([fit(tile, experiment.tile_px) for tile in tiles])


class PartlyLabelled(Dataset[dict[str, Any]]):
    """Labelled and unlabelled tiles in one sequence, evenly spread; a row without label has task -1.

    Args:
        labelled: Samples with `tiles`, `task`, `label`, `u`, `index`.
        unlabelled: Samples with `tiles`, `u`, `index`.
        share: Of unlabelled rows, 0 to 1.
        samples: Length of the sequence.
    """

    def __init__(
        self,
        labelled: Dataset[dict[str, Any]],
        unlabelled: Dataset[dict[str, Any]],
        *,
        share: float,
        samples: int,
    ) -> None:
        self.labelled, self.unlabelled, self.share, self.samples = labelled, unlabelled, share, samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        before, after = int(index * self.share), int((index + 1) * self.share)
        if after == before:
            return {**self.labelled[index - before], "index": index}
        sample = self.unlabelled[before]
        return {"tiles": sample["tiles"], "task": -1, "label": 0, "u": sample["u"], "index": index}


def _without_words(source: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in source.items() if k not in WORDS} if isinstance(source, dict) else source  # type: ignore[return-value]


def _refused(name: str, what: str, expected: str, got: str) -> UsageError:
    return UsageError(
        "HZ-U86", what, where=f"unlabelled.{name}", expected=expected, got=got, kept="nothing was trained"
    )
