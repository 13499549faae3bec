"""Libraries that only some datasets need, imported when one does; each is an extra of the package."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from histozoo.errors import UsageError


def hdf5(path: Path) -> Any:
    """Opens an HDF5 file for reading.

    Raises:
        UsageError: `HZ-U76`, h5py is not installed.
        OSError: It is no whole HDF5 file.
    """
    return _library("h5py", "prepare", path).File(path, "r")


def scipy_io(where: object) -> ModuleType:
    """Returns `scipy.io`.

    Raises:
        UsageError: `HZ-U76`, scipy is not installed.
    """
    return _library("scipy.io", "prepare", where)


def openslide_library(where: object) -> ModuleType:
    """Returns `openslide`.

    Raises:
        UsageError: `HZ-U76`, openslide is not installed.
    """
    return _library("openslide", "wsi", where)


def _library(name: str, extra: str, where: object) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "HZ-U76",
            f"{name.partition('.')[0]}, which reads this kind of file, is not installed",
            where=where,
            kept="nothing was written",
            next_step=f"pip install 'histozoo[{extra}]'",
        ) from error
