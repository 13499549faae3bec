"""Tiles from a dataset repository: the bytes it holds, its words for classes and splits, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histozoo.errors import ResourceError, UsageError
from histozoo.prepare import from_hub
from histozoo.prepare.engine import prepare
from histozoo.prepare.rules import Whole
from histozoo.tasks import TASKS
from tests.fakes import layouts
from tests.fakes.tiles import draw_tile

datasets = pytest.importorskip("datasets")


def encoded(kind: int, seed: int, form: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(draw_tile(np.random.default_rng(seed), 48, kind)).save(data, form)
    return data.getvalue()


def write_repository(
    folder: Path, *, names: tuple[str, ...] = ("Tumour", "stroma"), **columns: Any
) -> dict[str, list[bytes]]:
    """A repository of Parquet files, as the Hub's own converter lays them out; the order of its classes is not ours."""
    stored = {}
    for split, n in (("train", 6), ("test", 4)):
        tiles = [encoded(i % 2, 10 * n + i, "PNG" if i % 3 else "JPEG") for i in range(n)]
        rows = {
            "image": [{"bytes": tile, "path": None} for tile in tiles],
            "label": [(i + 1) % 2 for i in range(n)],
            **{key: [f"{value}{i // 2}" for i in range(n)] for key, value in columns.items()},
        }
        kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
        kinds |= {key: datasets.Value("string") for key in columns}
        made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
        (folder / "data").mkdir(parents=True, exist_ok=True)
        made.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
        stored[split] = tiles
    return stored


def task(hub: Path) -> Any:
    return layouts.task(layouts.plan(rule=Whole(), format="keep"), hub=str(hub))


def test_the_bytes_are_those_of_the_repository_and_classes_go_by_word(tmp_path: Path) -> None:
    stored = write_repository(tmp_path / "repository", patient="p")
    ready, source = from_hub.fetch(task(tmp_path / "repository"), tmp_path / "fetched")
    report = prepare(ready, source, tmp_path / "root", workers=0)
    assert (report.n_done, dict(report.splits)) == (10, {"train": 6, "test": 4})
    dataset = ready.load(tmp_path / "root")
    table = (tmp_path / "root" / "synthetic" / "labels.csv").read_text().splitlines()[1:]
    assert len(dataset) == len(table) == 10
    for line in table:
        file, label, group, split = line.split(",")[:4]
        row = int(Path(line.split(",")[4]).stem)
        assert (tmp_path / "root" / "synthetic" / file).read_bytes() == stored[split][row]
        # The repository numbers tumour 0 and stroma 1; ours is the other way round.
        assert (label, group) == (("stroma", "tumour")[row % 2], f"p{row // 2}")


def test_e37_a_copy_without_patients_says_so(tmp_path: Path) -> None:
    write_repository(tmp_path / "repository")
    with pytest.warns(UserWarning, match="HZ-E37 .*each is a group of its own"):
        ready, source = from_hub.fetch(task(tmp_path / "repository"), tmp_path / "fetched")
    assert len(prepare(ready, source, tmp_path / "root", workers=0).groups) == 10


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_repository(tmp_path / "repository", patient="p")
    first = from_hub.fetch(task(tmp_path / "repository"), tmp_path / "fetched")
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert from_hub.fetch(task(tmp_path / "repository"), tmp_path / "fetched")[1] == first[1]


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    write_repository(tmp_path / "repository", names=("tumour", "fat"))
    with pytest.raises(UsageError, match=r"HZ-E34(.|\n)*expected: stroma, tumour(.|\n)*got: +fat"):
        from_hub.fetch(task(tmp_path / "repository"), tmp_path / "fetched")
    assert not (tmp_path / "fetched" / "hub").exists()


def test_a_repository_that_is_not_there_is_an_error_of_the_hub(tmp_path: Path, hub: Any) -> None:
    missing = replace(task(tmp_path), hub="nobody/nothing")
    with pytest.raises(ResourceError, match=r"HZ-B14(.|\n)*nobody/nothing"):
        from_hub.fetch(missing, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists() or not list((tmp_path / "fetched").iterdir())


def test_a_task_without_a_repository_or_with_cut_tiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HZ-U30 no Hub dataset"):
        from_hub.fetch(TASKS["mhist"], tmp_path)
    with pytest.raises(UsageError, match="HZ-U30 the tiles of 'bach_micro' are cut"):
        from_hub.fetch(TASKS["bach_micro"], tmp_path)
