import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from aigve_cli.contract import Extent, Frames, Request, Sample, SampleFeatures, VideoFeatures
from aigve_cli.metrics.fid_lite0 import FidLite0
from aigve_cli.metrics.fvd_lite0 import FvdLite0
from aigve_cli.metrics.is_lite0 import IsLite0
from aigve_cli.metrics.kid_lite0 import KidLite0

METRICS = [FidLite0(), KidLite0(), IsLite0(), FvdLite0()]
IDS = [metric.card.name for metric in METRICS]
DISTANCES = [metric for metric in METRICS if metric.card.needs]
SAMPLE = Sample(name="a.mp4", generated=None)


@dataclass(frozen=True)
class InMemory:
    request: str
    arrays: tuple

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        for index, rows in enumerate(self.arrays):
            yield VideoFeatures(f"{index:04}", {self.request: rows})


def name_of(metric):
    (name,) = metric.requests(defaults(metric), Extent())
    return name


def defaults(metric):
    return {option.name: option.default for option in metric.card.options}


def make(metric, random, videos, *, mean=0.0, rows=5):
    arrays = random.normal(mean, 1.0, size=(videos, rows, 6)).astype(np.float32)
    return InMemory(name_of(metric), tuple(arrays))


def compare(metric, generated, reference):
    return metric.compare(generated, reference, defaults(metric))


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_value_error_details_and_notes(metric, random):
    generated, reference = make(metric, random, 12, mean=1.0), make(metric, random, 14)
    score = compare(metric, generated, reference)
    name = metric.card.name
    assert score.reason is None
    assert (
        set(score.values)
        == set(score.standard_errors)
        == {value.name for value in metric.card.values}
    )
    assert score.standard_errors[name] > 0
    low, high = score.details["interval95"]
    assert low <= score.values[name] <= high
    assert score.details["videos"]["generated"] == 12
    assert score.details["dimensions"] == 6
    words = "; ".join(score.notes)
    assert f"few videos (12; {metric.card.min_videos} or more are advised)" in words
    if metric.card.needs:
        assert score.details["videos"]["reference"] == 14
        assert "noise floor" in words
    if name in ("fid-lite0", "fvd-lite0"):
        assert score.details["mean_term"] + score.details["trace_term"] == score.values[name]


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_a_video_without_rows_changes_nothing(metric, random):
    generated, reference = make(metric, random, 6), make(metric, random, 6)
    empty = np.zeros((0, 6), dtype=np.float32)
    padded = InMemory(generated.request, (*generated.arrays, empty))
    assert compare(metric, padded, reference).values == compare(metric, generated, reference).values


@pytest.mark.parametrize("metric", DISTANCES, ids=[m.card.name for m in DISTANCES])
def test_distances_need_two_videos_a_side(metric, random):
    many, one = make(metric, random, 5), make(metric, random, 1)
    assert compare(metric, many, None).reason == "needs reference videos"
    assert "2 reference videos with" in compare(metric, many, one).reason
    assert "2 generated videos with" in compare(metric, one, many).reason
    assert "there are none" in compare(metric, many, InMemory(many.request, ())).reason


@pytest.mark.parametrize("metric", DISTANCES, ids=[m.card.name for m in DISTANCES])
def test_distance_of_a_pair(metric, random):
    name, request = metric.card.name, name_of(metric)
    rows = random.normal(size=(8, 6)).astype(np.float32)
    pair = SampleFeatures({request: rows}, {request: rows + 1})
    score = metric.score(pair, SAMPLE, {})
    assert "it is not the distance of the sets" in score.notes[0]
    if name != "kid-lite0":
        assert score.values[name] == pytest.approx(6.0, rel=1e-5)  # |shift|² = 6·1², in float32
    assert (
        metric.score(SampleFeatures({request: rows}), SAMPLE, {}).reason
        == "needs a reference video"
    )
    short = SampleFeatures({request: rows}, {request: rows[:1]})
    assert "of the reference video; there is 1" in metric.score(short, SAMPLE, {}).reason


def test_inception_score_of_one_video_and_of_few_frames(random):
    metric = IsLite0()
    logits = 3 * random.normal(size=(8, 6)).astype(np.float32)
    score = metric.score(SampleFeatures({"frames": logits}), SAMPLE, {"splits": 10})
    assert 1 < score.values["is-lite0"] < 6
    one = metric.score(SampleFeatures({"frames": logits[:1]}), SAMPLE, {"splits": 10})
    assert one.reason == "needs at least 2 frames; there is 1"
    few = make(metric, random, 3, rows=3)
    assert "10 splits; there are 9" in compare(metric, few, None).reason
    assert metric.compare(few, None, {"splits": 3}).values


def test_kernel_distance_says_when_it_uses_a_choice_of_frames(random):
    metric = KidLite0()
    sets = [make(metric, random, 30, rows=350, mean=mean) for mean in (0.0, 2.0)]
    score = compare(metric, *sets)
    assert score.notes == ("computed on 10000 frames a side, chosen by hash",)


def test_one_pass_serves_all_distances():
    fid, kid, fvd = (m.requests({}, Extent()) for m in (FidLite0(), KidLite0(), FvdLite0()))
    assert fid == kid
    (clips,) = fvd.values()
    (source,) = clips.sources
    assert isinstance(source, Request)
    (frames,), (fid_frames,) = source.sources, fid["frames"].sources
    assert isinstance(frames, Frames)
    assert (source.output, frames.view, frames.role) == (
        fid["frames"].output,
        fid_frames.view,
        fid_frames.role,
    )
    assert IsLite0().requests({"splits": 10}, Extent())["frames"].sources[0].view == frames.view


def test_cards_and_mathematics_load_without_numpy():
    code = (
        "import sys\n"
        "for name in ('fid', 'kid', 'is', 'fvd'):\n"
        "    __import__(f'aigve_cli.metrics.{name}_lite0')\n"
        "heavy = {'numpy', 'scipy', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
