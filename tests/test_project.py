"""The repository itself: its words, its packages, its sizes, and what must never be written down in it."""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "histozoo").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """Returns every file that git knows or would take, or all but the ignored folders where git is not there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0:
        files = [ROOT / os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    else:
        ignored = {
            ".git",
            ".venv",
            "runs",
            "dist",
            ".mypy_cache",
            ".ruff_cache",
            ".pytest_cache",
            "__pycache__",
        }
        files = [p for p in ROOT.rglob("*") if not ignored & set(p.relative_to(ROOT).parts)]
    return [p for p in files if p.is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        data = path.read_bytes()
        if path.suffix not in (".safetensors", ".jpg", ".png", ".h5") and b"\0" not in data:
            yield path.relative_to(ROOT).as_posix(), data.decode()


# -- words --


@pytest.mark.parametrize("word", ["setup", "demo", "test", "check", "cards", "bench"])
def test_make_knows_its_words_and_each_sets_up_first(word: str) -> None:
    assert re.search(rf"^{word}: \$\(STAMP\)$", MAKEFILE, re.M)
    assert re.search(rf"^#   make {word}\s+\w", MAKEFILE, re.M)


def test_ci_says_the_same_words() -> None:
    text = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for word in ("setup", "check", "test"):
        assert re.search(rf"^\s*make --no-print-directory {word}\b", text, re.M)
    for script in ("run", "setup"):
        assert os.access(ROOT / ".ci" / script, os.X_OK)
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / script)], check=True)


def test_markers_are_strict_and_the_default_run_is_the_quick_one() -> None:
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert {"--strict-markers", "--strict-config"} <= set(options["addopts"])
    assert {m.split(":")[0] for m in options["markers"]} == {"slow", "gpu", "network"}
    assert "not slow and not gpu and not network" in options["addopts"]
    assert options["filterwarnings"][0] == "error"


def test_uv_is_told_what_pip_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("uv_install", ROOT / ".ci/uv_install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.invalid/simple\ncert = /a.pem\n[install]\nfind-links =\n  /wheels\n  /more wheels\n"
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.invalid/simple")
    options, variables = module.uv_options(module.pip_settings())
    assert options[:2] == ["--index-strategy", "unsafe-best-match"]
    pairs = list(zip(options[2::2], options[3::2], strict=True))
    assert [value for option, value in pairs if option == "--default-index"] == ["https://two.invalid/simple"]
    assert [value for option, value in pairs if option == "--find-links"] == ["/wheels", "/more", "wheels"]
    assert variables["SSL_CERT_FILE"] == "/a.pem"


# -- packages --


def test_every_bound_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounds = re.findall(r'^\s*"[A-Za-z][A-Za-z0-9_-]*[<>=!~][^"]*",.*$', text, re.M)
    assert len(bounds) >= 20
    assert [line for line in bounds if not re.search(r"#\s*\S+.{10,}", line)] == []


def test_extras_are_those_that_the_documents_name() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras) == {"h5", "train", "eval", "prepare", "wsi", "bench", "dev", "all"}
    assert PROJECT["project"]["scripts"] == {"histozoo": "histozoo.cli:main"}


def test_the_wheel_holds_the_zoo_and_the_example_tiles(tmp_path: Path) -> None:
    """A private zoo entry is put into a copy, so that the test means something while the zoo is empty."""
    import shutil

    for name in ("histozoo", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "histozoo/zoo/a.b_c.json").write_text("{}")
    (tmp_path / "histozoo/zoo/a.b_c.safetensors").write_bytes(b"\0" * 9)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {p.relative_to(tmp_path).as_posix() for p in (tmp_path / "histozoo").rglob("*") if p.is_file()}
    assert expected <= names
    assert len([n for n in names if n.startswith("histozoo/example_tiles/") and n.endswith(".jpg")]) == 16
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not [n for n in names if n.startswith(("tests/", "runs/", "dist/"))]


def test_the_version_is_written_once() -> None:
    from histozoo import __version__

    assert PROJECT["project"]["dynamic"] == ["version"] and re.fullmatch(r"\d+\.\d+\.\d+", __version__)


# -- sizes --


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Gives name and body length in lines, docstring left out, of each function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            yield f"{path.name}:{node.lineno} {node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_functions_and_files_stay_short() -> None:
    lengths = dict(item for path in PACKAGE for item in functions(path))
    assert len(lengths) >= 200
    assert {name: n for name, n in lengths.items() if n > 60} == {}
    assert statistics.median(lengths.values()) <= 10
    assert sorted(lengths.values())[int(0.9 * len(lengths))] <= 25
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE}
    assert {name: n for name, n in lines.items() if n > 300} == {}


def test_only_the_command_line_prints_and_only_durable_writes() -> None:
    """Writing through a library that is handed a path by durable is seen as a call of durable."""
    faults = []
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "print" and isinstance(node.func, ast.Name) and path.name != "reload_check.py":
                faults.append(f"{path.name}:{node.lineno} print")
            if (
                name in ("write_text", "write_bytes")
                and path.name != "durable.py"
                and "durable" not in ast.unparse(node.func)
            ):
                faults.append(f"{path.name}:{node.lineno} {ast.unparse(node.func)}")
    assert faults == []


# -- what must not be written down --


def test_no_registry_host_and_no_machine_path_is_written_down() -> None:
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs"),
            ("download", "pytorch", "org"),
        )
    ]
    paths = [
        "/".join(("", *parts, ""))
        for parts in (
            ("work", "main"),
            ("work", "shared"),
            ("root", ".pyenv"),
            ("tmp", "env"),
            ("opt", "pypi"),
        )
    ]
    found = [f"{name}: {word}" for name, text in texts() for word in (*hosts, *paths) if word in text]
    assert found == []


def test_tracked_files_are_those_of_a_source_repository() -> None:
    large = [p.relative_to(ROOT).as_posix() for p in tracked() if p.stat().st_size > 25_000_000]
    assert large == []
    strange = [p.name for p in tracked() if p.suffix in (".pkl", ".pt", ".pth", ".ckpt", ".pyc", ".log")]
    assert strange == []
    assert len(tracked()) >= 50
