"""The paper of a model: entry -> Markdown with Hub front matter, a pure function of one JSON.

`model_cards/<name>.md` and the bundle's README.md are rendered here and never edited by hand; `check` finds what is missing, stale
or left over. Every value from the entry is escaped: it can add text, never a key, a heading, a row or a code block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from histozoo import doors, durable, result_rows
from histozoo.errors import IntegrityError
from histozoo.licence import RESEARCH_ONLY
from histozoo.registry import Entry, read_entry

MAX_BYTES = 1 << 20
SECTIONS = (
    "Intended use", "Limits", "Open it", "Preprocessing", "Corpus", "Results", "Check it on your machine", "Continue training", "Licence",
    "Citation",
)  # fmt: skip
_SPECIAL = re.compile(r"([\\`*\[\]<>|$])|^([-+_#])(?=[-\s_#]|$)|(?<=^\d)([.)])(?=\s|$)")
_POOLED = (
    "Intervals of cross-validated scores are 1.5 times as wide as the bootstrap alone would make them, since folds share their training "
    "tiles (correction of Nadeau and Bengio, 2003)."
)
_LEFT_OUT = (
    "These rows show the recipe, not these very weights: each was measured on the same experiment trained without any task of that "
    "lineage. Grouped five-fold cross-validation over all tiles of the task."
)
_NEVER_SEEN = (
    "Measured on these weights, on data of which no lineage was in the corpus, by `histozoo evaluate`. Grouped five-fold cross-validation "
    "over all tiles of the task; protocols that begin with finetune\\_ train the weights on and score the test groups of one split; those "
    "that begin with slides\\_ predict whole groups, and slides stand where the table says tiles; those that begin with segmentation\\_, "
    "of `histozoo study experiments/studies/segmentation.toml`, train U-Nets with this encoder for so many steps on so many groups of the "
    "named set, several seeds, and score pictures of other groups; intervals of their differences hold the seeds, too."
)
_TRAINED_ON = (
    "Measured on these weights. The trunk saw the training groups of these tasks; a probe learned on them too and was scored on groups "
    "that neither had seen."
)


def render(entry: Entry) -> str:
    """Returns the card of `entry` as Markdown; the same entry always gives the same text."""
    h = entry.raw["histozoo"]
    parts = [
        _front_matter(entry.raw),
        f"# {h['name']}\n",
        f"{_text(entry.raw['pretrained_cfg'].get('description') or h['name'])}\n",
        _section("Intended use", _text(h["intended_use"])),
        _section("Limits", _text(h["limits"])),
        _section("Open it", doors.opening(h)),
        _section("Preprocessing", _preprocessing(h["contract"])),
        _section("Corpus", _corpus(h)),
        _section("Results", _results(h)),
        _section("Check it on your machine", doors.verifying(h)),
        _section("Continue training", doors.training(h)),
        _section("Licence", f"{_text(h['licence']['id'])}: {_text(h['licence']['reason'])}."),
        _section("Citation", _citations(h["corpus"])),
    ]
    return "\n".join(parts)


def problems(text: str, entry: Entry) -> list[str]:
    """Returns what makes a card unfit to publish: broken or injected front matter, missing sections, too long."""
    found = [f"no section {title!r}" for title in SECTIONS if f"\n## {title}\n" not in text]
    if len(text.encode()) > MAX_BYTES:
        found.append(f"longer than {MAX_BYTES:,} bytes")
    try:
        written = yaml.safe_load(text.split("\n---\n", 1)[0].removeprefix("---\n"))
    except yaml.YAMLError as error:
        return [*found, f"front matter is not YAML: {error}"]
    return found + ([] if written == _metadata(entry.raw) else ["front matter reads back differently"])


def check(zoo: str | Path, cards: str | Path) -> list[str]:
    """Returns one sentence per card that is missing, stale (not what its entry renders to) or an orphan (no entry)."""
    entries, cards = _entries(Path(zoo)), Path(cards)
    found = []
    for name, entry in entries.items():
        path = cards / f"{name}.md"
        if not path.is_file():
            found.append(f"{path.name} is missing: run `histozoo card --write`")
        elif path.read_bytes() != render(entry).encode():
            found.append(f"{path.name} is stale: run `histozoo card --write`")
    return found + [
        f"{p.name} is an orphan, no entry has this name: delete it" for p in _orphans(cards, entries)
    ]


def write(zoo: str | Path, cards: str | Path) -> list[Path]:
    """Renders every card that is missing or stale and returns their paths; orphans are left for a person to delete."""
    written = []
    for name, entry in _entries(Path(zoo)).items():
        path, data = Path(cards) / f"{name}.md", render(entry).encode()
        if not path.is_file() or path.read_bytes() != data:
            durable.write_bytes(path, data)
            written.append(path)
    return written


def require_fresh(zoo: str | Path, cards: str | Path) -> None:
    """Does nothing where every card is what its entry renders to.

    Raises:
        IntegrityError: `HZ-U21`, some cards are missing, stale or orphans; lists them.
    """
    if found := check(zoo, cards):
        raise IntegrityError(
            "HZ-U21",
            f"{len(found)} model cards do not match the zoo",
            where=cards,
            got="; ".join(found),
            kept="nothing was changed",
            next_step="run `histozoo card --write` and delete orphans",
        )


def _entries(zoo: Path) -> dict[str, Entry]:
    return {path.stem: read_entry(path) for path in sorted(zoo.glob("*.json"))}


def _orphans(cards: Path, entries: Mapping[str, Entry]) -> list[Path]:
    return [p for p in sorted(cards.glob("*.md")) if p.stem not in entries and p.stem.lower() != "readme"]


# -- front matter --


def _front_matter(raw: Mapping[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(_metadata(raw), sort_keys=False, allow_unicode=True, width=4096)}---\n"


def _metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the Hub's metadata: licence, library, task, tags, datasets, results as a model index."""
    h = raw["histozoo"]
    meta: dict[str, Any] = {"license": _line(h["licence"]["id"])}
    if meta["license"] == "other":
        # The Hub asks for a name and a file of the repository that states the terms: the card's own section on the licence.
        meta |= {"license_name": RESEARCH_ONLY, "license_link": "README.md"}
    meta |= {"library_name": "timm", "pipeline_tag": "image-feature-extraction"}
    organs = sorted({_slug(item["organ"]) for item in h["corpus"]})
    tags = ["timm", "histozoo", "histopathology", "pathology", h["recipe"], *organs]
    meta |= {
        "tags": list(dict.fromkeys(tags)),
        "datasets": sorted({_slug(item["task"]) for item in h["corpus"]}),
    }
    # A reader of the index sees no marks: it holds what was measured on these weights and on tasks that they never saw.
    _, of_weights = _left_out(h)
    if measured := [r for r in of_weights if r["subject"] == "trained"]:
        meta["model-index"] = [{"name": h["name"], "results": [_index_result(r) for r in measured]}]
    return meta


def _left_out(h: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Returns the results on tasks left out of training: those of the recipe trained without their lineage, and those of these weights."""
    known = {part["lineage"] for part in h["corpus"]}
    lineage = result_rows.lineage_by_task(h["corpus"])
    parts: tuple[list[Any], list[Any]] = [], []
    for r in h["results"]:
        if r["left_out"]:
            parts[lineage.get(r["task"]) not in known].append(r)
    return parts


def _index_result(r: Mapping[str, Any]) -> dict[str, Any]:
    metric = _line(r["metric"])
    return {
        "task": _index_task(_line(r["protocol"])),
        "dataset": {"type": _slug(r["task"]), "name": _line(r["task"])},
        "metrics": [{"type": metric, "name": metric, "value": r["value"], "verified": False}],
    }


def _index_task(protocol: str) -> dict[str, str]:
    if protocol.startswith("segmentation_"):
        return {"type": "image-segmentation", "name": protocol}
    trained_on = protocol.startswith("finetune_")
    return {
        "type": "image-classification",
        "name": protocol if trained_on else f"{protocol} on frozen features",
    }


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.") or "unnamed"


# -- sections --


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body.strip()}\n"


def _text(value: object) -> str:
    """Returns `value` as one line of Markdown text: no markup, no markup of the next line, no control characters."""
    return _SPECIAL.sub(r"\\\g<0>", _line(value))


def _line(value: object) -> str:
    """Returns `value` as one line without control characters; line separators of every script become spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    lines = [
        names,
        ["---"] * len(names),
        *(["-" if cell in (None, "") else _text(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _preprocessing(c: Mapping[str, Any]) -> str:
    mpp = ", ".join(f"{v} µm/px" for v in c["mpp"]) if c["mpp"] else f"not fixed: {c['mpp_reason']}"
    rows = [
        ("tile", f"{c['tile_px']} x {c['tile_px']} px, {c['colour_order']}"),
        ("pixel size", mpp),
        ("resize", f"{c['resize']}, {c['kernel']}, {'antialiased' if c['antialias'] else 'not antialiased'}"),
        ("crop", c["crop"]),
        ("values", f"{c['value_range'][0]} to {c['value_range'][1]}, then (x - mean) / std"),
        ("mean", ", ".join(map(str, c["mean"]))),
        ("std", ", ".join(map(str, c["std"]))),
        ("features", f"{c['feature_dim']}, pooling {c['pooling']}, prefix tokens {c['prefix_tokens']}"),
    ]
    return _table(("step", "value"), rows)


def _corpus(h: Mapping[str, Any]) -> str:
    keys = ("task", "organ", "stain", "n", "n_groups", "licence", "lineage", "source")
    table = _table(
        ("task", "organ", "stain", "tiles", "groups", "licence", "lineage", "source"),
        ([i[k] for k in keys] for i in h["corpus"]),
    )
    parents = "; ".join(f"{_text(p['name'])}" for p in h["parents"]) or "random weights"
    notes = f"\n\n{_text(h['notes'])}" if h["notes"] else ""
    return f"{table}\n\nRecipe: {_text(h['recipe'])}. Started from: {parents}.{notes}"


def _results(h: Mapping[str, Any]) -> str:
    results = h["results"]
    if not results:
        return "Nothing has been measured yet."
    parts = [
        "Each value with its 95 % interval from a bootstrap over groups; random weights: the same architecture."
    ]
    of_recipe, of_weights = _left_out(h)
    for title, text, rows in (
        ("Tasks left out of training", _LEFT_OUT, of_recipe),
        ("Tasks it never saw", _NEVER_SEEN, of_weights),
    ):
        if rows:
            verdict = result_rows.verdict(rows, h["corpus"])
            parts += [
                f"### {title}",
                verdict,
                f"{text} {_POOLED}",
                _table(result_rows.HEAD, result_rows.by_task(rows, left_out=True)),
            ]
    if trained_on := result_rows.by_task(results, left_out=False):
        parts += ["### Tasks it was trained on", _TRAINED_ON, _table(result_rows.HEAD, trained_on)]
        if rest := sorted({part["task"] for part in h["corpus"]} - {row[0] for row in trained_on}):
            parts.append(f"Trained on as well, with no value recorded: {_text(', '.join(map(str, rest)))}.")
    return "\n\n".join(part for part in parts if part)


def _citations(corpus: Iterable[Mapping[str, Any]]) -> str:
    lines = dict.fromkeys(f"- {_text(item['task'])}: {_text(item['citation'])}" for item in corpus)
    return "The data this model learned from:\n\n" + "\n".join(lines)
