"""What the command line shows: entries and reports as rich tables. Prints nothing itself and imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from histozoo import result_rows
from histozoo.feature_files import Report
from histozoo.registry import Entry


def models(entries: Sequence[Entry]) -> RenderableType:
    """Returns one line per model."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "D", "tile", "um/px", "licence", "MB", "embedded", "tasks"):
        table.add_column(
            column, justify="left" if column in ("name", "licence", "embedded") else "right", no_wrap=True
        )
    for e in entries:
        embedded = "yes" if e.weights.embedded else "no"
        size = f"{e.weights.bytes / 1e6:.1f}"
        row = (
            e.name,
            str(e.feature_dim),
            f"{e.tile_px} px",
            _mpp(e),
            e.licence,
            size,
            embedded,
            str(len(e.corpus)),
        )
        table.add_row(*map(Text, row))
    if not entries:
        return Text("no model matches")
    return table


def entry(e: Entry) -> RenderableType:
    """Returns everything a reader wants to know before using a model."""
    c = e.contract
    facts = {
        "architecture": f"{e.architecture} (timm)",
        "recipe": e.recipe,
        "licence": f"{e.licence}: {e.ours['licence']['reason']}",
        "input": f"{c.tile_px} x {c.tile_px} px {c.colour_order}, {c.kernel}, crop {c.crop}",
        "um/px": _mpp(e) if e.mpp else f"none: {c.mpp_reason}",
        "mean, std": f"{_numbers(c.mean)}; {_numbers(c.std)}",
        "feature": f"D = {c.feature_dim}, pooling {c.pooling}",
        "weights": f"{e.weights.bytes / 1e6:.1f} MB {e.weights.dtype}, sha256 {e.weights.sha256[:16]}...",
        "embedded": f"{e.weights.embedded.bytes / 1e6:.1f} MB in the package" if e.weights.embedded else "no",
        "Hub": f"{e.weights.repo}@{e.weights.revision or '(not pushed yet)'}",
        "intended use": str(e.ours["intended_use"]),
        "limits": str(e.ours["limits"]),
    }
    if e.withdrawn:
        facts = {"WITHDRAWN": f"{e.withdrawn['reason']}; use {e.withdrawn['replacement']}", **facts}
    table = _pairs(facts)
    return Group(Text(e.name, style="bold"), table, Text(), _corpus(e), Text(), _results(e))


def embedded(report: Report) -> RenderableType:
    """Returns what became of the input rows."""
    done = f"{report.n_done:,} of {report.n_input:,} tiles"
    reused = f" ({report.n_reused:,} were there already)" if report.n_reused else ""
    passed = [f"{len(report.ignored):,} files that are no images"] if report.ignored else []
    passed += [f"{len(names):,} {kind}" for kind, names in report.skipped.items()]
    facts = {
        "features": f"{report.features}",
        "done": done + reused,
        "model": f"{report.made_by['model']}, sha256 {str(report.made_by['sha256'])[:16]}...",
        "treated": ", ".join(f"{n:,} {word}" for word, n in report.treated.items()),
        "passed over": ", ".join(passed) or "nothing",
        "note": "; ".join(report.notes),
    }
    return _pairs({key: value for key, value in facts.items() if value})


def _corpus(e: Entry) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column, justify in (
        ("trained on", "left"),
        ("organ", "left"),
        ("stain", "left"),
        ("tiles", "right"),
        ("groups", "right"),
    ):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for part in e.corpus:
        groups = part["n_groups"]
        row = (
            part["task"],
            part["organ"],
            part["stain"],
            f"{part['n']:,}",
            "unknown" if groups is None else f"{groups:,}",
        )
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def _results(e: Entry) -> RenderableType:
    results = e.ours["results"]
    if not results:
        return Text("no results recorded")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in (*result_rows.HEAD, "left out of training"):
        table.add_column(column)
    for left_out in (True, False):
        for row in result_rows.by_task(results, left_out=left_out):
            table.add_row(*(Text(str(cell)) for cell in (*row, "yes" if left_out else "no")))
    verdict = result_rows.verdict(results, e.corpus)
    return Group(table, Text(verdict)) if verdict else table


def _pairs(facts: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(Text(key), Text(value))
    return table


def _mpp(e: Entry) -> str:
    return "-" if e.mpp is None else _numbers(e.mpp)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
