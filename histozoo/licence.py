"""The licence of weights, as it follows from what they were trained on. Standard library only.

Nothing is read into a licence's words: a table of ids decides, and what is not in it, letter by letter, is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

RESEARCH_ONLY = "histozoo-research-only"
"""`license_name` of weights with the licence id `other`."""

_CC = ("1.0", "2.0", "2.5", "3.0", "4.0")
_PERMISSIVE = ("permissive", "every use is allowed")
_NON_COMMERCIAL = ("non-commercial", "non-commercial use is allowed")
_SHARE_ALIKE = ("unknown", "share-alike: whether weights must carry the same licence is unsettled")
_NO_DERIVATIVES = ("unknown", "no derivatives: whether weights are one is unsettled")
_RESEARCH = ("unknown", "research use only")

_TABLE: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("cc0", "cc0-1.0", "public-domain", "pddl-1.0", "unlicense", "odc-by-1.0"), _PERMISSIVE),
    **dict.fromkeys(("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc"), _PERMISSIVE),
    **dict.fromkeys((f"cc-by-{v}" for v in _CC), _PERMISSIVE),
    **dict.fromkeys((f"cc-by-nc-{v}" for v in _CC), _NON_COMMERCIAL),
    **dict.fromkeys((f"cc-by-{nc}sa-{v}" for nc in ("", "nc-") for v in _CC), _SHARE_ALIKE),
    **dict.fromkeys((f"cc-by-{nc}nd-{v}" for nc in ("", "nc-") for v in _CC), _NO_DERIVATIVES),
    **dict.fromkeys(("research-use-only", "non-commercial,-research-use-only"), _RESEARCH),
}
"""Id in lower case with hyphens -> its kind, and why in words."""


def kind(licence: str) -> str:
    """Returns `permissive`, `non-commercial` or `unknown` for a data set's licence; spaces and hyphens are one, letter case does not count.

    Whatever is not an id of the table is unknown, words beside an id included (`CC-BY-4.0, not checked`). Unknown are also share-alike,
    no-derivatives, research-only and software licences such as the GPL, because what they ask of weights is unsettled.
    """
    return _looked_up(licence)[0]


def why(licence: str) -> str:
    """Returns in words why a licence is of its kind; an empty string where it is none that the table knows."""
    return _looked_up(licence)[1]


def stated(licence: str, *, checked: bool, note: str = "") -> str:
    """Returns the words that stand for a licence wherever it is written down: the id alone only where it was checked.

    Args:
        licence: Id, or "unknown".
        checked: Whether it was read at the source, or in a text that quotes it.
        note: What it rests on, or why nothing better is known.
    """
    if checked:
        return licence
    words = licence if licence == "unknown" else f"{licence}, not checked"
    return f"{words} ({note})" if note else words


def weights_licence(corpus: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Returns licence id (as the Hub spells it) and reason for weights trained on `corpus`, the strictest source deciding.

    A source of unknown licence, or of one whose effect on weights is unsettled, allows research use at most (`other`); otherwise a
    non-commercial one makes the weights `cc-by-nc-4.0`; otherwise they are `apache-2.0`.

    Args:
        corpus: What went in, tasks and parent weights, each with `task` and `licence`.
    """
    named: dict[str, list[str]] = {}
    for item in corpus:
        found, reason = _looked_up(str(item["licence"]))
        bucket = found if found != "unknown" else reason or "no clear licence"
        named.setdefault(bucket, []).append(f"{item['task']} ({item['licence']})")
    free, nc = (", ".join(named.pop(key, [])) for key in ("permissive", "non-commercial"))
    if named:
        first = named.pop("no clear licence", [])
        parts = [f"no clear licence for {', '.join(first)}"] if first else []
        parts += [f"{reason}, of {', '.join(names)}" for reason, names in named.items()]
        parts += [f"non-commercial: {nc}"] if nc else []
        return "other", "research use only: " + "; ".join(parts)
    if nc:
        return "cc-by-nc-4.0", f"non-commercial like its sources {nc}"
    return "apache-2.0", f"every source allows any use: {free or 'none was used'}"


def _looked_up(licence: str) -> tuple[str, str]:
    return _TABLE.get(re.sub(r"[\s\-]+", "-", licence.strip().lower()), ("unknown", ""))
