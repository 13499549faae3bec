"""The verbs. Each imports what it needs when it runs, so that `histozoo list` costs no torch; the work itself is done elsewhere.

Exit codes: 0 done; 2 usage; 3 bytes or provenance are not what was published; 4 finished, with rejected inputs listed in a report;
5 disk, network or permission; 75 interrupted, safe to run again. Errors are one short text; `--debug` adds the stack trace.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from histozoo import __version__
from histozoo.console import Verbs, out, progress_bar
from histozoo.errors import UsageError

Precision = Literal["float32", "bfloat16", "float16"]

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Runs the command line; the entry point of the console script."""
    app(prog_name="histozoo")


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"histozoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Pathology backbones with verified weights."""


# -- looking --


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern on the name.")] = "*",
    recipe: Annotated[str | None, typer.Option(help="Only models of this recipe.")] = None,
    licence: Annotated[str | None, typer.Option(help="Only weights under this licence (SPDX id).")] = None,
    max_mb: Annotated[float | None, typer.Option(help="Only weights up to this many megabytes.")] = None,
    feature_dim: Annotated[int | None, typer.Option(help="Only features of this length.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Only models trained at these micrometres per pixel.")
    ] = None,
) -> None:
    """List the models of the zoo."""
    from histozoo import registry, tables

    max_bytes = None if max_mb is None else int(max_mb * 1e6)
    names = registry.list_models(
        pattern, recipe=recipe, licence=licence, max_bytes=max_bytes, feature_dim=feature_dim, mpp=mpp
    )
    # A pipe gets names alone, one a line, for other programs.
    if names or out.is_terminal:
        entries = [registry.entry(name) for name in names]
        out.print(tables.models(entries) if out.is_terminal else "\n".join(names))


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Name of a model, or a bundle folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print the whole entry as JSON.")] = False,
) -> None:
    """Show what is known about a model."""
    from histozoo import durable, registry, tables

    entry = registry.resolve(name)
    out.print(durable.to_json(entry.raw), end="", soft_wrap=True, markup=False) if json else out.print(
        tables.entry(entry)
    )


# -- using --


@app.command()
def embed(
    source: Annotated[Path, typer.Argument(help="Folder of tiles, or a CSV with a column 'file'.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Feature file: .safetensors, .h5 or .hdf5.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Name of a model, or a bundle folder.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles per forward pass.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of the tiles, when known.")] = None,
    max_rejected: Annotated[
        float, typer.Option(min=0, max=1, help="Stop above this share of rejected tiles.")
    ] = 0.01,
) -> None:
    """Turn tiles into features; exit code 4 says that some tiles were rejected."""
    from histozoo import embed as embedding
    from histozoo import tables

    with progress_bar("embedding") as progress:
        report = embedding.embed(
            source,
            target,
            model=model,
            batch_size=batch_size,
            device=device,
            mpp=mpp,
            max_rejected=max_rejected,
            progress=progress,
        )
    out.print(tables.embedded(report))


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of a model, or a bundle folder.")],
    dtype: Annotated[
        Precision, typer.Option(help="Precision of the model; pixels are always compared in float32.")
    ] = "float32",
) -> None:
    """Recompute a model's golden features on this machine and compare."""
    from histozoo.verify import verify as recompute

    report = recompute(name, dtype=dtype)
    out.print(report.text(), markup=False, soft_wrap=True)
    report.require()


@app.command()
def demo(
    tiles: Annotated[
        Path | None, typer.Option(help="Folder of tiles; the shipped examples where left out.")
    ] = None,
    target: Annotated[Path, typer.Option("--out", help="Folder for features and pictures.")] = Path(
        "runs/demo"
    ),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The first embedded model where left out.")
    ] = None,
) -> None:
    """Embed a folder of tiles and draw every tile's nearest neighbours."""
    from histozoo import demo as demonstration

    with progress_bar("embedding") as progress:
        shown = demonstration.run(target, tiles=tiles, model=model, progress=progress)
    for line in shown.lines():
        out.print(line, markup=False, soft_wrap=True)


# -- making --


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
    resume_step: Annotated[int | None, typer.Option(help="Continue from exactly this checkpoint.")] = None,
    accept_change: Annotated[
        bool, typer.Option("--accept-change", help="Continue although code or data changed.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 0,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the file; may be repeated.")
    ] = None,
) -> None:
    """Train a backbone; the same command continues a stopped run."""
    from histozoo import pretrain as training

    run = training.run(
        experiment,
        data_root=data_root,
        runs=runs,
        leave_out=leave_out or (),
        resume_step=resume_step,
        accept_change=accept_change,
        workers=workers,
        device=device,
        **_overrides(settings or ()),
    )
    out.print(f"done: {run}\nnext: histozoo publish {run}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    without: Annotated[
        list[Path] | None, typer.Option(help="A run of the same experiment with --leave-out; repeat.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the task folders; else $HISTOZOO_DATA.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where decoded tiles are kept.")] = Path("runs/tiles"),
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of each interval.")] = 10_000,
) -> None:
    """Measure a run beside random weights; what is found goes to RUN/results.json, which publish puts into the entry."""
    from histozoo import durable
    from histozoo.evaluate import corpus, leave_out

    places: dict[str, Any] = {"cache": cache, "data_root": data_root}
    reports = [corpus.measure(run, out=run / "trained_tasks.json", resamples=resamples, **places)]
    if without:
        out_file = run / "leave_one_lineage_out.json"
        reports.append(leave_out.study(without, out=out_file, resamples=resamples, **places))
    durable.write_json(run / "results.json", [row for report in reports for row in report["results"]])
    for report in reports:
        table = (run / f"{report['study']}.txt").read_text(encoding="utf-8")
        out.print(table, markup=False, soft_wrap=True)


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    target: Annotated[Path, typer.Option("--out", help="Where bundles lie.")] = Path("dist"),
    embed: Annotated[bool, typer.Option(help="Put half-precision weights into the package.")] = True,
) -> None:
    """Turn a run into a bundle, a zoo entry and a card, after every check."""
    from histozoo.publish import publish as make_bundle

    bundle = make_bundle(run, out=target, embed=embed)
    out.print(
        f"done: {bundle}\nnext: histozoo verify {bundle}, then histozoo push {bundle} --dry-run",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder, dist/<name>.")],
    repo: Annotated[str | None, typer.Option(help="Hub repository; histozoo/<name> where left out.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, upload nothing.")] = False,
) -> None:
    """Upload a bundle to the Hub in one commit and record its revision."""
    from histozoo.push import push as upload

    revision = upload(bundle, repo=repo, private=private, dry_run=dry_run)
    out.print(f"revision: {revision}", markup=False)


@app.command()
def card(
    write: Annotated[
        bool, typer.Option("--write/--check", help="Write the cards, or only compare them.")
    ] = False,
) -> None:
    """Compare every model card with its entry, or write it."""
    from histozoo import card as cards
    from histozoo.registry import ZOO

    folder = ZOO.parent.parent / "model_cards"
    for path in cards.write(ZOO, folder) if write else ():
        out.print(f"written: {path}", markup=False, soft_wrap=True)
    cards.require_fresh(ZOO, folder)
    out.print("all cards are as rendered from their entries")


# -- helpers --


def _overrides(settings: list[str] | tuple[()]) -> dict[str, Any]:
    """Reads `key=value` pairs as TOML, so that a string, a number and a list mean what they mean in an experiment.

    Raises:
        UsageError: `HZ-U66`, not `key=value`.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        try:
            values |= tomllib.loads(setting)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(
                "HZ-U66",
                "this is not key=value as in a TOML file",
                got=setting,
                next_step="for example --set steps=100, or --set 'init=\"random\"'",
            ) from error
    return values


if __name__ == "__main__":
    main()
