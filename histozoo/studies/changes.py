"""What fine-tuning changes in a trunk: CKA of its blocks, frozen against fine-tuned, beside that of two seeds.

Shapes: N tiles, S slides.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from histozoo import durable
from histozoo.evaluate.encoders import digest
from histozoo.evaluate.looks.alike import AND
from histozoo.evaluate.resampling import Ints
from histozoo.studies.document import Plot, Section, Table
from histozoo.studies.folder import Bench
from histozoo.studies.heads import Heads, pixels, word
from histozoo.studies.outcome import SEEN, spelled
from histozoo.studies.settings import Slides

_DECIDE = (
    "seed",
    "folds",
    "epochs",
    "select",
    "standardise",
    "top_k",
    "tuned_pooling",
    "tuning_epochs",
    "tuning_lr",
    "choosers",
)
"""Settings that decide the fine-tuned trunks; a model that joins the study changes none of them."""

METRIC = "linear_cka"

_INTERVALS = "jackknife on Fisher's z"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """Which blocks fine-tuning moved by more than two seeds lie apart; `rows` are records of results.csv."""

    seen: bool | None
    section: Section
    rows: tuple[dict[str, Any], ...]
    facts: dict[str, Any]


def changed(part: Heads, settings: Slides, bench: Bench) -> Changed:
    """Returns CKA of frozen and fine-tuned blocks on the slides of fold 0, which fine-tuning did not see, beside that of two seeds."""
    facts = _changes(part, settings, bench)
    lines = tuple(
        (
            c["block"],
            *(spelled(c[k]["value"], c[k]["low"], c[k]["high"]) for k in ("cka", "ceiling")),
            spelled(c["difference"]["value"], c["difference"]["low"], c["difference"]["high"], signed=True),
            "yes" if c["difference"]["high"] < 0 else "not shown",
        )
        for c in facts["changes"]
    )
    head = (
        "block",
        "CKA, frozen and fine-tuned",
        "CKA of two seeds",
        "difference",
        "changed more than seeds differ",
    )
    said = (
        f"Linear CKA, unbiased, on {facts['tiles']:,} tiles of {facts['patients']} held-out patients; 1 is the same up to "
        f"rotation and scale. Intervals are 95 % over patients, by a jackknife (of a CKA on Fisher's z, of a difference on its own scale), "
        f"of each block by itself: of several blocks one may be out by chance."
    )
    marked = part.seen is True
    plot = Plot(
        f"{'marked-' * marked}cka-{word(part.one.name)}.png",
        _picture(facts),
        "CKA of blocks, frozen against fine-tuned",
    )
    title = f"What fine-tuning changes in {part.one.name}"
    return Changed(
        seen=part.seen,
        section=Section(title, (said, Table(head, lines), plot), marked=marked),
        rows=tuple(_rows(part, facts)),
        facts=facts,
    )


def _rows(part: Heads, facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Gives what the picture shows, a pair of blocks a record, and for pairs of the same block the interval and how two seeds compare."""
    same = {
        "part": "marked" if part.seen is True else "clean",
        "task": part.labelled.task,
        "lineage": part.labelled.lineage,
        "metric": METRIC,
        "n": facts["tiles"],
        "n_groups": facts["patients"],
        "seen": SEEN[part.seen],
    }
    name = part.one.name
    tuned, seeds = f"{name}, frozen and fine-tuned", f"{name}, two seeds of fine-tuning"
    left, right = facts["blocks"]
    for i, j in product(range(len(left)), range(len(right))):
        if left[i] != right[j]:
            yield {
                **same,
                "setting": f"{left[i]}{AND}{right[j]}",
                "model": tuned,
                "value": facts["values"][i][j],
            }
    for c in facts["changes"]:
        of = {**same, "setting": f"{c['block']}{AND}{c['block']}"}
        yield {**of, "model": tuned, **_ends(c["cka"])}
        yield {**of, "model": seeds, **_ends(c["ceiling"])}
        yield {**of, "model": tuned, "minus": seeds, **_ends(c["difference"])}


def _ends(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: found[name] for name in ("value", "low", "high")}


def _changes(part: Heads, settings: Slides, bench: Bench) -> dict[str, Any]:
    from histozoo.evaluate import cka
    from histozoo.evaluate.blocks import block_features
    from histozoo.evaluate.cka_intervals import changes
    from histozoo.evaluate.slides.crossval import slide_folds

    known = {"bags": part.bags.fingerprint, **{name: getattr(settings, name) for name in _DECIDE}}
    # Other intervals are computed anew, from the same trunks.
    path = bench.out / "cka" / f"{digest({**known, 'intervals': _INTERVALS})[:16]}.json"
    trunks = bench.out / "cka" / digest(known)[:16]
    if path.is_file():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return stored
    bags, one = part.bags, part.one
    fold_S = slide_folds(bags, folds=settings.folds, seed=settings.seed)
    rows = np.flatnonzero(np.isin(bags.slide_N, np.flatnonzero(fold_S == 0)))
    tiles_NHWC = part.labelled.tiles_NHWC[bags.order_N[rows]]
    patients_N = np.asarray(bags.patients)[bags.slide_N[rows]]
    before = one.block_features(tiles_NHWC, device=bench.device)
    after = []
    for seed in (settings.seed, settings.seed + 1):
        model = _tuned(part, settings, bench, fold_S, seed, run=trunks.with_suffix(f".seed{seed}"))
        after.append(block_features(model, tiles_NHWC, mean=one.mean, std=one.std))
    found = cka.similarity([before], [after[0]])
    facts = {
        "model": one.name,
        "tiles": len(rows),
        "patients": len(set(patients_N.tolist())),
        "blocks": [list(found.left), list(found.right)],
        "values": found.values_LM.tolist(),
        "changes": [
            {"block": c.block, **{k: asdict(getattr(c, k)) for k in ("cka", "ceiling", "difference")}}
            for c in changes(before, after[0], after[1], patients_N)
        ],
    }
    durable.write_json(path, facts)
    return facts


def _tuned(part: Heads, settings: Slides, bench: Bench, fold_S: Ints, seed: int, *, run: Path) -> Any:
    from histozoo.evaluate.slides.model import Settings
    from histozoo.evaluate.slides.topk import tune_fold

    assert part.tuning is not None
    bench.say(f"{part.one.name}: fine-tuning for CKA, seed {seed}")
    head = Settings(
        pooling=settings.tuned_pooling,  # type: ignore[arg-type]  # checked when the file was read
        epochs=settings.epochs,
        select=settings.select,  # type: ignore[arg-type]
        standardise=settings.standardise,
    )
    return tune_fold(
        part.bags,
        pixels(part.one, part.labelled),
        fold_S,
        0,
        settings=head,
        tuning=part.tuning,
        seed=seed,
        run=run,
        device=bench.device,
    ).model


def _picture(facts: Mapping[str, Any]) -> bytes:
    from histozoo.evaluate.cka import Similarity
    from histozoo.evaluate.cka_picture import picture

    left, right = (tuple(names) for names in facts["blocks"])
    found = Similarity(
        left=left, right=right, values_LM=np.array(facts["values"]), n=facts["tiles"], unbiased=True
    )
    buffer = io.BytesIO()
    picture(found, left="frozen", right="fine-tuned", title=str(facts["model"])).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()
