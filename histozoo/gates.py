"""What stands between a run and the world: every gate looks at one thing and returns sentences; none means passed.

Sentences begin with the code that docs/errors.md explains. The gates run before anything is written to its final place, and all of them are
reported together, so that one look at the message shows everything that has to be mended.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from histozoo import artifact, card, scan
from histozoo.candidate import Facts, Run
from histozoo.errors import HistozooError, IntegrityError
from histozoo.experiment import STATED
from histozoo.registry import Entry

_CORPUS_FIELDS = ("organ", "stain", "n", "licence", "source", "citation", "lineage")
_RELOAD_SECONDS = 600


def refuse(failures: list[str], *, name: str) -> None:
    """Does nothing for an empty list.

    Raises:
        IntegrityError: `HZ-G49`, naming every failed gate.
    """
    if failures:
        raise IntegrityError(
            "HZ-G49",
            f"the candidate fails {len(failures)} gate{'s' * (len(failures) > 1)} and is not published",
            where=name,
            got="".join(f"\n    - {failure}" for failure in failures),
            kept="nothing left this machine; the run folder is untouched, no bundle was written",
            next_step="mend what is listed and publish again",
        )


def weights(run: Run, facts: Facts) -> list[str]:
    """The trunk has exactly timm's tensors, all values are finite and none of the matrices is constant."""
    header = artifact.Header({k: _info(v) for k, v in run.backbone.items()}, {}, 0)
    return [
        *_caught("keys", lambda: artifact.check_tensors("backbone", header, facts.state, dtype="float32")),
        *_caught("finite", lambda: artifact.check_finite(run.backbone, where="backbone")),
        *_not_finite("heads", run.heads),
        *_not_finite("optimizer", run.optimizer),
    ]


def _info(tensor: Tensor) -> artifact.TensorInfo:
    kinds = {"torch.float32": "F32", "torch.int64": "I64"}
    return artifact.TensorInfo(kinds.get(str(tensor.dtype), str(tensor.dtype)), tuple(tensor.shape), 0, 0)


def _not_finite(part: str, tensors: Mapping[str, Tensor]) -> list[str]:
    bad = {k: int((~v.isfinite()).sum()) for k, v in tensors.items() if v.is_floating_point()}
    return [
        f"finite: HZ-A06 {part}: {k} has {count} values that are not finite"
        for k, count in bad.items()
        if count
    ]


def _caught(gate: str, look: Callable[[], object]) -> list[str]:
    try:
        look()
    except HistozooError as error:
        return [f"{gate}: {' '.join(str(error).split())}"]
    return []


def entry(build: Callable[[], Entry]) -> list[str]:
    """The entry is one that the registry accepts."""
    return _caught("entry", build)


def paper(histozoo: Mapping[str, Any]) -> list[str]:
    """Licence, intended use, limits and the origin of all data are stated."""
    unsaid = [k for k in STATED if not str(histozoo[k] or "").strip()]
    missing = list(unsaid)
    missing += [f"licence.{k}" for k in ("id", "reason") if not histozoo["licence"][k]]
    missing += [
        f"corpus.{i['task']}.{k}"
        for i in histozoo["corpus"]
        for k in _CORPUS_FIELDS
        if not str(i.get(k) or "").strip()
    ]
    if not histozoo["corpus"]:
        missing.append("corpus")
    # A run keeps what it was started with, so that another file alone would be refused.
    how = f"; write {' and '.join(unsaid)} into the experiment file and give its pretrain command again with --accept-change: "
    how += "a finished run is not trained again"
    return [f"statements: HZ-G53 not stated: {', '.join(missing)}{how if unsaid else ''}"] if missing else []


def results(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every measured value is a score with an ordered interval and the numbers it was measured on.

    The value may lie outside its interval: a percentile bootstrap of a biased statistic can put it there.
    """
    found = []
    for r in measured:
        numbers = [r.get("value", math.nan), *(r.get("interval") or (math.nan, math.nan))]
        # All metrics in use, and differences between two of them, lie in [-1, 1]; a NaN fails the comparison.
        scores = all(isinstance(v, int | float) and -1 <= v <= 1 for v in numbers)
        counts = [r.get("n") or 0, *([r["n_groups"]] if r.get("n_groups") is not None else [])]
        if not scores or numbers[1] > numbers[2] or min(counts) < 1:
            where = f"{r.get('task')} {r.get('protocol')} {r.get('metric')}"
            value, low, high = numbers
            found.append(
                f"results: HZ-I62 {where}: value {value} with interval {low} to {high}, n {r.get('n')}"
            )
    return found


def text(rendered: str, described: Entry) -> list[str]:
    """The card is complete and its front matter says what the entry says, no more."""
    return [f"card: HZ-A09 {problem}" for problem in card.problems(rendered, described)]


def secrets(files: Mapping[str, str]) -> list[str]:
    """No token, absolute path, user name or patient-like identifier stands in any text of the bundle."""
    return [
        f"secrets: HZ-G52 {finding}"
        for where, content in files.items()
        for finding in scan.scan_text(content, where)
    ]


def reloads(bundle: Path) -> list[str]:
    """A fresh process with stock timm, histozoo not imported, makes of the golden tiles what this process made, bit for bit."""
    script = Path(__file__).with_name("reload_check.py")
    # -P keeps the script's folder, and the current one, off the path: `import histozoo` cannot happen by accident.
    command = [sys.executable, "-P", str(script), str(bundle.resolve())]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_RELOAD_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"golden: HZ-A08 stock timm did not load the bundle within {_RELOAD_SECONDS} seconds"]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [f"golden: HZ-A08 stock timm cannot load the bundle: {last}"]
    report = json.loads(done.stdout.splitlines()[-1])
    return [] if report["equal"] and not report["histozoo"] else [f"golden: HZ-A08 {_stage(report)}"]


def _stage(report: Mapping[str, Any]) -> str:
    if report["histozoo"]:
        return "the check imported histozoo and so proves nothing"
    stages = {k: report[k] for k in ("pixels", "features") if report[k] != 0}
    names = {"pixels": "preprocess stage", "features": "model stage"}
    return "stock timm computes something else: " + "; ".join(
        f"{names[k]} differs by {v}" for k, v in stages.items()
    )
