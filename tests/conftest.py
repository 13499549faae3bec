"""The bench every test stands on: a loopback Hub, empty caches, no network.

huggingface_hub, timm, transformers and torch.hub read the environment when they are imported, so it is set here, at the top,
before anything imports them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes import loopback
from tests.fakes.hub import Hub

ROOT = Path(__file__).parents[1]
_HOME = Path(tempfile.mkdtemp(prefix="histozoo-tests-"))
_HUB = Hub().start()
_UNSET = (
    *(
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HF_XET_CACHE",
        "GITHUB_TOKEN",
    ),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    *("HISTOZOO_ZOO", "HISTOZOO_WEIGHTS_DIR", "HISTOZOO_VERIFY", "HISTOZOO_STRICT", "HISTOZOO_CACHE"),
)
_SET = {
    "HF_ENDPOINT": _HUB.url,
    "HF_HUB_DISABLE_XET": "1",  # the fake Hub speaks git-LFS only
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "HOME": str(_HOME),  # whatever a library keeps under ~ goes away with the session
    "HF_HOME": str(_HOME / "huggingface"),
    "TORCH_HOME": str(_HOME / "torch"),
    "XDG_CACHE_HOME": str(_HOME / "cache"),
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # tests fork; threads do not survive that
}

if "huggingface_hub" in sys.modules:
    raise pytest.UsageError(
        "huggingface_hub was imported before tests/conftest.py could point it at the loopback Hub"
    )
for _name in _UNSET:
    os.environ.pop(_name, None)
os.environ.update(_SET)
loopback.install()
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _only_loopback(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lifts the guard for tests marked `network`, which do not run by default."""
    if request.node.get_closest_marker("network") is None:
        yield
        return
    loopback.remove()
    yield
    loopback.install()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Gives the loopback Hub, empty, with empty client caches."""
    _HUB.reset()
    _HUB.start()
    for folder in ("huggingface", "cache", "torch"):
        shutil.rmtree(_HOME / folder, ignore_errors=True)
    yield _HUB
    _HUB.reset()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes huggingface_hub's pauses between two tries take no time; gives the list of the seconds it meant to wait."""
    import time

    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    seconds: list[float] = []
    stand_in = SimpleNamespace(**vars(time))
    stand_in.sleep = seconds.append
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", stand_in)
    return seconds


Fresh = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fresh_python() -> Fresh:
    """Gives `run(code, *args, env={}, cwd=None, ok=True)`: runs Python code in a fresh process in this environment.

    `env` adds variables (None removes one); with `ok` a failing process fails the test with its output.
    """

    def run(
        code: str,
        *args: str,
        env: dict[str, str | None] | None = None,
        cwd: Path | None = None,
        ok: bool = True,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        merged = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        kept = {name: value for name, value in merged.items() if value is not None}
        guarded = f"from tests.fakes import loopback; loopback.install()\n{code}"
        command = [sys.executable, "-c", guarded, *args]
        done = subprocess.run(
            command, env=kept, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not ok or done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
