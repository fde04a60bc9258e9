"""Ratings in models' own words, and what four metrics make of them: without a network."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from aigve_cli.contract import (
    AsPublished,
    Extent,
    Frames,
    Prompt,
    ResizeArea,
    Sample,
    SampleFeatures,
)
from aigve_cli.engine.plan import read_options
from aigve_cli.engine.scores import json_to_score, score_to_json
from aigve_cli.errors import UsageError
from aigve_cli.metrics._rated import (
    WORDS_SHOWN,
    Rating,
    rating_to_expectation,
    rating_to_soft_score,
    text_to_aspect,
    text_to_rating,
    why_unreadable,
)
from aigve_cli.metrics.videophy import VideoPhy
from aigve_cli.metrics.videophy2 import VideoPhy2
from aigve_cli.metrics.videoscore import VideoScore
from aigve_cli.metrics.videoscore2 import ANY_ASPECT, ASPECTS, VideoScore2
from aigve_cli.video.sampling import AtRate, Evenly, Segments, Within

METRICS = (VideoScore, VideoScore2, VideoPhy, VideoPhy2)
WRITTEN = (VideoScore2, VideoPhy2)
SAMPLE = Sample("a.mkv", Path("a.mkv"), prompt="a red ball")
QUALITY, ALIGNMENT, CONSISTENCY = ASPECTS
# Sums of a few float64 numbers in another order.
ROUND_OFF = 1e-12
# Ratings and probabilities come as float32.
FLOAT32 = 1e-7

aspect_in = {
    name: partial(text_to_aspect, label=label, others=ANY_ASPECT) for name, label in ASPECTS.items()
}


def problem_of(read, text):
    """Why a text has no rating; None where it has one."""
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return None


def is_rating_in(text, rating):
    """From 1 to 5, and its place is that of its digit in the whole text."""
    assert rating.value in range(1, 6)
    assert rating.at is None or text[rating.at] == str(rating.value)


# --- one rating -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "at"),
    [
        *((str(value), value, 0) for value in range(1, 6)),
        (" 4\n", 4, 1),
        ("4.", 4, 0),
        (" 4.0", 4, 1),
        ("4/5", 4, 0),
        ("4 / 5.", 4, 0),
        ("4.0/5", 4, 0),
        ("5/5", 5, 0),
        ("4 out of 5", 4, 0),
        ("5 Out Of 5!", 5, 0),
        ("4 out of five", 4, 0),
        ("4 stars", 4, 0),
        ("4-star", 4, 0),
        ("(4)", 4, 1),
        ("[4]", 4, 1),
        ('"4"', 4, 1),
        ("`4`", 4, 1),
        ("**4**", 4, 2),
        ("#4", 4, 1),
        ("Rating: 4", 4, 8),
        ("Rating - 4", 4, 9),
        ("rating=4;", 4, 7),
        ("**Rating:** 4/5", 4, 12),
        ("The rating is 4, because it falls.", 4, 14),
        ("4 (four)", 4, 0),
        ("four (4)", 4, 6),
        ("4</s>", 4, 0),
        ("on a scale from 1 to 5, I'd rate it 4", 4, 36),
        ("I'd rate it 4 on a scale of 1-5", 4, 12),
        ("Between 1 and 5: 2", 2, 17),
        ("1–5: 2", 2, 5),
        ("On a 1 to 5 scale it is a 1", 1, 26),
        ("four", 4, None),
        ("**four**", 4, None),
        ("Rating: Five.", 5, None),
        ("On a scale of 1 to 5: one", 1, None),
        ("<think>3 or 5?</think>4", 4, 22),
        ("<Thinking>3</THINKING>\n\n4/5", 4, 24),
        ("it is 2 of 3</think> 4", 4, 21),
        ("<think>2</think>no, <think>3</think> 4", 4, 37),
        ("<think>2</think>four", 4, None),
    ],
)
def test_one_rating(text, value, at):
    assert text_to_rating(text) == Rating(value, at)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "No",
        "Yes",
        "none",
        "someone",
        "0",
        "0/5",
        "zero",
        "6",
        "15",
        "45",
        "-1",
        "-4/5",
        "4.5",
        "4,5",
        "4.50",
        "4½",
        "4e0",
        "4th",
        "v4",
        "rating_4",
        "4/10",
        "4/50",
        "4/5/3",
        "4 out of 10",
        "3-4",
        "3 – 4",
        "3 to 4",
        "4 or 5",
        "one of 4",
        "4 or five",
        "four or five",
        "4/5 to 5/5",
        "between 3 and 5",
        "4 4",
        "4..5",
        "4:3",
        "3? No, 4",
        "4, as in frame 2",
        "three, no, two",
        "2 of 3",
        "1. 4",
        "from 1 to 5",
        "1-5",
        "４",
        "٤",
        "四",
        "<think>4",
        "<think>4</think>",
        "4<think>",
        "<think>4</think> <think>4",
        "<think>4</think><think>4",
        "9" * 4_000,
        "9" * 5_000,
    ],
)
def test_no_rating(text):
    assert 0 < len(problem_of(text_to_rating, text) or "") < 300


@pytest.mark.parametrize("text", ["", " \n", "<think>4</think>", "<think>4", "4</think>"])
def test_an_empty_answer_is_called_so(text):
    assert problem_of(text_to_rating, text) == "it is empty"


@pytest.mark.parametrize(
    "text", ["four out of 5", "four/5", "Four (out of 5)", "４/5", "?/5", "/5", "- out of 5"]
)
def test_what_it_is_out_of_is_no_rating(text):
    """Read as four or not at all, but never as 5."""
    with suppress(ValueError):
        assert text_to_rating(text) == Rating(4, None)


PIECES = [
    *"012345/.-–:;()*_|\n ４½é",
    *("one", "five", " or ", " to ", " out of ", " from ", "scale of ", "4.0", "/5", "1 to 5"),
    *("<think>", "</think>", "visual quality", "Text alignment", "physical consistency: "),
    *(": 3", ":\n4\n", " – clarity", "(2) ", "<v>"),
]
MADE_UP = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@given(MADE_UP | st.text(max_size=40))
@example("04")
@example("visual quality: 04")
def test_no_text_breaks_a_reader(text):
    for read in (text_to_rating, *aspect_in.values()):
        with suppress(ValueError):
            is_rating_in(text, read(text))


@pytest.mark.parametrize(
    "hostile",
    [
        *(" ", "\n", "*", "-", "(", "1", "4 ", "4.0", "4/", "/5", "1 - ", " to 5", "one "),
        *("of 1 to ", "scale ", "from  ", "<think>", "</think>", "<think></think>"),
        *(
            "visual quality ",
            "visual quality:",
            "visual quality:\n",
            "visual quality: 9 ",
            "visual ",
        ),
        *(
            "text to video ",
            "text-to-",
            "prompt alignment",
            "physical ",
            "physical/",
            "common sense ",
        ),
    ],
)
def test_hostile_text_costs_no_time(hostile):
    """A quadratic reader does not come to an end here: the run stops it as hanging."""
    for before in ("", "4", "scale", "visual quality", "physical"):
        text = before + hostile * (100_000 // len(hostile)) + "x"
        for read in (text_to_rating, *aspect_in.values()):
            problem = problem_of(read, text)
            assert problem is None or 0 < len(problem) < 300


# --- a rating behind its name -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value", "at"),
    [
        (QUALITY, "visual quality: 4", 4, 16),
        (QUALITY, "(1) visual quality – clarity, smoothness, artifacts: 3", 3, 53),
        (QUALITY, "Visual quality: 3/5", 3, 16),
        (QUALITY, "Visual quality: 3 out of 5", 3, 16),
        (QUALITY, "visual quality: 3.0", 3, 16),
        (QUALITY, "**Visual Quality:** 2", 2, 20),
        (QUALITY, "**Visual Quality**: **2**", 2, 22),
        (QUALITY, "visual quality is moderate (3/5)", 3, 28),
        (QUALITY, "Visual quality score: 4", 4, 22),
        (QUALITY, "visual-quality = 4;", 4, 17),
        (QUALITY, "visual  quality 4", 4, 16),
        (QUALITY, "| visual quality | 4 |", 4, 19),
        (QUALITY, "- visual quality: [4]", 4, 19),
        (QUALITY, "There are 3 scores. Visual quality: 4", 4, 36),
        (QUALITY, "visual quality:\n4", 4, 16),
        (QUALITY, "visual quality: \n\n  4/5  \ntext alignment: 3", 4, 20),
        (QUALITY, "**Visual quality:**\n**4**\n", 4, 22),
        (QUALITY, "(1) Visual quality – clarity:\n4\n", 4, 30),
        (QUALITY, "visual quality: 2; visual quality: 4", 4, 35),
        (QUALITY, "visual quality: 2\nNo, visual quality:\n4", 4, 38),
        (QUALITY, "visual quality: 4. So much for visual quality.", 4, 16),
        (QUALITY, "<think>visual quality: 2</think>visual quality: 4", 4, 48),
        (QUALITY, "visual quality: 2</think>\nvisual quality: 4", 4, 42),
        (ALIGNMENT, "text-to-video alignment: 4", 4, 25),
        (ALIGNMENT, "Text-to-Video Alignment: 4/5", 4, 25),
        (ALIGNMENT, "text to video alignment: 4", 4, 25),
        (ALIGNMENT, "(2) text-to-video alignment – fidelity to the prompt: 4", 4, 54),
        (ALIGNMENT, "text alignment:4", 4, 15),
        (ALIGNMENT, "T2V alignment: 1", 1, 15),
        (ALIGNMENT, "Prompt alignment: 5", 5, 18),
        (CONSISTENCY, "physical/common-sense consistency: 4", 4, 35),
        (CONSISTENCY, "Physical consistency: 4", 4, 22),
        (CONSISTENCY, "Physical/Common-sense Consistency: 4", 4, 35),
        (CONSISTENCY, "(3) physical/common sense consistency – naturalness: 4", 4, 53),
        (CONSISTENCY, "physical and common-sense consistency: 4", 4, 39),
        (CONSISTENCY, "common-sense/physical consistency: 4", 4, 35),
        (CONSISTENCY, "commonsense consistency: 4", 4, 25),
        (CONSISTENCY, "Physics consistency: 4", 4, 21),
        (CONSISTENCY, "physical consistency/common-sense: 4", 4, 35),
    ],
)
def test_a_rating_behind_its_name(name, text, value, at):
    assert aspect_in[name](text) == Rating(value, at)
    for other in ASPECTS.keys() - {name}:
        if not ASPECTS[other].search(text):
            assert problem_of(aspect_in[other], text) == "it is not named"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "quality: 4",
        "visual: 4",
        "visual quality",
        "visual quality: <v>; text-to-video alignment: 4",
        "visual quality: n/a, physical consistency: 4",
        "visual quality:\nphysical consistency: 4",
        "visual quality and text-to-video alignment: 4",
        "visual quality – x:\n(2) text-to-video alignment: 4",
        "visual quality – x:\n2. text-to-video alignment: 4",
        "visual quality: (2) text-to-video alignment: 4",
        "(1) visual quality – clarity; (2) text-to-video alignment – fidelity: 4",
        "visual quality:\n2. alignment",
        "visual quality:\n2) text: 4",
        "visual quality:\n1. clear\n2. sharp",
        "visual quality: good\n4",
        "visual quality: 0",
        "visual quality: 6/5",
        "visual quality: 15",
        "visual quality: 4.5",
        "visual quality: 4/10",
        "visual quality: 3-4",
        "visual quality: 3 or 4",
        "visual quality: ４",
        "visual quality: 4; visual quality: 10",
        "visual quality: ?/5",
        "visual quality: 4th",
        "visual quality: " + "x" * 300 + "4",
        "<think>visual quality: 4",
        "<think>visual quality: 4</think>",
        "visual quality: 4</think>",
        "<think></think> <think>visual quality: 4",
        "<think></think><think>visual quality: 4",
    ],
)
def test_no_rating_behind_its_name(text):
    assert problem_of(aspect_in[QUALITY], text)


@pytest.mark.parametrize(
    "text",
    [
        "visual quality (out of 5): 4",
        "visual quality (1-5): 4",
        "visual quality (on a scale of 1 to 5): 4",
        "visual quality: four out of 5",
        "visual quality: four/5",
    ],
)
def test_how_a_rating_goes_is_no_rating(text):
    """Read as four or not at all, but never as 1 or 5."""
    with suppress(ValueError):
        assert aspect_in[QUALITY](text).value == 4


def test_the_published_form_is_read_as_the_program_reads_it():
    program = re.compile(
        r"visual quality:\s*(\d+).*?text-to-video alignment:\s*(\d+)"
        r".*?physical/common-sense consistency:\s*(\d+)",
        re.DOTALL | re.IGNORECASE,
    )
    for ratings in product(range(1, 6), repeat=3):
        text = (
            "<think>Sharp.</think>visual quality: {}; \ntext-to-video alignment: {}, \n"
            "physical/common-sense consistency: {}".format(*ratings)
        )
        found = program.search(text)
        theirs = [Rating(int(found[index]), found.start(index)) for index in (1, 2, 3)]
        assert [aspect_in[name](text) for name in ASPECTS] == theirs
        assert tuple(rating.value for rating in theirs) == ratings


NAMES = {
    QUALITY: ("visual quality", "Visual Quality", "visual-quality", "VISUAL QUALITY"),
    ALIGNMENT: (
        *("text-to-video alignment", "Text-to-Video Alignment", "text to video alignment"),
        *("text alignment", "T2V alignment", "Prompt alignment"),
    ),
    CONSISTENCY: (
        *("physical/common-sense consistency", "Physical / Common Sense Consistency"),
        *("physical consistency", "common-sense consistency", "Physics consistency"),
        *("physical and common-sense consistency", "physical consistency/common-sense"),
    ),
}
FORMS = (
    *("{name}: {rating}", "{name}:{rating}", "{name} = {rating}", "{name} {rating}"),
    *(
        "{name}: {rating}/5",
        "{name}: {rating} out of 5",
        "{name}: {rating}.0",
        "{name}: ({rating})",
    ),
    *("**{name}:** {rating}", "**{name}**: **{rating}**", "- {name}: {rating}/5"),
    *("{place}. {name}: {rating}", "({place}) {name} – clear, smooth, bright: {rating}"),
    *("{name} is moderate ({rating}/5)", "The {name} would be a {rating}, I think"),
    *("{name}:\n{rating}\n", "{name} – clear:\n\n**{rating}/5**\n", "| {name} | {rating} |"),
)
BETWEEN = ("\n", ";\n", ",\n", "; ", ". ", "\n\n")
BEFORE = ("", "Sure!\n", "<think>visual quality: 1, or 2? Text alignment: 1</think>\n", "5</think>")


@given(st.data())
def test_three_ratings_are_read_back_whatever_their_form(data):
    ratings = {name: data.draw(st.integers(1, 5)) for name in ASPECTS}
    said = [
        data.draw(st.sampled_from(FORMS)).format(
            name=data.draw(st.sampled_from(NAMES[name])), rating=ratings[name], place=place
        )
        for place, name in enumerate(data.draw(st.permutations(list(ASPECTS))), 1)
    ]
    text = data.draw(st.sampled_from(BEFORE)) + data.draw(st.sampled_from(BETWEEN)).join(said)
    for name, value in ratings.items():
        rating = aspect_in[name](text)
        is_rating_in(text, rating)
        assert rating.value == value


def test_a_form_does_not_disturb_the_next():
    """Each beside each, whatever is between them: chance finds few of the 1,944."""
    for first, second, between in product(FORMS, FORMS, BETWEEN):
        said = [
            first.format(name=NAMES[ALIGNMENT][0], rating=2, place=1),
            second.format(name=NAMES[CONSISTENCY][0], rating=4, place=2),
        ]
        text = between.join(said)
        assert aspect_in[ALIGNMENT](text).value == 2, text
        assert aspect_in[CONSISTENCY](text).value == 4, text


# --- how sure the model was -------------------------------------------------------------------


def answered(text, *likely, finish="stop"):
    """The record of an answer; ``likely`` are the probabilities at the text's digits in turn."""
    places = [match.start() for match in re.finditer("[1-5]", text)]
    digits = [
        {"at": at, "probabilities": list(shares)}
        for at, shares in zip(places, likely, strict=bool(likely))
    ]
    return {"text": text, "finish": finish, "digits": digits}


def sure(digit, total=1.0):
    return [total * (place == digit) for place in range(1, 6)]


@pytest.mark.parametrize(
    ("likely", "expected"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.2], 3.0),
        ([0.1, 0.2, 0.4, 0.2, 0.1], 3.0),
        ([0.5, 0, 0, 0, 0.5], 3.0),
        ([0, 0, 0.25, 0.75, 0], 3.75),
        # The five are the whole, however much other words have.
        ([0.05, 0, 0, 0, 0.15], 4.0),
        *((sure(digit), float(digit)) for digit in range(1, 6)),
        *((sure(digit, 1e-6), float(digit)) for digit in range(1, 6)),
    ],
)
def test_the_expectation(likely, expected):
    value = rating_to_expectation(Rating(4, 0), answered("4", likely))
    assert value == pytest.approx(expected, abs=ROUND_OFF)


LIKELY = st.lists(st.floats(1e-6, 1), min_size=5, max_size=5)


@given(LIKELY)
def test_the_expectation_turned_around(likely):
    there = rating_to_expectation(Rating(4, 0), answered("4", likely))
    back = rating_to_expectation(Rating(4, 0), answered("4", likely[::-1]))
    assert 1 - ROUND_OFF <= there <= 5 + ROUND_OFF
    assert there + back == pytest.approx(6, abs=ROUND_OFF)
    less = rating_to_expectation(Rating(4, 0), answered("4", [share / 7 for share in likely]))
    assert less == pytest.approx(there, abs=ROUND_OFF)


@given(LIKELY)
def test_the_soft_score_is_the_program_s(likely):
    """The likeliest digit times what it has of all five."""
    shares = np.array(likely) / np.sum(likely)
    best = int(np.argmax(shares))
    value = rating_to_soft_score(Rating(4, 0), answered("4", likely))
    assert value == pytest.approx((best + 1) * shares[best], abs=ROUND_OFF)


def test_the_soft_score_is_less_where_the_model_is_unsure():
    assert rating_to_soft_score(Rating(3, 0), answered("3", sure(3))) == 3
    unsure = [0, 0.2, 0.6, 0.2, 0]
    assert rating_to_soft_score(Rating(3, 0), answered("3", unsure)) == pytest.approx(1.8)
    assert rating_to_expectation(Rating(3, 0), answered("3", unsure)) == pytest.approx(3)


@pytest.mark.parametrize("number", [rating_to_expectation, rating_to_soft_score])
def test_it_is_the_digit_s_own_place_that_counts(number):
    answer = answered("2, no: 4", sure(1), sure(5))
    assert number(Rating(4, 7), answer) == 5
    assert number(Rating(2, 0), answer) == 1
    # Written as a word, elsewhere, or where the model gave all five nothing.
    assert number(Rating(4, None), answer) is None
    assert number(Rating(4, 3), answer) is None
    assert number(Rating(4, 0), answered("4")) is None
    assert number(Rating(4, 0), answered("4", [0.0] * 5)) is None


# --- why there is none ------------------------------------------------------------------------


def test_a_reason_has_the_answer_s_words():
    said = why_unreadable(answered("No\nidea,\x00 sorry"), ValueError("it is so"))
    assert said == "it is so: 'No idea, sorry'"
    cut = why_unreadable(answered("I think", finish="length"), ValueError("it is so"))
    assert cut == "it is so, and it was cut off: 'I think'"


@pytest.mark.parametrize("text", ["many words " * 100, "a" * 300, "没有评分。" * 60])
def test_a_reason_has_the_first_words_of_a_long_answer(text):
    said = why_unreadable(answered(text), ValueError("it is so"))
    assert text[:10] in said
    assert len(said) <= len("it is so: ''") + WORDS_SHOWN


# --- what is asked for ------------------------------------------------------------------------


def options_of(metric, **options):
    return read_options(metric.card.name, metric.card.options, options)


def requests_of(metric, extent=None, **options):
    return metric().requests(options_of(metric, **options), extent or Extent())


def looks_of(metric, extent=None, **options):
    """The frames that its requests share."""
    (sources,) = {r.sources for r in requests_of(metric, extent, **options).values()}
    frames, prompt = sources
    assert prompt == Prompt()
    return frames


@pytest.mark.parametrize(
    ("model", "frames"),
    [
        ("TIGER-Lab/VideoScore", 16),
        ("TIGER-Lab/VideoScore@main", 16),
        ("TIGER-Lab/VideoScore-anno-only", 16),
        ("/x/VideoScore", 16),
        ("/x/VideoScore-anno-only/", 16),
        ("TIGER-Lab/VideoScore-v1.1", 48),
        ("TIGER-Lab/VideoScore-v1.1@0123abc", 48),
        ("someone/VideoScore-v2", 48),
        ("/x/VideoScore/mine", 48),
        ("v1", 16),
        ("anno-only", 16),
        ("/hub/models--TIGER-Lab--VideoScore/snapshots/0123abc", 16),
        ("/hub/models--TIGER-Lab--VideoScore-v1.1/snapshots/0123abc", 48),
        ("/data@2/VideoScore", 16),
        (None, 48),
    ],
)
def test_videoscore_takes_as_many_frames_as_its_model_was_trained_on(model, frames):
    named = {"model": model} if model else {}
    assert looks_of(VideoScore, **named) == Frames((AsPublished(),), Evenly(frames))
    assert looks_of(VideoScore, **named, frames="7").sampling == Evenly(7)
    assert looks_of(VideoScore, **named, frames="0").sampling == Evenly(frames)


def test_what_the_others_look_at():
    # 128 and 768 patches of 28 x 28 pixels.
    shrunk = (ResizeArea(100_352, 602_112),)
    assert looks_of(VideoScore2) == Frames(shrunk, AtRate(2.0))
    for metric in (VideoPhy, VideoPhy2):
        assert looks_of(metric) == Frames((AsPublished("squashed"),), Segments(32))


@pytest.mark.parametrize("metric", METRICS)
def test_as_much_of_a_video_as_was_asked_for(metric):
    whole = looks_of(metric).sampling
    assert looks_of(metric, Extent(max_frames=20)).sampling == Within(whole, max_frames=20)


@pytest.mark.parametrize("metric", METRICS)
def test_requests_name_the_network_and_its_weights(metric):
    for request in requests_of(metric, model="/x/mine").values():
        assert request.producer == metric.card.name
        assert request.weights == "/x/mine"
        assert request.variant == ""
        assert hash(request)
    names = {VideoScore: {"ratings"}, VideoPhy: {"semantic", "physics", "tokens"}}
    asked = requests_of(metric)
    assert {r.output_name for r in asked.values()} == names.get(metric, {"answers"})
    assert metric.card.needs == ("prompt",)


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({}, ""),
        ({"seed": "3"}, ""),
        ({"temperature": "0"}, ""),
        ({"temperature": "0.7"}, "temperature=0.7,seed=0"),
        ({"temperature": "1", "seed": "3"}, "temperature=1,seed=3"),
    ],
)
def test_an_answer_is_only_drawn_where_that_was_asked_for(options, variant):
    (request,) = requests_of(VideoScore2, **options).values()
    assert request.variant == variant


@pytest.mark.parametrize(
    ("metric", "name", "value"),
    [
        (VideoScore, "frames", "-1"),
        (VideoScore, "frames", "half"),
        (VideoScore2, "temperature", "-0.1"),
        (VideoScore2, "seed", "-1"),
    ],
)
def test_other_options_are_refused(metric, name, value):
    with pytest.raises(UsageError, match=name):
        options_of(metric, **{name: value})


# --- scores of rows ---------------------------------------------------------------------------


def score_of_rows(metric, **rows):
    rows = {name: np.array([row], np.float32) for name, row in rows.items()}
    return metric().score(SampleFeatures(rows), SAMPLE, options_of(metric))


def test_videoscore_gives_five_in_the_network_s_order():
    given = score_of_rows(VideoScore, ratings=[2.5, 3.25, -0.125, 4.0625, 1.0])
    assert given.values == {
        "videoscore-visual-quality": 2.5,
        "videoscore-temporal-consistency": 3.25,
        "videoscore-dynamic-degree": -0.125,
        "videoscore-text-alignment": 4.0625,
        "videoscore-factual-consistency": 1.0,
    }
    assert list(given.values) == [value.name for value in VideoScore.card.values]
    assert (given.reason, given.notes) == (None, ())


@pytest.mark.parametrize("ratings", [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [1, 2, float("nan"), 4, 5]])
def test_videoscore_refuses_other_rows(ratings):
    with pytest.raises(ValueError, match=r"argument|nan"):
        score_of_rows(VideoScore, ratings=ratings)


def test_videophy_gives_both_probabilities():
    given = score_of_rows(VideoPhy, semantic=[0.25], physics=[0.75], tokens=[257, 257])
    assert given.values == {"videophy-semantic": 0.25, "videophy-physics": 0.75}
    assert list(given.values) == [value.name for value in VideoPhy.card.values]
    assert (given.reason, given.notes) == (None, ())


def test_videophy_notes_a_prompt_that_the_original_would_not_read_to_its_end():
    given = score_of_rows(VideoPhy, semantic=[0.25], physics=[0.75], tokens=[258, 257])
    assert given.values == {"videophy-semantic": 0.25, "videophy-physics": 0.75}
    (note,) = given.notes
    assert note == "a long prompt, read whole: 258 tokens, where the original stops after 257"


# --- scores of answers ------------------------------------------------------------------------

FORM = "visual quality: {};\ntext-to-video alignment: {},\nphysical/common-sense consistency: {}"


def score_of_answers(metric, answers):
    features = SampleFeatures({}, records={"answers": [answers]})
    given = metric().score(features, SAMPLE, options_of(metric))
    # It can be written down and read again.
    assert json_to_score(json.loads(json.dumps(score_to_json(given)))) == given
    return given


def test_videoscore2_gives_three_and_what_was_expected_of_each():
    text = FORM.format(4, 3, 2)
    hesitant = [0, 0.1, 0.3, 0.1, 0]
    given = score_of_answers(
        VideoScore2, answered(text, sure(4), hesitant, [0.25, 0.5, 0, 0, 0.25])
    )
    assert given.values == pytest.approx(
        {
            "videoscore2-visual-quality": 4,
            "videoscore2-text-alignment": 3,
            "videoscore2-physical-consistency": 2,
            "videoscore2-visual-quality-expected": 4,
            "videoscore2-text-alignment-expected": 3,
            "videoscore2-physical-consistency-expected": 2.5,
        },
        abs=ROUND_OFF,
    )
    assert set(given.values) == {value.name for value in VideoScore2.card.values}
    soft = {"visual-quality": 4, "text-alignment": 1.8, "physical-consistency": 1}
    assert given.details.pop("soft scores") == pytest.approx(soft, abs=ROUND_OFF)
    assert given.details == {"text": text, "finish": "stop"}
    assert (given.reason, given.notes) == (None, ())


def test_an_expectation_is_that_of_the_digit_that_was_read():
    """Not of a digit in the thoughts, nor of one that names a point of a list."""
    text = "<think>2</think>(1) visual quality: 4"
    given = score_of_answers(VideoScore2, answered(text, sure(2), sure(1), sure(5)))
    assert given.values["videoscore2-visual-quality"] == 4
    assert given.values["videoscore2-visual-quality-expected"] == 5


def test_a_rating_that_nothing_is_known_of_has_no_expectation():
    given = score_of_answers(VideoScore2, answered(FORM.format(4, 3, 2)))
    assert list(given.values.values()) == [4, 3, 2]
    assert given.details["soft scores"] == {}
    assert (given.reason, given.notes) == (None, ())


def test_one_rating_of_videoscore2_that_cannot_be_read():
    text = FORM.format(4, "good", 2)
    given = score_of_answers(VideoScore2, answered(text, sure(4), sure(3)))
    assert given.values == {
        "videoscore2-visual-quality": 4,
        "videoscore2-physical-consistency": 2,
        "videoscore2-visual-quality-expected": 4,
        "videoscore2-physical-consistency-expected": 3,
    }
    assert given.reason is None
    (note,) = given.notes
    assert note.startswith(
        "no rating of text-alignment: no whole number stands behind it: 'visual quality: 4; text-"
    )
    (why,) = given.details["unreadable"].values()
    assert given.details["unreadable"] == {"text-alignment": why}
    assert why in note
    assert given.details["text"] == text


def test_nothing_of_videoscore2_can_be_read():
    text = "<think>The visual quality: 4, and so on"
    given = score_of_answers(VideoScore2, answered(text, sure(4), finish="length"))
    assert given.values == {}
    assert given.notes == ()
    assert [f"no rating of {name}: it is not named" in given.reason for name in ASPECTS] == [
        *(True, True, True)
    ]
    assert given.reason.count("it was cut off: '<think>The visual quality: 4, and so on'") == 3
    assert list(given.details["unreadable"]) == list(ASPECTS)
    assert given.details["text"] == text
    assert given.details["finish"] == "length"


def two(semantic, physics, *likely):
    first, second = likely or (None, None)
    return {
        "semantic": answered(semantic, *([first] if first else [])),
        "physics": answered(physics, *([second] if second else [])),
    }


@pytest.mark.parametrize(("semantic", "physics"), [*product(range(1, 6), repeat=2)])
def test_videophy2_s_joint_score_is_1_where_both_are_4_or_5(semantic, physics):
    answers = two(str(semantic), str(physics), sure(1), [0, 0.5, 0.5, 0, 0])
    given = score_of_answers(VideoPhy2, answers)
    assert given.values == {
        "videophy2-semantic": semantic,
        "videophy2-physics": physics,
        "videophy2-joint": 1 if semantic >= 4 and physics >= 4 else 0,
        "videophy2-semantic-expected": 1,
        "videophy2-physics-expected": 2.5,
    }
    assert set(given.values) == {value.name for value in VideoPhy2.card.values}
    assert given.details == {
        "semantic": {"text": str(semantic), "finish": "stop"},
        "physics": {"text": str(physics), "finish": "stop"},
    }
    assert (given.reason, given.notes) == (None, ())


@pytest.mark.parametrize("lost", ["semantic", "physics"])
def test_one_rating_of_videophy2_that_cannot_be_read(lost):
    said = {"semantic": "5", "physics": "5", lost: "No"}
    given = score_of_answers(VideoPhy2, two(**said))
    (kept,) = said.keys() - {lost}
    # Neither 0 nor a joint score of one rating.
    assert given.values == {f"videophy2-{kept}": 5}
    assert given.reason is None
    assert given.notes == (f"no rating of {lost}: it holds no whole number: 'No'",)
    assert given.details["unreadable"] == {lost: "it holds no whole number: 'No'"}
    assert given.details[lost]["text"] == "No"


def test_a_rating_in_words_has_no_expectation():
    given = score_of_answers(VideoPhy2, two("four", "five"))
    assert given.values == {
        "videophy2-semantic": 4,
        "videophy2-physics": 5,
        "videophy2-joint": 1,
    }


def test_nothing_of_videophy2_can_be_read():
    given = score_of_answers(VideoPhy2, two("", "4 or 5"))
    assert given.values == {}
    assert given.notes == ()
    assert given.reason == (
        "no rating of semantic: it is empty: ''; "
        "no rating of physics: it is not one whole number from 1 to 5: '4 or 5'"
    )
    assert set(given.details["unreadable"]) == {"semantic", "physics"}


# --- scores of runs ---------------------------------------------------------------------------


def test_means_are_over_the_videos_that_have_a_rating():
    texts = (FORM.format(4, 3, 2), FORM.format(5, "<t>", 2), FORM.format(5, "<t>", "<p>"))
    scores = [score_of_answers(VideoScore2, answered(text)) for text in texts]
    mean = VideoScore2().summarise(scores)
    assert mean.values == pytest.approx(
        {
            "videoscore2-visual-quality": 14 / 3,
            "videoscore2-text-alignment": 3,
            "videoscore2-physical-consistency": 2,
        },
        abs=ROUND_OFF,
    )
    assert {
        "videoscore2-text-alignment: of 1 of 3 scored videos",
        "videoscore2-physical-consistency: of 2 of 3 scored videos",
    } <= set(mean.notes)
    assert not any(note.startswith("videoscore2-visual-quality: of") for note in mean.notes)
    assert "one video: no interval" in mean.notes
    assert set(mean.standard_errors) == {
        "videoscore2-visual-quality",
        "videoscore2-physical-consistency",
    }


def test_the_joint_score_of_a_run_is_a_share_of_videos():
    said = (("4", "5"), ("5", "4"), ("3", "5"), ("4", "1"), ("5", "No"))
    scores = [score_of_answers(VideoPhy2, two(*pair)) for pair in said]
    mean = VideoPhy2().summarise(scores)
    assert mean.values == pytest.approx(
        {"videophy2-semantic": 21 / 5, "videophy2-physics": 15 / 4, "videophy2-joint": 2 / 4},
        abs=ROUND_OFF,
    )
    assert mean.notes == (
        "videophy2-physics: of 4 of 5 scored videos",
        # The last one may be high in both or not.
        "videophy2-joint: of 4 of 5 scored videos",
    )


def test_one_low_rating_decides_the_joint_score():
    for pair in (("3", "No"), ("No", "2")):
        assert score_of_answers(VideoPhy2, two(*pair)).values["videophy2-joint"] == 0
    assert "videophy2-joint" not in score_of_answers(VideoPhy2, two("5", "No")).values


@pytest.mark.parametrize("metric", WRITTEN)
def test_nothing_is_noted_where_all_could_be_read(metric):
    answer = answered(FORM.format(4, 3, 2)) if metric is VideoScore2 else two("4", "3")
    mean = metric().summarise([score_of_answers(metric, answer)] * 2)
    assert mean.notes == ()
    assert set(mean.standard_errors.values()) == {0}


def test_means_of_rows():
    rated = [score_of_rows(VideoScore, ratings=[n, 2, 3, 4, 5]) for n in (1, 2.5)]
    assert VideoScore().summarise(rated).values["videoscore-visual-quality"] == 1.75
    likely = [
        score_of_rows(VideoPhy, semantic=[p], physics=[1 - p], tokens=[9, 257]) for p in (0.2, 0.4)
    ]
    assert VideoPhy().summarise(likely).values == pytest.approx(
        {"videophy-semantic": 0.3, "videophy-physics": 0.7}, abs=FLOAT32
    )
