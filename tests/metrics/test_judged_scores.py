"""What viescore, tifa and dsg make of a judge's answers: worked out by hand, without a judge."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from aigve_cli.contract import (
    Extent,
    Frames,
    Prompt,
    ResizeWithin,
    Sample,
    SampleFeatures,
    Score,
    VideoFacts,
)
from aigve_cli.engine.plan import read_options
from aigve_cli.engine.scores import json_to_score, score_to_json
from aigve_cli.errors import AigveError, UsageError
from aigve_cli.judges.question_sets import YesNoQuestion
from aigve_cli.judges.reading import yes_or_no
from aigve_cli.judges.task import Answer
from aigve_cli.metrics.dsg import (
    Dsg,
    DsgTask,
    mean_score,
    questions_to_answers,
    zero_dependents,
)
from aigve_cli.metrics.tifa import Tifa, TifaTask, pooled_kinds
from aigve_cli.metrics.viescore import VieScore, VieScoreTask, ratings_to_values
from aigve_cli.video.sampling import Centres
from tests.judges.conversations import nobody, said_as, talk

GOLDENS = json.loads(
    (Path(__file__).parents[1] / "goldens" / "judges" / "llm_aggregation.json").read_text("utf-8")
)
METRICS = (VieScore, Tifa, Dsg)
SAMPLE = Sample("a.mkv", Path("a.mkv"), prompt="a red dog")
PROMPT = "a red dog"


def options_of(metric, **given):
    return read_options(metric.card.name, metric.card.options, given)


def score(metric, *records, **options):
    features = SampleFeatures(generated={}, records={"answers": records})
    return metric().score(features, SAMPLE, options_of(metric, **options))


# --- what is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_the_request(metric):
    (request,) = metric().requests(options_of(metric), Extent()).values()
    frames, prompt, task = request.sources
    assert request.output == "judge:answers"
    assert request.variant == "multi"
    assert frames == Frames((ResizeWithin(512),), Centres(8))
    assert prompt == Prompt()
    assert task == metric().task(options_of(metric))
    assert hash(request)
    given = options_of(metric, show="grid", frames="4", size="64")
    (request,) = metric().requests(given, Extent(max_frames=12)).values()
    assert request.variant == "grid"
    assert request.sources[0].view == (ResizeWithin(64),)
    units = request.sources[0].sampling.units(VideoFacts(64, 48, 8.0, 100))
    assert units.tolist() == [[1, 4, 7, 10]]


@pytest.mark.parametrize("metric", METRICS)
def test_frames_one_by_one_are_units(metric):
    given = options_of(metric, show="per-frame", frames=3)
    (request,) = metric().requests(given, Extent()).values()
    assert request.variant == "multi"
    units = request.sources[0].sampling.units(VideoFacts(64, 48, 8.0, 12))
    assert units.tolist() == [[2], [6], [10]]


@pytest.mark.parametrize("metric", METRICS)
def test_the_card(metric):
    assert metric.card.needs == ("prompt", "judge")
    for name, value in (("show", "all"), ("frames", "0"), ("size", "8")):
        with pytest.raises(UsageError):
            options_of(metric, **{name: value})


@pytest.mark.parametrize("metric", METRICS)
def test_a_video_without_frames(metric):
    assert "no frame" in score(metric).reason


# --- viescore ---------------------------------------------------------------------------------


def rated(semantic, quality):
    """The record of two answers in the judge's words."""

    def say(ask):
        return quality if "artifacts" in ask.text else semantic

    return talk(VieScoreTask(), PROMPT, say)[0]


@pytest.mark.parametrize("case", GOLDENS["vie_score"])
def test_vie_goldens(case):
    values = ratings_to_values(case["SC"], case["PQ"])
    assert values["viescore"] == pytest.approx(case["overall"], abs=1e-12)
    assert values["viescore-semantic"] == case["sc"]
    assert values["viescore-quality"] == case["pq"]
    given = score(VieScore, rated(said_as({"score": case["SC"]}), said_as({"score": case["PQ"]})))
    assert given.values == values
    assert given.reason is None


def test_viescore_asks_two_things_at_once_and_one_without_the_prompt():
    _, (asks,) = talk(VieScoreTask(), "a purple dinosaur", lambda ask: "7")
    assert [ask.shown for ask in asks] == [True, True]
    assert ["dinosaur" in ask.text for ask in asks] == [True, False]


def test_viescore_keeps_reasons():
    given = score(
        VieScore,
        rated('{"score": [4], "reasoning": "no ball"}', '{"score": [9, 10], "reasoning": "fine"}'),
    )
    assert given.values["viescore"] == pytest.approx(6.0)
    assert given.details == {
        "prompt_version": "viescore-1",
        "semantic": {"score": [4.0], "reasoning": "no ball"},
        "quality": {"score": [9.0, 10.0], "reasoning": "fine"},
    }


def test_half_of_viescore_is_no_score_but_is_kept():
    given = score(VieScore, rated("no idea", "[8, 6]"))
    assert given.values == {}
    assert given.reason == (
        "no rating of how it follows the prompt: 'no idea' is not a number from 0 to 10"
    )
    assert given.details["quality"]["score"] == [8.0, 6.0]
    assert given.details["semantic"]["said"] == "no idea"
    both = score(VieScore, talk(VieScoreTask(), PROMPT, nobody)[0])
    assert both.reason.count("nobody is there") == 2


def test_viescore_frame_by_frame():
    frames = [rated("4", "[9, 10]"), rated("1", "[4, 10]"), rated("0", "[3, 3]")]
    given = score(VieScore, *frames, show="per-frame")
    assert given.values["viescore"] == pytest.approx((6 + 2 + 0) / 3)
    assert given.values["viescore-semantic"] == pytest.approx((4 + 1 + 0) / 3)
    assert given.values["viescore-quality"] == pytest.approx((9 + 4 + 3) / 3)
    assert given.curve == {"frame": [6.0, 2.0, 0.0]}
    assert given.details["frames"][1]["semantic"]["score"] == [1.0]
    assert given.notes == ()


def test_frames_without_a_score_are_left_out_and_named():
    good, bad = rated("4", "[9, 9]"), rated("?", "[9, 9]")
    given = score(VieScore, good, bad, good, show="per-frame")
    assert given.values["viescore"] == pytest.approx(6.0)
    assert given.curve == {}
    assert given.notes[0].startswith("left out: 1 of 3 frames have no score: no rating of how")
    assert "reason" in given.details["frames"][1]
    half = score(VieScore, good, bad, show="per-frame")
    assert half.values["viescore"] == pytest.approx(6.0)
    most = score(VieScore, bad, bad, good, show="per-frame")
    assert most.values == {}
    assert most.reason.startswith("2 of 3 frames have no score")
    assert most.details["frames"][2]["viescore"] == pytest.approx(6.0)


# --- tifa -------------------------------------------------------------------------------------


def question_of(question, answer, answered, kind="object", **more):
    return {
        "element": "",
        "element_type": kind,
        "question": question,
        "choices": ["yes", "no", "cat", "dog", "2", "3"],
        "answer": answer,
        "answered": answered,
        **({"problem": "unread", "said": "?"} if answered is None else {}),
        **more,
    }


def tifa_record(*pairs, **more):
    questions = [
        question_of(f"question {n}?", answer, answered, kind)
        for n, (answered, answer, kind) in enumerate(pairs)
    ]
    return {"prompt_version": "tifa-1", "caption": PROMPT, "questions": questions} | more


def test_tifas_golden():
    (golden,) = GOLDENS["tifa"]
    record = tifa_record(*((said, right, "object") for said, right in golden["answers"]))
    assert score(Tifa, record).values == {"tifa": golden["tifa"]}


def test_tifa_by_kinds():
    record = tifa_record(
        ("yes", "yes", "color"), ("no", "yes", "color"), ("2", "2", "counting"), notes=["a note"]
    )
    given = score(Tifa, record)
    assert given.values["tifa"] == pytest.approx(2 / 3)
    assert given.details["kinds"] == {
        "color": {"accuracy": 0.5, "questions": 2},
        "counting": {"accuracy": 1.0, "questions": 1},
    }
    assert given.notes == ("a note",)
    assert [q["answered"] for q in given.details["questions"]] == ["yes", "no", "2"]


def test_tifa_leaves_out_what_has_no_answer():
    record = tifa_record(("yes", "yes", "color"), (None, "yes", "color"), ("no", "yes", "color"))
    given = score(Tifa, record)
    assert given.values == {"tifa": 0.5}
    assert given.notes == ("left out: 1 of 3 questions have no answer: unread",)
    assert given.details["kinds"]["color"]["questions"] == 2
    # A half is still a score; more is not.
    assert score(Tifa, tifa_record(("yes", "yes", "a"), (None, "no", "a"))).values == {"tifa": 1.0}
    most = score(Tifa, tifa_record(("yes", "yes", "a"), (None, "no", "a"), (None, "no", "b")))
    assert most.values == {}
    assert most.reason == "2 of 3 questions have no answer: unread"


def test_tifa_counts_what_could_not_be_checked_as_missing():
    dropped = [
        {"question": "is it?", "why": "not checked: gone", "unchecked": True},
        {"question": "was it?", "why": "it is asked twice"},
    ]
    one = score(Tifa, tifa_record(("yes", "yes", "a"), dropped=dropped))
    assert one.values == {"tifa": 1.0}
    assert one.notes == ("left out: 1 of 2 questions have no answer: not checked: gone",)
    none = score(Tifa, tifa_record(dropped=dropped))
    assert none.reason == "1 of 1 questions have no answer: not checked: gone"
    filtered = score(Tifa, tifa_record(dropped=dropped[1:]))
    assert filtered.reason == (
        'no question is left: 1 was dropped, such as "was it?" (it is asked twice)'
    )
    assert score(Tifa, tifa_record()).reason == "there is no question about this prompt"


def test_tifa_frame_by_frame():
    frames = [
        tifa_record(("yes", "yes", "color"), ("no", "yes", "color")),
        tifa_record(("yes", "yes", "color"), (None, "yes", "color")),
    ]
    given = score(Tifa, *frames, show="per-frame")
    assert given.values["tifa"] == pytest.approx((0.5 + 1) / 2)
    assert given.curve == {"frame": [0.5, 1.0]}
    assert given.details["kinds"] == {"color": {"accuracy": pytest.approx(2 / 3), "questions": 3}}
    assert given.details["questions asked"] == 4
    assert given.details["questions without an answer"] == 1
    assert given.notes == ("left out: 1 of 4 questions have no answer: unread",)


def test_tifa_of_a_run():
    """The mean over videos, as tifa_average; kinds over all questions."""
    first = score(Tifa, tifa_record(("yes", "yes", "color"), (None, "yes", "shape")))
    second = score(
        Tifa,
        tifa_record(
            ("no", "yes", "color"), ("no", "yes", "color"), ("2", "2", "counting"), ("2", "2", "a")
        ),
    )
    run = Tifa().summarise([first, second])
    assert run.values["tifa"] == pytest.approx((1 + 0.5) / 2)
    assert run.details["kinds"] == {
        "a": {"accuracy": 1.0, "questions": 1},
        "color": {"accuracy": pytest.approx(1 / 3), "questions": 3},
        "counting": {"accuracy": 1.0, "questions": 1},
    }
    assert run.notes == ("left out: 1 of 6 questions have no answer",)
    assert "interval95" in run.details


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.tuples(st.integers(1, 97), st.integers(0, 97)).map(
                lambda pair: (max(pair), min(pair))
            ),
        )
    )
)
def test_pooled_kinds_count_whole_questions(parts):
    stored = [
        {k: {"accuracy": right / asked, "questions": asked} for k, (asked, right) in part.items()}
        for part in parts
    ]
    pooled = pooled_kinds(json.loads(json.dumps(stored)))
    for kind, facts in pooled.items():
        asked = sum(part[kind][0] for part in parts if kind in part)
        right = sum(part[kind][1] for part in parts if kind in part)
        assert facts == {"accuracy": right / asked, "questions": asked}


def test_tifa_end_to_end():
    written = {
        "elements": [
            {
                "element": "dog",
                "type": "animal",
                "questions": [
                    {"question": "is there a dog?", "choices": ["yes", "no"], "answer": "yes"},
                    {"question": "which animal?", "choices": ["dog", "cat"], "answer": "dog"},
                ],
            }
        ]
    }

    def say(ask):
        if not ask.shown:
            if ask.about == "questions about the prompt":
                return said_as(written)
            return "yes" if "is there" in ask.text else "dog"
        return "Yes." if "is there" in ask.text else "(B)"

    record, rounds = talk(TifaTask(), PROMPT, say)
    assert [len(asks) for asks in rounds] == [1, 3, 2]
    assert [ask.shown for ask in rounds[2]] == [True, True]
    assert PROMPT not in "".join(ask.text for ask in rounds[2])
    given = score(Tifa, record)
    assert given.values == {"tifa": 0.5}
    assert given.details["kinds"] == {"animal/human": {"accuracy": 0.5, "questions": 2}}


def test_a_judge_that_is_gone():
    for metric, task in ((Tifa, TifaTask()), (Dsg, DsgTask())):
        given = score(metric, talk(task, PROMPT, nobody)[0])
        assert given.values == {}
        assert "nobody is there" in given.reason


# --- dsg --------------------------------------------------------------------------------------

# Where ours is not the reference's: the golden's number, ours with and without dependencies, why.
DSG_DIFFERENCES = {
    3: ((1.0, 1.0), "'Yes' and 'yes, it is' are a yes; theirs takes them for no"),
    4: (None, "there is no mean of no questions; theirs is 0"),
    7: ((1.0, 1.0), "a parent that does not exist is none; theirs stops with a KeyError"),
}


def dsg_record(answers, parents, **more):
    questions = [
        {
            "id": id_,
            "tuple": "",
            "question": f"Question {id_}?",
            "parents": list(parents.get(id_, ())),
            "answered": answered,
            "probability_of_yes": None,
            **({"problem": "unread"} if answered is None else {}),
        }
        for id_, answered in answers.items()
    ]
    return {"prompt_version": "dsg-1", "caption": PROMPT, "questions": questions} | more


@pytest.mark.parametrize("number", range(len(GOLDENS["dsg"])))
def test_dsg_goldens(number):
    golden = GOLDENS["dsg"][number]
    answers = {int(id_): yes_or_no(said) for id_, said in golden["answers"].items()}
    dependency = golden["dependency"] or {}
    # A parent 0 is none.
    parents = {int(id_): tuple(filter(None, ids)) for id_, ids in dependency.items()}
    given = score(Dsg, dsg_record(answers, parents))
    if number in DSG_DIFFERENCES:
        ours, _ = DSG_DIFFERENCES[number]
    else:
        ours = (golden["with_dependency"], golden["without_dependency"])
    if ours is None:
        assert given.reason == "there is no question about this prompt"
        return
    assert given.values["dsg"] == pytest.approx(ours[0], abs=1e-12)
    assert given.values["dsg-without-dependencies"] == pytest.approx(ours[1], abs=1e-12)
    assert ("error" in golden) == any("no question has the id 7" in note for note in given.notes)


@pytest.mark.parametrize("golden", [case for case in GOLDENS["dsg"] if case.get("scores")])
def test_dsg_zeroes_what_the_reference_zeroes(golden):
    """From their own scores, so that the reading of answers has no part in it."""
    scores = {int(id_): value for id_, value in golden["scores"].items()}
    parents = {int(id_): ids for id_, ids in (golden["dependency"] or {}).items()}
    zeroed = zero_dependents(scores, {id_: [p for p in ids if p] for id_, ids in parents.items()})
    for id_, valid in golden["validity"].items():
        assert zeroed[int(id_)] == (scores[int(id_)] if valid else 0.0)
    assert mean_score(zeroed) == pytest.approx(golden["with_dependency"], abs=1e-12)
    assert mean_score(scores) == pytest.approx(golden["without_dependency"], abs=1e-12)


GRAPHS = st.dictionaries(
    st.integers(1, 9),
    st.tuples(st.floats(0, 1), st.lists(st.integers(1, 12), max_size=4)),
    min_size=1,
)


@given(GRAPHS)
def test_dependencies_only_take_away(graph):
    """Whatever the graph, circles and unknown parents among it."""
    scores = {id_: value for id_, (value, _) in graph.items()}
    parents = {id_: ids for id_, (_, ids) in graph.items()}
    zeroed = zero_dependents(scores, parents)
    assert zeroed.keys() == scores.keys()
    for id_ in scores:
        no = [parent for parent in parents[id_] if parent in scores and scores[parent] < 0.5]
        assert zeroed[id_] == (0 if no else scores[id_])
    assert 0 <= mean_score(zeroed) <= mean_score(scores) <= 1
    assert zero_dependents(scores, {}) == scores


def test_dsg_of_a_circle_and_of_itself():
    parents = {1: (2,), 2: (1,), 3: (3,)}
    assert zero_dependents({1: 1, 2: 0, 3: 1}, parents) == {1: 0, 2: 0, 3: 1}
    assert zero_dependents({1: 1, 2: 1, 3: 0}, parents) == {1: 1, 2: 1, 3: 0}


def test_dsg_leaves_out_what_has_no_answer():
    """Neither a no of its own, nor one for those that depend on it."""
    parents = {2: (1,), 3: (2,)}
    given = score(Dsg, dsg_record({1: None, 2: "yes", 3: "no"}, parents))
    assert given.values == {"dsg": 0.5, "dsg-without-dependencies": 0.5}
    assert given.notes == ("left out: 1 of 3 questions have no answer: unread",)
    most = score(Dsg, dsg_record({1: None, 2: "yes", 3: None}, parents))
    assert most.reason == "2 of 3 questions have no answer: unread"
    assert most.values == {}


def test_dsg_by_probability():
    record = dsg_record({1: "no", 2: "yes", 3: "yes"}, {2: (1,), 3: (2,)})
    for question, probability in zip(record["questions"], (0.4, 0.9, None), strict=True):
        question["probability_of_yes"] = probability
    words = score(Dsg, record)
    assert words.values["dsg"] == pytest.approx(1 / 3)
    assert words.values["dsg-without-dependencies"] == pytest.approx(2 / 3)
    assert words.notes == ()
    assert words.details["questions"][1]["probability_of_yes"] == 0.9
    given = score(Dsg, record, answers="probability")
    assert given.values["dsg"] == pytest.approx((0.4 + 0 + 1) / 3)
    assert given.values["dsg-without-dependencies"] == pytest.approx((0.4 + 0.9 + 1) / 3)
    assert given.notes == (
        "1 of 3 answers count 0 or 1: the judge does not tell their probability",
    )
    # A half is no no.
    record["questions"][0]["probability_of_yes"] = 0.5
    assert score(Dsg, record, answers="probability").values["dsg"] == pytest.approx(2.4 / 3)


def test_the_mean_of_no_answers_is_refused():
    with pytest.raises(ValueError, match="no scores"):
        mean_score({})
    assert questions_to_answers([], by_probability=True) == ({}, 0)


def test_dsg_end_to_end():
    answers = {
        "statements of the prompt": "1 | entity - whole (dog)\n2 | attribute - color (dog, red)",
        "questions": "1 | Is there a dog?\n2 | Is the dog red?",
        "dependencies": "1 | 0\n2 | 1",
    }

    def say(ask):
        if not ask.shown:
            return answers[ask.about]
        yes = 0.25 if "Is there a dog?" in ask.text else 1.0
        word = "yes" if yes > 0.5 else "no"
        return Answer(ask.read(word), word, probabilities={"yes": yes, "no": 1 - yes})

    record, rounds = talk(DsgTask(), PROMPT, say)
    assert [len(asks) for asks in rounds] == [1, 2, 2]
    assert all(ask.words == ("yes", "no") and ask.shown for ask in rounds[2])
    given = score(Dsg, record)
    assert given.values == {"dsg": 0.0, "dsg-without-dependencies": 0.5}
    soft = score(Dsg, record, answers="probability")
    assert soft.values == {"dsg": 0.125, "dsg-without-dependencies": 0.625}
    frames = score(Dsg, record, record, show="per-frame")
    assert frames.values == given.values
    assert frames.curve == {"frame": [0.0, 0.0]}


# --- what is left out, summed -----------------------------------------------------------------

GOOD_FRAMES = {
    VieScore: rated("4", "[9, 9]"),
    Tifa: tifa_record(("yes", "yes", "a")),
    Dsg: dsg_record({1: "yes"}, {}),
}
BAD_FRAMES = {
    VieScore: rated("?", "[9, 9]"),
    Tifa: tifa_record((None, "yes", "a")),
    Dsg: dsg_record({1: None}, {}),
}


def summed(metric, scores):
    """The score of a run, of scores as a journal gives them back."""
    return metric().summarise(
        [json_to_score(json.loads(json.dumps(score_to_json(s)))) for s in scores]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_run_says_how_many_frames_were_left_out(metric):
    good, bad = GOOD_FRAMES[metric], BAD_FRAMES[metric]
    videos = [(good, bad, good), (good, good, good), (good, bad, good, bad)]
    scores = [score(metric, *frames, show="per-frame") for frames in videos]
    notes = summed(metric, scores).notes
    assert notes[0] == "left out: 3 of 10 frames have no score"
    questions = ("left out: 3 of 10 questions have no answer",)
    assert notes[1:] == (() if metric is VieScore else questions)
    # Also where it is the same of every video.
    notes = summed(metric, [scores[0]] * 2).notes
    assert notes[0] == "left out: 2 of 6 frames have no score"
    assert summed(metric, [scores[1]] * 2).notes == ()


def test_answers_by_words_are_summed():
    three, two = dsg_record({1: "no", 2: "yes", 3: "yes"}, {}), dsg_record({1: "no", 2: None}, {})
    note = "{} answers count 0 or 1: the judge does not tell their probability".format
    one = score(Dsg, three, answers="probability")
    assert one.notes == (note("3 of 3"),)
    assert summed(Dsg, [one, one]).notes == (note("6 of 6"),)
    other = score(Dsg, two, answers="probability")
    assert summed(Dsg, [one, other]).notes == (
        "left out: 1 of 5 questions have no answer",
        note("4 of 4"),
    )
    told = dsg_record({1: "no", 2: "yes"}, {})
    for question in told["questions"]:
        question["probability_of_yes"] = 0.5
    assert summed(Dsg, [one, score(Dsg, told, answers="probability")]).notes == (note("3 of 5"),)
    frames = score(Dsg, three, three, answers="probability", show="per-frame")
    assert frames.notes == (note("6 of 6"),)
    assert summed(Dsg, [frames, frames]).notes == (note("12 of 12"),)
    assert summed(Dsg, [score(Dsg, three)] * 2).notes == ()


# --- nobody answered --------------------------------------------------------------------------

GONE = Answer(problem="the server is gone", unanswered=True)
UNREAD = Answer(problem="no answer could be read", text="?")
SHOWN_QUESTIONS = {"tifa": ["is it 1?", "is it 2?"], "dsg": ["Is it 1?", "Is it 2?"]}


def conversation(metric, missing):
    """A record of two questions, of which one in the way of ``missing`` has no answer."""
    if metric is VieScore:
        return talk(VieScoreTask(), PROMPT, lambda ask: "7" if "prompt" in ask.about else missing)[
            0
        ]
    name = metric.card.name
    questions = SHOWN_QUESTIONS[name]
    written = {
        "questions about the prompt": said_as(
            {
                "elements": [
                    {
                        "element": "dog",
                        "type": "animal",
                        "questions": [
                            {"question": each, "choices": ["yes", "no"], "answer": "yes"}
                            for each in questions
                        ],
                    }
                ]
            }
        ),
        "statements of the prompt": "1 | entity - whole (a)\n2 | entity - whole (b)",
        "questions": "\n".join(f"{n} | {each}" for n, each in enumerate(questions, start=1)),
        "dependencies": "1 | 0\n2 | 0",
        "a check of a question": "yes",
    }

    def say(ask):
        if not ask.shown:
            return written[ask.about]
        return missing if questions[0] in ask.text else "yes"

    return talk(metric().task(options_of(metric)), PROMPT, say)[0]


@pytest.mark.parametrize("metric", METRICS)
def test_what_nobody_answered_is_not_left_out(metric):
    """Another run may have the answer; what was answered and cannot be read stays so."""
    gone, unread = (conversation(metric, missing) for missing in (GONE, UNREAD))
    good = GOOD_FRAMES[metric]
    assert score(metric, gone).reason
    assert bool(score(metric, unread).reason) is (metric is VieScore)
    assert not score(metric, good).reason
    for frames, missing in (
        ((good, gone, good), True),
        ((good, unread, good), False),
        ((gone, gone, gone), True),
    ):
        given = score(metric, *frames, show="per-frame")
        assert bool(given.reason) is missing
    if metric is not VieScore:
        assert score(metric, gone).details["questions"][0]["unanswered"] is True


def test_tifas_question_that_nobody_checked_is_not_left_out():
    entry = {"question": "is it?", "why": "not checked: gone", "unchecked": True}
    for more, missing in (({}, False), ({"unanswered": True}, True)):
        given = score(Tifa, tifa_record(("yes", "yes", "a"), dropped=[{**entry, **more}]))
        assert given.values == ({} if missing else {"tifa": 1.0})
        assert bool(given.reason) is missing


@pytest.mark.parametrize("metric", [Tifa, Dsg])
def test_a_frame_whose_questions_nobody_wrote_is_not_left_out(metric):
    task = metric().task(options_of(metric))
    good, gone = GOOD_FRAMES[metric], talk(task, PROMPT, lambda ask: GONE)[0]
    given = score(metric, good, gone, show="per-frame")
    assert given.reason.startswith("1 of 2 frames have no score")


# --- what is kept of long answers -------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_what_was_said_is_cut(metric):
    record = conversation(metric, Answer(problem="unread", text="long " * 1_000_000))
    assert len(json.dumps(record, ensure_ascii=False)) < 6_000
    assert "long long" in json.dumps(record)
    assert "…" in json.dumps(record, ensure_ascii=False)


def test_reasons_are_cut():
    reasoning = "so " * 1_000_000
    record = rated(said_as({"score": [4], "reasoning": reasoning}), "[9, 9]")
    kept = record["semantic"]["reasoning"]
    assert kept == reasoning[:3999] + "…"
    assert (
        rated(said_as({"score": [4], "reasoning": reasoning[:4000]}), "[9, 9]")["semantic"][
            "reasoning"
        ]
        == reasoning[:4000]
    )


# --- questions of a file ----------------------------------------------------------------------

DOG = {"question": "is there a dog?", "choices": ["yes", "no"], "answer": "yes"}
TREE = YesNoQuestion(2, "Is there a tree?", (9,)).to_json()


@pytest.fixture
def files(tmp_path):
    """Question files of both metrics about one prompt."""
    paths = {}
    for metric, question in (("tifa", DOG), ("dsg", TREE)):
        document = {
            "aigve": "questions",
            "schema": 1,
            "metric": metric,
            "judge": {"model": "m"},
            "prompt_version": f"{metric}-1",
            "sets": [{"caption": PROMPT, "questions": [question]}],
        }
        paths[metric] = tmp_path / f"{metric}.json"
        paths[metric].write_text(json.dumps(document), "utf-8")
    return paths


@pytest.mark.parametrize("metric", [Tifa, Dsg])
def test_questions_of_a_file_are_asked_as_they_are(files, metric):
    path = files[metric.card.name]
    options = options_of(metric, questions=str(path))
    (request,) = metric().requests(options, Extent()).values()
    task = request.sources[2]
    assert task.path == str(path)
    assert len(task.sha256) == 64
    record, rounds = talk(task, PROMPT, lambda ask: "yes")
    assert [len(asks) for asks in rounds] == [1]
    assert rounds[0][0].shown
    given = score(metric, record)
    assert given.values[metric.card.name] == 1.0
    assert given.details["questions_from"] == {
        "file": str(path),
        "sha256": task.sha256,
        "judge": {"model": "m"},
        "prompt_version": f"{metric.card.name}-1",
    }
    expected = task.expected(PROMPT)
    assert (expected.text_requests, expected.shown_requests, expected.exact) == (0, 1, True)
    assert expected.shown_tokens > expected.text_tokens == 0


@pytest.mark.parametrize("metric", [Tifa, Dsg])
def test_a_prompt_that_is_not_in_the_file(files, metric):
    task = metric().task(options_of(metric, questions=str(files[metric.card.name])))
    record, rounds = talk(task, "a cat", lambda ask: "yes")
    assert rounds == []
    assert score(metric, record).reason == (
        f"'{files[metric.card.name]}' has no questions about this prompt"
    )
    assert task.expected("a cat").shown_requests == 0


@pytest.mark.parametrize("metric", [Tifa, Dsg])
def test_another_content_is_another_request(files, metric):
    path = files[metric.card.name]
    before = metric().task(options_of(metric, questions=str(path)))
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    after = metric().task(options_of(metric, questions=str(path)))
    assert replace(after, sha256=before.sha256) == before != after
    # Whoever goes on with a plan of the old content is stopped, not served another.
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(AigveError, match="was changed since"):
        next(replace(after, sha256="0" * 64).talk(PROMPT))


@pytest.mark.parametrize("metric", [Tifa, Dsg])
def test_a_wrong_file_is_found_before_anything_is_decoded(files, metric, tmp_path):
    other = files["dsg" if metric is Tifa else "tifa"]
    for path in (other, tmp_path / "none.json"):
        with pytest.raises(UsageError, match="Question file"):
            metric().requests(options_of(metric, questions=str(path)), Extent())


def test_filter_means_nothing_for_a_file(files):
    path = str(files["tifa"])
    both = {Tifa().task(options_of(Tifa, questions=path, filter=f)) for f in ("text", "off")}
    assert len(both) == 1


# --- of every score ---------------------------------------------------------------------------


def test_scores_are_json_and_summarise():
    scores = [
        score(VieScore, rated("4", "[9, 9]")),
        score(VieScore, rated("1", "[9, 9]")),
    ]
    for each in scores:
        assert isinstance(each, Score)
        json.dumps(dict(each.details), allow_nan=False)
    run = VieScore().summarise(scores)
    assert run.values["viescore"] == pytest.approx((6 + 3) / 2)
    assert math.isfinite(run.standard_errors["viescore"])
    assert run.notes == ()
