"""A study file: one TOML with a question, the settings that its presets share, and the presets themselves; read strictly."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histozoo.errors import UsageError
from histozoo.experiment_values import check_keys


@dataclass(frozen=True, kw_only=True)
class Multitask:
    """Does pretraining on many tasks pay on tasks of other lineages?

    Args:
        models: Names for `histozoo evaluate`; the others are compared with the first.
        tasks: Tasks of the pool.
        protocols: Of `histozoo evaluate`.
        finetune: Preset of fine-tuning, `small` or `full`.
        seeds: The first is of folds, splits and resampling; each is of one fine-tuning.
        resamples: Bootstrap resamples of each interval.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    protocols: tuple[str, ...]
    finetune: str = "small"
    seeds: tuple[int, ...] = (0,)
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """From which size of training set on is a pretrained encoder no better than a random one?

    Args:
        models: Names of encoders (entries, runs, `timm:`), of one architecture; each is compared with random weights.
        called: Model -> what the report calls it, where its name is long.
        sizes: Set that is trained on -> numbers of training groups, ascending.
        away: Sets that are tested on as well, where they show the same objects as the set trained on.
        modes: `frozen`, `finetuned`.
        seeds: Each draws nested training sets, decoder and crops.
        steps, px, batch_size, lr, decoder, precision: As in the training of one U-Net.
        stride: From one window of a prediction to the next, in pixels; 0 for half a window.
        shrink: Set -> whole factor that its pictures are reduced by; 1 where it is not there.
        per_group: Pictures of each training group at most; 0 for all.
        test: Share of the pictures trained on that is kept for testing.
        metrics: The first decides; of it, more must be better.
        seed: Of split and resampling.
        resamples: Bootstrap resamples of each interval.
    """

    models: tuple[str, ...]
    sizes: dict[str, tuple[int, ...]]
    called: dict[str, str] = field(default_factory=dict)
    away: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("frozen", "finetuned")
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 2_000
    px: int = 256
    stride: int = 0
    batch_size: int = 16
    lr: float = 1e-3
    decoder: tuple[int, ...] = (256, 128, 64, 32, 16)
    precision: str = "fp32"
    shrink: dict[str, int] = field(default_factory=dict)
    per_group: int = 0
    test: float = 0.5
    metrics: tuple[str, ...] = ("dice", "iou", "object_dice", "aji_plus", "pq")
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Slides:
    """What tells slides apart: attention or the mean, frozen or fine-tuned on the tiles attended most, and how deep must the trunk be?

    Args:
        models: Names of encoders; each is compared with its random twin.
        called: As in `Segmentation`.
        task: Task whose groups are slides.
        poolings: Heads on frozen features; `mean` is what the others are compared with.
        seeds: Of the heads.
        folds, epochs, select, standardise: As in the plan of slides.
        top_k: Tiles per slide for fine-tuning; 0 for none.
        tuned_pooling: Pooling of the fine-tuned model.
        tuning_epochs, tuning_lr, choosers: As in `Tuning`.
        cut_tasks: Tasks of the pool on which the features of every stage of the first model are probed.
        margin: Loss of balanced accuracy that would not matter for a shorter trunk.
        cka: Compare the blocks of frozen and fine-tuned model.
        seed: Of folds and resampling.
        resamples: Bootstrap resamples of each interval.
    """

    models: tuple[str, ...]
    task: str
    called: dict[str, str] = field(default_factory=dict)
    poolings: tuple[str, ...] = ("attention", "gated", "mean")
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: int = 5
    epochs: int = 20
    select: str = "loss"
    standardise: bool = True
    top_k: int = 64
    tuned_pooling: str = "attention"
    tuning_epochs: int = 20
    tuning_lr: float = 1e-5
    choosers: int = 3
    cut_tasks: tuple[str, ...] = ()
    margin: float = 0.02
    cka: bool = True
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which setting of a pretraining transfers best to lineages that it never saw?

    Args:
        experiment: TOML file of an experiment, seen from where the command is given.
        candidates: Name -> what it changes in the experiment, as `key=value`; two or more, the chosen one is compared with the first.
        lineages: Left out one at a time; their tasks choose and are reported. Two or more.
        common: What all candidates change, as `key=value`.
        seeds: Of pretraining, each candidate with each.
        protocol: Of frozen features, for validation and test.
        seed, resamples: As above; the seed is of splits and inner folds, too.
    """

    experiment: str
    candidates: dict[str, tuple[str, ...]]
    lineages: tuple[str, ...]
    common: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    protocol: str = "linear_svm"
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Which pretraining method gives the best features for the same tiles, trunk and work?

    Args:
        architecture: timm's name of the trunk, one that every recipe takes.
        recipes: Methods; `multitask` is what the others are compared with beside random weights.
        train_tasks: Tasks whose training tiles are trained on; only supervised recipes see the labels.
        judged: Tasks that features are judged on, of other lineages.
        protocols: Of `histozoo evaluate`, on frozen features.
        seeds: Each is of one training of every method, and of one random twin.
        tiles: Work of each training: as many tiles, passed once through the trunk with supervised heads.
        px, pack_px, batch_size, precision, alpha, mean, std, max_grad_norm: As in an experiment.
        warmup_steps: Of the supervised recipes; the others warm up for a share of their steps.
        evaluations: Points of a training's curve.
        lr: Recipe -> learning rate, where it is not that of its preset.
        resamples: Bootstrap resamples of each interval.
    """

    architecture: str
    recipes: tuple[str, ...]
    train_tasks: tuple[str, ...]
    judged: tuple[str, ...]
    protocols: tuple[str, ...] = ("logistic", "knn")
    seeds: tuple[int, ...] = (0, 1, 2)
    tiles: int = 100_000
    px: int = 96
    pack_px: int = 128
    batch_size: int = 128
    precision: str = "fp32"
    alpha: float = 0.5
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    max_grad_norm: float = 3.0
    warmup_steps: int = 100
    evaluations: int = 4
    lr: dict[str, float] = field(default_factory=dict)
    resamples: int = 10_000


Settings = Multitask | Segmentation | Slides | Selection | Ladder
KINDS: dict[str, type[Settings]] = {
    "multitask": Multitask,
    "segmentation": Segmentation,
    "slides": Slides,
    "selection": Selection,
    "ladder": Ladder,
}
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
    "seed": 0,
    "seeds": 0,
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

    def facts(self) -> dict[str, Any]:
        """Returns what a second start in the same folder must agree with, as JSON types."""
        return {
            "schema": 1,
            "study": self.name,
            "kind": self.kind,
            "preset": self.preset,
            "changed": dict(self.changed),
            "settings": dataclasses.asdict(self.settings),
        }


def read(path: str | Path, *, preset: str, changed: Mapping[str, Any] | None = None) -> Study:
    """Reads a study file.

    Args:
        path: The file.
        preset: The table `[preset.NAME]` that is put over the shared settings.
        changed: Settings that win over the file.

    Raises:
        UsageError: `HZ-U41` no such file or no TOML, `HZ-U42` unknown key, `HZ-U43` a value of the wrong type or range, no such preset, or
            a key that is missing.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            "HZ-U41",
            f"cannot read the study: {error}",
            where=path,
            next_step="see experiments/studies/ for the studies there are",
        ) from error
    texts = {key: _text(key, raw.pop(key, None), path) for key in _TEXTS}
    presets = raw.pop("preset", {})
    kind = KINDS[_one_of("kind", texts["kind"], tuple(KINDS), path)]
    if not isinstance(presets, dict) or not all(isinstance(p, dict) for p in presets.values()):
        raise _wrong("preset", presets, "tables [preset.small] and [preset.full]", path)
    for keys in (raw, *presets.values(), changed or {}):
        check_keys(keys, [f.name for f in dataclasses.fields(kind)], path, what="study", cutoff=0.4)
    _one_of("preset", preset, tuple(presets), path)
    values = {**raw, **presets[preset], **(changed or {})}
    checked = {f.name: _value(f, values, path) for f in dataclasses.fields(kind)}
    return Study(preset=preset, changed=changed or {}, settings=kind(**checked), **texts)


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
    if not good or (kind == "int" and value < _LEAST.get(key, 1)) or (kind == "float" and not value > 0):
        expected = f"{kind}, {_LEAST.get(key, 1)} or more" if kind == "int" else kind
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
