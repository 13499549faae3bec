"""What the papers of the project promise: the README's code runs, the changelog knows the version, every error code is explained."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from tests.fakes.tiny import NAME, tiny_zoo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
SHOWN = re.search(r'histozoo\.load\("([^"]+)"\)', README)


def ready(block: str) -> str:
    """Returns a block about the tiny model and this clone instead of the published ones."""
    assert SHOWN is not None
    block = block.replace(SHOWN[1], NAME)
    return block.replace(
        'torch.hub.load("histozoo/histozoo", ', f'torch.hub.load({str(ROOT)!r}, source="local", model='
    )


def test_there_are_blocks_to_run() -> None:
    assert len(BLOCKS) >= 5


def test_code_blocks_run(tmp_path: Path, fresh_python: Any, hub: Any) -> None:
    """One process for all, since an import costs seconds; each block starts without the names of the one before."""
    zoo = tiny_zoo()
    (tmp_path / "dist").symlink_to(zoo / "dist")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    hub.add_folder(f"histozoo/{NAME}", zoo / "dist" / NAME)
    code = "import sys\nfor i, block in enumerate(sys.argv[1:]):\n    exec(compile(block, f'<README block {i}>', 'exec'), {})\n    print(i)"
    done = fresh_python(code, *map(ready, BLOCKS), env={"HISTOZOO_ZOO": str(zoo / "zoo")}, cwd=tmp_path)
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == [
        str(i) for i in range(len(BLOCKS))
    ]


def test_the_readme_names_the_two_commands_and_files_that_exist() -> None:
    assert "make demo" in README and "make test" in README
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_table_of_results_is_that_of_the_entry() -> None:
    from histozoo import registry, result_rows

    ours = registry.read_entry(registry.ZOO / f"{SHOWN[1] if SHOWN else ''}.json").ours
    recipe = [r for r in ours["results"] if r["protocol"] == "feature_extraction"]
    rows = result_rows.by_task(recipe, left_out=True)
    shown = [line for line in README.splitlines() if re.match(r"\| \w+ \| [\d,]+ \|", line)]
    assert shown == [
        f"| {task} | {n:,} | {groups:,} | {' | '.join(map(str, cells))} |"
        for task, _, n, groups, *cells in rows
    ]
    assert result_rows.verdict(recipe, ours["corpus"]) in README


def test_every_verb_in_the_readme_exists() -> None:
    from histozoo.cli import app

    verbs = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    shown = set(re.findall(r"^histozoo (\w+)", README, re.M))
    assert len(shown) >= 6 and shown <= verbs


def test_the_changelog_begins_with_this_version() -> None:
    from histozoo import __version__

    top = re.search(
        r"^## \[([^\]]+)\] - \d{4}-\d{2}-\d{2}$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert top is not None and top[1] == __version__


def test_every_error_code_is_explained() -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "histozoo").rglob("*.py"))]
    raised = {code for source in sources for code in re.findall(r'"(HZ-[A-Z]\d\d)"', source)}
    named = {code for source in sources for code in re.findall(r"\bHZ-[A-Z]\d\d\b", source)}
    explained = set(
        re.findall(
            r"^\| (HZ-[A-Z]\d\d) \| [^|]+ \| [^|]+ \|$",
            (ROOT / "docs/errors.md").read_text(encoding="utf-8"),
            re.M,
        )
    )
    assert len(raised) >= 40
    assert sorted(raised - explained) == [], "codes without a row in docs/errors.md"
    assert sorted(explained - named) == [], "rows for codes that nothing names"


def test_words_of_the_walks_name_places_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for place in re.findall(r"`(histozoo/[\w/]+\.py)`", text):
        assert (ROOT / place).is_file(), place
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### A model",
        "### A recipe",
        "### A task",
        "### A protocol",
    ]
    assert shutil.which("git"), "the walks need git"
