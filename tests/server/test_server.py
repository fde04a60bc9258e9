"""The server as a process: what README says of it, the same digits, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import requests
import torch
from server_kit import HeldDecoder, RunningServer, files_below, running_server

from aigve_cli.dataset.demo import make_samples
from aigve_cli.results.files import results_schema
from aigve_cli.server.fields import RunRequest, fields_to_command
from aigve_cli.video.ffmpeg import ffmpeg_binary
from tests.conftest import ROOT, process_environment, read_results, values_of

VIDEOS = "aigve-demo/videos"
METRICS = "fid-lite0,is-lite0"
FRAMES = "4"
"""Of each video: nothing here is about many."""
SECRET_PROMPT = "a very secret prompt about a red car"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server opens; beside it one that it does not."""
    folder = tmp_path_factory.mktemp("served") / "root"
    make_samples(folder / VIDEOS)
    outside = folder.parent / "outside"
    outside.mkdir()
    shutil.copy(folder / VIDEOS / "rain.mp4", outside / "theirs.mp4")
    return folder


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> HeldDecoder:
    return HeldDecoder.make(tmp_path_factory.mktemp("held") / "bin", ffmpeg_binary())


@pytest.fixture(scope="module")
def server(
    folder: Path, held: HeldDecoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    state = tmp_path_factory.mktemp("state")
    env = {
        "IMAGEIO_FFMPEG_EXE": str(held.binary),
        "AIGVE_OFFLINE": "1",
        "AIGVE_MAX_LEN": FRAMES,
        "AIGVE_CACHE_DIR": str(state / "cache"),
        "TMPDIR": str(tmp_path_factory.mktemp("tmp")),
    }
    with running_server(folder, state / "state", "--max-upload=0.003", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float | None]:
    """What the command line gives for the same folder."""
    out = tmp_path_factory.mktemp("cli")
    command_line(folder, "--input-dir", VIDEOS, "--metrics", METRICS, "--output-dir", out)
    return values_of(read_results(out))


def command_line(folder: Path, *words: object) -> None:
    run = (sys.executable, "-c", "from aigve_cli.main import run; run()", "compute")
    subprocess.run(
        [*run, *map(str, words)],
        cwd=folder,
        env=process_environment({"AIGVE_WEIGHTS": "embedded", "AIGVE_MAX_LEN": FRAMES}),
        check=True,
        capture_output=True,
    )


def jobs_folder(server: RunningServer) -> Path:
    words = server.process.args
    assert isinstance(words, (list, tuple))
    return Path(str(words[list(words).index("--state-dir") + 1])) / "jobs"


def values(answer: requests.Response) -> dict[str, float | None]:
    assert answer.status_code == 200, answer.text
    document = answer.json()["results"]
    jsonschema.validate(document, results_schema())
    return values_of(document)


# --- what README says -------------------------------------------------------------------------


def readme_curls() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## A server\n")[2].partition("\n## ")[0]
    block = "\n".join(re.findall(r"```console\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ curl ")]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_examples_of_readme(
    server: RunningServer, folder: Path, expected: dict[str, float | None]
) -> None:
    answers = []
    for line in readme_curls():
        command = line.replace("http://127.0.0.1:2200", server.url)
        done = subprocess.run(
            ["bash", "-c", f"{command} --silent --show-error --fail-with-body"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        answers.append(json.loads(done.stdout))
    health, metrics, run, upload, roles = answers
    assert {"status", "torch", "cuda_available", "versions", "queue", "script_exists"} <= set(
        health
    )
    assert {metric["category"] for metric in metrics} == {"distribution_based"}
    assert values_of(run["results"]) == expected
    assert values_of(upload["results"]) == expected
    dataset = roles["results"]["dataset"]
    assert (dataset["generated"], dataset["pairs"], roles["returncode"]) == (2, 2, 0)
    assert "8 with a prompt" in upload["stderr"]


def test_an_answer_is_what_the_command_line_says(
    server: RunningServer, expected: dict[str, float | None]
) -> None:
    answer = server.run(input_dir=VIDEOS, compute=True, metrics=METRICS)
    assert values(answer) == expected
    content = answer.json()
    assert content["cmd"] == ["aigve", "compute", f"--input-dir={VIDEOS}", f"--metrics={METRICS}"]
    assert content["returncode"] == 0
    assert content["stdout"].startswith("metric\tvalue\t")
    assert "8 paired" in content["stderr"]
    assert {artifact["name"] for artifact in content["artifacts"]} == {
        "results.json",
        "fid-lite0_results.json",
        "is-lite0_results.json",
    }
    assert content["job"]["state"] == "done"


def test_real_clips_by_folder_and_by_upload(
    server: RunningServer, folder: Path, media: Path, tmp_path: Path
) -> None:
    clips = sorted((media / "lavie").glob("*.mp4"))[:3]
    (folder / "lavie").mkdir(exist_ok=True)
    for clip in clips:
        shutil.copy(clip, folder / "lavie")
    words = ("--input-dir", "lavie", "--metrics", "is-lite0", "--max-len", 6)
    command_line(folder, *words, "--output-dir", tmp_path)
    theirs = values_of(read_results(tmp_path))
    sent = {"metrics": "is-lite0", "max_len": 6}
    assert values(server.run(input_dir="lavie", compute=True, **sent)) == theirs
    files = [("videos", (clip.name, clip.read_bytes())) for clip in clips]
    assert values(server.ask("POST", "/run_upload", files=files, data=sent)) == theirs


def test_annotations_and_staging_without_computing(server: RunningServer, folder: Path) -> None:
    answer = server.run(input_dir=VIDEOS, out_json="made/annotations.json")
    assert answer.status_code == 200, answer.text
    written = json.loads((folder / "made" / "annotations.json").read_text())
    assert len(written["data_list"]) == 8
    [artifact] = answer.json()["artifacts"]
    assert artifact == {"name": "annotations.json", "content": written}
    answer = server.run(input_dir=VIDEOS, stage_dataset="made/staged", link=True)
    assert answer.status_code == 200, answer.text
    assert (folder / "made" / "staged" / "evaluate" / "rain_synthetic.mp4").is_symlink()
    assert answer.json()["artifacts"][0]["name"] == "evaluate.json"
    assert answer.json()["results"] is None


def test_listing_and_help(server: RunningServer) -> None:
    listed = server.run(list_metrics=True).json()
    assert (listed["returncode"], listed["job"]) == (0, None)
    assert "fid-lite0" in listed["stdout"]
    assert "--max-seconds" in server.ask("GET", "/help").json()["stdout"]
    assert server.ask("GET", "/metrics", params={"category": "none"}).status_code == 422


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"compute": True}, 422, "input_dir"),
        ({}, 422, "input_dir"),
        ({"input_dir": "nowhere", "compute": True}, 422, "input_dir"),
        ({"input_dir": VIDEOS, "compute": True, "metrics": "fidd"}, 422, "metrics"),
        ({"input_dir": VIDEOS, "compute": True, "categories": "x"}, 422, "categories"),
        ({"input_dir": VIDEOS, "compute": True, "max_len": 0}, 422, "max_len"),
        ({"input_dir": VIDEOS, "compute": True, "extra_args": ["--bogus"]}, 422, "bogus"),
        ({"input_dir": VIDEOS, "compute": True, "bogus": 1}, 422, "bogus"),
        ({"input_dir": VIDEOS, "compute": True, "set": ["fid.x=1"]}, 422, ""),
        ({"input_dir": VIDEOS, "compute": True, "model": ["x=y"]}, 422, "model"),
        ({"input_dir": "/etc", "compute": True}, 403, "input_dir"),
        ({"input_dir": f"{VIDEOS}/../../../outside", "compute": True}, 403, "input_dir"),
        ({"input_dir": VIDEOS, "stage_dataset": "/tmp/x"}, 403, "stage_dataset"),
        ({"input_dir": VIDEOS, "compute": True, "output_dir": "../outside"}, 403, "output_dir"),
        (
            {"input_dir": VIDEOS, "compute": True, "extra_args": ["--out-json", "/tmp/x.json"]},
            403,
            "out_json",
        ),
    ],
)
def test_refusals_name_the_field(
    fields: dict[str, Any], status: int, field: str, server: RunningServer
) -> None:
    for ask in (server.run, server.add_job):
        answer = ask(**fields)
        assert answer.status_code == status, answer.text
        [problem] = answer.json()["detail"]
        assert problem["loc"] == (["body", field] if field else ["body"])


def test_what_only_the_run_finds_out(server: RunningServer, folder: Path) -> None:
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / "a.mp4").write_bytes(b"no video at all")
    answer = server.run(input_dir="broken", compute=True, metrics="is-lite0")
    assert (answer.status_code, answer.json()["returncode"]) == (500, 1)
    assert "a.mp4" in answer.json()["stderr"]
    for name in ("b.mp4", "c.mp4"):
        shutil.copy(folder / VIDEOS / "rain.mp4", folder / "broken" / name)
    asked = {"metrics": "is-lite0", "set": ["is-lite0.splits=2"]}
    answer = server.run(input_dir="broken", compute=True, **asked)
    assert (answer.status_code, answer.json()["returncode"]) == (200, 3)
    answer = server.run(input_dir="broken", compute=True, metrics="fvd", weights="standard")
    assert answer.status_code == 422  # no references, said before it is queued
    answer = server.run(input_dir=VIDEOS, compute=True, metrics="fid", weights="standard")
    assert (answer.status_code, answer.json()["returncode"]) == (503, 4)
    assert "weights" in answer.json()["stderr"]


# --- jobs -------------------------------------------------------------------------------------


def test_a_job_from_its_beginning_to_its_end(
    server: RunningServer, held: HeldDecoder, expected: dict[str, float | None]
) -> None:
    with held.holding():
        answer = server.add_job(
            input_dir=VIDEOS, compute=True, metrics=METRICS, prompt=SECRET_PROMPT
        )
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == job["links"]["self"] == f"/jobs/{job['id']}"
        server.until(job["id"], "running")
        later = server.add_job(input_dir=VIDEOS, compute=True, metrics="is-lite0").json()
        assert (later["state"], later["position"]) == ("queued", 0)
        early = server.ask("GET", job["links"]["results"])
        assert (early.status_code, early.json()["detail"]) == (409, "The job is running.")
    events = list(server.events(job["id"]))
    assert events[-1][0] == "state"
    assert events[-1][1]["state"] == "done"
    notes = [data["text"] for name, data in events if name == "note"]
    assert any("8 paired" in note for note in notes)
    assert [d["text"] for n, d in server.events(job["id"], last=1) if n == "note"] == notes[1:]
    progress = [data for name, data in events if name == "progress"]
    assert (progress[-1]["videos"], progress[-1]["total"]) == (16, 16)
    results = server.ask("GET", job["links"]["results"])
    assert values(results) == expected
    assert SECRET_PROMPT in " ".join(results.json()["cmd"])  # its own caller's
    server.until(later["id"], "done")
    assert server.ask("DELETE", job["links"]["self"]).json()["state"] == "done"
    assert server.ask("GET", job["links"]["self"]).status_code == 404
    assert not (jobs_folder(server) / job["id"]).exists()


def test_cancelled_while_it_runs_and_while_it_waits(
    server: RunningServer, held: HeldDecoder
) -> None:
    with held.holding():
        running = server.add_job(input_dir=VIDEOS, compute=True, metrics="is-lite0").json()["id"]
        waiting = server.add_job(input_dir=VIDEOS, compute=True, metrics="is-lite0").json()["id"]
        server.until(running, "running")
        assert server.ask("DELETE", f"/jobs/{waiting}").json()["state"] == "cancelled"
        server.ask("DELETE", f"/jobs/{running}")
        job = server.until(running, "cancelled")
    assert job["reason"] == "cancelled"
    # The worker was replaced, and works.
    answer = server.run(input_dir=VIDEOS, compute=True, metrics="is-lite0")
    assert answer.status_code == 200


def test_a_caller_that_leaves_ends_its_job(server: RunningServer, held: HeldDecoder) -> None:
    with held.holding():
        with pytest.raises(requests.exceptions.Timeout):
            requests.post(
                f"{server.url}/run",
                json={"input_dir": VIDEOS, "compute": True, "metrics": "is-lite0"},
                timeout=(5, 0.5),
            )
        behind = server.add_job(input_dir=VIDEOS, compute=True, metrics="is-lite0").json()["id"]
        # It gets its turn although nothing was decoded.
        server.until(behind, "running")
    server.until(behind, "done")


def test_ids_that_nobody_has(server: RunningServer) -> None:
    for path in ("/jobs/x", "/jobs/%2e%2e%2fjobs.sqlite", "/jobs/x/events"):
        assert server.ask("GET", path).status_code == 404
    assert server.ask("GET", "/jobs").status_code == 405
    assert server.ask("GET", "/jobs/").status_code in (404, 405)


def test_results_in_a_folder_of_the_callers(
    server: RunningServer, folder: Path, expected: dict[str, float | None]
) -> None:
    asked = {"input_dir": VIDEOS, "compute": True, "metrics": METRICS, "output_dir": "made/out"}
    assert values(server.run(**asked)) == expected
    assert values_of(read_results(folder / "made" / "out")) == expected


def client(server: RunningServer, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "call_aigve_api.py"), *words],
        cwd=folder,
        env=process_environment({"AIGVE_API_URL": server.url}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_client_gives_the_table_and_the_files(
    server: RunningServer, folder: Path, tmp_path: Path, expected: dict[str, float | None]
) -> None:
    own = ("--save-dir", str(tmp_path / "saved"), "--max-seconds", "0.25", "--fps", "16")
    done = client(
        server, tmp_path, "--upload-dir", str(folder / VIDEOS), "--metrics", METRICS, *own
    )
    assert done.returncode == 0, done.stderr
    assert "fid-lite0" in done.stdout
    assert values_of(read_results(tmp_path / "saved")) == expected
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        *("results.json", "fid-lite0_results.json", "is-lite0_results.json"),
        *("response.json", "stdout.txt", "stderr.txt"),
    }
    own = (*own, "--metrics", "is-lite0")
    named = ("--input-dir", VIDEOS, "--stage-dataset", "made/by-client")
    done = client(server, tmp_path, *named, *own)
    assert done.returncode == 0, done.stderr
    assert (folder / "made/by-client/evaluate/rain.mp4").is_file()
    assert client(server, tmp_path, "--input-dir", "/etc", *own).returncode == 2


# --- uploads ----------------------------------------------------------------------------------


def upload(server: RunningServer, *files: tuple[str, str, bytes], **data: Any) -> requests.Response:
    sent = [(field, (name, content)) for field, name, content in files]
    asked = {"metrics": "is-lite0", "set": "is-lite0.splits=2", **data}
    return server.ask("POST", "/run_upload", files=sent, data=asked)


@pytest.fixture(scope="module")
def clip(folder: Path) -> bytes:
    return (folder / VIDEOS / "rain.mp4").read_bytes()


def test_roles_prompts_and_every_option_of_an_upload(server: RunningServer, clip: bytes) -> None:
    answer = upload(
        server,
        ("generated", "a.mp4", clip),
        ("generated", "b_synthetic.mp4", clip),
        ("references", "a.mp4", clip),
        ("references", "c.mp4", clip),
        ("prompts", "p.csv", b"video,prompt\na.mp4,rain\n"),
        metrics="fid-lite0",
        max_len="2",
        strict="true",
        format="json",
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()["results"]
    assert document["dataset"]["pairs"] == 1
    assert document["results"][0]["value"] == pytest.approx(0, abs=1e-6)
    assert "1 with a prompt" in answer.json()["stderr"]
    assert json.loads(answer.json()["stdout"])
    # The place on the server's disks is nobody's business.
    assert str(jobs_folder(server)) not in answer.text
    assert document["dataset"]["video_dir"] == "job/upload/videos"


def test_an_upload_answers_at_once_if_asked(server: RunningServer, clip: bytes) -> None:
    files = [("videos", name, clip) for name in ("a.mp4", "b.mp4")]
    answer = upload(server, *files, wait="false")
    assert answer.status_code == 202
    job = answer.json()["id"]
    server.until(job, "done")
    assert not (jobs_folder(server) / job / "upload").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../a.mp4",
        "/etc/a.mp4",
        "..\\a.mp4",
        ".a.mp4",
        "a\x01.mp4",
        "x" * 300 + ".mp4",
        "a.txt",
        "a.mp4.exe",
        "..",
        "a\u202egpj.mp4",
    ],
)
def test_names_that_are_refused_leave_nothing(
    name: str, server: RunningServer, clip: bytes
) -> None:
    before = files_below(jobs_folder(server))
    answer = upload(server, ("videos", name, clip))
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", "videos"]
    assert files_below(jobs_folder(server)) == before


@pytest.mark.parametrize(
    ("files", "data", "field"),
    [
        ([], {}, "videos"),
        ([("references", "a.mp4", b"x")], {}, "generated"),
        ([("videos", "a.mp4", b"x"), ("videos", "A.MP4", b"x")], {}, "videos"),
        ([("videos", "a.mp4", b"x"), ("generated", "b.mp4", b"x")], {}, "videos"),
        ([("videos", "a.mp4", b"x"), ("prompts", "p.exe", b"x")], {}, "prompts"),
        ([("videos", "a.mp4", b"x")], {"bogus": "1"}, "bogus"),
        ([("videos", "a.mp4", b"x")], {"input_dir": "/etc"}, "input_dir"),
        ([("videos", "a.mp4", b"x")], {"max_len": "many"}, "max_len"),
    ],
)
def test_forms_that_are_refused(
    files: Any, data: dict[str, str], field: str, server: RunningServer
) -> None:
    before = files_below(jobs_folder(server))
    answer = upload(server, *files, **data)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert files_below(jobs_folder(server)) == before


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\xff\xff\xff\xff"
        b"\x00\x02\x02D\x01\x00;",
        b"\x00" * 1000,
        b"PK\x03\x04" + b"\x00" * 100,
    ],
)
def test_files_that_only_say_they_are_videos(content: bytes, server: RunningServer) -> None:
    answer = upload(server, ("videos", "a.mp4", content))
    assert (answer.status_code, answer.json()["returncode"]) == (500, 1)
    assert "root:" not in answer.text


def test_what_is_too_large_is_not_kept(server: RunningServer, folder: Path) -> None:
    before = files_below(jobs_folder(server))
    large = b"\x00" * 4_000_000
    assert upload(server, ("videos", "a.mp4", large)).status_code == 413

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="videos"; filename="a.mp4"\r\n\r\n'
        for _ in range(40):
            yield large[:100_000]

    headers = {"content-type": "multipart/form-data; boundary=x"}
    chunked = server.ask("POST", "/run_upload", data=body(), headers=headers)
    assert chunked.status_code == 413
    json_body = server.ask("POST", "/run", data=b" " * 1_000_001)
    assert json_body.status_code == 413
    assert files_below(jobs_folder(server)) == before


# --- what must not happen ---------------------------------------------------------------------


def bombs(folder: Path, marker: Path) -> list[dict[str, Any]]:
    """Requests with checkpoints that would write a file if anything unpickled them."""

    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.system, (f"touch '{marker}'",)

    torch.save({"state_dict": Bomb()}, folder / "bomb.pth")
    (folder / "bomb.pkl.pt").write_bytes(pickle.dumps(Bomb()))
    model = folder / "bomb-model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text('{"model_type": "clip"}')
    torch.save(Bomb(), model / "pytorch_model.bin")
    arrays = io.BytesIO()
    import numpy as np

    np.savez(arrays, mu=np.array([Bomb()], dtype=object), sigma=np.array([Bomb()], dtype=object))
    (folder / "bomb.npz").write_bytes(arrays.getvalue())
    return [
        {"metrics": "fvd", "fvd_model": "bomb.pth"},
        {"metrics": "fvd", "fvd_model": "bomb.pkl.pt"},
        {"metrics": "fid", "model": ["inception-v3-fid=bomb.pth"]},
        {"metrics": "cliptemp", "model": ["clip=bomb-model"], "weights": "standard"},
        {"metrics": "cliptemp", "set": ["cliptemp.model=bomb-model"], "weights": "standard"},
        {"metrics": "fid", "reference_stats": "bomb.npz"},
    ]


def test_checkpoints_are_read_without_running_code(server: RunningServer, folder: Path) -> None:
    marker = folder.parent / "exploded"
    for fields in bombs(folder, marker):
        answer = server.run(input_dir=VIDEOS, compute=True, **fields)
        assert answer.status_code in (422, 503), (fields, answer.text)
        assert not marker.exists(), fields


@pytest.mark.parametrize(
    "extra",
    [
        ["-qh"],
        ["--help"],
        ["--decode-workers=" + "9" * 5000],
        ["--batch-size=" + "9" * 5000],
        ["--fps=1e308", "--max-seconds=2"],
        ["--model=vgg16=~nobody-of-this-name/x"],
        ["--out-json=a\0b.json"],
        ["--input-dir=" + "a" * 5000],
        ["--set", "fvd.length=" + "9" * 5000],
        ["--", "--strict"],
        [""],
    ],
)
def test_flags_that_no_parser_likes(extra: list[str], server: RunningServer) -> None:
    asked = {"input_dir": VIDEOS, "compute": True, "metrics": "is-lite0", "extra_args": extra}
    assert server.add_job(**asked).status_code in (403, 422)


def test_texts_that_are_none_cost_nobody_else(server: RunningServer, folder: Path) -> None:
    worker = server.worker()
    odd = folder / "odd"
    odd.mkdir()
    shutil.copy(folder / VIDEOS / "rain.mp4", os.fsencode(odd) + b"/\xff.mp4")
    assert server.run(input_dir="odd").status_code == 422  # nothing else is there
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(folder / VIDEOS / "rain.mp4", odd / name)
    (odd / "prompts.jsonl").write_text('{"video": "\\ud800.mp4", "prompt": "\\udfff"}')
    asked = {"metrics": "is-lite0", "set": ["is-lite0.splits=2"], "prompts": "odd/prompts.jsonl"}
    answer = server.run(input_dir="odd", compute=True, **asked)
    assert answer.status_code == 200, answer.text
    assert "Left out" in answer.json()["stderr"]
    numbers = "[" + "9" * 5000 + "]"
    (odd / "prompts.json").write_text(numbers)
    answer = server.run(input_dir="odd", compute=True, **{**asked, "prompts": "odd/prompts.json"})
    assert answer.status_code == 422, answer.text
    assert server.worker() == worker


def test_links_in_the_folder_lead_nowhere(server: RunningServer, folder: Path) -> None:
    linked = folder / "linked"
    linked.mkdir(exist_ok=True)
    (linked / "a.mp4").symlink_to(folder.parent / "outside" / "theirs.mp4")
    assert server.run(input_dir="linked", compute=True, metrics="is-lite0").status_code == 403
    (folder / "away").symlink_to(folder.parent / "outside")
    assert server.run(input_dir="away", compute=True, metrics="is-lite0").status_code == 403
    (folder / "list.json").write_text('{"data_list": [{"video_path_pd": "../outside/theirs.mp4"}]}')
    asked = {"annotations": "list.json", "compute": True, "metrics": "is-lite0"}
    assert server.run(**asked).status_code == 403


def test_nothing_is_left_outside_and_the_log_tells_no_secrets(
    server: RunningServer, folder: Path
) -> None:
    asked = {"input_dir": VIDEOS, "out_json": "made/list.json", "prompt": SECRET_PROMPT}
    assert server.run(**asked).status_code == 200
    assert server.run(input_dir=VIDEOS, prompt=SECRET_PROMPT, prompts="x").status_code == 422
    log = "".join(server.log)
    assert "POST /run 200" in log
    assert SECRET_PROMPT not in log
    assert not any(path.name in log for path in jobs_folder(server).iterdir())
    assert "Traceback" not in log
    # No temporary file of an upload, and nothing beside the folder.
    assert {path.name for path in folder.parent.iterdir()} == {"root", "outside"}
    assert list((jobs_folder(server).parent / "incoming").iterdir()) == []


# --- many at a time ---------------------------------------------------------------------------


def test_fifty_clients_and_a_queue_of_eight(
    server: RunningServer, held: HeldDecoder, clip: bytes, expected: dict[str, float | None]
) -> None:
    # What the first job loads stays.
    assert values(server.run(input_dir=VIDEOS, compute=True, metrics=METRICS)) == expected
    worker = psutil.Process(server.worker())
    before = worker.memory_info().rss

    def come(number: int) -> requests.Response:
        kind = number % 3
        with requests.Session() as session:
            url = server.url
            if kind == 0:
                fields = {"input_dir": VIDEOS, "compute": True, "metrics": METRICS}
                return session.post(f"{url}/jobs", json=fields, timeout=240)
            if kind == 1:
                form = {"metrics": "is-lite0", "set": "is-lite0.splits=2", "wait": "false"}
                files = [("videos", (name, clip)) for name in ("a.mp4", "b.mp4")]
                return session.post(f"{url}/run_upload", data=form, files=files, timeout=240)
            return session.post(f"{url}/jobs", json={"input_dir": VIDEOS, "out_json": "l.json"})

    with held.holding():
        first = server.add_job(input_dir=VIDEOS, compute=True, metrics=METRICS).json()["id"]
        server.until(first, "running")
        with ThreadPoolExecutor(50) as clients:
            answers = list(clients.map(come, range(50)))
        assert server.ask("GET", "/healthz").json()["queue"] == {
            "length": 8,
            "size": 8,
            "running": 1,
        }
    taken = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(taken), len(refused)) == (8, 42)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    upload_value = None
    for answer in taken:
        job = answer.json()["id"]
        assert server.until(job, "done")["returncode"] == 0
        found = server.ask("GET", f"/jobs/{job}/results").json()
        if found["results"] is None:
            assert found["artifacts"][0]["name"] == "l.json"
        elif "fid-lite0" in values_of(found["results"]):
            assert values_of(found["results"]) == expected
        else:
            value = values_of(found["results"])["is-lite0"]
            assert value is not None
            assert upload_value in (None, value)
            upload_value = value
    assert server.worker() == worker.pid
    # What each of nine jobs has needed is given back: a job takes some 300 MB.
    assert worker.memory_info().rss < before + 150e6


def test_every_endpoint_and_field_is_described(server: RunningServer) -> None:
    document = server.ask("GET", "/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (path, method)
            assert not operation["summary"].lower().startswith(operation["operationId"][:4])
    for path in ("/run", "/jobs"):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            fields_to_command(RunRequest(**example["value"]).model_dump(exclude_unset=True))
    fields = document["components"]["schemas"]["RunRequest"]["properties"]
    assert all(field.get("description") for name, field in fields.items() if "cdfvd" not in name)
    assert server.ask("GET", "/").url.endswith("/docs")
    for page in ("/docs", "/redoc"):
        text = server.ask("GET", page).text
        # All that the page shows comes from this server.
        addresses = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert addresses
        for address in addresses:
            assert address.startswith("/"), address
            assert server.ask("GET", address).status_code == 200
