"""Numpy at first use: metric and statistics modules load without it.

``from aigve_cli.lazy import np`` keeps ``aigve --help`` and ``list-metrics`` light. Type checkers
see the real numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("numpy"), name)

    np = _Numpy()

__all__ = ["np"]
