"""Looks as sections of the page: in words, as tables, and the blocks of two models as a picture."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from histozoo.evaluate.compare.looking import Looked, Seen, notes, pivot
from histozoo.evaluate.looks.alike import AND

PLAIN = {
    "cuts": "How much of the network is needed. Each line ends the network after one stage: how many numbers describe a tile then, how "
    "large and how slow that shorter network is, and how well its tiles are told apart. minus_whole is the difference from the whole "
    "network, on the same patients; where its interval lies above -0.02, say, the shorter network loses at most so much.",
    "cka": "How alike the blocks of two networks see the tiles: 1 is the same up to rotation and scale, 0 is unrelated. Two trainings of "
    "one network that differ in their seed are not at 1 either. The interval of blocks of one name is over patients.",
    "invariance": "What turning, mirroring, another stain, a slight blur or saving as JPEG does to features, which leave the diagnosis as "
    "it is. distance: how far the change moves a tile, as a share of how far different tiles lie apart (0 is best). cosine: 1 is unmoved, "
    "but compare it between changes only. retrieved: how often the changed tile is nearest to its own original (1 is best).",
    "corruption": "What damage to the tiles costs, with a classifier that was made on clean ones: corruption_error is the share called "
    "wrongly (each class counting the same), averaged over five degrees of damage; worst_minus_clean is what the worst degree costs.",
    "robustness_index": "Whether biology or the hospital decides which tiles look alike to the network: 1 is biology alone, 0 the "
    "hospital alone; chance is what a network that knows neither would reach.",
}
"""Looks in words for readers who do not compute."""


def section(looked: Looked) -> str:
    """Returns the section of a look; names are escaped."""
    parts = []
    for task in dict.fromkeys(s.task for s in looked.found):
        here = [s for s in looked.found if s.task == task]
        models = dict.fromkeys(s.model for s in here)
        parts += [_table(looked, [s for s in here if s.model == model]) for model in models]
    undefined = "".join(
        f"<p class='dim'>no number: {escape(t)}, {escape(why)}</p>" for t, why in looked.undefined.items()
    )
    plain = f"<p>{escape(PLAIN[looked.protocol])}</p>"
    return (
        f"<section><h2>{escape(looked.protocol.replace('_', ' '))}</h2>{plain}{''.join(parts)}{undefined}"
        "<p class='dim'>In brackets 95&nbsp;% intervals over patients (groups).</p></section>"
    )


def _table(looked: Looked, here: Sequence[Seen]) -> str:
    first = here[0]
    beside = f" beside {escape(looked.first)}" if looked.protocol == "cka" else ""
    said = {"trained on it": ", which was trained on these slides or patients", "unknown": "", "new": ""}
    title = (
        f"<h3>{escape(first.task)}: {escape(first.model)}{beside}, {first.number.n:,} tiles of "
        f"{first.number.n_groups:,} groups{said[first.seen]}</h3>"
    )
    if looked.protocol == "cka":
        data = base64.b64encode(_matrix(looked, here)).decode()
        alt = f"CKA of the blocks of {looked.first} and {first.model} on {first.task}"
        return f"{title}<img src='data:image/png;base64,{data}' alt='{escape(alt)}' style='max-width:100%'>"
    metrics, rows = pivot(here)
    head = "".join(f"<th class='n'>{escape(m.replace('_', ' '))}</th>" for m in metrics)
    body = "".join(
        f"<tr><td>{escape(name or first.model)}</td>{''.join(map(_number, cells))}</tr>"
        for name, cells in rows
    )
    doors = "".join(f"<li>{escape(name)}: {escape(note)}.</li>" for name, note in notes(here))
    listed = f"<ul class='dim'>{doors}</ul>" if doors else ""
    return f"{title}<div class='scroll'><table><tr><th></th>{head}</tr>{body}</table></div>{listed}"


def _number(text: str) -> str:
    return f"<td class='n'>{escape(text)}</td>"


def drawn(looked: Sequence[Looked]) -> dict[str, bytes]:
    """Returns file name -> PNG of every picture that looks have."""
    return {name: data for one in looked if one.protocol == "cka" for name, data in _drawn(one)}


def _drawn(looked: Looked) -> Iterator[tuple[str, bytes]]:
    for task, model in dict.fromkeys((s.task, s.model) for s in looked.found):
        here = [s for s in looked.found if (s.task, s.model) == (task, model)]
        words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"cka-{task}-{model}").strip("-.")
        yield f"{words}.png", _matrix(looked, here)


def _matrix(looked: Looked, here: Sequence[Seen]) -> bytes:
    from histozoo.evaluate.cka import Similarity
    from histozoo.evaluate.cka_picture import picture

    pairs = {tuple(s.number.setting.split(AND)): s.number.value for s in here}
    left, right = (tuple(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    values_LM = np.array([[pairs[a, b] for b in right] for a in left])
    found = Similarity(left=left, right=right, values_LM=values_LM, n=here[0].number.n, unbiased=True)
    buffer = io.BytesIO()
    picture(found, left=looked.first, right=here[0].model, title=here[0].task).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()
