"""A safetensors header, read strictly: distinct keys, no hole, nothing after the data, nothing hidden in the names.

The parser is our own and stricter than the format's reference, so that no two readers can understand one file differently.
Standard library only.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from histozoo import strict_json
from histozoo.errors import IntegrityError, ResourceError

LIMIT = 10_000_000  # bytes; ours are some ten kilobytes, the format allows 100 MB
# Bytes per value of the data types that the format knows and a backbone may hold.
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LFS = "a Git-LFS pointer: the weights themselves were not fetched"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a header: the format's dtype name, the shape, and its first and one-past-last byte in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """A strict file's header."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(path: str | Path) -> Header:
    """Reads and checks a safetensors header without touching the tensors.

    Raises:
        IntegrityError: `HZ-A01`, empty, cut off, an HTML page, a Git-LFS pointer or a pickle; `HZ-A04`, a rule of the format is broken.
        ResourceError: `HZ-U11`, the file cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(512)
            length = _header_length(path, start, size)
            text = (start + file.read(max(0, 8 + length - len(start))))[8 : 8 + length]
    except OSError as error:
        raise unreadable(path, error) from error
    return _parse_header(path, text, size)


def unreadable(path: Path, error: OSError) -> ResourceError:
    """Returns the error for a file that the system does not let us read (`HZ-U11`)."""
    return ResourceError(
        "HZ-U11",
        "a weights file cannot be read",
        where=path,
        got=error.strerror or str(error),
        kept="nothing was loaded",
        next_step="check the path and its permissions",
    )


def _header_length(path: Path, start: bytes, size: int) -> int:
    """Returns the length that the first eight bytes state, or says what the file is instead."""
    looks = looks_like(start, size)
    length = struct.unpack("<Q", start[:8])[0] if size >= 8 else 0
    if not looks and length <= LIMIT and 8 + length > size:
        looks = "a file cut off: its header alone is longer than it"
    if looks:
        raise IntegrityError(
            "HZ-A01",
            f"{path.name} is not a whole safetensors file",
            where=path,
            expected="weights in the safetensors format",
            got=f"{size:,} bytes that look like {looks}",
            kept="nothing was loaded",
            next_step=next_step(looks, "delete the file and fetch or copy it again"),
        )
    if length > LIMIT:
        raise _broken(path, f"the header is at most {LIMIT:,} bytes", 0, f"{length:,} bytes")
    return int(length)


def looks_like(start: bytes, size: int) -> str:
    """Returns what a file that is no safetensors file seems to be, from its first bytes; empty where it may be one."""
    text = start.lstrip().lower()
    if size == 0:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return _LFS
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "an HTML page: a server answered with a web page"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")):
        return "a pickle (torch.save): such files can run code and are never read here"
    return "a file cut off" if size < 8 else ""


def next_step(looks: str, otherwise: str) -> str:
    """Returns what to do about a file that is none; fetching a Git-LFS pointer again would bring the pointer again."""
    return "run `git lfs pull` in the clone that holds it" if looks == _LFS else otherwise


def _broken(path: Path, rule: str, offset: int, got: str) -> IntegrityError:
    return IntegrityError(
        "HZ-A04",
        f"{path.name} breaks a rule of the safetensors format: {rule}",
        where=f"{path}, byte {offset:,}",
        expected=rule,
        got=got,
        kept="nothing was loaded",
        next_step="fetch the file again; if it stays, its publisher wrote it wrongly",
    )


def _parse_header(path: Path, text: bytes, size: int) -> Header:
    if not text.startswith(b"{"):
        raise _broken(path, "the header starts with '{'", 8, repr(text[:16]))
    if not text.rstrip(b" ").endswith(b"}"):
        raise _broken(path, "the header ends with '}' and spaces", 8 + len(text), repr(text[-16:]))
    try:
        raw = strict_json.loads(text.rstrip(b" "))
    except ValueError as error:
        raise _broken(
            path, "the header is JSON with distinct keys", 8 + getattr(error, "pos", 0), str(error)
        ) from error
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "metadata maps texts to texts", 8, repr(metadata)[:100])
    tensors = {name: _tensor_info(path, name, value) for name, value in raw.items()}
    _check_tiling(path, tensors, data_start=8 + len(text), size=size)
    return Header(tensors, metadata, 8 + len(text))


def _tensor_info(path: Path, name: str, value: object) -> TensorInfo:
    if not name or len(name) > 512 or ".." in name or not name.isprintable() or "/" in name or "\\" in name:
        raise _broken(path, "a tensor's name is printable, without '..', '/' or NUL", 8, ascii(name[:64]))
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"tensor {name!r} has dtype, shape and data_offsets", 8, repr(value)[:100])
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in WIDTHS if isinstance(dtype, str) else True:
        raise _broken(path, f"the dtype of {name!r} is one of {', '.join(WIDTHS)}", 8, repr(dtype))
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise _broken(
            path, f"shape and data_offsets of {name!r} are whole numbers", 8, f"{shape!r}, {offsets!r}"[:100]
        )
    if offsets[1] - offsets[0] != math.prod(shape) * WIDTHS[dtype]:
        raise _broken(
            path,
            f"the bytes of {name!r} are as many as its shape and dtype need",
            8,
            f"{offsets} for {shape} of {dtype}",
        )
    return TensorInfo(dtype, tuple(shape), *offsets)


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in value)


def _check_tiling(path: Path, tensors: Mapping[str, TensorInfo], *, data_start: int, size: int) -> None:
    """Refuses holes and overlaps between tensors, and a file that ends before or after the last of them."""
    position = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != position:
            raise _broken(
                path,
                f"tensor {name!r} starts where the one before ends",
                data_start + position,
                f"offset {info.begin}",
            )
        position = info.end
    end = data_start + position
    if size < end:
        raise IntegrityError(
            "HZ-A01",
            f"{path.name} is not a whole safetensors file",
            where=path,
            expected=f"{end:,} bytes, as its header says",
            got=f"{size:,} bytes: a file cut off",
            kept="nothing was loaded",
            next_step="delete the file and fetch or copy it again",
        )
    if size > end:
        raise _broken(path, "nothing follows the last tensor", end, f"{size - end:,} bytes more")
