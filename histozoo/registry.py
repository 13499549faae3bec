"""Name -> Entry, found by scanning the folders of the zoo. Standard library only, so that listing models costs no torch.

A name is checked against its grammar before any disk or network is touched. Private zoos add folders of `<name>.json` through
`$HISTOZOO_ZOO`, separated as in `$PATH`.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from pathlib import Path

from histozoo.entries import Contract, Entry, Published, Weights, parse_entry, read_entry
from histozoo.errors import IntegrityError, UsageError
from histozoo.schema import DEVICE, NAME_LIMIT, is_name

__all__ = ["ZOO", "Contract", "Entry", "Published", "Weights", "check_name", "entry", "list_models", "names"]
__all__ += ["nearest", "parse_entry", "read_entry", "resolve", "withdrawn_error", "zoo_folders"]

ZOO = Path(__file__).resolve().parent / "zoo"
_MISSPELT = re.compile(
    r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.-]*"
)  # no path, no device, no other alphabet: a slip of the keyboard


def zoo_folders() -> list[Path]:
    """Returns the folders searched for entries: the package's own, then each of `$HISTOZOO_ZOO`.

    Raises:
        UsageError: `HZ-U10`, a folder named in `$HISTOZOO_ZOO` does not exist.
    """
    folders = [ZOO]
    for text in filter(None, os.environ.get("HISTOZOO_ZOO", "").split(os.pathsep)):
        if not Path(text).is_dir():
            raise UsageError(
                "HZ-U10",
                "a folder of $HISTOZOO_ZOO does not exist",
                where=text,
                next_step="correct or unset HISTOZOO_ZOO",
            )
        folders.append(Path(text).resolve())
    return list(dict.fromkeys(folders))


def names() -> list[str]:
    """Returns the names of all entries, withdrawn ones included, sorted. Reads no file.

    Raises:
        UsageError: `HZ-C21`, two folders hold the same name.
    """
    return sorted(_paths())


def check_name(name: object) -> str:
    """Returns `name` if it follows the grammar of names; touches neither disk nor network.

    Raises:
        UsageError: `HZ-C20` with the name escaped.
    """
    if isinstance(name, str) and is_name(name):
        return name
    shown = ascii(name)
    raise UsageError(
        "HZ-C20",
        "this is not a model name",
        expected=f"<architecture>.<recipe>_<corpus>[_vN] of a-z, 0-9 and _, at most {NAME_LIMIT} characters",
        got=shown if len(shown) <= NAME_LIMIT else f"{shown[:NAME_LIMIT]}... ({len(shown)} characters)",
        kept="neither disk nor network was touched",
        next_step="`histozoo list` shows the names",
    )


def entry(name: str) -> Entry:
    """Returns the entry of a published model.

    Raises:
        UsageError: `HZ-C20` malformed name, `HZ-C19` unknown name (with the three nearest), `HZ-C21` name in two folders.
        IntegrityError: `HZ-A07`, the entry itself is not valid.
    """
    if not _is_misspelt(name):
        check_name(name)
    paths = _paths()
    if name not in paths:
        near = ", ".join(nearest(name, cutoff=0.0)) or "(the zoo is empty)"
        raise UsageError(
            "HZ-C19",
            f"no model is named {name!r}",
            expected=f"nearest of {len(paths)} known: {near}",
            next_step="`histozoo list` shows all names; HISTOZOO_ZOO adds folders of entries; a bundle folder is given as ./FOLDER",
        )
    return read_entry(paths[name])


def nearest(name: str, *, cutoff: float = 0.6) -> list[str]:
    """Returns the at most three names of the zoo that are most like `name`, in any case, with at least the similarity `cutoff` (0 to 1)."""
    return difflib.get_close_matches(name.lower(), names(), n=3, cutoff=cutoff)


def resolve(name: str | os.PathLike[str]) -> Entry:
    """Returns the entry of a zoo name, or of a bundle folder: any `Path`, or a text with a path separator in it.

    Raises:
        UsageError: As `entry`; `HZ-U13`, the folder holds no bundle.
        IntegrityError: `HZ-A07`, the entry itself is not valid.
    """
    if not isinstance(name, os.PathLike) and not _is_folder_text(name):
        return entry(name)
    config = Path(name) / "config.json"
    if config.is_file():
        return read_entry(config)
    raise UsageError(
        "HZ-U13",
        "this is neither the name of a model nor a bundle folder",
        where=ascii(os.fspath(name)),
        expected="a folder with config.json and model.safetensors, or a name as `histozoo list` shows",
    )


def list_models(
    pattern: str = "*",
    *,
    recipe: str | None = None,
    licence: str | None = None,
    max_bytes: int | None = None,
    feature_dim: int | None = None,
    mpp: float | None = None,
) -> list[str]:
    """Returns the names of the models that meet every condition given, sorted; withdrawn models are left out.

    Args:
        pattern: Shell pattern on the name, for example `resnet*`.
        recipe: Objective it was trained with.
        licence: SPDX id of the weights' licence, any case.
        max_bytes: Largest size of the published weights file.
        feature_dim: Length D of a feature.
        mpp: Micrometres per pixel that the model was trained at, within 10 %.
    """

    def meets(e: Entry) -> bool:
        return (
            e.withdrawn is None
            and recipe in (None, e.recipe)
            and (licence is None or licence.lower() == e.licence.lower())
            and (max_bytes is None or e.weights.bytes <= max_bytes)
            and feature_dim in (None, e.feature_dim)
            and (mpp is None or any(abs(mpp / known - 1) <= 0.1 for known in e.mpp or ()))
        )

    paths = sorted(_paths().items())
    return [name for name, path in paths if fnmatch.fnmatchcase(name, pattern) and meets(read_entry(path))]


def _is_misspelt(name: object) -> bool:
    """Whether this may be a name with a slip in it, which the nearest names answer better than the grammar does."""
    return (
        isinstance(name, str)
        and len(name) <= NAME_LIMIT
        and bool(_MISSPELT.fullmatch(name))
        and not DEVICE.fullmatch(f"{name.lower()}.")
    )


def _is_folder_text(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and ("/" in name or os.sep in name)


def _paths() -> dict[str, Path]:
    """Name -> file over all folders; a file whose stem is not a name is refused, so that no entry is passed over."""
    paths: dict[str, Path] = {}
    for folder in zoo_folders():
        for path in sorted(folder.glob("*.json")):
            if path.stem in paths:
                raise UsageError(
                    "HZ-C21",
                    f"two folders register the name {path.stem!r}",
                    where=f"{paths[path.stem]} and {path}",
                    kept="neither was loaded: which one comes first must not decide",
                    next_step="rename one, or take its folder out of HISTOZOO_ZOO",
                )
            if not path.name.startswith("."):
                paths[path.stem] = path
    return paths


def withdrawn_error(found: Entry) -> IntegrityError:
    """Returns the error for a withdrawn model (`HZ-C23`), with the reason and the replacement."""
    withdrawn = found.withdrawn or {}
    return IntegrityError(
        "HZ-C23",
        f"{found.name} was withdrawn",
        where=found.path,
        got=str(withdrawn.get("reason")),
        kept="nothing was loaded",
        next_step=f"use {withdrawn.get('replacement') or 'another model'}, or pass allow_withdrawn=True to load it all the same",
    )
