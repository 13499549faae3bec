"""A study file: one TOML with a question, the settings that its presets share, and the presets themselves; read strictly."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histozoo.errors import UsageError
from histozoo.experiment_values import check_keys, read_toml
from histozoo.ranges import SEED, Range
from histozoo.studies.settings import KINDS, Settings

_TEXTS = ("name", "kind", "title", "question", "source", "expected")
_CHOICES = {
    "finetune": ("small", "full"),
    "precision": ("fp32", "bf16"),
    "select": ("loss", "accuracy"),
    "modes": ("frozen", "finetuned"),
    "poolings": ("attention", "gated", "mean", "max"),
    "tuned_pooling": ("attention", "gated"),
    "protocol": ("linear_svm", "logistic", "knn"),
}
_LEAST = {
    "per_group": 0,
    "top_k": 0,
    "stride": 0,
    "folds": 2,
    "px": 32,
    "resamples": 100,
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study file with one of its presets.

    Args:
        name: For folders; lower case letters, digits and `_`.
        kind: A key of `KINDS`.
        title, question, source, expected: For the report.
        preset: Which preset.
        changed: What was set on the command line.
        settings: Everything that decides the numbers, apart from the data.
        full: What the preset `full` would set; None where the file has none.
    """

    name: str
    kind: str
    title: str
    question: str
    source: str
    expected: str
    preset: str
    changed: Mapping[str, Any]
    settings: Settings
    full: Settings | None = None

    def facts(self) -> dict[str, Any]:
        """Returns what a second start in the same folder must agree with, as JSON types; `shard` where it is set, as in an experiment."""
        settings = dataclasses.asdict(self.settings)
        if not settings.get("shard", True):
            del settings["shard"]
        return {
            "schema": 1,
            "study": self.name,
            "kind": self.kind,
            "preset": self.preset,
            "changed": dict(self.changed),
            "settings": settings,
        }


def read(path: str | Path, *, preset: str, changed: Mapping[str, Any] | None = None) -> Study:
    """Reads a study file.

    Args:
        path: The file.
        preset: The table `[preset.NAME]` that is put over the shared settings.
        changed: Settings that win over the file.

    Raises:
        UsageError: `HZ-U41` no such file or no TOML, `HZ-U42` unknown key, `HZ-U43` a value of the wrong type or range, no such preset, or
            a key that is missing; the preset `full` is checked beside the one asked for.
    """
    path = Path(path)
    raw = read_toml(path, what="study", next_step="see experiments/studies/ for the studies there are")
    texts = {key: _text(key, raw.pop(key, None), path) for key in _TEXTS}
    presets = raw.pop("preset", {})
    kind = KINDS[_one_of("kind", texts["kind"], tuple(KINDS), path)]
    if not isinstance(presets, dict) or not all(isinstance(p, dict) for p in presets.values()):
        raise _wrong("preset", presets, "tables [preset.small] and [preset.full]", path)
    for keys in (raw, *presets.values(), changed or {}):
        check_keys(keys, [f.name for f in dataclasses.fields(kind)], path, what="study", cutoff=0.4)
    _one_of("preset", preset, tuple(presets), path)
    settings = _settings(kind, {**raw, **presets[preset], **(changed or {})}, path)
    full = _settings(kind, {**raw, **presets["full"]}, path) if "full" in presets else None
    return Study(preset=preset, changed=changed or {}, settings=settings, full=full, **texts)


def _settings(kind: type[Settings], values: Mapping[str, Any], where: Path) -> Settings:
    return kind(**{f.name: _value(f, values, where) for f in dataclasses.fields(kind)})


def _value(field: dataclasses.Field[Any], values: Mapping[str, Any], where: Path) -> Any:
    """Returns the value of a field as its type, or the field's default."""
    if field.name in values:
        return _typed(field.name, str(field.type), values[field.name], where)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise _wrong(field.name, "nothing", "a value in the file or its preset", where)
    return field.default


def _typed(key: str, kind: str, value: Any, where: Path) -> Any:
    if kind.startswith("dict"):
        if not isinstance(value, dict) or not value:
            raise _wrong(key, value, "a table with one entry or more", where)
        inner = kind.partition(", ")[2].removesuffix("]")
        return {name: _typed(key, inner, item, where) for name, item in value.items()}
    if kind.startswith("tuple"):
        items = value if isinstance(value, list | tuple) else None
        if items is None or not _fills(key, items):
            raise _wrong(key, value, "a list of values, each once", where)
        return tuple(_typed(key, kind[6:].partition(",")[0], item, where) for item in items)
    types: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    good = isinstance(value, types[kind]) and (kind == "bool" or not isinstance(value, bool))
    good = good and value in _CHOICES.get(key, (value,)) and (value != "")
    within = SEED if key in ("seed", "seeds") else Range(least=_LEAST.get(key, 1))
    if not good or (kind == "int" and not within.holds(value)) or (kind == "float" and not value > 0):
        expected = f"{kind}, {within}" if kind == "int" else kind
        raise _wrong(key, value, " or ".join(_CHOICES.get(key, (expected,))), where)
    return float(value) if kind == "float" else value


def _fills(key: str, items: Sequence[Any]) -> bool:
    """Whether a list has what it needs: one value or more, each once (the decoder's channels may repeat)."""
    once = key in ("decoder", "mean", "std") or len({*map(repr, items)}) == len(items)
    return once and (len(items) > 0 or key in ("away", "cut_tasks", "candidates", "common"))


def _text(key: str, value: Any, where: Path) -> str:
    good = isinstance(value, str) and value.strip() and (key != "name" or _NAME.fullmatch(value))
    if not good:
        expected = "lower case letters, digits and _" if key == "name" else "a text"
        raise _wrong(key, "nothing" if value is None else value, expected, where)
    return " ".join(str(value).split())


def _one_of(key: str, value: str, known: tuple[str, ...], where: Path) -> str:
    if value not in known:
        raise _wrong(key, value, f"one of {', '.join(known)}", where)
    return value


def _wrong(key: str, got: Any, expected: str, where: Path) -> UsageError:
    return UsageError(
        "HZ-U43", f"study key {key!r} has a wrong value", where=where, expected=expected, got=repr(got)
    )
