"""DSG's questions: a prompt taken apart into statements, each with a question and its parents.

The kinds of statements, the three steps and the lines ``id | value`` are those of Cho et al. 2024
(https://github.com/j-min/DSG, 7330119, Apache-2.0). The words and the examples are ours, and a
judge that can be held to a JSON schema is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from aigve_cli.judges.dsg_prompt import (
    DEPENDENCIES,
    EXAMPLES,
    QUESTIONS,
    REPLY,
    TUPLES,
    Example,
)
from aigve_cli.judges.question_sets import YesNoQuestion, parents_in_value
from aigve_cli.judges.reading import json_in_text, numbered_lines, without_surrogates
from aigve_cli.judges.task import Ask, Expected, JudgeTask, Talk
from aigve_cli.judges.wording import (
    LONGEST_TEXT,
    TEXT_SYSTEM,
    asks_to_tokens,
    list_schema,
    object_schema,
    prompt_as_data,
    quoted,
    unanswered_to_json,
)

VERSION = "dsg-1"
MOST_QUESTIONS = 40
TYPICAL_QUESTIONS = 6
_T = TypeVar("_T")
_STRING = {"type": "string"}


@dataclass(frozen=True)
class DsgQuestions(JudgeTask):
    """Writes the questions about a prompt. Its record is one set of a question file."""

    prompt_version: ClassVar[str] = VERSION

    def talk(self, prompt: str | None) -> Talk:
        """The statements, and then their questions and their dependencies at the same time."""
        caption = without_surrogates(prompt or "")
        (tuples,) = yield [_ask_for_tuples(caption)]
        found: dict[str, Any] = {"caption": caption, "questions": [], "notes": []}
        if tuples.value is None:
            problem = f"the prompt was not taken apart: {tuples.problem}"
            return found | {"problem": problem, **unanswered_to_json(tuples)}
        notes: list[str] = []
        statements = dict(list(tuples.value.items())[:MOST_QUESTIONS])
        if len(statements) < len(tuples.value):
            notes.append(f"only the first {MOST_QUESTIONS} statements are asked after")
        questions, parents = yield [
            _ask_for_questions(caption, statements),
            _ask_for_dependencies(caption, statements),
        ]
        for what, answer in (("questions", questions), ("dependencies", parents)):
            if answer.value is None:
                problem = f"no {what} could be made: {answer.problem}"
                return found | {"problem": problem, **unanswered_to_json(answer)}
        asked = [
            YesNoQuestion(
                id_, questions.value[id_], parents.value.get(id_, ()), proposition
            ).to_json()
            for id_, proposition in statements.items()
            if id_ in questions.value
        ]
        if not asked:
            return found | {"problem": "no statement of the prompt got a question"}
        if len(asked) < len(statements):
            lost = len(statements) - len(asked)
            notes.append(f"{lost} statement{'s' * (lost != 1)} got no question")
        without = [id_ for id_ in statements if id_ not in parents.value]
        if without:
            notes.append(f"no dependencies were given for {_ids(without)}: taken for none")
        return found | {"questions": asked, "notes": notes}

    def expected(self, prompt: str | None) -> Expected:
        """Three questions to the text judge."""
        caption = prompt or ""
        typical = {id_: "entity - whole (motorcycle)" for id_ in range(1, TYPICAL_QUESTIONS + 1)}
        asks = [
            _ask_for_tuples(caption),
            _ask_for_questions(caption, typical),
            _ask_for_dependencies(caption, typical),
        ]
        return Expected(len(asks), 0, asks_to_tokens(asks, answer=150), 0)


def tuples_in_text(text: str) -> dict[int, str]:
    """Statements by id: ``entity - whole (motorcycle)``.

    Raises:
        ValueError: There are none that can be read.
    """
    return _by_id(text, "tuples", "tuple", _to_text)


def questions_in_text(text: str) -> dict[int, str]:
    """Questions by id.

    Raises:
        ValueError: There are none that can be read.
    """
    return _by_id(text, "questions", "question", _to_text)


def dependencies_in_text(text: str) -> dict[int, tuple[int, ...]]:
    """Ids of parents by id; none for 0 and for what is no number.

    Raises:
        ValueError: There are none that can be read.
    """
    return _by_id(text, "dependencies", "parents", parents_in_value)


def proposition_kind(proposition: str) -> str:
    """The kind of a statement: ``entity - whole`` of ``entity - whole (motorcycle)``."""
    return proposition.partition("(")[0].strip()


def _by_id(text: str, list_name: str, value_name: str, read: Callable[[Any], _T]) -> dict[int, _T]:
    """Values by id of ``{list_name: [{"id": 1, value_name: ...}]}``, or of lines ``id | value``."""
    try:
        document = json_in_text(text)
    except ValueError as no_json:
        lines = numbered_lines(text)
        if not lines:
            raise no_json
        return {id_: read(value) for id_, value in lines.items()}
    entries = document.get(list_name) if isinstance(document, Mapping) else document
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'there is no list "{list_name}"')
    found: dict[int, _T] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or value_name not in entry:
            raise ValueError(f'an entry of "{list_name}" has no "{value_name}"')
        id_ = entry.get("id")
        number = int(id_) if isinstance(id_, str) and id_.isascii() and id_.isdecimal() else id_
        if type(number) is not int or number < 1:
            raise ValueError(f'an entry of "{list_name}" has no id from 1 on')
        value = read(entry[value_name])
        if found.setdefault(number, value) != value:
            raise ValueError(f"id {number} stands twice")
    return found


def _to_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a value is empty, or no text")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"a value is longer than {LONGEST_TEXT:,} characters")
    return value.strip()


def _ask_for_tuples(caption: str) -> Ask:
    examples = [
        _example(prompt, {}, "tuples", [{"id": id_, "tuple": row.statement} for id_, row in rows])
        for prompt, rows in _numbered_examples()
    ]
    text = _text(TUPLES, examples, caption, {})
    return _ask("statements of the prompt", text, tuples_in_text, "tuples", {"tuple": _STRING})


def _ask_for_questions(caption: str, statements: Mapping[int, str]) -> Ask:
    examples = [
        _example(
            prompt,
            {id_: row.statement for id_, row in rows},
            "questions",
            [{"id": id_, "question": row.question} for id_, row in rows],
        )
        for prompt, rows in _numbered_examples()
    ]
    text = _text(QUESTIONS, examples, caption, statements)
    return _ask("questions", text, questions_in_text, "questions", {"question": _STRING})


def _ask_for_dependencies(caption: str, statements: Mapping[int, str]) -> Ask:
    examples = [
        _example(
            prompt,
            {id_: row.statement for id_, row in rows},
            "dependencies",
            [{"id": id_, "parents": list(row.parents)} for id_, row in rows],
        )
        for prompt, rows in _numbered_examples()
    ]
    text = _text(DEPENDENCIES, examples, caption, statements)
    value = {"parents": list_schema({"type": "integer"})}
    return _ask("dependencies", text, dependencies_in_text, "dependencies", value)


def _ask(
    about: str,
    text: str,
    read: Callable[[str], Any],
    list_name: str,
    value: Mapping[str, Any],
) -> Ask:
    entry = object_schema({"id": {"type": "integer"}, **value})
    return Ask(
        about,
        text,
        read,
        system=TEXT_SYSTEM,
        shown=False,
        schema=object_schema({list_name: list_schema(entry)}),
        max_tokens=2048,
        whole=True,
    )


def _numbered_examples() -> list[tuple[str, list[tuple[int, Example]]]]:
    return [(prompt, list(enumerate(rows, start=1))) for prompt, rows in EXAMPLES]


def _example(
    prompt: str, statements: Mapping[int, str], list_name: str, entries: list[dict[str, Any]]
) -> str:
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    return (
        f"Example. The prompt: {quoted(prompt)}\n{_statement_lines(statements)}"
        f'{{"{list_name}": [\n{lines}\n]}}\n'
    )


def _text(
    instructions: str, examples: list[str], caption: str, statements: Mapping[int, str]
) -> str:
    parts = (instructions, *examples, f"{prompt_as_data(caption)}\n{_statement_lines(statements)}")
    return "\n".join((*parts, REPLY))


def _statement_lines(statements: Mapping[int, str]) -> str:
    """The statements, each as a JSON string on a line of its own: they come from a model."""
    if not statements:
        return ""
    lines = "".join(f"{id_} | {quoted(statement)}\n" for id_, statement in statements.items())
    return f"Its statements:\n{lines}"


def _ids(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
