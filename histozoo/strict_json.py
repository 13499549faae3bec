"""JSON as the standard has it: distinct keys, finite numbers. Python's own reader lets the last of two equal keys win."""

from __future__ import annotations

import json
from typing import Any


def loads(data: bytes) -> Any:
    """Returns the value of a UTF-8 JSON text.

    Raises:
        ValueError: It is not UTF-8 or not JSON, a key occurs twice, a number is not finite, or it is nested too deeply.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(k for k in keys if keys.count(k) > 1)!r}")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number that JSON knows")
