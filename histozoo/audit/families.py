"""The statistics of statistics.py by their cause, and how sentences and drawings name them. Standard library only."""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, ...]] = {
    "size": ("width", "height", "log_area", "log_aspect"),
    "stored": ("stored_width", "stored_height", "stored_log_area", "stored_log_aspect"),
    "encoding": ("jpeg", "quality", "quality_chroma", "quality_exact", "subsampling", "progressive", "mode", "tags", "dpi", "profile"),
    "bytes": ("bytes_per_pixel",),
    "tint": (
        *("red", "green", "blue", "red_sd", "green_sd", "blue_sd"),
        *("brightness", "saturation", "white", "stain_red", "stain_blue"),
    ),
    "sharpness": ("detail", "fine_share", "noise", "direction", "blockiness", "grid", "ringing"),
    "edges": ("black_edge", "white_edge", "repeated_edge", "flat_edge", "ink_run"),
}  # fmt: skip
"""Family -> its statistics. `stored` is the file a tile is cut from; it is asked only where tiles are cut."""

TITLES = {
    "width": "width in px",
    "height": "height in px",
    "log_area": "log of the area",
    "log_aspect": "log of width over height",
    "stored_width": "stored width, px",
    "stored_height": "stored height, px",
    "stored_log_area": "log of the stored area",
    "stored_log_aspect": "log of stored width over height",
    "jpeg": "JPEG or not",
    "quality": "JPEG quality",
    "quality_chroma": "JPEG quality of the colour",
    "quality_exact": "sum of the JPEG tables",
    "subsampling": "JPEG colour subsampling",
    "progressive": "progressive JPEG or not",
    "mode": "pixel mode",
    "tags": "number of EXIF tags and comments",
    "dpi": "dots per inch",
    "profile": "bytes of the colour profile",
    "bytes_per_pixel": "bytes per pixel",
    "red": "mean red, 0 to 255",
    "green": "mean green, 0 to 255",
    "blue": "mean blue, 0 to 255",
    "red_sd": "spread of red within a tile",
    "green_sd": "spread of green within a tile",
    "blue_sd": "spread of blue within a tile",
    "brightness": "brightness",
    "saturation": "saturation",
    "white": "share of glass",
    "stain_red": "stain hue, share of red",
    "stain_blue": "stain hue, share of blue",
    "detail": "detail, log contrast",
    "fine_share": "finest detail, log share",
    "noise": "pixel noise, log",
    "direction": "detail across over down, log",
    "blockiness": "JPEG blocks that show, log",
    "grid": "JPEG blocks on the tile's own grid, 0 to 2 directions",
    "ringing": "ringing beside edges",
    "black_edge": "share of black at the border",
    "white_edge": "share of white at the border",
    "repeated_edge": "repeated lines at the border, 0 to 1",
    "flat_edge": "sides of one colour, 0 to 4",
    "ink_run": "longest level bar of ink, share of the width",
}
"""Statistic -> how people read it."""

WORDS = {
    "size": "pixel size",
    "stored": "the size of the stored picture, which the task cuts,",
    "encoding": "the encoding of the file",
    "bytes": "bytes per pixel",
    "tint": "colour",
    "sharpness": "sharpness and grain",
    "edges": "border and corners",
}
"""Family -> how a sentence names it."""

TISSUE_FREE = ("size", "stored", "encoding")
"""Families that say nothing of the tissue; the others say something of it, next to scanner, stain, crop and resampling."""
