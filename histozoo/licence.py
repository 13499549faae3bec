"""The licence of weights, as it follows from what they were trained on. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

RESEARCH_ONLY = "histozoo-research-only"
"""`license_name` of weights with the licence id `other`."""

_PERMISSIVE = re.compile(
    r"^(cc0|cc ?by ?[1-4]|mit|apache|bsd|isc|unlicense|pddl|odc ?by|public ?domain|us ?nlm|us ?government)\b"
)
_NON_COMMERCIAL = re.compile(r"\bnc\b|non ?commercial|research (use )?only|academic (use )?only")
_RESTRICTED = re.compile(r"\b(nd|sa|unknown|not|no|unclear|unstated|none|gpl)\b")


def kind(licence: str) -> str:
    """Returns `permissive`, `non-commercial` or `unknown` for a data set's licence as its task states it.

    Whatever is not recognised as permissive is unknown: share-alike, no-derivatives and software licences on images included,
    because what they ask of weights is unsettled.
    """
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", licence.lower()).split())
    if _NON_COMMERCIAL.search(words):
        return "non-commercial"
    return "permissive" if _PERMISSIVE.match(words) and not _RESTRICTED.search(words) else "unknown"


def weights_licence(corpus: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Returns licence id (as the Hub spells it) and reason for weights trained on `corpus`, the strictest source deciding.

    A source of unknown licence allows research use at most (`other`); otherwise a non-commercial one makes the weights
    `cc-by-nc-4.0`; otherwise they are `apache-2.0`.

    Args:
        corpus: What went in, tasks and parent weights, each with `task` and `licence`.
    """
    sources: dict[str, list[str]] = {"permissive": [], "non-commercial": [], "unknown": []}
    for item in corpus:
        sources[kind(str(item["licence"]))].append(f"{item['task']} ({item['licence']})")
    named = {key: ", ".join(items) for key, items in sources.items()}
    if sources["unknown"]:
        reason = f"research use only: no clear licence for {named['unknown']}"
        return "other", reason + (
            f"; non-commercial: {named['non-commercial']}" if sources["non-commercial"] else ""
        )
    if sources["non-commercial"]:
        return "cc-by-nc-4.0", f"non-commercial like its sources {named['non-commercial']}"
    return "apache-2.0", f"every source allows any use: {named['permissive'] or 'none was used'}"
