"""Question files: our own, the published ones, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json

import pytest

from aigve_cli.errors import AigveError, SetupError, UsageError
from aigve_cli.judges.dsg_questions import DsgQuestions
from aigve_cli.judges.question_sets import ChoiceQuestion, YesNoQuestion, choice_question
from aigve_cli.judges.questions import (
    questions_of,
    questions_task,
    questions_with_hash,
    read_questions,
    write_questions,
)
from aigve_cli.judges.tifa_questions import TifaQuestions

DOG = ChoiceQuestion("is there a dog?", ("yes", "no"), "yes", "dog", "animal/human")
BALLS = ChoiceQuestion("how many balls?", ("1", "2"), "2", "two", "counting")
PARKED = YesNoQuestion(2, "Is it parked?", (1,), "attribute - state (motorcycle, parked)")
MOTORCYCLE = YesNoQuestion(1, "Is there a motorcycle?", (), "entity - whole (motorcycle)")

TIFA_LIST = [
    {
        "id": "coco_1",
        "caption": "two balls and a dog",
        "question": "is there a dog?",
        "choices": ["yes", "no"],
        "answer": "yes",
        "element_type": "animal/human",
        "element": "dog",
        "coco_val_id": "380711",
    },
    {
        "id": "drawbench_2",
        "caption": "a cat",
        "question": "how many cats?",
        "choices": ["1", "2"],
        "answer": "1",
        "element_type": "counting",
        "element": "a",
    },
    {
        "id": "coco_1",
        "caption": "two balls and a dog",
        "question": "how many balls?",
        "choices": ["1", "2"],
        "answer": "2",
        "element_type": "counting",
        "element": "two",
    },
]
DSG_TABLE = '''\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,\
question_natural_language
vrd_5,"A red motorcycle,  parked",motorcycle,1,0,entity,whole,entity - whole (motorcycle),\
Is there a motorcycle?
vrd_5,"A red motorcycle,  parked","motorcycle, parked",2,1,attribute,state,\
"attribute - state (motorcycle, parked)",Is it parked?
vrd_5,"A red motorcycle,  parked","sign, ""OPEN""",4,"1,9",other,text rendering,\
"other - text rendering (sign, ""OPEN"")","Does the sign say ""OPEN""?"
vrd_5,"A red motorcycle,  parked",walls,7,7,global,-,global - - (photo),Is this a photo?
'''


def file_of(folder, content, name="questions.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def our_file(**changes):
    document = {
        "aigve": "questions",
        "schema": 1,
        "metric": "tifa",
        "sets": [{"caption": "a dog", "questions": [DOG.to_json()]}],
    }
    return document | changes


@pytest.mark.parametrize(
    ("metric", "questions"), [("tifa", (DOG, BALLS)), ("dsg", (MOTORCYCLE, PARKED))]
)
def test_what_is_written_is_read(tmp_path, metric, questions):
    captions = ["a dog", 'quotes " and\nlines | "', "\u202e\u05d0 </caption> \U0001f600"]
    sets = [
        {"caption": caption, "questions": [question.to_json() for question in questions]}
        for caption in captions
    ]
    path = tmp_path / "q.json"
    judge = {"model": "a-model", "host": "127.0.0.1"}
    write_questions(path, metric, sets, judge=judge, prompt_version="tifa-1")
    found = read_questions(path, metric)
    assert [found.of(caption).questions for caption in captions] == [questions] * 3
    assert found.of("a cat") is None
    assert found.judge == judge
    assert found.prompt_version == "tifa-1"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not list(tmp_path.glob(".aigve*"))


def test_a_record_without_questions_is_not_written(tmp_path):
    record = {"caption": "a dog", "questions": [], "problem": "no answer"}
    with pytest.raises(ValueError, match="no answer"):
        write_questions(tmp_path / "q.json", "tifa", [record], judge={}, prompt_version="1")
    (tmp_path / "no").touch()
    with pytest.raises(SetupError, match="Cannot write"):
        write_questions(tmp_path / "no" / "q.json", "tifa", [], judge={}, prompt_version="1")


def test_the_published_form_of_tifa(tmp_path):
    found = read_questions(file_of(tmp_path, TIFA_LIST), "tifa")
    assert found.of("two balls and a dog").questions == (DOG, BALLS)
    assert found.of("two balls and a dog").id == "coco_1"
    assert found.of("a cat").questions == (
        ChoiceQuestion("how many cats?", ("1", "2"), "1", "a", "counting"),
    )
    assert found.of("A cat") is None


def test_the_published_form_of_dsg(tmp_path):
    found = read_questions(file_of(tmp_path, DSG_TABLE, "dsg.csv"), "dsg")
    proposition = 'other - text rendering (sign, "OPEN")'
    sign = YesNoQuestion(4, 'Does the sign say "OPEN"?', (1, 9), proposition)
    photo = YesNoQuestion(7, "Is this a photo?", (7,), "global - - (photo)")
    prompt = "A red motorcycle,  parked"
    # Other spaces make no other prompt.
    for same in (prompt, "A red motorcycle, parked", " A red\nmotorcycle, parked"):
        assert found.of(same).questions == (MOTORCYCLE, PARKED, sign, photo)
    assert found.of("a red motorcycle, parked") is None


def test_the_published_form_of_dsg_with_the_columns_that_matter(tmp_path):
    table = "text,proposition_id,question_natural_language\na dog,1,Is there a dog?\na dog,2,\n"
    found = read_questions(file_of(tmp_path, table, "dsg.csv"), "dsg").of("a dog")
    assert found.questions == (YesNoQuestion(1, "Is there a dog?"),)
    assert found.notes == ("line 3 of the question file is left out: it has no question",)


def test_a_published_question_that_nobody_can_answer_is_named(tmp_path):
    entries = [*TIFA_LIST, TIFA_LIST[0] | {"answer": "perhaps"}]
    found = read_questions(file_of(tmp_path, entries), "tifa").of("two balls and a dog")
    assert found.questions == (DOG, BALLS)
    assert found.notes == (
        "entry 4 of the question file is left out: its answer is not among its choices",
    )


def test_two_sets_about_one_prompt(tmp_path):
    """The same prompt may have two ids; the same questions are no trouble."""
    again = [entry | {"id": "again"} for entry in TIFA_LIST if entry["id"] == "coco_1"]
    same = read_questions(file_of(tmp_path, [*TIFA_LIST, *again]), "tifa")
    assert same.of("two balls and a dog").notes == ()
    other = read_questions(file_of(tmp_path, [*TIFA_LIST, again[0]]), "tifa")
    for prompt in ("two balls and a dog", "two  balls and a dog"):
        assert other.of(prompt).questions == (DOG, BALLS)
        assert "several sets" in other.of(prompt).notes[0]


QUESTION = DOG.to_json()


@pytest.mark.parametrize(
    ("content", "metric", "message"),
    [
        ("{", "tifa", r"not valid JSON: .* \(line 1, column 2\)"),
        ({}, "tifa", "is no question file"),
        ({"aigve": "results"}, "tifa", "is no question file"),
        (our_file(schema=2), "tifa", "has schema 2; this aigve reads 1"),
        (our_file(), "dsg", "holds questions for tifa, not for dsg"),
        (TIFA_LIST, "dsg", "holds questions for tifa, not for dsg"),
        (DSG_TABLE, "tifa", "holds questions for dsg, not for tifa"),
        (our_file(sets=None), "tifa", "has no list 'sets'"),
        (our_file(sets=[]), "tifa", "holds no questions"),
        ("[]", "tifa", "holds no questions"),
        ("", "dsg", "holds no questions"),
        (our_file(sets=[{"questions": []}]), "tifa", "set 1: no caption"),
        (our_file(sets=[{"caption": "a"}]), "tifa", "set 1: no list 'questions'"),
        (
            our_file(sets=[{"caption": "a", "questions": [QUESTION, QUESTION | {"answer": "x"}]}]),
            "tifa",
            "set 1, question 2: its answer is not among its choices",
        ),
        (
            our_file(sets=[{"caption": "a", "questions": [3]}]),
            "tifa",
            "set 1, question 1: it has no question",
        ),
        (
            our_file(metric="dsg", sets=[{"caption": "a", "questions": [QUESTION]}]),
            "dsg",
            "question 1: its id is not a whole number",
        ),
        (
            our_file(metric="dsg", sets=[{"caption": "a", "questions": [PARKED.to_json()] * 2}]),
            "dsg",
            "set 1: two questions have the same id",
        ),
        (
            our_file(
                metric="dsg",
                sets=[{"caption": "a", "questions": [PARKED.to_json() | {"parents": "1"}]}],
            ),
            "dsg",
            "question 1: its parents are not a list of ids",
        ),
        ([{"question": "is it?"}], "tifa", "entry 1: no caption or no question"),
        ([*TIFA_LIST, 3], "tifa", "entry 4: no caption or no question"),
        ("text,proposition_id\na dog,x\n", "dsg", "line 2: no text, or no number"),
        ("a,b\n1,2,3\n", "dsg", "line 2: 3 cells"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, metric, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_questions(file_of(tmp_path, content), metric)
    assert "questions.json" in caught.value.message


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="Question file"):
            questions_of(str(path), "tifa")


def test_a_file_that_changes_is_noticed(tmp_path):
    path = file_of(tmp_path, our_file())
    first = questions_of(str(path), "tifa")
    assert questions_with_hash(str(path), first.sha256, "tifa") is questions_of(str(path), "tifa")
    file_of(tmp_path, our_file(sets=[{"caption": "a cat", "questions": []}]))
    second = questions_of(str(path), "tifa")
    assert second.of("a dog") is None
    assert second.of("a cat").questions == ()
    with pytest.raises(AigveError, match="was changed since"):
        questions_with_hash(str(path), "0" * 64, "tifa")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"question": " "}, "it has no question"),
        ({"choices": "yes, no"}, "not a list of texts"),
        ({"choices": ["yes", None]}, "not a list of texts"),
        ({"choices": ["yes", "Yes."]}, "alike"),
        ({"choices": ["yes", ""]}, "empty"),
        ({"choices": ["yes"]}, "it has 1 choice$"),
        ({"choices": []}, "it has 0 choices"),
        ({"choices": [*"abcdefgh", "yes"]}, "it has 9 choices"),
        ({"answer": "perhaps"}, "not among its choices"),
        ({"answer": None}, "not among its choices"),
    ],
)
def test_questions_that_cannot_be_asked(fields, problem):
    with pytest.raises(ValueError, match=problem):
        choice_question(DOG.to_json() | fields, most=8)


def test_an_answer_is_spelt_as_its_choice():
    fields = {"question": "how many?", "choices": [1, " Two "], "answer": "two."}
    assert choice_question(fields) == ChoiceQuestion("how many?", ("1", "Two"), "Two")


def test_tasks_by_metric():
    assert questions_task("tifa", {"filter": "off"}) == TifaQuestions("off")
    assert questions_task("tifa", {}) == TifaQuestions("text")
    assert questions_task("dsg", {}) == DsgQuestions()
    with pytest.raises(UsageError, match="'viescore' has no question sets"):
        questions_task("viescore", {})
