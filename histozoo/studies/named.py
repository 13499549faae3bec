"""The encoders of a study under the names that its report calls them by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from histozoo.errors import UsageError
from histozoo.evaluate.encoders import Encoder, encoder


@dataclass(frozen=True, kw_only=True)
class Named:
    """An encoder of a study.

    Args:
        one: The encoder; its name is what the report calls it.
        source: What `encoder` knows it by.
    """

    one: Encoder
    source: str

    def twin(self) -> Encoder:
        """Returns the same architecture with random weights."""
        return encoder(f"random:{self.source}")

    def words(self) -> str:
        """Returns what it was trained on, in a sentence."""
        which = self.one.name if self.one.name == self.source else f"{self.one.name} (`{self.source}`)"
        if self.one.lineages is None:
            return f"{which}: what it was trained on is not known."
        seen = ", ".join(sorted(self.one.lineages)) or "none"
        return f"{which} was trained on the lineages {seen}{'' if self.one.complete else ', and on more'}."


def named(models: Sequence[str], called: Mapping[str, str]) -> list[Named]:
    """Returns the encoders of a study.

    Args:
        models: Names for `encoder`.
        called: Model -> what the report calls it; its own name where it is not there, and a model that is not compared does no harm.

    Raises:
        UsageError: `HZ-U43`, two models are called the same; `HZ-U13`, a run is not there, with the command that trains it; and what
            `encoder` raises.
    """
    names = [called.get(model, model) for model in models]
    if len(set(names)) < len(names):
        raise UsageError(
            "HZ-U43",
            "study key 'called' has a wrong value",
            expected=f"a name of its own for each of {', '.join(models)}",
            got=repr(dict(called)),
        )
    return [
        Named(one=replace(_encoder(model, models), name=name), source=model)
        for model, name in zip(models, names, strict=True)
    ]


def _encoder(model: str, models: Sequence[str]) -> Encoder:
    """Returns the encoder of a model; a run that is not there is refused with the command that trains it."""
    try:
        return encoder(model)
    except UsageError as error:
        name, *left_out = Path(model.partition("@")[0]).name.split("-without-")
        if error.code != "HZ-U13" or not left_out:
            raise
        options = "".join(f" --leave-out {lineage}" for lineage in left_out)
        step = f"train it first, on prepared tasks: `histozoo pretrain experiments/{name}.toml{options} --data-root TASKS`"
        others = json.dumps([m for m in models if m != model])
        raise UsageError(
            error.code,
            "a run of this study is not there",
            where=model,
            expected=error.expected,
            got="no such folder",
            kept="nothing was measured",
            next_step=step if others == "[]" else f"{step}; or do without it: --set 'models={others}'",
        ) from error
