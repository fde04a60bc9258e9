"""VBench's seven dimensions that need no prompt, through the whole tool.

Checkpoints lie under their published names, with the weights of VBench's goldens. Such weights do
not know what moves or what is beautiful: that a frozen clip is smooth and does not move, that
shuffled frames are less smooth, and that a better picture is rated higher cannot be shown here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigve_cli import evaluate
from aigve_cli.api import Results
from aigve_cli.registry import registry
from aigve_cli.video.decode import VideoReader
from tests.cli.finished import Finished
from tests.cli.vbench_kit import (
    AESTHETIC,
    BACKGROUND,
    DEGREE,
    DIMENSIONS,
    FLICKERING,
    IMAGING,
    MAGNITUDE,
    SMOOTHNESS,
    SUBJECT,
    arguments,
    frames_of,
    of_videos,
    process,
    scorer,
    write_files,
)
from tests.conftest import moving_pattern, noisy
from tests.networks.vbench_checkpoints import NETWORKS
from tests.networks.vbench_weights import GOLDENS, golden

# Of scores: other orders of sums; 2e-7 were seen.
SCORE = 2e-6
# Of AMT's: its frames are cut to whole numbers, and some fall to the other side.
CUT = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoint of each network."""
    return write_files(tmp_path_factory.mktemp("vbench"), NETWORKS)


@pytest.fixture
def score(files: Mapping[str, Path], tmp_path: Path) -> Callable[..., Results]:
    """Score clips, by name, in this process."""
    return scorer(files, tmp_path)


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
    early = score({clip: arrays[f"frames_{clip}"]}, DEGREE, fps=fps, options=EARLY)
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


def test_every_dimension_is_in_the_group():
    assert set(DIMENSIONS) <= set(registry().groups["vbench"])
