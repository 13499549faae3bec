"""What a comparison measures: models, tasks, protocols, seeds and shares of labels, refused before anything slow begins if it cannot be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from histozoo.errors import UsageError
from histozoo.evaluate.encoders import Encoder, encoder
from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.looks import LOOKS

RANDOM_SEEDS = (0, 1, 2)
"""Seeds of `random:NAME` without a seed: their mean is shown, since one initialisation differs from the next."""

FINETUNE, SLIDES = "finetune_", "slides_"
NEED_NETWORKS = ("cuts", "cka")
"""Looks that need blocks; the others take whatever gives features."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Args:
        columns: Name as typed -> its encoders: one, or the seeds of random weights.
        tasks: Names of tasks.
        protocols: Some of `protocol_names()`.
        out: Folder of the predictions.
        cache: Folder of decoded tiles and features.
        data_root: Folder of the task folders; `$HISTOZOO_DATA` where it is None.
        seeds: The first is of folds, splits and resampling; each is of one fine-tuning, on the same split.
        preset: Of fine-tuning, a key of its `PRESETS`.
        fractions: Shares of the training rows' labels that fine-tuning gets, each above 0 and at most 1.
        device: Where models run.
        centres: For `robustness_index`, see `centre_table.of_task`; empty where no centre is known.
    """

    columns: Mapping[str, Sequence[Encoder]]
    tasks: Sequence[str]
    protocols: Sequence[str]
    out: Path
    cache: Path
    data_root: Path | None = None
    seeds: Sequence[int] = (0,)
    preset: str = "small"
    fractions: Sequence[float] = (1.0,)
    device: str = "cpu"
    centres: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One way to measure an encoder on a task.

    Args:
        label: What tables call it: the protocol, and behind an @ the share of the labels where it is not all.
        protocol: One of `protocol_names()`.
        seed: Of its fits.
        fraction: Share of the labels.
    """

    label: str
    protocol: str
    seed: int
    fraction: float = 1.0

    @property
    def tunes(self) -> bool:
        """Whether the encoder is trained on."""
        return self.protocol.startswith(FINETUNE)

    @property
    def pools(self) -> bool:
        """Whether the groups of the task are slides, and one prediction is made for each."""
        return self.protocol.startswith(SLIDES)


def protocol_names() -> tuple[str, ...]:
    """Returns the names of all protocols: those that give predictions, then the looks."""
    from histozoo.evaluate.finetune.settings import MODES
    from histozoo.evaluate.slides.attention import POOLINGS

    trained = (*(f"{FINETUNE}{mode}" for mode in MODES), *(f"{SLIDES}{pooling}" for pooling in POOLINGS))
    return (*FEATURE_PROTOCOLS, *trained, *LOOKS)


def looks_of(plan: Plan) -> list[str]:
    """Returns the protocols of a plan that are looks."""
    return [p for p in dict.fromkeys(plan.protocols) if p in LOOKS]


def columns(names: Sequence[str]) -> dict[str, list[Encoder]]:
    """Returns the encoders of each name; `random:NAME` becomes one column of several seeds.

    Raises:
        UsageError: `HZ-I75`, a name is given twice; and what `encoder` raises.
    """
    if len(set(names)) < len(names) or not names:
        raise UsageError(
            "HZ-I75",
            "every model is compared once",
            expected="one or more names, each once",
            got=", ".join(names) or "none",
            next_step="leave the repeated one out; random:NAME stands for three seeds already, random:NAME@3 is another one",
        )
    found = {}
    for name in names:
        several = name.startswith("random:") and "@" not in name
        found[name] = [encoder(f"{name}@{s}") for s in RANDOM_SEEDS] if several else [encoder(name)]
    return found


def jobs(plan: Plan) -> list[Job]:
    """Returns the ways to predict, in the order of the plan; classifiers on features are fitted with the first seed alone."""
    found = []
    for protocol in dict.fromkeys(plan.protocols):
        if protocol in LOOKS:
            continue
        if protocol.startswith(SLIDES):
            found += [Job(label=protocol, protocol=protocol, seed=s) for s in dict.fromkeys(plan.seeds)]
            continue
        if not protocol.startswith(FINETUNE):
            found.append(Job(label=protocol, protocol=protocol, seed=plan.seeds[0]))
            continue
        for fraction in dict.fromkeys(plan.fractions):
            label = protocol if fraction == 1 else f"{protocol}@{100 * fraction:.4g}%"
            found += [
                Job(label=label, protocol=protocol, seed=seed, fraction=fraction)
                for seed in dict.fromkeys(plan.seeds)
            ]
    return found


def check(plan: Plan) -> None:
    """Refuses a plan that could not be carried out to its end.

    Raises:
        UsageError: `HZ-I75` no such protocol or preset, nothing to do, a share that is none, a model that cannot be fine-tuned, or shares
            and seeds of a fine-tuning that is not asked for; `HZ-U30` no such task; `HZ-U37` a task's folder is not there.
    """
    from histozoo.evaluate.finetune.settings import PRESETS

    for what, given in (("task", plan.tasks), ("protocol", plan.protocols), ("seed", plan.seeds)):
        if not given:
            step = f"name one with --{what}"
            raise UsageError(
                "HZ-I75", f"no {what} is given", expected="one or more", got="none", next_step=step
            )
    check_names(plan.tasks, plan.protocols, plan.data_root)
    named("preset", plan.preset, PRESETS)
    for fraction in plan.fractions:
        if not 0 < fraction <= 1:
            raise UsageError(
                "HZ-I75",
                "this is no share of the labels",
                expected="above 0 and at most 1, such as 0.1",
                got=fraction,
                next_step="a tenth of the labels is --fraction 0.1; all of them need no --fraction",
            )
    _repeats(plan)
    _networks(plan)
    _looks(plan)


def check_names(tasks: Iterable[str], protocols: Iterable[str], data_root: str | Path | None) -> None:
    """Refuses protocols and tasks that are not there, which takes no model: one may have to be fetched first.

    Raises:
        UsageError: `HZ-I75` no such protocol; `HZ-U30` no such task; `HZ-U37` a task's folder is not there.
    """
    from histozoo.tasks import task

    for protocol in protocols:
        named("protocol", protocol, protocol_names())
    for name in tasks:
        task(name).require(data_root)


def _repeats(plan: Plan) -> None:
    """Refuses seeds and shares of the labels that no protocol of the plan would use."""
    tunes = any(p.startswith(FINETUNE) for p in plan.protocols)
    pools = any(p.startswith(SLIDES) for p in plan.protocols)
    if len(set(plan.seeds)) > 1 and not (tunes or pools):
        raise UsageError(
            "HZ-I75",
            "several seeds are for fine-tuning and for heads on slides",
            expected=f"one seed, or a protocol that begins with {FINETUNE} or {SLIDES}",
            got=f"seeds {', '.join(map(str, plan.seeds))}",
            next_step="give one --seed: frozen features are classified in folds, and another seed deals other folds",
        )
    if set(plan.fractions) != {1.0} and not tunes:
        raise UsageError(
            "HZ-I75",
            "shares of the labels are for fine-tuning",
            expected=f"all labels, or a protocol that begins with {FINETUNE}",
            got=f"fractions {', '.join(map(str, plan.fractions))}",
            next_step="few labels and frozen features: --protocol simpleshot takes 1 to 16 tiles of each class",
        )


def _networks(plan: Plan) -> None:
    """Refuses what is no network where one is trained on, cut or looked into."""
    needing = [p for p in plan.protocols if p.startswith(FINETUNE) or p in NEED_NETWORKS]
    for name, encoders in plan.columns.items():
        if needing and any(one.build is None for one in encoders):
            raise UsageError(
                "HZ-I75",
                f"{name} is no network: it cannot be fine-tuned, cut or compared by blocks",
                expected=f"models with weights beside {', '.join(needing)}",
                got=", ".join(plan.protocols),
                next_step="compare it by protocols of features, in another command",
            )


def _looks(plan: Plan) -> None:
    if "cka" in plan.protocols and len(plan.columns) < 2:
        raise UsageError(
            "HZ-I75",
            "cka compares the first model with others",
            expected="two models or more",
            got="one",
            next_step="name another beside it: random:NAME is the same network before training",
        )
    if ("robustness_index" in plan.protocols) != bool(plan.centres):
        raise UsageError(
            "HZ-I75",
            "the robustness index and the centres it is about belong together",
            expected="--protocol robustness_index with --centres FILE (columns group, centre), or --centres group where groups are centres",
            got=f"protocols {', '.join(plan.protocols)}; centres {plan.centres or 'not given'}",
            next_step="leave --centres out, or add --protocol robustness_index"
            if plan.centres
            else "add --centres, or leave robustness_index out",
        )


_ELSEWHERE = {
    "segment": "segmentation is a study: `histozoo study experiments/studies/segmentation.toml`, with other models and sets by --set",
    "svm": "did you mean linear_svm?",
    "topk": "fine-tuning on the tiles attended most is a study: `histozoo study experiments/studies/slides.toml`",
}
"""Part of a name -> where what it asks for is."""


def named(what: str, name: str, known: Iterable[str]) -> None:
    """Refuses a name that is none of the known ones, and says where else to look or which is nearest.

    Raises:
        UsageError: `HZ-I75`.
    """
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    raise UsageError(
        "HZ-I75",
        f"there is no {what} {name!r}",
        expected=", ".join(names),
        got=repr(name),
        next_step=next((step for word, step in _ELSEWHERE.items() if word in name), "")
        or (f"did you mean {near[0]}?" if near else f"take a {what} that is listed"),
    )
