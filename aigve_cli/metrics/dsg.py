"""DSG: yes-or-no questions about the statements of a prompt, which depend on one another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from aigve_cli.contract import Card, Option, OptionValue, Score, Value
from aigve_cli.judges.dsg_questions import TYPICAL_QUESTIONS, VERSION, DsgQuestions
from aigve_cli.judges.reading import yes_or_no
from aigve_cli.judges.task import Answer, Ask, Expected, JudgeTask, Record, Talk
from aigve_cli.judges.wording import SYSTEM, asks_to_tokens, problem_to_json, quoted
from aigve_cli.metrics import _judged

_HALF = 0.5


@dataclass(frozen=True)
class DsgTask(JudgeTask):
    """The questions about a prompt, and each of them put to whoever sees the video."""

    path: str = ""
    """Of a file of questions; empty where the judge writes them."""
    sha256: str = ""
    prompt_version: ClassVar[str] = VERSION

    def talk(self, prompt: str | None) -> Talk:
        """Its record has the questions with what was answered."""
        caption = prompt or ""
        if self.path:
            found = _judged.set_of_file(self.path, self.sha256, "dsg", caption)
        else:
            found = dict((yield from DsgQuestions().talk(caption)))
        questions = found["questions"]
        asks = [_ask(question["question"]) for question in questions]
        answers = (yield asks) if asks else ()
        asked = [
            {**question, **_answer_to_json(answer)}
            for question, answer in zip(questions, answers, strict=True)
        ]
        return {"prompt_version": self.prompt_version, **found, "questions": asked}

    def expected(self, prompt: str | None) -> Expected:
        """Known beforehand only for questions of a file."""
        caption = prompt or ""
        if self.path:
            questions = _judged.set_of_file(self.path, self.sha256, "dsg", caption)["questions"]
            asks = [_ask(question["question"]) for question in questions]
            return Expected(0, len(asks), 0, asks_to_tokens(asks, answer=2))
        typical = [_ask("Is the motorcycle parked?")] * TYPICAL_QUESTIONS
        return replace(
            DsgQuestions().expected(caption),
            shown_requests=TYPICAL_QUESTIONS,
            shown_tokens=asks_to_tokens(typical, answer=2),
            exact=False,
        )


class Dsg(_judged.JudgedMetric):
    """The share of questions answered with yes, with and without dependencies."""

    card = Card(
        name="dsg",
        title="DSG: yes-or-no questions that depend on one another",
        category="vision_language_understanding",
        values=(
            Value("dsg", "higher", (0.0, 1.0), "share of questions"),
            Value("dsg-without-dependencies", "higher", (0.0, 1.0), "share of questions"),
        ),
        version=1,
        needs=("prompt", "judge"),
        options=(
            Option(
                "answers",
                "words",
                "words: an answer counts 1 for yes and 0 for no, as published. probability: it "
                "counts the judge's probability of yes, where the judge tells.",
                choices=("words", "probability"),
            ),
            _judged.questions_option("dsg"),
            *_judged.OPTIONS,
        ),
        cite="Cho et al. 2024, Davidsonian Scene Graph: Improving Reliability in Fine-grained "
        "Evaluation for Text-to-Image Generation, arXiv:2310.18235",
        source="j-min/DSG 7330119",
        deviations=(
            "Statements, questions and dependencies are asked for in our own words.",
            "An answer such as 'Yes, it is' is a yes; DSG takes it for no.",
            "A parent that does not exist is passed over, where DSG's code stops.",
            "A question without an answer that can be read is left out, and costs no other.",
        ),
        licence="Apache-2.0 (DSG); answers: terms of the judge's model",
    )

    def task(self, options: Mapping[str, OptionValue]) -> DsgTask:
        """With the questions of a file where one is named."""
        return DsgTask(*_judged.questions_file(options, "dsg"))

    def record_to_score(self, record: Record, options: Mapping[str, OptionValue]) -> Score:
        """The mean of the answers, with dependencies and without."""
        questions = record["questions"]
        missing = _judged.missing_answers(record)
        counts = missing.counts
        reason = missing.reason or (None if questions else "there is no question about this prompt")
        if reason:
            details = {**_judged.record_details(record), **counts}
            return Score(details=details, reason=reason)
        by_probability = options["answers"] != "words"
        answers = questions_to_answers(questions, by_probability=by_probability)
        if by_probability:
            counts |= {
                _judged.ANSWERS_READ: len(answers.scores),
                _judged.BY_WORDS: answers.by_words,
            }
        parents = {question["id"]: question["parents"] for question in questions}
        notes = (*_judged.counted_notes(counts, missing.problem), *_unknown_parents(parents))
        return Score(
            values={
                "dsg": mean_score(zero_dependents(answers.scores, parents)),
                "dsg-without-dependencies": mean_score(answers.scores),
            },
            details={**_judged.record_details(record), **counts},
            notes=(*notes, *record.get("notes", ())),
        )


class Answers(NamedTuple):
    """What the answers count."""

    scores: dict[int, float]
    """By id, of the questions that have an answer: 0..1."""
    by_words: int
    """How many count 0 or 1 although their probability was wanted."""


def questions_to_answers(
    questions: Sequence[Mapping[str, Any]], *, by_probability: bool
) -> Answers:
    """What each answer counts: 1 for yes and 0 for no, or the probability of yes."""
    scores: dict[int, float] = {}
    by_words = 0
    for question in questions:
        if question["answered"] is None:
            continue
        scores[question["id"]] = float(question["answered"] == "yes")
        if by_probability and question["probability_of_yes"] is not None:
            scores[question["id"]] = question["probability_of_yes"]
        elif by_probability:
            by_words += 1
    return Answers(scores, by_words)


def zero_dependents(
    scores: Mapping[int, float], parents: Mapping[int, Sequence[int]]
) -> dict[int, float]:
    """Scores with 0 for a question one of whose direct parents is a no: below a half.

    A parent's own score decides, whatever its parents have, so that circles do no harm. A parent
    without a score, or which does not exist, zeroes nothing.
    """
    return {
        id_: 0.0 if any(scores.get(parent, 1.0) < _HALF for parent in parents.get(id_, ())) else own
        for id_, own in scores.items()
    }


def mean_score(scores: Mapping[int, float]) -> float:
    """The mean of scores, of which there must be one.

    Raises:
        ValueError: There is none.
    """
    if not scores:
        raise ValueError("the mean of no scores")
    return math.fsum(scores.values()) / len(scores)


def _unknown_parents(parents: Mapping[int, Sequence[int]]) -> tuple[str, ...]:
    unknown = sorted({parent for ids in parents.values() for parent in ids} - set(parents))
    if not unknown:
        return ()
    return (f"no question has the id {', '.join(map(str, unknown))}, on which others depend",)


def _ask(question: str) -> Ask:
    text = (
        f"Answer this question about the video: {quoted(question)}\nReply with one word: yes or no."
    )
    return Ask(question, text, yes_or_no, system=SYSTEM, words=("yes", "no"), max_tokens=256)


def _answer_to_json(answer: Answer) -> dict[str, Any]:
    """``answered``, and the probability of yes where the judge tells."""
    probability = None if answer.probabilities is None else answer.probabilities["yes"]
    if answer.value is None:
        return {
            "answered": None,
            "probability_of_yes": probability,
            **problem_to_json(answer),
        }
    return {"answered": answer.value, "probability_of_yes": probability}
