"""Scores of single videos in a folder that has a past: failures, other metrics, going on.

Stand-ins take the place of the networks, so that a run costs no more than its decodes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from aigve_cli import evaluate, registry as registry_module
from aigve_cli.contract import Card, Extent, Frames, Metric, Request, Score, Tile, Value, VideoFacts
from aigve_cli.engine import look
from aigve_cli.engine.journal import Journal, VideoRecord
from aigve_cli.engine.plan import Leaf, PlannedMetric, Producer, plan_metric
from aigve_cli.engine.produce import VideoRows, Wish
from aigve_cli.engine.producers import Producers
from aigve_cli.engine.run import Run
from aigve_cli.errors import VideoError
from aigve_cli.registry import registry
from aigve_cli.video.prefetch import Chunk
from aigve_cli.video.sampling import EverySecond, FirstFrames, Spread
from tests.conftest import moving_pattern, read_results, write_clip

LITE0, VGG16 = "efficientnet-lite0:features", "vgg16:taps"
TOO_SMALL = "vgg16: frames of 32 pixels or more"


class Network(torch.nn.Module):
    """Stands in for a network: the mean of each picture; counts the pictures that it sees."""

    def __init__(self, output, least=0):
        super().__init__()
        self.output, self.least, self.seen = output, least, 0

    def forward(self, pictures):
        if pictures.shape[-1] < self.least:
            raise ValueError(f"frames of {self.least} pixels or more")
        self.seen += len(pictures)
        return {self.output: pictures.mean((1, 2, 3))[:, None]}


@pytest.fixture
def networks(monkeypatch):
    found = {"efficientnet-lite0": Network("features"), "vgg16": Network("taps", least=32)}
    monkeypatch.setattr(
        "aigve_cli.engine.passes.load_network", lambda card, *_args, **_more: found[card.name]
    )
    return found


def made_up(name, output=LITE0, *, role="generated", needs=(), sampling=None):
    """A class of metrics: the mean of what ``output`` gives of 8 frames."""

    class MadeUp(Metric):
        card = Card(
            name=name,
            title=name,
            category="multi_faceted",
            values=(Value(name, "higher"),),
            version=1,
            needs=needs,
        )

        def requests(self, options, extent):
            return {"rows": Request(output, (Frames((), sampling or Spread(8), role),))}

        def score(self, features, sample, options):
            return Score({name: float(features.generated["rows"].mean())})

    return MadeUp


class PairDistance(made_up("pair-distance", VGG16, role="each", needs=("reference",))):
    def score(self, features, sample, options):
        ours, theirs = features.generated["rows"], features.reference["rows"]
        return Score({"pair-distance": float(np.abs(ours - theirs).mean())})


def made_up_set(name, output):
    """A class of metrics: the sum over videos of the mean of what ``output`` gives of 8 frames."""

    class MadeUpSet(made_up(name, output)):
        score = Metric.score

        def compare(self, generated, reference, options):
            means = [video.features["rows"].mean() for video in generated]
            return Score({name: float(np.sum(means))})

    return MadeUpSet


class Shown(made_up("shown")):
    """The number of letters that a metric sees of the prompt, and its human score."""

    def score(self, features, sample, options):
        return Score({"shown": len(sample.prompt or "") + 100 * sample.extra.get("mos", 0)})


class ShownPrompt(Shown):
    card = replace(
        Shown.card,
        name="shown-prompt",
        values=(Value("shown-prompt", "higher"),),
        needs=("prompt",),
    )

    def score(self, features, sample, options):
        return Score({"shown-prompt": len(sample.prompt)})


class Chosen(made_up("chosen")):
    def score(self, features, sample, options):
        return Score(reason="only features were asked for", by_choice=True)


METRICS = (
    made_up("single"),
    made_up("other", sampling=Spread(5)),
    made_up("taps", VGG16),
    made_up_set("lite-set", LITE0),
    made_up_set("tap-set", VGG16),
    PairDistance,
    Shown,
    ShownPrompt,
    Chosen,
)


@pytest.fixture
def score(monkeypatch, networks, tmp_path):
    """Score a folder with made-up metrics into ``out``, or be killed just before the end."""
    found = registry_module.registry()
    more = {metric.card.name: metric for metric in METRICS}
    changed = replace(
        found,
        metrics={**found.metrics, **more},
        sources={**found.sources, **dict.fromkeys(more, "test")},
    )
    monkeypatch.setattr("aigve_cli.engine.setup.registry", lambda: changed)
    (tmp_path / "weights").write_bytes(b"a stand-in reads none")

    def run(metrics, folder=tmp_path / "in", *, killed=False, **more):
        options = {"device": "cpu", "output_dir": tmp_path / "out", **more}
        models = {"vgg16": tmp_path / "weights"}
        with monkeypatch.context() as patched:
            if killed:
                patched.setattr(Journal, "finish", lambda *_args, **_more: None)
            results = evaluate(folder, metrics=metrics, models=models, **options)
        assert read_results(tmp_path / "out") == json.loads(json.dumps(results.document))
        return results

    return run


@pytest.fixture
def clips(tmp_path):
    """``large.mkv`` and ``tiny.mkv``, which the stand-in for vgg16 refuses."""
    write_clip(tmp_path / "in" / "large.mkv", moving_pattern(1, 12))
    write_clip(tmp_path / "in" / "tiny.mkv", moving_pattern(2, 12, height=16, width=16))
    return tmp_path / "in"


@pytest.fixture
def twins(tmp_path):
    """The same content as ``a.mkv`` and ``b.mkv``."""
    write_clip(tmp_path / "in" / "a.mkv", moving_pattern(1, 12))
    shutil.copy(tmp_path / "in" / "a.mkv", tmp_path / "in" / "b.mkv")
    return tmp_path / "in"


def values_by_sample(results, metric):
    return {
        video["sample"]: video["scores"][metric].get("values", {}).get(metric)
        for video in results.document["videos"]
    }


def reasons_by_sample(results, metric):
    return {
        video["sample"]: video["scores"][metric].get("reason")
        for video in results.document["videos"]
    }


def excluded(results):
    return {video["sample"]: video["excluded"] for video in results.document["videos"]}


def record_of(results, name):
    (record,) = [record for record in results.records if record["value_name"] == name]
    return record


# --- a video that fails later, or for one network ---------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_a_known_score_stays_where_a_later_network_refuses_the_video(clips, score, keep):
    first = score("single", keep_features=keep, killed=not keep)
    second = score("single,taps", keep_features=keep)
    assert second.exit_code == 3
    assert values_by_sample(second, "single") == values_by_sample(first, "single")
    assert None not in values_by_sample(first, "single").values()
    assert reasons_by_sample(second, "taps") == {"large.mkv": None, "tiny.mkv": TOO_SMALL}
    assert excluded(second) == {"large.mkv": {}, "tiny.mkv": {"taps": TOO_SMALL}}


def test_a_video_that_can_no_longer_be_decoded_has_no_score(clips, score, monkeypatch):
    first = score("single", keep_features=True)
    feed = VideoRows.feed

    def failing(self, chunk):
        if any(16 in picture.shape for picture in chunk.pictures[0].values()):
            raise VideoError("breaks off", status="partial")
        feed(self, chunk)

    monkeypatch.setattr(VideoRows, "feed", failing)
    second = score("single,other", keep_features=True)
    assert second.exit_code == 3
    for name in ("single", "other"):
        assert reasons_by_sample(second, name) == {"large.mkv": None, "tiny.mkv": "breaks off"}
        assert values_by_sample(second, name)["tiny.mkv"] is None
    kept = values_by_sample(second, "single")["large.mkv"]
    assert kept == values_by_sample(first, "single")["large.mkv"]
    assert record_of(second, "single")["value"] == kept


@pytest.mark.parametrize(
    ("metrics", "name", "keep"),
    [("single,tap-set", "tap-set", False), ("single,taps", "taps", True)],
)
def test_what_a_network_refuses_costs_only_its_metrics_when_rows_are_stored(
    clips, score, metrics, name, keep
):
    results = score(metrics, keep_features=keep)
    assert results.exit_code == 3
    assert None not in values_by_sample(results, "single").values()
    reason = TOO_SMALL if name == "taps" else f"generated: {TOO_SMALL}"
    assert excluded(results) == {"large.mkv": {}, "tiny.mkv": {name: reason}}
    assert record_of(results, name)["value"] is not None
    assert record_of(results, "single")["videos"]["videos"] == 2
    assert record_of(results, name)["videos"]["videos"] == 1


def test_stored_rows_that_a_network_refused_are_not_asked_for_again(clips, score):
    first = score("single,tap-set", killed=True)
    again = score("single,tap-set")
    assert [r.document["counts"]["decodes"] for r in (first, again)] == [2, 0]
    assert excluded(again) == excluded(first)
    assert again.records == first.records


def test_a_refusal_outlives_a_look_for_another_metric(clips, score):
    first = score("tap-set", killed=True)
    later = score("tap-set,single")
    assert later.exit_code == 3
    assert excluded(later) == excluded(first)
    assert record_of(later, "tap-set") == record_of(first, "tap-set")
    assert None not in values_by_sample(later, "single").values()


def test_a_reference_that_a_network_refuses_is_the_pair_s_reason(clips, score, tmp_path):
    (tmp_path / "references").mkdir()
    (clips / "tiny.mkv").rename(tmp_path / "references" / "large.mkv")
    results = score("single,pair-distance", reference_dir=tmp_path / "references")
    assert results.exit_code == 3
    assert reasons_by_sample(results, "pair-distance") == {"large.mkv": TOO_SMALL}
    assert excluded(results) == {"large.mkv": {"pair-distance": f"reference: {TOO_SMALL}"}}
    assert None not in values_by_sample(results, "single").values()


# --- packets that were counted wrong ----------------------------------------------------------


@pytest.fixture
def seven_too_many(monkeypatch):
    scan = look.probe
    monkeypatch.setattr(
        look, "probe", lambda path: replace(scan(path), frames=scan(path).frames + 7)
    )


def test_miscounted_content_under_two_names_is_scored(score, tmp_path, seven_too_many):
    names = ("a.mkv", "b.mkv")
    for seed, name in enumerate(names):
        write_clip(tmp_path / "in" / name, moving_pattern(seed, 12))
    (tmp_path / "references").mkdir()
    # Each is the other's reference: it is looked at in two roles, of which one needs no score.
    for name, other in zip(names, reversed(names), strict=True):
        shutil.copy(tmp_path / "in" / name, tmp_path / "references" / other)
    results = score("single,pair-distance", reference_dir=tmp_path / "references")
    assert results.exit_code == 0
    assert excluded(results) == {"a.mkv": {}, "b.mkv": {}}
    for metric in ("single", "pair-distance"):
        assert None not in values_by_sample(results, metric).values()
    assert results.document["counts"]["passes"] == 2
    # Each content: a miscounted look and one more; that of b.mkv again for a score of its own.
    assert results.document["counts"]["decodes"] == 5


def test_miscounted_content_that_two_samples_share_is_scored(twins, score, seven_too_many):
    results = score("single")
    assert results.exit_code == 0
    first, second = values_by_sample(results, "single").values()
    assert first == second is not None
    assert (results.document["counts"]["passes"], results.document["counts"]["decodes"]) == (2, 2)


def test_a_miscounted_video_is_not_decoded_again_by_the_next_run(twins, score, seven_too_many):
    first = score("lite-set,single", killed=True)
    again = score("lite-set,single")
    assert [run.document["counts"]["decodes"] for run in (first, again)] == [2, 0]
    assert again.records == first.records


# --- what a score depends on ------------------------------------------------------------------


def test_a_metric_sees_the_prompt_only_if_its_card_needs_it(twins, score, tmp_path):
    entries = [
        {"video_path_pd": "a.mkv", "prompt_gt": "ab", "mos": 1},
        {"video_path_pd": "b.mkv", "prompt_gt": "abcdef", "mos": 5},
    ]
    listed = tmp_path / "listed.json"
    listed.write_text(json.dumps({"data_list": entries}))
    results = score("shown,shown-prompt", None, annotations=listed, video_dir=twins)
    assert list(values_by_sample(results, "shown").values()) == [100, 500]
    assert list(values_by_sample(results, "shown-prompt").values()) == [2, 6]
    assert results.document["counts"]["decodes"] == 2


# --- metrics that come and go -----------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_a_metric_that_was_left_out_keeps_its_scores(twins, score, networks, keep):
    runs = [
        score(metrics, keep_features=keep, killed=not keep)
        for metrics in ("single,other", "single", "single,other")
    ]
    assert [run.document["counts"]["decodes"] for run in runs] == [1, 0, 0]
    assert runs[2].records == runs[0].records
    assert [set(video["scores"]) for video in runs[1].document["videos"]] == [{"single"}] * 2
    # Those 5 frames of 12 are among the 8.
    assert networks["efficientnet-lite0"].seen == 8


def test_another_metric_later_runs_no_network_for_the_first(clips, score, networks):
    score("lite-set", keep_features=True)
    seen = networks["efficientnet-lite0"].seen
    assert (seen, networks["vgg16"].seen) == (16, 0)
    later = score("lite-set,taps", keep_features=True)
    assert networks["efficientnet-lite0"].seen == seen
    assert networks["vgg16"].seen == 8
    assert later.document["counts"]["decodes"] == 2


# --- no number by choice ----------------------------------------------------------------------


def test_no_number_by_choice_is_no_failure_and_is_known(twins, score):
    first = score("single,chosen", strict=True, killed=True)
    assert first.exit_code == 0
    record = record_of(first, "chosen")
    assert (record["value"], record["by_choice"]) == (None, True)
    assert record["reason"] == "only features were asked for"
    assert record_of(first, "single")["by_choice"] is False
    assert excluded(first) == {"a.mkv": {}, "b.mkv": {}}
    again = score("single,chosen")
    assert again.document["counts"]["decodes"] == 0
    assert (again.exit_code, again.records) == (0, first.records)


def test_a_run_that_asks_for_no_number_at_all_is_no_failure(twins, score):
    assert score("chosen").exit_code == 0


def test_a_failure_beside_a_choice_is_a_failure(clips, score):
    assert score("taps,chosen").exit_code == 3
    (clips / "large.mkv").unlink()
    assert score("taps,chosen").exit_code == 1


# --- batches of tiles -------------------------------------------------------------------------


class Batches(torch.nn.Module):
    """Stands in for clip-vit-b-32, and remembers the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, pictures):
        self.sizes.append(len(pictures))
        return {"image": pictures.mean((2, 3))}


def tile_rows(frames, batch_size):
    network, producer = Batches(), Producer("clip-vit-b-32")
    producers = Producers({producer: network}, {}, "cpu", "fp32", batch_size=batch_size)
    view = (Tile(16, 16),)
    units = np.arange(len(frames))[:, None]
    rows = VideoRows(producers, {Leaf(producer, view): Wish({"image"}, set(map(tuple, units)))})
    rows.feed(Chunk((dict(enumerate(frames)),), len(frames)))
    rows.finish()
    request = Request("clip-vit-b-32:image", (Frames(view, FirstFrames(None)),))
    return rows.gather(request, lambda _frames: units), network.sizes


def test_a_batch_size_bounds_tiles_and_changes_no_row():
    frames = moving_pattern(1, 3)
    expected = np.array(
        [
            # Tiles of 16 x 16 down the columns: each one's mean red, green and blue.
            [f[y : y + 16, x : x + 16].mean((0, 1)) for x in range(0, 64, 16) for y in (0, 16, 32)]
            for f in frames
        ]
    ).reshape(3, -1)
    for batch_size, sizes in ((1, [1] * 36), (5, [5] * 7 + [1]), (None, [36])):
        rows, found = tile_rows(frames, batch_size)
        # A mean of 256 numbers below 256 in float32.
        assert rows == pytest.approx(expected, rel=1e-5)
        assert max(found) == max(sizes)
        assert sum(found) == 36
        assert batch_size != 1 or found == sizes


# --- notes of what is held at the end ---------------------------------------------------------


class Repeating:
    """A sampling that looks at the first frame again in its middle."""

    limit, pads = None, False

    def units(self, facts):
        return np.array([[0], [1], [0], [2]])

    def __str__(self):
        return "repeating"


def spread(count=8, *, to_the_end=True):
    return made_up("spread", sampling=Spread(count, to_the_end=to_the_end))


def held(metric, frames, fps=10.0):
    if isinstance(metric, str):
        planned = plan_metric(registry(), metric, metric, settings={}, extent=Extent())
    else:
        name = metric.card.name
        planned = PlannedMetric(name, name, metric(), {}, metric().requests({}, Extent()))
    return Run._held(planned, VideoRecord("", facts=VideoFacts(64, 48, fps, frames)))


@pytest.mark.parametrize(
    ("metric", "frames", "words"),
    [
        ("gstvqa", 1, "28 of 29 frames"),
        ("gstvqa", 3, "26 of 29 frames"),
        ("gstvqa", 28, "1 of 29 frames"),
        ("gstvqa", 29, None),
        ("gstvqa", 700, None),
        ("simplevqa", 4, "7 of 8 frames, 7 of 8 clips"),
        ("simplevqa", 30, "5 of 8 frames, 5 of 8 clips"),
        ("simplevqa", 79, "1 of 8 frames, 1 of 8 clips"),
        ("simplevqa", 80, None),
        ("simplevqa", 700, None),
        (spread(), 1, "7 of 8 frames"),
        (spread(), 3, "5 of 8 frames"),
        (spread(to_the_end=False), 7, "1 of 8 frames"),
        (spread(), 8, None),
        (spread(to_the_end=False), 100, None),
        (made_up("seconds", sampling=EverySecond(32)), 5, None),
        (made_up("repeating", sampling=Repeating()), 3, None),
    ],
)
def test_what_is_held_at_the_end_is_said(metric, frames, words):
    note = held(metric, frames)
    assert note == (words and f"held at the end: {words} are the last again")


def test_what_is_held_stands_in_the_results_of_the_video_only(score, tmp_path):
    write_clip(tmp_path / "in" / "long.mkv", moving_pattern(1, 12))
    write_clip(tmp_path / "in" / "short.mkv", moving_pattern(2, 3))
    results = score("single")
    notes = {
        video["sample"]: video["scores"]["single"].get("notes", [])
        for video in results.document["videos"]
    }
    note = "held at the end: 5 of 8 frames are the last again"
    assert notes == {"long.mkv": [], "short.mkv": [note]}
