"""Where encoders come from: zoo entries and runs, random twins, pretrained models of timm and the Hub."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histozoo import loading, registry
from histozoo.candidate import size_options
from histozoo.errors import HistozooError, UsageError
from histozoo.evaluate.encoders import Encoder, digest
from histozoo.evaluate.trunks import Run, random_trunk, read_run, trained_trunk

if TYPE_CHECKING:
    from torch import nn

    from histozoo.registry import Entry


# -- zoo entries, bundles and runs -----------------------------------------------------------------------------------------------------


def trained(name: str | Path) -> Encoder:
    """Returns the encoder of an entry, a bundle folder or a run folder."""
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return _of_run(str(name), read_run(folder))
    found = registry.resolve(folder if folder.is_dir() else name)
    if found.withdrawn:
        raise registry.withdrawn_error(found)
    return _of_entry(str(name), found, folder if folder.is_dir() else found.name)


def _of_entry(name: str, entry: Entry, source: str | Path) -> Encoder:
    lineages, complete = _history(entry)
    return Encoder(
        name=name,
        label=entry.name,
        kind="entry",
        sha256=entry.weights.sha256,
        tile_px=entry.tile_px,
        mean=tuple(entry.contract.mean),
        std=tuple(entry.contract.std),
        mpp=tuple(entry.mpp) if entry.mpp else None,
        lineages=lineages,
        complete=complete,
        build=lambda: loading.load(source),
        architecture=entry.architecture,
        model_args=entry.raw["model_args"],
    )


def _of_run(name: str, run: Run) -> Encoder:
    init = _json(run.folder / "experiment.json").get("init", "random")
    before, complete = _initial(init)
    return Encoder(
        name=name,
        label=run.folder.name,
        kind="run",
        sha256=run.sha256,
        tile_px=run.tile_px,
        mean=run.mean,
        std=run.std,
        mpp=None,
        lineages=_declared(run.tasks.items()) | before,
        complete=complete,
        build=lambda: trained_trunk(run),
        architecture=run.architecture,
    )


def _history(entry: Entry) -> tuple[frozenset[str], bool]:
    """Returns the lineages of an entry's corpus and of what it was initialised from, and whether that is all it saw."""
    before, complete = _initial(str(entry.ours["experiment"].get("init", "random")))
    return _declared((c["task"], c["lineage"]) for c in entry.corpus) | before, complete


def _initial(init: str) -> tuple[frozenset[str], bool]:
    if init == "random":
        return frozenset(), True
    if init.startswith("timm:"):
        return frozenset(), False
    try:
        return _history(registry.entry(init))
    except HistozooError:
        return frozenset(), False  # an entry that is not at hand: what it saw is not known


def _declared(recorded: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Returns lineages as they were recorded and as the tasks declare them today."""
    from histozoo.tasks import TASKS

    pairs = list(recorded)
    return frozenset({lineage for _, lineage in pairs} | {TASKS[t].lineage for t, _ in pairs if t in TASKS})


# -- random twins ----------------------------------------------------------------------------------------------------------------------


def random_twin(name: str) -> Encoder:
    """Returns the architecture of an entry, a run or a timm model with random weights: `random:NAME[@SEED]`."""
    base, at, seed_text = name.removeprefix("random:").rpartition("@")
    base, seed_text = (base, seed_text) if at else (seed_text, "0")
    if not re.fullmatch(r"[0-9]{1,9}", seed_text):
        raise _unknown(name, "a whole number from 0 on behind the @", seed_text)
    seed = int(seed_text)
    twin, facts, build = _twin(base, name, seed)
    return replace(
        twin,
        name=name,
        label=f"{twin.label}, random weights, seed {seed}",
        kind="random",
        sha256=digest({"random": facts, "seed": seed, **_versions()}),
        lineages=frozenset(),
        complete=True,
        build=build,
    )


def _twin(base: str, name: str, seed: int) -> tuple[Encoder, dict[str, Any], Callable[[], nn.Module]]:
    """Returns the encoder whose contract the twin has, what decides its architecture, and what builds it."""
    if _in_zoo(base) or Path(base).is_dir():
        twin = trained(base)
        if twin.kind == "run":
            run = read_run(base)
            facts = {"architecture": run.architecture, **size_options(run.architecture, run.tile_px)}
            return twin, facts, partial(random_trunk, run.architecture, seed=seed, tile_px=run.tile_px)
        source = Path(base) if Path(base).is_dir() else base
        entry = registry.resolve(source)
        facts = {"architecture": entry.architecture, "options": entry.raw["model_args"]}
        return twin, facts, partial(_random_entry, source, seed)
    architecture = _architecture(base, name)
    twin = _from_cfg(base, architecture, _default_cfg(architecture), "timm")
    return twin, {"architecture": architecture}, partial(random_trunk, architecture, seed=seed)


def _random_entry(source: str | Path, seed: int) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return loading.load(source, pretrained=False, allow_withdrawn=True)


def _in_zoo(name: str) -> bool:
    return name in registry.names()


# -- pretrained models of timm and the Hub ---------------------------------------------------------------------------------------------


def pretrained(name: str) -> Encoder:
    """Returns a pretrained model of timm, `timm:ARCH[.TAG]`; its weights are fetched and hashed now: what is measured is known."""
    import timm

    model_name = name.removeprefix("timm:")
    _architecture(model_name, name)
    if not timm.is_model_pretrained(model_name):
        raise _unknown(name, _nearest(model_name, timm.list_pretrained()), f"{model_name} without weights")
    return _hashed(
        _from_cfg(name, model_name, _default_cfg(model_name), "timm"), partial(_pretrained, model_name)
    )


def from_hub(name: str) -> Encoder:
    """Returns a timm model on the Hub, `hf-hub:OWNER/NAME[@REVISION]`."""
    from timm.models._hub import load_model_config_from_hf

    if not re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+(@[\w.-]+)?", name):
        raise _unknown(name, "hf-hub:OWNER/NAME", name)
    cfg = _fetched(name, lambda: load_model_config_from_hf(name.removeprefix("hf-hub:"))[0])
    return _hashed(_from_cfg(name, name, cfg, "hub"), partial(_pretrained, name))


def _pretrained(model_name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(model_name, pretrained=True, num_classes=0)
    return model.eval()


def _hashed(found: Encoder, build: Callable[[], nn.Module]) -> Encoder:
    tensors = _fetched(found.name, lambda: build().state_dict())
    sha = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        sha.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return replace(found, sha256=sha.hexdigest(), build=build)


def _fetched(name: str, fetch: Callable[[], Any]) -> Any:
    """Returns what `fetch` gives, its network errors said as ours: `HZ-B14`, `HZ-B15`."""
    from histozoo.hub_errors import transport_error

    try:
        return fetch()
    except HistozooError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise transport_error(name, "its weights", error) from error


def _from_cfg(name: str, label: str, cfg: Mapping[str, Any], kind: Any) -> Encoder:
    """Returns an encoder with timm's size, mean and std; of its corpus nothing is known."""
    return Encoder(
        name=name,
        label=label,
        kind=kind,
        sha256="",
        tile_px=int(cfg["input_size"][-1]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        mpp=None,
        lineages=None,
        complete=False,
        build=None,
        architecture=str(cfg.get("architecture", "")),
        model_args=cfg.get("model_args") or {},
    )


def _default_cfg(model_name: str) -> dict[str, Any]:
    import timm

    cfg: Any = timm.get_pretrained_cfg(model_name)
    facts: dict[str, Any] = cfg.to_dict() if cfg is not None else {}
    return {"input_size": (3, 224, 224), "mean": _HALF, "std": _HALF, **facts}


_HALF = (0.5, 0.5, 0.5)


def _architecture(model_name: str, name: str) -> str:
    """Returns the timm name if timm knows architecture and tag."""
    import timm

    architecture, _, tag = model_name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models() + (registry.names() if name.startswith("random:") else [])
        raise _unknown(name, _nearest(model_name, known), model_name)
    if tag and model_name not in timm.list_models(f"{architecture}.*", pretrained=True):
        raise _unknown(name, _nearest(model_name, timm.list_pretrained(f"{architecture}*")), model_name)
    return model_name


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.0)
    return f"a name that timm knows; nearest: {', '.join(near)}" if near else "a name that timm knows"


def _unknown(name: str, expected: str, got: str) -> UsageError:
    return UsageError(
        "HZ-I67",
        f"there is no encoder {name!r}",
        expected=expected,
        got=got,
        kept="nothing was loaded",
        next_step="NAME, a folder, random:NAME@SEED, timm:ARCH.TAG, hf-hub:OWNER/NAME or colour-histogram",
    )


def _versions() -> dict[str, str]:
    import timm
    import torch

    return {"timm": timm.__version__, "torch": torch.__version__.partition("+")[0]}


def _json(path: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


PREFIXES: dict[str, Callable[[str], Encoder]] = {
    "random:": random_twin,
    "timm:": pretrained,
    "hf-hub:": from_hub,
}
