"""The verb that runs a study: a question in a file, from measurement to a report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from histozoo.cli.app import app
from histozoo.console import out
from histozoo.experiment_values import overrides


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="TOML file, or the name of one of experiments/studies/.")],
    preset: Annotated[
        str, typer.Option(help="small (two processor cores) or full (one GPU); of the ladder also many.")
    ] = "small",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the task folders; else $HISTOZOO_DATA.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="The study's folder; runs/studies/NAME where left out.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Copy report, CSV and plots of the finished study here.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where decoded tiles and features are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Put clean values of published models onto their entries and cards (segmentation).",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the file; may be repeated.")
    ] = None,
) -> None:
    """Run a study; the same command continues a stopped one."""
    from histozoo import devices
    from histozoo.studies import crew, folder, recorded, run
    from histozoo.studies.study_file import read

    named = Path("experiments/studies", file.name).with_suffix(".toml")
    if not file.exists() and file.parent == Path() and named.is_file():
        file = named  # in a clone, `study ladder` is enough
    with crew.joined() as together:
        chosen = read(file, preset=preset, changed=overrides(settings or ()))
        published = recorded.models(chosen) if record else []  # what cannot be recorded is refused first
        place = target or Path("runs/studies") / chosen.name
        bench = folder.Bench(out=place, data_root=data_root, cache=cache, tell=_say, crew=together)
        if together.first:
            bench.device = str(devices.choose(device))  # the others would look for it on the first one's
        worked = run.run(chosen, bench, command=_command(file, preset, settings or []))
        if not together.first:
            return
        if not worked:
            again = f"without {place / folder.DONE} its report is written anew from what was measured"
            _say(f"finished before, nothing to do; {again}")
        if report:
            _say(f"copied into {report}: {', '.join(folder.publish(place, report))}")
        if published:
            for path in recorded.record(place, published):
                _say(f"recorded: {path}")
        _say(f"report: {place / 'report.html'}")


def _command(file: Path, preset: str, settings: list[str]) -> str:
    """Returns what decides the numbers of what was typed: folders of this machine have no place in a report."""
    name = file.name if file.is_absolute() else str(file)
    sets = [word for setting in settings for word in ("--set", setting)]
    return shlex.join(["histozoo", "study", name, "--preset", preset, *sets])


def _say(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)
