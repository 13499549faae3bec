"""Entry: the frozen view of one published config.json, and the two ways to get one. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histozoo import strict_json
from histozoo.schema import check_entry, entry_error

SIZE_LIMIT = 4 << 20  # bytes of an entry; real ones are some ten kilobytes


@dataclass(frozen=True)
class Published:
    """One published file as the entry describes it; `dtype` is empty where it holds no weights."""

    file: str
    sha256: str
    bytes: int
    dtype: str = ""


@dataclass(frozen=True)
class Weights(Published):
    """The published weights: the file, where it lies on the Hub, and its embedded copy if there is one."""

    repo: str = ""
    revision: str | None = None
    embedded: Published | None = None


@dataclass(frozen=True)
class Contract:
    """What pixels the model expects and what features it gives, as published.

    `mean` and `std` are per channel, in value range [0, 1]; `mpp` are micrometres per pixel, or null with `mpp_reason`.
    """

    tile_px: int
    mpp: list[float] | None
    mpp_reason: str | None
    resize: str
    kernel: str
    antialias: bool
    crop: str
    value_range: list[float]
    mean: list[float]
    std: list[float]
    colour_order: str
    pooling: str
    prefix_tokens: int
    feature_dim: int


@dataclass(frozen=True)
class Entry:
    """Frozen view of one valid entry. `raw` is the whole JSON (not to be changed), `path` the file it came from."""

    raw: dict[str, Any] = field(repr=False)
    path: Path
    name: str
    weights: Weights = field(repr=False)
    golden: Published = field(repr=False)
    contract: Contract = field(repr=False)

    @property
    def ours(self) -> dict[str, Any]:
        """The `"histozoo"` object of the JSON."""
        ours: dict[str, Any] = self.raw["histozoo"]
        return ours

    @property
    def architecture(self) -> str:
        """The architecture's name in timm, for example `resnet18`."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """What follows the first dot of the name: `<recipe>_<corpus>[_vN]`."""
        return self.name.partition(".")[2]

    @property
    def recipe(self) -> str:
        """The objective it was trained with."""
        return str(self.ours["recipe"])

    @property
    def corpus(self) -> list[dict[str, Any]]:
        """What it was trained on: one object per task, with n, n_groups, licence, source, citation and lineage."""
        return list(self.ours["corpus"])

    @property
    def licence(self) -> str:
        """SPDX id of the weights' own licence, lower case."""
        return str(self.ours["licence"]["id"])

    @property
    def feature_dim(self) -> int:
        """Length D of a feature."""
        return self.contract.feature_dim

    @property
    def tile_px(self) -> int:
        """Side of a tile in pixels."""
        return self.contract.tile_px

    @property
    def mpp(self) -> list[float] | None:
        """Micrometres per pixel it was trained at, or None with `contract.mpp_reason`."""
        return self.contract.mpp

    @property
    def withdrawn(self) -> dict[str, Any] | None:
        """None, or why it was withdrawn and what replaces it."""
        withdrawn: dict[str, Any] | None = self.ours["withdrawn"]
        return withdrawn


def read_entry(path: str | Path) -> Entry:
    """Reads and checks one entry: a zoo's `<name>.json`, whose name must be its stem, or a bundle's `config.json`.

    Raises:
        IntegrityError: `HZ-A07`, not readable as strict JSON, or a field is not valid.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if len(data) > SIZE_LIMIT:
            raise entry_error(path, "", f"{len(data):,} bytes", f"at most {SIZE_LIMIT:,} bytes")
        raw = strict_json.loads(data)
    except (OSError, ValueError) as error:
        raise entry_error(
            path, "", str(error), "a JSON object with distinct keys and finite numbers"
        ) from error
    found = parse_entry(raw, path)
    if path.name not in (f"{found.name}.json", "config.json"):
        raise entry_error(path, "histozoo.name", found.name, f"{path.stem!r}, as the file is called")
    return found


def parse_entry(raw: dict[str, Any], path: str | Path) -> Entry:
    """Returns the frozen view of a valid entry.

    Args:
        raw: The JSON of a config.json.
        path: The file it came from or will be written to; embedded weights are looked for beside it.

    Raises:
        IntegrityError: `HZ-A07` with the field, its value and what is allowed.
    """
    check_entry(raw, Path(path))
    ours = raw["histozoo"]
    weights = dict(ours["weights"])
    embedded = weights.pop("embedded")
    return Entry(
        raw=raw,
        path=Path(path),
        name=ours["name"],
        weights=Weights(**weights, embedded=Published(**embedded) if embedded else None),
        golden=Published(**ours["golden"]),
        contract=Contract(**ours["contract"]),
    )
