"""A server as a process of its own, and what tests ask of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.conftest import process_environment

TOKEN = "correct-horse-battery-staple"
ADDRESS = re.compile(r"Uvicorn running on (http://\S+)")
PATIENCE = 240
"""Seconds until a request is given up: machines that do other things are slow."""


def patient_session() -> requests.Session:
    """One that tries again while nobody listens yet: of several processes the first says that it
    has started a moment before it does."""
    session = requests.Session()
    session.mount(
        "http://", HTTPAdapter(max_retries=Retry(connect=20, read=0, backoff_factor=0.05))
    )
    return session


@dataclass
class RunningServer:
    """A started server. ``log`` has the lines of its stderr so far."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]
    token: str = ""
    session: requests.Session = field(default_factory=patient_session)

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """A request with the server's token."""
        headers = {**self._headers(), **(more.pop("headers", None) or {})}
        return self.session.request(
            method, self.url + path, headers=headers, timeout=PATIENCE, **more
        )

    def run(self, **fields: Any) -> requests.Response:
        """``POST /run``."""
        return self.ask("POST", "/run", json=fields)

    def add_job(self, **fields: Any) -> requests.Response:
        """``POST /jobs``."""
        return self.ask("POST", "/jobs", json=fields)

    def events(self, job: str, last: int = 0) -> Iterator[tuple[str, Any]]:
        """The events of a job, until the stream ends."""
        headers = {**self._headers(), "last-event-id": str(last)}
        url = f"{self.url}/jobs/{job}/events"
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
            assert answer.status_code == 200, answer.text
            name = ""
            for line in answer.iter_lines(decode_unicode=True):
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    def until(self, job: str, *states: str) -> dict[str, Any]:
        """The job once it is in one of these states."""
        for name, data in self.events(job):
            if name == "state" and data["state"] in states:
                found: dict[str, Any] = data
                return found
        now: dict[str, Any] = self.ask("GET", f"/jobs/{job}").json()
        assert now["state"] in states, now
        return now

    def worker(self) -> int:
        """The process that computes."""
        found = [int(pid) for pid in _children(self.process.pid)]
        assert len(found) == 1, found
        return found[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


@contextmanager
def running_server(
    cwd: Path,
    state: Path,
    *flags: object,
    token: str = "",
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """A server in a folder, which is all that it opens unless flags say otherwise."""
    words = command or (
        *(sys.executable, "-c", "from aigve_cli.main import run; run()", "serve"),
        *("--port", "0", "--state-dir", str(state), "--device", "cpu", *map(str, flags)),
    )
    more = {"AIGVE_API_TOKEN": token, "AIGVE_WEIGHTS": "embedded", **(env or {})}
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=process_environment(more),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    log: list[str] = []
    ready = threading.Event()
    found: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            if address := ADDRESS.search(line):
                found.append(address[1])
            # Of several processes, the first one: the address is known before anybody listens.
            if found and any("startup complete" in line for line in log):
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        assert ready.wait(PATIENCE)
        assert found, "".join(log)
        yield RunningServer(process, found[0], log, token)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _children(pid: int) -> list[str]:
    """Processes that a process has started, by any of its threads."""
    tasks = Path(f"/proc/{pid}/task")
    return [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def files_below(folder: Path) -> set[str]:
    """Every file and folder, relative."""
    return {os.path.relpath(path, folder) for path in folder.rglob("*")}


@dataclass(frozen=True)
class HeldDecoder:
    """An ffmpeg that waits, while it is held, before it decodes: jobs run as long as tests want."""

    binary: Path
    gate: Path

    @classmethod
    def make(cls, folder: Path, real: str) -> HeldDecoder:
        """A script in a new folder around the real binary."""
        folder.mkdir()
        held = cls(folder / "ffmpeg", folder / "gate")
        held.binary.write_text(
            "#!/bin/sh\n"
            f"case \"$*\" in *rawvideo*) [ -p '{held.gate}' ] && cat '{held.gate}' > /dev/null;; "
            f"esac\nexec '{real}' \"$@\"\n"
        )
        held.binary.chmod(0o755)
        return held

    @contextmanager
    def holding(self) -> Iterator[None]:
        """No video is decoded until the end of the ``with`` statement."""
        os.mkfifo(self.gate)
        # Open for both, so that neither side ever waits for the other to come.
        end = os.open(self.gate, os.O_RDWR)
        try:
            yield
        finally:
            os.unlink(self.gate)
            os.close(end)
