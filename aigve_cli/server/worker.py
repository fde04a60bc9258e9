"""The process that computes: one job after another, with networks that stay loaded.

It holds the lock of its slot, so that there is never a second one for the same GPU, and ends when
the server that started it does: by the end of its standard input, even if that server was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from aigve_cli.commands.computing import Outcome, run_compute
from aigve_cli.commands.prepare import run_prepare
from aigve_cli.commands.stage import run_stage
from aigve_cli.errors import (
    EXIT_DONE,
    EXIT_ENVIRONMENT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    AigveError,
    UsageError,
)
from aigve_cli.server.commandline import Parsed, parse_command, with_options
from aigve_cli.server.guard import Guard
from aigve_cli.server.job_output import JobOutput
from aigve_cli.server.settings import ServerSettings, environment_to_settings
from aigve_cli.server.store import Job, State, Store, folder_bytes

log = logging.getLogger("aigve.server")
TICK_SECONDS = 0.2
SEEN_SECONDS = 2.0
"""How often a worker says that it is alive."""
MEASURED_SECONDS = 5.0
"""How often a job's folder is measured."""
MOST_FAILURES = 50
"""Of the thread beside a job, one after another."""
GRACE_SECONDS = 20.0
"""A job that has not ended so long after it was told to is ended with its process."""
RESULTS, UPLOAD, STDOUT, STDERR = "results", "upload", "stdout.txt", "stderr.txt"
"""Of a job's folder."""
End = Literal["", "cancel", "stop", "time", "disk"]


@dataclass
class _Minded:
    """What the thread beside a job knows of it."""

    job: Job | None = None
    told: float | None = None
    """When it was told to end."""
    seen: float = 0.0
    measured: float = 0.0
    size: int = 0
    """Bytes of its folder."""
    room: int = 0
    """How many they may be."""


class Worker:
    """One slot of a server.

    Args:
        slot: Its number, from 0.
        settings: Of the server.
    """

    def __init__(self, slot: int, settings: ServerSettings) -> None:
        self._slot = slot
        self._settings = settings
        self._store = Store(settings.state_dir)
        self._guard = Guard(
            settings.allow_root, settings.state_dir, judge_urls=settings.allow_judge_url
        )
        self._stopping = threading.Event()
        self._current: tuple[Job, JobOutput] | None = None
        self._end: End = ""
        self._ending = threading.Lock()
        """Held to end a job, and to go from one to the next: so it is never another one's end."""
        self._reporting = threading.Lock()
        self._kept: Any = None

    def run(self) -> int:
        """Work until told to stop; the exit code."""
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, lambda *_: self._stopping.set())
        threading.Thread(target=self._wait_for_parent, daemon=True).start()
        for id in self._store.requeue(self._slot, died=True):
            log.warning("job %s: its worker died; it goes on", id[:6])
        threading.Thread(target=self._mind, daemon=True).start()
        self._get_ready()
        while not self._stopping.is_set():
            job = self._store.claim(self._slot)
            if job is None:
                self._stopping.wait(TICK_SECONDS / 4)
            elif not self._do(job):
                # What was interrupted may have left threads and memory behind.
                return EXIT_DONE
        return EXIT_DONE

    # --- one job ------------------------------------------------------------------------------

    def _do(self, job: Job) -> bool:
        """Do a job and note what became of it; whether this process can do another."""
        log.info("job %s: %s, attempt %d", job.id[:6], job.command, job.attempts)
        output, folder = JobOutput(), self._store.job_folder(job.id)
        # What was said of it before, and by an attempt before this one.
        output.said.writelines(f"{text}\n" for _, text in self._store.notes(job.id))
        with self._ending:
            self._end = ""
            self._current = job, output
        outcome: Outcome | None = None
        try:
            outcome = self._outcome(job, output, folder)
            with self._ending:
                self._current = None
        except KeyboardInterrupt:
            # It may have come just behind the end.
            outcome = outcome or Outcome(EXIT_INTERRUPTED)
            self._current = None
        try:
            self._settle(job, output, folder, outcome.exit_code)
        except Exception as error:
            log.error("job %s: %s", job.id[:6], type(error).__name__)
            reason = f"its results could not be kept: {type(error).__name__}"
            self._store.finish(job.id, "failed", returncode=EXIT_ENVIRONMENT, reason=reason)
        return outcome.exit_code != EXIT_INTERRUPTED

    def _outcome(self, job: Job, output: JobOutput, folder: Path) -> Outcome:
        """What becomes of a job; whatever is wrong with it is said in its words."""
        try:
            return self._execute(job, output, folder)
        except AigveError as error:
            output.error(error.message, error.hint)
            return Outcome(error.exit_code)
        except MemoryError:
            output.error("There is not enough main memory.")
            return Outcome(EXIT_ENVIRONMENT)
        except Exception as error:
            output.error(f"Internal error: {type(error).__name__}: {error}")
            log.error("job %s: internal error: %s", job.id[:6], type(error).__name__)
            log.debug("%s", traceback.format_exc())
            return Outcome(EXIT_FAILED)

    def _execute(self, job: Job, output: JobOutput, folder: Path) -> Outcome:
        # Where its server was: this one may have been started elsewhere.
        try:
            os.chdir(job.cwd)
        except OSError as error:
            raise UsageError(f"The folder {job.cwd} is not there: {error.strerror}.") from error
        parsed = parse_command(job.command, job.arguments)
        guard = self._guard.of_job(folder)
        guard.check(parsed)
        if job.command == "prepare":
            run_prepare(parsed.options, output, opens=guard.opens)
            outcome = Outcome(EXIT_DONE)
        elif job.command == "stage":
            run_stage(parsed.options, output, opens=guard.opens)
            outcome = Outcome(EXIT_DONE)
        else:
            outcome = run_compute(
                self._decided(parsed, job, folder).options,
                parsed.config,
                output,
                kept=self._kept,
                opens=guard.opens,
                # Nobody comes back to a folder that is the job's own.
                resumable="output_dir" in parsed.given,
            )
        if outcome.exit_code != EXIT_INTERRUPTED:
            _keep_files(parsed, job, folder / RESULTS, outcome)
        return outcome

    def _decided(self, parsed: Parsed, job: Job, folder: Path) -> Parsed:
        """With what the server decides, and the caller has not."""
        more: dict[str, Any] = {}
        if "output_dir" not in parsed.given:
            more["output_dir"] = folder / RESULTS
        if not parsed.given & {"device", "use_cpu"}:
            more |= {"device": self._settings.device, "use_cpu": False}
        if job.attempts > 1:
            # What the last worker has done is not done again.
            more["resume"] = True
        return with_options(parsed, **more)

    def _settle(self, job: Job, output: JobOutput, folder: Path, code: int) -> None:
        """Note what became of a job: its files first, then the word that it is done."""
        end, size = self._end, 0
        if code == EXIT_INTERRUPTED and end == "stop":
            self._report(job, output)
            self._store.requeue(self._slot, died=False)
            log.info("job %s: stopped; it goes on when the server is started again", job.id[:6])
            return
        reason = None
        if code == EXIT_INTERRUPTED:
            reason = self._reason(end)
            output.warn(f"The job was ended: {reason}.")
        state: State = "done" if code in (EXIT_DONE, EXIT_PARTIAL) else "failed"
        state = "cancelled" if code == EXIT_INTERRUPTED and end == "cancel" else state
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in ((STDOUT, output.printed), (STDERR, output.said)):
                (folder / name).write_text(
                    text.getvalue(), encoding="utf-8", errors="backslashreplace"
                )
            _remove_all_but_results(folder)
            size = folder_bytes(folder)
        except OSError as error:
            state, code, reason = "failed", EXIT_ENVIRONMENT, f"its files: {error.strerror}"
        self._report(job, output)
        self._store.finish(job.id, state, returncode=code, reason=reason, size=size)
        log.info("job %s: %s, exit code %d", job.id[:6], state, code)

    def _reason(self, end: End) -> str:
        if end == "time":
            return f"it took longer than {self._settings.max_hours:g} hours"
        if end == "disk":
            return f"its files took more of the disk than is left of {self._settings.quota:g} GB"
        return "cancelled" if end == "cancel" else "interrupted"

    # --- beside it ----------------------------------------------------------------------------

    def _mind(self) -> None:
        """Report, and end what must not go on, whatever happens."""
        failures = 0
        state = _Minded()
        while True:
            try:
                self._look(state)
                failures = 0
            except Exception as error:
                failures += 1
                log.warning("worker %d: %s: %s", self._slot, type(error).__name__, error)
                if failures > MOST_FAILURES:
                    # Nobody would end a job any more: the server starts another worker.
                    os._exit(EXIT_FAILED)
            time.sleep(TICK_SECONDS)

    def _look(self, state: _Minded) -> None:
        now = time.monotonic()
        if now - state.seen >= SEEN_SECONDS:
            state.seen = now
            self._store.set_worker(self._slot)
        if (current := self._current) is None:
            return
        job, output = current
        if state.job != job:
            # What is free of the disk is its own to take; what others keep is not its fault.
            taken = self._store.bytes() - job.bytes
            state.job, state.told = job, None
            state.room = max(job.bytes, self._settings.quota_bytes - taken)
        if now - state.measured >= MEASURED_SECONDS:
            state.measured = now
            state.size = folder_bytes(self._store.job_folder(job.id))
            self._store.report(job.id, progress=None, size=state.size)
        self._report(job, output)
        if state.told is None and (end := self._why_end(job, state)):
            with self._ending:
                if self._current is current:
                    self._end, state.told = end, now
                    # A real signal, to the thread that may be waiting for a decoder: it wakes.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif state.told is not None and now - state.told > GRACE_SECONDS:
            self._give_up(job, output)

    def _report(self, job: Job, output: JobOutput) -> None:
        # Lines are written in the order in which they were taken.
        with self._reporting:
            self._store.report(job.id, progress=output.how_far(), notes=output.new_lines())

    def _why_end(self, job: Job, state: _Minded) -> End:
        if self._stopping.is_set():
            return "stop"
        now = self._store.job(job.id)
        if now is None or now.wanted == "cancel":
            return "cancel"
        if job.started and time.time() - job.started > self._settings.max_hours * 3600:
            return "time"
        return "disk" if state.size > state.room else ""

    def _give_up(self, job: Job, output: JobOutput) -> None:
        """End this process: something in it does not listen."""
        log.warning("job %s: it did not end when it was told to; its worker does", job.id[:6])
        self._settle(job, output, self._store.job_folder(job.id), EXIT_INTERRUPTED)
        os._exit(EXIT_FAILED)

    def _interrupted(self, *_: object) -> None:
        # Late: the job has just ended by itself.
        if self._current is not None:
            raise KeyboardInterrupt

    def _wait_for_parent(self) -> None:
        """The server holds the other end of standard input: it is closed when that process ends."""
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        self._stopping.set()

    # --- the machine --------------------------------------------------------------------------

    def _get_ready(self) -> None:
        """Import what every run needs, so that the first job need not wait for it."""
        facts: dict[str, Any] = {"torch": None, "torch_error": None}
        try:
            import torch

            available = torch.cuda.is_available()
            facts |= {
                "torch": torch.__version__,
                "cuda_available": available,
                "cuda_version": torch.version.cuda,
                "device_count": torch.cuda.device_count() if available else 0,
            }
            import timm  # noqa: F401

            from aigve_cli import api  # noqa: F401
            from aigve_cli.engine.kept import KeptNetworks

            self._kept = KeptNetworks(self._most_kept_bytes(available))
        except Exception as error:
            facts["torch_error"] = f"{type(error).__name__}: {error}"
            log.error("torch cannot be imported: %s", error)
        self._store.set_worker(self._slot, facts)
        log.info("worker %d: ready", self._slot)

    def _most_kept_bytes(self, cuda: bool) -> int:
        if self._settings.keep_networks:
            return int(self._settings.keep_networks * 1e9)
        if cuda and self._settings.device != "cpu":
            import torch

            return int(torch.cuda.get_device_properties(0).total_memory // 2)
        from aigve_cli.engine.memory import free_memory

        # Of a container what it may take, not what the machine has.
        return free_memory("cpu").main // 2


def _remove_all_but_results(folder: Path) -> None:
    """What nobody can fetch takes disk from others: uploads, features, journals."""
    shutil.rmtree(folder / UPLOAD, ignore_errors=True)
    for path in (folder / RESULTS).glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".json":
            path.unlink(missing_ok=True)


def _keep_files(parsed: Parsed, job: Job, folder: Path, outcome: Outcome) -> None:
    """Copies of what the job has written where its caller wished, beside its other results."""
    options = parsed.options
    written: list[Path] = []
    if outcome.results is not None and outcome.results.folder != folder:
        written += outcome.results.folder.glob("*results.json")
    if (stage := options.get("stage_dataset")) is not None:
        written.append(Path(stage) / "annotations" / "evaluate.json")
    elif options["out_json"] is not None:
        written.append(Path(options["out_json"]))
    elif job.command == "prepare":
        written.append(Path(options["input_dir"]) / "annotations.json")
    folder.mkdir(parents=True, exist_ok=True)
    for path in written:
        # Not those of an earlier run in the same folder.
        if path.is_file() and path.stat().st_mtime >= (job.started or 0) - 2:
            target = folder / path.name
            if not target.exists():
                shutil.copyfile(path, target)


def main() -> None:
    """The process: its slot is its argument, everything else its environment."""
    # As the command line does, before torch is imported.
    from aigve_cli.main import let_waiting_threads_sleep

    let_waiting_threads_sleep()
    settings = environment_to_settings()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(levelname)s:     %(message)s", stream=sys.stderr
    )
    slot = int(sys.argv[1])
    # A worker of an earlier server may need a moment to end.
    with FileLock(slot_lock(settings.state_dir, slot)):
        code = Worker(slot, settings).run()
        sys.stderr.flush()
        # Threads that still compute would lose torch under their feet.
        os._exit(code)


def slot_lock(state_dir: Path, slot: int) -> Path:
    """The file that the worker of a slot holds."""
    return state_dir / f"worker-{slot}.lock"


if __name__ == "__main__":
    main()
