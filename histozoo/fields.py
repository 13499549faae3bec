"""Small checks to write a schema with: each takes a value and the name of its field, and raises `Invalid` where its rule is broken.

Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

Check = Callable[[Any, str], None]


class Invalid(Exception):
    """A field broke its rule; the caller knows the file and makes an error of it."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(field)
        self.field, self.value, self.allowed = field, value, allowed


def refuse(field: str, value: object, allowed: str) -> NoReturn:
    """Raises Invalid."""
    raise Invalid(field.lstrip("."), value, allowed)


def is_number(value: object) -> bool:
    """Returns whether `value` is a finite number (True and False are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def where(holds: Callable[[Any], bool], allowed: str) -> Check:
    """Accepts a value for which `holds`."""

    def check(value: Any, field: str) -> None:
        if not holds(value):
            refuse(field, value, allowed)

    return check


def number(holds: Callable[[float], bool], allowed: str) -> Check:
    """Accepts a finite number for which `holds`."""
    return where(lambda v: is_number(v) and holds(v), allowed)


def whole(least: int) -> Check:
    """Accepts a whole number, `least` or more."""
    return where(lambda v: type(v) is int and v >= least, f"a whole number, {least} or more")


def matches(pattern: re.Pattern[str], allowed: str, *, longest: int = 128) -> Check:
    """Accepts a text that `pattern` matches from end to end, without two dots in a row."""
    return where(
        lambda v: isinstance(v, str) and len(v) <= longest and ".." not in v and bool(pattern.fullmatch(v)),
        allowed,
    )


def one_of(*values: object) -> Check:
    """Accepts one of `values`, of the same type: 1 is not True."""
    allowed = "one of " + ", ".join(map(repr, values)) if len(values) > 1 else repr(values[0])
    return where(lambda v: any(v == w and type(v) is type(w) for w in values), allowed)


def or_null(check: Check) -> Check:
    """Accepts null, and what `check` accepts."""

    def optional(value: Any, field: str) -> None:
        if value is not None:
            check(value, field)

    return optional


def list_of(check: Check, *lengths: int, least: int = 0) -> Check:
    """Accepts a list of one of `lengths` (any without) and of at least `least` values, each held to `check`."""
    allowed = (
        f"a list of {' or '.join(map(str, lengths))} values"
        if lengths
        else f"a list of {least} or more values"
    )

    def check_list(value: Any, field: str) -> None:
        if not isinstance(value, list) or (lengths and len(value) not in lengths) or len(value) < least:
            refuse(field, value, allowed)
        for i, item in enumerate(value):
            check(item, f"{field}[{i}]")

    return check_list


def record(fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Accepts an object with all of `fields`, any of `optional` and nothing else."""
    known = {**fields, **(optional or {})}

    def check(value: Any, field: str) -> None:
        if not isinstance(value, dict):
            refuse(field, value, "an object")
        for key in fields:
            if key not in value:
                refuse(f"{field}.{key}", "(missing)", "the field to be present")
        for key, item in value.items():
            if key not in known:
                refuse(f"{field}.{key}", item, f"only the fields {', '.join(known)}")
            known[key](item, f"{field}.{key}")

    return check


def mapping(*, without: tuple[str, ...] = ()) -> Check:
    """Accepts an object of any JSON values, without the keys named."""

    def check(value: Any, field: str) -> None:
        if not isinstance(value, dict):
            refuse(field, value, "an object (never null)")
        for key in value:
            if key in without:
                refuse(f"{field}.{key}", value[key], "the field to be absent: callers and loaders set it")
        anything(value, field)

    return check


def anything(value: Any, field: str) -> None:
    """Accepts any JSON value whose numbers are finite."""
    if isinstance(value, dict):
        for key, item in value.items():
            anything(item, f"{field}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            anything(item, f"{field}[{i}]")
    elif not (value is None or isinstance(value, str | bool) or is_number(value)):
        refuse(field, value, "JSON with finite numbers")


text = where(lambda v: isinstance(v, str) and bool(v.strip()), "a text that is not empty")
any_text = where(lambda v: isinstance(v, str), "a text")
boolean = one_of(True, False)
any_number = number(lambda _: True, "a finite number")
