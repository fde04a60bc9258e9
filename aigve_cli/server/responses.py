"""How answers look: documented statuses, errors as fields in words, and JSON of any text."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from aigve_cli.errors import AigveError
from aigve_cli.server.answers import FieldProblems, Problem, RunAnswer, returncode_to_status
from aigve_cli.server.guard import ForbiddenError
from aigve_cli.server.store import QueueFullError

log = logging.getLogger("aigve.server")
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
Answers = dict[int | str, dict[str, Any]]
REFUSED: Answers = {
    400: {"model": Problem, "description": "The request cannot be read."},
    401: {"model": Problem, "description": "The server's token is missing or wrong."},
    403: {
        "model": Problem | FieldProblems,
        "description": "A path, a checkpoint or a judge that this server does not open to callers.",
    },
}
ENDING: Answers = {503: {"model": Problem, "description": "The server is to end, or its disk."}}
FIELDS: Answers = {422: {"model": FieldProblems, "description": "A field is wrong, by name."}}
TAKEN: Answers = {
    **REFUSED,
    408: {"model": Problem, "description": "Nothing came for a minute."},
    413: {"model": Problem, "description": "The body is too large."},
    429: {"model": Problem, "description": "As many jobs wait as may: see Retry-After."},
}
RAN: Answers = {
    **TAKEN,
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
OF_JOB: Answers = {
    **REFUSED,
    404: {"model": Problem, "description": "There is no such job, or it was kept long enough."},
    **FIELDS,
}


class NoJobError(Exception):
    """There is none of that id."""


def handle_errors(app: FastAPI) -> None:
    """Answers for everything that can be wrong with a request, or with the server."""

    @app.exception_handler(RequestValidationError)
    async def unreadable(_request: Request, error: RequestValidationError) -> Response:
        # Without the values, of which some are no JSON.
        problems = [
            {"loc": one["loc"], "msg": _plain_words(one), "type": one["type"]}
            for one in error.errors()
        ]
        return Json({"detail": problems}, 422)

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
            return Json({"detail": detail}, code)
        return problem(code, message)

    @app.exception_handler(QueueFullError)
    async def full(_request: Request, error: QueueFullError) -> Response:
        return problem(429, error.words, {"retry-after": str(error.seconds)})

    @app.exception_handler(NoJobError)
    async def unknown(_request: Request, _error: NoJobError) -> Response:
        return problem(404, "There is no such job, or it is deleted by now.")

    @app.exception_handler(OSError)
    async def disk(_request: Request, error: OSError) -> Response:
        log.error("disk: %s", error.strerror)
        return problem(503, f"The server's disk: {error.strerror}.")

    @app.exception_handler(sqlite3.Error)
    async def database(_request: Request, error: sqlite3.Error) -> Response:
        log.error("database: %s", error)
        return problem(503, f"The server's queue: {error}.")


def _plain_words(error: dict[str, Any]) -> str:
    """What to do about the slips that are made most; else pydantic's words."""
    words = str(error["msg"])
    if error["type"] == "model_attributes_type":
        return "A JSON object is expected, with the header Content-Type: application/json."
    if "Expected UploadFile" in words:
        field = error["loc"][-1]
        return f"A file is expected; of curl: -F {field}=@FILE."
    reason = (error.get("ctx") or {}).get("error")
    return f"{words}: {reason}" if error["type"] == "json_invalid" and reason else words


def _field_of(error: AigveError) -> str:
    """The field that an error is about: named by it, or the first flag in its words."""
    if option := getattr(error, "option", ""):
        return str(option)
    flag = _FLAG.search(f"{error.message} {error.hint or ''}")
    return flag[1].replace("-", "_") if flag else ""


def problem(code: int, words: str, headers: dict[str, str] | None = None) -> Response:
    """What was wrong, in words."""
    return Json({"detail": words}, code, headers)


class Json(JSONResponse):
    """JSON of texts that need not be valid, such as names of files."""

    def render(self, content: Any) -> bytes:
        """A lone surrogate as the escape that JSON has for it."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")
