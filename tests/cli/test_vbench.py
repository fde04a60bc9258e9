"""VBench's seven dimensions that need no prompt, through the whole tool.

Checkpoints lie under their published names, with the weights of VBench's goldens. Such weights do
not know what moves or what is beautiful: that a frozen clip is smooth and does not move, that
shuffled frames are less smooth, and that a better picture is rated higher cannot be shown here.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigve_cli import evaluate
from aigve_cli.api import Results
from aigve_cli.main import main
from aigve_cli.registry import registry
from aigve_cli.video.decode import VideoReader
from aigve_cli.weights import network_card
from tests.cli.finished import Finished
from tests.conftest import moving_pattern, noisy, process_environment, write_clip
from tests.networks.vbench_checkpoints import NETWORKS, write_vbench_checkpoint
from tests.networks.vbench_weights import GOLDENS, golden

DIMENSIONS = (
    "vbench-aesthetic-quality",
    "vbench-background-consistency",
    "vbench-dynamic-degree",
    "vbench-imaging-quality",
    "vbench-motion-smoothness",
    "vbench-subject-consistency",
    "vbench-temporal-flickering",
)
AESTHETIC, BACKGROUND, DEGREE, IMAGING, SMOOTHNESS, SUBJECT, FLICKERING = DIMENSIONS
MAGNITUDE = "vbench-flow-magnitude"
COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()"]
# Of scores: other orders of sums; 2e-7 were seen.
SCORE = 2e-6
# Of AMT's: its frames are cut to whole numbers, and some fall to the other side.
CUT = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoint of each network, all in one folder."""
    folder = tmp_path_factory.mktemp("vbench")
    return {name: write_vbench_checkpoint(folder, name) for name in NETWORKS}


def custom(files: Mapping[str, Path]) -> dict[str, Path]:
    """Those whose published digest ours do not have: they are named outright."""
    return {n: path for n, path in files.items() if network_card(n).entry().sha256 != "unknown"}


def arguments(files: Mapping[str, Path]) -> list[str]:
    """Where the weights are."""
    folder = files["amt-s"].parent
    return [f"--weights-dir={folder}", *(f"--model={n}={p}" for n, p in custom(files).items())]


@pytest.fixture
def score(files: Mapping[str, Path], tmp_path: Path) -> Callable[..., Results]:
    """Score clips, by name, in this process."""

    def score(
        clips: Mapping[str, Any], metrics: str, *, fps: float = 8.0, **options: Any
    ) -> Results:
        folder = tmp_path / f"clips {len(list(tmp_path.iterdir()))}"
        for name, frames in clips.items():
            write_clip(folder / f"{name}.mkv", list(frames), fps=fps)
        return evaluate(
            folder,
            metrics=metrics,
            device="cpu",
            offline=True,
            weights_dir=files["amt-s"].parent,
            models=custom(files),
            output_dir=folder / "scores",
            **options,
        )

    return score


def of_videos(results: Results, metric: str, value: str = "") -> dict[str, float]:
    """A value of each video, by its clip's name."""
    return {
        video["sample"].removesuffix(".mkv"): video["scores"][metric]["values"][value or metric]
        for video in results.document["videos"]
    }


def frames_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key[7:]: value for key, value in arrays.items() if key.startswith("frames_")}


# --- goldens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "name", "tolerance"),
    [
        (SUBJECT, "subject_consistency_vitb16", SCORE),
        (BACKGROUND, "background_consistency_vitb32", SCORE),
        (AESTHETIC, "aesthetic_quality_vitl14", SCORE),
        (SMOOTHNESS, "motion_smoothness_amts", CUT),
        (FLICKERING, "temporal_flickering_synth", 0),
    ],
)
def test_scores_are_vbenchs(score, metric, name, tolerance):
    arrays = golden(name)
    found = of_videos(score(frames_of(arrays), metric), metric)
    expected = {clip: float(arrays[f"score_{clip}"]) for clip in frames_of(arrays)}
    assert found == pytest.approx(expected, abs=tolerance, rel=0)


def test_imaging_quality_is_a_hundredth_of_vbenchs_per_video(score):
    arrays = golden("imaging_quality_musiq")
    results = score(frames_of(arrays), IMAGING)
    for clip, value in of_videos(results, IMAGING).items():
        assert value == pytest.approx(float(arrays[f"dimension_score_{clip}_longer"]), abs=SCORE)
        assert 100 * value == pytest.approx(float(arrays[f"video_score_{clip}_longer"]), abs=1e-4)


@pytest.mark.parametrize(("clip", "fps"), [("a", 8.0), ("b", 24.0)])
def test_motion_of_each_pair_is_vbenchs(score, clip, fps):
    arrays = golden("dynamic_degree_raft")
    results = score({clip: arrays[f"frames_{clip}"]}, DEGREE, fps=fps)
    (video,) = results.document["videos"]
    found = video["scores"][DEGREE]
    assert found["curve"]["pair"] == pytest.approx(arrays[f"pair_scores_{clip}"].tolist(), rel=1e-5)
    assert found["details"]["threshold in pixels"] == arrays[f"thres_{clip}"]
    assert found["details"]["moving pairs needed"] == arrays[f"count_num_{clip}"]
    assert found["values"][DEGREE] == float(arrays[f"score_{clip}"])
    assert found["values"][MAGNITUDE] == pytest.approx(arrays[f"pair_scores_{clip}"].mean())
    early = score({clip: arrays[f"frames_{clip}"]}, DEGREE, fps=fps, options=EARLY, batch_size=1)
    assert of_videos(early, DEGREE) == of_videos(results, DEGREE)
    needed = int(arrays[f"count_num_{clip}"])
    assert early.document["counts"]["looked"]["raft-large"] == needed


EARLY = {DEGREE: {"magnitude": False}}
REAL: dict[str, Any] = json.loads((GOLDENS / "temporal_flickering_real.json").read_text())


@pytest.mark.parametrize("name", sorted(REAL))
def test_flickering_of_real_clips_to_the_last_bit(media, name, tmp_path):
    path, expected = media / name, REAL[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["file_sha256"]
    reader = VideoReader(path)
    digest = hashlib.sha256()
    for frame in reader:
        digest.update(np.ascontiguousarray(frame))
    assert digest.hexdigest() == expected["ffmpeg_frames_sha256"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / path.name).symlink_to(path)
    results = evaluate(tmp_path / "in", metrics=FLICKERING, device="cpu", output_dir=tmp_path)
    assert results.value(FLICKERING) == expected["score"]
    assert results.document["counts"]["decodes"] == 1


# --- real clips, as the issue has it ----------------------------------------------------------


@pytest.fixture(scope="module")
def lavie(
    media: Path, files: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """Two clips, three frames of each: the networks have their real sizes."""
    folder = tmp_path_factory.mktemp("lavie")
    for path in sorted((media / "lavie").glob("*.mp4"))[:2]:
        (folder / "videos").mkdir(exist_ok=True)
        (folder / "videos" / path.name).symlink_to(path)
    return process(
        folder / "scores",
        f"--input-dir={folder / 'videos'}",
        "--metrics=vbench",
        "--max-len=3",
        "--format=json",
        *arguments(files),
    )


def process(out: Path, *more: object, env: Mapping[str, str] | None = None) -> Finished:
    """`aigve compute` as a process of its own, without the network."""
    done = subprocess.run(
        [*COMMAND, "compute", "--use-cpu", "--output-dir", str(out), *map(str, more)],
        env=process_environment({"AIGVE_OFFLINE": "1", **(env or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Finished(done.returncode, done.stdout, done.stderr, out)


def test_real_clips_have_seven_dimensions_from_one_decode(lavie):
    assert lavie.code == 0, lavie.stderr
    records = {record["value_name"]: record for record in json.loads(lavie.stdout)}
    assert set(records) == {*DIMENSIONS, MAGNITUDE}
    assert all(record["value"] is not None for record in records.values())
    assert all(record["videos"]["videos"] == 2 for record in records.values())
    counts = lavie.document["counts"]
    assert (counts["decodes"], counts["frames"], counts["passes"]) == (2, 6, 1)


def test_each_network_looks_at_each_frame_once(lavie):
    assert lavie.document["counts"]["looked"] == {
        "dino-vit-b-16": 6,
        "clip-vit-b-32": 6,
        "clip-vit-l-14": 6,
        "musiq": 6,
        "amt-s": 2,
        "raft-large": 4,
        "frame-difference": 4,
    }


def test_every_number_says_what_it_deviates_in_and_what_its_weights_may_be_used_for(lavie):
    for record in lavie.document["results"]:
        assert record["deviations"]
    assert "CC-BY-NC" in json.dumps(lavie.record(SMOOTHNESS))


# --- sense ------------------------------------------------------------------------------------


def test_what_is_worse_scores_lower_and_a_frozen_clip_best(score):
    moving = moving_pattern(3, 6, height=96, width=128)
    brighter = [np.clip(frame.astype(int) + 12, 0, 255).astype(np.uint8) for frame in moving]
    clips = {
        "moving": moving,
        "frozen": moving[:1] * 6,
        "flicker": [(moving, brighter)[index % 2][index] for index in range(6)],
        "noise": noisy(moving, 1),
        "shuffled": [moving[index] for index in (0, 5, 2, 4, 1, 3)],
    }
    results = score(clips, f"{SUBJECT},{FLICKERING}")
    flickering, subject = (of_videos(results, metric) for metric in (FLICKERING, SUBJECT))
    assert flickering["frozen"] == 1
    assert subject["frozen"] == pytest.approx(1, abs=1e-9)
    assert subject["moving"] < 1 - 1e-4
    for worse in ("flicker", "noise", "shuffled"):
        assert flickering[worse] < flickering["moving"] < 1
    for worse in ("noise", "shuffled"):
        assert subject[worse] < subject["moving"]


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
    results = score({"one": frame}, f"{FLICKERING},{SUBJECT},{DEGREE}", options=FIXED)
    (video,) = results.document["videos"]
    values = {name: said["values"][name] for name, said in video["scores"].items()}
    assert values == {FLICKERING: 1, SUBJECT: 1, DEGREE: 0}
    assert all(said["notes"] for said in video["scores"].values())


FIXED = {"vbench": {"mode": "fixed"}}


def test_repaired_arithmetic_is_another_number_under_its_own_key(score):
    clips = {"a": moving_pattern(4, 3, height=131, width=150)}
    metrics = f"{BACKGROUND},{SMOOTHNESS},{DEGREE}"
    parity, fixed = score(clips, metrics), score(clips, metrics, options=FIXED)
    for name in (BACKGROUND, SMOOTHNESS, MAGNITUDE):
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
        write_clip(tmp_path / "in" / f"{seed}.mkv", moving_pattern(seed, 5, height=128, width=136))
    command = (
        f"--input-dir={tmp_path / 'in'}",
        f"--metrics={FLICKERING},{IMAGING},{DEGREE},{SMOOTHNESS}",
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


def test_every_dimension_is_in_the_group():
    assert set(DIMENSIONS) <= set(registry().groups["vbench"])
