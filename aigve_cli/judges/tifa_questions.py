"""TIFA's questions: written by a text judge from the prompt, and checked against it.

The kinds of elements, the form of a question and the rule of the filter are those of Hu et al.
2023 (https://github.com/Yushi-Hu/tifa, 8e37050, Apache-2.0). The words and the examples are ours,
and the judge of the filter is a language model, where theirs is UnifiedQA.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

from aigve_cli.judges.question_sets import ChoiceQuestion, choice_question
from aigve_cli.judges.reading import (
    answer_in_text,
    choice_in_text,
    json_in_text,
    plain,
    without_surrogates,
    without_thinking,
    words_to_number,
)
from aigve_cli.judges.task import Answer, Ask, Expected, JudgeTask, Record, Talk
from aigve_cli.judges.tifa_prompt import EXAMPLES, INSTRUCTIONS, KINDS, REPLY
from aigve_cli.judges.wording import (
    LONGEST_TEXT,
    TEXT_SYSTEM,
    asks_to_tokens,
    cut_text,
    list_schema,
    listed,
    object_schema,
    prompt_as_data,
    quoted,
    unanswered_to_json,
)

VERSION = "tifa-1"
_MERGED = "animal/human"
MOST_QUESTIONS = 40
_MOST_ENTRIES = 400
_MOST_CHOICES = 8
_FREE_FORM = 0.6
TYPICAL_QUESTIONS = 8
TYPICAL = ChoiceQuestion("what is the dog doing?", ("running", "sitting", "eating", "lying"), "-")

_QUESTION_SCHEMA = object_schema(
    {
        "question": {"type": "string"},
        "choices": list_schema({"type": "string"}),
        "answer": {"type": "string"},
    }
)
_ELEMENT_SCHEMA = object_schema(
    {
        "element": {"type": "string"},
        "type": {"type": "string", "enum": list(KINDS)},
        "questions": list_schema(_QUESTION_SCHEMA),
    }
)
_SCHEMA = object_schema({"elements": list_schema(_ELEMENT_SCHEMA)})


class Generated(NamedTuple):
    """What a judge wrote."""

    questions: tuple[ChoiceQuestion, ...]
    dropped: tuple[Record, ...]
    """Questions that cannot be used, and why."""


@dataclass(frozen=True)
class TifaQuestions(JudgeTask):
    """Writes the questions about a prompt. Its record is one set of a question file."""

    filter: str = "text"
    """``text`` checks each question against the prompt; ``off`` takes all."""
    prompt_version: ClassVar[str] = VERSION

    def talk(self, prompt: str | None) -> Talk:
        """One question to the text judge, and one or two more a question to check it."""
        caption = without_surrogates(prompt or "")
        (answer,) = yield [_ask_for_questions(caption)]
        found: dict[str, Any] = {"caption": caption, "questions": [], "dropped": []}
        if answer.value is None:
            problem = f"no questions could be made: {answer.problem}"
            return found | {"problem": problem, **unanswered_to_json(answer)}
        questions, dropped = _without_repeats(answer.value)
        if self.filter != "off":
            questions, checked = yield from _check_against(caption, questions)
            dropped += checked
        return found | {
            "questions": [question.to_json() for question in questions],
            "dropped": dropped,
        }

    def expected(self, prompt: str | None) -> Expected:
        """As for a typical prompt: nobody knows yet how many questions there will be."""
        caption = prompt or ""
        tokens = asks_to_tokens([_ask_for_questions(caption)], answer=400)
        requests = 1
        if self.filter != "off":
            # About every second question has other choices than yes and no.
            checks = [_ask_choice(caption, TYPICAL)] * TYPICAL_QUESTIONS
            checks += [_ask_free_form(caption, TYPICAL)] * (TYPICAL_QUESTIONS // 2)
            tokens += asks_to_tokens(checks, answer=10)
            requests += len(checks)
        return Expected(requests, 0, tokens, 0, exact=False)


def questions_in_text(text: str) -> Generated:
    """The questions of an answer, as JSON or in the lines that TIFA's own prompt asks for.

    Raises:
        ValueError: There is no question that can be used.
    """
    try:
        found = json_in_text(text)
    except ValueError:
        spoken = without_thinking(text)
        if "{" in spoken or not spoken:
            raise
        entries = list(_blocks(spoken))
    else:
        entries = list(_entries(found))
    if len(entries) > _MOST_ENTRIES:
        raise ValueError(f"there are {len(entries)} questions: {MOST_QUESTIONS} are enough")
    questions: list[ChoiceQuestion] = []
    dropped: list[Record] = []
    for entry in entries:
        try:
            kind = _merged_kind(entry["element_type"])
            if len(questions) == MOST_QUESTIONS:
                raise ValueError(f"there are more than {MOST_QUESTIONS}")
            question = choice_question({**entry, "element_type": kind}, most=_MOST_CHOICES)
            _refuse_long(question.element, question.question, *question.choices)
        except ValueError as error:
            dropped.append(_dropped(entry.get("question"), str(error)))
        else:
            questions.append(question)
    if not questions:
        reasons = "; ".join(dict.fromkeys(str(entry["why"]) for entry in dropped))
        raise ValueError(f"there is no question that can be used{reasons and ': ' + reasons}")
    return Generated(tuple(questions), tuple(dropped))


def passes_filter(question: ChoiceQuestion, chosen: str, free_form: str | None) -> bool:
    """TIFA's rule: whoever reads the caption alone must come to the same answer.

    Args:
        question: The question.
        chosen: The choice that was picked from the caption.
        free_form: The answer from the caption without choices; None for yes and no.
    """
    if chosen != question.answer:
        return False
    if free_form is None:
        return True
    if question.answer.isnumeric() and (number := words_to_number(free_form)) is not None:
        free_form = str(number)
    return token_f1(question.answer, free_form) > _FREE_FORM


def token_f1(gold: str, said: str) -> float:
    """The F1 of words: TIFA's, by which words are in the other text, but blind to case."""
    wanted, found = (list(map(plain, text.split())) for text in (gold, said))
    if not wanted or not found:
        return float(wanted == found)
    # A word that stands twice counts as often as it stands in the gold, as in TIFA's code.
    hits = sum(word in found for word in wanted)
    strangers = sum(word not in wanted for word in found)
    return 2 * hits / (hits + strangers + len(wanted))


def is_yes_or_no(question: ChoiceQuestion) -> bool:
    """Whether its answer is yes or no: those are not asked without choices."""
    return question.answer.casefold() in ("yes", "no")


def _without_repeats(generated: Generated) -> tuple[list[ChoiceQuestion], list[Record]]:
    by_words: dict[str, ChoiceQuestion] = {}
    dropped = list(generated.dropped)
    for question in generated.questions:
        if by_words.setdefault(plain(question.question), question) is not question:
            dropped.append(_dropped(question.question, "it is asked twice"))
    return list(by_words.values()), dropped


def _check_against(
    caption: str, questions: Sequence[ChoiceQuestion]
) -> Generator[Sequence[Ask], Sequence[Answer], tuple[list[ChoiceQuestion], list[Record]]]:
    """Keep the questions that the caption alone answers as expected."""
    asks = [_ask_choice(caption, question) for question in questions]
    open_ones = [question for question in questions if not is_yes_or_no(question)]
    asks += [_ask_free_form(caption, question) for question in open_ones]
    answers = yield asks
    chosen = answers[: len(questions)]
    free_form = dict(zip(open_ones, answers[len(questions) :], strict=True))
    kept: list[ChoiceQuestion] = []
    dropped: list[Record] = []
    for question, picked in zip(questions, chosen, strict=True):
        said = free_form.get(question)
        unread = [answer for answer in (picked, said) if answer and answer.value is None]
        if unread:
            entry = _dropped(question.question, f"not checked: {unread[0].problem}")
            dropped.append({**entry, "unchecked": True, **unanswered_to_json(*unread)})
        elif passes_filter(question, picked.value, said.value if said else None):
            kept.append(question)
        else:
            others = [quoted(cut_text(str(answer.value))) for answer in (picked, said) if answer]
            why = f"the prompt alone gives {' and '.join(others)}"
            dropped.append(_dropped(question.question, why))
    return kept, dropped


def _ask_for_questions(caption: str) -> Ask:
    return Ask(
        "questions about the prompt",
        f"{INSTRUCTIONS}\n{EXAMPLES}\n{prompt_as_data(caption)}\n\n{REPLY}",
        questions_in_text,
        system=TEXT_SYSTEM,
        shown=False,
        schema=_SCHEMA,
        max_tokens=3072,
        whole=True,
    )


def _ask_choice(caption: str, question: ChoiceQuestion) -> Ask:
    text = (
        f"{prompt_as_data(caption)}\n\nThere is no video: answer from this prompt alone, with the "
        f"choice that fits it best.\nThe question: {quoted(question.question)}\n"
        f"The choices: {listed(question.choices)}\n"
        'Reply with one JSON object: {"answer": "one of the choices"}'
    )
    return Ask(
        "a check of a question",
        text,
        partial(choice_in_text, choices=question.choices),
        system=TEXT_SYSTEM,
        shown=False,
        schema=object_schema({"answer": {"type": "string", "enum": list(question.choices)}}),
        max_tokens=256,
    )


def _ask_free_form(caption: str, question: ChoiceQuestion) -> Ask:
    text = (
        f"{prompt_as_data(caption)}\n\nThere is no video: answer from this prompt alone, with as "
        "few words as possible, and in its own words where it has them.\n"
        f"The question: {quoted(question.question)}\n"
        'Reply with one JSON object: {"answer": "your answer"}'
    )
    return Ask(
        "a check of a question",
        text,
        answer_in_text,
        system=TEXT_SYSTEM,
        shown=False,
        schema=object_schema({"answer": {"type": "string"}}),
        max_tokens=256,
    )


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    """Fields of each question of the JSON that was asked for."""
    elements = document.get("elements") if isinstance(document, Mapping) else document
    if not isinstance(elements, list):
        raise ValueError('there is no list "elements"')
    for element in elements:
        fields = element if isinstance(element, Mapping) else {}
        questions = fields.get("questions")
        for question in questions if isinstance(questions, list) else [fields]:
            yield {
                **(question if isinstance(question, Mapping) else {}),
                "element": fields.get("element"),
                "element_type": fields.get("type"),
            }


def _blocks(text: str) -> Iterator[dict[str, Any]]:
    """Fields of each question of the lines ``About X (kind):``, ``Q:``, ``Choices:``, ``A:``."""
    fields: dict[str, Any] = {"element_type": None}
    for line in map(str.strip, text.splitlines()):
        name, _, value = (part.strip() for part in line.partition(":"))
        if about := re.fullmatch(r"About (.+) \(([^()]*)\):?", line):
            fields = {"element": about[1], "element_type": about[2]}
        elif name == "Q":
            fields |= {"question": value, "choices": None}
        elif name == "Choices":
            fields["choices"] = [choice.strip() for choice in value.split(",")]
        elif name == "A":
            yield {**fields, "answer": value}


def _merged_kind(kind: Any) -> str:
    """An element's kind as TIFA reports it: animals and humans are one."""
    name = str(kind).strip().casefold()
    if name in ("animal", "human", _MERGED):
        return _MERGED
    if name not in KINDS:
        kind = quoted(cut_text(str(kind)))
        raise ValueError(f"its type {kind} is not one of {', '.join(KINDS)}")
    return name


def _refuse_long(*texts: str) -> None:
    if any(len(text) > LONGEST_TEXT for text in texts):
        raise ValueError(f"a text of it is longer than {LONGEST_TEXT:,} characters")


def _dropped(question: Any, why: str) -> dict[str, Any]:
    return {"question": cut_text(str(question or "")), "why": why}
