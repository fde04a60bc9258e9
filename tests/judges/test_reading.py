"""What is read from a judge's words, against the original parsers and with hostile words."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from aigve_cli.judges.dsg_questions import (
    dependencies_in_text,
    proposition_kind,
    questions_in_text,
    tuples_in_text,
)
from aigve_cli.judges.reading import (
    answer_in_text,
    choice_in_text,
    json_in_text,
    numbered_lines,
    plain,
    scores_in_text,
    without_surrogates,
    without_thinking,
    words_to_number,
    yes_or_no,
)
from aigve_cli.judges.tifa_questions import questions_in_text as choices_in_text

GOLDENS = json.loads(
    (Path(__file__).parents[1] / "goldens" / "judges" / "llm_aggregation.json").read_text("utf-8")
)
REFUSED = "refused"


def problem_of(read, text):
    """Why a text cannot be read; None where it can."""
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return None


# --- scores -----------------------------------------------------------------------------------

# Where ours is not the reference's reading: text, ours, why.
VIE_DIFFERENCES = {
    '{"score":[15],"reasoning":"out of range"}': (REFUSED, "a rating is from 0 to 10"),
    '{"score":[],"reasoning":""}': (REFUSED, "there is no rating in it"),
    '{"score":["8"],"reasoning":"str"}': ((8.0,), "a number in quotes is a number"),
    "rate_limit_exceeded": (REFUSED, "an error is no rating"),
    "11": (REFUSED, "theirs refuses it, too"),
    "no idea": (REFUSED, "theirs refuses it, too"),
    "[6, 0]": ((6.0, 0.0), "theirs makes up a reason"),
    "7": ((7.0,), "theirs makes up a reason"),
}


@pytest.mark.parametrize("case", GOLDENS["vie_parse"], ids=lambda case: case["text"][:24])
def test_vie_goldens(case):
    text, theirs = case["text"], case["result"]
    if text in VIE_DIFFERENCES:
        ours, _ = VIE_DIFFERENCES[text]
        if ours is REFUSED:
            for count in (1, 2):
                assert problem_of(partial(scores_in_text, count=count), text)
        else:
            assert scores_in_text(text, len(ours)).scores == ours
        return
    read = scores_in_text(text, len(theirs["score"]))
    assert list(read.scores) == theirs["score"]
    assert read.reasoning == theirs["reasoning"]


def test_every_difference_is_of_a_golden():
    assert set(VIE_DIFFERENCES) <= {case["text"] for case in GOLDENS["vie_parse"]}


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ('<think>perhaps [3]? {"score": [3]}</think>{"score": [7]}', (7,)),
        ('all thoughts, {"score": [3]}</think>\n{"score": [7]}', (7,)),
        ("{'score': [7,], 'reasoning': \"it's \\\"good\\\"\",}", (7,)),
        ("{'score': ['7/10'], 'reasoning': 'it\\'s fine'}", (7,)),
        ('{"Score": 7.0}', (7,)),
        ('{"score": [7], "reasoning": "a } in it, and a { and [3]"}', (7,)),
        ('{"score": [7], "reasoning": "two\nlines"}', (7,)),
        ('```\n{"score": [7, 8]}\n```\nDone {"score": [1, 1]}', (7, 8)),
        ('{"score": [7], "reasoning": "```"} ```{"score": [1]}```', (7,)),
        ('```json\n{"score": [7], "reasoning": "a ``` in it"}\n```', (7,)),
        ('Here:\n```json\n{"score": [7]', None),
        ('{"score": [7], "reasoning": "cut o', None),
        ("8/10", (8,)),
        ("8 out of 10", (8,)),
        ("8 of 10.", (8,)),
        ("Score: 8", (8,)),
        ("**Score:** 7.5/10", (7.5,)),
        ("My rating is 8 out of 10.", (8,)),
        ('{"score": ["8 out of 10", "score: 7"]}', (8, 7)),
        ('{"score": {"naturalness": 8, "artifacts": 7}}', (8, 7)),
        ('{"score": {"overall": "8/10"}, "reasoning": "fine"}', (8,)),
        ('{"score": {"a": 8, "b": 7, "c": 6}}', None),
        ('{"score": {"a": {"b": 8}}}', None),
        ('{"score": {}}', None),
        ("8 out of 5", None),
        ("Score: -8", None),
        ("Score: 8, or 9", None),
        ("Scores: 8", None),
        (".8", None),
        ("[0, 10]", (0, 10)),
        ('{"score": [true]}', None),
        ('{"score": [null]}', None),
        ('{"score": [NaN]}', None),
        ('{"score": [Infinity]}', None),
        ('{"score": [1e400]}', None),
        ('{"score": [-1]}', None),
        ('{"score": [10.01]}', None),
        ('{"score": [[7]]}', None),
        ('{"score": ["seven"]}', None),
        ('{"score": [7, 8, 9]}', None),
        ('{"reasoning": "7"}', None),
        ("", None),
        ("<think>7", None),
        ("between 7 and 8", None),
    ],
)
def test_scores(text, scores):
    if scores is None:
        for count in (1, 2):
            assert problem_of(partial(scores_in_text, count=count), text)
    else:
        assert scores_in_text(text, len(scores)).scores == scores


def test_the_number_of_scores_must_be_right():
    with pytest.raises(ValueError, match="must hold 1 number and holds 2"):
        scores_in_text('{"score": [7, 8]}', 1)
    with pytest.raises(ValueError, match="must hold 2 numbers and holds 1"):
        scores_in_text("7", 2)


@pytest.mark.parametrize("text", ["-0.0", "[-0]", '{"score": [-0.0]}'])
def test_a_zero_has_no_sign(text):
    (zero,) = scores_in_text(text, 1).scores
    assert math.copysign(1, zero) == 1


@pytest.mark.parametrize("text", ["", " \n", "<think>7</think>", "<think>7"])
@pytest.mark.parametrize(
    "read",
    [
        partial(scores_in_text, count=1),
        answer_in_text,
        yes_or_no,
        partial(choice_in_text, choices=("a", "b")),
        json_in_text,
        tuples_in_text,
        choices_in_text,
    ],
)
def test_an_empty_answer_is_called_so(read, text):
    assert problem_of(read, text) == "the answer is empty"


def test_what_is_read_can_be_written():
    read = scores_in_text('{"score": [7], "reasoning": "half a pair: \\ud83d"}', 1)
    assert read.reasoning == "half a pair: \ufffd"
    assert without_surrogates("a\ud83db\U0001f600") == "a\ufffdb\U0001f600"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), JSON)


@given(OBJECTS)
def test_json_is_read_as_it_is(document):
    assert json_in_text(json.dumps(document)) == document


@given(OBJECTS.filter(bool))
def test_json_is_found_in_chatter(document):
    assert json_in_text(f"Sure, it's this: {json.dumps(document)} (of 3).") == document


@given(st.dictionaries(st.text("ab'\"\\ \n{}", max_size=6), st.text("ab'\"\\ \n[]", max_size=9)))
def test_what_python_prints_is_read(document):
    assert json_in_text(f"the answer: {document!r}") == document if document else True


@given(st.text(st.sampled_from("{}[]\"'\\:,a1 \n<>/think`"), max_size=60))
def test_no_text_breaks_a_reader(text):
    for read in (
        json_in_text,
        answer_in_text,
        yes_or_no,
        numbered_lines,
        lambda text: scores_in_text(text, 1),
        lambda text: choice_in_text(text, ("a", "1", "think")),
        tuples_in_text,
        dependencies_in_text,
    ):
        assert problem_of(read, text) != ""


@pytest.mark.parametrize(
    "hostile",
    [
        "{",
        "[",
        '{"a":',
        '{"a":[',
        '{"a":"',
        "{'",
        '{"\\"',
        "{a:{",
        "```",
        "<think>",
        "</think>{",
        "!",
        " ",
        "\\",
        "answer ",
        "1 | ",
        "(a",
        "'",
        '{"a":{},',
        "yes&",
        "yes ",
        "yes, and ",
        "between ",
        "between 3 and ",
        "more than ",
        "3 or ",
        "3 - ",
        "3+",
        "score ",
        "score: is",
        "the score ",
        "8 out of ",
        "*",
    ],
)
def test_hostile_text_costs_no_time(hostile):
    """A quadratic reader does not come to an end here: the run stops it as hanging."""
    text = hostile * (100_000 // len(hostile)) + "x"
    for read in (
        json_in_text,
        yes_or_no,
        numbered_lines,
        lambda text: scores_in_text(text, 1),
        lambda text: choice_in_text(text, ("red", "blue")),
        lambda text: choice_in_text(text, ("3", "2")),
        plain,
        words_to_number,
    ):
        problem = problem_of(read, text)
        assert problem is None or 0 < len(problem) < 300


def test_thoughts_are_not_said():
    assert without_thinking("<think>no</think> yes") == "yes"
    assert without_thinking("<THINKING>no</Thinking>yes<think>no</think>.") == "yes."
    assert without_thinking("no</think>yes") == "yes"
    assert without_thinking("<think>yes, but") == ""
    assert without_thinking(" yes ") == "yes"


# --- yes and no -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        ("Yes, it is", "yes"),
        ("NO.", "no"),
        ("**Yes**", "yes"),
        ("_no_", "no"),
        ('{"answer": "No"}', "no"),
        ("yes, but really no", "yes"),
        ("Answer: yes", "yes"),
        ("The answer is no.", "no"),
        ("<think>no</think>Yes", "yes"),
        ('"yes"', "yes"),
        ("no, yes", "no"),
        ("eyes", None),
        ("Yesterday", None),
        ("nobody", None),
        ("None", None),
        ("no idea", None),
        ("yes or no", None),
        ("yes and no", None),
        ("No and yes", None),
        ("Yes, and no.", None),
        ("*Yes* & *no*", None),
        ("Yes and nothing else", "yes"),
        ("yes, and now it runs", "yes"),
        ('{"answer": ["No"]}', "no"),
        ('{"answer": ["yes", "no"]}', None),
        ("Yes/No", None),
        ("I think so: yes", None),
        ("It is not", None),
        ('{"answer": true}', None),
        ('{"reply": "yes"}', None),
        ("", None),
        ("ja", None),
    ],
)
def test_yes_or_no(text, answer):
    if answer is None:
        assert problem_of(yes_or_no, text)
    else:
        assert yes_or_no(text) == answer


# --- choices ----------------------------------------------------------------------------------

ANIMALS = ("dog", "cat", "hot dog", "Guinea pig")


@pytest.mark.parametrize(
    ("text", "choices", "choice"),
    [
        ("cat", ANIMALS, "cat"),
        ("Cat.", ANIMALS, "cat"),
        (" guinea  PIG!", ANIMALS, "Guinea pig"),
        ("(B)", ANIMALS, "cat"),
        ("B)", ANIMALS, "cat"),
        ("b", ANIMALS, "cat"),
        ("**B**", ANIMALS, "cat"),
        ("b. cat", ANIMALS, "cat"),
        ("C: it is a hot dog", ANIMALS, "hot dog"),
        ('{"answer": "cat"}', ANIMALS, "cat"),
        ('{"answer": "(d)"}', ANIMALS, "Guinea pig"),
        ("It is a hot dog.", ANIMALS, "hot dog"),
        ("It is a dog.", ANIMALS, "dog"),
        ("A cat", ANIMALS, "cat"),
        ('{"answer": 3}', ("1", "2", "3"), "3"),
        ("There are 3 of them", ("1", "2", "3"), "3"),
        ("two", ("1", "2", "3"), "2"),
        ("Twenty-one!", ("12", "21"), "21"),
        ("b", ("b", "a"), "b"),
        ("Yes, there is no doubt", ("yes", "no"), "yes"),
        ("rot", ("rot", "weiß"), "rot"),
        ("Weiss", ("rot", "weiß"), "weiß"),
        ("cat or dog", ANIMALS, None),
        ("It is not a cat.", ANIMALS, None),
        ("It isn't a cat", ANIMALS, None),
        ("category", ANIMALS, None),
        ("a. cat", ANIMALS, None),
        ("(h)", ANIMALS, None),
        ("3.5", ("3", "5"), None),
        ("no one of them", ("1", "2"), None),
        ("There is no dog", ("yes", "no"), None),
        ("horse", ANIMALS, None),
        ("", ANIMALS, None),
        ("!", ANIMALS, None),
        ('{"answer": null}', ANIMALS, None),
        ('{"answer": ["cat"]}', ANIMALS, "cat"),
        ('{"answer": [2]}', ("1", "2"), "2"),
        ('{"answer": ["cat", "dog"]}', ANIMALS, None),
        ('{"answer": []}', ANIMALS, None),
        ('{"answer": [["cat"]]}', ANIMALS, None),
        ("yes and no", ("yes", "no"), None),
        ("There are 3, no more than that", ("2", "3"), "3"),
        ("3 birds over the sea", ("2", "3"), "3"),
        ("more than 3", ("3", "more than 3"), "more than 3"),
        ("more than one cat", ("a cat", "one cat"), "one cat"),
        ('{"answer": "<3"}', ("<3", "4"), "<3"),
        ('{"answer": "~ 4"}', ("<3", "~ 4"), "~ 4"),
        ("B. 3", ("2", "3"), "3"),
        ("B. more than 3", ("2", "3"), None),
    ],
)
def test_choices(text, choices, choice):
    if choice is None:
        assert problem_of(lambda text: choice_in_text(text, choices), text)
    else:
        assert choice_in_text(text, choices) == choice


@pytest.mark.parametrize(
    "words",
    [
        "more than {}",
        "Less than {} dogs",
        "I see fewer than {}.",
        "at least {}",
        "At most the {}",
        "over {}",
        "under {}",
        "There are about {} of them",
        "up to {}",
        "between {} and 7",
        "between 1 and {}",
        "1 to {}",
        "{}-7",
        "{} or more",
        "{}+",
        "~{}",
        '{{"answer": ">{}"}}',
    ],
)
@pytest.mark.parametrize("choices", [("2", "3"), ("two", "three"), ("2.5", "3.5")])
def test_another_number_is_not_the_choice_that_it_is_compared_with(words, choices):
    assert choice_in_text(f"There are {choices[1]}.", choices) == choices[1]
    if words.endswith("}-7") and not choices[1].isdecimal():
        return
    assert problem_of(lambda text: choice_in_text(text, choices), words.format(choices[1]))


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8, unique_by=plain))
def test_every_choice_is_read_as_itself(choices):
    for choice in choices:
        assert choice_in_text(choice, choices) == choice


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        min_size=2,
        max_size=8,
        unique_by=plain,
    )
)
def test_every_choice_is_read_in_json(choices):
    for choice in choices:
        assert choice_in_text(json.dumps({"answer": choice}), choices) == choice


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two", 2),
        ("Twenty-two cats", 22),
        ("a hundred and five", 105),
        ("three thousand two hundred", 3200),
        ("two million", 2_000_000),
        ("zero", 0),
        ("cats", None),
        ("2", None),
    ],
)
def test_number_words(text, number):
    assert words_to_number(text) == number


# --- lines of DSG -----------------------------------------------------------------------------

# Where ours is not the reference's reading: text, ours, why.
DSG_DIFFERENCES = {
    "1 | -": ({1: ()}, "a dash is no parent"),
    "1 | Is it a|b?": ({1: "Is it a|b?"}, "only the first bar parts a line"),
    "1 | Is it?\n\n2 | Is that?": ({1: "Is it?", 2: "Is that?"}, "an empty line is no line"),
    "Sure! Here:\n1 | Is it?": ({1: "Is it?"}, "what has no number and no bar is no line"),
}
READERS = {
    "parse_tuple_output": tuples_in_text,
    "parse_question_output": questions_in_text,
    "parse_dependency_output": dependencies_in_text,
}


@pytest.mark.parametrize("case", GOLDENS["dsg_parse"], ids=lambda case: case["text"][:24])
def test_dsg_goldens(case):
    read = READERS[case["fn"]](case["text"])
    if case["text"] in DSG_DIFFERENCES:
        assert read == DSG_DIFFERENCES[case["text"]][0]
        return
    if case["fn"] == "parse_tuple_output":
        read = {id_: proposition_kind(value) for id_, value in read.items()}
    theirs = {int(id_): value for id_, value in case["result"].items()}
    if case["fn"] == "parse_dependency_output":  # a parent 0 is none
        theirs = {id_: tuple(filter(None, ids)) for id_, ids in theirs.items()}
    assert read == theirs


def test_lines_of_tables_lists_and_thoughts():
    assert numbered_lines("| id | question |\n|---|---|\n| 1 | Is it? |\n| 2 | a|b |") == {
        1: "Is it?",
        2: "a|b",
    }
    assert numbered_lines("<think>1 | no</think>\n- 1 | yes\n 12 |  x  ") == {1: "yes", 12: "x"}
    assert numbered_lines("1 |\nonly words | here") == {}
    with pytest.raises(ValueError, match="id 1 has two lines"):
        numbered_lines("1 | a\n1 | b")


def test_json_and_lines_of_dsg_agree():
    lines = "1 | 0\n2 | 1\n3 | 1, 2"
    document = {
        "dependencies": [
            {"id": 1, "parents": []},
            {"id": "2", "parents": [1]},
            {"id": 3, "parents": "1, 2"},
        ]
    }
    assert dependencies_in_text(json.dumps(document)) == dependencies_in_text(lines)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no lines",
        '{"tuples": []}',
        '{"tuples": "1 | a"}',
        '{"tuples": [{"id": 1}]}',
        '{"tuples": [{"id": 0, "tuple": "a"}]}',
        '{"tuples": [{"id": true, "tuple": "a"}]}',
        '{"tuples": [{"id": 1, "tuple": " "}]}',
        '{"tuples": [{"id": 1, "tuple": "a"}, {"id": 1, "tuple": "b"}]}',
        '{"tuples": [{"id": 1, "tuple": "a"}, {"id"',
        '{"questions": [{"id": 1, "question": "a"}]}',
    ],
)
def test_what_is_no_list_of_statements(text):
    assert problem_of(tuples_in_text, text)


@pytest.mark.parametrize(
    "said",
    [
        "No image was provided, so I cannot tell.",
        "No information",
        "No doubt, yes",
        "no comment",
    ],
)
def test_no_before_a_noun_is_not_the_answer(said):
    with pytest.raises(ValueError, match="does not begin with yes or no"):
        yes_or_no(said)


@pytest.mark.parametrize(
    "said", ["No", "no.", "**No**", "No, it is red", "No there is none", "No\nbecause it is red"]
)
def test_no_by_itself_is_the_answer(said):
    assert yes_or_no(said) == "no"


@pytest.mark.parametrize(
    ("said", "choices"),
    [
        ("no dog", ["dog", "cat"]),
        ("anything but red", ["red", "blue"]),
        ("one, two", ["1", "2", "3"]),
        ("one or two", ["1", "2", "3"]),
        ("A", ["vitamin b", "vitamin a"]),
    ],
)
def test_what_would_be_a_guess_is_no_choice(said, choices):
    with pytest.raises(ValueError, match="of the choices"):
        choice_in_text(said, choices)


@pytest.mark.parametrize(
    ("said", "choices", "meant"),
    [
        ("C++", ["C", "C++"], "C++"),
        ("c", ["C", "C++"], "C"),
        ("-5.", ["5", "-5"], "-5"),
        ('{"answer": "10%"}', ["10", "10%"], "10%"),
        ("There are 3, no more than that", ["2", "3"], "3"),
    ],
)
def test_choices_that_differ_by_signs(said, choices, meant):
    assert choice_in_text(said, choices) == meant
