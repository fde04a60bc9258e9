"""Judges through the whole tool: real clips, a scripted endpoint on loopback, processes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aigve_cli.main import main
from aigve_cli.video.decode import VideoReader
from tests.cli.finished import Finished
from tests.cli.scripted_judge import ScriptedJudge, by_hand
from tests.conftest import moving_pattern, process_environment, write_clip
from tests.judges.scripted_endpoint import Endpoint, scripted_endpoint
from tests.networks.chat_models import write_qwen2_5_vl

COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()"]
CATEGORY = "vision_language_understanding"
VALUES = tuple(by_hand(0))
CLIPS = 11
# viescore 2; tifa 1 for the questions, 3 to check them, 2 answers; dsg 3 and 3 answers.
REQUESTS_A_CLIP = 2 + 6 + 6


class Lavie:
    """The clips, their prompts, and the first frame that a judge is shown of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.annotations = folder / "annotations.json"
        entries = json.loads(self.annotations.read_text())["data_list"]
        self.names = [entry["video_path_pd"] for entry in entries]
        self.prompts = [entry["prompt_gt"] for entry in entries]
        self.first_frames = [self._first(folder / name) for name in self.names]

    @staticmethod
    def _first(path: Path) -> np.ndarray:
        with VideoReader(path) as reader:
            frames = list(reader)
        # The middle of the first of eight equal parts.
        frame = frames[len(frames) // 16]
        width = 512
        height = round(frame.shape[0] * width / frame.shape[1])
        if frame.shape[1] <= width:
            return frame
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def lavie(media: Path) -> Lavie:
    return Lavie(media / "lavie")


def arguments(endpoint: Endpoint, lavie: Lavie, cache: Path) -> list[str]:
    return [
        *("--annotations", str(lavie.annotations), "--video-dir", str(lavie.folder)),
        *("--categories", CATEGORY, "--judge", "openai:scripted", "--judge-url", endpoint.url),
        *("--judge-cache", str(cache), "--use-cpu"),
    ]


def process(out: Path, *more: object, env: Mapping[str, str] | None = None) -> Finished:
    """`aigve compute` as a process of its own, without the network but for loopback."""
    done = subprocess.run(
        [*COMMAND, "compute", "--output-dir", str(out), *map(str, more)],
        env=process_environment({"AIGVE_OFFLINE": "1", "OMP_NUM_THREADS": "1", **(env or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Finished(done.returncode, done.stdout, done.stderr, out)


@pytest.fixture(scope="module")
def scored(
    lavie: Lavie, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Finished, ScriptedJudge, Endpoint, Path]]:
    """Every metric of the category over all clips, once for several tests."""
    folder = tmp_path_factory.mktemp("judged")
    judge = ScriptedJudge(lavie.prompts, lavie.first_frames)
    with scripted_endpoint(judge.answer) as endpoint:
        done = process(
            folder / "out",
            *arguments(endpoint, lavie, folder / "answers"),
            env={"AIGVE_JUDGE_KEY": "a-key-that-nobody-may-see"},
        )
        yield done, judge, endpoint, folder


def test_all_clips_get_the_values_worked_out_by_hand(
    scored: tuple[Finished, ScriptedJudge, Endpoint, Path], lavie: Lavie
) -> None:
    done, judge, endpoint, _ = scored
    assert done.code == 0, done.stderr
    videos = {entry["sample"]: entry["scores"] for entry in done.document["videos"]}
    assert len(videos) == CLIPS
    for i, name in enumerate(lavie.names):
        found: dict[str, float] = {}
        for score in videos[name].values():
            found |= score["values"]
        assert found == pytest.approx(by_hand(i)), name
    for value in VALUES:
        mean = sum(by_hand(i)[value] for i in range(CLIPS)) / CLIPS
        assert done.record(value)["value"] == pytest.approx(mean)
        assert done.record(value)["interval95"] is not None
    assert endpoint.count == CLIPS * REQUESTS_A_CLIP
    assert Counter(judge.kinds)["tifa-filter"] == 3 * CLIPS


def test_a_number_says_who_gave_it(
    scored: tuple[Finished, ScriptedJudge, Endpoint, Path],
) -> None:
    done, _, endpoint, _ = scored
    record = done.record("dsg")
    host = endpoint.url.removeprefix("http://").removesuffix("/v1")
    who = {"backend": "openai", "model": "scripted", "host": host}
    assert record["judge"]["shown"] == record["judge"]["text"] == who
    assert record["judge"]["prompt_versions"] == ["dsg-1"]
    # Choices and lists are held to a schema; yes and no are words, for their probabilities.
    answered = {how["asked"]: how["answers"] for how in record["judge"]["answered"]}
    assert {how["model"] for how in record["judge"]["answered"]} == {"scripted"}
    assert answered == {"schema": CLIPS * (REQUESTS_A_CLIP - 3), "text": CLIPS * 3}
    assert "one request" in record["judge"]["frames"]
    assert record["weights"] == "judge"
    (look,) = record["inputs"]
    assert "512" in look["view"]
    assert look["sampling"].startswith("8 frames, in the middle of equal parts")
    assert "judge scripted" in record["notes"]
    counts = done.document["counts"]["judge"]
    assert counts["requests"] == endpoint.count
    assert counts["cached"] == counts["unreadable"] == counts["asked_again"] == 0
    # Eight for each question that is shown: 2 of viescore, 2 of tifa, 3 of dsg.
    assert counts["images"] == 8 * 7 * CLIPS


def test_reasons_and_questions_are_kept_a_video(
    scored: tuple[Finished, ScriptedJudge, Endpoint, Path], lavie: Lavie
) -> None:
    done, *_ = scored
    scores = {entry["sample"]: entry["scores"] for entry in done.document["videos"]}
    of_third = scores[lavie.names[3]]
    assert of_third["viescore"]["details"]["semantic"]["reasoning"] == "prompt 3 | fine"
    assert of_third["viescore"]["details"]["quality"]["reasoning"] == 'so "so"'
    # 16 frames: the middles of eight parts.
    shown = {"answers": [[1, 3, 5, 7, 9, 11, 13, 15]]}
    assert of_third["viescore"]["details"]["frames shown"] == shown
    asked = of_third["dsg"]["details"]["questions"]
    assert [question["answered"] for question in asked] == ["no", "yes", "no"]
    likely = 1 / (1 + math.exp(-1.5))
    assert [question["probability_of_yes"] for question in asked] == pytest.approx(
        [1 - likely, likely, 1 - likely]
    )
    kinds = done.record("tifa")["details"]["kinds"]
    assert kinds["location"] == {"accuracy": 1.0, "questions": CLIPS}
    assert kinds["counting"] == {"accuracy": pytest.approx(6 / 11), "questions": CLIPS}


def test_a_second_run_asks_nothing(
    scored: tuple[Finished, ScriptedJudge, Endpoint, Path], lavie: Lavie
) -> None:
    done, _, endpoint, folder = scored
    before = endpoint.count
    again = process(folder / "again", *arguments(endpoint, lavie, folder / "answers"))
    assert again.code == 0, again.stderr
    assert endpoint.count == before
    assert again.document["counts"]["judge"]["requests"] == 0
    for value in VALUES:
        assert again.record(value)["value"] == done.record(value)["value"]


def test_who_only_asks_a_server_does_not_wait_for_torch(
    scored: tuple[Finished, ScriptedJudge, Endpoint, Path], lavie: Lavie, tmp_path: Path
) -> None:
    _, _, endpoint, folder = scored
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')\n")
    given = [part for part in arguments(endpoint, lavie, folder / "answers") if part != "--use-cpu"]
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    program += "from aigve_cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, "compute", *given, "--output-dir", tmp_path],
        env=process_environment({"AIGVE_OFFLINE": "1"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_key_is_sent_and_kept_nowhere(
    scored: tuple[Finished, ScriptedJudge, Endpoint, Path],
) -> None:
    done, _, endpoint, folder = scored
    key = "a-key-that-nobody-may-see"
    assert {headers["authorization"] for headers in endpoint.headers} == {f"Bearer {key}"}
    assert key not in done.stdout + done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > endpoint.count
    assert not [path for path in files if key.encode() in path.read_bytes()]


def test_a_killed_run_asks_nothing_twice(lavie: Lavie, tmp_path: Path) -> None:
    killed_at = 40
    judge = ScriptedJudge(lavie.prompts, lavie.first_frames)
    running: list[subprocess.Popen[str]] = []

    def answer(request: dict[str, Any]) -> Any:
        if len(endpoint.requests) == killed_at and running:
            running.pop().send_signal(signal.SIGKILL)
        return judge.answer(request)

    with scripted_endpoint(answer) as endpoint:
        # One request at a time: the one that is being answered is the only one that can be lost.
        command = [*arguments(endpoint, lavie, tmp_path / "answers"), "--judge-concurrency", "1"]
        child = subprocess.Popen(
            [*COMMAND, "compute", "--output-dir", str(tmp_path / "out"), *command],
            env=process_environment({"AIGVE_OFFLINE": "1"}),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        running.append(child)
        assert child.wait() == -signal.SIGKILL
        assert endpoint.count == killed_at
        done = process(tmp_path / "out", *command)
    assert done.code == 0, done.stderr
    asked = Counter(json.dumps(request, sort_keys=True) for request in endpoint.requests)
    assert len(asked) == CLIPS * REQUESTS_A_CLIP
    twice = [body for body, times in asked.items() if times > 1]
    assert twice == [json.dumps(endpoint.requests[killed_at - 1], sort_keys=True)]
    assert done.record("viescore-semantic")["value"] == pytest.approx(5)


def compute(out: Path, *more: object) -> int:
    """The same command within this process."""
    return main(["compute", "--output-dir", str(out), *map(str, more)])


def test_interrupted_by_the_keyboard_it_keeps_its_answers(lavie: Lavie, tmp_path: Path) -> None:
    judge = ScriptedJudge(lavie.prompts, lavie.first_frames)
    running: list[subprocess.Popen[str]] = []

    def answer(request: dict[str, Any]) -> Any:
        if len(endpoint.requests) == 20 and running:
            running.pop().send_signal(signal.SIGINT)
        return judge.answer(request)

    with scripted_endpoint(answer) as endpoint:
        command = arguments(endpoint, lavie, tmp_path / "answers")
        child = subprocess.Popen(
            [*COMMAND, "compute", "--output-dir", str(tmp_path / "out"), *command],
            env=process_environment({"AIGVE_OFFLINE": "1"}),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        running.append(child)
        _, stderr = child.communicate()
        assert child.returncode == 130
        assert "Traceback" not in stderr
        assert "the same command goes on" in stderr
    kept = [path for path in (tmp_path / "answers").rglob("*.json") if path.is_file()]
    assert len(kept) >= 10
    assert os.listdir(tmp_path / "out")


def test_without_a_judge_the_category_says_how_to_name_one(
    lavie: Lavie, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--annotations", lavie.annotations, "--video-dir", lavie.folder]
    assert compute(tmp_path / "out", *given, "--categories", CATEGORY) == 2
    stderr = capfd.readouterr().err
    assert "no judge" in stderr
    assert "--judge openai:MODEL" in stderr


QUESTION = {"id": 1, "question": "Is there a ball?", "parents": [], "tuple": "entity (ball)"}


def test_a_local_judge_is_asked_and_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Made-up weights say nothing that can be read: no number, and nothing is asked twice."""
    model = write_qwen2_5_vl(tmp_path / "tiny-vlm")
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "a.mkv", moving_pattern(1, 8))
    questions = tmp_path / "questions.json"
    sets = [{"caption": "a ball", "questions": [QUESTION]}]
    ours = {"aigve": "questions", "schema": 1, "metric": "dsg", "sets": sets}
    questions.write_text(json.dumps(ours))
    given = [
        *("--input-dir", videos, "--prompt", "a ball", "--metrics", "dsg", "--use-cpu"),
        *("--set", f"dsg.questions={questions}", "--set", "dsg.frames=2"),
        *("--judge", f"local:{model}", "--judge-cache", tmp_path / "answers"),
    ]
    for requests, out in ((3, tmp_path / "first"), (0, tmp_path / "second")):
        assert compute(out, *given) == 1, capfd.readouterr().err
        done = Finished(1, "", "", out)
        record = done.record("dsg")
        assert "1 of 1 questions have no answer" in record["reason"]
        assert "asked 3 times" in record["reason"]
        shown = record["judge"]["shown"]
        assert (shown["backend"], shown["model"]) == ("local", "tiny-vlm")
        (network,) = record["networks"]
        assert network["sha256"] == shown["sha256"]
        assert network["weights"] == "custom"
        counts = done.document["counts"]["judge"]
        assert (counts["requests"], counts["cached"]) == (requests, 3 - requests)
        assert counts["images"] == 2 * requests
        (score,) = (entry["scores"]["dsg"] for entry in done.document["videos"])
        assert score["details"]["questions"][0]["said"]


def test_a_judge_that_is_nowhere_is_said_before_anything_is_decoded(
    lavie: Lavie, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--annotations", lavie.annotations, "--video-dir", lavie.folder, "--metrics", "dsg"]
    given += ["--use-cpu", "--offline", "--judge"]
    for judge, code, words in (
        (f"local:{tmp_path / 'nowhere'}", 2, "There is no folder"),
        ("local:Qwen/Qwen2.5-VL-7B-Instruct", 4, "--judge local:FOLDER"),
        ("gpt-4o", 2, "expected openai:MODEL or local:ID_OR_FOLDER"),
        ("openai:", 2, "expected openai:MODEL"),
    ):
        assert compute(tmp_path / "out", *given, judge) == code
        assert words in capfd.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_local_judge_writes(tmp_path: Path, number: signal.Signals) -> None:
    """The model is in the middle of a word when the process ends: that is no crash."""
    model = write_qwen2_5_vl(tmp_path / "tiny-vlm")
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "a.mkv", moving_pattern(1, 8))
    # Said once the model writes: its answers have 256 tokens and more.
    program = (
        "import sys\n"
        "from aigve_models.chat_vlm import _Stop\n"
        "written = 0\n"
        "def stop(self, *given, call=_Stop.__call__, **more):\n"
        "    global written\n"
        "    written += 1\n"
        "    if written == 3: print('writing', flush=True)\n"
        "    return call(self, *given, **more)\n"
        "_Stop.__call__ = stop\n"
        "from aigve_cli.main import run\n"
        "run()\n"
    )
    given = ["--input-dir", videos, "--prompt", "a", "--metrics", "viescore", "--use-cpu"]
    given += ["--judge", f"local:{model}", "--judge-cache", tmp_path / "answers"]
    child = subprocess.Popen(
        [sys.executable, "-c", program, "compute", *map(str, given)],
        env=process_environment({"AIGVE_OFFLINE": "1", "OMP_NUM_THREADS": "1"}),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    child.send_signal(number)
    _, stderr = child.communicate()
    assert child.returncode == 130, stderr
    assert "the same command goes on" in stderr
    assert "terminate" not in stderr
    assert "Traceback" not in stderr
