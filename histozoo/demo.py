"""The first thing a user sees: a folder of tiles, embedded, and for every tile those that its features call nearest.

Writes features, a report, `neighbours.png` and a self-contained `neighbours.html` into one folder. Legend: N tiles, D features.
"""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from histozoo import durable, embed, feature_files, registry
from histozoo.embed import Progress
from histozoo.errors import UsageError
from histozoo.feature_files import Features, Report

NEIGHBOURS = 5
"""Neighbours shown per tile."""
THUMB_PX = 112
_INK, _FAINT, _PAPER, _RULE = "#1d1d24", "#6b6b76", "#ffffff", "#dfdfe6"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the demo made."""

    report: Report
    features: Path
    picture: Path
    page: Path
    feature_dim: int
    seconds: float

    def lines(self) -> list[str]:
        """Returns what to tell the user, a line each."""
        made = self.report.made_by
        return [
            f"{self.report.n_done} tiles -> {self.report.n_done} x {self.feature_dim} features in {self.seconds:.1f} s",
            f"  model     {made['model']} (sha256 {str(made['sha256'])[:16]}...)",
            f"  features  {self.features}",
            f"  picture   {self.picture}",
            f"  page      {self.page}",
        ]


def run(
    out: str | Path,
    *,
    tiles: str | Path | None = None,
    model: str | None = None,
    progress: Progress | None = None,
) -> Shown:
    """Embeds `tiles` into the folder `out` and draws every tile's nearest neighbours there; old results are replaced.

    Args:
        out: Folder for the results.
        tiles: Folder of tiles; the shipped examples where left out.
        model: Name or bundle folder; the first model whose weights lie in the package where left out.
        progress: Called with the numbers of tiles handled and of all.

    Raises:
        UsageError: `HZ-U67`, no tiles are shipped here or no model is embedded; or as `embed` says.
        RejectedInputs: Some tiles cannot be read.
        ResourceError: `HZ-F42`, the folder cannot be made or written.
    """
    started = time.perf_counter()
    folder = Path(tiles) if tiles else example_tiles()
    target = Path(out) / "features.safetensors"
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        raise durable.resource_error(target, 0, error) from error
    report = embed.embed(folder, target, model=model or embedded_model(), progress=progress)
    features = feature_files.read(target)
    order_NK, similarity_NK = neighbours(features.features_ND, k=NEIGHBOURS)
    thumbs = [thumbnail(folder / name) for name in features.names]
    picture, page = target.with_name("neighbours.png"), target.with_name("neighbours.html")
    durable.write_bytes(picture, _png(draw(features, thumbs, order_NK, similarity_NK)))
    durable.write_text(page, write_page(features, thumbs, order_NK, similarity_NK))
    seconds = time.perf_counter() - started
    dim = features.features_ND.shape[1]
    return Shown(report=report, features=target, picture=picture, page=page, feature_dim=dim, seconds=seconds)


def example_tiles() -> Path:
    """Returns the folder of tiles that are shipped: in an installed package beside the code, in a clone under examples/.

    Raises:
        UsageError: `HZ-U67`, neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "example_tiles", package.parent / "examples" / "tiles"):
        if folder.is_dir():
            return folder
    raise UsageError(
        "HZ-U67",
        "no example tiles are shipped with this installation",
        next_step="name a folder of images: --tiles FOLDER",
    )


def embedded_model() -> str:
    """Returns the first model whose weights lie beside its entry, so that no network is needed.

    Raises:
        UsageError: `HZ-U67`, there is none.
    """
    for name in registry.list_models():
        if registry.entry(name).weights.embedded:
            return name
    raise UsageError(
        "HZ-U67",
        "no model of the zoo has its weights in the package",
        next_step="name one: --model NAME or a bundle folder",
    )


def neighbours(features_ND: NDArray[np.float32], *, k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns for every row the indices `[N, k]` of the nearest other rows, nearest first, and their cosine similarities `[N, k]`.

    Features are centred first: what all tiles share says nothing about which of them are alike. Fewer than k other rows give fewer columns.
    """
    centred_ND = features_ND - features_ND.mean(axis=0)
    unit_ND = centred_ND / np.maximum(np.linalg.norm(centred_ND, axis=1, keepdims=True), 1e-12)
    cosine_NN = unit_ND @ unit_ND.T
    np.fill_diagonal(cosine_NN, -np.inf)
    order_NK = np.argsort(-cosine_NN, axis=1, kind="stable")[:, : min(k, len(cosine_NN) - 1)]
    return order_NK, np.take_along_axis(cosine_NN, order_NK, axis=1)


def thumbnail(path: Path) -> Image.Image:
    """Returns the central square of a tile, `THUMB_PX` on a side, RGB."""
    from histozoo.data import decoding

    image = decoding.decode(path)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize(
        (THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS
    )


def draw(
    features: Features,
    thumbs: Sequence[Image.Image],
    order_NK: NDArray[np.intp],
    similarity_NK: NDArray[np.float32],
) -> Image.Image:
    """Returns the picture: two columns of rows, each a tile, a rule, and its neighbours with their similarity below."""
    gap, head, foot, scale = 10, 76, 18, 1
    cell = THUMB_PX + gap
    rows = -(-len(thumbs) // 2)
    block = cell * (order_NK.shape[1] + 1) + 3 * gap
    size = (2 * block + 5 * gap, head + rows * (cell + foot) + 2 * gap)
    canvas = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    title, small = ImageFont.load_default(22 * scale), ImageFont.load_default(12 * scale)
    pen.text((2 * gap, gap + 4), "Every tile and its nearest neighbours", fill=_INK, font=title)
    pen.text((2 * gap, gap + 36), _subtitle(features), fill=_FAINT, font=small)
    for row, (thumb, near, values) in enumerate(zip(thumbs, order_NK, similarity_NK, strict=True)):
        x = 2 * gap + (row // rows) * (block + gap)
        y = head + (row % rows) * (cell + foot)
        canvas.paste(thumb, (x, y))
        pen.rectangle((x - 2, y - 2, x + THUMB_PX + 1, y + THUMB_PX + 1), outline=_INK, width=2)
        x += cell + gap
        pen.line((x, y, x, y + THUMB_PX), fill=_RULE, width=2)
        for column, (index, value) in enumerate(zip(near, values, strict=True)):
            left = x + gap + column * cell
            canvas.paste(thumbs[index], (left, y))
            pen.text(
                (left + THUMB_PX / 2, y + THUMB_PX + 3), f"{value:.2f}", fill=_FAINT, font=small, anchor="ma"
            )
    return canvas


def write_page(
    features: Features,
    thumbs: Sequence[Image.Image],
    order_NK: NDArray[np.intp],
    similarity_NK: NDArray[np.float32],
) -> str:
    """Returns the same as one HTML page with every image inside it; names are escaped."""
    pictures = [f"data:image/png;base64,{base64.b64encode(_png(t)).decode()}" for t in thumbs]
    names = [html.escape(name, quote=True) for name in features.names]
    # Each picture is in the page once, as a CSS class, however often it is shown.
    classes = "\n".join(f".t{i}{{background-image:url({picture})}}" for i, picture in enumerate(pictures))
    rows = "\n".join(
        f'<section><figure class="query"><div class="t{i}" title="{names[i]}"></div><figcaption>{names[i]}</figcaption></figure>'
        + "".join(_figure(int(j), names[j], float(v)) for j, v in zip(near, values, strict=True))
        + "</section>"
        for i, (near, values) in enumerate(zip(order_NK, similarity_NK, strict=True))
    )
    return _PAGE.format(px=THUMB_PX, classes=classes, subtitle=html.escape(_subtitle(features)), rows=rows)


def _figure(index: int, name: str, similarity: float) -> str:
    return f'<figure><div class="t{index}" title="{name}"></div><figcaption>{similarity:.2f}</figcaption></figure>'


def _subtitle(features: Features) -> str:
    made: dict[str, Any] = features.made_by
    n, d = features.features_ND.shape
    return f"{n} tiles, {d} features each, by {made['model']}. Numbers: cosine similarity of centred features. No measurement."


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>histozoo: nearest neighbours</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #1d1d24; background: #fff; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin: 0 }} p {{ color: #6b6b76; margin: .25rem 0 1.5rem }}
section {{ display: flex; flex-wrap: wrap; gap: 10px; padding: 10px 0; border-top: 1px solid #dfdfe6 }}
figure {{ margin: 0; width: {px}px }} figure div {{ width: {px}px; height: {px}px; border-radius: 4px }}
figcaption {{ font-size: 12px; color: #6b6b76; text-align: center; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }}
.query {{ padding-right: 14px; margin-right: 4px; border-right: 2px solid #dfdfe6 }} .query div {{ outline: 2px solid #1d1d24 }}
{classes}
</style></head><body>
<h1>Every tile and its nearest neighbours</h1>
<p>{subtitle}</p>
{rows}
</body></html>
"""
