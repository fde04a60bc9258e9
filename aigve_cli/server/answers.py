"""What the server answers, as types: they are also its OpenAPI document."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aigve_cli.errors import (
    EXIT_DONE,
    EXIT_ENVIRONMENT,
    EXIT_PARTIAL,
    EXIT_USAGE,
)
from aigve_cli.results.files import RESULTS as RESULTS_FILE
from aigve_cli.server import examples
from aigve_cli.server.store import Job, Store
from aigve_cli.server.worker import RESULTS, STDERR, STDOUT

SHOWN_FOLDER = "job"
"""What a job's folder is called to its caller, whom the server's disks do not concern."""


class Progress(BaseModel):
    """How far a job is."""

    model_config = ConfigDict(json_schema_extra={"example": examples.PROGRESS})

    videos: int
    total: int
    frames: int
    frames_per_second: float
    requests: int = Field(description="To judges.")
    seconds: float
    eta_seconds: float | None


class Links(BaseModel):
    """Where more of a job is."""

    self: str
    events: str
    results: str


class JobAnswer(BaseModel):
    """A job as it is now."""

    model_config = ConfigDict(json_schema_extra={"example": examples.JOB})

    id: str = Field(description="The key to the job: whoever has it can read and end it.")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int | None = Field(description="Jobs that are taken before it, while it waits.")
    created: str
    started: str | None
    finished: str | None
    expires: str | None = Field(description="When its results are deleted.")
    returncode: int | None = Field(description="Exit code of the command line.")
    reason: str | None = Field(description="Why it was ended, if it did not end by itself.")
    progress: Progress | None
    attempts: int = Field(description="How often a worker has begun with it, or gone on.")
    links: Links


class Artifact(BaseModel):
    """A file that a job has written."""

    name: str
    content: Any = Field(description="Of a JSON file.")


class RunAnswer(BaseModel):
    """What the command line would have said, and the results."""

    model_config = ConfigDict(json_schema_extra={"example": examples.RUN})

    cmd: list[str]
    returncode: int
    stdout: str
    stderr: str
    results: dict[str, Any] | None = Field(
        default=None, description="The content of results.json; null where nothing was computed."
    )
    artifacts: list[Artifact] = []
    job: JobAnswer | None = None


class HelpAnswer(BaseModel):
    """What the command line says of itself."""

    cmd: list[str]
    returncode: int
    stdout: str
    stderr: str


class Queue(BaseModel):
    """Jobs that wait and run."""

    length: int
    size: int
    running: int


class Health(BaseModel):
    """How the server is. Without the token of a server that wants one, its status alone."""

    model_config = ConfigDict(json_schema_extra={"example": examples.HEALTH})

    status: Literal["ok", "starting", "degraded"]
    python: str | None = None
    cwd: str | None = None
    script_exists: bool | None = None
    script_path: str | None = None
    torch: str | None = None
    cuda_available: bool | None = None
    cuda_version: str | None = None
    device_count: int | None = None
    torch_error: str | None = None
    versions: dict[str, str] | None = None
    queue: Queue | None = None
    workers: int | None = None


class Problem(BaseModel):
    """What was wrong, in words."""

    detail: str


class FieldProblem(BaseModel):
    """What was wrong with one field."""

    loc: list[str | int]
    msg: str
    type: str


class FieldProblems(BaseModel):
    """What was wrong with a request's fields."""

    detail: list[FieldProblem]


def job_to_answer(job: Job, store: Store, keep_seconds: float) -> JobAnswer:
    """A job for its caller."""
    path = f"/jobs/{job.id}"
    return JobAnswer(
        id=job.id,
        state=job.state,
        position=store.position(job),
        created=_time(job.created) or "",
        started=_time(job.started),
        finished=_time(job.finished),
        expires=_time(job.finished + keep_seconds if job.finished else None),
        returncode=job.returncode,
        reason=job.reason,
        progress=Progress(**job.progress) if job.progress else None,
        attempts=job.attempts,
        links=Links(self=path, events=f"{path}/events", results=f"{path}/results"),
    )


def job_to_results(job: Job, store: Store, keep_seconds: float) -> RunAnswer:
    """All that a finished job has left."""
    folder = store.job_folder(job.id)

    def read(path: Path) -> str:
        try:
            return hide_folder(path.read_text(encoding="utf-8"), folder)
        except OSError:
            return ""

    artifacts = [
        Artifact(name=path.name, content=json.loads(text))
        for path in sorted((folder / RESULTS).glob("*.json"))
        if (text := read(path))
    ]
    words = ["aigve", job.command, *job.arguments]
    return RunAnswer(
        cmd=[hide_folder(word, folder) for word in words],
        returncode=-1 if job.returncode is None else job.returncode,
        stdout=read(folder / STDOUT),
        stderr=read(folder / STDERR),
        results=next((a.content for a in artifacts if a.name == RESULTS_FILE), None),
        artifacts=artifacts,
        job=job_to_answer(job, store, keep_seconds),
    )


def hide_folder(text: str, folder: Path) -> str:
    """A text without the place of the job on the server's disks."""
    return text.replace(str(folder), SHOWN_FOLDER)


def returncode_to_status(code: int | None) -> int:
    """Of HTTP, for the exit code of the command line."""
    if code in (EXIT_DONE, EXIT_PARTIAL):
        return 200
    return {EXIT_USAGE: 422, EXIT_ENVIRONMENT: 503}.get(code if code is not None else -1, 500)


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
