"""The audit as a whole: leaks, licences, unreadable tiles, sampling, the page, the file, the terminal."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from histozoo.audit import AuditReport, audit, charts, prepared, statistics, tables
from histozoo.audit.audit import ASKING, COMPARING, READING
from histozoo.audit.families import FAMILIES, TITLES
from histozoo.audit.reading import draw, read_rows_of
from histozoo.errors import UsageError
from tests.fakes import traps
from tests.fakes.tiles import draw_tile


def by_code(report: AuditReport, task: str) -> dict[str, str]:
    return {f.code: f.severity for f in report.of(task)}


def split(**of_class: str) -> traps.Trap:
    """Gives each tile an official split by class and turn: 'ab' alternates."""

    def trap(drawn: traps.Drawn, label: int, rng: np.random.Generator) -> traps.Drawn:
        words = of_class[("left", "right")[label]]
        turn = int(drawn.cells["group"].rpartition("-")[2])
        drawn.cells["split"] = {"a": "train", "b": "test"}[words[turn % len(words)]]
        return drawn

    return trap


def test_a_clean_official_split_is_left_alone(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "clean", split(left="ab", right="ab"))
    report = audit([task], data_root=tmp_path, out=tmp_path / "p")
    assert not {"group-in-two-splits", "class-missing-in-split"} & set(by_code(report, "clean"))
    assert report.tasks[0].splits == {"test": {"left": 18, "right": 18}, "train": {"left": 18, "right": 18}}


def test_a_group_in_two_splits_is_an_error_with_its_share(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "shared", split(left="ab", right="ab"))
    table = tmp_path / "shared/labels.csv"
    rows = table.read_text().replace("shared-left-0,test", "shared-left-0,train").splitlines()
    rows[1] = rows[1].replace("train", "test")
    table.write_text("\n".join(rows) + "\n")
    moved = [line for line in rows if "shared-left-0" in line]
    assert len({line.split(",")[2] for line in moved} | {line.split(",")[3] for line in moved}) >= 2
    report = audit([task], data_root=tmp_path, out=tmp_path / "p")
    [finding] = [f for f in report.findings if f.code == "group-in-two-splits"]
    assert finding.severity == "error" and finding.evidence["groups"] == 1 and finding.evidence["tiles"] == 3


def test_a_class_missing_in_a_split_is_named(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "missing", split(left="ab", right="a"))
    report = audit([task], data_root=tmp_path, out=tmp_path / "p")
    [finding] = [f for f in report.findings if f.code == "class-missing-in-split"]
    assert finding.evidence["absent"] == {"test": ["right"]}


def test_few_groups_and_no_groups_are_said(tmp_path: Path) -> None:
    few = traps.write(tmp_path, "few", groups=2, per_class=12)
    none = traps.write(tmp_path, "none", groups=40, per_class=24)
    report = audit([few, none], data_root=tmp_path, out=tmp_path / "p")
    assert by_code(report, "few")["few-groups"] == "error"
    assert by_code(report, "none")["no-groups"] == "warning"


def test_a_picture_whose_tiles_are_in_two_groups_is_an_error_where_the_table_says_where_tiles_lay(
    tmp_path: Path,
) -> None:
    def from_one(drawn: traps.Drawn, label: int, rng: np.random.Generator) -> traps.Drawn:
        drawn.cells |= {
            "source": f"slide{int(drawn.cells['group'].rpartition('-')[2]) // 2}-{label}",
            "x": "0",
            "y": "0",
        }
        return drawn

    report = audit([traps.write(tmp_path, "cut", from_one)], data_root=tmp_path, out=tmp_path / "p")
    [finding] = [f for f in report.findings if f.code == "picture-in-two-groups"]
    assert finding.severity == "error" and finding.evidence["pictures"] == 12


def test_unreadable_tiles_are_listed_and_the_rest_is_audited(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "broken", traps.tint)
    (tmp_path / "broken/images/left_002.png").write_bytes(b"no image")
    whole = (tmp_path / "broken/images/right_004.png").read_bytes()
    (tmp_path / "broken/images/right_004.png").write_bytes(whole[: len(whole) // 2])
    report = audit([task], data_root=tmp_path, out=tmp_path / "p")
    [finding] = [f for f in report.findings if f.code == "unreadable-tiles"]
    assert [item["name"] for item in finding.evidence["refused"]] == [
        "images/left_002.png",
        "images/right_004.png",
    ]
    assert finding.severity == "error" and {item["code"] for item in finding.evidence["refused"]} == {
        "HZ-D24"
    }
    (record,) = report.tasks
    assert record.n == record.n_read + len(record.refused) == 72
    assert "tint-tells-class" in by_code(report, "broken")


def test_the_licence_chain_names_the_tasks_that_decide(tmp_path: Path) -> None:
    words = {"free": "CC0-1.0", "nc": "CC BY-NC 4.0", "vague": "unknown"}
    tasks = [traps.write(tmp_path, name, per_class=6, groups=6, licence=word) for name, word in words.items()]
    chain = audit(tasks, data_root=tmp_path, out=tmp_path / "p").licence
    assert chain["all"]["licence"] == "other" and chain["deciding"] == ["vague"] and chain["free"] == ["free"]
    assert {name: own["licence"] for name, own in chain["alone"].items()} == {
        "free": "apache-2.0",
        "nc": "cc-by-nc-4.0",
        "vague": "other",
    }
    report = audit(tasks[:2], data_root=tmp_path, out=tmp_path / "p")
    assert report.licence["all"]["licence"] == "cc-by-nc-4.0" and report.licence["deciding"] == ["nc"]
    assert by_code(report, "nc")["licence-narrows-use"] == "note" and "licence-narrows-use" not in by_code(
        report, "free"
    )


# -- what is written --


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.sources += [value for key in ("src", "href", "data") if (value := found.get(key))]
        self.ids += [found["id"]] if found.get("id") else []
        if tag not in ("meta", "img", "link", "br", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect"):
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    root = tmp_path_factory.mktemp("made")
    odd = traps.write(
        root,
        "odd",
        traps.tint,
        classes=("<b>a & 'b'</b>", "right"),
        organ="<script>alert(1)</script>",
        per_class=18,
    )
    return audit([odd, traps.write(root, "plain", per_class=18)], data_root=root, out=root / "page")


def test_the_page_is_whole_and_loads_nothing_from_anywhere(made: AuditReport) -> None:
    text = made.page.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == [] and "script" not in page.tags and "link" not in page.tags
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in page.sources)
    assert "url(" not in text and "@import" not in text and "http" not in re.sub(r"data:[^\"]*", "", text)
    assert set(page.ids) == {"odd", "plain"} and page.tags.count("img") >= 4
    assert "&lt;script&gt;" in text and "&lt;b&gt;a &amp; &#x27;b&#x27;&lt;/b&gt;" in text


def test_every_finding_is_on_the_page_and_in_the_file(made: AuditReport) -> None:
    text, numbers = (
        made.page.read_text(encoding="utf-8"),
        json.loads(made.numbers.read_text(encoding="utf-8")),
    )
    assert len(numbers["findings"]) == len(made.findings) > 0
    assert [f["code"] for f in numbers["findings"]] == [f.code for f in made.findings]
    assert all(f.code in text for f in made.findings)
    task = next(t for t in numbers["tasks"] if t["name"] == "odd")
    assert (
        task["n"] == 36 and sum(task["counts"].values()) == 36 and task["probes"]["tint"]["telling"] is True
    )
    assert task["probes"]["size"]["value"] is None and task["probes"]["size"]["reason"]


def test_a_contact_sheet_shows_the_drawn_tiles(made: AuditReport) -> None:
    import base64

    uris = re.findall(
        r'alt="tiles of class right" src="data:image/jpeg;base64,([^"]+)"',
        made.page.read_text(encoding="utf-8"),
    )
    sheet = Image.open(io.BytesIO(base64.b64decode(uris[0])))
    assert sheet.size == (12 * 99 - 3, 2 * 99 - 3) and sheet.format == "JPEG"


def test_class_words_are_broken_behind_underscores_and_escaped() -> None:
    assert charts.breakable("squamous_cell<b>") == "squamous_<wbr>cell&lt;b&gt;"
    assert "lung_<wbr>aca" in charts.class_bars({"lung_aca": 3}, {"lung_aca": 1})


def test_the_terminal_shows_a_line_per_task(made: AuditReport) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(tables.summary(made))
    text = console.export_text()
    assert re.search(r"^odd +multiclass +36 +2 +24 .*permissive", text, re.M) and "tint-tells-class" in text
    assert "any use, commercial use included" in text


# -- what is read --


def test_a_sample_is_the_same_each_time_holds_every_class_and_is_said(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "many", per_class=150, groups=30, px=24)
    rows = read_rows_of(task, tmp_path)
    drawn = draw(rows, 120, seed=0)
    assert np.array_equal(drawn, draw(rows, 120, seed=0)) and not np.array_equal(
        drawn, draw(rows, 120, seed=1)
    )
    assert np.bincount(rows.labels_N[drawn]).tolist() == [60, 60] and (np.diff(drawn) > 0).all()
    assert len({rows.groups[i] for i in drawn.tolist()}) >= 28
    seen: list[tuple[str, int, int]] = []
    report = audit(
        [task],
        data_root=tmp_path,
        out=tmp_path / "p",
        sample=120,
        progress=lambda *told: seen.append(told),
    )
    assert seen[:120] == [(READING, i, 120) for i in range(1, 121)]
    assert seen[120:] == [*((COMPARING, i, 9) for i in range(10)), (ASKING, 0, 1)]
    assert report.tasks[0].n == 300 and report.tasks[0].n_read == 120
    assert "120 of 300 tiles" in report.page.read_text(encoding="utf-8")


def test_no_task_and_one_task_twice_are_refused(tmp_path: Path) -> None:
    task = traps.write(tmp_path, "one", per_class=6)
    for tasks in ([], [task, task]):
        with pytest.raises(UsageError, match="HZ-U83"):
            audit(tasks, data_root=tmp_path, out=tmp_path / "p")
    assert prepared({"one": task, "absent": traps.task("absent")}, tmp_path) == [task]


@pytest.mark.parametrize("quality", [25, 30, 50, 75, 88, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int, subsampling: int) -> None:
    tile = draw_tile(np.random.default_rng(0), 64, 1)
    data = traps.encoded(
        traps.Drawn(tile, options={"format": "JPEG", "quality": quality, "subsampling": subsampling})
    )
    facts = statistics.file_facts(data)
    assert abs(facts.quality - quality) <= 1 and abs(facts.quality_chroma - quality) <= 1
    assert facts.subsampling == subsampling and facts.bytes == len(data) and facts.format == "JPEG"


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (240, 16), (1200, 900)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_statistics_are_finite_for_any_size_and_for_blank_tiles(shape: tuple[int, int], value: int) -> None:
    found = statistics.of_tile(np.full((*shape, 3), value, dtype=np.uint8))
    assert all(np.isfinite(list(found.values())))
    assert found["width"], found["height"] == shape[::-1]
    assert found["black_edge"] == (value == 0) and found["white_edge"] == (value == 255)


def test_each_statistic_of_a_family_is_measured() -> None:
    tile = draw_tile(np.random.default_rng(0), 64, 1)
    measured = statistics.of_tile(tile) | statistics.of_file(
        statistics.file_facts(traps.encoded(traps.Drawn(tile)))
    )
    every = {name for names in FAMILIES.values() for name in names}
    assert every <= set(measured) and every == set(TITLES)
