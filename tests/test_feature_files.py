"""Feature files: no changed bit passes for a feature, a name or a hash, and whoever holds a file can check it without us."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from histozoo import feature_files
from histozoo.errors import IntegrityError
from histozoo.feature_files import Features
from histozoo.integrity import differing

NAMES = ("a/tile_one.png", "a/tile_two.png", "b/Gewebe_ä.png")
HASHES = tuple(hashlib.sha256(name.encode()).hexdigest() for name in NAMES)
F_ND = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
MADE_BY = {"model": "test_resnet.multitask_drawn2", "mpp": 0.5, "contract": {"mean": [0.1, 0.2, 0.3]}}
SUFFIXES = [".safetensors", ".h5"]


def written(folder: Path, suffix: str, **changed: object) -> Path:
    parts = {"names": NAMES, "sha256": HASHES, "features_ND": F_ND, "made_by": MADE_BY, **changed}
    path = folder / f"f{suffix}"
    if suffix == ".h5":
        pytest.importorskip("h5py", reason="h5py is optional")
    feature_files.write(path, Features(**parts))  # type: ignore[arg-type]
    return path


def same(one: Features, two: Features) -> bool:
    told = (one.names, one.sha256, one.made_by) == (two.names, two.sha256, two.made_by)
    return told and np.array_equal(one.features_ND, two.features_ND)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_is_read(suffix: str, tmp_path: Path) -> None:
    found = feature_files.read(written(tmp_path, suffix))
    assert (found.names, found.sha256, found.made_by) == (NAMES, HASHES, MADE_BY)
    assert np.array_equal(found.features_ND, F_ND)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_may_hold_no_row(suffix: str, tmp_path: Path) -> None:
    none = np.zeros((0, 5), np.float32)
    found = feature_files.read(written(tmp_path, suffix, names=(), sha256=(), features_ND=none))
    assert found.names == found.sha256 == () and found.features_ND.shape == (0, 5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", ["features", "names", "hashes", "model", "contract"])
def test_h64_one_flipped_bit_is_refused_in_every_part(part: str, suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    data = path.read_bytes()
    sought = {
        "features": struct.pack("<f", F_ND[1, 2]),
        "names": b"tile_two",
        "hashes": HASHES[1].encode() if suffix == ".h5" else bytes.fromhex(HASHES[1]),
        "model": b"multitask_drawn2",
        "contract": b"0.2, 0.3",
    }[part]
    places = [i for i in range(len(data)) if data.startswith(sought, i)]
    assert places
    for at in places:
        path.write_bytes(flipped(data, at, 0))
        with pytest.raises(IntegrityError, match="HZ-H64 this is not a whole feature file"):
            feature_files.read(path)
        assert path.read_bytes() == flipped(data, at, 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_h64_whatever_bit_is_flipped_the_file_is_refused_or_says_the_same(
    suffix: str, tmp_path: Path
) -> None:
    path = written(tmp_path, suffix)
    data, whole = path.read_bytes(), feature_files.read(path)
    refused = 0
    for at in range(0, len(data), 1 if suffix == ".safetensors" else 7):
        path.write_bytes(flipped(data, at, at % 8))
        try:
            assert same(feature_files.read(path), whole), at
        except IntegrityError as error:
            assert error.code == "HZ-H64"
            refused += 1
    assert refused > (0.9 * len(data) if suffix == ".safetensors" else 100)


def test_the_checksum_is_what_its_documentation_says(tmp_path: Path) -> None:
    """Recomputed from the file with struct and json alone, as somebody without our code would."""
    data = written(tmp_path, ".safetensors").read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    told = json.loads(header["__metadata__"]["histozoo"])
    parts = {
        key: data[8 + n + header[key]["data_offsets"][0] : 8 + n + header[key]["data_offsets"][1]]
        for key in ("features_ND", "names_json", "sha256_N32")
    }
    stated = told.pop("checksum")
    hashes = [parts["sha256_N32"][i : i + 32].hex() for i in range(0, len(parts["sha256_N32"]), 32)]
    words = [told, json.loads(parts["names_json"]), hashes, header["features_ND"]["shape"]]
    text = json.dumps(words, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(text + b"\0" + parts["features_ND"]).hexdigest() == stated


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_both_formats_state_the_same_checksum(suffix: str, tmp_path: Path) -> None:
    found = feature_files.read(written(tmp_path, suffix))
    assert feature_files.checksum(found) == feature_files.checksum(
        Features(names=NAMES, sha256=HASHES, features_ND=F_ND, made_by=MADE_BY)
    )


def test_h64_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = written(tmp_path, ".safetensors")
    save_file(load_file(path), path, metadata={"histozoo": json.dumps(MADE_BY)})
    with pytest.raises(IntegrityError, match=r"HZ-H64 .*states no checksum[\s\S]*embed again"):
        feature_files.read(path)


def test_h64_says_two_checksums_that_are_seen_to_differ(tmp_path: Path) -> None:
    import re

    path = written(tmp_path, ".safetensors")
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(struct.pack("<f", F_ND[0, 0])), 0))
    with pytest.raises(IntegrityError) as caught:
        feature_files.read(path)
    found = re.search(r"have the checksum (\S+), it states (\S+)$", caught.value.what)
    assert found is not None and found[1] != found[2]


@pytest.mark.parametrize("at", [0, 11, 12, 40, 63])
def test_shortened_hashes_differ_wherever_the_hashes_do(at: int) -> None:
    one = "0123456789abcdef" * 4
    two = f"{one[:at]}{'x'}{one[at + 1 :]}"
    short = differing(one, two)
    assert short[0] != short[1] and "x" in short[1] and max(map(len, short)) < 40
    assert differing(one[:12], one) == (one[:12], one)
