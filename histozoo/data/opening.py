"""What an experiment says about unlabelled tiles -> the mixed data set, and what it is made of.

[unlabelled.own]                  [unlabelled.public]        [unlabelled.wsi]
folder = "tiles"                  shards = "webdataset"      slides = "slides"
weight = 2.0                      weight = 1.0               mpp = 0.5
least_tissue = 0.2                                           weight = 1.0
duplicates = "same"
"""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from histozoo import durable
from histozoo.data import resolution, tiles
from histozoo.data.choosing import choose_once, choose_rows
from histozoo.data.decoding import read
from histozoo.data.duplicates import NEAR, SAME
from histozoo.data.packed_tiles import PackedTiles
from histozoo.data.slide_tiles import SlideSet
from histozoo.data.streamed import Mixable, StreamedTiles, TileSource, open_shards
from histozoo.data.thinning import thin
from histozoo.data.unlabelled import as_dataset
from histozoo.errors import UsageError, all_of
from histozoo.fields import is_number
from histozoo.tile_lists import find_tiles

DUPLICATES = {"none": None, "same": SAME, "near": NEAR}
"""Which copies are left out: none, the same picture (turned, flipped, encoded again), or nearly the same."""

_FILTERS = ("least_tissue", "duplicates")
KEYS = {
    "folder": ("weight", "mpp", *_FILTERS),
    "table": ("weight", "mpp", *_FILTERS),
    "shards": ("weight", "mpp", *_FILTERS),
    "slides": ("weight", "mpp", "downsample", "least_tissue"),
}
"""Kind of source -> what else may be said of it. The kind's own value is a path below the data's root."""

_KEPT = "nothing was trained"
_log = logging.getLogger(__name__)
Facts = dict[str, Any]


class Opened(NamedTuple):
    """A mixed data set and what it is made of.

    Args:
        dataset: Samples with `tiles` (uint8 `[px, px, 3]`), `set`, `u` and `index`, each a function of the seed and its index alone.
        facts: Name of the source -> kind, path as written, weight, filters, numbers and fingerprint, as JSON types.
    """

    dataset: StreamedTiles
    facts: dict[str, Facts]


def open_unlabelled(
    sources: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
    samples: int,
    px: int,
    uniforms: int,
    cache: str | Path,
    root: str | Path,
) -> Opened:
    """Opens sources of any kinds and mixes them by weight.

    Args:
        sources: Name -> what is said of it: one kind of `KEYS` with its path, and any of the keys that go with it. `weight` is said of all
            or of none; where it is not said, every tile is equally likely (of slides, as many as would cover the tissue). `least_tissue`
            is a share, 0 where it is not said. `mpp` is that of the files as they are, of slides that at which they are read; `packed_mpp`
            then stands in the facts: finest and coarsest tile once packed. `duplicates` is one of `DUPLICATES`, within the source, "none"
            where it is not said.
        seed: Run seed, at least 0.
        samples: Length of the sequence, below 2^62.
        px: Side of the tiles in pixels.
        uniforms: Uniform numbers of each sample, such as `SSLViews.uniforms`.
        cache: Where packed tiles, indices of shards and masks of slides are kept.
        root: What paths are relative to.

    Raises:
        UsageError: `HZ-U86`, what is said cannot be, or a source has nothing to show; `HZ-U62`, no tiles; `HZ-D24` to `HZ-D31`, tiles or
            slides that cannot be read.
        IntegrityError: `HZ-E39`, a shard is not what it was.
    """
    shares, facts = open_sources(sources, px=px, cache=cache, root=root)
    dataset = StreamedTiles(shares, seed=seed, samples=samples, px=px, uniforms=uniforms)
    return Opened(dataset, facts)


def open_sources(
    sources: Mapping[str, Mapping[str, Any]], *, px: int, cache: str | Path, root: str | Path
) -> tuple[dict[str, Mixable], dict[str, Facts]]:
    """Opens sources of any kinds and returns the sets, to be mixed with others, and the facts; arguments as `open_unlabelled`.

    Raises:
        UsageError: As `open_unlabelled`.
        IntegrityError: `HZ-E39`, a shard is not what it was.
    """
    check_sources(sources)
    durable.remove_stale(cache)
    shares: dict[str, Mixable] = {}
    facts: dict[str, Facts] = {}
    for name, said in sources.items():
        kind = _kind(name, said)
        _log.info("opening %s: %s %s", name, kind, said[kind])
        source, told = _OPEN[kind](name, said, Path(root) / said[kind], px, Path(cache))
        weight = float(said.get("weight", source.rows))
        shares[name] = _Share(source, weight)
        facts[name] = {"kind": kind, "source": said[kind], "weight": weight, **told}
    return shares, facts


def check_sources(sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses what can be seen to be wrong without opening anything.

    Raises:
        UsageError: `HZ-U86`: no source, none or several kinds in one, an unknown key (the nearest is named), a value of the wrong type or
            range, a path that leads out of the root, or a weight said of some sources only.
    """
    if not sources:
        raise _refused("there is nothing to draw from", "", "at least one source", "none")
    for name, said in sources.items():
        kind = _kind(name, said)
        for key, value in said.items():
            good, expected = _CHECKS[key]
            if not good(value):
                raise _refused(f"{key!r} has a wrong value", name, expected, repr(value))
        if kind == "slides" and ("mpp" in said) == ("downsample" in said):
            got = "both" if "mpp" in said else "neither"
            raise _refused("slides want a resolution to be read at", name, "mpp, or else downsample", got)
    without = [name for name, said in sources.items() if "weight" not in said]
    if 0 < len(without) < len(sources):
        expected = "a weight of every source, or of none"
        raise _refused(
            "some sources have a weight and others not", "", expected, f"none of {', '.join(without)}"
        )


def _kind(name: str, said: Mapping[str, Any]) -> str:
    kinds = [key for key in KEYS if key in said] if isinstance(said, Mapping) else []
    known = sorted({*KEYS, *(key for keys in KEYS.values() for key in keys)})
    allowed = (kinds[0], *KEYS[kinds[0]]) if len(kinds) == 1 else known
    for key in said if isinstance(said, Mapping) else ():
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            expected = f"one of {', '.join(allowed)}" + (f"; nearest: {near[0]}" if near else "")
            raise _refused(f"a source has no such key {key!r}", name, expected, str(key))
    if len(kinds) != 1:
        got = ", ".join(kinds) or "none of them"
        raise _refused("a source is of one kind", name, f"one of {', '.join(KEYS)}", got)
    return kinds[0]


def _is_path(value: Any) -> bool:
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not PurePath(value).is_absolute()
        and ".." not in PurePath(value).parts
        and "\0" not in value
    )


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0


_PATH = (_is_path, "a path below the data's root, such as tiles/own")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(KEYS, _PATH),
    **dict.fromkeys(("weight", "mpp", "downsample"), (_positive, "a number above 0")),
    "least_tissue": (lambda v: is_number(v) and 0 <= v <= 1, "a share, 0 to 1"),
    "duplicates": (lambda v: isinstance(v, str) and v in DUPLICATES, f"one of {', '.join(DUPLICATES)}"),
}


# -- each kind --


@dataclass(frozen=True)
class _Share:
    source: TileSource
    weight: float

    def open(self, px: int) -> TileSource:
        return self.source


def _filters(said: Mapping[str, Any]) -> dict[str, Any]:
    return {"least_tissue": float(said.get("least_tissue", 0)), "duplicates": said.get("duplicates", "none")}


def _packed(name: str, said: Mapping[str, Any], path: Path, px: int, cache: Path) -> tuple[TileSource, Facts]:
    if path.is_dir() != ("folder" in said) and path.exists():
        is_what = "folder" if path.is_dir() else "table"
        raise _refused(
            "a source is of another kind", name, f"{is_what} = {str(said[_kind(name, said)])!r}", "the other"
        )
    if "table" in said:
        _check_hashes(path)
    dataset, filters = as_dataset(path), _filters(said)
    fingerprint = tiles.fingerprint(dataset)
    tiles_NHWC = tiles.pack(dataset, px, cache, known_as=fingerprint)
    least, duplicates = filters["least_tissue"], DUPLICATES[filters["duplicates"]]
    choice = choose_once(
        cache,
        (fingerprint, px, least, duplicates),
        lambda: choose_rows(tiles_NHWC, least_tissue=least, duplicates=duplicates, where=name),
    )
    facts = {"filters": filters, **choice.report(), "fingerprint": fingerprint}
    if "mpp" in said:
        facts["packed_mpp"] = resolution.of_tiles(dataset, mpp=float(said["mpp"]), px=px)
    return PackedTiles(tiles_NHWC, choice.rows), facts


def _check_hashes(path: Path) -> None:
    """Compares a table's tiles with its column `sha256`, where it has one; raises `HZ-D25`."""
    found = find_tiles(path)
    changed = [
        UsageError(
            "HZ-D25",
            "a tile is not the one whose hash the table gives",
            where=found.root / name,
            expected=f"sha256 {sha256}",
            got="other bytes",
            next_step="restore the file from its origin",
        )
        for name, sha256 in found.sha256.items()
        if hashlib.sha256(read(found.root / name)).hexdigest() != sha256.strip().lower()
    ]
    if changed:
        raise all_of(changed, kept=_KEPT)


def _shards(name: str, said: Mapping[str, Any], path: Path, px: int, cache: Path) -> tuple[TileSource, Facts]:
    shards, filters = open_shards(path, px=px, cache=cache), _filters(said)
    spread = (
        {"packed_mpp": resolution.of_shards(shards, mpp=float(said["mpp"]), cache=cache)}
        if "mpp" in said
        else {}
    )
    counts = {"kept": shards.rows, "tiles": shards.rows, "background": 0, "duplicates": 0}
    if filters["least_tissue"] > 0 or filters["duplicates"] != "none":
        duplicates = DUPLICATES[filters["duplicates"]]
        choice = thin(
            shards, least_tissue=filters["least_tissue"], duplicates=duplicates, cache=cache, where=name
        )
        counts = choice.report()
    facts = {"filters": filters, **counts, "shards": len(shards.files), "ignored": shards.ignored}
    return shards, {**facts, "fingerprint": shards.fingerprint, **spread}


def _slides(name: str, said: Mapping[str, Any], path: Path, px: int, cache: Path) -> tuple[TileSource, Facts]:
    least = float(said.get("least_tissue", 0))
    scale = {key: float(said[key]) for key in ("mpp", "downsample") if key in said}
    opened = SlideSet(source=path, least_tissue=least, cache=cache, **scale).open(px)
    facts = {"filters": {"least_tissue": least}, **scale, "slides": len(opened.slides)}
    return opened, {**facts, "tiles": opened.rows, "fingerprint": opened.fingerprint}


_OPEN: dict[str, Callable[[str, Mapping[str, Any], Path, int, Path], tuple[TileSource, Facts]]] = {
    "folder": _packed,
    "table": _packed,
    "shards": _shards,
    "slides": _slides,
}


def _refused(what: str, where: str, expected: str, got: str) -> UsageError:
    return UsageError(
        "HZ-U86",
        what,
        where=f"unlabelled.{where}" if where else "unlabelled",
        expected=expected,
        got=got,
        kept=_KEPT,
    )
