"""A finished bundle before it leaves the machine: read, described as it will stand on the Hub, and put through every gate again.

What publish proved may have changed on the disk since, and a bundle may have been edited by hand; so nothing is taken on trust here.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from histozoo import artifact, card, durable, gates, scan
from histozoo.errors import HistozooError, IntegrityError, UsageError
from histozoo.registry import Entry, Published, parse_entry, read_entry

REQUIRED = ("model.safetensors", "config.json", "README.md", "golden.safetensors")
OPTIONAL = ("heads.safetensors", "optimizer.safetensors")


@dataclass(frozen=True)
class Upload:
    """One file as it will be sent: text from memory, tensors from the disk. `git_oid` is git's name of a text."""

    path: str
    source: bytes | Path = field(repr=False)
    size: int
    sha256: str
    git_oid: str = ""

    def __str__(self) -> str:
        return f"{self.path}  {self.size:,} bytes  sha256 {self.sha256}"


@dataclass(frozen=True)
class Bundle:
    """A bundle folder with the entry as it will be published: for `repo`, its revision null."""

    folder: Path
    entry: Entry
    local: Entry = field(repr=False)

    @property
    def repo(self) -> str:
        """Returns `owner/name` on the Hub."""
        return self.entry.weights.repo

    def uploads(self) -> list[Upload]:
        """Returns every file that will be sent, in the order of its name; config.json and the card come from the entry."""
        texts = {"config.json": durable.to_json(self.entry.raw), "README.md": card.render(self.entry)}
        tensors = (n for n in (*REQUIRED, *OPTIONAL) if n.endswith(".safetensors"))
        sources: dict[str, bytes | Path] = {
            n: self.folder / n for n in tensors if (self.folder / n).is_file()
        }
        sources |= {name: text.encode() for name, text in texts.items()}
        return [_upload(name, source) for name, source in sorted(sources.items())]


def read(folder: str | Path, *, repo: str | None = None) -> Bundle:
    """Reads the entry of a bundle folder.

    Args:
        folder: `dist/<name>` as `publish` made it.
        repo: `owner/name` to publish to, instead of the repository that the entry names.

    Raises:
        UsageError: `HZ-U24`, this is not a bundle folder.
        IntegrityError: `HZ-A07`, its config.json is not a valid entry.
    """
    folder = Path(folder)
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            "HZ-U24",
            "this is not a bundle",
            where=folder,
            expected=f"a folder with {', '.join(REQUIRED)}",
            got=f"missing: {', '.join(missing)}",
            next_step="make one with `histozoo publish runs/<name>`",
        )
    local = read_entry(folder / "config.json")
    return Bundle(folder, _published(local, repo or local.weights.repo), local)


def with_revision(entry: Entry, revision: str) -> dict[str, Any]:
    """Returns the JSON of `entry` with the commit that holds it."""
    raw = copy.deepcopy(entry.raw)
    raw["histozoo"]["weights"]["revision"] = revision
    return raw


def fresh_card(folder: str | Path, *, write: bool = False) -> bool:
    """Says whether a bundle's card is what its entry renders to; with `write`, renders it again where it is not.

    Raises:
        UsageError: `HZ-U24`, not a bundle.
        IntegrityError: `HZ-A07` invalid entry; `HZ-U21`, the card is stale and `write` is False.
    """
    bundle = read(folder)
    path = bundle.folder / "README.md"
    rendered = card.render(_published(bundle.local, bundle.local.weights.repo)).encode()
    if path.read_bytes() == rendered:
        return True
    if not write:
        raise IntegrityError(
            "HZ-U21",
            "the card is not what config.json renders to",
            where=path,
            kept="nothing was changed",
            next_step=f"run `histozoo card {bundle.folder} --write`",
        )
    durable.write_bytes(path, rendered)
    return False


def check(bundle: Bundle, *, zoo: Path) -> None:
    """Puts the bundle through every gate.

    Raises:
        IntegrityError: `HZ-G49`, naming every gate that failed.
    """
    gates.refuse(
        [*_files(bundle), *_texts(bundle), *_entry(bundle, zoo), *_tensors(bundle)], name=str(bundle.folder)
    )
    gates.refuse(gates.reloads(bundle.folder), name=str(bundle.folder))


def _upload(name: str, source: bytes | Path) -> Upload:
    if isinstance(source, Path):
        return Upload(name, source, source.stat().st_size, artifact.sha256_file(source))
    blob = hashlib.sha1(b"blob %d\0" % len(source) + source, usedforsecurity=False)
    return Upload(name, source, len(source), hashlib.sha256(source).hexdigest(), blob.hexdigest())


def _published(entry: Entry, repo: str) -> Entry:
    raw = copy.deepcopy(entry.raw)
    raw["histozoo"]["weights"] |= {"repo": repo, "revision": None}
    return parse_entry(raw, entry.path)


def _files(bundle: Bundle) -> list[str]:
    """Nothing else lies in the folder, and the two files that the entry names are what it says."""
    known = {*REQUIRED, *OPTIONAL}
    extra = sorted(p.name for p in bundle.folder.iterdir() if p.name not in known)
    failures = [f"files: HZ-G49 {name} is not part of a bundle; move it away" for name in extra]
    states = (Published(**file) for file in bundle.local.ours.get("training_state", {}).values())
    for named in (bundle.local.weights, bundle.local.golden, *states):
        path = bundle.folder / named.file
        if not path.is_file():
            failures.append(f"files: HZ-U14 {named.file} is missing")
            continue
        size, digest = path.stat().st_size, artifact.sha256_file(path)
        if (size, digest) != (named.bytes, named.sha256):
            got = f"sha256 {digest} ({size:,} bytes)"
            failures.append(
                f"files: HZ-A02 {named.file}: expected sha256 {named.sha256} ({named.bytes:,} bytes), got {got}"
            )
    return failures


def _texts(bundle: Bundle) -> list[str]:
    """The card is what the entry renders to, all statements are made, and no text holds a secret."""
    local = _published(bundle.local, bundle.local.weights.repo)
    ours = bundle.entry.ours
    failures = (
        gates.text(card.render(bundle.entry), bundle.entry)
        + gates.paper(ours)
        + gates.results(ours["results"])
    )
    if (bundle.folder / "README.md").read_bytes() != card.render(local).encode():
        failures.append(
            "card: HZ-A09 README.md is not what config.json renders to: it was edited by hand, or made by another version "
            f"of histozoo; `histozoo card {bundle.folder} --write` renders it again"
        )
    for path in sorted(bundle.folder.iterdir()):
        if path.is_file():
            failures += [f"secrets: HZ-G52 {finding}" for finding in scan.scan_file(path)]
    return failures


def _entry(bundle: Bundle, zoo: Path) -> list[str]:
    """The zoo does not know this name with other content."""
    path = zoo / f"{bundle.entry.name}.json"
    if not path.is_file():
        return []
    known = read_entry(path)
    if _published(known, bundle.repo).raw == bundle.entry.raw:
        return []
    got = f"the zoo's weights have sha256 {known.weights.sha256}, the bundle's {bundle.entry.weights.sha256}"
    return [f"entry: HZ-G51 {path.name} in the zoo differs from the bundle's config.json; {got}"]


def _tensors(bundle: Bundle) -> list[str]:
    """Every header is strict, the weights have exactly timm's tensors, and all values are finite."""
    from safetensors.torch import load_file

    paths = [bundle.folder / n for n in (*REQUIRED, *OPTIONAL) if n.endswith(".safetensors")]
    paths = [path for path in paths if path.is_file()]
    failures = [f for path in paths for f in _caught("header", partial(artifact.read_header, path))]
    if failures:
        return failures
    for path in paths:
        bad = [k for k, v in load_file(path).items() if v.is_floating_point() and not v.isfinite().all()]
        failures += [f"finite: HZ-A06 {path.name}: {bad[0]} has values that are not finite"] if bad else []
    return failures + _caught("weights", partial(_weights, bundle))


def _weights(bundle: Bundle) -> None:
    """Checks keys, shapes, stored contract and values of the weights.

    Raises:
        IntegrityError: The first check that fails.
    """
    import timm
    import torch
    from safetensors.torch import load_file

    entry, path = bundle.local, bundle.folder / bundle.local.weights.file
    with torch.device("meta"):
        model = timm.create_model(entry.architecture, num_classes=0, **entry.raw["model_args"])
    header = artifact.read_header(path)
    artifact.check_tensors(path, header, model.state_dict(), dtype=entry.weights.dtype)
    artifact.check_contract(path, header, entry.raw)
    artifact.check_finite(load_file(path), where=path.name)


def _caught(gate: str, look: Callable[[], object]) -> list[str]:
    try:
        look()
    except HistozooError as error:
        return [f"{gate}: {' '.join(str(error).split())}"]
    return []
