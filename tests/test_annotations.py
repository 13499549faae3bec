"""Annotations: what is as it should be is read exactly; what is not is refused with the file and the line, never repaired or left out."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histozoo.errors import HistozooError, UsageError
from histozoo.prepare.annotations import (
    Line,
    json_file,
    mat,
    points_csv,
    table,
)
from histozoo.prepare.pictures import Thing
from histozoo.prepare.sources import Source, open_source


def holding(folder: Path, **files: str | bytes) -> Source:
    """A source with these files; in names, `_` before the suffix stands for the point."""
    (folder / "set").mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / "set" / ".".join(name.rsplit("_", 1))).write_bytes(data)
    return open_source(folder / "set", scratch=folder / "scratch")


def refused(read: Callable[[], Any]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read()
    assert caught.value.code == "HZ-U73" and caught.value.kept and caught.value.next_step
    return caught.value


# -- tables and points -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_is_read_as_text_with_line_numbers(
    tmp_path: Path, separator: str, mark: str, newline: str
) -> None:
    text = newline.join(["id,label", "007, NA ", "", "1E10,x"]).replace(",", separator)
    source = holding(tmp_path, x_csv=mark + text)
    expected = [Line(2, {"id": "007", "label": "NA"}), Line(4, {"id": "1E10", "label": "x"})]
    assert table(source, "x.csv", needed=("id",)) == expected


@pytest.mark.parametrize(
    ("data", "where", "got"),
    [
        ("id,name\n1,2\n", "x.csv", "id, name"),
        ("id,label,id\n1,2,3\n", "x.csv", "id, label, id"),
        ("", "x.csv", "an empty file"),
        ("id,label\n1,2\n1,2,3\n", "x.csv, line 3", "3"),
        ("id,label\n1\n", "x.csv, line 2", "1"),
        (b"id,label\n\xff,2\n", "x.csv", "invalid start byte"),
        ('id,label\n"1,2\n', "x.csv, line 2", "unexpected end of data"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(
    tmp_path: Path, data: str | bytes, where: str, got: str
) -> None:
    source = holding(tmp_path, x_csv=data)
    error = refused(lambda: table(source, "x.csv", needed=("id", "label")))
    assert error.where == where and got in error.got


def test_points_come_in_order_with_their_kind(tmp_path: Path) -> None:
    source = holding(tmp_path, a_csv="y,x,type\n2,1.5,0\n4,3e1,2\n", b_csv="10,20\n", c_csv="", d_csv="1;1\n")
    kinds = {"0": "nucleus", "2": "mitosis"}
    assert points_csv(source, "a.csv", kind_column="type", kinds=kinds) == (
        Thing(1.5, 2.0, "nucleus"),
        Thing(30.0, 4.0, "mitosis"),
    )
    assert points_csv(source, "a.csv", kind="cell")[1] == Thing(30.0, 4.0, "cell")
    assert points_csv(source, "a.csv", kind_column="type")[1].kind == "2"
    assert points_csv(source, "b.csv", kind="cell", columns=("y", "x")) == (Thing(20.0, 10.0, "cell"),)
    assert points_csv(source, "c.csv", kind="cell", columns=("y", "x")) == ()
    assert points_csv(source, "d.csv", kind="cell", columns=("x", "y"), origin=1, size=(9, 9)) == (
        Thing(0.0, 0.0, "cell"),
    )


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("nan,2,0", "'nan'"),
        ("inf,2,0", "'inf'"),
        ("1,-Infinity,0", "'-Infinity'"),
        ("1,,0", "''"),
        ("one,2,0", "'one'"),
        ('"1,5",2,0', "'1,5'"),
        ("1,2,7", "'7'"),
        ("100,2,0", "x 100, y 2"),
        ("1,80,0", "x 1, y 80"),
        ("-0.5,2,0", "x -0.5, y 2"),
    ],
)
def test_a_point_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str, got: str) -> None:
    source = holding(tmp_path, x_csv=f"x,y,type\n99.9,79.9,0\n{line}\n")
    error = refused(
        lambda: points_csv(source, "x.csv", kind_column="type", kinds={"0": "cell"}, size=(100, 80))
    )
    assert error.where == "x.csv, line 3" and error.got == got


def test_without_a_size_any_point_is_taken(tmp_path: Path) -> None:
    source = holding(tmp_path, x_csv="x,y\n-5,1e6\n")
    assert points_csv(source, "x.csv", kind="cell") == (Thing(-5.0, 1e6, "cell"),)


# -- MATLAB and JSON -------------------------------------------------------------------------------------------------------------------


def saved_mat(arrays: dict[str, Any], **options: Any) -> bytes:
    scipy_io = pytest.importorskip("scipy.io")
    data = io.BytesIO()
    scipy_io.savemat(data, arrays, **options)
    return data.getvalue()


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_matlab_arrays_are_read_as_they_were(tmp_path: Path, options: dict[str, Any]) -> None:
    points = np.array([[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]])
    source = holding(tmp_path, x_mat=saved_mat({"detection": points, "other": np.eye(2)}, **options))
    found = mat(source, "x.mat", keys=("detection",))
    assert list(found) == ["detection"] and np.array_equal(found["detection"], points)


def test_matlab_7_3_has_the_same_axes(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    points = np.arange(6.0).reshape(3, 2)
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["detection"] = points.T  # MATLAB stores columns first
    data = b"MATLAB 7.3 MAT-file".ljust(512) + (tmp_path / "x.h5").read_bytes()[512:]
    found = mat(holding(tmp_path, x_mat=data), "x.mat", keys=("detection",))
    assert np.array_equal(found["detection"], points)
    error = refused(lambda: mat(holding(tmp_path, x_mat=data[:700]), "x.mat", keys=("detection",)))
    assert error.where == "x.mat"


def test_a_matlab_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    whole = saved_mat({"detection": np.arange(9_000.0), "more": np.eye(3)})
    missing = refused(lambda: mat(holding(tmp_path, x_mat=whole), "x.mat", keys=("inst_map", "more")))
    assert (missing.where, missing.expected, missing.got) == ("x.mat", "inst_map", "detection, more")
    for data in (b"", b"x,y\n1,2\n", whole[:60], whole[:130], whole[: len(whole) // 2], bytes(500)):
        source = holding(tmp_path, x_mat=data)
        assert refused(lambda source=source: mat(source, "x.mat", keys=("detection",))).where == "x.mat"  # type: ignore[misc]


def test_no_damage_to_a_matlab_file_is_anything_but_an_error_of_ours(tmp_path: Path) -> None:
    rng = random.Random(2)
    whole = saved_mat({"detection": np.arange(60.0).reshape(30, 2), "kind": ["a", "b"]}, do_compression=True)
    refusals = 0
    for _ in range(200):
        data = bytearray(whole)
        data[rng.randrange(124, len(data))] ^= 1 << rng.randrange(8)
        try:
            mat(holding(tmp_path, x_mat=bytes(data)), "x.mat", keys=("detection",))
        except HistozooError as error:
            assert error.code == "HZ-U73"
            refusals += 1
    assert refusals > 100


def test_scipy_missing_is_said_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = holding(tmp_path, x_mat=saved_mat({"a": np.eye(2)}))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UsageError) as caught:
        mat(source, "x.mat", keys=("a",))
    assert caught.value.code == "HZ-U76" and caught.value.next_step == "pip install 'histozoo[prepare]'"


def test_json_is_read_strictly(tmp_path: Path) -> None:
    source = holding(tmp_path, x_json='\ufeff{"a": [1, 2.5], "b": "ä"}')
    assert json_file(source, "x.json", needed=("a", "b")) == {"a": [1, 2.5], "b": "ä"}
    assert refused(lambda: json_file(source, "x.json", needed=("a", "c"))).expected == "c"


@pytest.mark.parametrize(
    ("data", "got"),
    [
        ("", "line 1 column 1"),
        ('{"a": 1,\n "b": }', "line 2 column 7"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"a": "\xff"}', "invalid start byte"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "list"),
    ],
)
def test_json_that_is_none_is_refused_with_its_place(tmp_path: Path, data: str | bytes, got: str) -> None:
    source = holding(tmp_path, x_json=data)
    error = refused(lambda: json_file(source, "x.json", needed=("a",)))
    assert error.where == "x.json" and got in error.got
