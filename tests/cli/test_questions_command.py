"""`aigve questions`: from prompts to a file that people mend and `compute` takes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.main import main
from tests.cli.finished import Finished
from tests.cli.scripted_judge import ScriptedJudge
from tests.conftest import moving_pattern, write_clip
from tests.judges.scripted_endpoint import Endpoint, Told, refused, scripted_endpoint

PROMPTS = ("a red ball", 'a "quoted" | dog\nand a cat')
NOBODY = "http://127.0.0.1:9/v1"
TWO_EACH = {"tifa": 2 * 4, "dsg": 2 * 3}
"""Requests for both prompts: TIFA's questions and three checks, DSG's three steps."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with scripted_endpoint(ScriptedJudge(PROMPTS, ()).answer) as found:
        yield found


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"a.mkv": PROMPTS[0], "b.mkv": PROMPTS[1], "c.mkv": PROMPTS[0]}))
    return path


@pytest.fixture
def questions(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    def questions(url: str, *arguments: object) -> Finished:
        capfd.readouterr()
        cache = ["--judge-cache", tmp_path / "answers"]
        judge = ["--judge-text", "openai:scripted", "--judge-text-url", url, *cache]
        code = main(["questions", *map(str, (*judge, *arguments))])
        stdout, stderr = capfd.readouterr()
        assert "Traceback" not in stderr, stderr
        return Finished(code, stdout, stderr, tmp_path)

    return questions


@pytest.mark.parametrize("metric", ["tifa", "dsg"])
def test_the_file_holds_each_prompt_once(
    questions: Any, endpoint: Endpoint, prompt_file: Path, tmp_path: Path, metric: str
) -> None:
    out = tmp_path / "questions.json"
    given = ["--metric", metric, "--prompts", prompt_file, "-o", out]
    done = questions(endpoint.url, *given)
    assert (done.code, done.stdout) == (0, f"{out}\n"), done.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["metric"] == metric
    assert document["judge"]["model"] == "scripted"
    assert [each["caption"] for each in document["sets"]] == list(PROMPTS)
    assert all(each["questions"] for each in document["sets"])
    assert endpoint.count == TWO_EACH[metric]


def test_what_people_mended_is_kept_and_only_the_rest_is_asked(
    questions: Any, endpoint: Endpoint, prompt_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "questions.json"
    first = questions(endpoint.url, "--metric", "dsg", "--prompt", PROMPTS[0], "-o", out)
    assert first.code == 0, first.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    document["sets"][0]["questions"][0]["question"] = "Is thing 1 really red?"
    out.write_text(json.dumps(document), encoding="utf-8")
    again = questions(endpoint.url, "--metric", "dsg", "--prompts", prompt_file, "-o", out)
    assert again.code == 0, again.stderr
    assert f"1 of 2 prompts is in {out} already, kept as it is." in again.stderr
    sets = json.loads(out.read_text(encoding="utf-8"))["sets"]
    assert [each["caption"] for each in sets] == list(PROMPTS)
    assert sets[0]["questions"] == document["sets"][0]["questions"]
    assert endpoint.count == TWO_EACH["dsg"]
    # All of them are there now: nobody is asked, not even who cannot be reached.
    third = questions(
        "http://127.0.0.1:9/v1", "--metric", "dsg", "--prompts", prompt_file, "-o", out
    )
    assert third.code == 0, third.stderr
    assert f"2 of 2 prompts are in {out} already, kept as they are." in third.stderr


def test_of_what_the_file_has_only_the_asked_for_is_counted(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    out = tmp_path / "q.json"
    for n, prompt in enumerate(PROMPTS):
        done = questions(endpoint.url, "--metric", "dsg", "--prompt", prompt, "-o", out)
        assert done.code == 0, done.stderr
        assert " already" not in done.stderr
        assert (f"What {out} has about other prompts is kept" in done.stderr) is (n == 1)
        assert "1 prompt, about 3 requests" in done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "prompt\na red ball\n"),
        ("p.json", '["a red ball", "a red ball"]'),
        ("p.jsonl", '{"prompt": "a red ball"}\n'),
    ],
)
def test_prompts_need_no_videos(
    questions: Any, endpoint: Endpoint, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    out = tmp_path / "q.json"
    done = questions(endpoint.url, "--metric", "dsg", "--prompts", tmp_path / name, "-o", out)
    assert done.code == 0, done.stderr
    (kept,) = json.loads(out.read_text(encoding="utf-8"))["sets"]
    assert kept["caption"] == "a red ball"


def test_half_a_character_costs_one_prompt(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "p.json", tmp_path / "q.json"
    prompts.write_text(json.dumps(["a cat \ud83d", PROMPTS[0]]), encoding="ascii")
    note = "1 prompt is not valid Unicode (half a character) and left out, such as 'a cat \ufffd'."
    done = questions(endpoint.url, "--metric", "dsg", "--prompts", prompts, "-o", out)
    assert done.code == 0, done.stderr
    assert note in done.stderr
    assert [s["caption"] for s in json.loads(out.read_text("utf-8"))["sets"]] == [PROMPTS[0]]
    prompts.write_text(json.dumps(["a cat \ud83d"]), encoding="ascii")
    done = questions(endpoint.url, "--metric", "dsg", "--prompts", prompts, "-o", tmp_path / "2")
    assert done.code == 2
    assert note in " ".join(done.message.split())


def test_where_nothing_can_be_written_nobody_is_asked(
    questions: Any, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    given = ["--metric", "dsg", "--prompt", PROMPTS[0]]
    for out, code, words in (
        ("-", 2, "--output - is no file"),
        (tmp_path, 2, "is a folder"),
        (tmp_path / "pipe", 2, "is no file"),
        (tmp_path / "file" / "q.json", 4, "Cannot write"),
        (tmp_path / "no" / ("q" * 300), 4, "Cannot write"),
    ):
        for more in ([], ["--dry-run"]):
            done = questions(endpoint.url, *given, "-o", out, *more)
            assert (done.code, done.stdout) == (code, ""), (out, done.stderr)
            assert words in done.message
    locked = tmp_path / "locked"
    locked.mkdir()
    # Whoever runs this may be allowed to write everywhere.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, *mode: path != locked and access(path, *mode))
    for out in (locked / "q.json", locked / "new" / "q.json"):
        done = questions(endpoint.url, *given, "-o", out)
        assert done.code == 4
        assert f"'{locked}' cannot be written to" in done.message
    assert endpoint.asked == []


def test_folders_of_the_file_are_made_once_there_is_something_to_write(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder" / "q.json"
    given = ["--metric", "dsg", "--prompt", PROMPTS[0], "-o", out]
    assert questions(endpoint.url, *given, "--dry-run").code == 0
    assert questions(NOBODY, *given).code == 4
    assert not (tmp_path / "new").exists()
    done = questions(endpoint.url, *given)
    assert (done.code, done.stdout) == (0, f"{out}\n"), done.stderr
    assert json.loads(out.read_text(encoding="utf-8"))["sets"]


def test_equal_reasons_are_said_once(questions: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps([f"prompt {n}" for n in range(58)]))
    given = ["--metric", "dsg", "--prompts", prompts]
    with scripted_endpoint("What is it?") as endpoint:
        done = questions(endpoint.url, *given, "-o", tmp_path / "q.json")
    assert done.code == 1
    (line,) = (line for line in done.stderr.splitlines() if "No questions about" in line)
    assert "No questions about 58 prompts, first: 'prompt 0': " in line
    assert "no complete JSON object" in line


def test_reasons_fill_ten_lines_at_most(questions: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "p.json"

    def answer(request: dict[str, Any]) -> Told:
        (n,) = re.findall(r'as a JSON string: "prompt (\d+)"', str(request["messages"]))
        id_ = 1 + int(n) // 2
        return f"{id_} | a\n{id_} | b"

    for number, lines in ((20, 10), (58, 10)):
        prompts.write_text(json.dumps([f"prompt {n}" for n in range(number)]))
        with scripted_endpoint(answer) as endpoint:
            given = ["--metric", "dsg", "--prompts", prompts, "-o", tmp_path / "q.json"]
            done = questions(endpoint.url, *given)
        assert done.code == 1
        said = [line for line in done.stderr.splitlines() if "No questions about" in line]
        assert len(said) == lines
        assert "about 2 prompts, first: 'prompt 0': " in said[0]
        assert ("about 40 more prompts, for other reasons" in said[-1]) is (number == 58)


def test_questions_that_nobody_checked_are_not_written(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    """What a file has is not asked for again: without their check they would be gone for good."""
    out = tmp_path / "q.json"
    given = ["--metric", "tifa", "--prompt", PROMPTS[0], "-o", out]
    done = questions(endpoint.url, *given, "--max-requests", 2)
    assert (done.code, done.stdout) == (1, ""), done.stderr
    assert "of its questions w" in done.stderr
    assert "not checked: not asked: --max-requests 2 is reached" in done.stderr
    assert not out.exists()
    done = questions(endpoint.url, *given)
    assert done.code == 0, done.stderr
    (kept,) = json.loads(out.read_text(encoding="utf-8"))["sets"]
    assert len(kept["questions"]) == 2
    assert endpoint.count == TWO_EACH["tifa"] // 2


def test_files_of_others_are_not_written_over(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    published = tmp_path / "published.json"
    entry = {"id": "1", "caption": "a dog", "question": "is there a dog?", "answer": "yes"}
    content = json.dumps([{**entry, "choices": ["yes", "no"], "element_type": "animal"}])
    published.write_text(content)
    done = questions(endpoint.url, "--metric", "tifa", "--prompt", PROMPTS[0], "-o", published)
    assert done.code == 2
    assert "`aigve questions` did not write it" in done.message
    assert published.read_text() == content

    ours = tmp_path / "ours.json"
    assert questions(endpoint.url, "--metric", "dsg", "--prompt", PROMPTS[0], "-o", ours).code == 0
    before = ours.read_bytes()
    other = ["--judge-text", "openai:another", "--metric", "dsg", "--prompt", PROMPTS[1]]
    done = questions(endpoint.url, *other, "-o", ours)
    assert done.code == 2
    assert "questions of another judge" in done.message
    done = questions(endpoint.url, "--metric", "tifa", "--prompt", PROMPTS[1], "-o", ours)
    assert done.code == 2
    assert "holds questions for dsg, not for tifa" in done.message
    assert ours.read_bytes() == before


def test_a_prompt_without_questions_costs_no_other(questions: Any, tmp_path: Path) -> None:
    judge = ScriptedJudge(PROMPTS, ())

    def answer(request: dict[str, Any]) -> Told:
        if "quoted" in json.dumps(request["messages"][-1]):
            return refused(400, "this prompt is not for us")
        return judge.answer(request)

    prompts = tmp_path / "prompts.txt"
    prompts.write_text('a red ball\na "quoted" one\n')
    out = tmp_path / "questions.json"
    with scripted_endpoint(answer) as endpoint:
        done = questions(endpoint.url, "--metric", "dsg", "--prompts", prompts, "-o", out)
        assert done.code == 3
        assert "No questions about 'a \"quoted\" one'" in done.stderr
        assert "this prompt is not for us" in done.stderr
        (kept,) = json.loads(out.read_text(encoding="utf-8"))["sets"]
        assert kept["caption"] == "a red ball"
        alone = tmp_path / "alone.json"
        done = questions(endpoint.url, "--metric", "dsg", "--prompt", 'a "quoted" one', "-o", alone)
        assert (done.code, done.stdout) == (1, "")
        assert not alone.exists()


def test_a_dry_run_asks_nothing(
    questions: Any, endpoint: Endpoint, prompt_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "questions.json"
    given = ["--metric", "dsg", "--prompts", prompt_file, "-o", out, "--dry-run"]
    done = questions(endpoint.url, *given)
    assert done.code == 0
    assert "2 prompts, about 6 requests to openai:scripted" in done.stderr
    assert endpoint.asked == []
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give one of --annotations, --prompts and --prompt"),
        (["--prompt", "a", "--annotations", "b.json"], "Give one of"),
        (["--annotations", "nowhere.json"], "nowhere.json"),
        (["--prompt", " "], "has no prompt"),
    ],
)
def test_prompts_come_from_one_place(
    questions: Any, endpoint: Endpoint, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = questions(endpoint.url, "--metric", "dsg", "-o", tmp_path / "q.json", *arguments)
    assert done.code == 2
    assert words in done.stderr


def test_without_a_judge_nobody_writes_questions(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["questions", "--metric", "dsg", "--prompt", "a", "-o", str(tmp_path / "q.json")])
    assert code == 2
    assert "There is no judge to write questions" in capfd.readouterr().err


def test_compute_asks_the_questions_of_the_file_and_no_text_judge(
    questions: Any,
    endpoint: Endpoint,
    prompt_file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "questions.json"
    assert questions(endpoint.url, "--metric", "dsg", "--prompts", prompt_file, "-o", out).code == 0
    videos = tmp_path / "videos"
    videos.mkdir()
    clips = [moving_pattern(seed, 8) for seed in range(2)]
    for name, frames in zip(("a.mkv", "b.mkv"), clips, strict=True):
        write_clip(videos / name, frames)
    judge = ScriptedJudge(PROMPTS, [frames[0] for frames in clips])
    given = ["--input-dir", videos, "--prompts", prompt_file, "--metrics", "dsg", "--use-cpu"]
    given += ["--set", f"dsg.questions={out}", "--output-dir", tmp_path / "out"]
    with scripted_endpoint(judge.answer) as shown:
        # The judge of texts cannot be reached, and need not be.
        given += ["--judge", "openai:scripted", "--judge-url", shown.url]
        given += ["--judge-text", "openai:nobody", "--judge-text-url", NOBODY]
        code = main(["compute", *map(str, given)])
    assert code == 0, capfd.readouterr().err
    assert set(judge.kinds) == {"dsg-answer"}
    record = Finished(code, "", "", tmp_path / "out").record("dsg")
    assert record["options"]["questions"] == str(out)
    # Clip 0: its first thing is not there, and two depend on it. Clip 1: the third is not.
    assert record["value"] == pytest.approx((0 + 2 / 3) / 2)


def test_a_prompt_that_the_file_does_not_have_has_a_reason(
    questions: Any, endpoint: Endpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "questions.json"
    assert questions(endpoint.url, "--metric", "dsg", "--prompt", PROMPTS[0], "-o", out).code == 0
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "a.mkv", moving_pattern(0, 8))
    given = ["--input-dir", videos, "--prompt", "another", "--metrics", "dsg", "--use-cpu"]
    given += ["--set", f"dsg.questions={out}", "--output-dir", tmp_path / "out"]
    given += ["--judge", "openai:scripted", "--judge-url", endpoint.url]
    assert main(["compute", *map(str, given)]) == 1
    reason = Finished(1, "", "", tmp_path / "out").record("dsg")["reason"]
    assert f"'{out}' has no questions about this prompt" in reason


def test_what_people_added_to_a_file_stays_in_it(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    out = tmp_path / "q.json"
    given = ["--metric", "dsg", "-o", out, "--prompt"]
    assert questions(endpoint.url, *given, PROMPTS[0]).code == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    document["sets"][0] |= {"reviewed_by": "us", "notes": ["mended"]}
    out.write_text(json.dumps(document), encoding="utf-8")
    assert questions(endpoint.url, *given, PROMPTS[1]).code == 0
    first = json.loads(out.read_text(encoding="utf-8"))["sets"][0]
    assert first == document["sets"][0]


def test_a_file_that_cannot_be_completed_is_partial(
    questions: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    out = tmp_path / "q.json"
    given = ["--metric", "dsg", "-o", out, "--prompt"]
    assert questions(endpoint.url, *given, PROMPTS[0]).code == 0
    done = questions(endpoint.url, *given, "a prompt that the script does not know")
    assert (done.code, done.stdout) == (3, f"{out}\n")
