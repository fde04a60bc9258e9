"""The HTTP interface. It computes nothing: it asks the command line's own parser, and the queue."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi.sse import format_sse_event
from fastapi_offline import FastAPIOffline
from starlette.formparsers import MultiPartParser

from aigve_cli import __version__
from aigve_cli.commands.computing import plan_compute
from aigve_cli.commands.list_metrics import metric_rows
from aigve_cli.commands.prepare import options_to_dataset
from aigve_cli.errors import AigveError, UsageError
from aigve_cli.output import Output
from aigve_cli.server import examples
from aigve_cli.server.answers import (
    FieldProblems,
    Health,
    HelpAnswer,
    JobAnswer,
    Problem,
    Queue,
    RunAnswer,
    hide_folder,
    job_to_answer,
    job_to_results,
    returncode_to_status,
)
from aigve_cli.server.commandline import Command, help_text, parse_command
from aigve_cli.server.fields import RunRequest, fields_to_command, upload_signature
from aigve_cli.server.gate import DOCUMENTATION_FILES, FULL, Gate, has_token
from aigve_cli.server.guard import ForbiddenError, Guard
from aigve_cli.server.settings import ServerSettings, environment_to_settings
from aigve_cli.server.store import (
    DISK_FULL_SECONDS,
    Job,
    QueueFullError,
    Store,
    folder_bytes,
)
from aigve_cli.server.supervisor import Supervisor
from aigve_cli.server.uploads import uploads_to_fields
from aigve_cli.server.watch import Watch
from aigve_cli.server.worker import UPLOAD

log = logging.getLogger("aigve.server")
KEEP_ALIVE_SECONDS = 15.0
SPOOLED_BYTES = 64 << 10
"""Of one uploaded file in memory."""
LOST_SECONDS = 30.0
"""A worker that was not seen for so long is not there."""
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_annotations.py"
DESCRIPTION = """Scores of AI-generated videos, by `aigve compute` on this machine.

`POST /run` waits for its answer, `POST /jobs` gives the job at once. Fields are the options of the
command line. Paths are the server's, in the folders that it opens; `POST /run_upload` brings its
videos along.
"""
Asked = Annotated[RunRequest, Body(openapi_examples=examples.REQUESTS)]  # type: ignore[valid-type]
Answers = dict[int | str, dict[str, Any]]
_REFUSED: Answers = {
    400: {"model": Problem, "description": "The request cannot be read."},
    401: {"model": Problem, "description": "The server's token is missing or wrong."},
    403: {
        "model": Problem | FieldProblems,
        "description": "A path, a checkpoint or a judge that this server does not open to callers.",
    },
}
_ENDING: Answers = {503: {"model": Problem, "description": "The server is to end, or its disk."}}
_FIELDS: Answers = {422: {"model": FieldProblems, "description": "A field is wrong, by name."}}
_TAKEN: Answers = {
    **_REFUSED,
    408: {"model": Problem, "description": "Nothing came for a minute."},
    413: {"model": Problem, "description": "The body is too large."},
    429: {"model": Problem, "description": "As many jobs wait as may: see Retry-After."},
}
_RAN: Answers = {
    **_TAKEN,
    409: {"model": RunAnswer, "description": "The job was cancelled."},
    422: {
        "model": RunAnswer | FieldProblems,
        "description": "A field is wrong, or exit code 2.",
    },
    500: {"model": RunAnswer | Problem, "description": "Exit code 1, or a defect of the server."},
    503: {
        "model": RunAnswer | Problem,
        "description": "Exit code 4: weights or the machine; or the server is to end, and the job "
        "goes on when it is started again.",
    },
}
_OF_JOB: Answers = {
    **_REFUSED,
    404: {"model": Problem, "description": "There is no such job, or it was kept long enough."},
    **_FIELDS,
}


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
            raise QueueFullError(DISK_FULL_SECONDS)

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
        log.info("job %s: queued", id[:6])
        return job

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
            return _problem(404, "The job was deleted.")
        answer = await run_in_threadpool(self.results, last)
        code = returncode_to_status(last.returncode)
        if not last.is_finished:
            code = 503
            answer.stderr = "The server is to end. The job goes on when it is started again.\n"
        elif last.state == "cancelled":
            code = 409
        return _Json(answer.model_dump(mode="json"), code)

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
        facts: dict[str, Any] = {}
        alive = 0
        for seen, found in self.store.workers().values():
            if time.time() - seen < LOST_SECONDS and found:
                alive += 1
                facts = facts or found
        counts = self.store.counts()
        state: Any = "ok" if alive and facts.get("torch") else "degraded"
        if not alive and time.time() - self.started < LOST_SECONDS:
            state = "starting"
        return Health(
            status=state,
            python=sys.version.split()[0],
            cwd=str(Path.cwd()),
            script_exists=SCRIPT.is_file(),
            script_path=str(SCRIPT) if SCRIPT.is_file() else None,
            torch=facts.get("torch"),
            cuda_available=facts.get("cuda_available"),
            cuda_version=facts.get("cuda_version"),
            device_count=facts.get("device_count"),
            torch_error=facts.get("torch_error"),
            versions=_versions(),
            queue=Queue(
                length=counts["queued"], size=self.settings.queue_size, running=counts["running"]
            ),
            workers=alive,
        )


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The application, with its settings from the environment unless they are given."""
    settings = settings or environment_to_settings()
    _log_to_stderr(settings)
    service = Service(settings)
    settings.incoming_dir.mkdir(exist_ok=True, mode=0o700)
    # Uploads wait in files without a name on this disk, not in the machine's folder of such files,
    # and not in memory.
    tempfile.tempdir = str(settings.incoming_dir)
    MultiPartParser.spool_max_size = SPOOLED_BYTES

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.watch.start()
        _leave_at_the_signal(service)
        service.supervisor.start()
        try:
            yield
        finally:
            await service.watch.stop()
            await run_in_threadpool(service.supervisor.stop)

    # Its pages of documentation come from this server, not from somebody else's.
    app: FastAPI = FastAPIOffline(
        static_url=DOCUMENTATION_FILES,
        title="aigve",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        form_limits={"max_files": 10_000, "max_fields": 2_000, "max_part_size": 1_000_000},
    )
    app.add_middleware(
        Gate,
        settings=settings,
        refuse_upload=service.refuse_upload,
        stopping=service.watch.stopping,
    )
    _handle_errors(app)
    _add_endpoints(app, service)
    return app


def _add_endpoints(app: FastAPI, service: Service) -> None:
    store = service.store
    # For the document: it is the gate that asks for the token.
    bearer = HTTPBearer(auto_error=False, description="AIGVE_API_TOKEN")
    guarded = APIRouter(dependencies=[Depends(bearer)])

    @app.get(
        "/healthz",
        tags=["server"],
        summary="How the server is",
        responses={503: {"model": Health, "description": "No worker, or no torch."}},
    )
    def healthz(request: Request, response: Response) -> Health:
        """How the server is, and what it computes with."""
        health = service.health()
        if health.status == "degraded":
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        token = service.settings.token
        if token and not has_token(dict(request.headers.items()), service.settings):
            return Health(status=health.status)
        return health

    @guarded.get("/help", tags=["server"], summary="The options", responses=_REFUSED)
    def help_() -> HelpAnswer:
        """The options of `aigve compute`, which are the fields of requests."""
        cmd = ["aigve", "compute", "--help"]
        return HelpAnswer(cmd=cmd, returncode=0, stdout=help_text(), stderr="")

    @guarded.get(
        "/metrics", tags=["server"], summary="The metrics", responses={**_REFUSED, **_FIELDS}
    )
    def metrics(category: str | None = None) -> list[dict[str, Any]]:
        """The metrics that are installed, as `aigve list-metrics --format json` prints them."""
        return metric_rows(category)

    @guarded.post(
        "/run",
        tags=["run"],
        summary="Score videos of the server, and wait",
        response_model=RunAnswer,
        responses=_RAN,
    )
    async def run(request: Request, body: Asked) -> Any:
        """Prepare, stage or compute, and answer when it is done.

        A caller that leaves ends the job.
        """
        if body.list_metrics:  # type: ignore[attr-defined]
            return await run_in_threadpool(_list_metrics)
        fields = body.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
        job = await run_in_threadpool(service.submit, store.new_id(), fields)
        return await service.answer_when_done(job, request)

    async def run_upload(request: Request, **form: Any) -> Any:
        """Send videos and have them scored.

        Their roles are told by their names in `videos`, or by the fields `generated` and
        `references`.
        """
        sent = await request.form()
        if unknown := sorted(set(sent) - set(form)):
            raise UsageError(f"There is no field {unknown[0]}.", option=unknown[0])
        job = await run_in_threadpool(_submit_upload, service, form, set(sent))
        if not form["wait"]:
            return _accepted(service, job)
        return await service.answer_when_done(job, request)

    signature = upload_signature()
    parameters = list(signature.parameters.values())
    first = next(iter(_signature_of_request().parameters.values()))
    run_upload.__signature__ = signature.replace(parameters=[first, *parameters])  # type: ignore[attr-defined]
    accepted: Answers = {202: {"model": JobAnswer, "description": "With wait=false."}}
    guarded.post(
        "/run_upload",
        tags=["run"],
        summary="Score videos that are sent along",
        response_model=RunAnswer,
        responses=_RAN | accepted,
    )(run_upload)

    @guarded.post(
        "/jobs",
        tags=["jobs"],
        summary="Score videos of the server, later",
        status_code=202,
        response_model=JobAnswer,
        responses={**_TAKEN, **_FIELDS, **_ENDING},
    )
    def add_job(body: Asked) -> Response:
        """Queue what `POST /run` does, and answer at once."""
        fields = body.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
        if fields.pop("list_metrics", False):
            raise UsageError("That is no job: GET /metrics lists them.", option="list_metrics")
        return _accepted(service, service.submit(store.new_id(), fields))

    @guarded.get("/jobs/{id}", tags=["jobs"], summary="A job as it is now", responses=_OF_JOB)
    def get_job(id: str) -> JobAnswer:
        """A job as it is now."""
        return service.answer(_known(store, id))

    @guarded.delete(
        "/jobs/{id}", tags=["jobs"], summary="End a job, or delete it", responses=_OF_JOB
    )
    def delete_job(id: str) -> JobAnswer:
        """End a job that waits or runs; delete a finished one, with its results."""
        job = _known(store, id)
        if job.is_finished:
            store.remove(id)
            return service.answer(job)
        store.cancel(id)
        return service.answer(store.job(id) or job)

    @guarded.get(
        "/jobs/{id}/results",
        tags=["jobs"],
        summary="All results of a finished job",
        response_model=RunAnswer,
        responses={**_OF_JOB, 409: {"model": Problem, "description": "It is not finished."}},
    )
    def get_results(id: str) -> Response:
        """All that a finished job has left, whatever its exit code is."""
        job = _known(store, id)
        if not job.is_finished:
            return _problem(409, f"The job is {job.state}.")
        return _Json(service.results(job).model_dump(mode="json"))

    @guarded.get(
        "/jobs/{id}/events",
        tags=["jobs"],
        summary="Follow a job",
        response_class=StreamingResponse,
        responses={
            **_OF_JOB,
            200: {
                "description": "Events `state` (the job), `progress` and `note` (a line for "
                "people), until it is finished.",
                "content": {
                    "text/event-stream": {"schema": {"type": "string"}, "example": examples.EVENTS}
                },
            },
        },
    )
    async def get_events(
        id: str,
        last_event_id: Annotated[
            str, Header(description="Number of the last note that is known.")
        ] = "0",
    ) -> Response:
        """Follow a job, as server-sent events."""
        job = await run_in_threadpool(_known, store, id)
        is_number = last_event_id.isascii() and last_event_id.isdecimal()
        stream = service.events(job.id, int(last_event_id[:9]) if is_number else 0)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    app.include_router(guarded)


def _submit_upload(service: Service, form: dict[str, Any], given: set[str]) -> Job:
    """Files to the job's folder, then as any other request; nothing is left of a refused one."""
    id = service.store.new_id()
    folder = service.store.job_folder(id)
    upload = folder / UPLOAD
    files = {name: form.pop(name) for name in ("videos", "generated", "references", "prompts")}
    # What the form does not say is left to its defaults, and not given by this caller.
    fields = {name: value for name, value in form.items() if name in given}
    fields = {"compute": True, **fields}
    fields.pop("wait", None)
    if not fields.get("metrics") and not fields.get("categories"):
        fields["categories"] = form["categories"] or "distribution_based"
    try:
        upload.mkdir(parents=True, mode=0o700)
        fields |= uploads_to_fields(upload, **files)
        if not fields["compute"] and not fields.get("out_json"):
            fields["out_json"] = str(folder / "results" / "annotations.json")
        return service.submit(id, fields, size=folder_bytes(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _accepted(service: Service, job: Job) -> Response:
    answer = service.answer(job)
    headers = {"location": answer.links.self}
    return _Json(answer.model_dump(mode="json"), 202, headers)


def _known(store: Store, id: str) -> Job:
    job = store.job(id)
    if job is None:
        raise _NoJobError
    return job


class _NoJobError(Exception):
    """There is none of that id."""


def _list_metrics() -> RunAnswer:
    """As the command line lists them."""
    import io

    from aigve_cli.commands.list_metrics import COLUMNS

    printed = io.StringIO()
    Output(stdout=printed).rows(metric_rows(None), COLUMNS, "tsv")
    cmd = ["aigve", "list-metrics"]
    return RunAnswer(cmd=cmd, returncode=0, stdout=printed.getvalue(), stderr="")


# --- errors -----------------------------------------------------------------------------------


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def unreadable(_request: Request, error: RequestValidationError) -> Response:
        # Without the values, of which some are no JSON.
        problems = [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()]
        return _Json({"detail": problems}, 422)

    @app.exception_handler(AigveError)
    async def refused(request: Request, error: AigveError) -> Response:
        code = 403 if isinstance(error, ForbiddenError) else returncode_to_status(error.exit_code)
        message = " ".join(filter(None, (error.message, error.hint)))
        if code == 403:
            log.warning("refused: %s: %s", request.url.path, getattr(error, "option", ""))
        field = _field_of(error)
        loc = ["body", field] if field else ["body"]
        detail = [{"loc": loc, "msg": message, "type": "forbidden" if code == 403 else "usage"}]
        if code in (403, 422):
            return _Json({"detail": detail}, code)
        return _problem(code, message)

    @app.exception_handler(QueueFullError)
    async def full(_request: Request, error: QueueFullError) -> Response:
        return _problem(429, FULL, {"retry-after": str(error.seconds)})

    @app.exception_handler(_NoJobError)
    async def unknown(_request: Request, _error: _NoJobError) -> Response:
        return _problem(404, "There is no such job, or its results were kept long enough.")

    @app.exception_handler(OSError)
    async def disk(_request: Request, error: OSError) -> Response:
        log.error("disk: %s", error.strerror)
        return _problem(503, f"The server's disk: {error.strerror}.")

    @app.exception_handler(sqlite3.Error)
    async def database(_request: Request, error: sqlite3.Error) -> Response:
        log.error("database: %s", error)
        return _problem(503, f"The server's queue: {error}.")


def _field_of(error: AigveError) -> str:
    """The field that an error is about: named by it, or the first flag in its words."""
    if option := getattr(error, "option", ""):
        return str(option)
    flag = _FLAG.search(f"{error.message} {error.hint or ''}")
    return flag[1].replace("-", "_") if flag else ""


def _problem(code: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return _Json({"detail": words}, code, headers)


class _Json(JSONResponse):
    """JSON of texts that need not be valid, such as names of files."""

    def render(self, content: Any) -> bytes:
        """A lone surrogate as the escape that JSON has for it."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


# --- steps ------------------------------------------------------------------------------------


def _signature_of_request() -> Any:
    import inspect

    def takes(request: Request) -> None: ...

    return inspect.signature(takes, eval_str=True)


def _event(name: str, data: Any, *, id: str | None = None) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data), id=id)


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


def _leave_at_the_signal(service: Service) -> None:
    """Tell workers and those who wait that the server is to end, which would wait for them."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        earlier = signal.getsignal(number)

        def leave(signum: int, frame: Any, earlier: Any = earlier) -> None:
            loop.call_soon_threadsafe(service.watch.stopping.set)
            service.supervisor.ask_to_stop()
            if callable(earlier):
                earlier(signum, frame)

        with suppress(ValueError):  # not the main thread: a test's, which stops otherwise
            signal.signal(number, leave)


def _log_to_stderr(settings: ServerSettings) -> None:
    if log.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
    log.addHandler(handler)
    log.setLevel(settings.log_level.upper())
    log.propagate = False
