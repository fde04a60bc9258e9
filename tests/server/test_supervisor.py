"""Workers are started, one a GPU, and started again; by stand-ins that only say that they live."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from aigve_cli.server import supervisor as module
from aigve_cli.server.settings import TOKEN, ServerSettings
from aigve_cli.server.store import Store
from aigve_cli.server.supervisor import Supervisor
from aigve_cli.server.worker import slot_lock

STAND_IN = "import sys; sys.stdin.read()"
"""Ends as a worker does: when the server closes its end."""


class Started:
    """What was started, and a moment to wait for."""

    def __init__(self) -> None:
        self.slots: list[tuple[int, dict[str, str]]] = []
        self.processes: dict[int, Any] = {}
        self._changed = threading.Condition()
        self._real = module.subprocess.Popen

    def __call__(self, command: list[str], *, env: dict[str, str], **more: Any) -> Any:
        process = self._real([sys.executable, "-c", STAND_IN], env=env, **more)
        with self._changed:
            self.slots.append((int(command[-1]), env))
            self.processes[int(command[-1])] = process
            self._changed.notify_all()
        return process

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.slots) >= count, timeout=60)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    found = Started()
    monkeypatch.setattr(module.subprocess, "Popen", found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv(TOKEN, "secret")
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


@pytest.fixture
def supervisor(store: Store, tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(ServerSettings(store.folder, (tmp_path,)), store)
    yield found
    found.stop()


def visible(started: Started) -> dict[int, str | None]:
    return {slot: env.get("CUDA_VISIBLE_DEVICES") for slot, env in started.slots}


def test_one_worker_a_gpu_once_the_first_has_counted_them(
    supervisor: Supervisor, started: Started, store: Store
) -> None:
    supervisor.start()
    started.wait_for(1)
    store.set_worker(0, {"device_count": 3})
    started.wait_for(3)
    assert visible(started) == {0: None, 1: "1", 2: "2"}
    assert not any(TOKEN in env for _, env in started.slots)


def test_gpus_that_the_operator_has_chosen(
    supervisor: Supervisor, started: Started, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    supervisor.start()
    started.wait_for(1)
    store.set_worker(0, {"device_count": 2})
    started.wait_for(2)
    assert visible(started) == {0: "4,6", 1: "6"}


def test_on_processors_there_is_one(started: Started, store: Store, tmp_path: Path) -> None:
    settings = replace(ServerSettings(store.folder, (tmp_path,)), device="cpu")
    found = Supervisor(settings, store)
    found.start()
    started.wait_for(1)
    store.set_worker(0, {"device_count": 3})
    started.processes[0].kill()
    started.wait_for(2)
    assert {slot for slot, _ in started.slots} == {0}
    found.stop()


def test_a_worker_that_ends_is_started_again_and_the_last_ones_end_with_the_server(
    supervisor: Supervisor, started: Started
) -> None:
    supervisor.start()
    started.wait_for(1)
    started.processes[0].kill()
    started.wait_for(2)
    supervisor.stop()
    assert started.processes[0].poll() is not None


def test_of_two_servers_one_supervises(
    supervisor: Supervisor, started: Started, store: Store, tmp_path: Path
) -> None:
    other = Supervisor(ServerSettings(store.folder, (tmp_path,)), store)
    supervisor.start()
    started.wait_for(1)
    other.start()
    supervisor.stop()
    started.wait_for(2)
    other.stop()
    assert [slot for slot, _ in started.slots] == [0, 0]


def test_a_job_whose_worker_is_gone_goes_on_whichever_gpu_it_had(
    supervisor: Supervisor, started: Started, store: Store
) -> None:
    ids = [store.add(store.new_id(), "compute", [], most=9).id for _ in range(2)]
    store.claim(7)
    store.claim(5)
    with FileLock(slot_lock(store.folder, 5), thread_local=False):  # that one still lives
        supervisor.start()
        started.wait_for(1)
        states = {job.state for id in ids if (job := store.job(id))}
        assert states == {"queued", "running"}
