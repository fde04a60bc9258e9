"""JSON as language models write it: quotes and keys of any kind, commas at the end."""

from __future__ import annotations

import json
import re
from typing import Any

_DEPTH = 32
_STRING = re.compile(r""""([^"\\]*(?:\\.[^"\\]*)*)"|'([^'\\]*(?:\\.[^'\\]*)*)'""", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_WORD = re.compile(r"""[^\s,:{}\[\]"'][^,:{}\[\]"'\n]*""")
_SPACE = re.compile(r"\s*")
_PYTHON_WORDS = {"True": True, "False": False, "None": None}


def relaxed_value(text: str, at: int) -> Any:
    """The JSON-like value that begins at a place of a text, read in one pass.

    Strings may have single quotes; keys, and values of one line, none; a comma may stand before
    the end of an object or a list. Words are texts, but for numbers and those of JSON and Python.

    Raises:
        ValueError: What stands there is cut off, nested too deeply, or no such value.
    """
    return _Reader(text, at).value(_DEPTH)


def refuse_constant(constant: str) -> Any:
    """For ``json.loads``: NaN and infinities are no JSON."""
    raise ValueError(f"{constant} is no number")


class _Reader:
    """A place in the text, which only moves on."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self._at = at

    def value(self, depth: int) -> Any:
        if depth == 0:
            raise ValueError("nested too deeply")
        sign = self._next()
        if sign == "{":
            return self._object(depth)
        if sign == "[":
            return self._array(depth)
        return self._string() if sign in "\"'" else self._word()

    def _next(self) -> str:
        """The next sign that is no space, which is not passed yet."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        if self._at == len(self._text):
            raise ValueError("cut off")
        return self._text[self._at]

    def _object(self, depth: int) -> dict[str, Any]:
        found = {}
        self._at += 1
        while self._next() != "}":
            key = self._string() if self._next() in "\"'" else self._match(_KEY)[0]
            if self._next() != ":":
                raise ValueError("a key without a value")
            self._at += 1
            found[key] = self.value(depth - 1)
            self._end_of_item("}")
        self._at += 1
        return found

    def _array(self, depth: int) -> list[Any]:
        found = []
        self._at += 1
        while self._next() != "]":
            found.append(self.value(depth - 1))
            self._end_of_item("]")
        self._at += 1
        return found

    def _end_of_item(self, end: str) -> None:
        sign = self._next()
        if sign == ",":
            self._at += 1
        elif sign != end:
            raise ValueError("no comma")

    def _string(self) -> str:
        found = self._match(_STRING)
        if found[1] is None:  # single quotes: as JSON would have it
            inner = found[2].replace("\\'", "'")
            inner = re.sub(r'(\\.)|"', lambda part: part[1] or '\\"', inner, flags=re.DOTALL)
        else:
            inner = found[1]
        string: str = json.loads(f'"{inner}"', strict=False)
        return string

    def _word(self) -> Any:
        word = self._match(_WORD)[0].rstrip()
        if word in _PYTHON_WORDS:
            return _PYTHON_WORDS[word]
        try:
            return json.loads(word, parse_constant=refuse_constant)
        except ValueError:
            return word

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError("not a value")
        self._at = found.end()
        return found
