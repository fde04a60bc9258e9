"""VIEScore: a judge rates how a video follows its prompt, and how good it looks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from aigve_cli.contract import Card, OptionValue, Score, Value
from aigve_cli.judges.reading import scores_in_text
from aigve_cli.judges.task import Answer, Ask, Expected, JudgeTask, Record, Talk
from aigve_cli.judges.wording import (
    SYSTEM,
    asks_to_tokens,
    cut_text,
    list_schema,
    object_schema,
    problem_to_json,
    prompt_as_data,
)
from aigve_cli.metrics import _judged

_PERSONA = "You are a professional digital artist, and rate a video that was made from a text."
_REPLY = (
    'Reply with one JSON object: {{"score": [{score}], "reasoning": "why, in a few sentences"}}'
)
_SCHEMA = object_schema({"score": list_schema({"type": "number"}), "reasoning": {"type": "string"}})
_PARTS = {"semantic": "how it follows the prompt", "quality": "perceptual quality"}


@dataclass(frozen=True)
class VieScoreTask(JudgeTask):
    """Two questions, asked at the same time: only the first one knows the prompt."""

    prompt_version: ClassVar[str] = "viescore-1"

    def talk(self, prompt: str | None) -> Talk:
        """Its record has the scores and the reasons of ``semantic`` and of ``quality``."""
        answers = yield [_ask_semantic(prompt or ""), _ask_quality()]
        found = dict(zip(_PARTS, map(_answer_to_json, answers), strict=True))
        return {"prompt_version": self.prompt_version, **found}

    def expected(self, prompt: str | None) -> Expected:
        """Two questions about the frames."""
        asks = [_ask_semantic(prompt or ""), _ask_quality()]
        return Expected(0, len(asks), 0, asks_to_tokens(asks, answer=80))


class VieScore(_judged.JudgedMetric):
    """The square root of two ratings' product, and both ratings."""

    card = Card(
        name="viescore",
        title="VIEScore: a judge rates prompt following and quality",
        category="vision_language_understanding",
        values=(
            Value("viescore", "higher", (0.0, 10.0), "rating"),
            Value("viescore-semantic", "higher", (0.0, 10.0), "rating"),
            Value("viescore-quality", "higher", (0.0, 10.0), "rating"),
        ),
        version=1,
        needs=("prompt", "judge"),
        options=_judged.OPTIONS,
        cite="Ku et al. 2024, VIEScore: Towards Explainable Metrics for Conditional Image "
        "Synthesis Evaluation, arXiv:2312.14867",
        source="TIGER-AI-Lab/VIEScore 2cbea4e, task t2v",
        deviations=(
            "The questions are in our own words; schema, scales and formulas are VIEScore's.",
            "A rating that cannot be read is missing; VIEScore puts a random number there.",
            "A rating that is not from 0 to 10 is not taken; VIEScore takes it as it is.",
        ),
        licence="MIT (VIEScore); answers: terms of the judge's model",
    )

    def task(self, options: Mapping[str, OptionValue]) -> VieScoreTask:
        """The same under all options."""
        return VieScoreTask()

    def record_to_score(self, record: Record, options: Mapping[str, OptionValue]) -> Score:
        """Both ratings are needed."""
        details = {name: record[name] for name in ("prompt_version", *_PARTS)}
        problems = [
            f"no rating of {_PARTS[name]}: {record[name]['problem']}"
            for name in _PARTS
            if "problem" in record[name]
        ]
        if problems:
            return Score(details=details, reason="; ".join(problems))
        return Score(
            values=ratings_to_values(record["semantic"]["score"], record["quality"]["score"]),
            details=details,
        )


def ratings_to_values(semantic: list[float], quality: list[float]) -> dict[str, float]:
    """VIEScore's formula: the lowest rating of each side counts.

    Args:
        semantic: Ratings of prompt following, 0..10.
        quality: Ratings of naturalness and of artifacts, 0..10, where 10 is the best.
    """
    follows, looks = min(semantic), min(quality)
    return {
        "viescore": math.sqrt(follows * looks),
        "viescore-semantic": follows,
        "viescore-quality": looks,
    }


def _ask_semantic(prompt: str) -> Ask:
    text = (
        f"{_PERSONA}\n\n{prompt_as_data(prompt)}\n\n"
        "How well does the video as a whole follow its prompt? Rate it from 0 to 10: 0 if nothing "
        "that the prompt asks for is in it, 10 if all of it is there, just as asked for. Rate "
        "nothing else: not how good it looks.\n"
        f"{_REPLY.format(score='your rating')}"
    )
    return _ask("semantic", text, 1)


def _ask_quality() -> Ask:
    text = (
        f"{_PERSONA}\n\n"
        "How good does the video look? Give two ratings from 0 to 10.\n"
        "1. Naturalness: 0 if light, shadows, distances or movements look unnatural all over, "
        "10 if everything looks natural.\n"
        "2. Artifacts: 0 if it is full of distortions, smears, flicker, watermarks, scratches, "
        "faces or limbs that are wrong, or things that do not belong together, 10 if there is "
        "none of these.\n"
        f"{_REPLY.format(score='naturalness, artifacts')}"
    )
    return _ask("quality", text, 2)


def _ask(part: str, text: str, count: int) -> Ask:
    read = partial(scores_in_text, count=count)
    return Ask(_PARTS[part], text, read, system=SYSTEM, schema=_SCHEMA, max_tokens=1024)


def _answer_to_json(answer: Answer) -> dict[str, Any]:
    if answer.value is None:
        return problem_to_json(answer)
    return {"score": list(answer.value.scores), "reasoning": cut_text(answer.value.reasoning)}
