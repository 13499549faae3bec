"""Paper C's question on data at hand: up to which size of training set is a pretrained encoder better than a random one?

One U-Net per set trained on, mode, size, initialisation and seed (`histozoo.evaluate.segment`), each scored on groups of its own set and on
the other sets that show the same objects.

Shapes: S seeds, G groups, R resamples.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from histozoo.evaluate.encoders import Encoder
from histozoo.evaluate.resampling import Floats
from histozoo.evaluate.segment import study
from histozoo.evaluate.segment.colours import Colours
from histozoo.evaluate.segment.curves import of_groups, resampled
from histozoo.evaluate.segment.model import Start, start
from histozoo.evaluate.segment.pictures import SETS, Pictures, read
from histozoo.evaluate.segment.study import Design
from histozoo.evaluate.segment.train import Training
from histozoo.studies.comparing import Asked, decide
from histozoo.studies.folder import Bench
from histozoo.studies.named import named
from histozoo.studies.outcome import Outcome
from histozoo.studies.recorded import rows
from histozoo.studies.segmentation_part import (
    BASELINE,
    COLOURS,
    FLOOR,
    Part,
    gain_name,
    group_words,
    less_is_better,
)
from histozoo.studies.segmentation_report import outcome
from histozoo.studies.settings import Segmentation


def run(settings: Segmentation, bench: Bench) -> Outcome:
    """Trains and scores what is not there yet, and returns what follows.

    Raises:
        UsageError, IntegrityError: What `segment.study.run` and `named` raise.
        Interrupted: `HZ-F41`, a signal asked to stop; the same command goes on.
    """
    models = named(settings.models, settings.called)
    encoders = {m.one.name: m.one for m in models}
    starts = _starts(encoders)
    sets = _read(settings, bench)
    parts = []
    for name in settings.sizes:
        others = [sets[o] for o in settings.away if o != name and SETS[o].objects == SETS[name].objects]
        nets = bench.out / "nets" / name
        with _told(bench):
            # A histogram has no encoder to freeze: it is measured once for all modes.
            design = _design(settings, name, settings.modes[0])
            colours = study.run([Colours()], sets[name], out=nets / "colours", design=design, others=others)
            for mode in settings.modes:
                design = _design(settings, name, mode)
                found = study.run(starts, sets[name], out=nets / mode, design=design, others=others)
                parts.append(Part(mode=mode, scores=found, colours=colours))
    bench.say("every net is scored; resampling")
    answers = {}
    for metric in settings.metrics:
        drawn = [asked for part in parts for asked in _asked(part, encoders, settings, metric)]
        # Two questions: whether pretraining pays, and whether a net sees more than colours. Neither pays for the other.
        families = [[d for d in drawn if (d[0].second == BASELINE) == side] for side in (True, False)]
        answers[metric] = [a for family in families for a in decide(family)]
    told = outcome(settings, parts, answers, models)
    entries = rows(parts, answers[settings.metrics[0]], settings)
    return replace(told, facts={**told.facts, "entries": entries})


def _starts(encoders: dict[str, Encoder]) -> list[Start]:
    found = []
    for name, one in encoders.items():
        module = one.module()
        config: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
        begin = Start(
            name=name,
            architecture=str(config.get("architecture", type(module).__name__)),
            tensors={key: value.detach().clone() for key, value in module.state_dict().items()},
            mean=one.mean,
            std=one.std,
            lineages=one.lineages or frozenset(),
        )
        found.append(begin)
    return [*found, start(BASELINE, architecture=found[0].architecture, like=found[0])]


def _read(settings: Segmentation, bench: Bench) -> dict[str, Pictures]:
    names = dict.fromkeys((*settings.sizes, *settings.away))
    return {
        name: read(name, data_root=bench.data_root, shrink=settings.shrink.get(name, 1)) for name in names
    }


def _design(settings: Segmentation, name: str, mode: Any) -> Design:
    training = Training(
        mode=mode,
        steps=settings.steps,
        px=settings.px,
        batch_size=settings.batch_size,
        lr=settings.lr,
        warmup_steps=min(20, settings.steps // 4),
        decoder=settings.decoder,
        precision=settings.precision,  # type: ignore[arg-type]  # checked when the file was read
        save_every=max(1, min(500, settings.steps)),
    )
    return Design(
        sizes=settings.sizes[name],
        seeds=settings.seeds,
        training=training,
        test=settings.test,
        split_seed=settings.seed,
        per_group=settings.per_group or None,
        metrics=settings.metrics,
        stride=settings.stride or None,
        how="components" if SETS[name].objects == "gland" else "watershed",
    )


@contextmanager
def _told(bench: Bench) -> Iterator[None]:
    """Tells every finished cell, which the study logs."""
    handler = logging.Handler()
    handler.emit = lambda record: bench.say(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("histozoo.evaluate.segment.cell")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


# -- questions -------------------------------------------------------------------------------------------------------------------------


def _asked(
    part: Part, encoders: dict[str, Encoder], settings: Segmentation, metric: str
) -> Iterator[tuple[Asked, float, Floats]]:
    """Gives differences at each size on each test set: encoders from random weights; by the metric that decides, nets from no net."""
    nets = {name: one.saw for name, one in encoders.items()} | {BASELINE: lambda _: False}
    others = (BASELINE, COLOURS, FLOOR) if metric == settings.metrics[0] else (BASELINE,)
    for test, groups_N in part.scores.groups.items():
        lineage = part.scores.lineages[test]
        for name, second in ((n, s) for s in others for n in nets if (n, s) != (BASELINE, BASELINE)):
            first_by, second_by = (part.curve(n, test_set=test, metric=metric) for n in (name, second))
            for size, values_SN in first_by.items():
                gain_SN = (values_SN - second_by[size]) * (-1 if less_is_better(metric) else 1)
                means_SG = of_groups(gain_SN, groups_N)
                asked = Asked(
                    place=group_words(size),
                    lineage=lineage,
                    setting=part.says(test),
                    first=name,
                    second=second,
                    metric=gain_name(metric),
                    n=len(groups_N),
                    n_groups=means_SG.shape[1],
                    seen=nets[name](lineage),
                    by_seed=tuple(means_SG.mean(1).tolist()),
                )
                d_RS = resampled(means_SG, seed=settings.seed, resamples=settings.resamples)
                yield asked, float(means_SG.mean()), d_RS.mean(1)
