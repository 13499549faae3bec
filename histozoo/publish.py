"""run -> bundle: the trained trunk with everything a stranger needs, proven to reload before it gets its name.

    runs/<name>/final -> gates -> dist/<name>/ -> zoo/<name>.json, zoo/<name>.safetensors, model_cards/<name>.md

A published name is immutable: the same content again does nothing, other content is refused. The bundle appears in one rename;
what comes after it (registry entry, embedded weights, card) is derived from it and is completed by publishing again, should the
process die in between.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from histozoo import artifact, candidate, card, contract, cutting, durable, gates, golden
from histozoo.candidate import Facts, Run
from histozoo.errors import IntegrityError
from histozoo.golden import golden_tiles
from histozoo.registry import Entry, parse_entry, read_entry

__all__ = ["EMBEDDED_BYTES", "golden_tiles", "publish"]

EMBEDDED_BYTES = 25_000_000
"""Largest weights file that lies in the repository itself."""
_PACKAGE = Path(__file__).parent


class _Identical(Exception):
    """Leaves the staging block, which removes the staging folder: the same content is published already."""


def publish(
    run_folder: str | Path,
    *,
    out: str | Path = "dist",
    zoo: str | Path = _PACKAGE / "zoo",
    cards: str | Path = _PACKAGE.parent / "model_cards",
    embed: bool = True,
    cut: str = "",
) -> Path:
    """Publishes a finished run on this machine and returns the bundle folder `out/<name>`.

    Args:
        run_folder: `runs/<name>` with `final/`, `experiment.json`, `data.json`, `environment.json` and, if measured, `results.json`.
        out: Where bundles lie.
        zoo: Where entries and embedded weights lie.
        cards: Where model cards lie.
        embed: Put an fp16 copy into the zoo if every value survives and the file is small enough (`EMBEDDED_BYTES`).
        cut: A block to end the trunk after, see `cutting.cut`; the name then ends in the block's.

    Raises:
        UsageError: `HZ-U22` the run is not finished, `HZ-U23` it left out lineages, `HZ-I73` it cannot be cut there.
        IntegrityError: `HZ-A02` the run's files changed, `HZ-G49` failed gates (all of them), `HZ-G51` the name has other content.
        ResourceError: `HZ-F42` the disk is full; nothing half-written is left.
    """
    run = candidate.read_run(run_folder)
    name = cutting.named(str(run.experiment["name"]), cut) if cut else str(run.experiment["name"])
    out, zoo, cards = Path(out), Path(zoo), Path(cards)
    bundle = out / name
    with _one_publisher(zoo):
        for folder in (out, zoo, cards):
            durable.remove_stale(folder)
        # A second publication is staged beside the first and thrown away: equal or refused, never in its place.
        target = out / f"{name}.again" if bundle.exists() else bundle
        try:
            with durable.staged_folder(target) as staged:
                small = _build(run, staged, zoo=zoo, embed=embed, cut=cut)
                if _already_published(staged, bundle=bundle, zoo=zoo) and bundle.exists():
                    raise _Identical
        except _Identical:
            pass
        _settle(bundle, small, zoo=zoo, cards=cards)
    return bundle


@contextmanager
def _one_publisher(zoo: Path) -> Iterator[None]:
    """Holds the zoo folder: a second publisher waits, then finds what the first one did. The kernel drops the lock with its owner."""
    zoo.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(zoo, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(run: Run, staged: Path, *, zoo: Path, embed: bool, cut: str = "") -> bytes:
    """Fills the staging folder and passes every gate; returns the embedded weights file, empty where there is none."""
    whole = run.experiment
    facts, note = candidate.facts_of(whole["architecture"], tile_px=whole["tile_px"]), ""
    if cut:
        gates.refuse(gates.weights(run, facts), name=whole["name"])
        shorter = cutting.cut(run, facts, cut)
        run, facts, note = shorter.run, shorter.facts, shorter.note
    e = run.experiment
    backbone, rounding = candidate.round_once(run.backbone)
    raw = candidate.draft(run, facts, rounding=rounding, parents=candidate.parents_of(whole))
    raw = cutting.described(raw, whole, note) if cut else raw
    gates.refuse(_early_gates(run, facts, raw, staged), name=e["name"])
    golden_tensors = _golden(parse_entry(raw, staged / "config.json"), backbone)
    # The weights carry the contract they were published with, so that they are never used with another one.
    carried, plain = artifact.weights_metadata(raw), {"format": "pt"}
    artifact.save_canonical(backbone, staged / "model.safetensors", carried)
    for part, tensors in (("heads", run.heads), ("optimizer", run.optimizer)):
        if part in raw["histozoo"].get("training_state", ()):
            artifact.save_canonical(tensors, staged / f"{part}.safetensors", plain)
    artifact.save_canonical(golden_tensors, staged / "golden.safetensors", plain)
    small = b"" if rounding or not embed else _embedded(backbone, staged, carried)
    described = _describe(raw, staged, small, zoo=zoo)
    gates.refuse(_late_gates(described, staged), name=e["name"])
    return small


def _early_gates(run: Run, facts: Facts, raw: dict[str, Any], staged: Path) -> list[str]:
    """What can be seen before tensors are written."""
    said = gates.paper(raw["histozoo"]) + gates.results(run.results)
    # The registry would refuse the same omissions once more, in other words and one at a time.
    said = said or gates.entry(lambda: parse_entry(raw, staged / "config.json"))
    written = json.dumps(raw, indent=2, ensure_ascii=False)
    return gates.weights(run, facts) + said + gates.secrets({"config.json": written})


def _late_gates(described: Entry, staged: Path) -> list[str]:
    """What needs the bundle."""
    rendered = _hub_card(described)
    durable.write_text(staged / "README.md", rendered)
    return gates.text(rendered, described) + gates.secrets({"README.md": rendered}) + gates.reloads(staged)


def _hub_card(described: Entry) -> str:
    """Returns the card as it goes to the Hub: a commit cannot name itself, so it never carries a revision."""
    return card.render(parse_entry(json.loads(_without_revision(described.raw)), described.path))


def _golden(described: Entry, backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tiles, pixels and features of the model as published."""
    import timm

    raw = described.raw
    model = timm.create_model(raw["architecture"], num_classes=0, **raw["model_args"])
    model.load_state_dict(dict(backbone), strict=True)
    tiles_BHWC = golden_tiles(raw["histozoo"]["contract"]["tile_px"])
    pixels_BCHW = golden.preprocess(tiles_BHWC, contract.transform(described))
    f_BD = golden.features(model.eval(), pixels_BCHW)
    return dict(zip(golden.TENSORS, (torch.from_numpy(tiles_BHWC), pixels_BCHW, f_BD), strict=True))


def _embedded(backbone: Mapping[str, Tensor], staged: Path, metadata: Mapping[str, str]) -> bytes:
    """Returns the weights as an fp16 safetensors file, empty where it is too large for the repository."""
    path = staged / "embedded.safetensors"
    halves = {k: v.half() if v.is_floating_point() else v for k, v in backbone.items()}
    artifact.save_canonical(halves, path, metadata)
    data = path.read_bytes()
    path.unlink()
    return data if len(data) <= EMBEDDED_BYTES else b""


def _describe(raw: dict[str, Any], staged: Path, small: bytes, *, zoo: Path) -> Entry:
    """Completes the entry with hashes and sizes, and with the Hub revision if these weights were pushed already; writes config.json."""
    raw = copy.deepcopy(raw)
    h = raw["histozoo"]
    for file in (h["weights"], h["golden"], *h.get("training_state", {}).values()):
        path = staged / file["file"]
        file |= {"sha256": artifact.sha256_file(path), "bytes": path.stat().st_size}
    if small:
        h["weights"]["embedded"] = {
            "file": f"{h['name']}.safetensors",
            "sha256": hashlib.sha256(small).hexdigest(),
            "bytes": len(small),
            "dtype": "float16",
        }
    before = _read(zoo / f"{h['name']}.json")
    if before and before["histozoo"]["weights"]["sha256"] == h["weights"]["sha256"]:
        h["weights"]["revision"] = before["histozoo"]["weights"]["revision"]
    durable.write_json(staged / "config.json", raw)
    return parse_entry(raw, staged / "config.json")


def _already_published(staged: Path, *, bundle: Path, zoo: Path) -> bool:
    """Says whether this name has exactly this content; the card, which is derived, and the Hub revision do not count.

    Raises:
        IntegrityError: `HZ-G51`, the name has other content.
    """
    now = _content(staged)
    raw = json.loads(now["config.json"])
    before_zoo = _read(zoo / f"{raw['histozoo']['name']}.json")
    before = _content(bundle) if bundle.exists() else {}
    differing = [f for f in sorted({*now, *before}) if before and now.get(f) != before.get(f)]
    if before_zoo and _without_revision(before_zoo) != now["config.json"]:
        differing.append(f"{zoo.name}/{raw['histozoo']['name']}.json")
    if differing:
        described = before_zoo or _read(bundle / "config.json") or raw
        raise IntegrityError(
            "HZ-G51",
            "this name is published already with other content; published names never change",
            where=bundle if before else zoo,
            expected=f"weights with sha256 {described['histozoo']['weights']['sha256']}",
            got=f"sha256 {raw['histozoo']['weights']['sha256']}; differing: {', '.join(differing)}",
            kept="the published model is untouched",
            next_step="give the new model a new name, such as the same with _v2; "
            "a copy for yourself goes elsewhere with --zoo, --cards and --out",
        )
    return bool(before or before_zoo)


def _content(folder: Path) -> dict[str, str]:
    """Returns file name -> sha256, for config.json its text without the revision."""
    files = {
        p.name: artifact.sha256_file(p)
        for p in folder.iterdir()
        if p.is_file() and p.name not in ("README.md", "config.json")
    }
    raw = _read(folder / "config.json")
    return {**files, "config.json": _without_revision(raw) if raw else ""}


def _without_revision(raw: dict[str, Any]) -> str:
    raw = copy.deepcopy(raw)
    raw["histozoo"]["weights"]["revision"] = None
    return durable.to_json(raw)


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _settle(bundle: Path, small: bytes, *, zoo: Path, cards: Path) -> None:
    """Writes what is derived from the bundle, the entry after the files it names; what is there already stays as it is."""
    copies = {zoo / f"{bundle.name}.json": (bundle / "config.json").read_bytes()}
    if small:
        golden_bytes = (bundle / "golden.safetensors").read_bytes()
        copies = {
            zoo / f"{bundle.name}.safetensors": small,
            zoo / f"{bundle.name}.golden.safetensors": golden_bytes,
            **copies,
        }
    for path, data in copies.items():
        if not path.exists() or (path.suffix != ".json" and path.read_bytes() != data):
            durable.write_bytes(path, data)
    published = read_entry(zoo / f"{bundle.name}.json")
    texts = {bundle / "README.md": _hub_card(published), cards / f"{bundle.name}.md": card.render(published)}
    for path, text in texts.items():
        if not path.exists() or path.read_bytes() != text.encode():
            durable.write_text(path, text)
