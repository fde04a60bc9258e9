"""A run of the command line that has ended, as tests look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import read_results


@dataclass(frozen=True)
class Finished:
    """A run that has ended, what it said, and what it wrote."""

    code: int
    stdout: str
    stderr: str
    out: Path

    @property
    def document(self) -> dict[str, Any]:
        return read_results(self.out)

    def record(self, name: str) -> dict[str, Any]:
        (record,) = (r for r in self.document["results"] if r["value_name"] == name)
        return record

    @property
    def message(self) -> str:
        """The error that ended it, without its hint."""
        assert self.stderr.count("Error: ") == 1, self.stderr
        return self.stderr.partition("Error: ")[2].partition("Hint: ")[0]
