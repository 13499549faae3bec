"""However many tiles there are, the whole tree of processes stays small; measured while it runs, in a fresh process."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Fresh
from tests.fakes import layouts

TILES_PER_PICTURE = 100
LIMIT_MB = 1024
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux' /proc"
)

SCRIPT = """
import json, os, sys, threading, time
from pathlib import Path
from tests.fakes import layouts
from histozoo.prepare.engine import prepare

def tree(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(p for child in children for p in tree(int(child)))]

def read_mb():
    total = {"Rss": 0, "Pss": 0}
    for pid in tree(os.getpid()):
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line[:3] in total and line[3] == ":":
                    total[line[:3]] += int(line.split()[1]) / 1024
        except OSError:
            pass
    return total

peak, readings, done = {"Rss": 0, "Pss": 0, "processes": 0}, 0, threading.Event()

def watch():
    global readings
    while not done.wait(0.05):
        try:
            found = {**read_mb(), "processes": len(tree(os.getpid()))}
        except OSError:
            continue
        readings += 1
        for key, value in found.items():
            peak[key] = max(peak[key], value)

threading.Thread(target=watch, daemon=True).start()
source, out, shards = sys.argv[1:]
began = time.monotonic()
report = prepare(layouts.task(layouts.plan(layouts.DRAWN)), source, out, workers=2, shards=shards == "shards")
done.set()
heavy = sorted({"torch", "datasets", "transformers", "scipy", "h5py"} & set(sys.modules))
print(json.dumps({**peak, "readings": readings, "tiles": report.n_tiles, "heavy": heavy, "seconds": time.monotonic() - began}))
"""


def run(fresh_python: Fresh, tmp_path: Path, pictures: int, stored_as: str) -> dict[str, float]:
    done = fresh_python(SCRIPT, str(tmp_path / "source"), str(tmp_path / "out"), stored_as, timeout=1800)
    measured: dict[str, float] = json.loads(done.stdout)
    assert measured["tiles"] == pictures * TILES_PER_PICTURE
    assert measured["readings"] >= 10 and measured["processes"] >= 3, (
        "it was watched while the workers were there"
    )
    assert measured["heavy"] == []
    assert measured["Pss"] <= measured["Rss"] < LIMIT_MB, measured
    return measured


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """Returns the table's file, source and corner of each tile."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return [(r["file"], r["source"], f"{r['x']} {r['y']}") for r in csv.DictReader(file)]


def test_ten_thousand_files_in_half_a_gigabyte(fresh_python: Fresh, tmp_path: Path) -> None:
    layouts.write_list(tmp_path / "source", 100)
    measured = run(fresh_python, tmp_path, 100, "files")
    assert measured["Rss"] < LIMIT_MB / 2, "far from the limit, so that ten times as many tiles stay below it"


def test_a_hundred_thousand_tiles_in_a_gigabyte(fresh_python: Fresh, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet shards need pyarrow")
    layouts.write_list(tmp_path / "source", 1000)
    run(fresh_python, tmp_path, 1000, "shards")


@pytest.mark.slow
def test_a_hundred_thousand_files_killed_and_resumed_in_a_gigabyte(
    fresh_python: Fresh, tmp_path: Path
) -> None:
    layouts.write_list(tmp_path / "source", 1000)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "source"), str(tmp_path / "out"), "files"]
    chunks = tmp_path / "out/.prepare/synthetic/rows"
    for finished in (10, 30, 60):
        child = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, process_group=0
        )
        deadline = time.monotonic() + 600
        while len(list(chunks.glob("*.json"))) < finished:
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    run(fresh_python, tmp_path, 1000, "files")
    found = rows(tmp_path / "out/synthetic")
    assert len(found) == len({file for file, *_ in found}) == len({tile[1:] for tile in found}) == 100_000
    on_disk = {
        p.relative_to(tmp_path / "out/synthetic").as_posix()
        for p in (tmp_path / "out/synthetic/images").rglob("*.png")
    }
    assert on_disk == {file for file, *_ in found}
