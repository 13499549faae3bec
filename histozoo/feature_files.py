"""Feature files and their reports: one row per tile, and beside the rows what made them. safetensors or HDF5 by suffix.

In both formats a file holds the features, the name of every row (path relative to the source), the sha256 of every row's file, one JSON
object `histozoo` that says what made them, and in that object as `checksum` the sha256 of all of these, so that no changed bit passes
for a feature. Legend: N rows, D features.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo import durable
from histozoo.errors import IntegrityError, UsageError
from histozoo.integrity import differing

SUFFIXES = (".safetensors", ".h5", ".hdf5")
CHECKSUM = "checksum"
# What damaged files make the libraries raise, beside their own errors.
_DAMAGED = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
)


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
        n_rows: Rows of the file. More than `n_done` where a run was stopped before it came to all that were there already, or where the
            file also holds tiles of another source, which a note then says.
        rejected: One object per refused row: name, code, reason.
        rejected_earlier: The same for rows that an earlier run refused and this one did not come to.
        notes: What a reader should know, a sentence each.
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
    n_rows: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)
    rejected_earlier: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
    writer = _write_safetensors if path.suffix == ".safetensors" else _write_h5
    writer(path, features, _told(features))


def read(path: str | Path) -> Features:
    """Reads a feature file and checks that it is whole: its parts belong together and have the checksum that it states.

    Raises:
        UsageError: `HZ-U61` unknown suffix, or HDF5 without h5py.
        IntegrityError: `HZ-H64`, not a feature file, one whose rows, names and values do not agree, or one that was changed.
    """
    path = Path(path)
    check_suffix(path)
    reader: Callable[[Path], Features] = _read_safetensors if path.suffix == ".safetensors" else _read_h5
    try:
        features = reader(path)
        stated = features.made_by.pop(CHECKSUM, "")
        _check(features)
        _check_sum(features, stated)
    except _DAMAGED as error:
        raise IntegrityError(
            "HZ-H64",
            f"this is not a whole feature file: {error or type(error).__name__}",
            where=path,
            kept="the file is untouched",
            next_step="remove it and embed again, or write to another file",
        ) from error
    return features


def checksum(features: Features) -> str:
    """Returns the sha256 over all that a feature file holds, 64 hexadecimal digits.

    Hashed are, in this order: the JSON of `[made_by, names, sha256, shape]` with sorted keys, no spaces and ASCII alone; a zero byte; the
    features row by row as little-endian float32.
    """
    f_ND = np.ascontiguousarray(features.features_ND, dtype="<f4")
    words = [features.made_by, features.names, features.sha256, f_ND.shape]
    digest = hashlib.sha256(json.dumps(words, sort_keys=True, separators=(",", ":")).encode())
    digest.update(b"\0")
    digest.update(f_ND.reshape(-1).data)
    return digest.hexdigest()


def _told(features: Features) -> str:
    return json.dumps({**features.made_by, CHECKSUM: checksum(features)}, ensure_ascii=False)


def _check(features: Features) -> None:
    n, f_ND = len(features.names), features.features_ND
    if f_ND.dtype != np.float32 or f_ND.ndim != 2:
        raise ValueError(f"features are {f_ND.dtype} of shape {list(f_ND.shape)}, not float32 of N x D")
    rows, hashes = f_ND.shape[0], len(features.sha256)
    if not n == rows == hashes:
        raise ValueError(f"{n} names, {hashes} hashes and {rows} rows of features")
    if list(features.names) != sorted(set(features.names)):
        raise ValueError("names are not sorted or occur twice")
    bad = np.flatnonzero(~np.isfinite(f_ND).all(axis=1))
    if len(bad):
        raise ValueError(
            f"features that are not finite in {len(bad):,} rows, first in {features.names[bad[0]]}"
        )


def _check_sum(features: Features, stated: object) -> None:
    if not isinstance(stated, str) or not stated:
        raise ValueError("it states no checksum of its parts")
    found = checksum(features)
    if found != stated:
        wanted, got = differing(stated, found)
        raise ValueError(
            "features, names or hashes were changed after they were written: "
            f"its parts have the checksum {got}, it states {wanted}"
        )


def _write_safetensors(path: Path, features: Features, told: str) -> None:
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {
        "features_ND": np.ascontiguousarray(features.features_ND, dtype=np.float32),
        "names_json": np.frombuffer(json.dumps(features.names, ensure_ascii=False).encode(), dtype=np.uint8),
        "sha256_N32": np.frombuffer(bytes.fromhex("".join(features.sha256)), dtype=np.uint8).reshape(-1, 32),
    }
    # One metadata key only: safetensors writes several in no fixed order, and equal features are to give equal bytes.
    durable.write_bytes(path, save(arrays, metadata={"histozoo": told}))


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


def _write_h5(path: Path, features: Features, told: str) -> None:
    h5py = _h5py(path)

    def write_file(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file["features_ND"] = np.asarray(features.features_ND, dtype=np.float32)
            for name, values, kind in (
                ("names", features.names, h5py.string_dtype("utf-8")),
                ("sha256", features.sha256, h5py.string_dtype("ascii", 64)),
            ):
                file.create_dataset(name, (len(values),), dtype=kind, data=list(values) or None)
            file.attrs["histozoo"] = told
            # Each fact once more on its own, for those who look at the file with other tools.
            for key, value in features.made_by.items():
                file.attrs[key] = _attribute(value)

    durable.write_with(path, write_file, needed=features.features_ND.nbytes)


def _read_h5(path: Path) -> Features:
    with _h5py(path).File(path, "r") as file:
        made_by = json.loads(file.attrs["histozoo"])
        wrong = [k for k, v in made_by.items() if k != CHECKSUM and file.attrs[k] != _attribute(v)]
        if wrong:
            raise ValueError(f"the attribute {wrong[0]} is not that of the attribute histozoo")
        return Features(
            names=tuple(file["names"].asstr()[:].tolist()),
            sha256=tuple(value.decode() for value in file["sha256"][:].tolist()),
            features_ND=file["features_ND"][:],
            made_by=made_by,
        )


def _attribute(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
