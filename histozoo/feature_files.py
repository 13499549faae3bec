"""Feature files and their reports: one row per tile, and beside the rows what made them. safetensors or HDF5 by suffix.

In both formats a file holds the features, the name of every row (path relative to the source), the sha256 of every row's file, and one
JSON object `histozoo` that says what made them. Legend: N rows, D features.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import durable
from histozoo.errors import IntegrityError, UsageError

SUFFIXES = (".safetensors", ".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a feature file holds; rows are sorted by name.

    Args:
        names: N names, the tiles' paths relative to the source, with forward slashes.
        sha256: N hashes of the tiles' files, 64 hexadecimal digits each.
        features_ND: float32 `[N, D]`, finite.
        made_by: What made the rows: model, sha256, contract, version, dtype.
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    features_ND: NDArray[np.float32]
    made_by: dict[str, Any]


@dataclass(kw_only=True)
class Report:
    """The fate of every input row; `n_input == n_done + len(rejected) + n_not_reached` always holds.

    Args:
        features: The feature file.
        made_by: What made the features.
        n_input: Rows in the source.
        n_done: Rows whose features are in the file.
        n_reused: Those of `n_done` that the file already held.
        rejected: One object per refused row: name, code, reason.
        ignored: Files in the source folder that are no images by their suffix.
        skipped: What was passed over in the source folder, by kind, as `histozoo.tile_lists` says.
        treated: How many of the done tiles were converted, composited on white, enlarged or padded, or had a colour profile.
        policy: What is done about alpha, EXIF orientation, colour profiles and tiles at the edge.
    """

    features: str
    made_by: dict[str, Any]
    n_input: int
    n_done: int = 0
    n_reused: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    treated: dict[str, int] = field(default_factory=dict)
    policy: dict[str, str] = field(default_factory=dict)

    @property
    def n_not_reached(self) -> int:
        """Rows that were not looked at because the run stopped before them."""
        return self.n_input - self.n_done - len(self.rejected)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as written beside the features."""
        return {
            **dataclasses.asdict(self),
            "n_rejected": len(self.rejected),
            "n_not_reached": self.n_not_reached,
        }


def report_path(out: Path) -> Path:
    """Returns where the report of a feature file lies."""
    return out.with_name(out.name + ".report.json")


def check_suffix(path: Path) -> None:
    """Refuses, before any work, a file name whose format is unknown or cannot be written here.

    Raises:
        UsageError: `HZ-U61` unknown suffix, or HDF5 without h5py.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            "HZ-U61",
            "unknown format of a feature file",
            where=path,
            expected=" or ".join(SUFFIXES),
            got=path.suffix or "no suffix",
        )
    if path.suffix != ".safetensors":
        _h5py(path)


def write(path: str | Path, features: Features) -> None:
    """Replaces `path` by `features`, durably. The same features give the same bytes.

    Raises:
        UsageError: `HZ-U61` unknown suffix, or HDF5 without h5py.
        ResourceError: `HZ-F42`, the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    if path.suffix == ".safetensors":
        _write_safetensors(path, features)
    else:
        _write_h5(path, features)


def read(path: str | Path) -> Features:
    """Reads a feature file and checks that its parts belong together.

    Raises:
        UsageError: `HZ-U61` unknown suffix, or HDF5 without h5py.
        IntegrityError: `HZ-H64`, not a feature file, or one whose rows, names and values do not agree.
    """
    path = Path(path)
    check_suffix(path)
    reader: Callable[[Path], Features] = _read_safetensors if path.suffix == ".safetensors" else _read_h5
    try:
        features = reader(path)
        _check(features)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise IntegrityError(
            "HZ-H64",
            f"this is not a whole feature file: {error}",
            where=path,
            kept="the file is untouched",
            next_step="remove it, or write to another file",
        ) from error
    return features


def _check(features: Features) -> None:
    n = len(features.names)
    rows, hashes = features.features_ND.shape[0], len(features.sha256)
    if not n == rows == hashes:
        raise ValueError(f"{n} names, {hashes} hashes and {rows} rows of features")
    if list(features.names) != sorted(set(features.names)):
        raise ValueError("names are not sorted or occur twice")
    if not np.isfinite(features.features_ND).all():
        raise ValueError("features that are not finite")


def _write_safetensors(path: Path, features: Features) -> None:
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {
        "features_ND": np.ascontiguousarray(features.features_ND, dtype=np.float32),
        "names_json": np.frombuffer(json.dumps(features.names, ensure_ascii=False).encode(), dtype=np.uint8),
        "sha256_N32": np.frombuffer(bytes.fromhex("".join(features.sha256)), dtype=np.uint8).reshape(-1, 32),
    }
    # One metadata key only: safetensors writes several in no fixed order, and equal features are to give equal bytes.
    durable.write_bytes(
        path, save(arrays, metadata={"histozoo": json.dumps(features.made_by, ensure_ascii=False)})
    )


def _read_safetensors(path: Path) -> Features:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ("features_ND", "names_json", "sha256_N32")}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return Features(
        names=tuple(json.loads(arrays["names_json"].tobytes())),
        sha256=tuple(row.tobytes().hex() for row in arrays["sha256_N32"]),
        features_ND=arrays["features_ND"],
        made_by=json.loads(metadata["histozoo"]),
    )


def _write_h5(path: Path, features: Features) -> None:
    h5py = _h5py(path)

    def write_file(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file["features_ND"] = np.asarray(features.features_ND, dtype=np.float32)
            file.create_dataset("names", data=list(features.names), dtype=h5py.string_dtype("utf-8"))
            file.create_dataset("sha256", data=list(features.sha256), dtype=h5py.string_dtype("ascii", 64))
            file.attrs["histozoo"] = json.dumps(features.made_by, ensure_ascii=False)
            for key, value in features.made_by.items():
                file.attrs[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    durable.write_with(path, write_file, needed=features.features_ND.nbytes)


def _read_h5(path: Path) -> Features:
    with _h5py(path).File(path, "r") as file:
        return Features(
            names=tuple(file["names"].asstr()[:].tolist()),
            sha256=tuple(value.decode() for value in file["sha256"][:].tolist()),
            features_ND=file["features_ND"][:],
            made_by=json.loads(file.attrs["histozoo"]),
        )


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            "HZ-U61",
            "HDF5 files need the package h5py, which is not installed",
            where=path,
            kept="nothing was written",
            next_step="pip install 'histozoo[h5]', or write a .safetensors file",
        ) from error
    return h5py
