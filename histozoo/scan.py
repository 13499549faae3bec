"""What must not leave the machine: access tokens, absolute paths, user names, e-mail addresses, patient-like numbers.

Everything a bundle publishes as text goes through here before it is sent: card, config.json, safetensors headers. The rules
would rather refuse a harmless text than let a patient's number pass; a finding names file and line and shows the match masked.
Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("access token", r"\bhf_[A-Za-z0-9]{16,}|\b(?:gh[opsur]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}"),
        ("access token", r"\bAKIA[0-9A-Z]{16}\b|\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"),
        (
            "access token",
            r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.|(?i:\bbearer\s+)[A-Za-z0-9._~+/-]{16,}",
        ),
        ("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
        ("password", r"(?<=://)[^/\s:@\"]+:[^/\s@\"]+(?=@)"),
        ("password", r"(?i)\b(?:password|passwd|secret|api[_-]?key|token)\"?\s*[:=]\s*\"?[^\s\",}]{6,}"),
        # A path of two or more parts that no URL, word, tag or relative path precedes; the Hub's own names have no leading slash.
        ("absolute path", r"(?<![\w.:/<~)\]}*-])/(?:[\w.@+-]+/)+[\w.@+-]*"),
        (
            "absolute path",
            r"(?<![\w/])~[\w.-]*/[\w.]|\b[A-Za-z]:\\{1,2}\w|(?<!\\)\\\\{1,3}\w+\\|\bfile:/|@[\w.-]+:/",
        ),
        ("e-mail address", r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b"),
        ("patient-like number", r"\bTCGA-[A-Z0-9]{2}-[A-Z0-9]{4}[A-Z0-9-]*|\bGTEX-[A-Z0-9]{4,}\b"),
        ("patient-like number", r"\b(?:19|20)?\d{6}[-+]\d{4}\b|\b\d{3}-\d{2}-\d{4}\b|\b\d{3} \d{3} \d{4}\b"),
        (
            "patient-like number",
            r"\b[A-Z]{1,3}\d{2}-\d{4,7}\b|\b[12]\.2\.840(?:\.\d+){3,}|\b1\.3\.6\.1\.4(?:\.\d+){4,}",
        ),
        (
            "patient-like number",
            r"(?i)\b(?:patient|mrn|accession|subject|case|personal)(?:[ _-]?(?:id|no|nr|number))?\"?\s*[:=#_-]\s*\"?[a-z]{0,4}-?\d{3,}",
        ),
    )
)
# Account names that say nothing about a person, and words that are common in a card.
_COMMON_NAMES = frozenset(
    "root user users admin administrator ubuntu debian runner jenkins docker nobody home app build builder guest test vagrant "
    "histozoo model models data pathology tile tiles sagemaker-user jovyan codespace vscode ec2-user".split()
)


def scan_text(text: str, where: str = "") -> list[str]:
    """Returns one line per finding in `text`: `where:line: kind: masked match`; empty when the text is clean."""
    rules = (*_KINDS, *_user_rules(_user_names()))
    return [
        f"{where}:{number}: {kind}: {_mask(match[0])}"
        for number, line in enumerate(text.splitlines(), 1)
        for kind, pattern in rules
        for match in pattern.finditer(line)
    ]


def scan_file(path: str | Path) -> list[str]:
    """Returns the findings in one text file, or in the header of one safetensors file."""
    path = Path(path)
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            data = file.read(int.from_bytes(file.read(8), "little"))
        else:
            data = file.read()
    return scan_text(data.decode(errors="replace"), path.name)


def _mask(match: str) -> str:
    return f"{match[: min(3, len(match) // 4)]}*** ({len(match)} characters)"


def _user_names() -> set[str]:
    """Returns what this machine calls the person at it."""
    return {os.environ.get("USER", ""), os.environ.get("LOGNAME", ""), Path("~").expanduser().name}


def _user_rules(names: Iterable[str]) -> Iterator[tuple[str, re.Pattern[str]]]:
    for name in sorted(names):
        if len(name) >= 3 and name.lower() not in _COMMON_NAMES:
            yield "user name", re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
