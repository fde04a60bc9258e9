"""aigve: numbers that people can trust about AI-generated videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aigve_cli.api import evaluate

__all__ = ["__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from aigve_cli.api import evaluate

        return evaluate
    raise AttributeError(f"module 'aigve_cli' has no attribute '{name}'")
