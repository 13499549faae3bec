"""A run's trunk ended after a block, as a model of its own: stock timm builds it, and its pooled features are the block's, bit for bit.

Only cuts that stock timm has options for become entries, since an entry is a stock architecture with weights. `histozoo evaluate` with
`--protocol cuts` says of every stage which door gives it, and what it is worth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from histozoo.candidate import Facts, Run
from histozoo.errors import UsageError

SHORTER = ("layers", "channels", "depth", "block_config")
"""Options by which stock timm builds a trunk that ends early, see `histozoo.evaluate.stock_door`."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is published of a run that is cut.

    Args:
        run: With the weights up to the cut, the cut's name, no heads, no optimizer and no results: those are of the whole.
        facts: Of the shorter architecture.
        note: What entry and card say of it.
    """

    run: Run
    facts: Facts
    note: str


def named(name: str, after: str) -> str:
    """Returns the name of a cut: the run's, the block's letters and digits behind the corpus: `resnet18.multitask_path11layer2`."""
    stem, version = re.fullmatch(r"(.*?)((?:_v[0-9]+)?)", name).groups()  # type: ignore[union-attr]  # matches any name
    return f"{stem}{re.sub(r'[^a-z0-9]', '', after.lower().removeprefix('features.'))}{version}"


def cut(run: Run, facts: Facts, after: str) -> Cut:
    """Returns a run that ends after a block.

    Args:
        run: The whole.
        facts: Of its architecture.
        after: The block, such as `layer2` or `blocks.5`.

    Raises:
        UsageError: `HZ-I73` there is no such block, it is the last one, or stock timm has no option that ends the trunk there.
        IntegrityError: `HZ-A05`, the weights are not those of the architecture.
    """
    import timm
    import torch

    from histozoo.evaluate.stock_door import stock_door
    from histozoo.evaluate.truncate import truncate

    name, px = run.experiment["architecture"], run.experiment["tile_px"]
    door = stock_door(name, after, tile_px=px, model_args=facts.model_args)
    if door.kind != "model" or door.model_args == facts.model_args:
        raise UsageError(
            "HZ-I73",
            f"{name} cut after {after} cannot be an entry of its own",
            where=run.experiment["name"],
            expected="a block before the last one, after which an option of stock timm ends the trunk",
            got=door.why,
            kept="nothing was published",
            next_step="publish the whole; histozoo.evaluate.truncate gives the features of this block",
        )
    whole = timm.create_model(name, num_classes=0, **facts.model_args)
    whole.load_state_dict(run.backbone, strict=True)
    backbone = door.state(truncate(whole, after, tile_px=px))
    with torch.device("meta"):
        model: Any = timm.create_model(name, num_classes=0, **door.model_args)
    shorter = replace(
        facts,
        features=int(model.head_hidden_size),
        state=model.state_dict(),
        pretrained_cfg={**facts.pretrained_cfg, "pool_size": None},
        model_args=dict(door.model_args),
    )
    experiment = {**run.experiment, "name": named(run.experiment["name"], after)}
    note = (
        f"This is {run.experiment['name']} up to {after}, {shorter.features} features out of {facts.features}; {door.why}. It was trained "
        "as a part of the whole, whose experiment stands here; what was measured of the whole is not told of its part. "
    )
    rest = replace(run, experiment=experiment, backbone=backbone, heads={}, optimizer={}, results=[])
    return Cut(run=rest, facts=shorter, note=note)


def described(raw: dict[str, Any], whole: Mapping[str, Any], note: str) -> dict[str, Any]:
    """Returns the entry of a cut: the experiment is the whole's, no heads and no optimizer lie beside the weights, notes begin with `note`.

    Args:
        raw: From `candidate.draft`.
        whole: Experiment of the whole.
        note: From `cut`.
    """
    ours = {k: v for k, v in raw["histozoo"].items() if k != "training_state"}
    return {**raw, "histozoo": {**ours, "experiment": dict(whole), "notes": f"{note}{ours['notes']}"}}
