"""A tiny LC25000: JPEG images of five classes, every two of them of one photograph, and the published list of groups."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.datasets.pieces import csv_file, picture

FOLDERS = {
    "lung_aca": "lungaca",
    "lung_n": "lungn",
    "lung_scc": "lungscc",
    "colon_aca": "colonca",
    "colon_n": "colonn",
}
HEADER = ("stem", "filename", "label", "tissue", "local_cluster_label", "group_id")


def write(folder: Path, *, seed: int = 0, n: int = 4) -> dict[str, str]:
    """Writes `n` images of each class; returns the photograph of each file."""
    rows, photographs = [], {}
    for number, (word, stem) in enumerate(FOLDERS.items()):
        tissue = word.split("_")[0]
        for i in range(n):
            name, group = f"{stem}{i + 1}.jpeg", 100 * number + i // 2
            picture(folder / f"lung_colon_image_set/{tissue}_image_sets/{word}/{name}", seed + group, 48, 48)
            rows.append((f"{stem}{i + 1}", name, word, tissue, i // 2, group))
            photographs[name] = f"photograph-{group}"
    csv_file(folder / "lc25000_image_groups.csv", [HEADER, *rows])
    return photographs
