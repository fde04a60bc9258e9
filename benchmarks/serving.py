"""The server beside the command line: what a second job saves, and who waits while one runs."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
import psutil
import requests
from measure import Rows, aigve, table

ADDRESS = re.compile(r"Uvicorn running on (http://\S+)")
HEALTH_REQUESTS = 300


@contextlib.contextmanager
def serving(root: Path, state: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A started server: its address and its process."""
    command = aigve("serve", "--port", "0", "--state-dir", state, "--device", "cpu")
    process = subprocess.Popen(
        command, cwd=root, env=measure.environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := ADDRESS.search(line)))
        while requests.get(f"{address}/healthz", timeout=60).json()["status"] != "ok":
            time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def cpu_of(server: psutil.Process) -> float:
    """CPU seconds so far of a server and of all that it has started and waited for."""
    total = 0.0
    for process in (server, *server.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def jobs_and_health(folder: Path, *, rounds: int) -> str:
    """Two tables: seconds of a job and of a run, and milliseconds of ``/healthz``."""
    root = folder / "served"
    cases = {
        "2 videos of 64 x 48, 16 frames": measure.make_pairs(
            root / "tiny", pairs=2, width=64, height=48, frames=16
        ),
        "4 videos of 640 x 360, 16 frames": measure.make_pairs(
            root / "small", pairs=4, width=640, height=360, frames=16
        ),
    }
    options = {"metrics": "is-lite0", "weights": "embedded", "set": ["is-lite0.splits=2"]}
    rows: Rows = []
    with serving(root, folder / "state") as (address, server):
        ask = requests.Session()
        first = True
        for case, videos in cases.items():
            fields = {"input_dir": str(videos), "compute": True, **options}
            command = aigve(
                *("compute", "--input-dir", videos, "--output-dir", folder / "results" / "served"),
                *("--metrics", "is-lite0", "--weights", "embedded"),
                *("--set", "is-lite0.splits=2", "--fresh", "--use-cpu"),
            )
            if first:
                rows.append([case, "first job", *_ask(ask, address, server, fields)])
                first = False
            walls: dict[str, list[float]] = {"run": [], "job": []}
            cpus: dict[str, list[float]] = {"run": [], "job": []}
            for _ in range(rounds):
                cost = measure.run(command)
                walls["run"].append(cost.wall)
                cpus["run"].append(cost.cpu)
                wall, cpu = map(float, _ask(ask, address, server, fields))
                walls["job"].append(wall)
                cpus["job"].append(cpu)
            names = {"run": "`aigve compute`", "job": "a later job"}
            medians = {
                key: (statistics.median(walls[key]), statistics.median(cpus[key])) for key in names
            }
            rows += [
                [case, names[key], f"{wall:.2f}", f"{cpu:.2f}"]
                for key, (wall, cpu) in medians.items()
            ]
            ratios = [a / b for a, b in zip(medians["run"], medians["job"], strict=True)]
            rows.append([case, "run / later job", *(f"{ratio:.1f} ×" for ratio in ratios)])
        jobs = table(["", "", "wall s", "CPU s"], rows)
        health = _health(ask, address, cases["4 videos of 640 x 360, 16 frames"], options)
    return f"{jobs}\n\n{health}"


def _ask(ask: requests.Session, address: str, server: psutil.Process, fields: Any) -> list[str]:
    before, start = cpu_of(server), time.monotonic()
    answer = ask.post(f"{address}/run", json=fields, timeout=600)
    wall = time.monotonic() - start
    assert answer.status_code == 200, answer.text
    return [f"{wall:.2f}", f"{cpu_of(server) - before:.2f}"]


def _health(ask: requests.Session, address: str, videos: Path, options: dict[str, Any]) -> str:
    """Milliseconds of `/healthz` when nothing runs, while a job runs, and with more who wait."""
    rows: Rows = [["nothing runs", *_latencies(ask, address, HEALTH_REQUESTS)]]
    fields = {"input_dir": str(videos), "compute": True, **options, "max_len": 64}
    for case, count in (("a job runs", 1), ("a job runs, 7 wait", 8)):
        jobs = [
            ask.post(f"{address}/jobs", json=fields, timeout=60).json()["links"]
            for _ in range(count)
        ]
        while ask.get(address + jobs[0]["self"], timeout=60).json()["state"] == "queued":
            time.sleep(0.01)
        rows.append([case, *_latencies(ask, address, HEALTH_REQUESTS)])
        state = ask.get(address + jobs[-1]["self"], timeout=60).json()["state"]
        rows[-1][0] += "" if state in ("queued", "running") else " (it ended meanwhile)"
        for links in jobs:
            ask.delete(address + links["self"], timeout=60)
        for links in jobs:
            while ask.get(address + links["self"], timeout=60).json().get("state") == "running":
                time.sleep(0.05)
    return table(["`GET /healthz`", "median ms", "99 of 100 below ms", "longest ms"], rows)


def _latencies(ask: requests.Session, address: str, count: int) -> list[str]:
    found = []
    for _ in range(count):
        start = time.perf_counter()
        answer = ask.get(f"{address}/healthz", timeout=60)
        found.append((time.perf_counter() - start) * 1000)
        assert answer.status_code == 200, json.dumps(answer.json())
    found.sort()
    picked = (statistics.median(found), found[int(len(found) * 0.99)], found[-1])
    return [f"{value:.1f}" for value in picked]
