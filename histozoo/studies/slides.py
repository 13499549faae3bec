"""Paper B's question on data at hand: what tells slides apart, attention or the mean, frozen features or ones that were fine-tuned?

Heads and fine-tuning are those of `histozoo.evaluate.slides`; cuts.py asks how much of the trunk is needed, changes.py what fine-tuning
changes in it, slides_report.py makes tables, plots and words.

Shapes: M seeds, S slides, K classes, R resamples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from histozoo.errors import UsageError
from histozoo.evaluate import histogram, scored
from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.feature_cache import cached_features
from histozoo.evaluate.labelled import read
from histozoo.evaluate.resampling import Floats
from histozoo.evaluate.slides import topk
from histozoo.evaluate.slides.bags import Bags, from_tiles
from histozoo.evaluate.slides.crossval import FoldResult, slide_folds
from histozoo.evaluate.slides.study import Plan, study
from histozoo.studies import slides_report as words
from histozoo.studies.changes import changed as changed_in
from histozoo.studies.comparing import Asked, decide, sentences
from histozoo.studies.cuts import cuts as cuts_of
from histozoo.studies.document import Section
from histozoo.studies.folder import Bench
from histozoo.studies.heads import METRIC, RANDOM, Drawn, Heads, folder, pixels, word
from histozoo.studies.named import Named, named
from histozoo.studies.outcome import Outcome, differences, row
from histozoo.studies.settings import Slides


def run(settings: Slides, bench: Bench) -> Outcome:
    """Fits what is not there yet, and returns what follows.

    Raises:
        UsageError, IntegrityError: What `slides.study` and `named` raise.
        Interrupted: `HZ-F41`, a signal asked to stop; the same command goes on.
    """
    models, plain = _sorted(settings)
    parts = [_heads(model, settings, bench) for model in models]
    colours = [_baseline(model.one, parts[0], settings, bench) for model in plain]
    parts = [replace(p, found={**p.found, **c.found}) for p in parts for c in colours] or parts
    answers = decide([asked for part in parts for asked in _asked(part, settings, twin=part is parts[0])])
    cuts = cuts_of(parts[0].one, settings, bench)
    changed = [changed_in(p, settings, bench) for p in parts if settings.cka and p.tuning]
    sections: dict[bool, list[Section]] = {False: [], True: []}
    for part in parts:
        sections[part.seen is True].append(words.section(part, settings, answers))
    twin = [a for a in answers if a.setting == words.pooled(RANDOM)]
    if twin:
        title = f"{parts[0].labelled.task}: {RANDOM}"
        sections[False].append(Section(title, (differences(twin, place="task"),)))
    for change in changed:
        sections[change.seen is True].append(change.section)
    return Outcome(
        rows=[
            *(r for p in parts for r in words.values(p, twin=p is parts[0])),
            *cuts.rows,
            *(r for change in changed for r in change.rows),
            *(row(a, "marked" if a.seen is True else "clean") for a in answers),
        ],
        ran=(*words.ran(parts, settings), *(m.words() for m in models), *cuts.ran),
        clean=(*sections[False], *cuts.sections),
        marked=tuple(sections[True]),
        follows=(*sentences(answers), *(s for p in parts for s in words.nothing(p)), *cuts.follows),
        limits=words.LIMITS,
        facts={"heads": [p.report for p in (*parts, *colours)], "changed": [c.facts for c in changed]},
        private={f"attention-{word(p.one.name)}.png": words.attention(p, settings, bench) for p in parts},
    )


# -- measuring -------------------------------------------------------------------------------------------------------------------------


def _sorted(settings: Slides) -> tuple[list[Named], list[Named]]:
    """Returns the networks, and what is compared beside them: the colour histogram, or nothing."""
    models = named(settings.models, settings.called)
    networks, plain = ([m for m in models if (m.one.build is None) == side] for side in (False, True))
    if not networks:
        raise UsageError(
            "HZ-U43",
            "study key 'models' has a wrong value",
            expected=f"a model with weights, {histogram.NAME} beside it or not",
            got=repr(settings.models),
        )
    return networks, plain


def _heads(model: Named, settings: Slides, bench: Bench) -> Heads:
    one, name = model.one, model.one.name
    labelled = read(
        settings.task, data_root=bench.data_root, tile_px=one.tile_px, cache=bench.cache / "tiles"
    )
    cache = bench.cache / "features"
    f_ND = cached_features(one, labelled, cache=cache, device=bench.device)
    bags = from_tiles(
        f_ND, labelled.labels_N, labelled.groups_N, task=labelled.task, classes=labelled.classes
    )
    twin_ND = cached_features(model.twin(), labelled, cache=cache, device=bench.device)
    tuning = None
    if settings.top_k:
        tuning = topk.Tuning(
            k=settings.top_k,
            epochs=settings.tuning_epochs,
            lr=settings.tuning_lr,
            choosers=settings.choosers,
        )
    seen = one.saw(labelled.lineage)
    report = study(
        {"trained": bags, "random": bags.with_features(twin_ND[bags.order_N])},
        out=folder(bench.out, name),
        plan=_plan(settings, tuning),
        left_out=seen is False,
        encoders={"trained": pixels(one, labelled)} if tuning else {},
        device=bench.device,
        progress=lambda done, of: bench.say(f"{name}: {done} of {of} heads"),
    )
    found = _found(folder(bench.out, name), bags, settings, name)
    return Heads(one=one, bags=bags, labelled=labelled, seen=seen, found=found, tuning=tuning, report=report)


def _baseline(one: Encoder, beside: Heads, settings: Slides, bench: Bench) -> Heads:
    """Returns what is measured of the same slides with features of no network, on frozen features alone."""
    labelled = read(
        settings.task, data_root=bench.data_root, tile_px=one.tile_px, cache=bench.cache / "tiles"
    )
    f_ND = cached_features(one, labelled, cache=bench.cache / "features", device=bench.device)
    bags = beside.bags.with_features(f_ND[beside.bags.order_N])
    out = folder(bench.out, one.name)
    report = study(
        {"trained": bags},
        out=out,
        plan=_plan(settings, None),
        left_out=True,
        device=bench.device,
        progress=lambda done, of: bench.say(f"{one.name}: {done} of {of} heads"),
    )
    found = _found(out, bags, settings, one.name)
    return Heads(one=one, bags=bags, labelled=labelled, seen=False, found=found, tuning=None, report=report)


def _plan(settings: Slides, tuning: topk.Tuning | None) -> Plan:
    return Plan(
        poolings=settings.poolings,  # type: ignore[arg-type]  # checked when the file was read
        seeds=settings.seeds,
        folds=settings.folds,
        seed=settings.seed,
        epochs=settings.epochs,
        select=settings.select,  # type: ignore[arg-type]
        standardise=settings.standardise,
        tuning=tuning,
        tuned_pooling=settings.tuned_pooling,  # type: ignore[arg-type]
        resamples=settings.resamples,
    )


def _found(out: Path, bags: Bags, settings: Slides, name: str) -> dict[tuple[str, str], Drawn]:
    """Returns every head's balanced accuracy on the same resamples of the patients."""
    kinds = [(f"slides_{p}", p, "result") for p in settings.poolings]
    if settings.top_k:
        tuned = f"slides_topk_{settings.tuned_pooling}"
        kinds += [(tuned, "fine-tuned", "result"), (tuned, "before fine-tuning", "before")]
    stacks: dict[tuple[str, str], Floats] = {}
    for subject, weights in (("trained", name), ("random", RANDOM)):
        for protocol, kind, part in kinds:
            if (out / "cells" / protocol / subject).is_dir():
                stacks[weights, kind] = _stack(out / "cells" / protocol / subject, part, bags, settings)
    values_C, resampled_RC = scored.bootstrap(
        bags.labels_S,
        np.concatenate(list(stacks.values())),
        np.asarray(bags.patients),
        metric=METRIC,
        fold_N=slide_folds(bags, folds=settings.folds, seed=settings.seed),
        seed=settings.seed,
        resamples=settings.resamples,
    )
    seeds = len(settings.seeds)
    return {
        key: Drawn(values_C[i : i + seeds], resampled_RC[:, i : i + seeds].mean(1))
        for key, i in zip(stacks, range(0, len(values_C), seeds), strict=True)
    }


def _stack(cells: Path, part: str, bags: Bags, settings: Slides) -> Floats:
    """Returns the probabilities `[M, S, K]` that the folds of every seed gave."""
    found_MSK = np.full((len(settings.seeds), len(bags), len(bags.classes)), np.nan)
    for m, seed in enumerate(settings.seeds):
        for fold in range(settings.folds):
            stored = json.loads((cells / f"seed{seed}-fold{fold}.json").read_text(encoding="utf-8"))
            result = FoldResult.from_json(stored[part])
            found_MSK[m, result.slides_S] = result.probabilities_SK
    return found_MSK


# -- questions -------------------------------------------------------------------------------------------------------------------------


def _asked(part: Heads, settings: Slides, *, twin: bool) -> Iterator[tuple[Asked, float, Floats]]:
    """Gives the questions of one encoder, and those of its twin alone: one twin is asked, all are of one architecture and seed."""
    name, found = part.one.name, part.found
    for pooling in settings.poolings:
        setting = f"{pooling} pooling of frozen features"
        for other in (w for w, kind in found if kind == pooling and w != name):
            yield _question(part, found, (name, pooling), (other, pooling), setting, name, other, part.seen)
    for weights, seen in ((name, part.seen), *([(RANDOM, False)] if twin else [])):
        for pooling in settings.poolings:
            if pooling != "mean" and (weights, "mean") in found:
                setting, mean = words.pooled(weights), (weights, "mean")
                yield _question(part, found, (weights, pooling), mean, setting, pooling, "mean", seen)
    if (name, "fine-tuned") in found:
        keys = (name, "fine-tuned"), (name, "before fine-tuning")
        yield _question(
            part, found, *keys, words.tuned(name, settings), "fine-tuned", "before fine-tuning", part.seen
        )


def _question(
    part: Heads,
    found: dict[tuple[str, str], Drawn],
    one: tuple[str, str],
    other: tuple[str, str],
    setting: str,
    first: str,
    second: str,
    seen: bool | None,
) -> tuple[Asked, float, Floats]:
    asked = Asked(
        place=part.labelled.task,
        lineage=part.labelled.lineage,
        setting=setting,
        first=first,
        second=second,
        metric=METRIC,
        n=len(part.bags),
        n_groups=len(set(part.bags.patients)),
        seen=seen,
        by_seed=tuple((found[one].values_M - found[other].values_M).tolist()),
    )
    return asked, found[one].value - found[other].value, found[one].value_R - found[other].value_R
