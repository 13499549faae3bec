"""What can be said of a tile without looking at what it shows: its size, its file, its tint, its grain, its edges.

Each number is a statistic; families.py says which belong together, and probe.py asks of each family alone whether it tells the class.
Sizes and encoding carry no tissue at all; bytes, tint, sharpness and edges carry some, next to scanner, stain, crop and resampling.

Shapes: H W pixels, C channels (RGB), 0..255.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

_WHITE, _BLACK, _INK, _FLAT = 230, 12, 60, 1.5
_MODES = ("RGB", "L", "P", "RGBA", "LA", "CMYK")
_DETAIL_PX = 256
_TINT_PX = 96
# Annex K of ITU T.81: the tables that encoders scale by their quality setting; sums suffice to find the setting.
_STANDARD_SUMS = (3688, 5505)


_DARKNESS = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What the header of a stored picture says.

    Args:
        width, height: Pixels.
        bytes: Size of the file.
        format: Pillow's word for the format.
        mode: Pillow's word for the pixels as stored.
        quality, quality_chroma: IJG quality that the quantisation tables correspond to; 0 where the file is no JPEG.
        subsampling: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0, -1 for none or unknown.
        progressive: Whether the JPEG is progressive.
        tables: Sum of the quantisation tables.
        tags: Number of EXIF tags and text comments.
        dpi: Dots per inch, 0 where none are given.
        profile: Bytes of the colour profile.
    """

    width: int
    height: int
    bytes: int
    format: str
    mode: str
    quality: int = 0
    quality_chroma: int = 0
    subsampling: int = -1
    progressive: bool = False
    tables: int = 0
    tags: int = 0
    dpi: float = 0.0
    profile: int = 0


def file_facts(data: bytes) -> FileFacts:
    """Reads the header of a picture; the pixels are decoded elsewhere, strictly.

    Raises:
        OSError: The bytes are no image.
    """
    with Image.open(io.BytesIO(data)) as image:
        tables = list((getattr(image, "quantization", None) or {}).values())
        sums = [sum(table) for table in tables]
        dpi = image.info.get("dpi", (0, 0))
        words = sum(isinstance(value, str) for value in image.info.values()) + ("comment" in image.info)
        return FileFacts(
            width=image.width,
            height=image.height,
            bytes=len(data),
            format=image.format or "",
            mode=image.mode,
            quality=_quality(sums[0], 0) if sums else 0,
            quality_chroma=_quality(sums[-1], 1) if len(sums) > 1 else 0,
            subsampling=_subsampling(image) if sums else -1,
            progressive=bool(image.info.get("progressive")),
            tables=sum(sums),
            tags=len(image.getexif()) + words,
            dpi=round(float(dpi[0]), 1),
            profile=len(image.info.get("icc_profile") or b""),
        )


def _quality(total: int, table: int) -> int:
    """Returns the IJG quality setting whose scaled standard table has this sum; too high below 25, where entries are cut off at 255."""
    scale = 100 * total / _STANDARD_SUMS[table]
    return round(min(100, max(1, 100 - scale / 2 if scale <= 100 else 5000 / scale)))


def _subsampling(image: Image.Image) -> int:
    from PIL import JpegImagePlugin

    return (
        int(JpegImagePlugin.get_sampling(image)) if isinstance(image, JpegImagePlugin.JpegImageFile) else -1
    )


def of_file(facts: FileFacts) -> dict[str, float]:
    """Returns the statistics of a stored picture."""
    return {
        "stored_width": facts.width,
        "stored_height": facts.height,
        "stored_log_area": math.log(facts.width * facts.height),
        "stored_log_aspect": math.log(facts.width / facts.height),
        "jpeg": float(facts.format == "JPEG"),
        "quality": facts.quality,
        "quality_chroma": facts.quality_chroma,
        "quality_exact": facts.tables,
        "subsampling": facts.subsampling,
        "progressive": float(facts.progressive),
        "mode": float(_MODES.index(facts.mode)) if facts.mode in _MODES else -1.0,
        "tags": facts.tags,
        "dpi": facts.dpi,
        "profile": facts.profile,
        "bytes_per_pixel": facts.bytes / (facts.width * facts.height),
    }  # fmt: skip


def of_tile(tile_HWC: NDArray[np.uint8]) -> dict[str, float]:
    """Returns the statistics of a tile's pixels.

    Args:
        tile_HWC: uint8 RGB `[H, W, 3]`, each side at least 8 px.
    """
    height, width = tile_HWC.shape[:2]
    grey_HW = _grey(tile_HWC)
    return {
        "width": width,
        "height": height,
        "log_area": math.log(width * height),
        "log_aspect": math.log(width / height),
        **_tint(tile_HWC),
        **_sharpness(_middle(grey_HW)),
        **_edges(tile_HWC, grey_HW),
    }


def _grey(tile_HWC: NDArray[np.uint8]) -> Floats:
    """Returns the luma of ITU-R BT.601 in whole grey levels, computed in integers because that is three times as fast."""
    red, green, blue = (tile_HWC[:, :, c].astype(np.uint16) for c in range(3))
    return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.float32)


def _tint(tile_HWC: NDArray[np.uint8]) -> dict[str, float]:
    # About 96 x 96 pixels, evenly spread, give means to a fraction of a grey level.
    step = max(1, min(tile_HWC.shape[:2]) // _TINT_PX)
    pixels_CP = np.ascontiguousarray(tile_HWC[::step, ::step].reshape(-1, 3).T)
    mean_C, sd_C = pixels_CP.mean(1), pixels_CP.std(1)
    high_P, low_P = pixels_CP.max(0).astype(np.float32), pixels_CP.min(0)
    # The hue of what is not glass, as the share of each channel in the light taken away (Beer and Lambert).
    stained_P = low_P < _WHITE
    dark_C = _DARKNESS[pixels_CP[:, stained_P]].mean(1) if stained_P.any() else np.ones(3)
    share_C = dark_C / max(float(dark_C.sum()), 1e-6)
    return {
        **dict(zip(("red", "green", "blue"), mean_C.tolist(), strict=True)),
        **dict(zip(("red_sd", "green_sd", "blue_sd"), sd_C.tolist(), strict=True)),
        "brightness": float(mean_C @ (0.299, 0.587, 0.114)),
        "saturation": float(((high_P - low_P) / np.maximum(high_P, 1)).mean()),
        "white": 1 - float(stained_P.mean()),
        "stain_red": float(share_C[0]),
        "stain_blue": float(share_C[2]),
    }


def _middle(grey_HW: Floats) -> Floats:
    """Returns the central part, large enough to judge the grain; its corner lies on the 8 px grid of JPEG."""
    height, width = grey_HW.shape
    top, left = (max(0, side - _DETAIL_PX) // 16 * 8 for side in (height, width))
    return grey_HW[top : top + _DETAIL_PX, left : left + _DETAIL_PX]


def _sharpness(grey_HW: Floats) -> dict[str, float]:
    across, down = np.abs(np.diff(grey_HW, axis=1)), np.abs(np.diff(grey_HW, axis=0))
    even = grey_HW[: grey_HW.shape[0] // 2 * 2, : grey_HW.shape[1] // 2 * 2]
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    finest, half = np.abs(a - b - c + d) / 2, (a + b + c + d) / 4
    coarser = (
        np.abs(half[:-1:2, :-1:2] - half[:-1:2, 1::2][:, : half[:-1:2, :-1:2].shape[1]])
        if min(half.shape) > 3
        else finest
    )
    curve = np.diff(grey_HW, n=2, axis=1)
    return {
        "detail": math.log(float(across.mean() + down.mean()) + 0.1),
        "fine_share": math.log((float(finest.mean()) + 0.05) / (float(coarser.mean()) + 0.05)),
        "noise": math.log(float(np.median(finest)) + 0.1),
        "direction": math.log((float(across.mean()) + 0.1) / (float(down.mean()) + 0.1)),
        "blockiness": max(_blockiness(across), _blockiness(down.T)),
        "grid": _phase(across) + _phase(down.T),
        "ringing": _correlation(curve[:, :-2].ravel(), curve[:, 2:].ravel()),
    }  # fmt: skip


def _steps(steps_HW: Floats) -> Floats:
    """Returns the mean step at each of the eight positions modulo 8."""
    columns = steps_HW.mean(axis=0)
    return np.array([columns[k::8].mean() if len(columns) > k else columns.mean() for k in range(8)], dtype=np.float32)  # fmt: skip


def _blockiness(steps_HW: Floats) -> float:
    """Returns the log of the largest step modulo 8 over the median one: above 0 where a JPEG grid shows."""
    steps_8 = _steps(steps_HW)
    return math.log((float(steps_8.max()) + 0.1) / (float(np.median(steps_8)) + 0.1))


def _phase(steps_HW: Floats) -> float:
    """Returns 1 where the largest step lies on the tile's own grid of 8 px; an earlier grid, cut since, lies elsewhere."""
    return float(int(_steps(steps_HW).argmax()) == 7)


def _correlation(a: Floats, b: Floats) -> float:
    power = float(a @ a) * float(b @ b)
    return float(float(a @ b) / math.sqrt(power)) if power > 0 else 0.0


def _edges(tile_HWC: NDArray[np.uint8], grey_HW: Floats) -> dict[str, float]:
    strip = max(2, min(grey_HW.shape) // 24)
    parts = (tile_HWC[:strip], tile_HWC[-strip:], tile_HWC[:, :strip], tile_HWC[:, -strip:])
    border_PC = np.concatenate([part.reshape(-1, 3) for part in parts])
    sides = [grey_HW, grey_HW[::-1], grey_HW.T, grey_HW.T[::-1]]
    return {
        "black_edge": float((border_PC.max(1) <= _BLACK).mean()),
        "white_edge": float((border_PC.min(1) >= 255 - _BLACK // 2).mean()),
        "repeated_edge": max(_repeated(side, strip) for side in sides),
        "flat_edge": sum(float(side[0].std() < _FLAT) for side in sides),
        "ink_run": max(_ink(side) for side in (grey_HW, grey_HW[::-1])),
    }


def _repeated(side_HW: Floats, strip: int) -> float:
    """Returns how much less neighbouring lines differ at the edge than a little inside, in [0, 1]: 1 where one line is repeated."""
    steps = np.abs(np.diff(side_HW[: 6 * strip], axis=0)).mean(axis=1)
    inside = float(np.median(steps[strip:])) if len(steps) > strip else 0.0
    return max(0.0, 1 - float(steps[:strip].mean()) / inside) if inside > 0.5 else 0.0


def _ink(side_HW: Floats) -> float:
    """Returns the longest level run of pure black or white that stands out from below, in the upper fifth, as a share of the width.

    A burnt-in scale bar or a line of text gives such a run; tissue and glass rarely do, because their edges are neither level nor pure.
    """
    deep = max(3, side_HW.shape[0] // 5)
    zone, gap = side_HW[:deep], max(3, side_HW.shape[0] // 40)
    pure = (zone <= _BLACK) | (zone >= 255 - _BLACK // 2)
    stands_out = np.zeros_like(pure)
    stands_out[:-gap] = np.abs(zone[:-gap] - zone[gap:]) > _INK
    return _run(pure & stands_out) / int(side_HW.shape[1])


def _run(true_HW: NDArray[np.bool_]) -> int:
    """Returns the length of the longest unbroken row of true values."""
    padded = np.pad(true_HW, ((0, 0), (1, 1))).ravel()
    turns = np.flatnonzero(np.diff(padded.astype(np.int8)))
    return int((turns[1::2] - turns[::2]).max()) if len(turns) else 0
