"""Networks that see the frames of a clip together: which frames, once, and in bounded memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aigve_cli import evaluate
from aigve_cli.contract import Extent, Frames, Request, VideoFacts
from aigve_cli.engine import look
from aigve_cli.engine.journal import JOURNAL
from aigve_cli.engine.networks import load_network
from aigve_cli.engine.plan import Leaf, Producer, plan_metric, request_frames, request_looks
from aigve_cli.engine.produce import VideoRows, Wish
from aigve_cli.engine.producers import Producers
from aigve_cli.registry import registry
from aigve_cli.statistics.frechet import gaussians_to_frechet
from aigve_cli.statistics.gaussian import rows_to_gaussian
from aigve_cli.video.prefetch import Chunk
from aigve_cli.video.views import frames_to_view
from aigve_cli.weights import Located, network_card
from tests.conftest import moving_pattern, write_clip
from tests.networks.checkpoints import I3D, write_checkpoint

VARIANT = "eps1e-3"
LENGTH = 9
"""Frames of a clip: the fewest that I3D takes."""
# Float32 sums inside the network take another order in another batch: 1e-7 of a feature.
SAME = 1e-6
Unit = Sequence[int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("i3d"), I3D)


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> torch.nn.Module:
    located = Located(checkpoint, "0" * 64, "custom", False, "custom", "unknown")
    return load_network(network_card(I3D), located, device="cpu", variant=VARIANT)


class Counting:
    """A network that keeps the shapes of its batches: mean, first and last frame are its row."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        self.shapes.append(tuple(batch.shape))
        frames = batch.mean((1, 3, 4))
        return {"logits": torch.stack([frames.mean(1), frames[:, 0], frames[:, -1]], dim=1)}


def producers_of(network: Any, batch_size: int | None = None) -> Producers:
    return Producers({Producer(I3D, variant=VARIANT): network}, {}, "cpu", "fp32", batch_size)


def request_of(metric: str = "fvd", **options: Any) -> Request:
    """The clips that a metric asks for; a name's _ is an option's -."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    settings = {metric: {"length": LENGTH, **given}}
    planned = plan_metric(registry(), metric, metric, settings=settings, extent=Extent())
    return planned.requests["clips"]


def units_of(request: Request, frames: Sequence[np.ndarray]) -> np.ndarray:
    height, width = frames[0].shape[:2]
    facts = VideoFacts(width, height, 10.0, len(frames))
    return request_frames(request)[0].sampling.units(facts)


def rows_of(
    producers: Producers, requests: Iterable[Request], frames: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The rows of each request, from frames that come five at a time."""
    wanted = [(request, units_of(request, frames)) for request in requests]
    wishes: dict[Leaf, Wish] = {}
    for request, found in wanted:
        for frames_look in request_looks(request):
            wish = wishes.setdefault(frames_look.leaf, Wish())
            wish.outputs.add(frames_look.output)
            wish.units.update(map(tuple, found.tolist()))
    rows = VideoRows(producers, wishes)
    for first in range(0, len(frames), 5):
        some = dict(enumerate(frames[first : first + 5], start=first))
        rows.feed(Chunk((some,), len(some)))
    rows.finish()
    return [rows.gather(request, lambda _, units=found: units) for request, found in wanted]


def forward(network: Any, request: Request, frames: Sequence[np.ndarray], unit: Unit) -> np.ndarray:
    """The row of one clip, without the engine."""
    (source,) = request.sources
    assert isinstance(source, Frames)
    pictures = torch.from_numpy(np.stack([frames[index] for index in unit]))
    with torch.inference_mode():
        clip = frames_to_view(pictures, source.view).permute(1, 0, 2, 3)[None]
        return network(clip)["logits"][0].numpy()


def agree(rows: np.ndarray, expected: np.ndarray) -> None:
    assert rows.shape == expected.shape
    assert np.linalg.norm(rows - expected) <= SAME * np.linalg.norm(expected)


# --- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_a_batch_does_not_change_its_rows(network, batch_size):
    frames, request = moving_pattern(1, 3 * LENGTH), request_of(clips_per_video=0)
    (alone,) = rows_of(producers_of(network, 1), [request], frames)
    (together,) = rows_of(producers_of(network, batch_size), [request], frames)
    assert len(alone) == 3
    agree(together, alone)


@pytest.mark.parametrize(
    ("options", "clips"),
    [
        ({}, [range(9)]),
        ({"clips_per_video": 2, "offset": 3}, [range(3, 12), range(12, 21)]),
        ({"stride": 2, "offset": 1}, [range(1, 18, 2)]),
        ({"clips_per_video": 0, "length": 10}, [range(10), range(10, 20)]),
    ],
)
def test_the_frames_of_clips_are_those_asked_for(network, options, clips):
    frames, request = moving_pattern(2, 24), request_of(**options)
    (rows,) = rows_of(producers_of(network), [request], frames)
    agree(rows, np.stack([forward(network, request, frames, clip) for clip in clips]))


@pytest.mark.parametrize(
    ("short", "order"), [("loop", [*range(6), 0, 1, 2]), ("repeat", [*range(6), 5, 5, 5])]
)
def test_a_filled_clip_is_that_of_a_video_with_those_frames(network, short, order):
    frames = moving_pattern(3, 6)
    (filled,) = rows_of(producers_of(network), [request_of(short=short)], frames)
    real = [frames[index] for index in order]
    (expected,) = rows_of(producers_of(network), [request_of()], real)
    assert np.array_equal(filled, expected)


def test_a_short_video_gives_no_rows():
    counting = Counting()
    (rows,) = rows_of(producers_of(counting), [request_of()], moving_pattern(3, LENGTH - 1))
    assert len(rows) == 0
    assert counting.shapes == []


def test_a_clip_that_two_metrics_want_is_seen_once():
    counting, frames = Counting(), moving_pattern(4, 2 * LENGTH)
    requests = [request_of(), request_of("kvd", clips_per_video=0)]
    one, two = rows_of(producers_of(counting, 1), requests, frames)
    assert len(counting.shapes) == 2
    assert np.array_equal(one, two[:1])


def test_clips_that_overlap_and_clips_of_another_length():
    counting, frames = Counting(), moving_pattern(5, 30)
    requests = [
        request_of(),
        request_of(offset=4),
        request_of(stride=3),
        request_of(length=12, clips_per_video=0),
    ]
    together = rows_of(producers_of(counting, 1), requests, frames)
    lengths = sorted(shape[2] for shape in counting.shapes)
    assert lengths == [9, 9, 9, 12, 12]
    for request, rows in zip(requests, together, strict=True):
        expected = [
            forward(counting, request, frames, unit) for unit in units_of(request, frames).tolist()
        ]
        assert np.allclose(rows, np.stack(expected), rtol=SAME)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_clips_of_two_lengths_are_not_one_batch(batch_size):
    frames = moving_pattern(5, 30)
    requests = [request_of(), request_of(length=12, clips_per_video=0)]
    together = rows_of(producers_of(Counting(), batch_size), requests, frames)
    alone = rows_of(producers_of(Counting(), 1), requests, frames)
    for ours, theirs in zip(together, alone, strict=True):
        agree(ours, theirs)


# --- memory -----------------------------------------------------------------------------------


def rows_of_clips(*clips: Unit) -> VideoRows:
    (frames_look,) = request_looks(request_of())
    wish = Wish({"logits"}, {tuple(clip) for clip in clips})
    return VideoRows(producers_of(Counting(), 1), {frames_look.leaf: wish})


def held(rows: VideoRows, frames: int) -> list[list[int]]:
    """The frames whose views wait after each frame."""
    (leaf,) = rows._leaves.values()
    waiting = []
    for index, frame in enumerate(moving_pattern(6, frames, height=8, width=8)):
        rows.feed(Chunk(({index: frame},), 1))
        waiting.append(sorted(leaf._seen))
    return waiting


def test_views_go_as_soon_as_their_clip_is_seen():
    waiting = held(rows_of_clips(range(3), range(5, 8)), 12)
    assert waiting[:3] == [[0], [0, 1], []]
    assert waiting[4:8] == [[], [5], [5, 6], []]
    assert waiting[-1] == []


def test_views_that_no_clip_wants_are_not_made():
    waiting = held(rows_of_clips(range(1, 10, 4)), 12)
    assert waiting[:10] == [[], [1], [1], [1], [1], [1, 5], [1, 5], [1, 5], [1, 5], []]


def test_views_stay_for_every_clip_that_still_wants_them():
    waiting = held(rows_of_clips(range(4), range(2, 6), [3, 9]), 12)
    assert waiting[3] == [2, 3]
    assert waiting[5:9] == [[3]] * 4
    assert waiting[9] == []


def test_a_frame_that_is_shown_again_in_its_clip():
    assert held(rows_of_clips([0, 1, 2, 0, 1]), 4) == [[0], [0, 1], [], []]


# --- looking no further -----------------------------------------------------------------------


@dataclass(frozen=True)
class After:
    """Some rows are enough."""

    clips: int
    brighter_than: float = -np.inf

    def __call__(self, rows: np.ndarray, units: int, facts: VideoFacts) -> bool:
        assert (units, facts.frames) == (4, 4 * LENGTH)
        return int((rows[:, 0] > self.brighter_than).sum()) >= self.clips


def wishes_of(*requests: Request) -> dict[Leaf, Wish]:
    frames = moving_pattern(8, 4 * LENGTH)
    facts = VideoFacts(64, 48, 10.0, len(frames))
    wishes: dict[Leaf, Wish] = {}
    for request in requests:
        units = units_of(request, frames)
        enough = request.enough and partial(request.enough, units=len(units), facts=facts)
        (frames_look,) = request_looks(request)
        wish = wishes.setdefault(frames_look.leaf, Wish())
        wish.add(frames_look.output, map(tuple, units.tolist()), enough)
    return wishes


def looked_at(*requests: Request, batch_size: int | None = 1) -> tuple[Counting, list[int]]:
    """The network, and how many rows each request has."""
    frames, network = moving_pattern(8, 4 * LENGTH), Counting()
    rows = VideoRows(producers_of(network, batch_size), wishes_of(*requests))
    for index, frame in enumerate(frames):
        rows.feed(Chunk(({index: frame},), 1))
    rows.finish()
    assert rows.complete or batch_size == 2
    units = units_of(requests[0], frames)
    return network, [len(rows.gather(request, lambda _: units)) for request in requests]


ALL = request_of(clips_per_video=0)


@pytest.mark.parametrize("clips", [1, 2, 4])
def test_no_clip_is_looked_at_after_enough(clips):
    network, (rows,) = looked_at(replace(ALL, enough=After(clips)))
    assert (rows, len(network.shapes)) == (clips, clips)


def test_a_batch_does_not_wait_for_what_may_not_be_needed():
    """On a processor, where a batch of one takes no longer for each."""
    network, (rows,) = looked_at(replace(ALL, enough=After(1)), batch_size=None)
    assert (rows, [shape[0] for shape in network.shapes]) == (1, [1])


def test_what_is_never_enough_is_looked_at_whole():
    network, (rows,) = looked_at(replace(ALL, enough=After(1, brighter_than=np.inf)))
    assert (rows, len(network.shapes)) == (4, 4)


def test_a_batch_that_was_begun_is_run():
    network, (rows,) = looked_at(replace(ALL, enough=After(1)), batch_size=2)
    assert (rows, [shape[0] for shape in network.shapes]) == (2, [2])


def test_no_frame_waits_after_enough():
    rows = VideoRows(producers_of(Counting(), 1), wishes_of(replace(ALL, enough=After(1))))
    waiting = held(rows, 2 * LENGTH)
    assert waiting[LENGTH - 2] == list(range(LENGTH - 1))
    assert waiting[LENGTH:] == [[]] * LENGTH


@pytest.mark.parametrize("others", [(ALL,), (replace(ALL, enough=After(3)),)])
def test_two_who_look_are_content_with_everything(others):
    network, rows = looked_at(replace(ALL, enough=After(1)), *others)
    assert (rows, len(network.shapes)) == ([4, 4], 4)


# --- through the engine -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs that hold two clips each."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        write_clip(folder / f"{seed}.mkv", moving_pattern(seed, 20))
        write_clip(folder / f"{seed}_synthetic.mkv", moving_pattern(seed + 10, 20))
    return folder


@pytest.fixture
def score(checkpoint, tmp_path):
    """Score a folder with I3D on clips of nine frames."""

    def score(folder: Path, out: Path = tmp_path / "out", metrics: str = "fvd", **options: Any):
        settings = {metric: {"length": LENGTH} for metric in ("fvd", "kvd")}
        for metric, values in options.pop("options", {}).items():
            settings[metric] |= values
        usual = {"device": "cpu", "keep_features": True, "models": {I3D: checkpoint}}
        return evaluate(
            folder, metrics=metrics, output_dir=out, options=settings, **{**usual, **options}
        )

    return score


def test_two_metrics_with_other_clips_share_a_decode(videos, score, tmp_path, counting_ffmpeg):
    options = {"options": {"kvd": {"stride": 2}}}
    both = score(videos, metrics="fvd,kvd", **options)
    assert counting_ffmpeg.decodes() == both.document["counts"]["decodes"] == 4
    # The last frame that either wants is the seventeenth.
    assert both.document["counts"]["frames"] == 4 * 17
    for metric in ("fvd", "kvd"):
        alone = score(videos, tmp_path / metric, metric, **options)
        assert alone.value(metric) == both.value(metric)


def test_more_clips_later(videos, score, tmp_path, counting_ffmpeg):
    more = {"options": {"fvd": {"clips-per-video": 2}}}
    one = score(videos)
    two = score(videos, **more)
    assert counting_ffmpeg.decodes() == 8
    assert two.records[0]["details"]["clips"] == {"generated": 4, "reference": 4}
    assert score(videos).value("fvd") == one.value("fvd")
    assert counting_ffmpeg.decodes() == 8, "the first clips are among the stored ones"
    assert score(videos, tmp_path / "fresh", **more).value("fvd") == two.value("fvd")


def test_a_run_that_goes_on_decodes_what_is_missing(videos, score, tmp_path, counting_ffmpeg):
    whole = score(videos)
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    seen = [index for index, line in enumerate(lines) if json.loads(line)["kind"] == "video"]
    journal.write_bytes(b"".join(lines[: seen[2]]))
    again = score(videos)
    assert counting_ffmpeg.decodes() == 4 + 2
    assert again.document["counts"]["reused"] == 2
    assert again.value("fvd") == whole.value("fvd")


def test_sets_of_other_sizes_and_videos_of_other_sizes(network, score, tmp_path):
    sizes = {"generated": [(48, 64), (64, 48), (51, 77)], "reference": [(48, 64), (90, 30)]}
    request = request_of()
    sides = {}
    for side, pictures in sizes.items():
        rows = []
        for index, (height, width) in enumerate(pictures):
            frames = moving_pattern(len(side) + index, LENGTH, height=height, width=width)
            write_clip(tmp_path / side / f"{index}.mkv", frames)
            rows.append(forward(network, request, frames, range(LENGTH)))
        sides[side] = rows_to_gaussian([np.stack(rows)], ddof=0)
    results = score(tmp_path / "generated", reference_dir=tmp_path / "reference")
    record = results.records[0]
    assert record["details"]["clips"] == {"generated": 3, "reference": 2}
    expected = gaussians_to_frechet(sides["generated"], sides["reference"]).value
    # Features agree to 1e-6; a distance of few rows multiplies that.
    assert record["value"] == pytest.approx(expected, rel=1e-5)


def test_a_set_of_one_video_has_a_reason(videos, score, tmp_path):
    for name in ("0.mkv", "0_synthetic.mkv"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(videos / name, tmp_path / "in")
    results = score(tmp_path / "in")
    assert results.exit_code == 1
    assert results.records[0]["value"] is None
    assert results.records[0]["reason"] == (
        "needs at least 2 generated videos with clips; there is 1"
    )


def test_a_video_with_fewer_frames_than_a_scan_has_counted(score, tmp_path, monkeypatch):
    """Which frames fill a short clip depends on how many there are."""
    for seed in range(2):
        write_clip(tmp_path / "in" / f"{seed}.mkv", moving_pattern(seed, 6))
        write_clip(tmp_path / "in" / f"{seed}_synthetic.mkv", moving_pattern(seed + 10, 6))
    looped = {"options": {"fvd": {"short": "loop"}}}
    expected = score(tmp_path / "in", **looped)
    scanned = look.probe

    def counts_too_many(path: Path) -> VideoFacts:
        facts = scanned(path)
        return replace(facts, frames=facts.frames + 5)

    monkeypatch.setattr(look, "probe", counts_too_many)
    found = score(tmp_path / "in", tmp_path / "other", **looped)
    assert found.value("fvd") == expected.value("fvd")
    assert found.records[0]["videos"]["padded_frames"] == 2 * 3
