"""Servers and workers that end, orderly and not: finished jobs stay, running ones go on."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from server_kit import TOKEN, HeldDecoder, RunningServer, running_server

from aigve_cli.dataset.demo import make_samples
from aigve_cli.video.ffmpeg import ffmpeg_binary
from tests.conftest import Done

ASKED = {"input_dir": "videos", "compute": True, "metrics": "is-lite0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_samples(folder / "videos")
    return folder


@pytest.fixture
def held(tmp_path: Path) -> HeldDecoder:
    return HeldDecoder.make(tmp_path / "bin", ffmpeg_binary())


def server(folder: Path, held: HeldDecoder, tmp_path: Path, *flags: str, **more: Any) -> Any:
    env = {
        "IMAGEIO_FFMPEG_EXE": str(held.binary),
        "AIGVE_OFFLINE": "1",
        "AIGVE_MAX_LEN": "4",
        "AIGVE_CACHE_DIR": str(tmp_path / "cache"),
    }
    return running_server(folder, tmp_path / "state", *flags, token=TOKEN, env=env, **more)


def result(server: RunningServer, job: str) -> Any:
    content = server.ask("GET", f"/jobs/{job}/results").json()
    return [record["value"] for record in content["results"]["results"]]


def test_killed_then_ended_in_the_middle_of_jobs(
    folder: Path, held: HeldDecoder, tmp_path: Path
) -> None:
    """Three servers, one after another, with the same state."""
    with server(folder, held, tmp_path) as first:
        finished = first.add_job(**ASKED).json()["id"]
        first.until(finished, "done")
        expected = result(first, finished)
        with held.holding():
            running = first.add_job(**ASKED).json()["id"]
            waiting = first.add_job(**ASKED).json()["id"]
            first.until(running, "running")
            # Only the process that computes: the server starts another one.
            os.kill(first.worker(), signal.SIGKILL)
            again = next(
                data
                for name, data in first.events(running)
                if name == "state" and data["state"] == "running" and data["attempts"] == 2
            )
            assert again["id"] == running
            first.end(signal.SIGKILL)
            assert first.process.returncode == -signal.SIGKILL

    # Of two processes, with one queue.
    answers: list[Any] = []
    with server(folder, held, tmp_path, "--workers", "2") as second:
        assert result(second, finished) == expected
        for job in (running, waiting):
            assert second.until(job, "done", "failed")["state"] == "done"
            assert result(second, job) == expected
        with held.holding():
            stopped = second.add_job(**ASKED).json()["id"]
            second.until(stopped, "running")
            states = {second.ask("GET", f"/jobs/{stopped}").json()["state"] for _ in range(8)}
            assert states == {"running"}
            waits = threading.Thread(target=lambda: answers.append(second.run(**ASKED)))
            waits.start()
            for _ in range(10_000):
                if second.ask("GET", "/healthz").json()["queue"]["length"]:
                    break
            assert second.end() in (0, -signal.SIGTERM)
            waits.join()
    [answer] = answers
    assert answer.status_code == 503
    assert "started again" in answer.json()["stderr"]
    told = answer.json()["job"]["id"]

    # From another folder: what the paths were relative to is kept.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with server(elsewhere, held, tmp_path, "--allow-root", folder) as third:
        for job in (stopped, told):
            assert third.until(job, "done", "failed")["state"] == "done"
            assert result(third, job) == expected
        assert TOKEN not in "".join(third.log)


def test_another_machine_needs_a_token(aigve: Any, tmp_path: Path) -> None:
    done: Done = aigve("serve", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
    assert done.code == 2
    assert "AIGVE_API_TOKEN" in done.stderr
    done = aigve("serve", "--allow-root", tmp_path / "nowhere", cwd=tmp_path)
    assert (done.code, "nowhere" in done.stderr) == (2, True)
    done = aigve("serve", "--quota", "0", cwd=tmp_path)
    assert (done.code, "--quota" in done.stderr) == (2, True)
    done = aigve("serve", cwd=tmp_path, env={"AIGVE_API_TOKEN": "späte"})
    assert (done.code, "AIGVE_API_TOKEN" in done.stderr) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = aigve("serve", "--port", port, "--state-dir", tmp_path / "state", cwd=tmp_path)
    assert (done.code, "--port" in done.stderr) == (4, True)


def test_as_it_was_started_before_with_a_time_limit(
    folder: Path, held: HeldDecoder, tmp_path: Path
) -> None:
    words = ["uvicorn", "server.main:app", "--port", "0"]
    command = [sys.executable, "-m", *words]
    root = str(Path(__file__).parents[2])
    env = {
        "AIGVE_SERVER_STATE_DIR": str(tmp_path / "state"),
        "AIGVE_SERVER_ALLOW_ROOT": str(folder),
        "AIGVE_SERVER_MAX_HOURS": "0.0001",
        "AIGVE_SERVER_DEVICE": "cpu",
        "IMAGEIO_FFMPEG_EXE": str(held.binary),
        "AIGVE_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join((root, f"{root}/models")),
    }
    with running_server(tmp_path, tmp_path, command=command, env=env, token=TOKEN) as started:
        assert started.session.get(f"{started.url}/metrics", timeout=60).status_code == 401
        limited = started.session.get(f"{started.url}/healthz", timeout=60).json()
        assert [name for name, value in limited.items() if value is not None] == ["status"]
        with held.holding():
            answer = started.run(**{**ASKED, "input_dir": str(folder / "videos")})
        assert answer.status_code == 500
        assert answer.json()["job"]["reason"].startswith("it took longer than")
