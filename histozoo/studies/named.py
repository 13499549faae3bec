"""The encoders of a study under the names that its report calls them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
        UsageError: `HZ-U43`, two models are called the same; and what `encoder` raises.
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
        Named(one=replace(encoder(model), name=name), source=model)
        for model, name in zip(models, names, strict=True)
    ]
