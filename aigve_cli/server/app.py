"""The HTTP interface. It computes nothing: it asks the command line's own parser, and the queue."""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import resource
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.formparsers import MultiPartParser

from aigve_cli import __version__
from aigve_cli.commands.list_metrics import COLUMNS, metric_rows
from aigve_cli.errors import UsageError
from aigve_cli.output import Output
from aigve_cli.server import examples
from aigve_cli.server.answers import Health, HelpAnswer, JobAnswer, Problem, RunAnswer
from aigve_cli.server.commandline import help_text, server_config
from aigve_cli.server.fields import Extra, RunRequest, upload_signature
from aigve_cli.server.gate import DOCUMENTATION_FILES, Gate, has_token
from aigve_cli.server.responses import (
    ENDING,
    FIELDS,
    OF_JOB,
    RAN,
    REFUSED,
    TAKEN,
    Answers,
    Json,
    NoJobError,
    handle_errors,
    problem,
)
from aigve_cli.server.service import Service
from aigve_cli.server.settings import ServerSettings, environment_to_settings
from aigve_cli.server.store import Job, Store

log = logging.getLogger("aigve.server")
MOST_FILES = 10_000
"""Of one upload."""
SPOOLED_BYTES = 64 << 10
"""Of one uploaded file in memory."""
DESCRIPTION = """Scores of AI-generated videos, by `aigve compute` on this machine.

`POST /run` waits for its answer, `POST /jobs` gives the job at once. Fields are the options of the
command line. Paths are the server's, in the folders that it opens; `POST /run_upload` brings its
videos along.
"""
if TYPE_CHECKING:
    Asked = Extra
else:
    Asked = Annotated[RunRequest, Body(openapi_examples=examples.REQUESTS)]


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The application, with its settings from the environment unless they are given."""
    settings = settings or environment_to_settings()
    _log_to_stderr(settings)
    service = Service(settings)
    settings.incoming_dir.mkdir(exist_ok=True, mode=0o700)
    # Uploads wait in files without a name on this disk, not in the machine's folder of such files,
    # and not in memory.
    tempfile.tempdir = str(settings.incoming_dir)
    _open_many_files()
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
        form_limits={"max_files": MOST_FILES, "max_fields": 2_000, "max_part_size": 1_000_000},
    )
    app.add_middleware(
        Gate,
        settings=settings,
        refuse_upload=service.refuse_upload,
        stopping=service.watch.stopping,
    )
    handle_errors(app)
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

    @app.get("/", include_in_schema=False)
    def first_page() -> Response:
        return RedirectResponse("/docs")

    @guarded.get("/help", tags=["server"], summary="The options", responses=REFUSED)
    def help_() -> HelpAnswer:
        """The options of `aigve compute`, which are the fields of requests."""
        cmd = ["aigve", "compute", "--help"]
        return HelpAnswer(cmd=cmd, returncode=0, stdout=help_text(), stderr="")

    @guarded.get(
        "/metrics", tags=["server"], summary="The metrics", responses={**REFUSED, **FIELDS}
    )
    def metrics(category: str | None = None) -> list[dict[str, Any]]:
        """The metrics that are installed, as `aigve list-metrics --format json` prints them."""
        return metric_rows(category, server_config())

    @guarded.post(
        "/run",
        tags=["run"],
        summary="Score videos of the server, and wait",
        response_model=RunAnswer,
        responses=RAN,
    )
    async def run(request: Request, body: Asked) -> Any:
        """Prepare, stage or compute, and answer when it is done.

        A caller that leaves ends the job.
        """
        if body.list_metrics:
            return await run_in_threadpool(_list_metrics)
        fields = body.model_dump(exclude_unset=True)
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
        job = await run_in_threadpool(service.submit_upload, form, set(sent))
        if not form["wait"]:
            return _accepted(service, job)
        return await service.answer_when_done(job, request)

    signature = upload_signature()
    first = inspect.Parameter(
        "request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request
    )
    parameters = list(signature.parameters.values())
    run_upload.__signature__ = signature.replace(parameters=[first, *parameters])  # type: ignore[attr-defined]
    accepted: Answers = {202: {"model": JobAnswer, "description": "With wait=false."}}
    guarded.post(
        "/run_upload",
        tags=["run"],
        summary="Score videos that are sent along",
        response_model=RunAnswer,
        responses=RAN | accepted,
    )(run_upload)

    @guarded.post(
        "/jobs",
        tags=["jobs"],
        summary="Score videos of the server, later",
        status_code=202,
        response_model=JobAnswer,
        responses={**TAKEN, **FIELDS, **ENDING},
    )
    def add_job(body: Asked) -> Response:
        """Queue what `POST /run` does, and answer at once."""
        fields = body.model_dump(exclude_unset=True)
        if fields.pop("list_metrics", False):
            raise UsageError("That is no job: GET /metrics lists them.", option="list_metrics")
        return _accepted(service, service.submit(store.new_id(), fields))

    @guarded.get("/jobs/{id}", tags=["jobs"], summary="A job as it is now", responses=OF_JOB)
    def get_job(id: str) -> JobAnswer:
        """A job as it is now."""
        return service.answer(_known(store, id))

    @guarded.delete(
        "/jobs/{id}", tags=["jobs"], summary="End a job, or delete it", responses=OF_JOB
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
        responses={**OF_JOB, 409: {"model": Problem, "description": "It is not finished."}},
    )
    def get_results(id: str) -> Response:
        """All that a finished job has left, whatever its exit code is."""
        job = _known(store, id)
        if not job.is_finished:
            return problem(409, f"The job is {job.state}.")
        return Json(service.results(job).model_dump(mode="json"))

    @guarded.get(
        "/jobs/{id}/events",
        tags=["jobs"],
        summary="Follow a job",
        response_class=StreamingResponse,
        responses={
            **OF_JOB,
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


def _accepted(service: Service, job: Job) -> Response:
    answer = service.answer(job)
    headers = {"location": answer.links.self}
    return Json(answer.model_dump(mode="json"), 202, headers)


def _known(store: Store, id: str) -> Job:
    job = store.job(id)
    if job is None:
        raise NoJobError
    return job


def _list_metrics() -> RunAnswer:
    """As the command line lists them."""
    printed = io.StringIO()
    Output(stdout=printed).rows(metric_rows(None, server_config()), COLUMNS, "tsv")
    cmd = ["aigve", "list-metrics"]
    return RunAnswer(cmd=cmd, returncode=0, stdout=printed.getvalue(), stderr="")


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


def _open_many_files() -> None:
    """Each file of an upload is one while it comes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, 4 * MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_to_stderr(settings: ServerSettings) -> None:
    # Uvicorn's own lines have whole paths, and a job's id is its key.
    logging.getLogger("uvicorn.access").disabled = True
    if log.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
    log.addHandler(handler)
    log.setLevel(settings.log_level.upper())
    log.propagate = False
