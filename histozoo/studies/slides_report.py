"""Tables, plots and words of the study of slides."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from histozoo.evaluate.resampling import percentiles
from histozoo.evaluate.slides import heatmap
from histozoo.evaluate.slides.crossval import FoldResult
from histozoo.studies.comparing import Answer
from histozoo.studies.document import Block, Plot, Section, Table
from histozoo.studies.drawing import Dot, forest
from histozoo.studies.folder import Bench
from histozoo.studies.heads import METRIC, RANDOM, Heads, folder, word
from histozoo.studies.outcome import SEEN, differences, spelled
from histozoo.studies.settings import Slides


def pooled(weights: str) -> str:
    """Returns the setting in which poolings of these frozen features are compared."""
    return f"frozen features, {weights}"


def tuned(name: str, settings: Slides) -> str:
    """Returns the setting in which an encoder is compared with itself before fine-tuning."""
    return f"{name}, the {settings.top_k} tiles of a slide attended most"


def ran(parts: Sequence[Heads], settings: Slides) -> tuple[str, ...]:
    """Returns what was fitted, in sentences."""
    bags = parts[0].bags
    tuning = (
        f"; fine-tuning on the {settings.top_k} tiles attended most, {settings.tuning_epochs} epochs"
        if parts[0].tuning
        else ""
    )
    names = [p.one.name for p in parts]
    others = dict.fromkeys(weights for weights, _ in parts[0].found if weights not in (*names, RANDOM))
    return (
        f"{', '.join((*names, *others))} and a random twin (seed 0) on {bags.task}: {len(bags)} slides of "
        f"{len(set(bags.patients))} patients, {len(bags.f_ND):,} tiles; "
        f"{', '.join(settings.poolings)} pooling, {settings.folds} folds, seeds "
        f"{', '.join(map(str, settings.seeds))}{tuning}.",
        f"Balanced accuracy of slides decides, the mean over seeds; intervals are 95 % over patients ({settings.resamples:,} resamples), "
        f"those of differences widened for few patients and for seeds that lie apart; "
        f"Holm's correction is over all comparisons of slides that count.",
    )


def nothing(part: Heads) -> list[str]:
    """Returns that nothing follows, where the encoder was trained on the lineage."""
    if part.seen is not True:
        return []
    return [
        f"Nothing on {part.labelled.task} follows about the weights of {part.one.name}: it was trained on the lineage "
        f"{part.labelled.lineage}."
    ]


def section(part: Heads, settings: Slides, answers: Sequence[Answer]) -> Section:
    """Returns the numbers of one encoder and its twin, drawn and compared."""
    own = (pooled(part.one.name), tuned(part.one.name, settings))
    some = [a for a in answers if a.first == part.one.name or a.setting in own]
    dots = [
        Dot(
            place=kind,
            series=weights,
            value=value,
            low=low,
            high=high,
            hollow=part.seen is True and weights == part.one.name,
        )
        for (weights, kind), (value, (low, high)) in _spread(part).items()
    ]
    numbers = tuple((d.place, d.series, spelled(d.value, d.low, d.high)) for d in dots)
    marked = "marked-" if part.seen is True else ""
    plot = Plot(
        f"{marked}{word(part.one.name)}.svg",
        forest(dots, label=f"{METRIC} of slides"),
        f"{METRIC} of slides of {part.labelled.task}",
    )
    blocks: tuple[Block, ...] = (
        Table(("head", "weights", METRIC), numbers),
        f"Chance is {1 / len(part.bags.classes):.3f}.",
        plot,
        differences(some, place="task"),
    )
    return Section(f"{part.labelled.task}: {part.one.name}", blocks, marked=part.seen is True)


def _spread(part: Heads) -> dict[tuple[str, str], tuple[float, tuple[float, float]]]:
    return {key: (drawn.value, percentiles(drawn.value_R)) for key, drawn in part.found.items()}


def values(part: Heads, *, twin: bool) -> Iterator[dict[str, Any]]:
    """Gives records of results.csv, those of random weights and colours where they are asked for."""
    spread = {key: found for key, found in _spread(part).items() if twin or key[0] == part.one.name}
    for (weights, kind), (value, (low, high)) in spread.items():
        seen = part.seen if weights == part.one.name else False
        yield {
            "part": "marked" if seen is True else "clean",
            "task": part.labelled.task,
            "lineage": part.labelled.lineage,
            "setting": kind,
            "model": weights,
            "metric": METRIC,
            "value": value,
            "low": low,
            "high": high,
            "n": len(part.bags),
            "n_groups": len(set(part.bags.patients)),
            "seen": SEEN[seen],
        }


def attention(part: Heads, settings: Slides, bench: Bench) -> bytes:
    """Returns the first held-out slide with its attention as PNG; it shows tiles, so it stays in the study's folder."""
    pooling = next((p for p in settings.poolings if p in ("attention", "gated")), settings.poolings[0])
    cells = folder(bench.out, part.one.name) / "cells" / f"slides_{pooling}" / "trained"
    stored = json.loads((cells / f"seed{settings.seeds[0]}-fold0.json").read_text(encoding="utf-8"))["result"]
    result, buffer = FoldResult.from_json(stored), io.BytesIO()
    slide = int(result.slides_S[0])
    rows = part.bags.order_N[part.bags.rows(slide)]
    weights_T = result.attention_N[: len(rows)]
    if len(weights_T):
        title = f"{part.bags.slides[slide]}, {pooling}"
        heatmap.on_tiles(part.labelled.tiles_NHWC[rows], weights_T, title=title).save(buffer, "PNG")
    return buffer.getvalue()


LIMITS = (
    "Intervals of values are over patients for these heads, those of differences over seeds, too. How far seeds alone lie apart is told by "
    "by_seed in results.json, in the study's folder; so few seeds tell it roughly.",
    "Random weights are one draw; another draw is not in the intervals.",
    "Few slides: only large differences could show, see the last column of the tables.",
    "A cut is chosen on the tiles that it is scored on; its score on others will be a little lower.",
)
