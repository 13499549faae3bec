"""The command line: what it prints, what it exits with, and that it stays thin."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from histozoo import errors
from histozoo.cli import app, making
from tests.fakes.tiny import NAME, draw_tiles, tiny_zoo

VERBS = {
    *("list", "info", "embed", "verify", "pretrain", "evaluate", "publish", "push", "card", "demo"),
    *("tasks", "prepare", "study"),
}


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tiny_zoo()
    monkeypatch.setenv("HISTOZOO_ZOO", str(root / "zoo"))
    return root


def call(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


# -- looking --


def test_every_verb_is_there_and_explains_itself() -> None:
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == VERBS
    for verb in VERBS:
        assert len(call(verb, "--help").stdout) > 100


def test_list_gives_names_alone_to_a_pipe() -> None:
    assert NAME in call("list").stdout.split("\n")
    assert call("list", "resnet*", "--max-mb", "0.001").stdout.strip() == ""


def test_list_draws_a_table_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from histozoo.cli import looking

    monkeypatch.setattr(looking, "out", Console(force_terminal=True, width=120, highlight=False))
    text = re.sub(r"\x1b\[[0-9;]*m", "", call("list", "test_*").stdout)
    assert re.search(rf"{re.escape(NAME)}\s+\d+\s+48 px\s+-\s+\S+\s+\d+\.\d\s+yes\s+2", text)


def test_list_and_help_import_no_torch(fresh_python: Any) -> None:
    code = """
import sys
from typer.testing import CliRunner
from histozoo.cli import app
assert CliRunner().invoke(app, ["list"]).exit_code == 0
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
assert CliRunner().invoke(app, ["info", sys.argv[1]]).exit_code == 0
print([m for m in ("torch", "timm", "transformers", "datasets", "numpy.linalg") if m in sys.modules and m != "numpy.linalg"])
"""
    assert fresh_python(code, NAME).stdout.strip() == "[]"


def test_info_shows_the_entry(zoo: Path) -> None:
    text = call("info", NAME).stdout
    for word in (
        NAME,
        "48 x 48 px RGB",
        "glands",
        "balanced_accuracy",
        "0.875 [0.810, 0.930]",
        "not a medical device",
    ):
        assert word in text
    assert call("info", NAME, "--json").stdout.encode() == (zoo / "zoo" / f"{NAME}.json").read_bytes()


def test_version() -> None:
    from histozoo import __version__

    assert call("--version").stdout == f"histozoo {__version__}\n"


# -- errors --


def test_an_error_is_one_short_text_without_a_trace() -> None:
    result = call("info", "test_resnet.multitask_drawn", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("HZ-C19 ") and NAME in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_trace() -> None:
    result = call("--debug", "info", "test_resnet.multitask_drawn", code=2)
    assert "Traceback" in result.stderr and "HZ-C19 " in result.stderr


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.IntegrityError, 3),
        (errors.RejectedInputs, 4),
        (errors.ResourceError, 5),
        (errors.Interrupted, 75),
    ],
)
def test_exit_codes_are_those_documented(
    kind: type[errors.HistozooError], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo import cli, embed

    def fail(*_: object, **__: object) -> None:
        raise kind("HZ-X00", "a sentence [bold]not markup[/bold]", next_step="nothing")

    monkeypatch.setattr(embed, "embed", fail)
    result = call("embed", "tiles", "f.safetensors", "-m", NAME, code=code)
    assert result.stderr == "HZ-X00 a sentence [bold]not markup[/bold]\n  next:     nothing\n"
    assert re.search(rf"\b{code} \w+", cli.__doc__ or "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_no_trace(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo import demo

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    # A test run in the background of a shell inherits a SIGINT that is ignored.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(demo, "run", stop)
    try:
        result = call("demo", code=75)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert result.stderr.startswith("HZ-U60 interrupted") and "Traceback" not in result.stderr
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["list", "--no-such-option"], "no such option: --no-such-option"),
        (
            ["evaluate", NAME, "--task", "glas", "--resamples", "0"],
            "'--resamples'.* 100\n.*`\\w+ evaluate --help`",
        ),
        (["evaluate", NAME, "--task", "glas", "--seed", "-1"], "'--seed'.* 0\n.*`\\w+ evaluate --help`"),
        (["embed", "x", "y.safetensors", "--batch-size", "many"], "'--batch-size'"),
        (["evaluate"], "missing argument 'models'"),
        (["evaluate", NAME, "--task"], "'--task' requires an argument"),
        (["evalute", NAME], "no such command 'evalute'. Did you mean 'evaluate'"),
    ],
)
def test_u66_what_the_parser_cannot_take_is_said_as_every_other_error(typed: list[str], said: str) -> None:
    result = call(*typed, code=2)
    assert re.match(f"(?s)HZ-U66 .*{said}", result.stderr), result.stderr
    assert "next:" in result.stderr and result.stdout == ""


# -- using --


def test_embed_then_exit_4_with_a_rejected_tile(tmp_path: Path) -> None:
    tiles = draw_tiles(tmp_path / "tiles", ["1.png", "2.png"])
    text = call("embed", tiles, tmp_path / "f.safetensors", "-m", NAME, "--mpp", 0.5).stdout
    assert "2 of 2 tiles" in text and NAME in text
    (tiles / "3.png").write_bytes(b"no image")
    result = call("embed", tiles, tmp_path / "f.safetensors", "-m", NAME, "--mpp", 0.5, code=4)
    assert "HZ-U63 1 of 3 tiles were rejected" in result.stderr
    report = json.loads((tmp_path / "f.safetensors.report.json").read_text())
    assert (report["n_input"], report["n_done"], report["n_reused"], report["n_rejected"]) == (3, 2, 2, 1)


def test_verify_passes_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("verify", NAME).stdout.startswith(f"pass  {NAME} in float32")
    from histozoo import golden

    monkeypatch.setattr(golden, "deviation", lambda *_: 0.5)
    result = call("verify", NAME, code=3)
    assert result.stdout.startswith("FAIL") and result.stderr.startswith("HZ-A08")


@pytest.mark.filterwarnings("default")
def test_our_warnings_are_one_line_and_others_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    from histozoo import contract

    def warn(*_: object) -> None:
        warnings.warn("HZ-H57 tiles of [another] size", stacklevel=1)
        warnings.warn("a library's own business", stacklevel=1)

    monkeypatch.setattr(contract, "check_mpp", warn)
    tiles = draw_tiles(tmp_path / "tiles", ["1.png"])
    result = call("embed", tiles, tmp_path / "f.safetensors", "-m", NAME)
    assert result.stderr == "warning: HZ-H57 tiles of [another] size\n"


def test_demo_says_where_things_are(tmp_path: Path) -> None:
    text = call("demo", "--out", tmp_path, "-m", NAME).stdout
    assert "16 tiles" in text and str(tmp_path / "neighbours.png") in text


# -- making: the verbs hand over what the functions take --


@pytest.mark.parametrize(
    ("arguments", "target", "expected"),
    [
        (
            [
                "pretrain",
                "x.toml",
                "--leave-out",
                "a",
                "--leave-out",
                "b",
                "--set",
                "steps=5",
                "--set",
                'init="random"',
            ],
            "histozoo.pretrain.run",
            {
                "experiment_path": Path("x.toml"),
                "leave_out": ["a", "b"],
                "overrides": {"steps": 5, "init": "random"},
            },
        ),
        (
            ["pretrain", "x.toml", "--from", "dist/y"],
            "histozoo.pretrain.run",
            {"overrides": {"init": "dist/y", "inherit": "everything"}},
        ),
        (
            ["pretrain", "x.toml", "--from", "y", "--only-backbone"],
            "histozoo.pretrain.run",
            {"overrides": {"init": "y", "inherit": "backbone"}},
        ),
        (
            ["pretrain", "x.toml", "--from", "timm:resnet18.a1_in1k"],
            "histozoo.pretrain.run",
            {"overrides": {"init": "timm:resnet18.a1_in1k", "inherit": "backbone"}},
        ),
        (
            ["publish", "runs/x", "--out", "d", "--no-embed"],
            "histozoo.publish.publish",
            {"run_folder": Path("runs/x"), "out": Path("d"), "embed": False},
        ),
        (
            ["push", "dist/x", "--private", "--dry-run", "--repo", "o/n"],
            "histozoo.push.push",
            {"bundle": Path("dist/x"), "private": True, "dry_run": True, "repo": "o/n"},
        ),
    ],
    ids=["pretrain", "from", "only-backbone", "from-timm", "publish", "push"],
)
def test_options_arrive(
    arguments: list[str], target: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    module, _, name = target.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    seen: dict[str, Any] = {}

    def stand_in(*args: Any, **kwargs: Any) -> Path:
        seen.update(signature.bind(*args, **kwargs).arguments)
        return Path("done")

    monkeypatch.setattr(target, stand_in)
    monkeypatch.setattr(making, "_glance", lambda *_: {})  # there is no such experiment
    monkeypatch.setattr(making, "_notes", lambda *_: [])
    call(*arguments)
    assert {key: seen.get(key) for key in expected} == expected


def test_evaluate_collects_what_publish_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo.evaluate import corpus, leave_out

    def stand_in(study: str, honest: Any) -> Any:
        def measure(*args: Any, **kwargs: Any) -> dict[str, Any]:
            bound = inspect.signature(honest).bind(*args, **kwargs).arguments
            Path(bound["out"]).with_suffix(".txt").write_text(f"table of {study}")
            return {
                "study": study,
                "results": [{"study": study, "of": [str(r) for r in bound.get("runs", ())]}],
            }

        return measure

    monkeypatch.setattr(corpus, "measure", stand_in("trained_tasks", corpus.measure))
    monkeypatch.setattr(leave_out, "study", stand_in("leave_one_lineage_out", leave_out.study))
    text = call("evaluate", tmp_path, "--without", "a", "--without", "b").stdout
    assert "table of trained_tasks" in text and "table of leave_one_lineage_out" in text
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"study": "trained_tasks", "of": []},
        {"study": "leave_one_lineage_out", "of": ["a", "b"]},
    ]


def test_a_setting_that_is_no_toml_is_refused() -> None:
    result = call("pretrain", "x.toml", "--set", "steps", code=2)
    assert "HZ-U66" in result.stderr and "--set steps=100" in result.stderr


def test_card_check_and_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo: Path) -> None:
    import shutil

    from histozoo import registry

    shutil.copytree(zoo / "zoo", tmp_path / "histozoo" / "zoo")
    monkeypatch.setattr(registry, "ZOO", tmp_path / "histozoo" / "zoo")
    result = call("card", "--check", code=3)
    assert "HZ-U21" in result.stderr and f"{NAME}.md is missing" in result.stderr
    assert "written:" in call("card", "--write").stdout
    assert (tmp_path / "model_cards" / f"{NAME}.md").read_bytes() == (
        zoo / "model_cards" / f"{NAME}.md"
    ).read_bytes()
    assert call("card", "--check").stdout == "all cards are as rendered from their entries\n"


def test_an_unknown_device_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    result = call(
        "embed", tmp_path / "absent", tmp_path / "f.safetensors", "-m", NAME, "--device", "tpu9", code=2
    )
    assert "HZ-U68" in result.stderr and "'tpu9'" in result.stderr and "cpu" in result.stderr
    assert list(tmp_path.iterdir()) == []
    result = call("pretrain", tmp_path / "absent.toml", "--device", "tpu9", code=2)
    assert "tpu9" in result.stderr


def test_card_of_a_bundle_is_compared_and_written(tmp_path: Path) -> None:
    from tests.fakes.zoo import make_bundle

    bundle = make_bundle(tmp_path)
    call("card", bundle, "--write")
    text = (bundle / "README.md").read_bytes()
    assert "as rendered" in call("card", bundle).stdout
    (bundle / "README.md").write_bytes(text + b"edited\n")
    result = call("card", bundle, code=3)
    assert "HZ-U21" in result.stderr and "--write" in result.stderr
    call("card", bundle, "--write")
    assert (bundle / "README.md").read_bytes() == text
