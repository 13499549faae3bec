"""Runs `uv pip install` in this interpreter's environment with what pip was told about where packages come from.

uv does not read pip's settings. Addresses may hold passwords, so nothing of them is printed. Standard library only.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
VARIABLES = {"cert": "SSL_CERT_FILE", "default-timeout": "UV_HTTP_TIMEOUT", "timeout": "UV_HTTP_TIMEOUT"}
SECTIONS = (":env:", "install", "global")  # the first that has a value wins, as in pip


def pip_settings() -> dict[str, str]:
    """Returns pip's settings for installing, by their long option."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    settings: dict[str, str] = {}
    for section in SECTIONS:
        for key, value in found.items():
            if key.startswith(f"{section}."):
                settings.setdefault(key.removeprefix(f"{section}."), str(ast.literal_eval(value)))
    return settings


def uv_options(settings: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Returns the same for uv: options, and environment variables."""
    options = ["--index-strategy", "unsafe-best-match"]  # pip's own rule: the best match of all indexes
    for key, option in OPTIONS.items():
        for value in settings.get(key, "").split():
            options += [option, value]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    return options, {variable: settings[key] for key, variable in VARIABLES.items() if key in settings}


if __name__ == "__main__":
    options, variables = uv_options(pip_settings())
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--python",
        sys.executable,
        *options,
        *sys.argv[1:],
    ]
    sys.exit(subprocess.call(command, env={**os.environ, **variables}))
