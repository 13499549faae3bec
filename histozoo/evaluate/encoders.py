"""One name for whatever gives features: a zoo entry, a run, a random twin, any model of timm or the Hub, a colour histogram.

    encoder("resnet18.multitask_path11").features(tiles_NHWC)

| name                        | is                                                                                                  |
|-----------------------------|-----------------------------------------------------------------------------------------------------|
| `NAME` or a bundle folder   | a published model, checked as `histozoo.load` checks it                                              |
| a run folder                | the trunk of a finished run                                                                          |
| `random:NAME[@SEED]`        | the architecture of a zoo entry, run or timm model with random weights, seed 0 where none is given   |
| `timm:ARCH[.TAG]`           | timm's pretrained weights, with timm's mean, std and size                                            |
| `hf-hub:OWNER/NAME`         | a timm model on the Hub, with the mean, std and size of its config                                   |
| `colour-histogram`          | no model: what can be told from colours alone                                                        |

Shapes: N tiles, H W pixels, C channels, B batch, D features.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from histozoo import feature_files, registry
from histozoo.errors import UsageError
from histozoo.evaluate import histogram
from histozoo.evaluate.probe import features

if TYPE_CHECKING:
    from torch import nn

    from histozoo.evaluate.blocks import Level

Kind = Literal["entry", "run", "random", "timm", "hub", "histogram"]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns tiles into features, and everything that decides them.

    Args:
        name: As it was typed.
        label: For tables and plots.
        kind: Where it comes from.
        sha256: Of the weights: the published file for an entry, the run's own file, the tensors of a pretrained model. For random weights
            of architecture, options, seed and the versions that draw them; for the histogram of its parameters.
        tile_px: Side of the tiles it takes, in pixels.
        mean, std: Channel statistics for values scaled to [0, 1].
        mpp: Micrometres per pixel it was trained at, None where that is not known.
        lineages: Lineages of the tasks it is known to have been trained on; None where nothing is known.
        complete: Whether it saw nothing else. A model that started from timm's weights has lineages and saw ImageNet, too.
        build: Makes the model, in eval mode; None for the histogram.
        architecture: timm's name of it without a tag; empty where there is none.
        model_args: Options it is made with.
    """

    name: str
    label: str
    kind: Kind
    sha256: str
    tile_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mpp: tuple[float, ...] | None
    lineages: frozenset[str] | None
    complete: bool
    build: Callable[[], nn.Module] | None = field(repr=False, compare=False)
    architecture: str = ""
    model_args: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def module(self) -> nn.Module:
        """Makes the model, normalised `[B, 3, H, W]` -> pooled `[B, D]`, in eval mode on the CPU; anew at each call.

        Raises:
            UsageError: `HZ-I67`, the colour histogram is no module.
            IntegrityError, ResourceError: What loading the weights raises.
        """
        if self.build is None:
            raise UsageError(
                "HZ-I67",
                f"{self.name} is no network",
                expected="a model with weights",
                next_step="name a model with weights; the histogram is a baseline for protocols of features (Encoder.features)",
            )
        return self.build()

    def features(
        self, tiles_NHWC: NDArray[np.uint8], *, batch: int = 128, device: str = "cpu"
    ) -> NDArray[np.float32]:
        """Returns features of tiles that have the encoder's size, `[N, D]`, in float32 and without autocast.

        Args:
            tiles_NHWC: uint8 RGB `[N, tile_px, tile_px, 3]`.
            batch: Tiles per forward pass.
            device: Where the model runs.

        Raises:
            UsageError: `HZ-I67`, tiles of another size.
            IntegrityError: `HZ-I62`, a feature is not finite; and what loading the weights raises.
        """
        self.check_size(tiles_NHWC)
        if self.build is None:
            return histogram.features(tiles_NHWC, batch=batch)
        model = self.build().to(device)
        return features(model, tiles_NHWC, mean=self.mean, std=self.std, batch=batch)

    def block_features(
        self, tiles_NHWC: NDArray[np.uint8], *, level: Level = "stage", batch: int = 64, device: str = "cpu"
    ) -> dict[str, NDArray[np.float32]]:
        """Returns block -> features `[N, D]` from one pass, see `blocks.block_features`; errors as in `features` and `module`."""
        from histozoo.evaluate import blocks

        self.check_size(tiles_NHWC)
        model = self.module().to(device)
        return blocks.block_features(
            model, tiles_NHWC, mean=self.mean, std=self.std, level=level, batch=batch
        )

    def check_size(self, tiles_NHWC: NDArray[Any]) -> None:
        """Refuses tiles of another size than the contract says.

        Raises:
            UsageError: `HZ-I67`.
        """
        wanted = (self.tile_px, self.tile_px, 3)
        if tiles_NHWC.shape[1:] != wanted or tiles_NHWC.dtype != np.uint8 or not len(tiles_NHWC):
            raise UsageError(
                "HZ-I67",
                f"{self.name} does not take these tiles",
                expected=f"uint8 [1 or more, {', '.join(map(str, wanted))}]",
                got=f"{tiles_NHWC.dtype} {list(tiles_NHWC.shape)}",
                next_step="read the task at the encoder's tile_px, or ask for `encoder(name, tile_px=...)`",
            )

    def saw(self, lineage: str) -> bool | None:
        """Returns whether it was trained on a task of this lineage; None where that is not known."""
        if self.lineages is not None and lineage in self.lineages:
            return True
        return False if self.complete else None

    def facts(self) -> dict[str, Any]:
        """Returns what decides the features, as JSON types: weights and contract, not the name."""
        return {
            "sha256": self.sha256,
            "tile_px": self.tile_px,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def encoder(name: str | Path, *, tile_px: int | None = None) -> Encoder:
    """Returns the encoder of a name.

    Args:
        name: As in the table above.
        tile_px: Another side of the tiles than the contract's; the weights must take it.

    Raises:
        UsageError: `HZ-I67`, there is no such architecture, tag or seed, with the nearest names; `HZ-C19`, `HZ-C20`, no such entry;
            `HZ-U52`, an unfinished run.
        IntegrityError: `HZ-C23`, withdrawn; `HZ-A07`, the entry is not valid.
        ResourceError: `HZ-B14`, `HZ-B15`, pretrained weights cannot be had.
    """
    from histozoo.evaluate import encoder_sources as sources

    text = str(name)
    if tile_px is not None and tile_px < 1:
        raise UsageError("HZ-I67", "tiles have no such side", expected="1 px or more", got=tile_px)
    _check_histogram(text)
    _check_no_features(Path(text))
    for prefix, resolve in sources.PREFIXES.items():
        if text.startswith(prefix):
            found = resolve(text)
            break
    else:
        found = _histogram(text) if text == histogram.NAME else sources.trained(name)
    return with_size(found, tile_px)


def _check_histogram(text: str) -> None:
    """Refuses what is nearly the name of the colour histogram, which is none of the zoo's, and the histogram with random weights."""
    base = text.removeprefix("random:").partition("@")[0]
    near = difflib.get_close_matches(base.lower(), [histogram.NAME, *registry.names()], n=1)
    if text == histogram.NAME or near != [histogram.NAME] or Path(text).is_dir():
        return
    what, expected = f"there is no encoder {text!r}", f"nearest: {histogram.NAME}"
    step = f"did you mean {histogram.NAME}? `histozoo list` shows the models"
    if text.startswith("random:"):
        what = f"{histogram.NAME} has no weights, so none that are random"
        expected = "random:NAME with a zoo entry, a run or a model of timm"
        step = f"{histogram.NAME} alone is the baseline without a network; random:NAME of the model beside it is the other one"
    raise UsageError("HZ-I67", what, expected=expected, got=text, kept="nothing was loaded", next_step=step)


_MODEL_FILES = ("config.json", "experiment.json", "model.safetensors")
"""What tells a bundle or a run, whole or not, from a folder of feature files."""


def _check_no_features(path: Path) -> None:
    """Refuses what holds features where a model is wanted, and a file of weights without the folder that says what they are."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    if any(file.name in _MODEL_FILES for file in files if file != path):
        return
    if any(file.suffix in feature_files.SUFFIXES for file in files):
        raise UsageError(
            "HZ-I67",
            "features, or weights alone, are no encoder",
            where=path,
            expected="a model: NAME, a bundle or run folder, random:NAME, timm:ARCH.TAG, hf-hub:OWNER/NAME or colour-histogram",
            kept="nothing was loaded",
            next_step="`histozoo evaluate FEATURES... --slides TABLE` compares feature files of slides; for weights, name their folder",
        )


def with_size(found: Encoder, tile_px: int | None) -> Encoder:
    """Returns the encoder for tiles of another size, or itself."""
    from dataclasses import replace

    if tile_px in (None, found.tile_px):
        return found
    return replace(found, tile_px=tile_px, label=f"{found.label} at {tile_px} px")


def _histogram(name: str) -> Encoder:
    return Encoder(
        name=name,
        label="colour histogram",
        kind="histogram",
        sha256=digest({"histogram": histogram.PARAMETERS}),
        tile_px=histogram.TILE_PX,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        mpp=None,
        lineages=frozenset(),
        complete=True,
        build=None,
    )


def digest(facts: Mapping[str, Any]) -> str:
    """Returns the sha256 of facts as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
