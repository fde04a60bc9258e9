"""Questions about the prompt of a video, as they are asked and as they stand in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aigve_cli.judges.reading import choice_keys, plain, without_punctuation


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question of TIFA, answered by one of its choices."""

    question: str
    choices: tuple[str, ...]
    answer: str
    element: str = ""
    """What of the caption it is about."""
    element_type: str = "other"

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {
            "element": self.element,
            "element_type": self.element_type,
            "question": self.question,
            "choices": list(self.choices),
            "answer": self.answer,
        }


@dataclass(frozen=True)
class YesNoQuestion:
    """A question of DSG."""

    id: int
    question: str
    parents: tuple[int, ...] = ()
    """Ids of the questions without whose yes it makes no sense."""
    proposition: str = ""
    """What it asks after: ``entity - whole (motorcycle)``."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {
            "id": self.id,
            "tuple": self.proposition,
            "question": self.question,
            "parents": list(self.parents),
        }


Question = ChoiceQuestion | YesNoQuestion


@dataclass(frozen=True)
class QuestionSet:
    """The questions about one caption."""

    caption: str
    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()
    id: str = ""
    """The caption's name in a published file."""

    entry: Mapping[str, Any] | None = field(default=None, compare=False)
    """As it stands in a file of ours, with what people have added."""

    def to_json(self) -> dict[str, Any]:
        """For a file of ours."""
        if self.entry is not None:
            return dict(self.entry)
        return {
            "caption": self.caption,
            "questions": [question.to_json() for question in self.questions],
        }


def choice_question(fields: Mapping[str, Any], *, most: int | None = None) -> ChoiceQuestion:
    """A question with choices from JSON fields.

    Args:
        fields: ``question``, ``choices`` and ``answer``; perhaps ``element``, ``element_type``.
        most: Choices at most; None does not count.

    Raises:
        ValueError: What is wrong with it: no question, too few or too many choices, two that are
            alike, or an answer that is not among them.
    """
    question, choices = fields.get("question"), fields.get("choices")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("it has no question")
    if not isinstance(choices, list) or not all(_is_text(choice) for choice in choices):
        raise ValueError("its choices are not a list of texts")
    texts = tuple(str(choice).strip() for choice in choices)
    by_words = dict(zip(choice_keys(texts), texts, strict=True))
    if len(by_words) != len(texts) or not all(texts):
        raise ValueError("two of its choices are alike, or one is empty")
    if len(texts) < 2 or (most is not None and len(texts) > most):
        raise ValueError(f"it has {len(texts)} choice{'s' * (len(texts) != 1)}")
    answer = fields.get("answer")
    meant = str(answer).strip() if _is_text(answer) else ""
    if meant not in texts:
        meant = by_words.get(plain(meant), by_words.get(without_punctuation(meant), ""))
    if not meant:
        raise ValueError("its answer is not among its choices")
    return ChoiceQuestion(
        question.strip(),
        texts,
        meant,
        str(fields.get("element") or ""),
        str(fields.get("element_type") or "other"),
    )


def yes_no_question(fields: Mapping[str, Any]) -> YesNoQuestion:
    """A question of DSG from JSON fields.

    Args:
        fields: ``id``, ``question`` and ``parents``; perhaps ``tuple``.

    Raises:
        ValueError: What is wrong with it.
    """
    id_, question, parents = (fields.get(key) for key in ("id", "question", "parents"))
    if type(id_) is not int or id_ < 1:
        raise ValueError("its id is not a whole number from 1 on")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("it has no question")
    if not isinstance(parents, list) or not all(type(parent) is int for parent in parents):
        raise ValueError("its parents are not a list of ids")
    proposition = str(fields.get("tuple") or "")
    return YesNoQuestion(id_, question.strip(), parents_in_value(parents), proposition)


def parents_in_value(value: Any) -> tuple[int, ...]:
    """The ids of parents, of a list or as DSG writes them: ``1,2``; 0, ``-`` and words are none."""
    pieces = value if isinstance(value, list) else str(value).split(",")
    found = [str(piece).strip() for piece in pieces]
    ids = [int(piece) for piece in found if piece.isascii() and piece.isdecimal()]
    return tuple(dict.fromkeys(id_ for id_ in ids if id_))


def _is_text(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
