"""Question sets as files: our own JSON, and those that TIFA and DSG are published with.

Ours::

    {"aigve": "questions", "schema": 1, "metric": "tifa", "judge": {...}, "prompt_version": "...",
     "sets": [{"caption": "...", "questions": [...]}]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from aigve_cli.contract import OptionValue
from aigve_cli.dataset.textfiles import Row, read_text, text_to_json, text_to_rows, write_json
from aigve_cli.errors import AigveError, SetupError, UsageError
from aigve_cli.judges.question_sets import (
    Question,
    QuestionSet,
    YesNoQuestion,
    choice_question,
    parents_in_value,
    yes_no_question,
)
from aigve_cli.judges.reading import without_surrogates
from aigve_cli.judges.task import JudgeTask, Record

_KIND = "Question file"
_SCHEMA = 1
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Question]] = {
    "tifa": choice_question,
    "dsg": yes_no_question,
}


@dataclass(frozen=True)
class Questions:
    """A file of question sets."""

    path: Path
    metric: str
    sha256: str
    """Of the file's bytes."""
    sets: tuple[QuestionSet, ...]
    by_caption: Mapping[str, QuestionSet]
    """By the caption as it stands, and by the caption with single spaces."""
    judge: Mapping[str, Any] = field(default_factory=dict)
    """Who wrote the questions; empty where the file does not say."""
    prompt_version: str = ""

    def of(self, prompt: str) -> QuestionSet | None:
        """The questions about a prompt; None without any."""
        caption = without_surrogates(prompt)
        return self.by_caption.get(caption) or self.by_caption.get(_spaced(caption))


def questions_task(metric: str, options: Mapping[str, OptionValue]) -> JudgeTask:
    """The task that writes the questions about one prompt: its record is one set of a file.

    A record with a ``problem`` has no questions, and is not for a file.

    Raises:
        UsageError: The metric asks no questions of a file.
    """
    from aigve_cli.judges.dsg_questions import DsgQuestions
    from aigve_cli.judges.tifa_questions import TifaQuestions

    if metric == "tifa":
        return TifaQuestions(filter=str(options.get("filter", "text")))
    if metric == "dsg":
        return DsgQuestions()
    raise UsageError(
        f"The metric '{metric}' has no question sets.", hint=f"Those have: {', '.join(_READERS)}."
    )


def write_questions(
    path: Path,
    metric: str,
    sets: Sequence[Record],
    *,
    judge: Mapping[str, Any],
    prompt_version: str,
) -> None:
    """Write a question file whole or not at all, and the folders that it needs.

    Args:
        path: The file.
        metric: ``tifa`` or ``dsg``.
        sets: Records of :func:`questions_task`.
        judge: Who wrote the questions.
        prompt_version: Of the task.

    Raises:
        ValueError: A record has a problem instead of questions.
        SetupError: The file cannot be written.
    """
    for record in sets:
        if record.get("problem"):
            raise ValueError(f"no questions about {record['caption']!r}: {record['problem']}")
    document = {
        "aigve": "questions",
        "schema": _SCHEMA,
        "metric": metric,
        "judge": dict(judge),
        "prompt_version": prompt_version,
        "sets": list(sets),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, document)
    except OSError as error:
        raise SetupError(f"Cannot write '{path}': {error.strerror or error}.") from error


def read_questions(path: Path, metric: str) -> Questions:
    """The question sets of a file, checked.

    Raises:
        UsageError: The file cannot be read, is no question file, or is one of another metric; the
            message names the entry or the line.
    """
    text = read_text(path, _KIND)
    facts: dict[str, Any] = {}
    if text.lstrip()[:1] in ("{", "["):
        document = text_to_json(text, path, _KIND)
        if isinstance(document, list):
            _check_metric(path, "tifa", metric)
            sets = _published_tifa(document, path)
        else:
            sets, facts = _our_document(document, path, metric)
    else:
        _check_metric(path, "dsg", metric)
        sets = _published_dsg(text_to_rows(text, path, _KIND), path)
    if not sets:
        raise UsageError(f"{_KIND} '{path}' holds no questions.")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Questions(path, metric, sha256, tuple(sets), _by_caption(sets), **facts)


def questions_of(path: str, metric: str) -> Questions:
    """As :func:`read_questions`, but read only once as long as its content is the same."""
    try:
        sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return read_questions(Path(path), metric)  # says what is wrong
    return questions_with_hash(path, sha256, metric)


@lru_cache(maxsize=8)
def questions_with_hash(path: str, sha256: str, metric: str) -> Questions:
    """A question file as it was when a run was planned.

    Raises:
        AigveError: It has another content now.
        UsageError: It cannot be read.
    """
    found = read_questions(Path(path), metric)
    if found.sha256 != sha256:
        raise AigveError(f"{_KIND} '{path}' was changed since the run was planned.")
    return found


def _by_caption(sets: Sequence[QuestionSet]) -> dict[str, QuestionSet]:
    """The first set of each caption, with a note where another one asks something else."""
    found: dict[str, QuestionSet] = {}
    differing = set()
    for each in sets:
        if found.setdefault(each.caption, each).questions != each.questions:
            differing.add(each.caption)
    note = "the question file has several sets about this prompt: the first one is asked"
    for caption in differing:
        found[caption] = replace(found[caption], notes=(*found[caption].notes, note))
    return {_spaced(caption): each for caption, each in reversed(found.items())} | found


def _our_document(
    document: Any, path: Path, metric: str
) -> tuple[list[QuestionSet], dict[str, Any]]:
    if not isinstance(document, dict) or document.get("aigve") != "questions":
        raise UsageError(
            f"{_KIND} '{path}' is no question file.",
            hint="`aigve questions` writes one; those published with TIFA (JSON) and DSG (CSV) "
            "are read, too.",
        )
    if document.get("schema") != _SCHEMA:
        raise UsageError(
            f"{_KIND} '{path}' has schema {document.get('schema')!r}; this aigve reads {_SCHEMA}.",
        )
    _check_metric(path, str(document.get("metric")), metric)
    read = _READERS[metric]
    entries = document.get("sets")
    if not isinstance(entries, list):
        raise UsageError(f"{_KIND} '{path}' has no list 'sets'.")
    sets = [_our_set(entry, f"set {n}", path, read) for n, entry in enumerate(entries, start=1)]
    judge = document.get("judge")
    return sets, {
        "judge": judge if isinstance(judge, dict) else {},
        "prompt_version": str(document.get("prompt_version", "")),
    }


def _our_set(
    entry: Any, place: str, path: Path, read: Callable[[Mapping[str, Any]], Question]
) -> QuestionSet:
    fields = entry if isinstance(entry, dict) else {}
    caption, entries = fields.get("caption"), fields.get("questions")
    if not isinstance(caption, str) or not caption.strip():
        raise UsageError(f"{_KIND} '{path}', {place}: no caption.")
    if not isinstance(entries, list):
        raise UsageError(f"{_KIND} '{path}', {place}: no list 'questions'.")
    questions = []
    for number, question in enumerate(entries, start=1):
        try:
            questions.append(read(question if isinstance(question, dict) else {}))
        except ValueError as error:
            raise UsageError(f"{_KIND} '{path}', {place}, question {number}: {error}.") from None
    ids = [question.id for question in questions if isinstance(question, YesNoQuestion)]
    if len(set(ids)) != len(ids):
        raise UsageError(f"{_KIND} '{path}', {place}: two questions have the same id.")
    listed = fields.get("notes")
    notes = [note for note in listed if isinstance(note, str)] if isinstance(listed, list) else []
    return QuestionSet(caption, tuple(questions), tuple(notes), entry=fields)


def _published_tifa(entries: Sequence[Any], path: Path) -> list[QuestionSet]:
    """Sets of the caption's id: of a published file, nothing is refused that its authors counted.

    A question that nobody could answer rightly is left out, with a note.
    """
    found: dict[tuple[str, str], QuestionSet] = {}
    for number, entry in enumerate(entries, start=1):
        fields = entry if isinstance(entry, dict) else {}
        caption = fields.get("caption")
        if not isinstance(caption, str) or not caption.strip() or "question" not in fields:
            raise UsageError(
                f"{_KIND} '{path}', entry {number}: no caption or no question.",
                hint="An entry of TIFA's files has id, caption, question, choices and answer.",
            )
        key = (str(fields.get("id", "")), caption)
        known = found.get(key, QuestionSet(caption, (), id=key[0]))
        try:
            question = choice_question(fields)
        except ValueError as error:
            note = f"entry {number} of the question file is left out: {error}"
            found[key] = replace(known, notes=(*known.notes, note))
            continue
        found[key] = replace(known, questions=(*known.questions, question))
    return list(found.values())


def _published_dsg(rows: Sequence[Row], path: Path) -> list[QuestionSet]:
    found: dict[tuple[str, str], QuestionSet] = {}
    for line, cells in rows:
        caption, id_ = cells.get("text"), cells.get("proposition_id", "")
        if not caption or not (id_.isascii() and id_.isdecimal()):
            raise UsageError(
                f"{_KIND} '{path}', line {line}: no text, or no number in proposition_id.",
                hint="DSG's files have the columns item_id, text, proposition_id, dependency, "
                "tuple and question_natural_language.",
            )
        key = (cells.get("item_id", ""), caption)
        known = found.get(key, QuestionSet(caption, (), id=key[0]))
        question = cells.get("question_natural_language", "")
        problem = "" if question else "it has no question"
        if any(isinstance(q, YesNoQuestion) and q.id == int(id_) for q in known.questions):
            problem = f"its id {id_} stands twice"
        if problem:
            note = f"line {line} of the question file is left out: {problem}"
            found[key] = replace(known, notes=(*known.notes, note))
            continue
        parents = parents_in_value(cells.get("dependency", ""))
        asked = YesNoQuestion(int(id_), question, parents, cells.get("tuple", ""))
        found[key] = replace(known, questions=(*known.questions, asked))
    return list(found.values())


def _check_metric(path: Path, holds: str, metric: str) -> None:
    if holds != metric:
        raise UsageError(f"{_KIND} '{path}' holds questions for {holds}, not for {metric}.")


def _spaced(text: str) -> str:
    return " ".join(text.split())
