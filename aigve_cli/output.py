"""The one place that writes: results to stdout, everything for people to stderr."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO

Format = Literal["auto", "table", "json", "jsonl", "csv", "tsv"]
PLAIN_PROGRESS_SECONDS = 10.0
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but line feed and tab, and those that set the direction of text."""
WRAPPED_WIDTH = 24
"""Least width of a column whose text may go on in the next line."""


class Progress(Protocol):
    """What a long job reports to."""

    def advance(
        self, *, videos: int = 0, frames: int = 0, requests: int = 0, cached: int = 0
    ) -> None:
        """Count what is done: videos, decoded frames, requests to judges, answers already known.

        May be called by any thread.
        """
        ...


@dataclass(frozen=True)
class Column:
    """A column of a table: its key in the rows, and how it looks."""

    key: str
    title: str
    right: bool = False
    wrap: bool = False
    error: str = ""
    """The key of a number's standard error, which decides how many digits are shown."""


class Output:
    """Where a command's words go.

    Args:
        quiet: Only results and errors.
        verbose: Also details that help to understand a run.
        color: ``auto`` colours a terminal unless ``NO_COLOR`` is set.
        silent: Not a word to stderr.
        stdout: Where results go; None is the process's own.
        stderr: Where words for people go; None is the process's own.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        color: str = "auto",
        silent: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self._own_stdout = stdout
        self._own_stderr = stderr
        self.silent = silent
        self.quiet = quiet or silent
        self.verbose = verbose
        self.color = color

    @property
    def _stdout(self) -> TextIO:
        return self._own_stdout or sys.stdout

    @property
    def _stderr(self) -> TextIO:
        return self._own_stderr or sys.stderr

    def note(self, text: str) -> None:
        """A line that people like to know."""
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        """A line for ``--verbose``."""
        if self.verbose:
            self._line(text)

    def warn(self, text: str) -> None:
        """A line that people should know, shown even when quiet."""
        self._line(text, label="Warning:", style="33")

    def error(self, message: str, hint: str | None = None) -> None:
        """What went wrong, and what to do."""
        self._line(message, label="Error:", style="31")
        if hint:
            self._line(hint, label="Hint:", style="36")

    def text(self, text: str) -> None:
        """A result that is text, to stdout."""
        self._stdout.write(text if text.endswith("\n") else text + "\n")
        self._stdout.flush()

    def document(self, value: Any) -> None:
        """A result that is one JSON document, to stdout."""
        self.text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))

    def rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        format: str = "auto",
    ) -> None:
        """Results that are rows, to stdout: a table on a terminal, tsv in a pipe."""
        if format == "auto":
            format = "table" if self._stdout.isatty() else "tsv"
        if format == "json":
            self.document([dict(row) for row in rows])
        elif format == "jsonl":
            for row in rows:
                self.text(json.dumps(dict(row), ensure_ascii=False, allow_nan=False))
        elif format == "table":
            self._table(rows, columns)
        else:
            writer = csv.writer(
                self._stdout, delimiter="\t" if format == "tsv" else ",", lineterminator="\n"
            )
            writer.writerow([column.key for column in columns])
            for row in rows:
                writer.writerow([_cell(row.get(column.key), plain=True) for column in columns])
            self._stdout.flush()

    @contextmanager
    def progress(self, title: str, *, total: int, of: str = "videos") -> Iterator[Progress]:
        """A bar on a terminal, one plain line every ten seconds elsewhere, nothing if quiet.

        ``of`` says what there are so many of: it is what :meth:`Progress.advance` calls videos.
        """
        if self.quiet:
            yield _Silent()
        elif self._stderr.isatty() and os.environ.get("TERM") != "dumb":
            with _rich_bar(title, total, self._colours(self._stderr)) as bar:
                yield bar
        else:
            yield _PlainLines(title, total, of, self._line)

    def _line(self, text: str, *, label: str = "", style: str = "") -> None:
        if self.silent:
            return
        if label:
            label += " "
            if self._colours(self._stderr):
                label = f"\x1b[1;{style}m{label}\x1b[0m"
        self._stderr.write(f"{label}{visible(text)}\n")
        self._stderr.flush()

    def _colours(self, stream: Any) -> bool:
        if self.color != "auto":
            return self.color == "always"
        return stream.isatty() and not os.environ.get("NO_COLOR")

    def _table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        colours = self._colours(self._stdout)
        cells = [
            [_cell(row.get(column.key), error=row.get(column.error)) for column in columns]
            for row in rows
        ]
        widths = [
            WRAPPED_WIDTH
            if column.wrap
            else max(len(column.title), *(len(row[index]) for row in cells), 0)
            for index, column in enumerate(columns)
        ]
        console = Console(
            file=self._stdout,
            force_terminal=colours,
            no_color=not colours,
            highlight=False,
            width=None if self._stdout.isatty() or "COLUMNS" in os.environ else 120,
        )
        # A name or a number is never cut: a table too wide for the terminal runs over its edge.
        console.width = max(console.width, sum(widths) + 2 * len(widths))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.wrap,
                min_width=width,
                overflow="fold",
            )
        for row in cells:
            table.add_row(*map(Text, row))
        console.print(table)


def _cell(value: Any, *, plain: bool = False, error: Any = None) -> str:
    if value is None:
        return "" if plain else "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(value) if plain else f"{value:.{_digits(value, error)}g}"
    if isinstance(value, (list, tuple)):
        return visible("; ".join(str(item) for item in value))
    return visible(str(value))


def visible(text: str) -> str:
    """A text for a terminal: what would steer it, or turn lines around, as escapes.

    Texts come from files, servers and models: none of them may clear a screen or set a title.
    """
    return _STEERING.sub(lambda sign: _escaped(sign[0]), text)


def _escaped(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 0x100 else f"\\u{ord(sign):04x}"


def _digits(value: float, error: Any) -> int:
    """Four, or as many as show the first two of the standard error; never more than eight."""
    if not (isinstance(error, float) and error > 0 and value):
        return 4
    shown = math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + 2
    return min(max(shown, 4), 8)


class _Silent:
    def advance(
        self, *, videos: int = 0, frames: int = 0, requests: int = 0, cached: int = 0
    ) -> None:
        pass


class _Tally:
    """What was counted since the start, by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self.videos = self.frames = self.requests = self.cached = 0

    def add(self, *, videos: int, frames: int, requests: int, cached: int) -> None:
        with self._lock:
            self.videos += videos
            self.frames += frames
            self.requests += requests
            self.cached += cached

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)

    def speed(self) -> str:
        """``812 frames/s``, and of judges how many requests, how fast, and what was known."""
        asked_only = self.frames == 0 and (self.requests or self.cached)
        parts = [] if asked_only else [f"{self.frames / self.seconds:.0f} frames/s"]
        if self.requests or self.cached:
            rate = self.requests / self.seconds
            parts.append(f"{self.requests} requests ({rate:.1f}/s), {self.cached} answers known")
        return ", ".join(parts)


class _PlainLines:
    def __init__(self, title: str, total: int, of: str, write: Callable[[str], None]) -> None:
        self._title, self._total, self._of, self._write = title, total, of, write
        self._tally = _Tally()
        self._last = time.monotonic()

    def advance(
        self, *, videos: int = 0, frames: int = 0, requests: int = 0, cached: int = 0
    ) -> None:
        tally = self._tally
        tally.add(videos=videos, frames=frames, requests=requests, cached=cached)
        now = time.monotonic()
        if now - self._last >= PLAIN_PROGRESS_SECONDS:
            self._last = now
            done = tally.videos
            left = tally.seconds / done * (self._total - done) if done else None
            eta = f", about {left:.0f} s left" if left is not None else ""
            self._write(f"{self._title} {done}/{self._total} {self._of}, {tally.speed()}{eta}")


@contextmanager
def _rich_bar(title: str, total: int, colours: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as RichProgress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True, no_color=not colours),
    )
    tally = _Tally()
    task = bar.add_task(title, total=total, speed=tally.speed())

    class Bar:
        def advance(
            self, *, videos: int = 0, frames: int = 0, requests: int = 0, cached: int = 0
        ) -> None:
            tally.add(videos=videos, frames=frames, requests=requests, cached=cached)
            bar.update(task, advance=videos, speed=tally.speed())

    with bar:
        yield Bar()
