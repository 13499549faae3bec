"""The page and the files: well-formed, nothing from elsewhere, names as text, hollow dots for what was seen, a CSV that reads back."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from histozoo.evaluate.compare import confusion
from histozoo.evaluate.compare.cells import Cell
from histozoo.evaluate.compare.page import page
from histozoo.evaluate.compare.plots import COLOURS, colour, intervals
from histozoo.evaluate.compare.standings import METRICS, Standings, nothing, standings
from histozoo.evaluate.compare.table import HEAD, table, write
from tests.fakes.compared import cell, guesses

FACTS = {"command": "histozoo evaluate <x> & 'y'", "version": "0", "seeds": [0, 1], "resamples": 400}
EVIL = "</title><script>alert('&amp;')</script>\"x'"
VOID = {"meta", "line", "circle", "br"}


class Reader(HTMLParser):
    """Checks that tags are closed in order, and collects them and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def cells(first: str = "good", tasks: tuple[str, ...] = ("drawn_0", "drawn_1")) -> list[Cell]:
    found = []
    for i, task in enumerate(tasks):
        shots = [
            {"shots": n, "mean": 0.5 + n / 100, "sd": 0.1, "percentiles": [0.4, 0.5, 0.6]} for n in (1, 16)
        ]
        facts = {"shots": shots} | ({"shots_left_out": {"shots": [32], "rarest": 17}} if i else {})
        found.append(cell(first, task, guesses(task, 0.97, seed=i), facts=facts))
        found += [
            cell("random:x", task, guesses(task, 0.5, seed=i + s), encoder=f"random:x@{s}") for s in (7, 8)
        ]
    return found


def stood(several: list[Cell], metric: str = METRICS[0]) -> Standings:
    return standings(several, metric=metric, resamples=400)


@pytest.fixture(scope="module")
def found() -> list[Standings]:
    several = cells()
    several[0] = dataclasses.replace(several[0], seen=True)
    return [stood(several, metric) for metric in METRICS]


def test_the_page_is_well_formed_and_fetches_nothing(found: list[Standings]) -> None:
    text = page(found, facts=FACTS)
    reader = read(text)
    fetching = {"src", "href", "srcset", "data", "action", "xlink:href"}
    assert {tag for tag, _ in reader.tags} >= {"html", "svg", "table", "details"}
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe", "object"}
    assert not [attrs for _, attrs in reader.tags if fetching & set(attrs)]
    assert not re.search(r"https?:|//|url\(|@import", text)


def test_names_are_text_wherever_they_stand() -> None:
    several = [dataclasses.replace(c, protocol=EVIL) for c in cells(EVIL, (EVIL, "drawn_1"))]
    reader = read(
        page([stood(several), nothing(EVIL, [EVIL], {EVIL: EVIL})], facts=FACTS | {"command": EVIL})
    )
    assert "script" not in {tag for tag, _ in reader.tags}
    assert reader.text.count(EVIL) > 5


def test_the_page_tells_every_number_of_the_table(found: list[Standings]) -> None:
    text = read(page(found, facts=FACTS)).text
    for row in found[0].rows:
        assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
        if row.total_low is not None:
            assert f"[{row.total_low:.3f}, {row.total_high:.3f}]" in text
    for v in found[0].verdicts:
        assert v.outcome in text and (v.p_holm is None or f"{v.p_holm:.4f}" in text)
    assert "0.660 [0.400, 0.600]" in text, "the spread of 16 shots"
    assert FACTS["command"] in text and "seeds 0, 1" in text


def test_dots_are_hollow_for_what_was_seen_and_pale_for_what_nobody_knows() -> None:
    def fills(seen: bool | None) -> list[str]:
        several = cells(tasks=("drawn_0",))
        several[0] = dataclasses.replace(several[0], seen=seen)
        return re.findall(
            r'<circle[^>]* fill="([^"]*)"( fill-opacity="0.35")?',
            intervals(stood(several), ["good", "random:x"]),
        )

    assert fills(False) == [(colour(0), ""), (colour(1), "")]
    assert fills(True) == [("#fff", ""), (colour(1), "")]
    assert fills(None) == [(colour(0), ' fill-opacity="0.35"'), (colour(1), "")]
    assert len({colour(i) for i in range(len(COLOURS))}) == len(COLOURS)


def test_every_mark_lies_on_the_drawing(found: list[Standings]) -> None:
    for one in (*found, stood(cells(), "expected_calibration_error")):
        drawn = intervals(one, list(one.models))
        wide, tall = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn).groups())  # type: ignore[union-attr]
        across = [float(x) for x in re.findall(r'[c ]x[12]?="([\d.-]+)"', drawn)]
        down = [float(y) for y in re.findall(r'[c ]y[12]?="([\d.-]+)"', drawn)]
        assert len(across) > 10 and 0 <= min(across) and max(across) <= wide
        assert 0 <= min(down) and max(down) <= tall


def test_the_csv_is_tidy_and_reads_back(found: list[Standings], tmp_path: Path) -> None:
    write(found, tmp_path, facts={"seeds": [0]})
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert tuple(rows[0]) == HEAD
    compared = [r for r in rows if r["minus"]]
    verdicts = [v for one in found for v in one.verdicts]
    assert [(r["task"], r["model"], r["minus"], r["outcome"]) for r in compared] == [
        (v.task, v.first, v.second, v.outcome) for v in verdicts
    ]
    for row, v in zip(compared, verdicts, strict=True):
        assert float(row["value"]) == round(v.difference, 6) and float(row["high"]) == round(v.high, 6)
        assert row["p_holm"] == ("" if v.p_holm is None else str(round(v.p_holm, 6)))
    rows = [r for r in rows if not r["minus"]]
    drawn, rows = ([r for r in rows if bool(r["setting"]) == few] for few in (True, False))
    shots = [s for one in found for s in one.shots]
    assert [(r["task"], r["model"], r["setting"], float(r["value"])) for r in drawn] == [
        (s.task, s.model, f"shots {s.shots}", round(s.mean, 6)) for s in shots
    ]
    said = "32 left out, the rarest class has 17 tiles to learn from"
    assert {(r["task"], r["note"]) for r in drawn} == {("drawn_0", ""), ("drawn_1", said)}
    assert (tmp_path / "results.txt").read_text().count(f"drawn_1: {said}") == 1
    assert page(found, facts=FACTS).count(f"drawn_1: {said}.") == 1
    wanted = [row for one in found for row in one.rows]
    assert len(rows) == len(wanted) == 2 * 2 * 2
    for row, true in zip(rows, wanted, strict=True):
        assert (row["task"], row["model"], row["metric"]) == (true.task, true.model, true.metric)
        assert float(row["value"]) == round(true.value, 6) and float(row["low"]) == round(true.low, 6)
        assert (row["seed_sd"] == "") == (true.n_models == 1)
        assert int(row["n_groups"]) == true.n_groups and row["seen"] == true.seen


def test_a_csv_cell_holds_any_name(tmp_path: Path) -> None:
    name = 'a, "b"\nc'
    write([stood(cells(name))], tmp_path, facts={})
    text = (tmp_path / "results.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {r["model"] for r in rows} == {name, "random:x"}


def test_the_json_holds_what_the_csv_holds_and_what_is_behind_it(
    found: list[Standings], tmp_path: Path
) -> None:
    write(found, tmp_path, facts={"seeds": [0]})
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["seeds"] == [0] and [s["metric"] for s in told["standings"]] == list(METRICS)
    first = told["standings"][0]
    assert first["clean_tasks"] == ["drawn_1"] and first["ranks"] is None
    assert {(s["model"], s["shots"]) for s in first["shots"]} == {("good", 1), ("good", 16)}
    assert first["rows"][1]["total_low"] < first["rows"][1]["value"] < first["rows"][1]["total_high"]


def test_the_text_marks_what_was_seen_and_says_why_there_is_no_rank(found: list[Standings]) -> None:
    text = table(found[0])
    (line,) = [line for line in text.splitlines() if line.startswith("drawn_0")]
    assert line.endswith(" *") and "told, not ranked" in text
    assert "no ranks: fewer than two tasks" in text
    assert "1: 0.510 [0.400, 0.600]   16: 0.660 [0.400, 0.600]" in text
    ranked = table(stood(cells()))
    assert "no winner; 2 lineages are too few to tell, 6 the fewest" in ranked and " *" not in ranked


def test_which_class_is_taken_for_which_stands_folded_away_and_sums_to_the_tiles(
    found: list[Standings],
) -> None:
    assert [(c.task, c.model) for c in found[0].confusions] == [(r.task, r.model) for r in found[0].rows]
    assert found[1].confusions == ()
    one = cells()[0]
    matrix = found[0].confusions[0]
    guess_N = one.scores_NK.argmax(1)
    for i, j in np.ndindex(matrix.counts_KK.shape):
        assert matrix.counts_KK[i, j] == ((one.labels_N == i) & (guess_N == j)).sum()
    text = page(found, facts=FACTS)
    assert text.count("which class is taken for which") == 1
    right = 100 * matrix.counts_KK[0, 0] / matrix.counts_KK[0].sum()
    assert f">{right:.0f}</td>" in text and read(text).text.count("true, called as") == 4
    wide = dataclasses.replace(matrix, classes=tuple(map(str, range(25))))
    assert confusion.section([wide]) == ""


def test_what_guessing_gives_is_drawn_and_told(found: list[Standings], tmp_path: Path) -> None:
    classes = len(set(cells()[0].labels_N.tolist()))
    assert {r.chance for r in found[0].rows} == {1 / classes} and {r.chance for r in found[1].rows} == {0.5}
    drawn = intervals(found[0], list(found[0].models))
    assert drawn.count('stroke-dasharray="3 3"') == 2 and f"guessing: {1 / classes:.3f}" in drawn
    assert {r.chance for r in stood(cells(), "expected_calibration_error").rows} == {None}
    write(found, tmp_path, facts={})
    told = {
        r["chance"]
        for r in csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text()))
        if not r["minus"]
    }
    assert "0.5" in told
