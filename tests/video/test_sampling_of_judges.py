"""Which frames judges of videos are shown together: their programs' own rules, and bounds."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from aigve_cli.contract import Extent, VideoFacts
from aigve_cli.video.sampling import AtRate, Evenly, Segments, Within, within

GOLDENS = Path(__file__).parents[1] / "goldens" / "vision_language"
SEGMENTS = json.loads((GOLDENS / "mplug_owl_golden.json").read_text("utf-8"))["get_index_examples"]
FRAMES = st.integers(0, 700)
RATES = st.sampled_from([0.4, 1.0, 7.5, 8.0, 16.0, 23.976, 25.0, 29.97, 59.94, 240.0])
SAMPLINGS = st.one_of(
    st.builds(Evenly, st.integers(1, 64)),
    st.builds(Segments, st.integers(1, 64)),
    st.builds(
        AtRate,
        st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        least=st.integers(2, 8),
        most=st.integers(8, 64),
    ),
)


def facts(frames, fps=25.0):
    return VideoFacts(width=64, height=48, fps=fps, frames=frames)


def places_of(sampling, frames, fps=25.0):
    """The frames of the one unit."""
    (unit,) = sampling.units(facts(frames, fps)).tolist()
    return unit


# --- all of them ------------------------------------------------------------------------------


@given(SAMPLINGS, FRAMES, RATES)
def test_frames_are_in_the_video_and_in_order(sampling, frames, fps):
    units = sampling.units(facts(frames, fps))
    assert units.dtype == np.int64
    assert len(units) in (0, 1)
    # All that have two frames and a rate are looked at.
    assert len(units) == 1 or frames < 2
    for unit in units.tolist():
        assert unit
        assert sorted(unit) == unit
        assert unit[0] >= 0
        assert unit[-1] < frames


@given(SAMPLINGS, st.integers(2, 700), RATES)
def test_steps_are_equal_to_a_frame(sampling, frames, fps):
    """So that no part of a video is left out, whatever its length."""
    places = places_of(sampling, frames, fps)
    steps = np.diff(places)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


@given(SAMPLINGS, FRAMES, RATES, st.integers(1, 800))
def test_of_a_part_of_a_video_they_are_those_of_a_video_that_ends_there(
    sampling, frames, fps, most
):
    part = Within(sampling, max_frames=most).units(facts(frames, fps))
    alone = sampling.units(facts(min(frames, most), fps))
    assert np.array_equal(part, alone)
    assert within(Extent(max_frames=most), sampling) == Within(sampling, max_frames=most)


@given(SAMPLINGS, RATES, st.floats(0.1, 20))
def test_of_some_seconds_they_are_those_of_as_many_frames(sampling, fps, seconds):
    """By the video's own frame rate."""
    part = within(Extent(max_seconds=seconds, fps=None), sampling)
    ends = max(1, round(seconds * fps))
    assert np.array_equal(part.units(facts(700, fps)), sampling.units(facts(min(ends, 700), fps)))


@given(SAMPLINGS)
def test_the_number_of_frames_must_be_known_first(sampling):
    """And no frame is added behind the end."""
    assert sampling.limit is None
    assert not sampling.pads
    assert Within(sampling, max_frames=9).limit is None
    assert sampling.units(facts(0)).shape[0] == 0


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        (Evenly(16), "16 frames at most, at equal steps from the first, together"),
        (Segments(32), "a frame of each of 32 parts, together"),
        (AtRate(2.0), "2 frames a second, 4 to 120, together"),
        (AtRate(0.5, least=6, most=8), "0.5 frames a second, 6 to 8, together"),
        (
            Within(Segments(32), max_frames=9),
            "a frame of each of 32 parts, together; of the first 9 frames",
        ),
    ],
)
def test_samplings_of_judges_in_words(sampling, text):
    assert str(sampling) == text


# --- at equal steps ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [16, 48])
def test_frames_at_equal_steps_are_those_of_numpy_s_arange(count):
    """As VideoScore's example has it, which takes all frames where there are no more."""
    for frames in range(1, 401):
        expected = np.arange(frames)
        if frames > count:
            expected = np.arange(0, frames, frames / count).astype(int)
        places = places_of(Evenly(count), frames)
        assert places == expected.tolist()
        assert len(places) == min(count, frames)
        assert all(np.diff(places) > 0)
        assert places[0] == 0


def test_arange_s_last_place_is_left_out_where_rounding_adds_one():
    """17 / 7, as it is rounded, goes into 17 a little more than 7 times."""
    assert np.arange(0, 17, 17 / 7).astype(int).tolist() == [0, 2, 4, 7, 9, 12, 14, 17]
    assert places_of(Evenly(7), 17) == [0, 2, 4, 7, 9, 12, 14]


@given(st.integers(1, 2000), st.integers(1, 64))
def test_there_are_never_more_frames_at_equal_steps_than_asked_for(frames, count):
    places = places_of(Evenly(count), frames)
    assert len(places) == min(count, frames)
    assert len(set(places)) == len(places)


# --- a frame of each part ---------------------------------------------------------------------


@pytest.mark.parametrize("example", SEGMENTS)
def test_a_frame_of_each_part_is_the_original_s(example):
    frames, count = map(int, example.split(","))
    assert places_of(Segments(count), frames) == SEGMENTS[example]


@given(st.integers(1, 700), st.integers(1, 64))
def test_there_are_always_as_many_frames_as_parts(frames, count):
    places = places_of(Segments(count), frames)
    assert len(places) == count
    # Of short videos some are there again, and none is left out but those of the last part.
    if frames <= count:
        assert set(places) >= set(range(frames - 1))


# --- some a second ----------------------------------------------------------------------------


def by_the_rule(frames, fps, least=4, most=120):
    """qwen_vl_utils' rule in its own words, for 2 frames a second."""
    most = math.floor(min(most, frames) / 2) * 2
    count = min(min(max(frames / fps * 2, least), most), frames)
    count = math.floor(count / 2) * 2
    return torch.linspace(0, frames - 1, count).round().long().tolist()


@pytest.mark.parametrize("fps", [7.5, 8.0, 24.0, 29.97, 60.0])
def test_two_frames_a_second_are_those_of_qwen_vl_utils(fps):
    for frames in (*range(2, 150), 250, 999, 1000, 9_001):
        assert places_of(AtRate(2.0), frames, fps) == by_the_rule(frames, fps), frames


@given(st.integers(2, 3000), st.floats(0.1, 240), st.integers(2, 20), st.integers(20, 300))
def test_some_frames_a_second_are_those_of_the_rule_between_other_bounds(frames, fps, least, most):
    sampling = AtRate(2.0, least=least, most=most)
    assert places_of(sampling, frames, fps) == by_the_rule(frames, fps, least, most)


@given(st.integers(2, 3000), st.floats(0.1, 240))
def test_their_number_is_even_and_they_go_from_the_first_to_the_last(frames, fps):
    places = places_of(AtRate(2.0), frames, fps)
    assert len(places) % 2 == 0
    assert 2 <= len(places) <= 120
    assert (places[0], places[-1]) == (0, frames - 1)
    assert all(np.diff(places) > 0)


@pytest.mark.parametrize(
    ("frames", "fps", "expected"),
    [
        # 80 frames are 3.2 s: 6.4, which are 6.
        (80, 25.0, [0, 16, 32, 47, 63, 79]),
        # A second would be 2 and becomes 4.
        (25, 25.0, [0, 8, 16, 24]),
        (4, 25.0, [0, 1, 2, 3]),
        (5, 25.0, [0, 1, 3, 4]),
        # A slow video has no more than it has, and an odd one of them less.
        (7, 1.0, [0, 1, 2, 4, 5, 6]),
        (3, 25.0, [0, 2]),
        (2, 25.0, [0, 1]),
    ],
)
def test_two_frames_a_second(frames, fps, expected):
    assert places_of(AtRate(2.0), frames, fps) == expected


def test_a_long_video_has_as_many_frames_as_are_allowed():
    # 60 s have 120.
    assert len(places_of(AtRate(2.0), 1440, 24.0)) == 120
    assert len(places_of(AtRate(2.0), 1416, 24.0)) == 118
    assert len(places_of(AtRate(2.0), 36_000, 24.0)) == 120


@pytest.mark.parametrize(("frames", "fps"), [(0, 25.0), (1, 25.0), (40, 0.0), (1, 0.0)])
def test_one_frame_or_no_frame_rate_has_none(frames, fps):
    assert AtRate(2.0).units(facts(frames, fps)).shape == (0, 120)


def test_a_video_that_states_no_frame_rate_is_looked_at_by_the_others():
    assert len(places_of(Evenly(16), 40, 0.0)) == 16
    assert len(places_of(Segments(32), 40, 0.0)) == 32
    assert places_of(Segments(32), 1) == [0] * 32
    assert places_of(Evenly(16), 1) == [0]
