"""Keeps the workers of a server alive. Of several server processes one does: the lock's holder."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from aigve_cli.server.settings import TOKEN, ServerSettings
from aigve_cli.server.store import Store
from aigve_cli.server.worker import GRACE_SECONDS, slot_lock

log = logging.getLogger("aigve.server")
TICK_SECONDS = 0.2
TIDY_SECONDS = 60.0
LONGEST_PAUSE = 30.0
"""Between two starts of a worker that does not stay alive."""


@dataclass
class _Slot:
    number: int
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started: float = 0.0
    next_start: float = field(default=0.0)


class Supervisor:
    """Starts workers and starts them again, and removes what is old.

    Args:
        settings: Of the server.
        store: Its jobs.
    """

    def __init__(self, settings: ServerSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._stopping = threading.Event()
        self._slots: dict[int, _Slot] = {}
        self._lock = FileLock(settings.state_dir / "supervisor.lock", thread_local=False)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin, or wait until the process that does it now is gone."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin to end the workers; a job that runs goes on when the server is started again."""
        self._stopping.set()

    def stop(self) -> None:
        """End the workers, and wait for them."""
        self.ask_to_stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            if not self._has_lock():
                return
            with contextlib.suppress(sqlite3.Error):
                self._recover()
            tidied = 0.0
            while not self._stopping.is_set():
                try:
                    self._keep_alive()
                    if time.monotonic() - tidied > TIDY_SECONDS:
                        tidied = time.monotonic()
                        self._tidy()
                except Exception as error:
                    # A full disk, say: what runs goes on.
                    log.warning("supervisor: %s: %s", type(error).__name__, error)
                self._stopping.wait(TICK_SECONDS)
        finally:
            self._end_workers()
            self._lock.release()

    def _has_lock(self) -> bool:
        told = False
        while not self._stopping.is_set():
            with contextlib.suppress(Timeout):
                self._lock.acquire(timeout=0)
                return True
            if not told:
                told = True
                log.info("another process of this or another server computes its jobs")
            self._stopping.wait(TICK_SECONDS)
        return False

    def _recover(self) -> None:
        """Jobs whose worker is gone go on, whichever GPU it had."""
        self._store.drop_workers()
        self._requeue_lost()

    def _requeue_lost(self) -> None:
        for number in set(self._store.running_slots()) - self._slots.keys():
            lock = FileLock(slot_lock(self._settings.state_dir, number), thread_local=False)
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                for id in self._store.requeue(number, died=True):
                    log.warning("job %s: the server was ended; it goes on", id[:6])

    def _tidy(self) -> None:
        for id in self._store.expire(self._settings.keep_hours * 3600):
            log.info("job %s: its results were kept long enough", id[:6])
        self._store.sweep()
        self._requeue_lost()

    def _keep_alive(self) -> None:
        for number in range(self._wanted()):
            slot = self._slots.setdefault(number, _Slot(number))
            process = slot.process
            if process is not None and process.poll() is not None:
                self._note_end(slot, process.returncode)
            if slot.process is None and time.monotonic() >= slot.next_start:
                self._start(slot)

    def _wanted(self) -> int:
        """One worker a GPU; how many there are is told by the first."""
        if self._settings.device == "cpu":
            return 1
        _, facts = self._store.workers().get(0, (0.0, {}))
        return max(1, facts.get("device_count") or 1)

    def _note_end(self, slot: _Slot, code: int) -> None:
        slot.process = None
        if code == 0:
            slot.failures = 0
            return
        # One that has worked for a while does not fail at its start.
        slot.failures = 1 if time.monotonic() - slot.started > LONGEST_PAUSE else slot.failures + 1
        pause = min(LONGEST_PAUSE, 2.0 ** (slot.failures - 1) - 1)
        slot.next_start = time.monotonic() + pause
        log.warning("worker %d: ended with %d; started again", slot.number, code)

    def _start(self, slot: _Slot) -> None:
        environment = {**os.environ, **self._settings.to_environment()}
        # Callers' tokens are the business of those who answer.
        environment.pop(TOKEN, None)
        if slot.number > 0:
            # The first sees all GPUs, and takes the first of them.
            visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
            numbers = visible or [str(number) for number in range(slot.number + 1)]
            environment["CUDA_VISIBLE_DEVICES"] = numbers[min(slot.number, len(numbers) - 1)]
        slot.started = time.monotonic()
        slot.process = subprocess.Popen(
            # -P: what lies in the current folder, which may be a stranger's, is not imported.
            [sys.executable, "-P", "-m", "aigve_cli.server.worker", str(slot.number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
            # A Ctrl-C is for the server, which tells its workers.
            start_new_session=True,
        )

    def _end_workers(self) -> None:
        running = [slot.process for slot in self._slots.values() if slot.process is not None]
        for process in running:
            if process.stdin is not None:
                process.stdin.close()
        deadline = time.monotonic() + GRACE_SECONDS + 5
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
