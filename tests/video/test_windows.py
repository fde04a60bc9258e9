"""Windows of neighbouring frames: those of a plain loop, at VBench's own rate."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from aigve_cli.contract import Extent, VideoFacts
from aigve_cli.metrics.vbench_dynamic_degree import PAIRS, RATE, pairs_needed
from aigve_cli.video.sampling import Windows, Within, within

TABLES = json.loads(
    (Path(__file__).parents[1] / "goldens" / "vbench" / "dynamic_degree_tables.json").read_text()
)
TRIPLETS = Windows(3, step=2)
FRAMES = st.integers(0, 200)
FPS = st.one_of(
    st.sampled_from([0.0, 0.4, 8.0, 12.0, 20.0, 23.976, 28.0, 29.97, 36.0, 44.0, 59.94, 120.0]),
    st.floats(0, 240),
)
RATES = st.one_of(st.none(), st.sampled_from([1.0, 8.0, 24.0]), st.floats(0.5, 60))
WINDOWS = st.builds(
    Windows, st.integers(1, 6), step=st.integers(1, 5), rate=RATES, still=st.booleans()
)


def facts(frames: int, fps: float = 25.0) -> VideoFacts:
    return VideoFacts(width=64, height=48, fps=fps, frames=frames)


def by_a_loop(frames: int, fps: float, windows: Windows) -> list[list[int]]:
    """Frame by frame: which are kept, and which windows are full."""
    every = 1
    if windows.rate is not None:
        every = max(1, round(fps / windows.rate))
    kept = [frame for frame in range(frames) if frame % every == 0]
    found = []
    for first in range(0, len(kept), windows.step):
        window = kept[first : first + windows.length]
        if len(window) == windows.length:
            found.append(window)
    if windows.still and len(kept) == 1:
        found = [kept * windows.length]
    return found


@given(FRAMES, FPS, WINDOWS)
def test_windows_are_those_of_a_loop(frames, fps, windows):
    units = windows.units(facts(frames, fps))
    expected = by_a_loop(frames, fps, windows)
    assert units.dtype == np.int64
    assert units.shape == (len(expected), windows.length)
    assert units.tolist() == expected


@given(FRAMES, FPS)
def test_pairs_are_every_frame_with_the_next(frames, fps):
    units = Windows(2).units(facts(frames, fps))
    assert units.tolist() == [[one, other] for one, other in pairwise(range(frames))]


@given(FRAMES, FPS)
def test_triplets_are_every_second_frame_between_its_neighbours(frames, fps):
    """As AMT is asked: frames 0, 2, 4, … go in, and what lies between is compared."""
    shown = range(0, frames, 2)
    units = TRIPLETS.units(facts(frames, fps))
    assert units.tolist() == [[before, before + 1, after] for before, after in pairwise(shown)]
    if frames >= 3:
        assert units.max() == (frames - 1) // 2 * 2, "the last of an even number is not looked at"


# --- VBench's tables --------------------------------------------------------------------------


@pytest.mark.parametrize(("fps", "interval"), TABLES["fps_interval"])
def test_vbench_s_intervals(fps, interval):
    assert PAIRS.interval(fps) == interval
    units = PAIRS.units(facts(40 * interval, fps))
    assert units.tolist() == [[i * interval, (i + 1) * interval] for i in range(39)]


@pytest.mark.parametrize(("compared", "needed"), TABLES["count_num"])
def test_vbench_s_counts(compared, needed):
    """Its table is by compared frames, of which there is one more than pairs."""
    pairs = PAIRS.units(facts(compared, RATE))
    assert len(pairs) == compared - 1
    assert pairs_needed(len(pairs), fixed=False) == needed


@pytest.mark.parametrize("half", [1.5, 2.5, 3.5, 4.5, 5.5])
def test_halves_go_to_the_even_number(half):
    windows = Windows(2, rate=8.0)
    above, below = windows.interval(8 * half + 1e-6), windows.interval(8 * half - 1e-6)
    assert (below, above) == (int(half), int(half) + 1)
    assert windows.interval(8 * half) == (below if below % 2 == 0 else above)


@given(FPS, st.integers(0, 100))
def test_a_video_that_is_as_slow_as_the_rate_is_not_thinned(fps, frames):
    slow = Windows(2, rate=max(fps, 1e-3))
    assert slow.units(facts(frames, fps)).tolist() == Windows(2).units(facts(frames, fps)).tolist()
    # Of a video that states no rate, every frame is taken.
    thin = Windows(2, rate=0.01)
    assert thin.units(facts(frames, 0.0)).tolist() == Windows(2).units(facts(frames)).tolist()


# --- as much of a video as was asked for ------------------------------------------------------


@given(FRAMES, FPS, WINDOWS, st.integers(1, 120))
def test_of_the_first_frames(frames, fps, windows, most):
    bounded = within(Extent(max_frames=most), windows)
    units = bounded.units(facts(frames, fps))
    assert units.tolist() == by_a_loop(min(frames, most), fps, windows)
    assert (units < min(frames, most)).all()
    assert bounded.limit is None
    assert not bounded.pads


@given(FRAMES, FPS, WINDOWS, st.floats(0.01, 20))
def test_of_the_first_seconds(frames, fps, windows, seconds):
    own = within(Extent(max_seconds=seconds, fps=None), windows).units(facts(frames, fps))
    # A video that states no rate is taken whole.
    most = max(1, round(seconds * fps)) if fps > 0 else frames
    assert own.tolist() == by_a_loop(min(frames, most), fps, windows)
    counted = within(Extent(max_seconds=seconds, fps=10.0), windows).units(facts(frames, fps))
    assert counted.tolist() == by_a_loop(min(frames, max(1, round(seconds * 10))), fps, windows)


@given(FRAMES, FPS, st.booleans())
def test_nothing_is_asked_for(frames, fps, still):
    windows = Windows(2, rate=8.0, still=still)
    assert within(Extent(), windows) is windows
    # Black frames are for distributions only.
    assert within(Extent(pad=True), windows) is windows
    assert not windows.pads
    assert windows.limit is None


# --- one frame --------------------------------------------------------------------------------


@given(st.builds(Windows, st.integers(2, 6), step=st.integers(1, 5), rate=RATES), FRAMES, FPS)
def test_only_one_compared_frame_stands_still(moving, frames, fps):
    standing = Windows(moving.length, step=moving.step, rate=moving.rate, still=True)
    ours, theirs = (windows.units(facts(frames, fps)) for windows in (standing, moving))
    compared = len(standing.places(facts(frames, fps)))
    if compared == 1:
        assert ours.tolist() == [[0] * moving.length]
        assert theirs.shape == (0, moving.length)
    else:
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("windows", "frames", "fps", "expected"),
    [
        (Windows(2, still=True), 0, 25.0, []),
        (Windows(2, still=True), 1, 25.0, [[0, 0]]),
        (Windows(2, still=True), 2, 25.0, [[0, 1]]),
        (Windows(2), 1, 25.0, []),
        (Windows(3, step=2, still=True), 1, 25.0, [[0, 0, 0]]),
        # Of two frames none lies between others, and none is alone.
        (Windows(3, step=2, still=True), 2, 25.0, []),
        # Three frames of a video at 25 a second are one at 8 a second.
        (Windows(2, rate=8.0, still=True), 3, 25.0, [[0, 0]]),
        (Windows(2, rate=8.0), 3, 25.0, []),
        (Windows(2, rate=8.0, still=True), 4, 25.0, [[0, 3]]),
    ],
)
def test_the_shortest_videos(windows, frames, fps, expected):
    units = windows.units(facts(frames, fps))
    assert units.shape == (len(expected), windows.length)
    assert units.tolist() == expected


def test_a_video_that_is_cut_to_one_frame_stands_still():
    for frames in (1, 50):
        units = within(Extent(max_frames=1), PAIRS).units(facts(frames, 8.0))
        assert units.tolist() == [[0, 0]]


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "text"),
    [
        (Windows(2), "pairs of neighbouring frames"),
        (Windows(2, still=True), "pairs of neighbouring frames, one alone stands still"),
        (TRIPLETS, "triplets of neighbouring frames, one every 2"),
        (Windows(5), "windows of 5 of neighbouring frames"),
        (
            PAIRS,
            "pairs of neighbouring frames, thinned to about 8 frames a second, "
            "one alone stands still",
        ),
        (
            Windows(4, step=3, rate=2.5),
            "windows of 4 of neighbouring frames, one every 3, "
            "thinned to about 2.5 frames a second",
        ),
        (
            Within(Windows(2), max_frames=9),
            "pairs of neighbouring frames; of the first 9 frames",
        ),
    ],
)
def test_windows_in_words(windows, text):
    assert str(windows) == text
