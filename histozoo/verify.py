"""Does this machine compute what the publisher computed? Golden tiles through this machine's transform and model, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from histozoo import contract, golden, registry, sources
from histozoo.errors import IntegrityError
from histozoo.loading import load

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]

PREPROCESS_TOLERANCE = 1e-3
TOLERANCES: dict[str, float] = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""Largest accepted deviation (largest difference / root mean square) of features.

float32: number of threads and instruction set change 2e-6 or less, the mildest real mistake (bilinear for bicubic) 2e-2. The other
two carry 8 and 11 bits: measured 0.007 to 0.031 and 0.001 to 0.0035 on eight residual, transformer, ConvNeXt and mobile networks.
At these sizes a wrong kernel hides in the noise, which is why pixels are compared on their own and always in float32.
"""


@dataclass(frozen=True)
class Stage:
    """One comparison with the golden tensors: `deviation` is the largest difference divided by the root mean square."""

    name: Literal["preprocess", "model"]
    deviation: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the deviation is a number within the tolerance."""
        return self.deviation <= self.tolerance


@dataclass(frozen=True)
class Report:
    """What `verify` found."""

    name: str
    dtype: str
    stages: tuple[Stage, ...]

    @property
    def passed(self) -> bool:
        """Whether every stage passed."""
        return all(stage.passed for stage in self.stages)

    def text(self) -> str:
        """Returns one line for the verdict and one per stage."""
        lines = [f"{'pass' if self.passed else 'FAIL'}  {self.name} in {self.dtype}"]
        for s in self.stages:
            verdict = "pass" if s.passed else "FAIL"
            lines.append(
                f"  {verdict}  {s.name} stage: largest difference / rms = {s.deviation:.2g} (at most {s.tolerance:g})"
            )
        return "\n".join(lines)

    def require(self) -> Report:
        """Returns itself if every stage passed.

        Raises:
            IntegrityError: `HZ-A08`, naming the stage and by how much it differs.
        """
        if self.passed:
            return self
        stage = next(s for s in self.stages if not s.passed)
        causes = {
            "preprocess": "resize kernel, crop, mean, std or channel order are not the published ones, or Pillow or timm changed",
            "model": "architecture options are not the published ones, or a library computes differently here",
        }
        raise IntegrityError(
            "HZ-A08",
            f"{self.name} does not compute here what it computed when it was published",
            where=f"{stage.name} stage, {self.dtype}",
            expected=f"largest difference / rms at most {stage.tolerance:g}",
            got=f"{stage.deviation:.3g}",
            kept="nothing was changed; do not use features computed here",
            next_step=causes[stage.name],
        )


def verify(name: str | Path, *, dtype: Precision = "float32") -> Report:
    """Recomputes the golden features of a model on this machine's processor.

    The two stages are independent: the model stage starts from the golden pixels.

    Args:
        name: A name of the zoo or a bundle folder.
        dtype: Precision of the model stage, by autocast where it is not float32.

    Raises:
        UsageError: The name is unknown or malformed.
        IntegrityError: Weights or golden tensors are not the published ones, or not in the bundle.
        ResourceError: They cannot be fetched.
    """
    found = registry.resolve(name)
    expected = _golden(found)
    pixels_BCHW = golden.preprocess(expected["tiles_BHWC"].numpy(), contract.transform(found))
    f_BD = _features(load(name, allow_withdrawn=True), expected["pixels_BCHW"], dtype)
    stages = (
        Stage("preprocess", golden.deviation(pixels_BCHW, expected["pixels_BCHW"]), PREPROCESS_TOLERANCE),
        Stage("model", golden.deviation(f_BD, expected["features_BD"]), TOLERANCES[dtype]),
    )
    return Report(found.name, dtype, stages)


def _features(model: torch.nn.Module, pixels_BCHW: Tensor, dtype: Precision) -> Tensor:
    import torch

    with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
        return golden.features(model, pixels_BCHW)


def _golden(found: registry.Entry) -> dict[str, Tensor]:
    """Returns the golden tensors, their sha256 checked."""
    from safetensors.torch import load_file

    path, _ = sources.locate(found, found.golden)
    tensors = load_file(path)
    if sorted(tensors) != sorted(golden.TENSORS):
        expected, got = ", ".join(golden.TENSORS), ", ".join(tensors)
        raise IntegrityError(
            "HZ-A05", "the golden tensors have other names", where=path, expected=expected, got=got
        )
    return tensors
