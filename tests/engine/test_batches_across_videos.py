"""Batches that hold frames of several videos: fewer of them, and the same numbers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigve_cli import evaluate, registry as registry_module
from aigve_cli.contract import Card, Frames, Metric, Request, Score, Tile, Value
from aigve_cli.engine import look, passes
from aigve_cli.engine.produce import VideoRows
from aigve_cli.engine.run import Run
from aigve_cli.errors import VideoError
from aigve_cli.video.decode import VideoReader
from aigve_cli.video.sampling import Clips, FirstFrames
from tests.conftest import moving_pattern, read_results, write_clip
from tests.engine.watched import ClipMean, FrameMean, Spread, Watching, models, scores, values

# Another batch is another order of sums in float32: 1e-7 of a number.
SAME = 1e-6
EVERY = Frames((), FirstFrames(None))
TAPS = Request("vgg16:taps", (EVERY,))


class PerFrame(Metric):
    """The mean of what a network over frames gives; each frame's is the curve."""

    card = Card(
        name="per-frame",
        title="of frames",
        category="multi_faceted",
        values=(Value("per-frame", "higher"),),
        version=1,
    )
    request = TAPS

    def requests(self, options, extent):
        return {"rows": self.request}

    def score(self, features, sample, options):
        means = features.generated["rows"].astype(np.float64).mean(axis=1)
        return Score({self.card.name: means.mean()}, curve={"unit": means})


def another(name: str, asked: Request) -> type[PerFrame]:
    card = replace(PerFrame.card, name=name, values=(Value(name, "higher"),))
    return type(name, (PerFrame,), {"card": card, "request": asked})


PerTile = another("per-tile", Request("vgg16:taps", (Frames((Tile(16, 16),), FirstFrames(None)),)))
PerClip = another(
    "per-clip", Request("slowfast-r50:features", (Frames((), Clips(4, short="loop")),))
)
Whole = another("whole", Request("gstvqa:score", (TAPS,)))
METRICS = ("per-frame", "per-tile", "per-clip", "whole")

# (frames, height, width): sizes that come back, and the shortest ones between longer ones.
SHAPES = {
    "a": (5, 32, 48),
    "b": (1, 32, 48),
    "c": (9, 48, 32),
    "d": (4, 32, 48),
    "e": (7, 32, 48),
    "f": (2, 48, 32),
    "g": (1, 32, 48),
    "h": (12, 32, 48),
}
TOTAL = sum(frames for frames, _, _ in SHAPES.values())


@pytest.fixture(autouse=True)
def with_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry_module.registry()
    more = {metric.card.name: metric for metric in (PerFrame, PerTile, PerClip, Whole)}
    changed = replace(
        found,
        metrics={**found.metrics, **more},
        sources={**found.sources, **dict.fromkeys(more, "test")},
    )
    monkeypatch.setattr("aigve_cli.engine.setup.registry", lambda: changed)


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    networks = {"vgg16": FrameMean(), "slowfast-r50": ClipMean(), "gstvqa": Spread()}
    loader = Watching(passes.load_network, networks)
    monkeypatch.setattr(passes, "load_network", loader)
    return loader


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, (frames, height, width)) in enumerate(SHAPES.items()):
        write_clip(folder / f"{name}.mkv", moving_pattern(seed, frames, height=height, width=width))
    return folder


@pytest.fixture
def run(tmp_path: Path, watching: Watching):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(b"read by nobody here")

    def run(folder: Path, *metrics: str, out: str = "out", **given: Any) -> dict[str, Any]:
        evaluate(
            folder,
            metrics=metrics or METRICS,
            models=dict.fromkeys(("vgg16", "slowfast-r50", "gstvqa"), checkpoint),
            device="cpu",
            output_dir=tmp_path / out,
            **given,
        )
        return read_results(tmp_path / out)

    return run


def assert_same(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    metrics: Sequence[str] = METRICS,
    without: Sequence[str] = (),
) -> None:
    """Equal scores and curves of every sample but some, in float32."""
    for metric in metrics:
        expected = {n: s for n, s in scores(theirs, metric).items() if n not in without}
        found = {n: s for n, s in scores(ours, metric).items() if n not in without}
        assert list(found) == list(expected)
        for name, score in expected.items():
            assert score["values"], (metric, name)
            assert found[name]["values"] == pytest.approx(score["values"], rel=SAME), name
            for curve, points in score["curve"].items():
                np.testing.assert_allclose(found[name]["curve"][curve], points, rtol=SAME)


# --- fewer, and the same ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_the_size_of_batches_changes_no_number(run, videos, watching, size):
    alone = run(videos, out="alone")
    networks = ("vgg16", "slowfast-r50")
    counts = {name: sum(watching[name].batches) for name in networks}
    document = run(videos, batch_size=size)
    assert_same(document, alone)
    for name, count in counts.items():
        assert max(watching[name].batches) <= size
        assert sum(watching[name].batches) == count
    assert document["counts"]["looked"] == alone["counts"]["looked"]
    assert document["counts"]["decodes"] == len(SHAPES)


def test_a_large_batch_holds_several_videos(run, videos, watching):
    document = run(videos, "per-frame", batch_size=64)
    # Four runs of neighbours with one size: a b, c, d e, f, g h.
    assert watching["vgg16"].batches == [6, 9, 11, 2, 13]
    assert document["counts"]["looked"] == {"vgg16": TOTAL}


def test_full_batches_are_cut_anywhere(run, videos, watching):
    run(videos, "per-frame", batch_size=4)
    assert watching["vgg16"].batches == [4, 2, 4, 4, 1, 4, 4, 3, 2, 4, 4, 4, 1]


def test_clips_of_several_videos_are_one_batch(run, videos, watching):
    run(videos, "per-clip", batch_size=64)
    assert watching["slowfast-r50"].batches == [1 + 1, 2, 1 + 1, 1, 1 + 3]


def test_without_a_size_a_video_on_the_cpu_has_batches_of_its_own(run, videos, watching, tmp_path):
    together = run(videos, out="together")
    batches = watching["vgg16"].batches
    # Of per-frame and of per-tile: never more than one video's.
    assert len(batches) >= 2 * len(SHAPES)
    for name in ("b", "d"):
        (tmp_path / name).mkdir()
        shutil.copy(videos / f"{name}.mkv", tmp_path / name)
        alone = run(tmp_path / name, out=f"out {name}")
        for metric in METRICS:
            ours, theirs = (scores(d, metric)[f"{name}.mkv"] for d in (together, alone))
            assert ours == theirs


def test_clip_and_its_relatives(pairs, tmp_path, monkeypatch):
    """The networks of this category: pictures of all videos have one size."""
    watching = Watching(passes.load_network)
    monkeypatch.setattr(passes, "load_network", watching)
    documents = {}
    for size in (None, 7, 1000):
        evaluate(
            pairs,
            metrics=("clipsim", "cliptemp", "blipsim"),
            prompt="a red ball",
            options=models("clipsim", "cliptemp", "blipsim"),
            device="cpu",
            batch_size=size,
            output_dir=tmp_path / str(size),
            max_len=5,
        )
        documents[size] = read_results(tmp_path / str(size))
        expected = {None: 4, 7: 3, 1000: 1}[size]
        for name in ("clip", "blip-itm"):
            assert len(watching[name].batches) == expected
            assert sum(watching[name].batches) == 4 * 5
        for metric in ("clipsim", "cliptemp", "blipsim"):
            ours, theirs = (values(documents[s], metric) for s in (size, None))
            assert ours == pytest.approx(theirs, abs=SAME)


# --- videos that fail -------------------------------------------------------------------------


@pytest.fixture
def with_another(videos, tmp_path) -> Path:
    """The videos and ``d2.mkv`` between two of its size, which each test makes a bad one."""
    folder = tmp_path / "with another"
    shutil.copytree(videos, folder)
    write_clip(folder / "d2.mkv", moving_pattern(99, 6, height=32, width=48))
    return folder


@pytest.mark.parametrize("size", [3, 64])
def test_a_file_that_is_no_video_changes_no_other_score(run, videos, with_another, size):
    (with_another / "d2.mkv").write_bytes(b"no video" * 100)
    document = run(with_another, batch_size=size)
    assert_same(document, run(videos, out="alone"), without=["d2.mkv"])
    assert all(scores(document, metric)["d2.mkv"]["reason"] for metric in METRICS)
    assert document["counts"]["failed"] == 1


@pytest.mark.parametrize("size", [3, 64])
def test_a_video_that_breaks_off_changes_no_other_score(
    run, videos, with_another, size, monkeypatch
):
    """Some of its frames wait beside those of others, or were run with them."""
    reading = VideoReader._frames

    def breaks_off(self, *arguments):
        for index, frame in enumerate(reading(self, *arguments)):
            if self.path.stem == "d2" and index == 4:
                raise VideoError("the file is cut short", status="partial")
            yield frame

    monkeypatch.setattr("aigve_cli.video.prefetch.CHUNK_FRAMES", 2)
    monkeypatch.setattr(VideoReader, "_frames", breaks_off)
    document = run(with_another, batch_size=size)
    assert_same(document, run(videos, out="alone"), without=["d2.mkv"])
    reasons = {scores(document, metric)["d2.mkv"]["reason"] for metric in METRICS}
    assert reasons == {"the file is cut short"}


@pytest.mark.parametrize("size", [None, 3, 64])
def test_a_size_that_a_network_refuses_costs_its_own_video_only(
    run, videos, with_another, watching, size, monkeypatch
):
    write_clip(with_another / "d2.mkv", moving_pattern(99, 6, height=16, width=16))
    taking = FrameMean.forward

    def picky(self, images):
        if images.shape[-1] < 20:
            raise ValueError("pictures of 20 pixels or more")
        return taking(self, images)

    monkeypatch.setattr(FrameMean, "forward", picky)
    document = run(with_another, "per-frame", "per-clip", batch_size=size)
    reason = scores(document, "per-frame")["d2.mkv"]["reason"]
    assert reason == "vgg16: pictures of 20 pixels or more"
    assert scores(document, "per-clip")["d2.mkv"]["values"]
    alone = run(videos, "per-frame", "per-clip", out="alone")
    assert_same(document, alone, ("per-frame", "per-clip"), without=["d2.mkv"])
    assert document["counts"]["looked"]["vgg16"] == TOTAL


@pytest.mark.parametrize("size", [None, 3, 64])
def test_a_content_that_a_network_refuses_costs_its_own_video_only(
    run, videos, with_another, watching, size
):
    """Whatever else is in the batch: with another batch size, others would have a score."""
    white = [np.full((32, 48, 3), 255, np.uint8)] * 6
    write_clip(with_another / "d2.mkv", white)
    watching._instead["vgg16"].refuses = 250
    document = run(with_another, "per-frame", "whole", batch_size=size)
    for metric in ("per-frame", "whole"):
        assert scores(document, metric)["d2.mkv"]["reason"] == "vgg16: a picture is too bright"
    alone = run(videos, "per-frame", "whole", out="alone")
    assert_same(document, alone, ("per-frame", "whole"), without=["d2.mkv"])


# --- the same content, another count ----------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1000])
def test_the_same_content_while_the_first_of_it_waits(
    run, videos, tmp_path, watching, size, counting_ffmpeg
):
    folder = tmp_path / "copies"
    shutil.copytree(videos, folder)
    for name in ("a2", "d2", "z"):
        shutil.copy(videos / "a.mkv", folder / f"{name}.mkv")
    document = run(folder, "per-frame", batch_size=size)
    assert counting_ffmpeg.decodes() == document["counts"]["decodes"] == len(SHAPES)
    assert document["counts"]["looked"] == {"vgg16": TOTAL}
    found = scores(document, "per-frame")
    assert found["a.mkv"] == found["a2.mkv"] == found["d2.mkv"] == found["z.mkv"]
    alone = run(videos, "per-frame", out="alone")
    copies = ("a2.mkv", "d2.mkv", "z.mkv")
    assert_same(document, alone, ("per-frame",), without=copies)


@pytest.mark.parametrize("size", [None, 1000])
def test_a_video_and_its_reference_with_one_content(pairs, tmp_path, monkeypatch, size):
    """In both roles, for a score by itself and for sets: looked at once."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("clip0.mkv", "clip0_synthetic.mkv", "clip1_synthetic.mkv"):
        shutil.copy(pairs / name.replace("_synthetic", ""), folder / name)
    write_clip(folder / "clip1.mkv", moving_pattern(77, 18))
    evaluate(
        folder,
        metrics=("clipsim", "fid-lite0"),
        prompt="a red ball",
        options=models("clipsim"),
        device="cpu",
        batch_size=size,
        max_len=3,
        output_dir=tmp_path / "out",
    )
    document = read_results(tmp_path / "out")
    looked = dict(document["counts"]["looked"])
    assert looked.pop("efficientnet-lite0") == 3 * 3
    assert list(looked.values()) == [2 * 3]
    assert None not in values(document, "clipsim").values()
    assert all(record["value"] is not None for record in document["results"])


@pytest.mark.parametrize("size", [None, 1000])
def test_a_wrong_count_while_others_wait(run, videos, watching, size, monkeypatch):
    """Its clip begins again elsewhere: what the first look left waiting is nobody's."""
    alone = run(videos, out="alone")
    original = look.probe

    def wrong(path):
        facts = original(path)
        return replace(facts, frames=3) if path.name == "f.mkv" else facts

    monkeypatch.setattr(look, "probe", wrong)
    document = run(videos, batch_size=size)
    assert_same(document, alone)
    assert document["counts"]["decodes"] == len(SHAPES) + 1
    assert document["counts"]["passes"] == 2


# --- waiting ----------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Ten videos of two frames."""
    for seed in range(10):
        frames = moving_pattern(seed, 2, height=32, width=48)
        write_clip(tmp_path / "many" / f"{seed}.mkv", frames)
    return tmp_path / "many"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each sample that is scored: how many videos were decoded by then."""
    decoded, scored = [], []
    finish, score = VideoRows.finish, Run._score_sample

    def counted_finish(self):
        decoded.append(self)
        finish(self)

    def counted_score(self, sample):
        scored.append(len(decoded))
        score(self, sample)

    monkeypatch.setattr(VideoRows, "finish", counted_finish)
    monkeypatch.setattr(Run, "_score_sample", counted_score)
    return scored


def test_no_more_videos_wait_than_may(run, many, watching, scored, monkeypatch):
    monkeypatch.setattr(look, "IN_FLIGHT", 3)
    document = run(many, "per-frame", batch_size=1000)
    assert max(watching["vgg16"].batches) <= (3 + 1) * 2
    assert sum(watching["vgg16"].batches) == 20
    assert scored[0] == 4
    assert all(at <= index + 4 for index, at in enumerate(scored))
    assert [video["sample"] for video in document["videos"]] == [f"{i}.mkv" for i in range(10)]

    monkeypatch.setattr(look, "IN_FLIGHT", 64)
    usual = run(many, "per-frame", batch_size=1000, out="usual")
    assert watching["vgg16"].batches == [20]
    assert_same(usual, document, ("per-frame",))


def test_a_video_that_is_complete_is_scored_at_once(run, many, scored):
    run(many, "per-frame", batch_size=2)
    assert scored == list(range(1, 11))
    scored.clear()
    run(many, "per-frame", batch_size=3, out="another")
    # The first waits for one frame of the second; the third completes the second.
    assert [at - 10 for at in scored] == [2, 3, 3, 5, 6, 6, 8, 9, 9, 10]
    scored.clear()
    # Two frames of six tiles.
    run(many, "per-tile", batch_size=12, out="tiles")
    assert [at - 20 for at in scored] == list(range(1, 11))


@pytest.mark.parametrize(("size", "keep_features"), [(3, True), (1000, False)])
def test_interrupted_while_videos_wait(run, videos, tmp_path, size, keep_features, monkeypatch):
    whole = run(videos, batch_size=size, out="whole", keep_features=keep_features)
    original, fed = VideoRows.finish, []

    def interrupted(self):
        fed.append(self)
        if len(fed) == 5:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(VideoRows, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(videos, batch_size=size, keep_features=keep_features)
    lines = (tmp_path / "out" / "journal.jsonl").read_bytes().splitlines()
    done = sum(b'"kind":"video"' in line for line in lines)
    # The first is complete when the second fills a batch; what waits is not in the journal.
    assert done < 4
    again = run(videos, batch_size=size, keep_features=keep_features)
    assert_same(again, whole)
    assert again["counts"]["reused"] == done
    assert again["counts"]["decodes"] == len(SHAPES) - done
