"""How much of a video is looked at: limits, seconds, black frames, short clips."""

from __future__ import annotations

import pytest

from aigve_cli import evaluate
from tests.conftest import moving_pattern, write_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three clips of 20 frames; the first at 5 frames a second, the others at 10."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        write_clip(folder / f"{seed}.mkv", moving_pattern(seed), fps=5 if seed == 0 else 10)
    return folder


def frames_used(results):
    return results.records[0]["details"]["frames"]["generated"]


def run(videos, folder, **options):
    return evaluate(videos, metrics=["is-lite0"], device="cpu", output_dir=folder, **options)


def test_frames_of_a_limit(videos, tmp_path):
    results = run(videos, tmp_path, max_len=7)
    assert frames_used(results) == 21
    assert results.document["counts"]["frames"] == 21
    assert results.records[0]["extent"]["max_frames"] == 7
    assert [v["generated"]["whole"] for v in results.document["videos"]] == [False] * 3


def test_seconds_by_a_stated_rate(videos, tmp_path):
    assert frames_used(run(videos, tmp_path, max_seconds=0.5, fps=8)) == 12


def test_seconds_by_each_videos_own_rate(videos, tmp_path):
    results = run(videos, tmp_path, max_seconds=1, fps=None)
    assert frames_used(results) == 5 + 10 + 10
    # The packet scan knows the whole length although only a part was decoded.
    assert [v["generated"]["frames"] for v in results.document["videos"]] == [20, 20, 20]


def test_black_frames_are_counted_recorded_and_warned_of(videos, tmp_path):
    padded = run(videos, tmp_path / "padded", max_len=24, pad=True)
    assert frames_used(padded) == 72
    assert padded.records[0]["videos"] == {
        "videos": 3,
        "padded_videos": 3,
        "padded_frames": 12,
    }
    assert "black frames" in padded.records[0]["inputs"][0]["sampling"]
    assert any("--pad" in warning for warning in padded.document["warnings"])
    plain = run(videos, tmp_path / "plain", max_len=24)
    assert padded.value("is-lite0") != plain.value("is-lite0")


def test_a_clip_shorter_than_a_unit_has_its_reason_and_stops_nothing(videos, tmp_path):
    folder = tmp_path / "videos"
    for seed in range(3):
        for name in (f"{seed}.mkv", f"{seed}_synthetic.mkv"):
            write_clip(folder / name, moving_pattern(seed, 4 if name == "2_synthetic.mkv" else 18))
    results = evaluate(
        folder, metrics=["fvd-lite0", "is-lite0"], device="cpu", output_dir=tmp_path / "out"
    )
    assert results.exit_code == 3
    fvd, inception = results.records
    assert (fvd["videos"]["videos"], fvd["references"]["videos"]) == (2, 3)
    assert inception["videos"]["videos"] == 3
    (short,) = [v for v in results.document["videos"] if v["excluded"]]
    assert short["excluded"] == {
        "fvd-lite0": "generated: too short: 4 frames (16-frame clips of the first 64 frames)"
    }
