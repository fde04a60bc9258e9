"""What tests of the desk and of endpoints share: tasks, calls, and ways to run them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from aigve_cli.judges.backend import Backend, Call, Message, Picture, Reply
from aigve_cli.judges.cache import AnswerCache
from aigve_cli.judges.desk import Desk
from aigve_cli.judges.openai_endpoint import OpenAIEndpoint
from aigve_cli.judges.task import Ask, JudgeTask, Talk

KEY = "sk-test-1234567890abcdef"
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
    "additionalProperties": False,
}
WAIT = 20
"""Seconds after which a test that waits has failed."""


def text_call(text: str = "how good?", **facts: Any) -> Call:
    """One question without pictures."""
    return Call((Message("user", (text,)),), **facts)


def quick_endpoint(url: str, key: str | None = KEY, **facts: Any) -> OpenAIEndpoint:
    """An endpoint that gives up soon."""
    return OpenAIEndpoint("scripted", url, key, **{"max_retries": 2, "read_seconds": WAIT, **facts})


def replies(endpoint: OpenAIEndpoint, *calls: Call, together: bool = True) -> list[Any]:
    """Replies or errors, in one event loop, at the same time or one after another."""

    async def ask() -> list[Any]:
        try:
            if together:
                return await asyncio.gather(*map(endpoint.reply, calls), return_exceptions=True)
            said: list[Any] = []
            for call in calls:
                said += await asyncio.gather(endpoint.reply(call), return_exceptions=True)
            return said
        finally:
            await endpoint.close()

    return asyncio.run(ask())


def reply_to(endpoint: OpenAIEndpoint, call: Call) -> Reply:
    """The reply to one call; raises what it raises."""
    (said,) = replies(endpoint, call)
    if isinstance(said, BaseException):
        raise said
    assert isinstance(said, Reply)
    return said


def to_number(text: str) -> int:
    """A reader that takes a whole number and nothing else."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text}' is no whole number") from None


@dataclass(frozen=True)
class Questions(JudgeTask):
    """Asks these questions, all at once or one after another, and tells all that came of them."""

    prompt_version: ClassVar[str] = "test-1"
    texts: tuple[str, ...] = ("how good?",)
    one_by_one: bool = False
    shown: bool = True
    read: Callable[[str], Any] = to_number
    words: tuple[str, ...] = ()
    schema: bool = False

    def talk(self, prompt: str | None) -> Talk:
        asks = [
            Ask(
                f"about {text}",
                text if prompt is None else f"{text} {prompt}",
                self.read,
                shown=self.shown,
                words=self.words,
                schema=SCHEMA if self.schema else None,
                max_tokens=32,
            )
            for text in self.texts
        ]
        answers = []
        for group in [[ask] for ask in asks] if self.one_by_one else [asks]:
            answers += yield group
        return {
            "values": [answer.value for answer in answers],
            "problems": [answer.problem for answer in answers],
            "texts": [answer.text for answer in answers],
            "unanswered": [answer.unanswered for answer in answers],
            "probabilities": [answer.probabilities for answer in answers],
        }


@contextmanager
def open_desk(
    endpoint: Backend,
    folder: Path,
    *,
    text: Backend | None = None,
    concurrency: int = 4,
    max_requests: int | None = None,
) -> Iterator[Desk]:
    """A desk, closed at the end."""
    desk = Desk(
        shown=endpoint,
        text=text or endpoint,
        cache=AnswerCache(folder),
        concurrency=concurrency,
        max_requests=max_requests,
    )
    try:
        yield desk
    finally:
        desk.close()


def flat_picture(colour: Sequence[int], height: int = 24, width: int = 40) -> Picture:
    """A picture of one colour."""
    return Picture(np.full((height, width, 3), colour, np.uint8))
