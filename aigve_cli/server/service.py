"""What the endpoints of one server process share: the queue, and what is said of its jobs."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import format_sse_event

from aigve_cli import __version__
from aigve_cli.commands.computing import plan_compute
from aigve_cli.commands.prepare import options_to_dataset
from aigve_cli.errors import AigveError, UsageError
from aigve_cli.output import Output
from aigve_cli.server.answers import (
    Health,
    JobAnswer,
    Queue,
    RunAnswer,
    hide_folder,
    job_to_answer,
    job_to_results,
    returncode_to_status,
)
from aigve_cli.server.commandline import Command, parse_command
from aigve_cli.server.fields import UPLOAD_DEFAULTS, UPLOAD_FILES, fields_to_command
from aigve_cli.server.guard import Guard
from aigve_cli.server.responses import Json, problem
from aigve_cli.server.settings import ServerSettings
from aigve_cli.server.store import DiskFullError, Job, Store, folder_bytes
from aigve_cli.server.supervisor import Supervisor
from aigve_cli.server.uploads import uploads_to_fields
from aigve_cli.server.watch import Watch
from aigve_cli.server.worker import RESULTS, UPLOAD

log = logging.getLogger("aigve.server")
KEEP_ALIVE_SECONDS = 15.0
NO_VIDEOMAE = "use_cdfvd: fvd is computed with I3D; VideoMAE is not here."
LOST_SECONDS = 30.0
"""A worker that was not seen for so long is not there."""
SCRIPT = Path("scripts", "prepare_annotations.py")
"""In a checkout, or in the folder where the server was started."""


class Service:
    """What the endpoints share.

    Args:
        settings: Of the server.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.store = Store(settings.state_dir)
        self.watch = Watch(self.store)
        self.guard = Guard(
            settings.allow_root, settings.state_dir, judge_urls=settings.allow_judge_url
        )
        self.supervisor = Supervisor(settings, self.store)
        self.started = time.time()

    @property
    def keep_seconds(self) -> float:
        """How long results can be fetched."""
        return self.settings.keep_hours * 3600

    def refuse_upload(self, size: int) -> None:
        """Refuse what could not be taken, before it comes.

        Raises:
            QueueFullError: As many jobs wait as may, or so many bytes more would be too many.
        """
        self.store.refuse_if_full(self.settings.queue_size)
        if self.store.bytes() + size > self.settings.quota_bytes:
            raise DiskFullError

    def submit(self, id: str, fields: Mapping[str, Any], *, size: int = 0) -> Job:
        """Check a request as far as that goes without computing, and queue it.

        Raises:
            UsageError: It cannot be done, whoever would try.
            ForbiddenError: It may not be done.
            QueueFullError: Not now.
        """
        folder = self.store.job_folder(id)
        try:
            command, arguments = fields_to_command(fields)
            self._check(command, arguments, folder)
        except AigveError as error:
            error.message = hide_folder(error.message, folder)
            error.hint = hide_folder(error.hint, folder) if error.hint else None
            raise
        except (ValueError, ArithmeticError, RuntimeError) as error:
            # What no parser has thought of, such as numbers of thousands of digits.
            raise UsageError(f"The request cannot be read: {type(error).__name__}.") from error
        except OSError as error:
            raise UsageError(f"A path cannot be read: {error.strerror}.") from error
        settings = self.settings
        job = self.store.add(
            id,
            command,
            arguments,
            most=settings.queue_size,
            size=size,
            most_bytes=settings.quota_bytes,
        )
        if fields.get("use_cdfvd") and fields.get("cdfvd_model") != "i3d":
            self.store.report(id, progress=None, notes=[NO_VIDEOMAE])
        log.info("job %s: queued", id[:6])
        return job

    def submit_upload(self, form: dict[str, Any], given: set[str]) -> Job:
        """Files to the job's folder, then as any other request; nothing is left of a refused one.

        Args:
            form: All fields, with their defaults.
            given: Those that were sent.

        Raises:
            UsageError: As :meth:`submit`, and for names of files that are refused.
            QueueFullError: Not now.
        """
        id = self.store.new_id()
        folder = self.store.job_folder(id)
        upload = folder / UPLOAD
        files = {name: form.pop(name) for name in UPLOAD_FILES}
        # What the form does not say is left to its defaults, and not given by this caller.
        fields = {name: value for name, value in form.items() if name in given}
        fields = {"compute": UPLOAD_DEFAULTS["compute"], **fields}
        fields.pop("wait", None)
        if not fields.get("metrics") and not fields.get("categories"):
            fields["categories"] = UPLOAD_DEFAULTS["categories"]
        if fields.get("stage_dataset") and fields.get("link"):
            raise UsageError("Links to an upload would lead nowhere afterwards.", option="link")
        try:
            upload.mkdir(parents=True, mode=0o700)
            fields |= uploads_to_fields(upload, **files)
            if not fields["compute"] and not fields.get("out_json"):
                fields["out_json"] = str(folder / RESULTS / "annotations.json")
            return self.submit(id, fields, size=folder_bytes(folder))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _check(self, command: Command, arguments: list[str], folder: Path) -> None:
        parsed = parse_command(command, arguments)
        if command == "compute" and not parsed.given & {"input_dir", "annotations"}:
            raise UsageError("There is no input_dir.", option="input_dir")
        guard = self.guard.of_job(folder)
        guard.check(parsed)
        options = parsed.options
        # What has to be opened to be planned with is the worker's: it may take much memory, or
        # torch.
        named = ("fvd_model", "reference_stats")
        if command != "compute" or any(options[name] is not None for name in named):
            options_to_dataset(options, guard.opens)
        else:
            plan_compute(options, parsed.config, Output(silent=True), opens=guard.opens)

    def answer(self, job: Job) -> JobAnswer:
        """A job for its caller."""
        return job_to_answer(job, self.store, self.keep_seconds)

    def results(self, job: Job) -> RunAnswer:
        """What a finished job has left."""
        return job_to_results(job, self.store, self.keep_seconds)

    async def answer_when_done(self, job: Job, request: Request) -> Response:
        """Wait for a job that nobody else can know of: without its caller it is of no use."""
        last: Job | None = job
        async for last in self.watch.job_states(job.id):
            if last is not None and not last.is_finished and await request.is_disconnected():
                await run_in_threadpool(self.store.cancel, job.id)
                return Response(status_code=499)
        if last is None:
            return problem(404, "The job was deleted.")
        answer = await run_in_threadpool(self.results, last)
        code = returncode_to_status(last.returncode)
        if not last.is_finished:
            code = 503
            answer.stderr = "The server is to end. The job goes on when it is started again.\n"
        elif last.state == "cancelled":
            code = 409
        return Json(answer.model_dump(mode="json"), code)

    async def events(self, id: str, after: int) -> AsyncIterator[bytes]:
        """What happens to a job, as server-sent events."""
        state, progress, sent = "", None, time.monotonic()
        folder = self.store.job_folder(id)
        async for job in self.watch.job_states(id):
            if job is None:
                return
            found = []
            for number, text in self.store.notes(id, after):
                after = number
                note = {"text": hide_folder(text, folder)}
                found.append(_event("note", note, id=str(number)))
            answer = self.answer(job)
            if job.progress != progress and answer.progress is not None:
                progress = job.progress
                found.append(_event("progress", answer.progress.model_dump()))
            now = f"{job.state} {answer.position} {job.attempts}"
            if now != state:
                state = now
                found.append(_event("state", answer.model_dump(mode="json")))
            if not found and time.monotonic() - sent > KEEP_ALIVE_SECONDS:
                found.append(format_sse_event(comment="still there"))
            if found:
                sent = time.monotonic()
                yield b"".join(found)

    def health(self) -> Health:
        """How the server is."""
        workers = self.store.workers().values()
        seen = [found for when, found in workers if time.time() - when < LOST_SECONDS]
        facts: dict[str, Any] = next(filter(None, seen), {})
        counts = self.store.counts()
        script = _script()
        state: Any = "ok" if facts.get("torch") else "degraded"
        if not facts and (seen or time.time() - self.started < LOST_SECONDS):
            state = "starting"
        return Health(
            status=state,
            python=sys.version.split()[0],
            cwd=str(Path.cwd()),
            script_exists=script is not None,
            script_path=script,
            torch=facts.get("torch"),
            cuda_available=facts.get("cuda_available"),
            cuda_version=facts.get("cuda_version"),
            device_count=facts.get("device_count"),
            torch_error=facts.get("torch_error"),
            versions=_versions(),
            queue=Queue(
                length=counts["queued"], size=self.settings.queue_size, running=counts["running"]
            ),
            workers=len(seen),
        )


def _event(name: str, data: Any, *, id: str | None = None) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data), id=id)


def _script() -> str | None:
    places = (Path.cwd() / SCRIPT, Path(__file__).resolve().parents[2] / SCRIPT)
    return next((str(path) for path in places if path.is_file()), None)


@cache
def _versions() -> dict[str, str]:
    from aigve_cli.results.records import package_version
    from aigve_cli.video.ffmpeg import ffmpeg_version

    found = {"aigve": __version__}
    for name in ("torch", "torchvision", "transformers", "timm", "numpy", "fastapi", "uvicorn"):
        if version := package_version(name):
            found[name] = version
    with suppress(AigveError):
        found["ffmpeg"] = ffmpeg_version()
    return found
