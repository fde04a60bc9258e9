"""Conversations of tasks with answers written by hand: no server, no model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aigve_cli.judges.task import Answer, Ask, JudgeTask, Record

Said = str | Answer


def answered(ask: Ask, said: Said) -> Answer:
    """What the engine makes of words; an Answer stands for itself."""
    if isinstance(said, Answer):
        return said
    try:
        return Answer(ask.read(said), said)
    except ValueError as error:
        return Answer(text=said, problem=str(error))


def talk(
    task: JudgeTask, prompt: str | None, say: Callable[[Ask], Said]
) -> tuple[Record, list[list[Ask]]]:
    """The record of a conversation, and what was asked, round by round."""
    conversation, rounds = task.talk(prompt), []
    try:
        asks = next(conversation)
        while True:
            rounds.append(list(asks))
            asks = conversation.send([answered(ask, say(ask)) for ask in asks])
    except StopIteration as stop:
        record = stop.value
    # A record is kept as JSON, in UTF-8.
    assert json.loads(json.dumps(record, allow_nan=False, ensure_ascii=False).encode()) == record
    return record, rounds


def quoted_strings(text: str) -> list[str]:
    """Every JSON string of a text that begins behind a colon and a space."""
    decoder, found = json.JSONDecoder(), []
    for place in range(len(text)):
        if text.startswith(': "', place):
            try:
                found.append(decoder.raw_decode(text, place + 2)[0])
            except ValueError:
                continue
    return found


def said_as(document: Mapping[str, Any]) -> str:
    return json.dumps(document)


def nobody(ask: Ask) -> Said:
    return Answer(problem="nobody is there")
