"""Small text files in and out: UTF-8, JSON and CSV that say where they are wrong, atomic writes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aigve_cli.errors import UsageError


class Row(NamedTuple):
    """A CSV row: its line in the file and its non-empty cells by column."""

    line: int
    cells: dict[str, str]


def read_text(path: Path, kind: str) -> str:
    """The text of a UTF-8 file, without a leading byte-order mark.

    Raises:
        UsageError: The file is missing, is a folder, cannot be read or is not UTF-8; ``kind``
            (such as ``Annotation file``) opens the message.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{kind} '{path}' does not exist.") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{kind} '{path}' is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8."
        ) from None
    except OSError as error:
        raise UsageError(f"{kind} '{path}' cannot be read: {error.strerror}.") from None


def text_to_json(text: str, path: Path, kind: str, *, first_line: int = 1) -> Any:
    """The JSON value of a text; NaN and infinities, which pandas writes for no value, become None.

    Raises:
        UsageError: The text is not JSON; the message has line and column.
    """
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise UsageError(
            f"{kind} '{path}' is not valid JSON: {error.msg} (line {line}, column {error.colno})."
        ) from None
    except RecursionError:
        raise UsageError(f"{kind} '{path}' is not usable JSON: nested too deeply.") from None


def text_to_rows(text: str, path: Path, kind: str) -> list[Row]:
    """The rows of a CSV text with a header; the delimiter is the header's commonest of ``,;TAB``.

    Column names come in lower case. Empty cells are left out of a row.

    Raises:
        UsageError: A row has more cells than the header, or a quote is never closed.
    """
    header_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        line = reader.line_num + 1
        for values in reader:
            if len(values) > len(header):
                raise UsageError(
                    f"{kind} '{path}', line {line}: {len(values)} cells, but the header has "
                    f"{len(header)}.",
                    hint=f"Put a text that holds '{delimiter}' in double quotes.",
                )
            cells = {
                name: value.strip()
                for name, value in zip(header, values, strict=False)
                if name and value.strip()
            }
            if cells:
                rows.append(Row(line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(
            f"{kind} '{path}' is not valid CSV: {error} (line {reader.line_num})."
        ) from None
    return rows


def cell_to_value(cell: str) -> Any:
    """A CSV cell as JSON would have it: finite numbers and lists as such, all else as text."""
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    if isinstance(value, float) and not math.isfinite(value):
        return cell
    return value if isinstance(value, (int, float, list)) else cell


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole or not at all."""
    # A lone surrogate (from an undecodable file name) becomes its valid JSON escape.
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free temporary name beside ``path`` that takes its place, unless the block fails.

    A link at ``path`` is replaced, not followed. The name is short whatever the length of
    ``path``: names made from prompts reach the file system's limit.
    """
    temporary = path.parent / f".aigve-{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
