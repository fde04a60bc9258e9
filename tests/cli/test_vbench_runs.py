"""VBench's dimensions on videos, weights and runs that are not as one wishes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aigve_cli.api import Results
from aigve_cli.main import main
from tests.cli.vbench_kit import (
    DEGREE,
    DIMENSIONS,
    FLICKERING,
    IMAGING,
    MAGNITUDE,
    SMOOTHNESS,
    arguments,
    process,
    scorer,
    write_files,
)
from tests.conftest import moving_pattern, write_clip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoints of the small networks."""
    return write_files(tmp_path_factory.mktemp("vbench"), ("musiq", "amt-s", "raft-large"))


@pytest.fixture
def score(files: Mapping[str, Path], tmp_path: Path) -> Callable[..., Results]:
    """Score clips, by name, in this process."""
    return scorer(files, tmp_path)


# --- videos that cannot have every score ------------------------------------------------------


def test_one_frame_and_small_pictures_stop_nothing(score):
    clips = {
        "one": moving_pattern(3, 1, height=128, width=136),
        "small": moving_pattern(1, 4, height=48, width=64),
    }
    metrics = f"{FLICKERING},{SMOOTHNESS},{DEGREE}"
    results = score(clips, metrics, options={"vbench": {"mode": "parity"}})
    assert results.exit_code == 3
    reasons = {
        (video["sample"], metric): said["reason"]
        for video in results.document["videos"]
        for metric, said in video["scores"].items()
        if said["reason"]
    }
    assert set(reasons) == {
        ("one.mkv", FLICKERING),
        ("one.mkv", SMOOTHNESS),
        ("small.mkv", SMOOTHNESS),
        ("small.mkv", DEGREE),
    }
    assert "too short: 1 frames" in reasons["one.mkv", FLICKERING]
    assert "raft-large" in reasons["small.mkv", DEGREE]


def test_one_frame_stands_still_where_quirks_are_repaired(score):
    frame = moving_pattern(2, 1, height=128, width=136)
    results = score({"one": frame}, f"{FLICKERING},{DEGREE}", options=FIXED)
    (video,) = results.document["videos"]
    values = {name: said["values"][name] for name, said in video["scores"].items()}
    assert values == {FLICKERING: 1, DEGREE: 0}
    assert all(said["notes"] for said in video["scores"].values())


FIXED = {"vbench": {"mode": "fixed"}}


def test_repaired_arithmetic_is_another_number_under_its_own_key(score):
    clips = {"a": moving_pattern(4, 3, height=131, width=150)}
    metrics = f"{SMOOTHNESS},{DEGREE}"
    parity, fixed = score(clips, metrics), score(clips, metrics, options=FIXED)
    for name in (SMOOTHNESS, MAGNITUDE):
        assert parity.value(name) != fixed.value(name)
        assert parity.value(name) == pytest.approx(fixed.value(name), rel=0.05)
    (record,) = (r for r in fixed.records if r["value_name"] == SMOOTHNESS)
    assert record["options"]["mode"] == "fixed"


# --- weights, and a run that was killed -------------------------------------------------------


def test_without_weights_the_rest_is_scored_and_each_says_what_to_do(
    tmp_path, capfd: pytest.CaptureFixture[str]
):
    write_clip(tmp_path / "in" / "a.mkv", moving_pattern(3, 3))
    code = main(
        [
            *("compute", "--input-dir", str(tmp_path / "in"), "--metrics", "vbench"),
            *("--output-dir", str(tmp_path), "--use-cpu", "--offline", "--format", "json"),
        ]
    )
    stdout, stderr = capfd.readouterr()
    assert code == 3
    records = {record["value_name"]: record for record in json.loads(stdout)}
    assert records[FLICKERING]["value"] is not None
    for metric in DIMENSIONS[:-1]:
        assert records[metric]["value"] is None
        assert f"{metric} has no number: " in stderr
    assert "https://huggingface.co/lalala125/AMT" in stderr


def test_a_killed_run_goes_on_where_it_stopped(files, tmp_path, counting_ffmpeg):
    for seed in range(4):
        write_clip(tmp_path / "in" / f"{seed}.mkv", moving_pattern(seed, 3, height=128, width=136))
    command = (
        f"--input-dir={tmp_path / 'in'}",
        f"--metrics={FLICKERING},{IMAGING},{DEGREE}",
        "--decode-workers=1",
        *arguments(files),
    )
    # Four calls to count frames, and then four that decode.
    killed = process(tmp_path / "out", *command, env={"KILL_AT": "8"})
    assert killed.code == -signal.SIGKILL
    lines = (tmp_path / "out" / "journal.jsonl").read_bytes().split(b"\n")[:-1]
    done = [line for line in lines if json.loads(line)["kind"] == "video"]
    assert 1 <= len(done) < 4
    again = process(tmp_path / "out", *command)
    assert again.code == 0, again.stderr
    assert counting_ffmpeg.decodes() == 4 - len(done)
    whole = process(tmp_path / "whole", *command)
    for ours, theirs in zip(again.document["results"], whole.document["results"], strict=True):
        assert (ours["value_name"], ours["value"]) == (theirs["value_name"], theirs["value"])
