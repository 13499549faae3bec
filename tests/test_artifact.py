"""Files of weights: what is refused, with which words, and that a second look costs nothing and trusts nothing that changed."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from histozoo import artifact, integrity
from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError
from tests.fakes.hub_faults import flip_bit
from tests.fakes.nospace import no_space
from tests.fakes.zoo import entry_json, sha256

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HISTOZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def some_tensors() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.weight": torch.ones(4),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.randn(5, 4, generator=generator),
    }


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    artifact.save_canonical(some_tensors(), tmp_path / "model.safetensors", {"format": "pt", "a": "b"})
    return tmp_path / "model.safetensors"


def with_header(path: Path, change: Callable[[bytes], bytes], tail: bytes = b"") -> Path:
    """Rewrites the header's text, its length field with it."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    text = change(data[8 : 8 + n])
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n :] + tail)
    return path


# -- A1: what is no file of weights at all


NOT_WEIGHTS = {
    "empty": (b"", "an empty file"),
    "five bytes": (b"12345", "a file cut off"),
    "HTML": (b"<!DOCTYPE html><html><body>Please log in</body></html>", "an HTML page"),
    "Git-LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 44763568\n",
        "a Git-LFS pointer",
    ),
    "pickle": (pickle.dumps({"weight": [1.0]}), "a pickle"),
    "torch.save": (b"PK\x03\x04" + bytes(200), "a pickle"),
}


@pytest.mark.parametrize("data, looks", NOT_WEIGHTS.values(), ids=NOT_WEIGHTS)
def test_a01_what_is_no_weights_file_is_said_to_be_what_it_looks_like(
    tmp_path: Path, data: bytes, looks: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        artifact.read_header(path)
    assert (
        caught.value.code == "HZ-A01"
        and looks in caught.value.got
        and f"{len(data):,} bytes" in caught.value.got
    )
    with pytest.raises(IntegrityError) as caught:
        artifact.verify(path, "0" * 64, 44_763_568)
    assert (
        caught.value.code == "HZ-A01"
        and looks in caught.value.got
        and "44,763,568 bytes" in caught.value.expected
    )
    assert "header too large" not in str(caught.value)


def test_a01_for_a_git_lfs_pointer_the_next_step_fetches_what_it_points_to(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for data, step in ((NOT_WEIGHTS["Git-LFS pointer"][0], "git lfs pull"), (b"<html>", "fetch or copy")):
        path.write_bytes(data)
        for look in (artifact.read_header, lambda path: artifact.verify(path, "0" * 64, 44_763_568)):
            with pytest.raises(IntegrityError, match="HZ-A01") as caught:
                look(path)
            assert step in caught.value.next_step


@pytest.mark.parametrize("change, said", [(-1, "cut off, or another file"), (300, "300 too many")])
def test_a01_a_file_of_another_size_is_not_called_a_download(weights: Path, change: int, said: str) -> None:
    """It may have been copied, or be another file altogether; a longer one was not truncated."""
    size = weights.stat().st_size
    with pytest.raises(IntegrityError, match="HZ-A01") as caught:
        artifact.verify(weights, "0" * 64, size - change)
    assert said in caught.value.got
    assert "download" not in str(caught.value) and ("cut off" in caught.value.got) == (change < 0)


@pytest.mark.parametrize("cut", [1, 100, 500, 900])
def test_a01_a_truncated_file_is_refused(weights: Path, cut: int) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) - cut])
    with pytest.raises(IntegrityError, match=r"(?s)HZ-A01.*cut off"):
        artifact.read_header(weights)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    for look in (artifact.read_header, lambda path: artifact.verify(path, "0" * 64, 5)):
        with pytest.raises(ResourceError, match=r"(?s)HZ-U11.*No such file"):
            look(tmp_path / "nothing.safetensors")


# -- A2: bytes


def test_a02_one_bit_changed_anywhere_is_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_VERIFY", "always")
    data = weights.read_bytes()
    for bit in [*range(0, 8 * len(data), 211), 8 * len(data) - 1]:
        weights.write_bytes(flip_bit(data, bit))
        with pytest.raises(IntegrityError) as caught:
            artifact.verify(weights, sha256(data), len(data))
        assert caught.value.code == "HZ-A02"
    assert caught.value.expected == f"sha256 {sha256(data)}"
    assert (
        sha256(weights.read_bytes()) in caught.value.got and "corruption, not truncation" in caught.value.got
    )


# -- A3, A5: tensors


def check(path: Path, expected: dict[str, Any], dtype: str = "float32") -> None:
    artifact.check_tensors(path, artifact.read_header(path), expected, dtype=dtype)


def test_the_right_tensors_pass(weights: Path) -> None:
    check(weights, some_tensors())


def test_a03_a_transposed_shape_and_a_changed_dtype_are_refused(weights: Path) -> None:
    with_header(weights, lambda text: text.replace(b"[5,4]", b"[4,5]"))
    with pytest.raises(IntegrityError) as caught:
        check(weights, some_tensors())
    assert caught.value.code == "HZ-A03"
    assert caught.value.expected == "1: fc.weight F32[5, 4]" and caught.value.got == "1: fc.weight F32[4, 5]"
    with_header(weights, lambda text: text.replace(b'"I64"', b'"F64"').replace(b"[4,5]", b"[5,4]"))
    with pytest.raises(IntegrityError, match=r"bn\.num_batches_tracked F64"):
        check(weights, some_tensors())


def test_a03_a_renamed_tensor_is_refused(weights: Path) -> None:
    with_header(weights, lambda text: text.replace(b"fc.weight", b"fd.weight"))
    with pytest.raises(IntegrityError, match=r"(?s)HZ-A05.*missing 1: fc.weight.*not known 1: fd.weight"):
        check(weights, some_tensors())


def test_a03_two_tensors_of_one_shape_swapped_are_caught_by_the_hash(tmp_path: Path) -> None:
    t = {k: torch.randn(4, 4) for k in ("a", "b")}
    path = tmp_path / "model.safetensors"
    good = artifact.save_canonical(t, path)
    size = path.stat().st_size
    artifact.save_canonical({"a": t["b"], "b": t["a"]}, path)
    check(path, t)  # nothing in keys and shapes tells
    with pytest.raises(IntegrityError, match="HZ-A02"):
        artifact.verify(path, good, size)


def test_a05_missing_and_extra_keys_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    artifact.save_canonical({f"x{i}": torch.zeros(1) for i in range(8)}, path)
    with pytest.raises(IntegrityError) as caught:
        check(path, {f"y{i}": torch.zeros(1) for i in range(7)})
    assert caught.value.code == "HZ-A05"
    assert caught.value.expected == "exactly 7 keys; missing 7: y0, y1, y2, y3, y4 and 2 more"
    assert caught.value.got == "8 keys; not known 8: x0, x1, x2, x3, x4 and 3 more"


@pytest.mark.parametrize("prefix", ["backbone", "module", "student.backbone"])
def test_a05_a_prefix_is_recognised(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "model.safetensors"
    artifact.save_canonical({f"{prefix}.{k}": v for k, v in some_tensors().items()}, path)
    with pytest.raises(IntegrityError, match=rf"HZ-A05(?s:.*)looks like prefix `{prefix}.`"):
        check(path, some_tensors())


# -- A4: the format's rules


BROKEN_HEADERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "duplicate tensor": (lambda t: t.replace(b'{"__m', b'{"fc.weight":{},"__m'), "duplicate key 'fc.weight'"),
    "duplicate field": (lambda t: t.replace(b'"dtype":"F32"', b'"dtype":"F32","dtype":"F32"', 1), "duplicate key 'dtype'"),
    "leading space": (lambda t: b" " + t, "starts with '{'"),
    "other padding": (lambda t: t.rstrip() + b"\n" * 8, "ends with '}' and spaces"),
    "nested metadata": (lambda t: t.replace(b'"a":"b"', b'"a":{"b":"c"}'), "metadata maps texts to texts"),
    "number in metadata": (lambda t: t.replace(b'"a":"b"', b'"a":1'), "metadata maps texts to texts"),
    "two dots in a name": (lambda t: t.replace(b"fc.weight", b"../weight"), "printable, without '..'"),
    "NUL in a name": (lambda t: t.replace(b"fc.weight", b"fc\\u0000weight"), "printable"),
    "no name": (lambda t: t.replace(b"fc.weight", b""), "printable"),
    "unknown dtype": (lambda t: t.replace(b'"F32"', b'"F31"', 1), "is one of F64"),
    "dtype as list": (lambda t: t.replace(b'"F32"', b'["F32"]', 1), "is one of F64"),
    "negative shape": (lambda t: t.replace(b"[5,4]", b"[-5,-4]"), "whole numbers"),
    "shape of floats": (lambda t: t.replace(b"[5,4]", b"[5.0,4]"), "whole numbers"),
    "shape of booleans": (lambda t: t.replace(b'"shape":[]', b'"shape":[true]'), "whole numbers"),
    "too many bytes": (lambda t: t.replace(b"[5,4]", b"[5,5]"), "as many as its shape"),
    "overlap": (lambda t: t.replace(b'"data_offsets":[0,8]', b'"data_offsets":[8,16]'), "starts where the one before ends"),
    "missing field": (lambda t: t.replace(b'"dtype":"F32",', b"", 1), "has dtype, shape and data_offsets"),
    "one field more": (lambda t: t.replace(b'"dtype":"F32"', b'"dtype":"F32","x":1', 1), "has dtype, shape and data_offsets"),
    "not JSON": (lambda t: t.replace(b":", b";", 1), "JSON with distinct keys"),
    "not UTF-8": (lambda t: t.replace(b"fc", b"\xff\xfe"), "JSON with distinct keys"),
    "not a number": (lambda t: t.replace(b'"a":"b"', b'"a":NaN'), "JSON with distinct keys"),
    "a list": (lambda t: b"[" + t.strip() + b"]", "starts with '{'"),
}  # fmt: skip


@pytest.mark.parametrize("change, rule", BROKEN_HEADERS.values(), ids=BROKEN_HEADERS)
def test_a04_a_header_that_breaks_a_rule_is_refused(
    weights: Path, change: Callable[[bytes], bytes], rule: str
) -> None:
    before = weights.read_bytes()
    with_header(weights, change)
    assert weights.read_bytes() != before
    with pytest.raises(IntegrityError) as caught:
        artifact.read_header(weights)
    assert caught.value.code == "HZ-A04" and rule in str(caught.value) and ", byte " in caught.value.where


def test_a04_bytes_after_the_last_tensor_are_refused(weights: Path) -> None:
    end = weights.stat().st_size
    with_header(weights, lambda text: text, tail=b"PK\x03\x04 hidden")
    with pytest.raises(IntegrityError) as caught:
        artifact.read_header(weights)
    assert (
        caught.value.code == "HZ-A04"
        and f"byte {end:,}" in caught.value.where
        and "11 bytes more" in caught.value.got
    )


def test_a04_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 99_000_000) + b"{")
        file.truncate(200_000_000)  # sparse
    with pytest.raises(IntegrityError, match=r"(?s)HZ-A04.*at most 10,000,000 bytes.*99,000,000"):
        artifact.read_header(path)


# -- A6: values


BAD_VALUES = {
    "NaN": (lambda t: t["fc.weight"][2, 1:3].fill_(float("nan")), "2 NaN and 0 Inf of 20 values"),
    "Inf": (lambda t: t["bn.weight"][0].fill_(float("-inf")), "0 NaN and 1 Inf of 4 values"),
    "all zero": (lambda t: t["fc.weight"].zero_(), "all 20 values equal 0"),
    "constant": (lambda t: t["conv.weight"].fill_(0.25), "all 108 values equal 0.25"),
    "integers": (
        lambda t: t.update({"fc.weight": torch.ones(5, 4, dtype=torch.int8)}),
        "integers (torch.int8)",
    ),
    "fp16 overflow": (lambda t: t.update({"fc.weight": (t["fc.weight"] * 1e6).half()}), "Inf of 20 values"),
    "nothing": (lambda t: t.update({"fc.weight": torch.zeros(0, 4)}), "no values at all"),
}


@pytest.mark.parametrize("change, said", BAD_VALUES.values(), ids=BAD_VALUES)
def test_a06_values_that_no_training_gives_are_refused(
    change: Callable[[dict[str, Any]], object], said: str
) -> None:
    tensors = some_tensors()
    change(tensors)
    with pytest.raises(IntegrityError) as caught:
        artifact.check_finite(tensors, where="model.safetensors")
    assert caught.value.code == "HZ-A06" and said in caught.value.got and "tensor '" in caught.value.what


def test_a06_gains_biases_counters_and_single_tokens_may_be_constant() -> None:
    artifact.check_finite(
        {"gain": torch.ones(4), "bias": torch.zeros(4), "cls": torch.zeros(1, 1, 8), "n": torch.tensor(0)}
    )


# -- A8: the contract inside the weights


def test_a08_weights_carry_what_they_were_published_with(tmp_path: Path) -> None:
    raw = entry_json("resnet18.multitask_path11")
    path = tmp_path / "model.safetensors"
    artifact.save_canonical(some_tensors(), path, artifact.weights_metadata(raw))
    header = artifact.read_header(path)
    artifact.check_contract(path, header, raw)
    raw["pretrained_cfg"]["description"] = raw["pretrained_cfg"]["license"] = "another text"
    artifact.check_contract(path, header, raw)


@pytest.mark.parametrize(
    "field",
    [
        "contract.mean",
        "contract.mpp",
        "contract.kernel",
        "pretrained_cfg.crop_pct",
        "architecture",
        "name",
        "model_args",
    ],
)
def test_a08_an_entry_with_another_pipeline_is_refused(tmp_path: Path, field: str) -> None:
    raw = entry_json("resnet18.multitask_path11")
    path = tmp_path / "model.safetensors"
    artifact.save_canonical(some_tensors(), path, artifact.weights_metadata(raw))
    where = raw["histozoo"] if field.startswith(("contract", "name")) else raw
    *parents, last = field.split(".")
    for parent in parents:
        where = where[parent]
    where[last] = "other"
    with pytest.raises(IntegrityError) as caught:
        artifact.check_contract(path, artifact.read_header(path), raw)
    assert caught.value.code == "HZ-A08" and field in caught.value.what and "other" in caught.value.expected


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"histozoo": "{"}, {"histozoo": '{"a":1,"a":1}'}]
)
def test_a08_weights_that_state_nothing_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    artifact.save_canonical(some_tensors(), path, metadata)
    with pytest.raises(IntegrityError, match="HZ-A08"):
        artifact.check_contract(path, artifact.read_header(path), entry_json("resnet18.multitask_path11"))


# -- writing


def test_canonical_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    tensors, told = some_tensors(), {f"key{i}": str(i) for i in range(9)}
    first = artifact.save_canonical(tensors, tmp_path / "a", told)
    backwards = {k: tensors[k] for k in reversed(tensors)}
    assert artifact.save_canonical(backwards, tmp_path / "b", dict(reversed(told.items()))) == first
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first == artifact.sha256_file(tmp_path / "a") == sha256((tmp_path / "a").read_bytes())


def test_the_reference_reader_gives_back_every_bit(tmp_path: Path) -> None:
    from safetensors import safe_open

    tensors = some_tensors() | {
        "half": torch.randn(3).half(),
        "brain": torch.randn(2, 2).bfloat16(),
        "flag": torch.tensor([True, False, True]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "strided": torch.randn(6, 4).t(),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "none": torch.zeros(0, 3),
    }
    artifact.save_canonical(tensors, tmp_path / "x.safetensors", {"format": "pt", "é": "ü"})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "é": "ü"}
        assert set(file.keys()) == set(tensors)
        for key, tensor in tensors.items():
            assert file.get_tensor(key).dtype == tensor.dtype and torch.equal(file.get_tensor(key), tensor), (
                key
            )
    assert set(artifact.read_header(tmp_path / "x.safetensors").tensors) == set(tensors)


def test_our_reader_takes_what_the_reference_writer_writes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(some_tensors(), tmp_path / "x.safetensors", metadata={"format": "pt", "a": "b"})
    check(tmp_path / "x.safetensors", some_tensors())


def test_a_full_disk_leaves_the_previous_weights(weights: Path) -> None:
    before = weights.read_bytes()
    with no_space(100), pytest.raises(ResourceError, match="HZ-F42"):
        artifact.save_canonical({"x": torch.zeros(1000)}, weights)
    assert weights.read_bytes() == before and [p.name for p in weights.parent.iterdir()] == [
        "model.safetensors"
    ]


# -- the stamp


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read to be hashed."""
    real, seen = integrity.sha256_file, []

    def counted(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(integrity, "sha256_file", counted)
    return seen


def facts(path: Path) -> tuple[Path, str, int]:
    return path, sha256(path.read_bytes()), path.stat().st_size


def test_a_file_is_hashed_once(weights: Path, hashed: list[Path]) -> None:
    for _ in range(3):
        artifact.verify(*facts(weights))
    assert hashed == [weights]
    assert artifact.passed(*facts(weights)[:2], "sha256") and not artifact.passed(
        *facts(weights)[:2], "values"
    )


def test_always_hashes_every_time_and_off_never(
    weights: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOZOO_VERIFY", "always")
    for _ in range(2):
        artifact.verify(*facts(weights))
    assert len(hashed) == 2
    monkeypatch.setenv("HISTOZOO_VERIFY", "off")
    artifact.verify(weights, "0" * 64, weights.stat().st_size)
    assert len(hashed) == 2
    with pytest.raises(IntegrityError, match="HZ-A01"):
        artifact.verify(weights, "0" * 64, 5)
    monkeypatch.setenv("HISTOZOO_VERIFY", "sometimes")
    with pytest.raises(UsageError, match=r"(?s)HZ-U12.*always, once or off.*'sometimes'"):
        artifact.verify(*facts(weights))


def test_b11_a_change_that_keeps_size_and_time_is_seen(weights: Path) -> None:
    good, st = facts(weights), weights.stat()
    artifact.verify(*good)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([weights.read_bytes()[-1] ^ 1]))
    os.utime(weights, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert weights.stat().st_mtime_ns == st.st_mtime_ns and weights.stat().st_size == st.st_size
    with pytest.raises(IntegrityError, match="HZ-A02"):
        artifact.verify(*good)


def test_b11_a_file_changed_right_after_it_was_hashed_is_seen(weights: Path) -> None:
    good = facts(weights)
    for _ in range(5):
        weights.write_bytes(weights.read_bytes())  # a fresh time, so that clock ticks could coincide
        artifact.verify(*good)
        weights.write_bytes(flip_bit(weights.read_bytes(), 8 * good[2] - 1))
        with pytest.raises(IntegrityError, match="HZ-A02"):
            artifact.verify(*good)
        weights.write_bytes(flip_bit(weights.read_bytes(), 8 * good[2] - 1))


def test_another_expected_hash_is_not_answered_by_the_stamp(weights: Path) -> None:
    artifact.verify(*facts(weights))
    with pytest.raises(IntegrityError, match="HZ-A02"):
        artifact.verify(weights, "0" * 64, weights.stat().st_size)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"identity": 5}', '{"identity": [], "sha256": "", "passed": 3}']
)
def test_a_damaged_stamp_only_costs_time(
    weights: Path, own_cache: Path, hashed: list[Path], text: str
) -> None:
    artifact.verify(*facts(weights))
    (only,) = (own_cache / "verified").iterdir()
    only.write_text(text)
    artifact.verify(*facts(weights))
    assert len(hashed) == 2 and json.loads(only.read_text())["passed"] == ["sha256"]


def test_a_cache_that_cannot_be_written_only_costs_time(
    weights: Path, hashed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HISTOZOO_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        artifact.verify(*facts(weights))
    assert len(hashed) == 2


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert artifact.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("HISTOZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert artifact.cache_folder() == Path("/x/histozoo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert artifact.cache_folder() == Path.home() / ".cache" / "histozoo"


def test_every_error_says_what_was_kept_and_what_to_do(weights: Path) -> None:
    errors: list[HistozooError] = []
    calls: list[Callable[[], object]] = [
        lambda: artifact.verify(weights, "0" * 64, weights.stat().st_size),
        lambda: artifact.verify(weights, "0" * 64, 7),
        lambda: check(weights, {}),
        lambda: artifact.check_finite({"a": torch.zeros(2, 2)}),
        lambda: artifact.check_contract(
            weights, artifact.read_header(weights), entry_json("resnet18.multitask_path11")
        ),
    ]
    for call in calls:
        with pytest.raises(HistozooError) as caught:
            call()
        errors.append(caught.value)
    for error in errors:
        assert all((error.code, error.what, error.expected, error.got, error.kept, error.next_step)), error


def test_a_fresh_file_is_waited_for_at_most_one_tick(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes())
    start = time.perf_counter()
    artifact.verify(*facts(weights))
    assert time.perf_counter() - start < 0.5
