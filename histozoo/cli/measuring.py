"""The verb that measures: a run on its own tasks, or any models side by side on tasks of the pool."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from histozoo.cli.app import app
from histozoo.console import out
from histozoo.errors import UsageError
from histozoo.ranges import SEED


@app.command()
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Names, bundle or run folders, random:NAME (three seeds), timm:ARCH, hf-hub:OWNER/NAME, colour-histogram; "
            "the others are compared with the first. A run folder alone, without --task, is measured on its own tasks."
        ),
    ],
    task: Annotated[list[str] | None, typer.Option(help="A task of the pool; may be repeated.")] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Of features: logistic (default), linear_svm, knn, simpleshot (1 to 16 shots). Trained on: finetune_full, "
            "finetune_frozen_bn, finetune_layer_decay, finetune_lora, finetune_head_only. Groups as slides: slides_attention, "
            "slides_gated, slides_mean, slides_max. Looks: cuts (how much of the trunk is needed), cka, invariance, corruption, "
            "robustness_index. May be repeated."
        ),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            help="With a run alone: a run of the same experiment with --leave-out; may be repeated."
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the task folders; else $HISTOZOO_DATA.")
    ] = None,
    target: Annotated[
        Path,
        typer.Option("--out", help="Where predictions and results go; measured ones are not measured again."),
    ] = Path("runs/evaluate"),
    cache: Annotated[Path, typer.Option(help="Where decoded tiles and features are kept.")] = Path("runs"),
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of each interval.")] = 10_000,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=int(SEED.least),
            max=int(SEED.most),
            help="Of folds, splits and fits, 0 where left out; may be repeated for finetune_ and slides_.",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Of fine-tuning: small (a processor) or full (a GPU).")
    ] = "small",
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the training labels that finetune_ gets, all where left out; may be repeated."
        ),
    ] = None,
    centres: Annotated[
        str,
        typer.Option(
            help="For robustness_index: a CSV with the columns group and centre, or the word group where every group is a centre."
        ),
    ] = "",
    slides: Annotated[
        Path | None,
        typer.Option(
            help="A CSV with the columns slide, label and, where known, patient: the names are then feature files, or folders with one per "
            "slide, and the protocols those of slides."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    record: Annotated[
        bool, typer.Option("--record", help="Put what was found of the first model onto its entry and card.")
    ] = False,
) -> None:
    """Measure models: values with intervals over groups, paired differences, ranks, and a page to read."""
    if slides:
        _refuse_beside_slides(
            task=task, without=without, record=record, fraction=fraction, centres=centres, data_root=data_root
        )
        _slide_files(models, slides, protocol, seed or [0], target, device=device, resamples=resamples)
        return
    if not task:
        if record or protocol or seed or fraction or centres:
            raise UsageError(
                "HZ-I75",
                "--protocol, --seed, --fraction, --centres and --record belong to tasks of the pool",
                expected="--task NAME beside them",
                got=", ".join(models),
                next_step="`histozoo tasks` lists the pool; a run alone needs neither",
            )
        _own_tasks(models, without or [], data_root=data_root, cache=cache / "tiles", resamples=resamples)
        return
    if without:
        raise UsageError(
            "HZ-I75",
            "--without belongs to a run alone",
            got="--task beside it",
            next_step="leave one of the two out",
        )
    _side_by_side(
        models,
        {
            "tasks": task,
            "protocols": protocol or ["logistic"],
            "out": target,
            "cache": cache,
            "data_root": data_root,
        }
        | {"seeds": seed or [0], "preset": preset, "fractions": fraction or [1.0], "centres": centres},
        device=device,
        resamples=resamples,
        record=record,
    )


def _refuse_beside_slides(**given: object) -> None:
    if beside := [f"--{name.replace('_', '-')}" for name, there in given.items() if there]:
        raise UsageError(
            "HZ-I75",
            "--slides takes feature files, whose encoder and task are not named",
            expected="--slides FILE with --protocol, --seed, --out",
            got=", ".join(beside),
            next_step="slides of a task of the pool: --task NAME --protocol slides_gated, without --slides",
        )


def _slide_files(
    sources: list[str],
    table: Path,
    protocols: list[str] | None,
    seeds: list[int],
    target: Path,
    *,
    device: str,
    resamples: int,
) -> None:
    from histozoo import devices, durable
    from histozoo.evaluate.compare.slide_files import SlidePlan, run

    plan = SlidePlan(
        sources=sources,
        table=table,
        protocols=protocols or ["slides_attention", "slides_mean"],
        seeds=seeds,
        out=target,
        device=str(devices.choose(device)),
    )
    durable.check_folder(target)
    command = shlex.join(["histozoo", *sys.argv[1:]])
    out.print(run(plan, resamples=resamples, command=command, say=_say), markup=False, soft_wrap=True)
    _ended(target)


def _own_tasks(models: list[str], without: list[Path], **options: Any) -> None:
    from histozoo import durable
    from histozoo.evaluate import corpus, leave_out

    run = Path(models[0])
    if len(models) > 1 or not run.is_dir():
        absent = len(models) == 1 and len(run.parts) > 1
        raise UsageError(
            "HZ-I75",
            "there is no such run folder" if absent else "no task is given",
            expected="--task NAME, or one finished run folder",
            got=", ".join(models),
            next_step="`histozoo tasks` lists the pool",
        )
    for folder in (run, options["cache"]):
        durable.check_folder(folder)
    reports = [corpus.measure(run, out=run / "trained_tasks.json", **options)]
    if without:
        reports.append(leave_out.study(without, out=run / "leave_one_lineage_out.json", **options))
    durable.write_json(run / "results.json", [row for report in reports for row in report["results"]])
    for report in reports:
        table = (run / f"{report['study']}.txt").read_text(encoding="utf-8")
        out.print(table, markup=False, soft_wrap=True)


def _side_by_side(
    names: list[str], plan: dict[str, Any], *, device: str, resamples: int, record: bool
) -> None:
    from histozoo import devices
    from histozoo.evaluate.compare import run
    from histozoo.evaluate.compare.plan import Plan, check_names, columns

    check_names(plan["tasks"], plan["protocols"], plan["data_root"])
    chosen = Plan(columns=columns(names), device=str(devices.choose(device)), **plan)
    command = shlex.join(["histozoo", *sys.argv[1:]])
    tables = run.run(chosen, resamples=resamples, command=command, record=record, say=_say)
    out.print(tables, markup=False, soft_wrap=True)
    _ended(chosen.out)


def _ended(folder: Path) -> None:
    from histozoo.evaluate import outcome

    _say(f"page: {folder / 'results.html'}")
    outcome.tell(folder / "results.json", say=_say)


def _say(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)
