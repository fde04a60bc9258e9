"""TIFA: how many questions about its prompt a video answers as the prompt does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from aigve_cli.contract import (
    Card,
    Option,
    OptionValue,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.judges.question_sets import ChoiceQuestion, choice_question
from aigve_cli.judges.reading import choice_in_text
from aigve_cli.judges.task import Ask, Expected, JudgeTask, Record, Talk
from aigve_cli.judges.tifa_questions import TYPICAL, TYPICAL_QUESTIONS, VERSION, TifaQuestions
from aigve_cli.judges.wording import (
    SYSTEM,
    asks_to_tokens,
    listed,
    object_schema,
    problem_to_json,
    quoted,
)
from aigve_cli.metrics import _judged

_KINDS = "kinds"


@dataclass(frozen=True)
class TifaTask(JudgeTask):
    """The questions about a prompt, and each of them put to whoever sees the video."""

    filter: str = "text"
    """Of questions that the judge writes; ``off`` for those of a file."""
    path: str = ""
    """Of a file of questions; empty where the judge writes them."""
    sha256: str = ""
    prompt_version: ClassVar[str] = VERSION

    def talk(self, prompt: str | None) -> Talk:
        """Its record has the questions with what was answered."""
        caption = prompt or ""
        if self.path:
            found = _judged.set_of_file(self.path, self.sha256, "tifa", caption)
        else:
            found = dict((yield from TifaQuestions(self.filter).talk(caption)))
        questions = found["questions"]
        asks = [_ask(choice_question(question)) for question in questions]
        answers = (yield asks) if asks else ()
        asked: list[dict[str, Any]] = []
        for question, answer in zip(questions, answers, strict=True):
            unread = problem_to_json(answer) if answer.value is None else {}
            asked.append({**question, "answered": answer.value, **unread})
        return {"prompt_version": self.prompt_version, **found, "questions": asked}

    def expected(self, prompt: str | None) -> Expected:
        """Known beforehand only for questions of a file."""
        caption = prompt or ""
        if self.path:
            questions = _judged.set_of_file(self.path, self.sha256, "tifa", caption)["questions"]
            asks = [_ask(choice_question(question)) for question in questions]
            return Expected(0, len(asks), 0, asks_to_tokens(asks, answer=10))
        written = TifaQuestions(self.filter).expected(caption)
        tokens = asks_to_tokens([_ask(TYPICAL)] * TYPICAL_QUESTIONS, answer=10)
        return replace(written, shown_requests=TYPICAL_QUESTIONS, shown_tokens=tokens)


class Tifa(_judged.JudgedMetric):
    """The share of questions that are answered as the prompt has it."""

    card = Card(
        name="tifa",
        title="TIFA: questions about the prompt, answered from the video",
        category="vision_language_understanding",
        values=(Value("tifa", "higher", (0.0, 1.0), "share of questions"),),
        version=1,
        needs=("prompt", "judge"),
        options=(
            Option(
                "filter",
                "text",
                "text: the text judge must answer a question from the prompt alone, else it is not "
                "asked. off: all are asked. Questions of a file are asked as they are.",
                choices=("text", "off"),
            ),
            _judged.questions_option("tifa"),
            *_judged.OPTIONS,
        ),
        cite="Hu et al. 2023, TIFA: Accurate and Interpretable Text-to-Image Faithfulness "
        "Evaluation with Question Answering, arXiv:2303.11897",
        source="Yushi-Hu/tifa 8e37050",
        deviations=(
            "The questions are asked for in our own words, in the same kinds; the same judge, or "
            "that of texts, checks them, where TIFA uses UnifiedQA.",
            "The judge picks a choice; TIFA takes the nearest one to a free answer.",
            "A question without an answer that can be read is left out.",
        ),
        licence="Apache-2.0 (TIFA); answers: terms of the judge's model",
    )

    def task(self, options: Mapping[str, OptionValue]) -> TifaTask:
        """With the questions of a file where one is named."""
        path, sha256 = _judged.questions_file(options, "tifa")
        return TifaTask("off" if path else str(options["filter"]), path, sha256)

    def record_to_score(self, record: Record, options: Mapping[str, OptionValue]) -> Score:
        """The share of right answers."""
        answered = [each for each in record["questions"] if each["answered"] is not None]
        missing = _judged.missing_answers(record)
        details = {**_judged.record_details(record), **missing.counts}
        reason = missing.reason or (None if answered else _why_none(record))
        if reason:
            return Score(details=details, reason=reason)
        kinds = _kinds_of(answered)
        right = sum(map(_is_right, answered))
        return Score(
            values={"tifa": right / len(answered)},
            details={_KINDS: kinds, **details},
            notes=(
                *_judged.counted_notes(missing.counts, missing.problem),
                *record.get("notes", ()),
            ),
        )

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Of one record, or the mean over frames; kinds are then pooled over frames."""
        score = super().score(features, sample, options)
        frames = score.details.get("frames")
        if not frames or score.reason:
            return score
        kinds = pooled_kinds(frame.get(_KINDS, {}) for frame in frames)
        return replace(score, details={_KINDS: kinds, **score.details})

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The mean over videos, as TIFA's; its kinds are pooled over all questions."""
        mean = super().summarise(scores)
        kinds = pooled_kinds(score.details.get(_KINDS, {}) for score in scores)
        return replace(mean, details={**mean.details, _KINDS: kinds})


def pooled_kinds(parts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Accuracy by kind of element over all questions of several videos or frames."""
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for part in parts:
        for kind, facts in part.items():
            # Whole numbers again: the accuracy is their quotient.
            right[kind] = right.get(kind, 0) + round(facts["accuracy"] * facts["questions"])
            asked[kind] = asked.get(kind, 0) + facts["questions"]
    return {
        kind: {"accuracy": right[kind] / asked[kind], "questions": asked[kind]}
        for kind in sorted(asked)
    }


def _kinds_of(answered: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return pooled_kinds(
        {question["element_type"]: {"accuracy": float(_is_right(question)), "questions": 1}}
        for question in answered
    )


def _is_right(question: Mapping[str, Any]) -> bool:
    return bool(question["answered"] == question["answer"])


def _why_none(record: Record) -> str:
    dropped = record.get("dropped", ())
    if dropped:
        were = "was" if len(dropped) == 1 else "were"
        example = _described(dropped[0])
        return f"no question is left: {len(dropped)} {were} dropped, such as {example}"
    return "there is no question about this prompt"


def _described(entry: Mapping[str, Any]) -> str:
    return f"{quoted(entry['question'])} ({entry['why']})"


def _ask(question: ChoiceQuestion) -> Ask:
    text = (
        "Answer this question about the video with one of the choices, the one that fits best.\n"
        f"The question: {quoted(question.question)}\nThe choices: {listed(question.choices)}\n"
        'Reply with one JSON object: {"answer": "one of the choices"}'
    )
    return Ask(
        question.question,
        text,
        partial(choice_in_text, choices=question.choices),
        system=SYSTEM,
        schema=object_schema({"answer": {"type": "string", "enum": list(question.choices)}}),
        max_tokens=256,
    )
