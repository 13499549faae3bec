"""Parts of a study: its file is read strictly, only intervals speak, and only a whole report leaves its folder."""

from __future__ import annotations

import dataclasses
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo import __version__
from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.evaluate.multiple import p_value
from histozoo.evaluate.verdicts import NO_WINNER
from histozoo.studies import folder
from histozoo.studies.comparing import NOT_CALLED, Asked, decide, frail, sentences
from histozoo.studies.document import Document, Plot, Points, Section, Table, html, markdown
from histozoo.studies.drawing import Dot, curves, forest
from histozoo.studies.multitask import pairs
from histozoo.studies.named import named
from histozoo.studies.run import _apart as apart
from histozoo.studies.segmentation_part import BASELINE, COLOURS, FLOOR
from histozoo.studies.segmentation_words import follows
from histozoo.studies.segmentation_words import smallest as smallest_sizes
from histozoo.studies.settings import Ladder, Multitask, Segmentation, Selection, Slides
from histozoo.studies.study_file import read
from tests.fakes.tiny import NAME, tiny_zoo

FILES = sorted((Path(__file__).parents[1] / "experiments" / "studies").glob("*.toml"))
STUDY_OF_SEGMENTATION = next(path for path in FILES if path.stem == "segmentation")
TEXT = """
name = "toy"
kind = "multitask"
title = "T"
question = "Q?"
source = "S"
expected = "E"
models = ["a", "b"]
tasks = ["one"]
[preset.small]
protocols = ["logistic"]
[preset.full]
protocols = ["logistic", "finetune_full"]
finetune = "full"
"""


# -- the file


def toy(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_preset_goes_over_the_shared_settings_and_the_command_over_both(tmp_path: Path) -> None:
    path = toy(tmp_path)
    small, full = (read(path, preset=p).settings for p in ("small", "full"))
    assert isinstance(small, Multitask) and isinstance(full, Multitask)
    assert (small.models, small.protocols, small.finetune) == (("a", "b"), ("logistic",), "small")
    assert (full.protocols, full.finetune) == (("logistic", "finetune_full"), "full")
    changed = read(path, preset="full", changed={"finetune": "small", "resamples": 100})
    assert changed.settings.finetune == "small" and changed.settings.resamples == 100  # type: ignore[union-attr]
    assert changed.facts()["changed"] == {"finetune": "small", "resamples": 100}


@pytest.mark.parametrize(
    ("code", "old", "new", "words"),
    [
        ("HZ-U42", 'tasks = ["one"]', 'taks = ["one"]', "did you mean 'tasks'?"),
        ("HZ-U42", "[preset.full]", "[preset.full]\nresample = 100", "did you mean 'resamples'?"),
        ("HZ-U43", 'tasks = ["one"]', "", "'tasks'"),
        ("HZ-U43", 'tasks = ["one"]', 'tasks = ["one", "one"]', "each once"),
        ("HZ-U43", 'tasks = ["one"]', 'tasks = "one"', "a list"),
        ("HZ-U43", 'finetune = "full"', 'finetune = "vast"', "small or full"),
        ("HZ-U43", 'finetune = "full"', "seeds = [true]", "int"),
        ("HZ-U43", 'finetune = "full"', "resamples = 10", "at least 100"),
        ("HZ-U43", 'finetune = "full"', "seeds = [4294967296]", "0 to 4294967295"),
        ("HZ-U43", 'kind = "multitask"', 'kind = "other"', "multitask, segmentation, slides"),
        ("HZ-U43", 'name = "toy"', 'name = "../toy"', "lower case"),
        ("HZ-U43", "[preset.full]", "[preset.vast]", "one of small, vast"),
        ("HZ-U41", "[preset.small]", "[preset.small", "cannot read"),
    ],
)
def test_what_the_file_does_not_say_rightly_is_refused(
    tmp_path: Path, code: str, old: str, new: str, words: str
) -> None:
    assert old in TEXT
    with pytest.raises(UsageError) as caught:
        read(toy(tmp_path, TEXT.replace(old, new)), preset="full")
    assert caught.value.code == code and words in str(caught.value)


def test_an_unknown_setting_of_the_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HZ-U42"):
        read(toy(tmp_path), preset="small", changed={"kind": "slides"})
    with pytest.raises(UsageError, match="HZ-U41"):
        read(tmp_path / "absent.toml", preset="small")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_studies_there_are_can_be_read_and_say_what_they_cost(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in ("command", "hardware", "hours", "expected", "source"):
        assert f"\n# {word:<9} " in text
    small, full = (read(path, preset=p) for p in ("small", "full"))
    assert small.name == path.stem and small.settings != full.settings


def test_every_question_has_a_study() -> None:
    kinds = {type(read(path, preset="small").settings) for path in FILES}
    assert kinds == {Multitask, Segmentation, Slides, Selection, Ladder}


# -- what follows


def asked(place: str, **changes: Any) -> Asked:
    names = {"first": "new", "second": "old", "metric": "m", "setting": "probe", "lineage": place}
    return Asked(**{"place": place, **names, "n": 100, "n_groups": 50, "seen": False, **changes})


def around(mean: float, seed: int = 0) -> tuple[float, np.ndarray]:
    return mean, mean + 0.01 * np.random.default_rng(seed).standard_normal(2_000)


def test_a_difference_counts_only_after_correction_over_all_that_count() -> None:
    close = around(0.0225)  # alone its interval excludes 0; among nine others it does not
    alone = decide([(asked("a"), *close)])
    assert alone[0].low > 0 and alone[0].outcome == "new" and alone[0].family == 1
    many = decide([(asked("a"), *close), *((asked(f"b{i}"), *around(0.0, i)) for i in range(9))])
    assert many[0].outcome == NO_WINNER and many[0].family == 10
    padded = decide(
        [
            (asked("a"), *close),
            *((asked(f"b{i}", seen=True), *around(0.0, i)) for i in range(5)),
            *((asked(f"c{i}", n_groups=5), *around(0.0, i)) for i in range(5)),
        ]
    )
    assert padded[0].outcome == "new" and padded[0].family == 1
    assert {a.outcome for a in padded[1:]} == {NOT_CALLED} and all(a.p_holm is None for a in padded[1:])


def test_few_groups_widen_an_interval_to_that_of_a_t_test() -> None:
    """Of a mean over groups the interval of a t-test is known, and a bootstrap's must come to it."""
    stats = pytest.importorskip("scipy.stats")
    for groups in (8, 60):
        values_G = np.random.default_rng(groups).normal(0.3, 1.0, groups)
        drawn_RG = np.random.default_rng(0).integers(groups, size=(40_000, groups))
        d_R = values_G[drawn_RG].mean(1)
        question = asked("a", n_groups=groups)
        (answer,) = decide([(question, float(values_G.mean()), d_R)])
        exact = stats.ttest_1samp(values_G, 0.0)
        low, high = exact.confidence_interval()
        assert (answer.low, answer.high) == pytest.approx((low, high), abs=0.12 * (high - low))
        assert answer.high - answer.low == pytest.approx(high - low, rel=0.05)
        assert answer.p_holm is not None and 0.95 * exact.pvalue <= answer.p_holm <= exact.pvalue + 0.06
    sure = decide([(asked("a", n_groups=8), 0.05, np.full(2_000, 0.05))])
    assert sure[0].outcome == "new" and (sure[0].low, sure[0].high) == pytest.approx((0.05, 0.05), abs=1e-9)


def test_seeds_that_lie_apart_are_in_the_interval() -> None:
    mean, d_R = around(0.1)
    alone, agreed, torn = (
        decide([(asked("a", by_seed=seeds), mean, d_R)])[0] for seeds in ((), (0.099, 0.101), (-0.1, 0.3))
    )
    assert alone.outcome == agreed.outcome == "new" and torn.outcome == NO_WINNER
    assert agreed.high - agreed.low == pytest.approx(alone.high - alone.low, rel=0.05)
    # Of two seeds the mean's standard error is 0.2 with one degree of freedom, for which t is 12.7.
    assert torn.high - torn.low == pytest.approx(2 * 12.7 * 0.2, rel=0.05) and (torn.p_holm or 0) > 0.5
    flat = decide([(asked("a", by_seed=(-0.1, 0.3)), 0.1, np.full(2_000, 0.1))])[0]
    assert flat.outcome == NO_WINNER and flat.high - flat.low == pytest.approx(2 * 12.7 * 0.2, rel=0.05)


def test_a_difference_of_eight_groups_that_only_a_bootstrap_is_sure_of_is_not_called() -> None:
    values_G = np.array([0.9, 0.1, 0.5, 0.2, 0.8, -0.05, 0.3, 0.1])
    d_R = values_G[np.random.default_rng(0).integers(8, size=(10_000, 8))].mean(1)
    (answer,) = decide([(asked("a", n_groups=8), float(values_G.mean()), d_R)])
    others = [(asked(f"b{i}"), *around(0.0, i)) for i in range(4)]
    (many, *_) = decide([(asked("a", n_groups=8), float(values_G.mean()), d_R), *others])
    assert p_value(d_R) < 0.01 <= (answer.p_holm or 0) < 0.05
    assert answer.outcome == "new" and many.outcome == NO_WINNER


def test_the_worse_one_is_never_called_better() -> None:
    answers = decide([(asked("a"), *around(-0.2)), (asked("b"), *around(0.2))])
    assert [a.outcome for a in answers] == ["old", "new"]
    (said,) = sentences(answers)
    assert "new is better than old on 1 of 2 tasks (b +0.200" in said
    assert "old is better than new on 1 of 2 tasks (a +0.200" in said


def test_every_model_is_compared_with_every_baseline_and_the_first_with_all() -> None:
    one, other, twin, colours = "one", "other", "random:one", "colour-histogram"
    assert pairs([one, twin, colours]) == [(one, twin), (one, colours)]
    both = [(one, twin), (one, colours), (other, twin), (other, colours), (one, other)]
    assert pairs([one, other, twin, colours]) == both
    assert pairs([twin, colours]) == [(twin, colours)] and pairs([one]) == []


def test_sentences_say_no_winner_with_what_would_have_shown() -> None:
    (said,) = sentences(decide([(asked("a"), *around(0.001)), (asked("b"), *around(0.0, 1))]))
    assert said.startswith("probe: no winner between new and old on 2 tasks; a difference of 0.03")
    assert "better" not in said


def test_too_few_groups_are_told_and_seen_lineages_are_not() -> None:
    answers = decide([(asked("few", n_groups=5), *around(0.5)), (asked("seen", seen=True), *around(0.5))])
    (said,) = sentences(answers)
    assert "few is +0.500" in said and "from 5 groups: not called" in said and "better" not in said


def test_a_call_that_no_sign_test_of_so_few_groups_could_have_made_is_told() -> None:
    eight = decide(
        [(asked("eight", n_groups=8), *around(0.5)), *((asked(f"b{i}"), *around(0.0, i)) for i in range(9))]
    )
    (said,) = frail(eight)
    assert eight[0].outcome == "new" and "on eight rests on" in said and "p = 0.0078 at best" in said
    assert "over 10 comparisons" in said
    assert frail(decide([(asked("eight", n_groups=8), *around(0.5))])) == ()
    assert frail(decide([(asked("many"), *around(0.5)), (asked("eight", n_groups=8), *around(0.0))])) == ()


def test_what_too_few_groups_gave_is_one_sentence_and_no_impossible_difference_is_offered() -> None:
    few = [asked("one", n_groups=5), asked("two", n_groups=4)]
    (said,) = sentences(decide([(few[0], *around(0.5)), (few[1], *around(0.1))]))
    assert (
        "on one is +0.500" in said and "on two is +0.100" in said and "from 4 to 5 groups: not called" in said
    )
    torn = asked("a", by_seed=(-0.4, 0.6))
    (said,) = sentences(decide([(torn, *around(0.1))]))
    assert said.endswith("no difference that is possible would have shown.")
    (said,) = sentences(decide([(torn, *around(0.1)), (asked("b"), *around(0.0, 1))]))
    assert "0.03" in said and said.endswith("would have shown at best, and none that is possible at worst.")


def test_the_smallest_size_is_told_where_somebody_was_called_better() -> None:
    answers = decide(
        [
            (asked("1 group"), *around(0.0)),
            (asked("2 groups"), *around(0.3)),
            (asked("4 groups"), *around(0.3)),
        ]
    )
    assert smallest_sizes(answers) == [
        "probe: the smallest training set at which new and random weights can be told apart is 2 groups (new is better)."
    ]
    assert smallest_sizes(decide([(asked("1 group"), *around(0.0))])) == []


def test_of_what_is_no_net_it_is_said_how_many_nets_are_better_and_which_are_not() -> None:
    net = asked("2 groups", setting="frozen encoder, trained on home", second=COLOURS)
    other = dataclasses.replace(net, place="4 groups")
    random = dataclasses.replace(net, second=BASELINE)
    few = dataclasses.replace(net, n_groups=5)
    drawn = [(random, *around(0.5)), (net, *around(0.5)), (other, *around(0.0)), (few, *around(0.5))]
    answers = decide([*drawn, (dataclasses.replace(net, second=FLOOR), *around(-0.5))])
    told = follows({"dice": answers, "pq": answers})
    (colours,) = [line for line in told if COLOURS in line]
    assert colours.startswith(
        f"By m, against {COLOURS}: nets better on 1 of 2, worse on 0 (p < 0.05 after Holm's"
    )
    assert colours.count("new (frozen encoder, trained on home") == 1 and "better: new" in colours
    (floor,) = [line for line in told if FLOOR in line]
    assert "better on 0 of 1, worse on 1 (" in floor and "; worse: new (frozen encoder" in floor
    assert [line for line in told if f"against {BASELINE}: nets better on 1 of 1" in line] == [told[-1]]


def test_a_report_says_what_the_full_preset_sets_otherwise(tmp_path: Path) -> None:
    (said,) = apart(read(STUDY_OF_SEGMENTATION, preset="small"))
    assert "px 128 (`full`: 256)" in said and "steps 200 (`full`: 4,000)" in said
    assert "shrink {glas: 2; dsb2018_stained: 2;" in said and "(`full`: none)" in said
    assert "models" not in said and "test " not in said
    assert apart(read(STUDY_OF_SEGMENTATION, preset="full")) == []
    one = TEXT.replace("[preset.full]", "[preset.other]")
    assert apart(read(toy(tmp_path, one), preset="small")) == []


# -- the folder


def bench(tmp_path: Path) -> folder.Bench:
    return folder.Bench(out=tmp_path / "study", data_root=None, cache=tmp_path)


def test_a_folder_keeps_its_settings_and_adds_up_the_time(tmp_path: Path) -> None:
    facts = {"study": "toy", "settings": {"steps": 2}}
    with folder.opened(bench(tmp_path), facts) as first:
        first.before = 100.0
        first.say("a step")
    with folder.opened(bench(tmp_path), facts) as second:
        assert second.seconds >= 100 and second.starts == 1
    with (
        pytest.raises(IntegrityError, match="steps: 2 before, 3 now"),
        folder.opened(bench(tmp_path), {"study": "toy", "settings": {"steps": 3}}),
    ):
        pass


def test_a_model_may_join_a_study_and_none_may_leave(tmp_path: Path) -> None:
    def facts(*models: str, steps: int = 2) -> dict[str, Any]:
        changed = {"models": list(models)}
        return {"study": "toy", "changed": changed, "settings": {**changed, "called": {}, "steps": steps}}

    for some in (facts("a"), facts("a", "b")):
        with folder.opened(bench(tmp_path), some):
            pass
    assert json.loads((tmp_path / "study/study.json").read_text()) == facts("a", "b")
    for wrong in (facts("b"), facts("a", "b", steps=3)):
        with (
            pytest.raises(IntegrityError, match="HZ-F44"),
            folder.opened(bench(tmp_path), wrong),
        ):
            pass


def test_only_this_very_study_with_a_whole_report_is_finished(tmp_path: Path) -> None:
    out, facts = tmp_path / "study", {"study": "toy", "settings": {"seeds": (0, 1)}}
    assert not folder.finished(out, facts)
    results = json.dumps({"version": __version__}).encode()
    with folder.opened(bench(tmp_path), facts):
        assert not folder.finished(out, facts)
        folder.finish(out, {"report.md": b"# T", "results.json": results})
    assert folder.finished(out, facts)
    assert not folder.finished(out, {**facts, "settings": {"seeds": (0,)}})
    (out / "report.md").write_bytes(b"# U")
    assert not folder.finished(out, facts)
    folder.finish(out, {"report.md": b"# T", "results.json": b'{"version": "0"}'})
    assert not folder.finished(out, facts)


def test_models_are_called_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))
    first, second = named((NAME, "colour-histogram"), {"colour-histogram": "colours"})
    assert (first.one.name, second.one.name, second.source) == (NAME, "colours", "colour-histogram")
    assert first.words().startswith(f"{NAME} was trained on the lineages ")
    assert second.words() == "colours (`colour-histogram`) was trained on the lineages none."
    assert first.twin().kind == "random"
    assert [m.one.name for m in named((NAME,), {"absent": "a"})] == [NAME]
    with pytest.raises(UsageError, match="HZ-U43"):
        named((NAME, "colour-histogram"), {"colour-histogram": NAME})


def test_a_run_that_is_not_there_is_refused_with_the_command_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read(STUDY_OF_SEGMENTATION, preset="small").settings
    assert isinstance(settings, Segmentation)
    *entries, run = settings.models
    with pytest.raises(UsageError, match="HZ-U13 a run of this study is not there") as caught:
        named(settings.models, settings.called)
    command, _, without = caught.value.next_step.partition("; or do without it: ")
    trains = "histozoo pretrain experiments/resnet18.multitask_path11.toml"
    trains += "".join(f" --leave-out {lineage}" for lineage in ("glas", "wbc_zheng", "lymphoma_iicbu"))
    assert caught.value.where == run and f"`{trains} --data-root TASKS`" in command
    assert without == f"--set 'models={json.dumps(entries)}'"
    readme = (STUDY_OF_SEGMENTATION.parents[2] / "docs/studies/README.md").read_text(encoding="utf-8")
    assert readme.count(f"`{trains} --data-root TASKS`\n`histozoo study") == 2
    assert all(
        f"# command   {trains}\n" in p.read_text() for p in FILES if p.stem in ("segmentation", "slides")
    )
    with pytest.raises(UsageError, match="HZ-U13 this is neither"):
        named(["runs/any"], {})


def test_only_a_finished_unchanged_small_report_is_copied(tmp_path: Path) -> None:
    out, target = tmp_path / "study", tmp_path / "docs"
    with folder.opened(bench(tmp_path), {}):
        pass
    with pytest.raises(UsageError, match="HZ-U85 the study is not finished"):
        folder.publish(out, target)
    files = {"report.md": b"# T\n", "results.csv": b"a\n", "a.svg": b"<svg/>", "report.html": b"<p>"}
    folder.finish(out, files)
    assert sorted(folder.publish(out, target)) == ["a.svg", "report.md", "results.csv"]
    assert (target / "report.md").read_bytes() == b"# T\n" and not (target / "report.html").exists()
    (out / "results.csv").write_bytes(b"b\n")
    with pytest.raises(UsageError, match="HZ-U85 a file of the report was changed"):
        folder.publish(out, target)
    folder.finish(out, {**files, "a.svg": b" " * folder.LARGEST})
    with pytest.raises(UsageError, match="HZ-U85 the report is too large"):
        folder.publish(out, target)
    with folder.opened(bench(tmp_path), {}):  # begun again: no longer finished until it ends
        pass
    with pytest.raises(HistozooError, match="not finished"):
        folder.publish(out, target)


def test_results_are_tidy() -> None:
    lines = folder.tidy([{"task": "a, b", "value": 1 / 3, "outcome": NO_WINNER}]).splitlines()
    assert lines[0] == ",".join(folder.HEAD)
    assert '"a, b"' in lines[1] and "0.333333" in lines[1] and NO_WINNER in lines[1]


# -- the page


def test_both_forms_of_a_report_say_the_same_and_escape_it() -> None:
    blocks = (
        "a < b `code`",
        Points(("first", "second")),
        Table(("x", "y"), (("p|q", "1"),)),
        Plot("a.svg", "<svg/>", "alt"),
    )
    document = Document("T & U", (Section("S", blocks), Section("M", ("seen",), marked=True)))
    text, page = markdown(document), html(document)
    assert (
        text.startswith("# T & U\n")
        and "- second" in text
        and "| p\\|q | 1 |" in text
        and "![alt](a.svg)" in text
    )
    assert "T &amp; U" in page and "a &lt; b <code>code</code>" in page and "<svg/>" in page
    assert page.count("<section class='marked'>") == 1 and "src=" not in page


def test_plots_stand_alone_and_put_values_where_they_belong() -> None:
    dots = [
        Dot(place="one", series="a", value=0.2, low=0.1, high=0.3),
        Dot(place="one", series="b", value=0.6, low=0.5, high=0.7, hollow=True),
    ]
    space = "{http://www.w3.org/2000/svg}"
    drawing = ET.fromstring(forest(dots, label="m", zero=True))
    circles = [c for c in drawing.iter(f"{space}circle") if c.get("r") == "4"]
    assert float(circles[0].get("cx", 0)) < float(circles[1].get("cx", 0))
    assert circles[1].get("fill") == "#fff" != circles[0].get("fill")
    lines = {"a": [(1, 0.2, 0.1, 0.3), (8, 0.6, 0.5, 0.7)]}
    points = ET.fromstring(curves(lines, label="m", below="n")).find(f"{space}polyline")
    assert points is not None
    (x0, y0), (x1, y1) = ([float(v) for v in p.split(",")] for p in points.get("points", "").split())
    assert x0 < x1 and y0 > y1  # higher is further up
    with_floor = ET.fromstring(curves(lines, label="m", below="n", floor=(0.05, "chance")))
    (broken,) = [line for line in with_floor.iter(f"{space}line") if line.get("stroke-dasharray")]
    lowest = max(
        float(line.get("y1", 0)) for line in with_floor.iter(f"{space}line") if line.get("r") is None
    )
    assert y0 < float(broken.get("y1", 0)) <= lowest and "chance" in "".join(with_floor.itertext())
    shifted = ET.fromstring(forest(dots, label="m", first=1))
    inks = [
        [c.get("stroke") for c in d.iter(f"{space}circle") if c.get("r") == "4"] for d in (drawing, shifted)
    ]
    assert inks[1][0] == inks[0][1] != inks[0][0]


@pytest.mark.parametrize(
    ("series", "sizes", "spread"),
    [
        (2, (1, 4), 9),
        (11, (25, 50, 75, 100), 24),
        (11, (1, 2, 2000), 0.3 * 576 / math.log2(2000)),
        (11, (7,), 24),
    ],
)
def test_curves_stand_beside_one_another_and_near_their_size(
    series: int, sizes: tuple[int, ...], spread: float
) -> None:
    space = "{http://www.w3.org/2000/svg}"
    lines = {f"s{i}": [(size, 0.5, 0.4, 0.6) for size in sizes] for i in range(series)}
    drawn = ET.fromstring(curves(lines, label="m", below="n")).findall(f"{space}polyline")
    x_LS = np.array([[float(p.split(",")[0]) for p in line.get("points", "").split()] for line in drawn])
    assert np.allclose(np.ptp(x_LS, axis=0), spread, atol=0.2) and (np.diff(x_LS, axis=0) > 0).all()
    assert x_LS.mean(0)[0] == pytest.approx(94, abs=0.1)  # shifted to both sides alike


def test_one_size_and_one_value_can_be_drawn() -> None:
    ET.fromstring(curves({"a": [(4, 0.5, 0.5, 0.5)]}, label="m", below="n"))
    ET.fromstring(forest([Dot(place="p", series="s", value=1.0, low=1.0, high=1.0)], label="m"))


def test_study_json_is_what_the_file_said(tmp_path: Path) -> None:
    study = read(toy(tmp_path), preset="small")
    with folder.opened(bench(tmp_path), study.facts()):
        stored = json.loads((tmp_path / "study/study.json").read_text())
    assert stored["settings"]["models"] == ["a", "b"] and stored["preset"] == "small"
