"""Index arithmetic: what a decoder can stop at without a scan, padding, and rates."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from aigve_cli.contract import Extent, VideoFacts
from aigve_cli.video.sampling import (
    AtLeast,
    Centres,
    Clips,
    EverySecond,
    FirstFrames,
    FirstSeconds,
    Spread,
    Within,
    clip_sampling,
    frame_sampling,
    seconds_to_frames,
    within,
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


# --- what quality networks look at ------------------------------------------------------------


def video(frames, fps):
    return VideoFacts(64, 48, fps, frames)


@pytest.mark.parametrize(
    ("frames", "fps", "starts"),
    [
        (40, 5.0, [0, 5, 10, 15, 20, 25, 30, 35]),
        (81, 16.0, [0, 16, 32, 48, 64]),
        (39, 5.0, [0, 5, 10, 15, 20, 25, 30]),  # the last part of a second has none
        (60, 29.97, [0, 30]),
        (3, 25.0, [0]),  # less than a second is one
        (0, 25.0, []),
        (40, 0.0, []),
        (4, 0.4, [0, 1, 2, 3]),
    ],
)
def test_every_second(frames, fps, starts):
    units = EverySecond().units(video(frames, fps))
    assert units[:, 0].tolist() == starts
    clips = EverySecond(32).units(video(frames, fps))
    assert clips.shape == (len(starts), 32)
    for start, clip in zip(starts, clips.tolist(), strict=True):
        assert clip == [min(start + step, frames - 1) for step in range(32)]
    assert len(EverySecond(32, count=3).units(video(frames, fps))) == min(3, len(starts))


@pytest.mark.parametrize(
    ("frames", "to_the_end", "expected"),
    [
        (17, True, [0, 2, 5, 7, 9, 11, 14, 16]),
        (16, True, [0, 2, 4, 6, 9, 11, 13, 15]),
        (17, False, [0, 2, 4, 6, 8, 10, 12, 14]),
        (23, False, [0, 2, 4, 6, 8, 10, 12, 14]),
        (24, False, [0, 3, 6, 9, 12, 15, 18, 21]),
        (8, True, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8, False, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, True, [0, 1, 2, 2, 2, 2, 2, 2]),
        (3, False, [0, 1, 2, 2, 2, 2, 2, 2]),
        (0, True, []),
    ],
)
def test_frames_spread_over_a_video(frames, to_the_end, expected):
    units = Spread(8, to_the_end=to_the_end).units(facts(frames))
    assert units.ravel().tolist() == expected


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (17, [1, 3, 5, 7, 9, 11, 13, 15]),
        (16, [1, 3, 5, 7, 9, 11, 13, 15]),
        (61, [3, 11, 19, 26, 34, 41, 49, 57]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, [0, 1, 2]),
        (1, [0]),
    ],
)
def test_frames_in_the_middle_of_equal_parts(frames, expected):
    assert Centres(8).units(facts(frames)).tolist() == [expected]
    alone = Centres(8, together=False).units(facts(frames))
    assert alone.tolist() == [[index] for index in expected]
    assert alone.dtype == np.int64


@given(st.integers(1, 300), st.integers(1, 40))
def test_each_part_has_its_own_frame(frames, count):
    (places,) = Centres(count).units(facts(frames)).tolist()
    parts = min(count, frames)
    assert len(places) == parts
    for part, place in enumerate(places):
        # The middle of a part is in the frame, or where two frames meet.
        middle = (part + 0.5) * frames / parts
        assert place <= middle < place + 1
    assert len(set(places)) == parts


def test_a_video_without_frames_has_no_centres():
    assert Centres(8).units(facts(0)).shape == (0, 8)
    assert Centres(8, together=False).units(facts(0)).shape == (0, 1)
    assert Centres(8).limit is None
    assert not Centres(8).pads


@pytest.mark.parametrize("frames", [0, 1, 28, 29, 30])
def test_the_last_unit_again(frames):
    units = AtLeast(29, FirstFrames(None)).units(facts(frames))[:, 0].tolist()
    held = list(range(frames)) + [frames - 1] * (29 - frames)
    assert units == (held if frames else [])
    clips = AtLeast(8, EverySecond(32)).units(video(81, 16.0))
    assert [clip[0] for clip in clips.tolist()] == [0, 16, 32, 48, 64, 64, 64, 64]


@given(COUNTS, LIMITS)
def test_a_limit_is_enough_for_every_shorter_video(frames, limit):
    sampling = AtLeast(5, FirstFrames(limit))
    known = {tuple(unit) for unit in sampling.units(facts(sampling.limit)).tolist()}
    assert {tuple(unit) for unit in sampling.units(facts(frames)).tolist()} <= known


def test_as_much_of_a_video_as_was_asked_for():
    every = EverySecond()
    assert within(Extent(), every) is every
    assert within(Extent(max_frames=20), every).units(video(40, 5.0)).ravel().tolist() == [
        *(0, 5, 10, 15)
    ]
    # --max-seconds counts with --fps, or with the video's own rate where that is asked for.
    assert within(Extent(max_seconds=2.0, fps=10.0), every) == Within(every, max_frames=20)
    native = within(Extent(max_seconds=2.0, fps=None), every)
    assert native.units(video(40, 5.0)).ravel().tolist() == [0, 5]
    assert native.limit is None
    assert within(Extent(max_frames=20), FirstFrames(500)).limit == 20
    assert within(Extent(max_frames=600), FirstFrames(500)).limit == 500
    # Black frames are for distributions only.
    assert not within(Extent(max_frames=20, pad=True), FirstFrames(None)).pads


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        (FirstFrames(None), "every frame"),
        (EverySecond(), "a frame from each second on"),
        (EverySecond(32, 8), "32 frames from each second on, 8 at most"),
        (Spread(8), "8 frames, from the first to the last"),
        (Spread(8, to_the_end=False), "8 frames, at the beginning of equal parts"),
        (Centres(8), "8 frames, in the middle of equal parts, together"),
        (Centres(8, together=False), "8 frames, in the middle of equal parts, one by one"),
        (AtLeast(8, EverySecond()), "a frame from each second on; the last again up to 8"),
        (Within(FirstFrames(None), max_frames=9), "every frame; of the first 9 frames"),
        (Within(EverySecond(), seconds=2.5), "of the first 2.5 s at the video's own frame rate"),
    ],
)
def test_quality_samplings_in_words(sampling, text):
    assert text in str(sampling)
