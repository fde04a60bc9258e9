"""What a server's bytes say: an answer, or what was wrong. They come from strangers."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any, NamedTuple

_LONGEST_WORDS = 300


class Fault(NamedTuple):
    """What a server says of a request that failed."""

    words: str
    """One line for people, without the key."""
    complaint: str
    """As much of it as people would read, in lower case."""
    parameter: str
    """The parameter that it says is wrong, in lower case; empty where it does not say."""
    codes: tuple[str, ...]


class Completion(NamedTuple):
    """A message and what is told about it."""

    text: str
    finish: str
    first_token: dict[str, float] | None
    """Natural log-probabilities; None where it does not tell."""
    tokens_read: int
    tokens_written: int
    model: str
    """Its name for the model, which may say more than the name that was asked for."""


def content_to_completion(content: bytes) -> Completion:
    """Read the body of a reply; no content is an empty text.

    Raises:
        ValueError: It is no JSON, or there is no message in it.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    try:
        choice = document["choices"][0]
        spoken, refusal = choice["message"].get("content"), choice["message"].get("refusal")
    except (TypeError, KeyError, IndexError, AttributeError):
        raise ValueError("no answer") from None
    text, finish = _spoken_to_text(spoken), choice.get("finish_reason")
    if not text and isinstance(refusal, str) and refusal:
        text, finish = refusal, "refusal"
    usage = document.get("usage")
    return Completion(
        text,
        finish if isinstance(finish, str) and finish else "stop",
        _first_token(choice.get("logprobs")),
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        str(document.get("model") or ""),
    )


def content_to_fault(content: bytes, key: str | None) -> Fault:
    """Read the body of an error, or of anything else that is no answer.

    Args:
        content: The body.
        key: Replaced by ``***`` wherever it stands.
    """
    text = content.decode("utf-8", "replace")
    words, codes, parameter = text, [], ""
    with suppress(ValueError, RecursionError):
        error = json.loads(text)
        if isinstance(error, dict):
            error = error.get("error", error)
        if isinstance(error, dict):
            codes = [str(error.get(name)) for name in ("code", "type")]
            parameter = str(error.get("param") or "").lower()
            said = error.get("message") or error.get("detail") or error
            words = said if isinstance(said, str) else json.dumps(said)
        elif isinstance(error, str):
            words = error
    # Some echo the whole request behind their words.
    complaint = words[: 4 * _LONGEST_WORDS].lower()
    return Fault(to_line(words, key) or "nothing", complaint, parameter, tuple(codes))


def to_line(words: str, key: str | None) -> str:
    """One line for people, cut to 300 characters, with ``***`` in place of the key."""
    # The key goes first: cut in two it would not be found.
    line = " ".join((words.replace(key, "***") if key else words).split())
    return line if len(line) <= _LONGEST_WORDS else f"{line[: _LONGEST_WORDS - 1]}…"


def _spoken_to_text(spoken: Any) -> str:
    """A message's content as text: some servers send a list of parts."""
    if isinstance(spoken, str):
        return spoken
    if not isinstance(spoken, list):
        return ""
    parts = [part for part in spoken if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(str(part.get("text", "")) for part in parts)


def _first_token(logprobs: Any) -> dict[str, float] | None:
    """The likeliest tokens where the first word begins: before it may be space or a quote."""
    try:
        for place in logprobs["content"]:
            if any(sign.isalnum() for sign in place["token"]):
                told = [place, *(place.get("top_logprobs") or ())]
                likely = {str(one["token"]): float(one["logprob"]) for one in told}
                return {token: value for token, value in likely.items() if math.isfinite(value)}
    except (TypeError, KeyError, ValueError, AttributeError):
        pass  # it does not tell, or tells it in a form of its own
    return None


def _count(usage: Any, name: str) -> int:
    number = usage.get(name) if isinstance(usage, dict) else None
    return number if type(number) is int and number > 0 else 0
