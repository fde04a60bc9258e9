"""Where a job's words go: its results, its lines for people, and how far it is."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aigve_cli.output import Output, Progress


class JobOutput(Output):
    """Takes down what a command says, and how far it is."""

    def __init__(self) -> None:
        self.printed = io.StringIO()
        self.said = io.StringIO()
        self._lines: deque[str] = deque()
        self._tally = _Tally()
        super().__init__(stdout=self.printed, stderr=self)  # type: ignore[arg-type]

    def write(self, text: str) -> int:
        """Take a line for people, as a stream does."""
        # A name of a file need not be valid text.
        text = text.encode("utf-8", "backslashreplace").decode()
        self.said.write(text)
        self._lines.extend(text.splitlines())
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """No colours, no bars."""
        return False

    @contextmanager
    def progress(self, title: str, *, total: int, of: str = "videos") -> Iterator[Progress]:
        """Count instead of drawing."""
        self._tally = _Tally(total)
        yield self._tally

    def new_lines(self) -> list[str]:
        """Lines since the last time."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._lines.popleft())
        return found

    def how_far(self) -> dict[str, Any]:
        """Videos, frames and requests so far, and how long the rest may take."""
        return self._tally.state()


class _Tally:
    def __init__(self, total: int = 0) -> None:
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._total = total
        self._videos = self._frames = self._requests = 0

    def advance(
        self, *, videos: int = 0, frames: int = 0, requests: int = 0, cached: int = 0
    ) -> None:
        with self._lock:
            self._videos += videos
            self._frames += frames
            self._requests += requests

    def state(self) -> dict[str, Any]:
        seconds = max(time.monotonic() - self._start, 1e-9)
        left = self._total - self._videos
        return {
            "videos": self._videos,
            "total": self._total,
            "frames": self._frames,
            "frames_per_second": round(self._frames / seconds, 1),
            "requests": self._requests,
            "seconds": round(seconds, 1),
            "eta_seconds": round(seconds / self._videos * left, 1) if self._videos else None,
        }
