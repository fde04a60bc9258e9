"""Where this checkout is, and how a child process imports it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a process that imports this checkout."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "models")))
    return {**os.environ, "PYTHONPATH": paths, "COLUMNS": "120", "NO_COLOR": "1", **more}
