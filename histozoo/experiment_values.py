"""Values of an experiment file: each exactly of its field's type and range, or refused with what was expected."""

from __future__ import annotations

import ast
import difflib
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from histozoo.errors import UsageError
from histozoo.ranges import BELOW_ONE, COUNT, NOT_NEGATIVE, PART, POSITIVE, SEED, SHARE, Range

_CHOICES = {
    "precision": ("bf16", "fp32"),
    "inherit": ("backbone", "everything"),
    "optimizer": ("sgd", "adamw", "lars"),
    "schedule": ("constant", "cosine"),
    "loss": ("batch_mean", "task_mean"),
}


def read_toml(path: Path, *, what: str, next_step: str) -> dict[str, Any]:
    """Returns what a TOML file says.

    Raises:
        UsageError: `HZ-U41`, no such file or no TOML; it names `what` the file is, and `next_step`.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            "HZ-U41", f"cannot read the {what}: {error}", where=path, next_step=next_step
        ) from error


def check_keys(
    raw: Iterable[str],
    known: Collection[str],
    where: object,
    *,
    what: str = "experiment",
    cutoff: float = 0.65,
) -> None:
    """Refuses a key that is not known (`HZ-U42`), with the nearest known one if it is as near as `cutoff`."""
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=cutoff)
            raise UsageError(
                "HZ-U42",
                f"unknown {what} key {key!r}",
                where=where,
                expected=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(known))}",
                got=key,
                next_step="correct or remove the key",
            )


def table(key: str, value: Any, where: object) -> dict[str, Any]:
    """Returns a table of the file; anything else is refused (`HZ-U43`)."""
    if not isinstance(value, dict):
        raise wrong(key, value, f"a table [{key}]", where)
    return value


def fill(
    what: str, fields: Mapping[str, Any], given: Mapping[str, Any], where: object, *, also: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns each field's given value, checked by the type and range of the dataclass it comes from, or its default.

    A number without a range of its own is not below 0, and a probability (its name ends in `_p`) a share.
    """
    check_keys(given, {*fields, *also}, where, what=what)
    values = {}
    for key, field in fields.items():
        within = field.metadata.get("range", SHARE if key.endswith("_p") else NOT_NEGATIVE)
        values[key] = convert(key, str(field.type), given.get(key, field.default), where, within=within)
    return values


def convert(key: str, kind: str, value: Any, where: object, *, within: Range | None = None) -> Any:
    """Returns `value` as the field's type, refusing what is not exactly that (a float for an int, a string for a number).

    Args:
        key: Its name in the experiment.
        kind: The type, as it is written.
        value: As it was read.
        where: The file.
        within: Range of the number, or of each; that of the key at the top of an experiment where it is left out.

    Raises:
        UsageError: `HZ-U43`, with the type and range expected.
    """
    if kind == "table":
        return table(key, value, where)
    choices = _CHOICES.get(key, (value,))
    if kind.startswith("Literal"):
        kind, choices = "str", tuple(ast.literal_eval(f"[{kind[8:-1]}]"))
    if kind.startswith("tuple"):
        item = "str" if "str" in kind else "float"
        count = kind.count(item) if "..." not in kind else None
        good = (
            isinstance(value, list | tuple)
            and count in (None, len(value))
            and (len(value) > 0 or value == ())
        )
        good = good and all(_is(item, v) for v in value)
        result: Any = tuple(float(v) if item == "float" else v for v in value) if good else None
    else:
        good = _is(kind, value) and value in choices
        result = float(value) if good and kind == "float" else value
    within = within or _RANGES.get(key, Range()) if "int" in kind or "float" in kind else None
    if good and within:
        good = all(map(within.holds, result if isinstance(result, tuple) else (result,)))
    if not good:
        named = " or ".join(choices if choices != (value,) else (kind,))
        raise wrong(key, value, f"{named}, {within}" if within and str(within) else named, where)
    return result


def wrong(key: str, value: Any, expected: str, where: object) -> UsageError:
    """Returns the error `HZ-U43` of a value that its key cannot have."""
    return UsageError(
        "HZ-U43", f"experiment key {key!r} has a wrong value", where=where, expected=expected, got=repr(value)
    )


_RANGES = {
    **dict.fromkeys(
        ("steps", "batch_size", "accumulate", "tile_px", "pack_px", "train_px", "eval_every", "save_every"),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "warmup_steps",
            "head_warmup_steps",
            "transplant_batches",
            "lr",
            "weight_decay",
            "max_grad_norm",
            "head_lr_factor",
            "head_warmup_lr",
            "colour",
            "stain",
            "ssl_weight",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(("momentum", "unlabelled_share"), BELOW_ONE),
    **dict.fromkeys(("seed", "split_seed"), SEED),
    "alpha": Range(),
    "std": POSITIVE,
    "mean": Range(),
    "area": PART,
    "aspect": COUNT,
}
"""Ranges of the keys at the top of an experiment; those of its tables stand beside the settings themselves."""


def _is(kind: str, value: Any) -> bool:
    types: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    return isinstance(value, types[kind]) and (kind == "bool" or not isinstance(value, bool))


def overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Returns `key=value` pairs as TOML, so that a string, a number and a list mean what they mean in an experiment.

    Raises:
        UsageError: `HZ-U66`, not `key=value`.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        try:
            values |= tomllib.loads(setting)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(
                "HZ-U66",
                "this is not key=value as in a TOML file",
                got=setting,
                next_step="for example --set steps=100, or --set 'init=\"random\"'",
            ) from error
    return values
