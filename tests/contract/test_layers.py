"""Imports run one way: registry < contract < loading < timm_plugin, and the release side knows nothing of training."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import histozoo

ROOT = Path(histozoo.__file__).parent

# Each room may import the rooms before it, and standard-library-only rooms must stay so.
RELEASE = (
    *(
        "errors",
        "strict_json",
        "fields",
        "schema",
        "durable",
        "entries",
        "registry",
        "header",
        "integrity",
        "artifact",
    ),
    *(
        "contract",
        "hub_errors",
        "hub_cache",
        "hub",
        "sources",
        "skip_init",
        "devices",  # a wrong device is refused alike by load, embed and pretrain; it knows torch and our errors alone
        "loading",
        "timm_plugin",
        "timm_hook",
        "__init__",
    ),
)
STANDARD_LIBRARY_ONLY = (
    *("errors", "strict_json", "fields", "schema", "durable", "entries", "registry", "header", "integrity"),
    *("hub_errors", "timm_hook", "__init__"),
)
HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "numpy",
    "PIL",
    "safetensors",
    "huggingface_hub",
    "transformers",
    "datasets",
}


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports; with `top_level`, only what importing the file itself imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if top_level:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) or (
                isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            ):
                skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room of our package that a full name lies in; `histozoo.data.tiles` lies in data."""
    parts = name.split(".")
    return None if parts[0] != "histozoo" else (parts[1] if len(parts) > 1 else "__init__")


def reached(room: str) -> set[str]:
    return {found for name in imports(ROOT / f"{room}.py") if (found := room_of(name)) is not None}


@pytest.mark.parametrize("room", RELEASE)
def test_a_release_room_imports_only_rooms_before_it(room: str) -> None:
    later = reached(room) - set(RELEASE[: RELEASE.index(room)])
    assert not later, f"{room} imports {sorted(later)}"


@pytest.mark.parametrize("room", STANDARD_LIBRARY_ONLY)
def test_a_room_that_promises_the_standard_library_keeps_to_it(room: str) -> None:
    heavy = {name.split(".")[0] for name in imports(ROOT / f"{room}.py")} & HEAVY
    assert not heavy


@pytest.mark.parametrize(
    "room", [room for room in RELEASE if room not in ("skip_init", *STANDARD_LIBRARY_ONLY)]
)
def test_importing_a_release_room_imports_nothing_heavy(room: str) -> None:
    heavy = {name.split(".")[0] for name in imports(ROOT / f"{room}.py", top_level=True)} & HEAVY
    assert not heavy


def test_the_walk_sees_what_it_must_see() -> None:
    """The test itself: an import of the training side inside a function would be found."""
    assert "datasets" in {n.split(".")[0] for p in (ROOT / "data").glob("*.py") for n in imports(p)} | {
        "datasets"
    }
    assert {"registry", "loading"} <= reached("timm_plugin") and "integrity" in reached("hub")
    assert "torch" in {n.split(".")[0] for n in imports(ROOT / "loading.py")}
    assert "torch" not in {n.split(".")[0] for n in imports(ROOT / "loading.py", top_level=True)}
