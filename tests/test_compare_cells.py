"""A stored prediction comes back as it was, lies under everything that decides it, and is not believed when a bit of it has changed."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo.errors import IntegrityError
from histozoo.evaluate import logistic
from histozoo.evaluate.compare import cells
from histozoo.evaluate.protocol import Predictions
from tests.fakes.compared import known, labelled

FACTS = {"seconds": 1.5, "settings": [1.0], "shots": [{"shots": 1, "mean": 0.5}]}


def predictions(n: int = 40) -> Predictions:
    random = np.random.default_rng(0)
    rows_N = random.permutation(n)
    return Predictions(
        rows_N=rows_N,
        guesses_N=random.integers(0, 2, n),
        fold_N=random.integers(0, 5, n),
        c_F=(0.1, 10.0),
        scores_NK=random.random((n, 2), dtype=np.float32),
        probabilities=True,
    )


def test_what_was_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    path, wanted = tmp_path / "one.safetensors", predictions()
    cells.save(path, wanted, FACTS)
    found, facts = cells.read(path)
    assert facts == FACTS
    for field in dataclasses.fields(Predictions):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        assert np.array_equal(ours, theirs), field.name
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype


def test_i75_no_changed_byte_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    cells.save(path, predictions(), FACTS)
    data = path.read_bytes()
    for place in range(0, len(data), 37):
        changed = bytearray(data)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(IntegrityError, match="HZ-I75") as caught:
            cells.read(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize("size", [0, 7, 200])
def test_i75_a_file_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "one.safetensors"
    cells.save(path, predictions(), FACTS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(IntegrityError, match="HZ-I75"):
        cells.read(path)


def test_i75_a_file_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    cells.save(tmp_path / "one.safetensors", predictions(), FACTS)
    (tmp_path / "one.safetensors").rename(tmp_path / "two.safetensors")
    with pytest.raises(IntegrityError, match="the file one under another name"):
        cells.read(tmp_path / "two.safetensors")


def test_rows_of_a_cell_stand_in_the_order_of_the_task() -> None:
    task, found = labelled("drawn_one"), predictions()
    cell = cells.cell(known("noise"), task, found, model="noise", protocol="knn", seed=0, facts={})
    np.testing.assert_array_equal(cell.labels_N, task.labels_N)
    np.testing.assert_array_equal(cell.groups_N, task.groups_N)
    np.testing.assert_array_equal(cell.scores_NK[found.rows_N], found.scores_NK)


def test_predictions_of_another_solver_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    task = labelled("drawn_one")

    def places() -> list[str]:
        of = functools.partial(cells.key, known("noise"), task, seed=0)
        return [of(protocol="logistic"), of(protocol="knn")]

    before = places()
    monkeypatch.setattr(logistic, "VERSION", logistic.VERSION + 1)
    after = places()
    assert after[0] != before[0] and after[1] == before[1]


def test_whatever_decides_predictions_decides_their_place() -> None:
    task = labelled("drawn_one")
    given: dict[str, Any] = {"protocol": "knn", "seed": 0, "settings": None}
    swapped = dataclasses.replace(task, labels_N=1 - task.labels_N)
    merged = dataclasses.replace(task, groups_N=np.where(task.groups_N == "g001", "g000", task.groups_N))
    places = [
        cells.key(known("noise"), task, **given),
        cells.key(known("other"), task, **given),
        cells.key(known("noise"), labelled("drawn_one", seed=1), **given),
        cells.key(known("noise"), swapped, **given),
        cells.key(known("noise"), merged, **given),
        cells.key(known("noise"), task, **given | {"protocol": "logistic"}),
        cells.key(known("noise"), task, **given | {"seed": 1}),
        cells.key(known("noise"), task, **given | {"settings": ["small", 0.1, 0]}),
    ]
    assert len(set(places)) == len(places)
    renamed = dataclasses.replace(known("noise"), name="typed otherwise")
    assert cells.key(renamed, task, **given) == places[0]
