"""Training, validation and test rows: groups stay together, classes are spread evenly, duplicates never face each other.

Shapes: N tiles, G groups, K classes, S = 3 splits.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.data import rings
from histozoo.data.duplicates import find_duplicates, merge_duplicates, refuse_conflicts
from histozoo.errors import IntegrityError, UsageError

__all__ = ["PARTS", "Split", "check_split", "make_split", "merge_duplicates"]

PARTS = ("train", "val", "test")
_ATTEMPTS = 16
_MUST = 1e6
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Sorted row numbers of each part, with how they came about.

    Args:
        train: Rows to train on, int64.
        val: Rows to choose settings on.
        test: Rows to report.
        seed: What the split was drawn with.
        duplicates: Pairs of rows found to be the same tile, or nearly, and put on one side.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int
    duplicates: int = 0

    @property
    def fingerprint(self) -> str:
        """The sha256 (64 hex digits) of the seed and all rows."""
        rows = {part: getattr(self, part).tolist() for part in PARTS}
        return hashlib.sha256(json.dumps({"seed": self.seed, **rows}).encode()).hexdigest()

    def to_json(self) -> str:
        """Returns the split with its fingerprint as one JSON object."""
        rows = {part: getattr(self, part).tolist() for part in PARTS}
        return json.dumps(
            {"seed": self.seed, "fingerprint": self.fingerprint, "duplicates": self.duplicates, **rows}
        )

    @classmethod
    def from_json(cls, value: str | Mapping[str, Any]) -> Split:
        """Reads what `to_json` wrote, as text or already parsed.

        Raises:
            IntegrityError: `HZ-U35`, a part is missing or the rows are not those of the fingerprint.
        """
        try:
            read = json.loads(value) if isinstance(value, str) else dict(value)
            rows = {part: np.array(read[part], dtype=np.int64) for part in PARTS}
            split = cls(**rows, seed=int(read["seed"]), duplicates=int(read.get("duplicates", 0)))
            recorded = str(read["fingerprint"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                "HZ-U35", "the stored split is incomplete", got=f"{type(error).__name__}: {error}"
            ) from error
        if split.fingerprint != recorded:
            raise IntegrityError(
                "HZ-U35",
                "the stored split was changed",
                expected=f"fingerprint {recorded}",
                got=f"fingerprint {split.fingerprint}",
                next_step="restore the file, or make the split again from its seed",
            )
        return split


def make_split(
    labels_N: NDArray[np.int64] | Sequence[int],
    groups: Sequence[str],
    *,
    seed: int,
    tiles: NDArray[np.uint8] | None = None,
    turned: bool = False,
    fractions: tuple[float, float] = (0.6, 0.2),
    where: str = "",
) -> Split:
    """Splits rows by group, each class as near to its fractions as the groups allow, and every class in every part.

    Groups are dealt out from the largest to the smallest, each to the part that lacks most of its classes; of several shuffled
    attempts the one nearest to the fractions is kept. The same arguments give the same split on every machine.

    Args:
        labels_N: Class number of each row, 0 to K - 1.
        groups: Name of each row's group.
        seed: Draws the order of equally large groups.
        tiles: uint8 `[N, px, px, 3]`; where given, duplicate tiles join their groups into one first.
        turned: Also look for copies turned by any angle or enlarged, as augmentation makes them (`rings.turned_pairs`), which takes about
            as long again. Off where it was not asked for, so that a split that somebody recorded is drawn again as it was.
        fractions: Shares of train and val; test gets the rest.
        where: What errors call the data, such as a task's name.

    Raises:
        UsageError: `HZ-E36` fewer than two classes, or a class that cannot be in every part; `HZ-E38` duplicate tiles with different
            labels; `HZ-U36` numbers of rows or fractions that make no sense.
    """
    labels_N = np.asarray(labels_N, dtype=np.int64)
    _check_sizes(labels_N, groups, tiles, fractions)
    pairs: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
    if tiles is not None:
        pairs = _copies(tiles, turned)
        refuse_conflicts(tiles, labels_N, pairs, where=where)
        groups = merge_duplicates(groups, tiles, pairs=pairs)
    names, group_N = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts_GK = np.zeros((len(names), int(labels_N.max()) + 1))
    np.add.at(counts_GK, (group_N, labels_N), 1)
    _check_groups(counts_GK, where)
    shares_S = np.array([*fractions, 1 - sum(fractions)])
    part_G = _best_deal(counts_GK, shares_S, seed, where)
    part_N = part_G[group_N]
    rows = {part: np.flatnonzero(part_N == s).astype(np.int64) for s, part in enumerate(PARTS)}
    split = Split(**rows, seed=seed, duplicates=len(pairs))
    check_split(split, groups)
    _log.info("split of %d groups: %s", len(names), {part: len(r) for part, r in rows.items()})
    return split


def check_split(
    split: Split, groups: Sequence[str], *, tiles: NDArray[np.uint8] | None = None, turned: bool = False
) -> None:
    """Refuses a split whose parts are not independent; for splits that come from elsewhere or from a file.

    Args:
        split: The rows of each part.
        groups: Name of each row's group.
        tiles: uint8 `[N, px, px, 3]`; where given, duplicates are looked for across the parts.
        turned: Also copies turned by any angle or enlarged.

    Raises:
        UsageError: `HZ-E37` a row or a group in two parts, or a row that is not there; `HZ-E38` the same tile, or nearly, in two parts.
    """
    part_N = np.full(len(groups), -1)
    of_group: dict[str, int] = {}
    for s, part in enumerate(PARTS):
        for row in getattr(split, part).tolist():
            if not 0 <= row < len(groups):
                raise UsageError(
                    "HZ-E37",
                    "a row of the split is not there",
                    where=part,
                    expected=f"0 to {len(groups) - 1}",
                    got=row,
                )
            if part_N[row] >= 0 or of_group.setdefault(groups[row], s) != s:
                other = part_N[row] if part_N[row] >= 0 else of_group[groups[row]]
                raise UsageError(
                    "HZ-E37",
                    "a group is in two parts of the split",
                    where=f"group {groups[row]!r}, row {row}",
                    expected="each patient, slide or photograph in one part",
                    got=f"{PARTS[other]} and {part}",
                    next_step="split by group",
                )
            part_N[row] = s
    if tiles is not None:
        _refuse_across(part_N, _copies(tiles, turned))


def _copies(tiles_NHWC: NDArray[np.uint8], turned: bool) -> NDArray[np.int64]:
    pairs = find_duplicates(tiles_NHWC)
    return np.unique(np.concatenate([pairs, rings.turned_pairs(tiles_NHWC)]), axis=0) if turned else pairs


def _refuse_across(part_N: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
    parts = part_N[pairs]
    across = pairs[(parts[:, 0] != parts[:, 1]) & (parts >= 0).all(axis=1)]
    if len(across):
        named = [f"{a} ({PARTS[part_N[a]]}) = {b} ({PARTS[part_N[b]]})" for a, b in across[:5].tolist()]
        raise UsageError(
            "HZ-E38",
            "the same tile, or nearly the same, is in two parts of the split",
            expected="no tile in two parts",
            got=f"{len(across):,} pairs of rows: {', '.join(named)}",
            next_step="give duplicates one group, as make_split does when it is given the tiles",
        )


def _best_deal(
    counts_GK: NDArray[np.float64], shares_S: NDArray[np.float64], seed: int, where: str
) -> NDArray[np.int64]:
    """Returns each group's part by the best attempt; scarce classes come before shares only where nothing else has them in every part."""
    for scarce_first in (False, True):
        randoms = [np.random.default_rng([seed, attempt]) for attempt in range(_ATTEMPTS)]
        deals = [_deal(counts_GK, shares_S, random, scarce_first=scarce_first) for random in randoms]
        empty, _, part_G = min(deals, key=lambda deal: deal[:2])
        if not empty:
            return part_G
    raise _no_split(counts_GK, "no split was found that has every class in every part", where)


def _deal(
    counts_GK: NDArray[np.float64],
    shares_S: NDArray[np.float64],
    random: np.random.Generator,
    *,
    scarce_first: bool,
) -> tuple[int, float, NDArray[np.int64]]:
    """Returns how many (part, class) cells stay empty, the squared distance from the shares, and each group's part."""
    share_GK = counts_GK / np.maximum(counts_GK.sum(axis=0), 1)
    holds_GK: NDArray[np.bool_] = np.asarray(counts_GK > 0)
    must = _MUST if scarce_first else 0.0
    lacking_SK = np.repeat(shares_S[:, None], counts_GK.shape[1], axis=1)
    missing_SK = np.repeat(np.any(holds_GK, axis=0, keepdims=True), len(shares_S), axis=0)
    left_K = holds_GK.sum(axis=0)
    shuffled_G = random.permutation(len(counts_GK))
    part_G = np.zeros(len(counts_GK), dtype=np.int64)
    for g in shuffled_G[np.argsort(-share_GK[shuffled_G].max(axis=1), kind="stable")]:
        # A class with no more groups left than parts without it is scarce: each of its groups must open another part.
        urgent_K = holds_GK[g] & (left_K <= missing_SK.sum(axis=0))
        part_G[g] = s = int(np.argmax(lacking_SK @ share_GK[g] + must * (missing_SK & urgent_K).sum(axis=1)))
        lacking_SK[s] -= share_GK[g]
        missing_SK[s] &= ~holds_GK[g]
        left_K -= holds_GK[g]
    return int(missing_SK.sum()), float((lacking_SK**2).sum()), part_G


def _check_groups(counts_GK: NDArray[np.float64], where: str) -> None:
    groups_K = (counts_GK > 0).sum(axis=0)
    if (groups_K > 0).sum() < 2:
        raise _no_split(counts_GK, "the labels hold fewer than two classes", where)
    if ((groups_K > 0) & (groups_K < len(PARTS))).any():
        raise _no_split(counts_GK, "a class has too few groups to be in every part", where)


def _no_split(counts_GK: NDArray[np.float64], what: str, where: str) -> UsageError:
    tiles_K, groups_K = counts_GK.sum(axis=0), (counts_GK > 0).sum(axis=0)
    return UsageError(
        "HZ-E36",
        what,
        where=where,
        expected=f"two classes or more, each in {len(PARTS)} groups or more",
        got=", ".join(
            f"class {k}: {int(n)} tiles in {g} groups"
            for k, (n, g) in enumerate(zip(tiles_K, groups_K, strict=True))
        ),
        next_step="leave the class out of the task with its reason, or add tiles of other groups",
    )


def _check_sizes(
    labels_N: NDArray[np.int64],
    groups: Sequence[str],
    tiles: NDArray[np.uint8] | None,
    fractions: tuple[float, float],
) -> None:
    rows = {len(labels_N), len(groups), *([len(tiles)] if tiles is not None else [])}
    if len(rows) > 1 or rows == {0} or labels_N.min() < 0:
        raise UsageError(
            "HZ-U36",
            "labels, groups and tiles are not of the same rows",
            expected="one each, labels from 0",
            got=sorted(rows),
        )
    if min(*fractions, 1 - sum(fractions)) <= 0:
        raise UsageError(
            "HZ-U36",
            "the fractions leave a part empty",
            expected="two positive numbers below 1 in all",
            got=fractions,
        )
