"""What preparing left out, and numbers that are not the declared ones, stand on the page of the audit too."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from histozoo.audit import AuditReport, audit
from histozoo.errors import RejectedInputs
from histozoo.prepare.engine import prepare
from tests.fakes import layouts, traps


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layouts.write_pictures(tmp_path / "source", 8)


def audited(
    source: Path, tmp_path: Path, *, counts: tuple[int, int] | None = None, **options: Any
) -> AuditReport:
    task = replace(layouts.task(), counts=counts, traps=("drawn, <not> real",))
    with suppress(RejectedInputs):
        prepare(task, source, tmp_path / "root", workers=0, **options)
    pictures = options.get("max_pictures")
    root = tmp_path / "root" / f"trial-{pictures}-pictures" if pictures else tmp_path / "root"
    return audit([task], data_root=root, out=tmp_path / "page")


def sentences(report: AuditReport) -> dict[str, tuple[str, str]]:
    return {f.code: (f.severity, f.sentence) for f in report.of("synthetic")}


def test_a_task_that_was_prepared_whole_has_no_such_finding(source: Path, tmp_path: Path) -> None:
    report = audited(source, tmp_path)
    assert not {"pictures-left-out", "not-as-published"} & report.codes("synthetic")
    assert "<li>drawn, &lt;not&gt; real</li>" in report.page.read_text(encoding="utf-8")


def test_pictures_that_were_left_out_are_counted_by_code_and_named(source: Path, tmp_path: Path) -> None:
    for name in ("p1_001", "p2_002"):
        (source / f"pictures/tumour/{name}.png").write_bytes(b"")
    severity, said = sentences(audited(source, tmp_path, skip_bad=True))["pictures-left-out"]
    assert severity == "warning" and said.startswith("2 of 16 pictures were left out")
    assert "(HZ-D24 2: pictures/tumour/p1_001.png, pictures/tumour/p2_002.png)" in said


def test_numbers_that_were_accepted_are_told(source: Path, tmp_path: Path) -> None:
    found = sentences(audited(source, tmp_path, counts=(33, 32), accept_counts=True))["not-as-published"]
    assert found[0] == "warning" and "class stroma: 32 instead of 33 (1 missing)" in found[1]


def test_a_trial_says_that_it_is_one(source: Path, tmp_path: Path) -> None:
    report = audited(source, tmp_path, max_pictures=8)
    assert sentences(report)["not-as-published"][1].startswith("This is a trial of 8 pictures")


def test_a_table_that_nobody_prepared_has_no_such_finding(tmp_path: Path) -> None:
    report = audit([traps.write(tmp_path, "plain", per_class=6)], data_root=tmp_path, out=tmp_path / "p")
    assert not {"pictures-left-out", "not-as-published"} & report.codes("plain")
