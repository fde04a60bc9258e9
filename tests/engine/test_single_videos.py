"""Scores of single videos: made while their rows are in memory, once a content, with heads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from aigve_cli import evaluate, registry as registry_module
from aigve_cli.contract import Card, Frames, Metric, Request, Score, Text, Value
from aigve_cli.engine.plan import Leaf, Producer
from aigve_cli.engine.produce import VideoRows, Wish
from aigve_cli.engine.producers import Producers
from aigve_cli.engine.run import Run
from aigve_cli.errors import AigveError
from aigve_cli.metrics._lite0 import VIEW
from aigve_cli.video.prefetch import Chunk
from aigve_cli.video.sampling import FirstFrames, frame_sampling
from tests.conftest import moving_pattern

LITE0 = "efficientnet-lite0:features"


class PromptLength(Metric):
    """Two numbers that differ with the video and with the prompt."""

    card = Card(
        name="prompt-length",
        title="length of the prompt times the mean feature",
        category="multi_faceted",
        values=(Value("prompt-length", "higher"),),
        version=1,
        needs=("prompt",),
    )

    def requests(self, options, extent):
        return {"frames": Request(LITE0, (Frames(VIEW, frame_sampling(extent)),))}

    def score(self, features, sample, options):
        mean = float(np.mean(features.generated["frames"]))
        return Score({"prompt-length": len(sample.prompt) * mean})


class MeanFeature(PromptLength):
    card = replace(
        PromptLength.card, name="mean-feature", values=(Value("mean-feature", "higher"),), needs=()
    )

    def score(self, features, sample, options):
        return Score({"mean-feature": float(np.mean(features.generated["frames"]))})


@pytest.fixture(autouse=True)
def with_metrics(monkeypatch):
    found = registry_module.registry()
    more = {metric.card.name: metric for metric in (PromptLength, MeanFeature)}
    changed = replace(
        found,
        metrics={**found.metrics, **more},
        sources={**found.sources, **dict.fromkeys(more, "test")},
    )
    monkeypatch.setattr("aigve_cli.engine.setup.registry", lambda: changed)


def scores_of(document, metric):
    return [
        video["scores"][metric]["values"].get(metric)
        for video in document["videos"]
        if video["generated"]
    ]


# --- rows and the disk ------------------------------------------------------------------------


def test_rows_of_single_videos_are_not_stored(pairs, tmp_path):
    (tmp_path / "bad").mkdir()
    for path in pairs.iterdir():
        shutil.copy(path, tmp_path / "bad" / path.name)
    (tmp_path / "bad" / "broken_synthetic.mkv").write_bytes(b"no video")
    # A failure keeps what is on disk for the next run.
    results = evaluate(
        tmp_path / "bad", metrics="mean-feature", device="cpu", output_dir=tmp_path / "out"
    )
    assert results.exit_code == 3
    assert not (tmp_path / "out" / "features").exists()


def test_rows_of_single_videos_are_stored_for_a_user_who_asks(pairs, tmp_path):
    options = {"device": "cpu", "metrics": "mean-feature"}
    kept = evaluate(pairs, output_dir=tmp_path / "kept", keep_features=True, **options)
    plain = evaluate(pairs, output_dir=tmp_path / "plain", **options)
    (file,) = (tmp_path / "kept" / "features").iterdir()
    assert file.stat().st_size == 4 * 4 * 18 * 1280
    assert scores_of(kept.document, "mean-feature") == scores_of(plain.document, "mean-feature")


def test_nothing_waits_in_memory_at_the_end(pairs, tmp_path, monkeypatch):
    runs = []
    scored = Run.score_samples

    def remembering(self, progress):
        runs.append(self)
        waiting = []
        one = self._score_sample

        def counting(sample):
            waiting.append(len(self._rows))
            one(sample)

        self._score_sample = counting
        scored(self, progress)
        assert max(waiting) <= 2

    monkeypatch.setattr(Run, "score_samples", remembering)
    evaluate(pairs, metrics="mean-feature,fid-lite0", device="cpu", output_dir=tmp_path)
    assert runs[0]._rows == {}


# --- decoded once -----------------------------------------------------------------------------


def test_the_same_content_under_two_names_is_decoded_once(pairs, tmp_path, counting_ffmpeg):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        shutil.copy(pairs / "clip0_synthetic.mkv", folder / name)
    results = evaluate(folder, metrics="mean-feature", device="cpu", output_dir=tmp_path)
    assert counting_ffmpeg.decodes() == 1
    first, *others = scores_of(results.document, "mean-feature")
    assert first is not None
    assert others == [first, first]


def listed(folder, entries):
    path = folder / "listed.json"
    data = [{"video_path_pd": video, "prompt_gt": prompt} for video, prompt in entries]
    path.write_text(json.dumps({"data_list": data}))
    return path


def test_a_video_with_two_prompts_is_decoded_once_and_scored_twice(
    pairs, tmp_path, counting_ffmpeg
):
    first, second = "clip0_synthetic.mkv", "clip1_synthetic.mkv"
    entries = [(first, "ab"), (second, "abc"), (first, "abcdef")]
    results = evaluate(
        annotations=listed(tmp_path, entries),
        video_dir=pairs,
        metrics="prompt-length,mean-feature",
        device="cpu",
        output_dir=tmp_path,
    )
    assert counting_ffmpeg.decodes() == 2
    by_prompt = {
        video["prompt"]: video["scores"]["prompt-length"]["values"]["prompt-length"]
        for video in results.document["videos"]
    }
    assert by_prompt["abcdef"] == pytest.approx(3 * by_prompt["ab"], rel=1e-12)


def test_the_same_content_with_another_prompt_under_another_name(pairs, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mkv", "b.mkv"):
        shutil.copy(pairs / "clip0_synthetic.mkv", folder / name)
    results = evaluate(
        annotations=listed(tmp_path, [("a.mkv", "ab"), ("b.mkv", "abcd")]),
        video_dir=folder,
        metrics="prompt-length",
        device="cpu",
        output_dir=tmp_path,
    )
    first, second = scores_of(results.document, "prompt-length")
    assert second == pytest.approx(2 * first, rel=1e-12)


# --- a run that goes on -----------------------------------------------------------------------


def test_only_what_has_no_score_is_decoded_again(pairs, tmp_path, counting_ffmpeg):
    whole = evaluate(pairs, metrics="mean-feature", device="cpu", output_dir=tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    # Killed after the third video was looked at, and before it was scored.
    cut = [index for index, kind in enumerate(kinds) if kind == "video"][2] + 1
    journal.write_bytes(b"".join(lines[:cut]))
    before = counting_ffmpeg.decodes()
    again = evaluate(pairs, metrics="mean-feature", device="cpu", output_dir=tmp_path)
    assert counting_ffmpeg.decodes() - before == 2
    assert again.document["counts"]["reused"] == 2
    assert scores_of(again.document, "mean-feature") == scores_of(whole.document, "mean-feature")


# --- heads ------------------------------------------------------------------------------------


class Taps(torch.nn.Module):
    """Stands in for vgg16: the frame's mean, 2944 times."""

    def forward(self, frames):
        if frames.shape[-1] < 8:
            raise ValueError("frames of 8 pixels or more")
        return {"taps": frames.mean((1, 2, 3))[:, None].repeat(1, 2944)}


class Head(torch.nn.Module):
    """Stands in for gstvqa, and counts its runs."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.offset, self.runs = offset, 0

    def head(self, taps):
        self.runs += 1
        if len(taps) < 3:
            raise ValueError("3 frames or more")
        return {"score": taps.mean()[None, None] + self.offset, "frame_quality": taps[:, :1]}


class Words(torch.nn.Module):
    """Stands in for clip-vit-b-32, and counts the texts that it reads."""

    def __init__(self):
        super().__init__()
        self.read = []

    def text(self, texts):
        self.read += texts
        return {"text": torch.tensor([[float(len(text))] for text in texts])}


FRAMES = Frames((), FirstFrames(None))
TAPS = Request("vgg16:taps", (FRAMES,))
SCORE, CURVE = (Request(f"gstvqa:{name}", (TAPS,)) for name in ("score", "frame_quality"))


def rows_of(networks, frames):
    producers = Producers(networks, {}, "cpu", "fp32")
    wish = Wish({"taps"}, {(index,) for index in range(len(frames))})
    rows = VideoRows(producers, {Leaf(Producer("vgg16"), ()): wish})
    rows.feed(Chunk((dict(enumerate(frames)),), len(frames)))
    rows.finish()
    units = np.arange(len(frames))[:, None]
    return lambda request: rows.gather(request, lambda _frames: units)


def test_a_head_runs_once_for_all_that_is_read_of_it():
    frames, head = moving_pattern(1, 5), Head()
    gather = rows_of({Producer("vgg16"): Taps(), Producer("gstvqa"): head}, frames)
    curve = gather(CURVE)
    assert curve[:, 0] == pytest.approx([frame.mean() for frame in frames], rel=1e-5)
    assert gather(SCORE) == pytest.approx(curve.mean(), rel=1e-5)
    assert head.runs == 1


def test_two_checkpoints_of_a_network_are_two_producers():
    other = replace(SCORE, weights="cvd14")
    networks = {
        Producer("vgg16"): Taps(),
        Producer("gstvqa"): Head(),
        Producer("gstvqa", "cvd14"): Head(100.0),
    }
    gather = rows_of(networks, moving_pattern(1, 5))
    assert gather(other) - gather(SCORE) == pytest.approx(100, rel=1e-4)
    assert np.array_equal(gather(replace(SCORE, weights="konvid")), gather(SCORE))  # the default


def test_a_head_that_cannot_take_a_video_says_so():
    gather = rows_of({Producer("vgg16"): Taps(), Producer("gstvqa"): Head()}, moving_pattern(1, 2))
    with pytest.raises(AigveError, match="gstvqa: 3 frames or more"):
        gather(SCORE)
    assert len(gather(TAPS)) == 2


def test_a_head_without_a_finite_number_harms_nothing_else():
    networks = {Producer("vgg16"): Taps(), Producer("gstvqa"): Head(float("nan"))}
    gather = rows_of(networks, moving_pattern(1, 5))
    assert np.isnan(gather(SCORE)).all()
    assert np.isfinite(gather(CURVE)).all()


def test_frames_that_a_network_cannot_take_cost_only_its_metrics():
    frames = moving_pattern(1, 5, height=4, width=4)
    gather = rows_of({Producer("vgg16"): Taps(), Producer("gstvqa"): Head()}, frames)
    with pytest.raises(AigveError, match="vgg16: frames of 8 pixels"):
        gather(SCORE)


def test_constant_texts_are_read_once_a_run():
    words = Words()
    producers = Producers({Producer("clip-vit-b-32"): words}, {}, "cpu", "fp32")
    request = Request("clip-vit-b-32:text", (Text(("one", "three")),))
    for _ in range(2):
        rows = VideoRows(producers, {}).gather(request, lambda _frames: np.zeros((0, 1)))
        assert rows.tolist() == [[3.0], [5.0]]
    assert words.read == ["one", "three"]
