"""What may be missing where a benchmark runs."""

from __future__ import annotations

import importlib.util


class Unsupported(Exception):
    """A variant cannot take this layout or dtype."""


def absent(package: str, command: str) -> str | None:
    """Why `package` cannot be imported, without importing it, and the command that adds it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    return None if spec and spec.origin else f"{package} is not installed: {command}"
