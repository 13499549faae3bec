"""Verbs that make a model: train, publish, push, and its card."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from histozoo.cli.app import app
from histozoo.console import out
from histozoo.errors import UsageError
from histozoo.experiment import STATED
from histozoo.experiment_values import overrides


@app.command()
def pretrain(
    experiment: Annotated[Path, typer.Argument(help="TOML file, see experiments/.")],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the task folders; else $HISTOZOO_DATA.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders lie.")] = Path("runs"),
    leave_out: Annotated[
        list[str] | None, typer.Option(help="A lineage not to train on; may be repeated.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start from a zoo entry or bundle folder with its heads and optimizer, or timm:NAME.",
        ),
    ] = None,
    only_backbone: Annotated[
        bool, typer.Option("--only-backbone", help="Of --from take the backbone alone.")
    ] = False,
    resume_step: Annotated[int | None, typer.Option(help="Continue from exactly this checkpoint.")] = None,
    accept_change: Annotated[
        bool, typer.Option("--accept-change", help="Continue although code or data changed.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 0,
    device: Annotated[
        Literal["auto", "cpu"], typer.Option(help="auto takes a GPU where there is one.")
    ] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the file; may be repeated.")
    ] = None,
) -> None:
    """Train a backbone; the same command continues a stopped run."""
    changes = overrides(settings or ())
    if only_backbone and not start_from:
        raise UsageError(
            "HZ-U43", "--only-backbone says what to take of --from", next_step="say --from NAME as well"
        )
    if start_from:
        alone = only_backbone or start_from.startswith("timm:")
        changes |= {"init": start_from, "inherit": "backbone" if alone else "everything"}
    raw = _glance(experiment, data_root, runs, changes)
    if note := _unpublishable(raw, leave_out or ()):
        _say(note)
    from histozoo import pretrain as training  # torch comes with it
    from histozoo import run_folder
    from histozoo.guard import dropped_steps

    run = training.run(
        experiment,
        data_root=data_root,
        runs=runs,
        leave_out=leave_out or (),
        resume_step=resume_step,
        accept_change=accept_change,
        workers=workers,
        device=device,
        say=_say,
        **changes,
    )
    run_folder.leave_group()
    dropped = dropped_steps(run)
    told = f", {dropped:,} of its steps dropped: see dropped.jsonl" if dropped else ""
    out.print(f"done: {run}{told}\nnext: histozoo publish {run}", markup=False, soft_wrap=True)


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    target: Annotated[Path, typer.Option("--out", help="Where bundles lie.")] = Path("dist"),
    embed: Annotated[bool, typer.Option(help="Put half-precision weights into the package.")] = True,
    zoo: Annotated[
        Path | None, typer.Option(help="Where the entry goes; histozoo's own zoo where left out.")
    ] = None,
    cards: Annotated[
        Path | None, typer.Option(help="Where the card goes; model_cards/ where left out.")
    ] = None,
    cut: Annotated[
        str,
        typer.Option(
            help="End the trunk after this stage or block, such as layer2, as a model of its own with the block in its name; "
            "`histozoo evaluate --protocol cuts` says which can be."
        ),
    ] = "",
) -> None:
    """Turn a run into a bundle, a zoo entry and a card, after every check."""
    from histozoo.publish import publish as make_bundle

    places = {key: path for key, path in (("zoo", zoo), ("cards", cards)) if path}
    bundle = make_bundle(run, out=target, embed=embed, cut=cut, **places)
    for note in _notes(bundle, zoo):
        _say(f"note: {note}")
    again = "".join(f" --{key} {path}" for key, path in places.items())
    _say(f"done: {bundle}\nnext: histozoo verify {bundle}, then histozoo push {bundle} --dry-run{again}")


@app.command()
def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder, dist/<name>.")],
    repo: Annotated[str | None, typer.Option(help="Hub repository; histozoo/<name> where left out.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, upload nothing.")] = False,
    zoo: Annotated[Path | None, typer.Option(help="Where the entry lies, if not in histozoo's zoo.")] = None,
    cards: Annotated[Path | None, typer.Option(help="Where the card lies, if not in model_cards/.")] = None,
) -> None:
    """Upload a bundle to the Hub in one commit and record its revision."""
    from histozoo.push import push as upload

    places: dict[str, Any] = {key: path for key, path in (("zoo", zoo), ("cards", cards)) if path}
    revision = upload(bundle, repo=repo, private=private, dry_run=dry_run, say=_say, **places)
    _say(
        f"revision: {revision}"
        if revision
        else "a trial: nothing was sent, and the Hub was not asked anything"
    )


@app.command()
def card(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle folder; the zoo's cards where left out.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write/--check", help="Write the cards, or only compare them.")
    ] = False,
) -> None:
    """Compare every model card with its entry, or write it."""
    from histozoo import bundle as bundles
    from histozoo import card as cards
    from histozoo.registry import ZOO

    if bundle:
        fresh = bundles.fresh_card(bundle, write=write)
        said = "as rendered from its entry" if fresh else "written"
        out.print(f"{said}: {bundle / 'README.md'}", markup=False, soft_wrap=True)
        return
    folder = ZOO.parent.parent / "model_cards"
    for path in cards.write(ZOO, folder) if write else ():
        out.print(f"written: {path}", markup=False, soft_wrap=True)
    cards.require_fresh(ZOO, folder)
    out.print("all cards are as rendered from their entries")


def _notes(bundle: Path, zoo: Path | None) -> list[str]:
    """Returns what a publisher should know of a card before anybody else reads it."""
    from histozoo import registry

    ours = registry.read_entry(bundle / "config.json").ours
    notes = (
        []
        if ours["results"]
        else ["nothing was measured: the card says so; `histozoo evaluate RUN`, then publish again"]
    )
    folders = {registry.ZOO, zoo or registry.ZOO}
    others = [registry.read_entry(path).ours for folder in folders for path in sorted(folder.glob("*.json"))]
    for field in ("intended_use", "limits"):
        if same := [o["name"] for o in others if o["name"] != ours["name"] and o[field] == ours[field] != ""]:
            notes.append(
                f"{field} is word for word that of {same[0]}: make sure that it is true of this model"
            )
    return notes


def _glance(experiment: Path, data_root: Path | None, runs: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Tells simple mistakes in a second, before anything is imported that takes many; returns what file and overrides say."""
    from histozoo import experiment as experiments
    from histozoo.tasks import task

    raw = experiments.glance(experiment, **changes)
    names = raw.get("tasks", ())
    known = [task(name) for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []
    if not (runs / str(raw.get("name")) / "final").exists():
        for t in known:
            t.require(data_root)
    return raw


def _unpublishable(raw: Mapping[str, Any], leave_out: Sequence[str]) -> str:
    """Returns what an experiment lacks for its model to be published, in a line; nothing for one that is not meant to be."""
    missing = [key for key in STATED if not str(raw.get(key, "")).strip()]
    first_process = os.environ.get("RANK", "0") == "0"
    if not missing or leave_out or not first_process:
        return ""
    return (
        f"note: the experiment states no {' and no '.join(missing)}, without which its model cannot be published (HZ-G53): "
        "state it now, or later with --accept-change, which trains no finished run again"
    )


def _say(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)
