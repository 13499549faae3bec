"""The datasets of the multi-task paper: each with its task, its layout and its fake."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histozoo.prepare.pictures import Layout, Marks, Picture, Size
from histozoo.prepare.plan import Cut, Preparation
from histozoo.prepare.sources import Source, open_source
from histozoo.tasks.base import Task
from tests.fakes.datasets.drawing import Fact


class Case(NamedTuple):
    """A dataset.

    Args:
        task: Its task.
        layout: The layout that the task must use.
        write: Writes the fake; returns what is known of each picture.
        arguments: What `write` is given so that the fake's marks give tiles of every class.
    """

    task: Task
    layout: Layout
    write: Callable[..., dict[str, Fact]]
    arguments: dict[str, Any]

    @property
    def plan(self) -> Preparation:
        """How the task is prepared."""
        assert self.task.preparation is not None
        return self.task.preparation


def _case(
    task: str, module: str, *, layout: str = "LAYOUT", write: str = "write", **arguments: Any
) -> tuple[str, Case]:
    declared = importlib.import_module(f"histozoo.tasks.{task}").TASK
    layouts = importlib.import_module(f"histozoo.prepare.layouts.{module}")
    fake = importlib.import_module(f"tests.fakes.datasets.{module}")
    return task, Case(declared, getattr(layouts, layout), getattr(fake, write), arguments)


CASES = dict(
    (
        _case("mitos_atypia14", "mitos_atypia14", size=(1539, 1376)),
        _case("warwick_crc", "crchistophenotypes", size=(500, 500)),
        _case(
            "janowczyk1_nuclei",
            "janowczyk",
            layout="NUCLEI",
            write="write_nuclei",
            size=(500, 250),
            block=(126, 25),
        ),
        _case(
            "janowczyk2_epithelium",
            "janowczyk",
            layout="EPITHELIUM",
            write="write_epithelium",
            size=(400, 200),
            block=(90, 90),
        ),
        _case("janowczyk5_mitosis", "janowczyk_mitosis"),
        _case("janowczyk6_idc", "janowczyk_idc"),
        _case("janowczyk7_lymphoma", "lymphoma", size=(400, 384)),
        _case("stroma_lbp", "stroma_lbp"),
        _case("tupac16_mitosis", "tupac16_mitosis"),
        _case("bach_micro", "bach", size=(1024, 512)),
        _case("camelyon16", "camelyon16", size=(1536, 768)),
        _case("umcm_kather2016", "kather2016"),
        _case("bone_marrow_kainz", "bone_marrow_kainz"),
        _case("breakhis", "breakhis"),
    )
)
"""Cases by the names of their tasks."""


def listed(name: str, where: Path, tmp_path: Path) -> dict[str, Fact]:
    """Returns what the layout says of each picture of the folder or archive `where`; none may be there twice."""
    pictures = list(CASES[name].layout.pictures(open_source(where, scratch=tmp_path / "scratch")))
    facts = {p.name: Fact(p.group, p.label, p.split) for p in pictures}
    assert len(facts) == len(pictures)
    return facts


def opened(name: str, tmp_path: Path) -> tuple[Source, dict[str, Picture]]:
    """Returns the fake in `data`, and its pictures by the last part of their names without the suffix."""
    source = open_source(tmp_path / "data", scratch=tmp_path / "scratch")
    pictures = CASES[name].layout.pictures(source)
    return source, {p.name.rpartition("/")[2].partition(".")[0]: p for p in pictures}


def marked(name: str, stem: str, size: Size, tmp_path: Path) -> Marks:
    """Returns what is marked on one picture of the fake in `data`, which is taken to be of `size`."""
    source, pictures = opened(name, tmp_path)
    return CASES[name].layout.marks(source, pictures[stem], size)


def cut(name: str, size: Size, marks: Marks) -> list[Cut]:
    """Returns the tiles that the task's rule makes of a picture."""
    return CASES[name].plan.rule.cuts(size, marks, np.random.default_rng(0))


def tally(cuts: list[Cut]) -> dict[str, int]:
    """Returns the number of tiles of each class."""
    return dict(Counter(one.label for one in cuts))
