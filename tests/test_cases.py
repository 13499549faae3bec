"""The worst failures, by number: each has a test named after it, and what those tests stand on is tested itself.

The number is that of the error code (`HZ-A02`) and of the tests (`test_a02_...`). Here are those of artifacts, download and cache, names,
training and publishing that give a wrong result in silence, run foreign code or lose work.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from tests.fakes import hub_faults, killer, nospace

HERE = Path(__file__).parent
CASES = {
    "a02": "one bit changed in tensor data",
    "a03": "a header changed and still valid: renamed, transposed, another dtype, two tensors swapped",
    "a05": "a key missing or extra, or a prefix before all keys, for any num_classes",
    "a06": "NaN, Inf, constant matrices, fp16 overflow, whole numbers as weights",
    "a07": "preprocessing missing, of the wrong length or range, unknown or duplicate keys",
    "a08": "the right hash with another pipeline: variant, resize, channel order",
    "b11": "bytes of the right number changed in transit, or in the cache later",
    "b12": "eight processes, a cold cache, faults, locks that do nothing",
    "b16": "a branch that moves between two files",
    "b17": "a tag that moved, an owner registered again, a repository renamed",
    "b18": "path parts in names and replies, a redirect to another host, tokens in logs",
    "c20": "names that are paths, devices, other alphabets, too long",
    "c23": "a model withdrawn after it was published",
    "f40": "kill -9 at any moment of training",
    "f42": "a checkpoint that cannot be written: disk full, quota, read-only",
    "f44": "a run continued with another experiment, data, code or number of processes",
    "f45": "a loss, gradient or statistic that is not finite",
    "f47": "the same seed twice, with other numbers of workers",
    "g49": "a candidate that fails a gate",
    "g50": "an upload or a copy that breaks off at any byte",
    "g51": "a name published already, and two publishers at once",
    "g52": "secrets, paths, user names and patients in what is published",
}


def all_tests() -> dict[str, str]:
    """Returns the name of every test -> its file."""
    return {
        node.name: path.name
        for path in HERE.rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("case", CASES)
def test_a_case_has_tests_named_after_it(case: str) -> None:
    named = [name for name in all_tests() if case in name.split("_")]
    assert named, f"{case}: {CASES[case]}"


def test_every_switch_of_the_loopback_hub_strikes_in_some_test() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in HERE.rglob("test_*.py"))
    used = re.findall(r"(\w+)=|\"(\w+)\":", "\n".join(re.findall(r"\.fault\(.*?\n|\{\"\w+\": .*?\n", text)))
    switches = {field.name for field in dataclasses.fields(hub_faults.Fault)} - {"match", "hits"}
    assert switches - {word for pair in used for word in pair} == set()


@pytest.mark.parametrize(
    "function",
    [killer.kill_until_done, killer.killed_at_byte, nospace.no_space, nospace.file_size_limit],
    ids=lambda f: f.__name__,
)
def test_the_killer_and_the_full_disk_are_tested_and_used(function: object) -> None:
    name = function.__name__  # type: ignore[attr-defined]
    users = [
        p.name for p in HERE.rglob("test_*.py") if re.search(rf"\b{name}\(", p.read_text(encoding="utf-8"))
    ]
    assert "test_fakes.py" in users and len(users) >= 2
