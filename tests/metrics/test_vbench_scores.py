"""What VBench's dimensions make of rows: its own arithmetic, quirks and repairs, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from aigve_cli import evaluate
from aigve_cli.contract import Extent, Frames, Metric, Sample, SampleFeatures, Score, VideoFacts
from aigve_cli.engine import passes
from aigve_cli.engine.plan import read_options, request_sampling
from aigve_cli.metrics._vbench import ONE_FRAME
from aigve_cli.metrics.vbench_aesthetic_quality import AestheticQuality
from aigve_cli.metrics.vbench_background_consistency import BackgroundConsistency
from aigve_cli.metrics.vbench_dynamic_degree import (
    NO_RATE,
    ONE_COMPARED,
    PAIRS,
    DynamicDegree,
    pairs_needed,
    threshold,
)
from aigve_cli.metrics.vbench_imaging_quality import ImagingQuality
from aigve_cli.metrics.vbench_motion_smoothness import MotionSmoothness
from aigve_cli.metrics.vbench_subject_consistency import SubjectConsistency
from aigve_cli.metrics.vbench_temporal_flickering import TemporalFlickering
from aigve_cli.weights import network_card
from tests.conftest import moving_pattern, write_clip
from tests.engine.watched import Watching, scores
from tests.networks.vbench_weights import GOLDENS, golden, vbench_tensor

SAMPLE = Sample("a.mp4", Path("a.mp4"))
CONSISTENCIES = (SubjectConsistency, BackgroundConsistency)
EVERY = (
    *CONSISTENCIES,
    AestheticQuality,
    DynamicDegree,
    ImagingQuality,
    MotionSmoothness,
    TemporalFlickering,
)
MODES = ("parity", "fixed")
FIXED = {"mode": "fixed"}
# VBench's cosines are float32; so are the networks' rows and the goldens.
FLOAT32 = 1e-6


def options_of(metric: type[Metric], **given: Any) -> dict[str, Any]:
    return read_options(metric.card.name, metric.card.options, given)


def score(
    metric: type[Metric], rows: Any, facts: VideoFacts | None = None, **options: Any
) -> Score:
    """The score of one video, whose only request has these rows."""
    options = options_of(metric, **options)
    rows = np.asarray(rows, np.float32)
    facts = facts or VideoFacts(256, 256, 8.0, len(rows) + 1)
    ((name, request),) = metric().requests(options, Extent()).items()
    units = {name: request_sampling(request).units(facts)}
    features = SampleFeatures({name: rows}, facts=facts, units=units)
    return metric().score(features, SAMPLE, options)


def only(given: Score) -> float:
    (value,) = given.values.values()
    return value


def directions(seed: int, frames: int, *, apart: float = 1.0, width: int = 16) -> np.ndarray:
    """float32 [frames, width] of lengths that are not 1, more alike the smaller ``apart`` is."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=width) + apart * random.normal(size=(frames, width))
    return (rows * random.uniform(0.1, 50, (frames, 1))).astype(np.float32)


# --- both consistencies -----------------------------------------------------------------------


def vbench_consistency(rows: np.ndarray, *, clips: bool = True) -> list[float]:
    """Frame by frame in float32; the video's score is their mean."""
    frames = [F.normalize(torch.from_numpy(row)[None], dim=-1, p=2) for row in rows]
    similar = []
    for number in range(1, len(frames)):
        before = F.cosine_similarity(frames[number - 1], frames[number]).item()
        first = F.cosine_similarity(frames[0], frames[number]).item()
        if clips:
            before, first = max(0.0, before), max(0.0, first)
        similar.append((before + first) / 2)
    return similar


@pytest.mark.parametrize("metric", CONSISTENCIES)
@pytest.mark.parametrize("apart", [0.01, 0.5, 5.0])
@pytest.mark.parametrize("frames", [2, 3, 17])
def test_consistency_is_vbench_s_loop(metric, apart, frames):
    rows = directions(frames, frames, apart=apart)
    given = score(metric, rows)
    expected = vbench_consistency(rows)
    assert only(given) == pytest.approx(np.mean(expected), abs=FLOAT32)
    before, first = given.curve["with the frame before"], given.curve["with the first"]
    np.testing.assert_allclose(np.add(before, first) / 2, expected, rtol=0, atol=FLOAT32)
    fixed = vbench_consistency(rows, clips=False)
    assert only(score(metric, rows, mode="fixed")) == pytest.approx(np.mean(fixed), abs=FLOAT32)


@pytest.mark.parametrize("metric", CONSISTENCIES)
def test_rows_that_point_apart_count_as_0_in_parity_only(metric):
    rows = np.float32([[1, 0, 0], [-2, 0, 0], [0, 3, 0], [0, -1, 0.1]])
    assert min(vbench_consistency(rows, clips=False)) == pytest.approx(-1)
    parity, fixed = score(metric, rows), score(metric, rows, mode="fixed")
    assert only(parity) == pytest.approx(np.mean(vbench_consistency(rows)), abs=FLOAT32)
    expected = np.mean(vbench_consistency(rows, clips=False))
    assert only(fixed) == pytest.approx(expected, abs=FLOAT32)
    assert only(fixed) < -0.2 < 0 <= only(parity)
    assert min(min(curve) for curve in parity.curve.values()) == 0
    assert fixed.curve["with the frame before"][0] == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("metric", CONSISTENCIES)
@pytest.mark.parametrize("mode", MODES)
def test_rows_without_a_direction_are_like_nothing(metric, mode):
    rows = np.float32([[1, 2], [0, 0], [1, 2]])
    given = score(metric, rows, mode=mode)
    assert given.curve["with the frame before"] == [0, 0]
    assert given.curve["with the first"] == pytest.approx([0, 1], abs=1e-12)
    assert only(given) == pytest.approx(np.mean(vbench_consistency(rows)), abs=FLOAT32)


@pytest.mark.parametrize("metric", CONSISTENCIES)
@pytest.mark.parametrize("mode", MODES)
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(2, 40))
def test_a_frozen_video_has_the_best_score(metric, mode, seed, frames):
    row = directions(seed, 1)
    frozen = only(score(metric, np.repeat(row, frames, axis=0), mode=mode))
    assert frozen == pytest.approx(1, abs=1e-12)
    others = only(score(metric, directions(seed, frames), mode=mode))
    assert others <= frozen <= 1


@pytest.mark.parametrize("metric", CONSISTENCIES)
def test_how_long_rows_are_does_not_matter_and_their_order_does(metric):
    rows = directions(3, 9, apart=2.0)
    factors = np.float32([[2.0**power] for power in range(-4, 5)])
    assert only(score(metric, rows * factors)) == pytest.approx(only(score(metric, rows)), abs=1e-7)
    jumbled = score(metric, rows[[4, 0, 8, 2, 6, 1, 5, 3, 7]])
    assert abs(only(jumbled) - only(score(metric, rows))) > 1e-3


@pytest.mark.parametrize("metric", CONSISTENCIES)
def test_one_frame_has_none_to_compare_with(metric):
    row = directions(1, 1)
    parity = score(metric, row)
    assert not parity.values
    assert "one frame" in parity.reason
    fixed = score(metric, row, mode="fixed")
    assert (only(fixed), fixed.notes, fixed.reason) == (1, (ONE_FRAME,), None)
    assert score(metric, directions(1, 2), mode="fixed").notes == ()


def golden_clips(name: str) -> list[tuple[str, str]]:
    return [(name, key.removeprefix("feat_")) for key in golden(name) if key.startswith("feat_")]


@pytest.mark.parametrize(
    ("metric", "name", "clip"),
    [
        *((SubjectConsistency, *clip) for clip in golden_clips("subject_consistency_vitb16")),
        *((BackgroundConsistency, *clip) for clip in golden_clips("background_consistency_vitb32")),
    ],
)
def test_consistencies_of_the_goldens(metric, name, clip):
    theirs = golden(name)
    given = score(metric, theirs[f"feat_{clip}"])
    # Their cosines lie above 0, where both modes agree.
    for ours in (given, score(metric, theirs[f"feat_{clip}"], mode="fixed")):
        assert only(ours) == pytest.approx(float(theirs[f"score_{clip}"]), abs=FLOAT32)
    for curve, key in (("with the frame before", "sim_prev"), ("with the first", "sim_first")):
        expected = theirs[f"{key}_{clip}"]
        np.testing.assert_allclose(given.curve[curve], expected, rtol=0, atol=FLOAT32)


# --- the mean of a run ------------------------------------------------------------------------

LENGTHS = (2, 30, 3, 11)


def run_of(metric: type[Metric], **options: Any) -> tuple[list[np.ndarray], Score]:
    """Videos that are the less alike within the shorter they are, and the score of their run."""
    videos = [directions(n, n, apart=6.0 / n) for n in LENGTHS]
    return videos, metric().summarise([score(metric, rows, **options) for rows in videos])


@pytest.mark.parametrize("metric", CONSISTENCIES)
def test_parity_is_the_mean_over_the_frames_of_all_videos(metric):
    videos, run = run_of(metric)
    similar, count = 0.0, 0
    for rows in videos:
        frames = vbench_consistency(rows)
        similar += sum(frames)
        count += len(frames)
    assert only(run) == pytest.approx(similar / count, abs=FLOAT32)
    over_videos = np.mean([np.mean(vbench_consistency(rows)) for rows in videos])
    assert abs(similar / count - over_videos) > 0.05, "or both means would pass"


@pytest.mark.parametrize("metric", CONSISTENCIES)
def test_fixed_is_the_mean_over_videos(metric):
    videos, run = run_of(metric, mode="fixed")
    over_videos = np.mean([np.mean(vbench_consistency(rows, clips=False)) for rows in videos])
    assert only(run) == pytest.approx(over_videos, abs=FLOAT32)


@pytest.mark.parametrize("metric", CONSISTENCIES)
@settings(deadline=None)
@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_one_long_video_counts_as_much_as_its_frames(metric, lengths, seed):
    """A video weighs as many frames as have one before them, whatever they look like."""
    given = [score(metric, directions(seed + n, n)) for n in lengths]
    assert [one.weight for one in given] == [n - 1 for n in lengths]
    again = [score(metric, directions(seed + n, n), mode="fixed") for n in lengths]
    assert {one.weight for one in again} == {1}
    expected = np.average([only(one) for one in given], weights=[n - 1 for n in lengths])
    assert only(metric().summarise(given)) == pytest.approx(expected, abs=1e-12)


OTHERS = [metric for metric in EVERY if metric not in CONSISTENCIES]


@pytest.mark.parametrize("metric", OTHERS)
def test_every_other_dimension_is_a_mean_over_videos(metric):
    videos = [np.abs(directions(n, n, width=1)) for n in LENGTHS]
    given = [score(metric, rows) for rows in videos]
    assert {one.weight for one in given} == {1}
    for name, value in metric().summarise(given).values.items():
        assert value == pytest.approx(np.mean([one.values[name] for one in given]), rel=1e-12)


# --- aesthetic and imaging quality ------------------------------------------------------------


def test_aesthetic_quality_of_the_goldens():
    """From CLIP's row: its direction, the goldens' linear predictor, a tenth, and the mean."""
    theirs = golden("aesthetic_quality_vitl14")
    rows = theirs["feat_wide"]
    head = 8 * vbench_tensor("aesthetic_head.weight", (1, rows.shape[1])).numpy()
    ratings = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ head.T + 5
    np.testing.assert_allclose(ratings[:, 0], theirs["frame_scores_wide"], rtol=0, atol=1e-5)
    for rated in (ratings, theirs["frame_scores_wide"][:, None]):
        given = score(AestheticQuality, rated)
        assert only(given) == pytest.approx(float(theirs["score_wide"]), abs=FLOAT32)
        frames = theirs["frame_scores_wide"] / 10
        np.testing.assert_allclose(given.curve["frame"], frames, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("clip", ["small", "big"])
def test_imaging_quality_of_the_goldens(clip):
    """On the scale of the dimension; VBench's number of a video is a hundred times that."""
    theirs = golden("imaging_quality_musiq")
    frames = theirs[f"frame_scores_{clip}_longer"]
    given = score(ImagingQuality, frames[:, None])
    dimension = float(theirs[f"dimension_score_{clip}_longer"])
    assert only(given) == pytest.approx(dimension, abs=FLOAT32)
    assert 100 * only(given) == pytest.approx(float(theirs[f"video_score_{clip}_longer"]), abs=1e-4)
    np.testing.assert_allclose(given.curve["frame"], frames / 100, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize(("metric", "largest"), [(AestheticQuality, 10), (ImagingQuality, 100)])
def test_a_rating_is_a_share_of_the_largest_and_nothing_is_cut(metric, largest):
    for rating, expected in ((largest, 1), (0, 0), (-largest, -1), (2 * largest, 2)):
        assert only(score(metric, [[rating]])) == pytest.approx(expected, abs=1e-12)
    rows = np.float32([[largest], [0], [largest / 2]])
    assert only(score(metric, rows)) == pytest.approx(0.5, abs=1e-12)
    assert score(metric, rows).curve["frame"] == pytest.approx([1, 0, 0.5])


# --- temporal flickering ----------------------------------------------------------------------


def vbench_flickering(differences: Sequence[np.float32]) -> float:
    return (255.0 - np.mean(np.array(differences)).item()) / 255.0


@settings(deadline=None)
@given(st.lists(st.floats(0, 255, width=32), min_size=1, max_size=300))
def test_flickering_is_vbench_s_to_the_last_bit(differences):
    """A mean in float32: in float64 it is another number."""
    rows = np.array(differences, np.float32)[:, None]
    assert only(score(TemporalFlickering, rows)) == vbench_flickering(list(rows[:, 0]))


def test_a_mean_in_float64_would_be_another():
    rows = np.random.default_rng(0).uniform(0, 255, (200, 1)).astype(np.float32)
    exact = (255 - rows.astype(np.float64).mean()) / 255
    assert only(score(TemporalFlickering, rows)) != exact
    assert only(score(TemporalFlickering, rows)) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("clip", ["a", "noise", "static", "two"])
def test_flickering_of_the_goldens_to_the_last_bit(clip):
    theirs = golden("temporal_flickering_synth")
    given = score(TemporalFlickering, theirs[f"mae_seq_{clip}"][:, None])
    assert only(given) == float(theirs[f"score_{clip}"])
    assert given.curve["pair"] == theirs[f"mae_seq_{clip}"].tolist()
    frames = theirs[f"frames_{clip}"].astype(np.float32)
    by_numpy = [np.mean(np.abs(one - other)) for one, other in pairwise(frames)]
    assert vbench_flickering(by_numpy) == pytest.approx(only(given), abs=FLOAT32)


# --- motion smoothness ------------------------------------------------------------------------


@pytest.mark.parametrize("clip", ["odd", "even"])
def test_smoothness_of_the_goldens(clip):
    theirs = golden("motion_smoothness_amts")
    errors = theirs[f"diffs_{clip}"]
    given = score(MotionSmoothness, errors[:, None])
    assert only(given) == pytest.approx(float(theirs[f"score_{clip}"]), abs=FLOAT32)
    np.testing.assert_allclose(given.curve["interpolated frame"], errors, rtol=FLOAT32)


@settings(deadline=None)
@given(st.lists(st.floats(0, 255, width=32), min_size=1, max_size=300))
def test_smoothness_is_what_the_mean_error_leaves(errors):
    given = only(score(MotionSmoothness, np.array(errors)[:, None]))
    assert given == pytest.approx((255.0 - np.mean(errors)) / 255.0, abs=1e-12)
    assert 0 <= given <= 1


@pytest.mark.parametrize("metric", [TemporalFlickering, MotionSmoothness])
def test_one_frame_stands_still_in_fixed_only(metric):
    facts = VideoFacts(64, 48, 8.0, 1)
    for mode, units in (("parity", 0), ("fixed", 1)):
        (request,) = metric().requests(options_of(metric, mode=mode), Extent()).values()
        (source,) = request.sources
        assert isinstance(source, Frames)
        found = source.sampling.units(facts)
        assert len(found) == units, "without a unit the engine gives the reason"
        assert not found.any()
    fixed = score(metric, [[0]], facts, mode="fixed")
    assert (only(fixed), fixed.notes) == (1, (ONE_FRAME,))
    longer = score(metric, [[0]], VideoFacts(64, 48, 8.0, 3), mode="fixed")
    assert (only(longer), longer.notes) == (1, ())


# --- dynamic degree ---------------------------------------------------------------------------

SIDES = st.integers(121, 1080)
SPEEDS = st.one_of(st.sampled_from(["below", "at", "above"]), st.sampled_from(["below", "above"]))
"""Of a pair, beside the threshold."""


def check_move(motions: Iterable[float], limit: float, count_num: int) -> bool:
    """VBench's loop: it stops at the pair that is one too many."""
    count = 0
    for motion in motions:
        count += motion > limit
        if count >= count_num:
            return True
    return False


def facts_of(pairs: int, height: int = 256, width: int = 256, fps: float = 8.0) -> VideoFacts:
    return VideoFacts(width, height, fps, pairs + 1)


def motions_of(speeds: Sequence[str], facts: VideoFacts) -> np.ndarray:
    """float32 [pairs, 1], by one step of float32 beside the threshold."""
    limit = np.float32(6.0 * (min(facts.height, facts.width) / 256.0))
    steps = {
        "below": np.nextafter(limit, np.float32(0)),
        "at": limit,
        "above": np.nextafter(limit, np.float32(np.inf)),
    }
    return np.array([[steps[speed]] for speed in speeds], np.float32)


@st.composite
def videos(draw: st.DrawFn) -> tuple[np.ndarray, VideoFacts]:
    """Pairs of which about as many move as must."""
    pairs = draw(st.integers(1, 80))
    fps, interval = draw(st.sampled_from([(0.0, 1), (8.0, 1), (12.0, 2), (24.0, 3), (36.0, 4)]))
    # Behind the last frame that is compared may be others.
    frames = pairs * interval + 1 + draw(st.integers(0, interval - 1))
    facts = VideoFacts(draw(SIDES), draw(SIDES), fps, frames)
    if draw(st.booleans()):
        speeds = draw(st.lists(SPEEDS, min_size=pairs, max_size=pairs))
    else:
        near = round((pairs + 1) / 4) + draw(st.integers(-1, 1))
        moving = min(max(near, 0), pairs)
        still = draw(st.sampled_from(["below", "at"]))
        speeds = draw(st.permutations(["above"] * moving + [still] * (pairs - moving)))
    return motions_of(speeds, facts), facts


def degree(given: Score) -> float:
    return given.values["vbench-dynamic-degree"]


@settings(deadline=None)
@given(videos())
def test_the_degree_is_vbench_s(video):
    rows, facts = video
    limit = 6.0 * (min(facts.height, facts.width) / 256.0)
    count_num = round(4 * ((len(rows) + 1) / 16.0))
    parity = score(DynamicDegree, rows, facts)
    assert degree(parity) == check_move(rows[:, 0].tolist(), limit, count_num)
    assert parity.details == {
        "threshold in pixels": limit,
        "moving pairs needed": count_num,
        "moving pairs": sum(motion > limit for motion in rows[:, 0].tolist()),
    }
    fixed = score(DynamicDegree, rows, facts, mode="fixed")
    assert degree(fixed) == check_move(rows[:, 0].tolist(), limit, max(1, count_num))
    for given_score in (parity, fixed):
        exact = np.mean(rows.astype(np.float64))
        assert given_score.values["vbench-flow-magnitude"] == pytest.approx(exact, rel=1e-12)
        assert given_score.curve["pair"] == rows[:, 0].tolist()
        assert given_score.notes == (() if facts.fps else (NO_RATE,))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", [128, 131, 256, 480, 720])
def test_what_equals_the_threshold_does_not_move(side, mode):
    facts = facts_of(10, side, 2 * side)
    # Multiples of 6 / 256 are float32 numbers: the threshold can be met to the last bit.
    assert motions_of(["at"], facts)[0, 0] == threshold(facts)
    for speed, moves in (("below", 0), ("at", 0), ("above", 1)):
        rows = motions_of([speed] * 10, facts)
        assert degree(score(DynamicDegree, rows, facts, mode=mode)) == moves


@pytest.mark.parametrize(("height", "width"), [(256, 512), (512, 256), (128, 128), (131, 150)])
def test_the_threshold_is_that_of_the_shorter_side(height, width):
    assert threshold(facts_of(1, height, width)) == 6.0 * (min(height, width) / 256.0)


def test_the_table_of_moving_pairs():
    tables = json.loads((GOLDENS / "dynamic_degree_tables.json").read_text(encoding="utf-8"))
    for compared, needed in tables["count_num"]:
        facts = facts_of(compared - 1)
        for moving in {0, needed - 1, needed, needed + 1} & set(range(compared)):
            rows = motions_of(["above"] * moving + ["below"] * (compared - 1 - moving), facts)
            given = score(DynamicDegree, rows, facts)
            assert given.details["moving pairs needed"] == needed
            assert degree(given) == (moving >= needed)


def test_of_two_compared_frames_none_needs_to_move_in_parity():
    facts = facts_of(1)
    slow, fast = motions_of(["below"], facts), motions_of(["above"], facts)
    assert degree(score(DynamicDegree, slow, facts)) == 1
    assert degree(score(DynamicDegree, slow, facts, mode="fixed")) == 0
    assert degree(score(DynamicDegree, fast, facts, mode="fixed")) == 1
    # It is the only quirk of the count: with more frames both modes need the same.
    for pairs in range(2, 81):
        assert pairs_needed(pairs, fixed=True) == pairs_needed(pairs, fixed=False) >= 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("magnitude", [True, False])
@pytest.mark.parametrize(("frames", "fps"), [(1, 8.0), (1, 0.0), (3, 25.0)])
def test_one_compared_frame_does_not_move(frames, fps, magnitude, mode):
    """Three frames at 25 a second are one at about 8."""
    facts = VideoFacts(256, 256, fps, frames)
    given = score(DynamicDegree, [[0]], facts, mode=mode, magnitude=magnitude)
    assert degree(given) == 0
    assert ONE_COMPARED in given.notes
    if magnitude:
        assert given.values["vbench-flow-magnitude"] == 0


@pytest.mark.parametrize("magnitude", [True, False])
def test_a_file_without_a_rate_is_noted(magnitude):
    for fps, notes in ((0.0, (NO_RATE,)), (8.0, ()), (25.0, ())):
        facts = VideoFacts(256, 256, fps, 31)
        rows = motions_of(["above"] * len(PAIRS.units(facts)), facts)
        given = score(DynamicDegree, rows, facts, magnitude=magnitude)
        assert (degree(given), given.notes) == (1, notes)
    # Every frame was compared with the next.
    assert len(PAIRS.units(VideoFacts(256, 256, 0.0, 31))) == 30


def decided(mode: str) -> Any:
    """The rule that stops a look without magnitudes."""
    options = options_of(DynamicDegree, mode=mode, magnitude=False)
    (request,) = DynamicDegree().requests(options, Extent()).values()
    return request.enough


@pytest.mark.parametrize("mode", MODES)
@settings(deadline=None)
@given(video=videos())
def test_no_later_pair_changes_what_is_decided(mode, video):
    """Cut where the rule says enough, or anywhere behind: batches may end later."""
    rows, facts = video
    whole = degree(score(DynamicDegree, rows, facts, mode=mode))
    enough = [decided(mode)(rows[:cut], len(rows), facts) for cut in range(1, len(rows) + 1)]
    assert enough[-1], "all pairs decide it"
    first = enough.index(True)
    assert all(enough[first:])
    for cut in range(first + 1, len(rows) + 1):
        given_score = score(DynamicDegree, rows[:cut], facts, mode=mode, magnitude=False)
        assert dict(given_score.values) == {"vbench-dynamic-degree": whole}
        assert "moving pairs" not in given_score.details, "it would depend on the cut"
        assert not given_score.curve


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, deadline=None)
@given(video=videos())
def test_nothing_is_decided_that_a_later_pair_could_change(mode, video):
    """And it is said at once: before, two endings of the video have two degrees."""
    rows, facts = video
    for cut in range(1, len(rows)):
        endings = {
            degree(score(DynamicDegree, np.concatenate([rows[:cut], ending]), facts, mode=mode))
            for speed in ("below", "above")
            for ending in [motions_of([speed] * (len(rows) - cut), facts)]
        }
        assert decided(mode)(rows[:cut], len(rows), facts) == (len(endings) == 1)


@pytest.mark.parametrize("mode", MODES)
@settings(deadline=None)
@given(video=videos())
def test_without_the_magnitude_the_details_are_those_of_any_cut(mode, video):
    rows, facts = video
    one, all_rows = (
        score(DynamicDegree, some, facts, mode=mode, magnitude=False) for some in (rows[:1], rows)
    )
    assert one.details == all_rows.details
    whole = score(DynamicDegree, rows, facts, mode=mode)
    assert whole.details == {**one.details, "moving pairs": whole.details["moving pairs"]}


def test_who_looks_at_every_pair_is_never_told_to_stop():
    for mode, output in (("parity", "motion"), ("fixed", "motion_inside")):
        for magnitude in (True, False):
            options = options_of(DynamicDegree, mode=mode, magnitude=magnitude)
            (request,) = DynamicDegree().requests(options, Extent()).values()
            assert (request.enough is None) == magnitude
            assert request.output == f"raft-large:{output}"
            names = [value.name for value in DynamicDegree().values(options)]
            wanted = ["vbench-dynamic-degree", "vbench-flow-magnitude"]
            assert names == (wanted if magnitude else wanted[:1])


@pytest.mark.parametrize(
    ("name", "clip", "size"),
    [
        ("dynamic_degree_raft", "a", None),
        ("dynamic_degree_raft", "b", None),
        ("dynamic_degree_raft_lowgain", "g0.004", (128, 160)),
        ("dynamic_degree_raft_lowgain", "g0.008", (128, 160)),
    ],
)
def test_dynamic_degrees_of_the_goldens(name, clip, size):
    theirs = golden(name)
    # Both runs of low gain are of the same frames, at 8 a second.
    frames = theirs["frames" if size else f"frames_{clip}"]
    fps = float(theirs.get(f"fps_{clip}", 8.0))
    facts = VideoFacts(frames.shape[2], frames.shape[1], fps, len(frames))
    pairs = theirs[f"pair_scores_{clip}"]
    assert len(PAIRS.units(facts)) == len(pairs)
    given = score(DynamicDegree, pairs[:, None], facts)
    assert degree(given) == bool(theirs[f"score_{clip}"])
    assert given.details["threshold in pixels"] == float(theirs[f"thres_{clip}"])
    assert given.details["moving pairs needed"] == int(theirs[f"count_num_{clip}"])
    assert given.values["vbench-flow-magnitude"] == pytest.approx(pairs.mean(), rel=FLOAT32)
    short = score(DynamicDegree, pairs[:, None], facts, magnitude=False)
    assert degree(short) == degree(given)


def test_the_goldens_have_videos_that_move_and_one_that_does_not():
    low = golden("dynamic_degree_raft_lowgain")
    assert {bool(low[f"score_{gain}"]) for gain in ("g0.004", "g0.008")} == {True, False}


# --- what is asked for, and what the numbers are ----------------------------------------------


@pytest.mark.parametrize("metric", EVERY)
def test_requests_name_outputs_that_networks_give(metric):
    choices = [option for option in metric.card.options if option.name == "mode"]
    for mode in choices[0].choices if choices else (None,):
        given_options = {"mode": mode} if mode else {}
        (request,) = metric().requests(options_of(metric, **given_options), Extent()).values()
        assert request.output_name in network_card(request.producer).all_outputs


def test_raft_s_weights_are_those_that_are_asked_for():
    (option,) = (option for option in DynamicDegree.card.options if option.name == "weights")
    card = network_card("raft-large")
    assert set(option.choices) == set(card.weights)
    assert option.default == card.entry().tag
    for tag in option.choices:
        options = options_of(DynamicDegree, weights=tag)
        (request,) = DynamicDegree().requests(options, Extent()).values()
        assert request.weights == tag


@pytest.mark.parametrize("metric", EVERY)
def test_the_card_s_facts(metric):
    assert metric.card.group == "vbench"
    assert metric.card.name.startswith("vbench-")
    assert metric.card.values[0].name == metric.card.name
    assert metric.card.values[0].better == "higher"
    assert not metric.card.only_by_name
    assert metric.card.needs == ()


@pytest.mark.parametrize("metric", EVERY)
@settings(deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(2, 20), fixed=st.booleans())
def test_values_are_plain_numbers_within_the_card_s_range(metric, seed, frames, fixed):
    rows = np.abs(directions(seed, frames, width=1))
    if metric in CONSISTENCIES:
        rows = directions(seed, frames, apart=9.0)
    options = FIXED if fixed and any(o.name == "mode" for o in metric.card.options) else {}
    given_score = score(metric, rows, **options)
    for value in metric().values(options_of(metric, **options)):
        number = given_score.values[value.name]
        assert type(number) is float
        low, high = value.range
        assert low is None or number >= low
        assert high is None or number <= high
    json.dumps([given_score.details, given_score.curve])


# --- as much of a video as was asked for, through the engine ----------------------------------


class PixelDistance(nn.Module):
    """Stands in for RAFT: far above every threshold where two frames differ at all, else 0."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = 0

    def forward(self, pairs: Tensor) -> dict[str, Tensor]:
        self.pairs += len(pairs)
        motion = 1e3 * (pairs[:, :, 0] - pairs[:, :, 1]).abs().mean((1, 2, 3))[:, None]
        return {"motion": motion, "motion_inside": motion}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The score of a moving video of 40 frames, of which some are looked at."""
    network = PixelDistance()
    watching = Watching(passes.load_network, {"raft-large": network})
    monkeypatch.setattr(passes, "load_network", watching)
    write_clip(tmp_path / "in" / "a.mkv", moving_pattern(0, 40), fps=8.0)
    checkpoint = tmp_path / network_card("raft-large").entry().file
    checkpoint.write_bytes(b"nothing is read of it")

    def run(metric: str, options: dict[str, Any], **more: Any) -> tuple[dict[str, Any], int]:
        network.pairs = 0
        results = evaluate(
            tmp_path / "in",
            metrics=metric,
            options={metric: options},
            models={"raft-large": checkpoint},
            output_dir=tmp_path / "out",
            fresh=True,
            device="cpu",
            batch_size=1,
            **more,
        )
        return scores(results.document, metric)["a.mkv"], network.pairs

    return run


DEGREE = "vbench-dynamic-degree"


@pytest.mark.parametrize("mode", MODES)
def test_no_more_pairs_are_looked_at_than_decide_it(run, mode):
    whole, pairs = run(DEGREE, {"mode": mode})
    assert (whole["values"][DEGREE], pairs) == (1, 39)
    sooner, pairs = run(DEGREE, {"mode": mode, "magnitude": False})
    assert sooner["values"] == {DEGREE: 1}
    assert pairs == sooner["details"]["moving pairs needed"] == 10


@pytest.mark.parametrize(
    ("mode", "extent"),
    [("parity", {"max_len": 10}), ("fixed", {"max_seconds": 1.25, "fps": None})],
)
def test_of_a_part_of_a_video_both_ways_give_the_same_degree(run, mode, extent):
    whole, pairs = run(DEGREE, {"mode": mode}, **extent)
    assert (whole["values"][DEGREE], pairs) == (1, 9)
    sooner, pairs = run(DEGREE, {"mode": mode, "magnitude": False}, **extent)
    assert pairs == 2
    assert sooner["values"] == {DEGREE: 1}
    assert sooner["details"]["moving pairs needed"] == 2


@pytest.mark.parametrize(("mode", "magnitude"), [("parity", True), ("fixed", False)])
def test_of_one_frame_of_a_video_nothing_moves(run, mode, magnitude):
    given_score, _ = run(DEGREE, {"mode": mode, "magnitude": magnitude}, max_len=1)
    assert given_score["values"][DEGREE] == 0
    assert given_score["notes"] == [ONE_COMPARED]


def test_one_frame_of_a_video_is_noted(run):
    given_score, _ = run("vbench-temporal-flickering", FIXED, max_len=1)
    assert given_score["values"] == {"vbench-temporal-flickering": 1}
    assert given_score["notes"] == [ONE_FRAME]
