"""Index arithmetic: what a decoder can stop at without a scan, padding, and rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigve_cli.contract import Extent, VideoFacts
from aigve_cli.video.sampling import (
    Clips,
    FirstFrames,
    FirstSeconds,
    clip_sampling,
    frame_sampling,
    seconds_to_frames,
)

COUNTS = st.integers(0, 300)
LIMITS = st.integers(1, 200)
LENGTHS = st.integers(1, 40)
RATES = st.sampled_from([1.0, 8.0, 23.976, 25.0, 29.97, 59.94, 120.0])


def facts(frames, fps=25.0):
    return VideoFacts(width=64, height=48, fps=fps, frames=frames)


def complete(units, frames):
    """The units that lie whole within the first ``frames`` frames."""
    return units[(units < frames).all(axis=1)]


@given(COUNTS, LIMITS, LENGTHS)
def test_units_of_a_video_are_the_complete_units_of_the_limit(frames, limit, length):
    for sampling in (FirstFrames(limit), Clips(length, limit)):
        assert sampling.limit == limit
        whole = sampling.units(facts(limit))
        assert np.array_equal(sampling.units(facts(frames)), complete(whole, frames))


@given(COUNTS, LIMITS, LENGTHS)
def test_padded_units_do_not_depend_on_the_video(frames, limit, length):
    for sampling in (FirstFrames(limit, pad=True), Clips(length, limit, pad=True)):
        assert sampling.pads
        assert np.array_equal(sampling.units(facts(frames)), sampling.units(facts(limit)))


@given(COUNTS, LIMITS, LENGTHS)
def test_units_are_consecutive_and_each_frame_is_in_one(frames, limit, length):
    units = Clips(length, limit).units(facts(frames))
    assert units.dtype == np.int64
    assert units.shape == (min(frames, limit) // length, length)
    assert np.array_equal(units.ravel(), np.arange(units.size))


@given(COUNTS, RATES, st.floats(0.01, 20), LENGTHS)
def test_seconds_by_the_video_s_own_rate(frames, fps, seconds, length):
    sampling = FirstSeconds(seconds, Clips(length))
    assert sampling.limit is None
    wanted = max(1, round(seconds * fps))
    expected = Clips(length, wanted).units(facts(frames))
    assert np.array_equal(sampling.units(facts(frames, fps)), expected)


@given(COUNTS, st.floats(0.01, 20), LENGTHS)
def test_a_video_that_states_no_rate_is_taken_whole(frames, seconds, length):
    for pad in (False, True):
        units = FirstSeconds(seconds, Clips(length, pad=pad)).units(facts(frames, fps=0.0))
        assert units.shape == (frames // length, length)


@given(st.floats(0, 1e-6), RATES)
def test_the_shortest_time_is_one_frame(seconds, fps):
    assert seconds_to_frames(seconds, fps) == 1


@pytest.mark.parametrize(
    ("extent", "text"),
    [
        (Extent(), "first 64 frames"),
        (Extent(max_frames=10), "first 10 frames"),
        (Extent(max_seconds=2.0), "first 50 frames"),
        (Extent(max_frames=10, max_seconds=2.0, fps=8.0), "first 16 frames"),
        (
            Extent(max_seconds=2.0, fps=None),
            "frames of the first 2 s at the video's own frame rate",
        ),
        (Extent(max_frames=10, pad=True), "first 10 frames, black frames behind the end"),
    ],
)
def test_what_was_asked_for_is_what_results_say(extent, text):
    assert str(frame_sampling(extent)) == text


def test_clips_of_what_was_asked_for():
    assert clip_sampling(Extent(), Clips(16)) == Clips(16, 64)
    assert clip_sampling(Extent(max_frames=40), Clips(8)) == Clips(8, 40)
    seconds = clip_sampling(Extent(max_seconds=1.0, fps=None), Clips(16))
    assert seconds == FirstSeconds(1.0, Clips(16))
    assert str(clip_sampling(Extent(), Clips(16))) == "16-frame clips of the first 64 frames"
    # A protocol that needs more than the default has it.
    assert clip_sampling(Extent(), Clips(16, stride=8, count=1)).max_frames == 121
    assert clip_sampling(Extent(max_frames=64), Clips(16, stride=8)).units(facts(300)).size == 0


@given(COUNTS, LIMITS, LENGTHS, st.integers(1, 9), st.integers(0, 30), st.integers(1, 5))
def test_strided_clips(frames, limit, length, stride, offset, count):
    sampling = Clips(length, limit, stride=stride, offset=offset, count=count)
    units = sampling.units(facts(frames))
    assert np.array_equal(
        units, complete(sampling.units(facts(sampling.limit)), min(frames, limit))
    )
    assert len(units) <= count
    if len(units):
        assert units[0, 0] == offset
        assert set(np.diff(units.ravel())) <= {stride}
        assert units.max() < min(frames, limit)
    if len(units) < count:
        # One more would not have fitted.
        assert offset + len(units) * length * stride + sampling.span > min(frames, limit)


def test_a_video_shorter_than_a_clip_has_none():
    assert Clips(16, 64).units(facts(15)).shape == (0, 16)
    assert Clips(16, 64, pad=True).units(facts(15)).shape == (4, 16)


@pytest.mark.parametrize(
    ("short", "expected"),
    [("drop", []), ("loop", [0, 1, 2, 3, 4, 0, 1, 2]), ("repeat", [0, 1, 2, 3, 4, 4, 4, 4])],
)
def test_a_short_video_is_filled_only_where_that_was_asked_for(short, expected):
    sampling = Clips(8, 64, short=short)
    assert sampling.units(facts(5)).ravel().tolist() == expected
    assert sampling.units(facts(8)).ravel().tolist() == list(range(8))
    assert sampling.units(facts(0)).shape == (0, 8)
    # How short a video is must be known before its clip is.
    assert (sampling.limit is None) == (short != "drop")


@pytest.mark.parametrize(
    ("clips", "text"),
    [
        (Clips(16, count=1), "first 16-frame clip"),
        (Clips(16, 64, count=3, offset=4), "first 3 16-frame clips, from frame 4 of the first 64"),
        (Clips(16, stride=8), "16-frame clips, one frame in 8"),
        (Clips(16, short="loop"), "16-frame clips, short videos looped"),
        (Clips(16, 64, pad=True), "16-frame clips of the first 64 frames, black frames"),
    ],
)
def test_clips_in_words(clips, text):
    assert str(clips).startswith(text)
