"""VideoScore, VideoScore2, VideoPhy and VideoPhy-2 through the whole tool.

Models are tiny and lie in the layouts that are published. Their weights are random: that a better
video is rated better cannot be shown here. Two were taught what to answer, see ``taught.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import videophy, videoscore, videoscore2
from PIL import Image
from transformers import AutoImageProcessor

from aigve_cli.contract import VideoFacts, View
from aigve_cli.engine.preprocessing import SQUASHED, folder_to_view
from aigve_cli.main import main
from aigve_cli.metrics.videoscore2 import VIEW
from aigve_cli.video.decode import VideoReader
from aigve_cli.video.sampling import AtRate, Segments
from aigve_cli.video.views import frame_to_host_view, frames_to_view, split_view
from tests.cli.finished import Finished
from tests.conftest import moving_pattern, process_environment, write_clip
from tests.networks.owl_folders import write_owl
from tests.networks.score_folders import write_videoscore, write_videoscore2
from tests.networks.taught import Lesson, write_taught_owl, write_taught_videoscore2
from tests.networks.vision_goldens import on_pil

COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()"]
ASPECTS = (
    "visual-quality",
    "temporal-consistency",
    "dynamic-degree",
    "text-alignment",
    "factual-consistency",
)
SAME = 1e-5
"""Batches and whole videos are summed in another order: some 1e-6 of numbers around 1."""


def process(out: Path, *arguments: object, env: Mapping[str, str] | None = None) -> Finished:
    """`aigve compute` as a process of its own, without the network."""
    done = subprocess.run(
        [*COMMAND, "compute", "--use-cpu", "--output-dir", str(out), *map(str, arguments)],
        env=process_environment({"AIGVE_OFFLINE": "1", **(env or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Finished(done.returncode, done.stdout, done.stderr, out)


@pytest.fixture
def compute(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """The same command line within this process: transformers is imported once."""

    def compute(*arguments: object, out: Path = tmp_path / "out") -> Finished:
        capfd.readouterr()
        code = main(["compute", "--use-cpu", "--output-dir", str(out), *map(str, arguments)])
        stdout, stderr = capfd.readouterr()
        assert "Traceback" not in stderr, stderr
        return Finished(code, stdout, stderr, out)

    return compute


@pytest.fixture(autouse=True)
def _no_hub_and_no_novels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no hub"))
    # More than what was taught; a model that was not taught never comes to an end.
    monkeypatch.setattr(videoscore2, "MAX_TOKENS", 128)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untaught, by metric."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "videoscore": write_videoscore(folder / "videoscore"),
        "videophy": write_owl(folder / "videophy"),
    }


def sets(models: Mapping[str, Path]) -> list[str]:
    return [f"--set={metric}.model={folder}" for metric, folder in models.items()]


def scores(finished: Finished, metric: str) -> dict[str, dict[str, Any]]:
    """By video's name, what a metric says of it."""
    return {entry["sample"]: entry["scores"][metric] for entry in finished.document["videos"]}


def numbers(finished: Finished, name: str) -> list[float]:
    metric = name.partition("-")[0]
    found = scores(finished, metric)
    return [found[sample]["values"][name] for sample in sorted(found)]


# --- real clips, as the issue has it ----------------------------------------------------------


@pytest.fixture(scope="module")
def lavie(
    media: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    folder = media / "lavie"
    return process(
        tmp_path_factory.mktemp("lavie") / "scores",
        f"--annotations={folder / 'annotations.json'}",
        f"--video-dir={folder}",
        "--metrics=videoscore,videophy",
        "--format=json",
        *sets(models),
    )


def test_real_clips_are_scored_from_one_decode(lavie: Finished) -> None:
    assert lavie.code == 0, lavie.stderr
    records = {record["value_name"]: record for record in json.loads(lavie.stdout)}
    assert list(records) == [
        *(f"videoscore-{aspect}" for aspect in ASPECTS),
        "videophy-semantic",
        "videophy-physics",
    ]
    for record in records.values():
        low, high = record["interval95"]
        assert low <= record["value"] <= high
        assert record["standard_error"] > 0
        assert record["videos"]["videos"] == 11
        assert record["better"] == "higher"
    counts = lavie.document["counts"]
    assert (counts["decodes"], counts["passes"], counts["failed"]) == (11, 1, 0)
    assert set(counts["looked"].values()) == {11}


def test_every_number_says_whose_it_is(lavie: Finished, models: dict[str, Path]) -> None:
    for metric, licence, view in (
        ("videoscore-dynamic-degree", "Apache-2.0", "longer side at most 56, each at least 28"),
        ("videophy-physics", "none stated", "resize 224x224 pil-bilinear; resize shorter side"),
    ):
        record = lavie.record(metric)
        assert record["licence"].startswith(licence)
        (network,) = record["networks"]
        assert len(network["sha256"]) == 64
        assert network["tag"] == str(models[record["metric"]])
        assert record["inputs"][0]["view"].startswith(view)
        assert record["precision"] == "fp32"
        assert record["deviations"]
        assert record["cite"]


def test_videoscore_of_a_real_clip_as_transformers_prepares_it(
    lavie: Finished, media: Path, models: dict[str, Path]
) -> None:
    entry = lavie.document["videos"][0]
    frames = decoded(media / "lavie" / entry["sample"])
    network = videoscore.load(models["videoscore"], models["videoscore"])
    processor = on_pil(AutoImageProcessor, models["videoscore"])
    pixels = processor([list(map(Image.fromarray, frames))], return_tensors="pt")["pixel_values"]
    text = videoscore.prompt_to_text(entry["prompt"], len(frames))
    with torch.inference_mode():
        rated = network.rate(pixels.transpose(1, 2), [text])[0]  # of [1, T, 3, h, w]
    values = entry["scores"]["videoscore"]["values"]
    assert [values[f"videoscore-{aspect}"] for aspect in ASPECTS] == pytest.approx(
        rated.tolist(), abs=SAME
    )


def test_videophy_of_a_real_clip_as_transformers_prepares_it(
    lavie: Finished, media: Path, models: dict[str, Path]
) -> None:
    entry = lavie.document["videos"][0]
    frames = decoded(media / "lavie" / entry["sample"])
    # 16 frames, of which 32 are taken: half of them twice, as the reference does.
    taken = [int(15 / 32 / 2) + round(15 / 32 * index) for index in range(32)]
    squashed = [
        Image.fromarray(frames[index]).resize((224, 224), Image.Resampling.BILINEAR)
        for index in taken
    ]
    processor = on_pil(AutoImageProcessor, models["videophy"])
    pixels = processor(squashed, return_tensors="pt")["pixel_values"]  # [32, 3, 28, 28]
    network = videophy.load(models["videophy"], models["videophy"])
    with torch.inference_mode():
        said = network.with_text(pixels.transpose(0, 1)[None], (entry["prompt"],))
    values = entry["scores"]["videophy"]["values"]
    assert values["videophy-semantic"] == pytest.approx(float(said["semantic"]), abs=SAME)
    assert values["videophy-physics"] == pytest.approx(float(said["physics"]), abs=SAME)


def decoded(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack(list(reader))


# --- what changes a score, and what does not --------------------------------------------------

PROMPTS = {
    "a.mkv": "a red ball",
    "b.mkv": "two cats on a green lawn look at the camera, and one of them runs away",
    "c.mkv": "snow",
}
LENGTHS = {"a.mkv": 6, "b.mkv": 6, "c.mkv": 9}


def write_videos(folder: Path, prompts: Mapping[str, str], clips: Mapping[str, Any]) -> Path:
    """Lossless videos, and their prompts in a file beside them."""
    for name, frames in clips.items():
        write_clip(folder / name, frames)
    rows = [{"video": name, "prompt": prompt} for name, prompt in prompts.items()]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def three_clips() -> dict[str, list[np.ndarray]]:
    return {name: moving_pattern(seed, LENGTHS[name]) for seed, name in enumerate(LENGTHS)}


def given(folder: Path) -> list[str]:
    return [f"--input-dir={folder}", f"--prompts={folder / 'prompts.jsonl'}"]


def test_prompts_change_semantic_adherence_and_videos_change_both(
    compute: Callable[..., Finished], models: dict[str, Path], tmp_path: Path
) -> None:
    metrics = ["--metrics=videoscore,videophy", *sets(models)]
    semantic, physics = "videophy-semantic", "videophy-physics"

    def run(name: str, prompts: Mapping[str, str], clips: Mapping[str, Any]) -> Finished:
        videos = write_videos(tmp_path / name, prompts, clips)
        done = compute(*given(videos), *metrics, out=tmp_path / f"{name}-scores")
        assert done.code == 0, done.stderr
        return done

    plain = run("plain", PROMPTS, three_clips())
    exchanged = dict(zip(PROMPTS, reversed(PROMPTS.values()), strict=True))
    other_prompts = run("prompts", exchanged, three_clips())
    assert numbers(other_prompts, physics) == numbers(plain, physics)
    # The middle one kept its prompt.
    same = np.equal(numbers(other_prompts, semantic), numbers(plain, semantic))
    assert same.tolist() == [False, True, False]
    backwards = run("backwards", PROMPTS, {n: f[::-1] for n, f in three_clips().items()})
    others = run("others", PROMPTS, {n: moving_pattern(9 + len(n), k) for n, k in LENGTHS.items()})
    for changed in (backwards, others):
        for name in (semantic, physics, "videoscore-dynamic-degree"):
            apart = np.subtract(numbers(changed, name), numbers(plain, name))
            assert (np.abs(apart) > 1e-4).all(), name


def test_batches_of_different_lengths_change_nothing(
    compute: Callable[..., Finished], models: dict[str, Path], tmp_path: Path
) -> None:
    """Prompts of other lengths in one batch, as on a GPU, or one by one."""
    videos = write_videos(tmp_path / "videos", PROMPTS, three_clips())
    arguments = [*given(videos), f"--metrics={','.join(models)}", *sets(models)]
    alone = compute(*arguments, out=tmp_path / "alone")
    together = compute(*arguments, "--batch-size=3", out=tmp_path / "together")
    for name in ("videoscore-dynamic-degree", "videophy-semantic", "videophy-physics"):
        np.testing.assert_allclose(numbers(together, name), numbers(alone, name), atol=SAME)


# --- what a model has written -----------------------------------------------------------------

RATED = {
    "a.mkv": ("5", "4"),
    "b.mkv": ("4", "3"),
    "c.mkv": ("2", "5"),
    "d.mkv": ("12", "1"),
    "e.mkv": ("No", "Yes"),
}
ANSWERS = {
    "a.mkv": "visual quality: 4; text-to-video alignment: 3, physical/common-sense consistency: 5",
    "b.mkv": "<think>visual quality: 1</think>\n(1) visual quality - clarity: 2\n"
    "(2) Text alignment: 1/5\n(3) Physical consistency: 4",
    "c.mkv": "visual quality: 3; all else is fine",
    "d.mkv": "I cannot say.",
    "e.mkv": "<think>visual quality: 5",
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Videos, and models that were taught what to say of them."""
    folder = tmp_path_factory.mktemp("taught")
    clips = {name: moving_pattern(seed, 12) for seed, name in enumerate(RATED)}
    prompts = {name: f"a ball, number {index}" for index, name in enumerate(RATED)}
    videos = write_videos(folder / "videos", prompts, clips)
    owl_view = folder_to_view(write_owl(folder / "plain"), SQUASHED)
    owl = write_taught_owl(
        folder / "videophy2",
        [
            Lesson(
                seen(clips[name], owl_view, Segments(32)),
                prompts[name],
                {"semantic": semantic, "physics": physics},
            )
            for name, (semantic, physics) in RATED.items()
        ],
    )
    qwen = write_taught_videoscore2(
        folder / "videoscore2",
        [
            Lesson(seen(clips[name], VIEW, AtRate(2.0)), prompts[name], {"answer": answer})
            for name, answer in ANSWERS.items()
        ],
        width=320,
    )
    return videos, {"videophy2": owl, "videoscore2": qwen}


def seen(frames: Sequence[np.ndarray], view: View, sampling: Segments | AtRate) -> torch.Tensor:
    """float32 [3, T, h, w]."""
    host, device = split_view(view)
    height, width = frames[0].shape[:2]
    (unit,) = sampling.units(VideoFacts(width, height, 10.0, len(frames)))
    pictures = [frame_to_host_view(frames[index], host) for index in unit]
    return torch.stack(
        [frames_to_view(torch.from_numpy(picture)[None], device)[0] for picture in pictures], dim=1
    )


@pytest.fixture(scope="module")
def written(
    taught: tuple[Path, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    videos, folders = taught
    out = tmp_path_factory.mktemp("written") / "scores"
    metrics = f"--metrics={','.join(folders)}"
    return process(out, *given(videos), metrics, *sets(folders), "--format=json")


def test_ratings_are_read_and_what_cannot_be_read_is_missing(written: Finished) -> None:
    # Some videos have no score: partial.
    assert written.code == 3
    values = {record["value_name"]: record["value"] for record in json.loads(written.stdout)}
    expected = {
        "videophy2-semantic": (5 + 4 + 2) / 3,
        "videophy2-physics": (4 + 3 + 5 + 1) / 4,
        # Of a; b and c are low in one, and so is d, whatever its other rating is.
        "videophy2-joint": 1 / 4,
        "videoscore2-visual-quality": (4 + 2 + 3) / 3,
        "videoscore2-text-alignment": (3 + 1) / 2,
        "videoscore2-physical-consistency": (5 + 4) / 2,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    for name in expected:
        if name != "videophy2-joint":
            # The models were taught to be sure: other digits have 1e-4 of what theirs has.
            assert values[f"{name}-expected"] == pytest.approx(expected[name], abs=2e-3)


def test_what_was_said_is_kept(written: Finished) -> None:
    phy, score = scores(written, "videophy2"), scores(written, "videoscore2")
    assert phy["a.mkv"]["details"]["semantic"] == {"text": "5", "finish": "stop"}
    assert phy["a.mkv"]["details"]["frames shown"]["answers"] == [
        Segments(32).units(VideoFacts(64, 48, 10.0, 12))[0].tolist()
    ]
    assert {name: said["details"]["text"] for name, said in score.items()} == ANSWERS
    half = phy["d.mkv"]
    assert half["values"].keys() == {
        "videophy2-physics",
        "videophy2-physics-expected",
        "videophy2-joint",
    }
    assert half["notes"] == ["no rating of semantic: 12 is not from 1 to 5: '12'"]
    assert half["reason"] is None
    lost = phy["e.mkv"]
    assert lost["values"] == {}
    assert "no rating of semantic: it holds no whole number: 'No'" in lost["reason"]
    assert "no rating of physics: it holds no whole number: 'Yes'" in lost["reason"]
    assert score["c.mkv"]["details"]["unreadable"].keys() == {
        "text-alignment",
        "physical-consistency",
    }
    assert "it is not named" in score["d.mkv"]["reason"]
    assert "it is not named" in score["e.mkv"]["reason"]


def test_a_run_says_of_how_many_videos_each_number_is(written: Finished) -> None:
    notes = written.record("videophy2-semantic")["notes"]
    assert "videophy2-semantic: of 3 of 4 scored videos" in notes
    notes = written.record("videoscore2-text-alignment")["notes"]
    assert "videoscore2-text-alignment: of 2 of 3 scored videos" in notes
    assert "videophy2: 1 video not used, first: e.mkv: no rating of semantic" in written.stderr


def test_answers_in_batches_are_those_of_single_videos(
    compute: Callable[..., Finished], taught: tuple[Path, dict[str, Path]], written: Finished
) -> None:
    videos, folders = taught
    metrics = f"--metrics={','.join(folders)}"
    together = compute(*given(videos), metrics, *sets(folders), "--batch-size=3")
    for metric in folders:
        ours, theirs = scores(together, metric), scores(written, metric)
        assert {n: s["details"] for n, s in ours.items()} == {
            n: s["details"] for n, s in theirs.items()
        }


def test_answers_that_are_drawn_are_the_same_with_the_same_seed(
    compute: Callable[..., Finished], taught: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    videos, folders = taught
    one = tmp_path / "one" / "d.mkv"
    one.parent.mkdir()
    one.write_bytes((videos / "d.mkv").read_bytes())
    model = f"--set=videoscore2.model={folders['videoscore2']}"

    def answer(name: str, *more: str) -> str:
        drawn = [f"--set=videoscore2.{option}" for option in ("temperature=2", *more)]
        videos = [f"--input-dir={one.parent}", "--prompt=a ball, number 3"]
        done = compute(*videos, "--metrics=videoscore2", model, *drawn, out=tmp_path / name)
        text: str = scores(done, "videoscore2")["d.mkv"]["details"]["text"]
        return text

    once = answer("once", "seed=3")
    assert answer("twice", "seed=3") == once
    assert answer("other", "seed=4") != once
    assert once != ANSWERS["d.mkv"]


# --- what goes wrong --------------------------------------------------------------------------


def test_one_video_or_prompt_that_cannot_be_taken_costs_no_other(
    compute: Callable[..., Finished], models: dict[str, Path], tmp_path: Path
) -> None:
    qwen = {"videoscore2": write_videoscore2(tmp_path / "videoscore2")}
    prompts = {**PROMPTS, "d.mkv": "a video of an <image>", "e.mkv": "one frame"}
    clips = {**three_clips(), "d.mkv": moving_pattern(3, 6), "e.mkv": moving_pattern(4, 1)}
    videos = write_videos(tmp_path / "videos", prompts, clips)
    whole = (videos / "a.mkv").read_bytes()
    (videos / "a.mkv").write_bytes(whole[: len(whole) // 3])
    mine = {**models, **qwen}
    done = compute(*given(videos), f"--metrics={','.join(mine)}", *sets(mine))
    assert done.code == 3
    score, phy, score2 = (scores(done, metric) for metric in mine)
    for metric in (score, phy):
        assert {name for name, s in metric.items() if s["values"]} == {"b.mkv", "c.mkv", "e.mkv"}
    assert "<image>" in score["d.mkv"]["reason"]
    assert "<image>" in phy["d.mkv"]["reason"]
    assert "too short: 1 frames" in score2["e.mkv"]["reason"]


def test_without_weights_and_without_a_network(
    compute: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "videos" / "a.mkv", moving_pattern(0, 6))
    done = compute(f"--input-dir={tmp_path / 'videos'}", "--prompt=a ball", "--metrics=videophy")
    assert done.code == 4
    assert "The weights of videophy (videocon-physics) are missing" in done.message
    assert "videophysics/videocon_physics" in done.message
    assert "none stated (code MIT; made from LLaMA-7B)" in " ".join(done.message.split())
    assert "--set METRIC.model=FOLDER" in done.stderr


@pytest.mark.parametrize("metric", ["videoscore", "videoscore2", "videophy", "videophy2"])
def test_a_folder_of_another_kind_is_refused(
    compute: Callable[..., Finished], models: dict[str, Path], tmp_path: Path, metric: str
) -> None:
    write_clip(tmp_path / "videos" / "a.mkv", moving_pattern(0, 6))
    other = models["videophy" if metric.startswith("videoscore") else "videoscore"]
    videos = f"--input-dir={tmp_path / 'videos'}"
    done = compute(videos, "--prompt=a ball", f"--metrics={metric}", *sets({metric: other}))
    assert done.code == 4
    assert f"{other} cannot be loaded as {metric}: its model_type is " in done.message


def test_metrics_are_listed_with_the_licences_of_their_weights(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["list-metrics", "--category", "multi_faceted", "--format", "tsv"]) == 0
    head, *rows = (line.split("\t") for line in capfd.readouterr().out.splitlines())
    licences = {row[head.index("name")]: row[head.index("weights_licence")] for row in rows}
    assert licences["videoscore"] == "Apache-2.0"
    assert licences["videophy"] == "none stated (code MIT; made from LLaMA-7B)"


def test_answers_that_could_not_be_read_are_not_asked_for_again(
    compute: Callable[..., Finished],
    taught: tuple[Path, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The likeliest answer would be the same: a run that goes on has it already."""
    videos, folders = taught
    model = f"--set=videophy2.model={folders['videophy2']}"
    arguments = [*given(videos), "--metrics=videophy2", model]

    def interrupted(*_all: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aigve_cli.api.run_to_document", interrupted)
        assert main(["compute", "--use-cpu", f"--output-dir={tmp_path / 'out'}", *arguments]) == 130
    done = compute(*arguments)
    assert done.document["counts"]["decodes"] == 0
    assert "it holds no whole number" in scores(done, "videophy2")["e.mkv"]["reason"]


@pytest.mark.parametrize(
    ("model", "frames"), [("VideoScore", 16), ("VideoScore-v1.1", 48), ("alias", 16)]
)
def test_frames_are_those_that_a_model_was_trained_on_by_the_name_of_its_folder(
    compute: Callable[..., Finished], tmp_path: Path, model: str, frames: int
) -> None:
    for name in ("VideoScore", "VideoScore-v1.1"):
        write_videoscore(tmp_path / "models" / name)
    (tmp_path / "models" / "alias").symlink_to(tmp_path / "models" / "VideoScore")
    write_clip(tmp_path / "videos" / "a.mkv", moving_pattern(0, 6))
    done = compute(
        f"--input-dir={tmp_path / 'videos'}",
        "--prompt=a ball",
        "--metrics=videoscore",
        f"--set=videoscore.model={tmp_path / 'models' / model}",
    )
    (looked,) = done.record("videoscore-dynamic-degree")["inputs"]
    assert looked["sampling"].startswith(f"{frames} frames at most")
