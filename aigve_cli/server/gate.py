"""What happens to a request before anything reads it: who may come in, and with how much."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import urlsplit

from aigve_cli.server.settings import LOOPBACK_NAMES, ServerSettings, is_loopback
from aigve_cli.server.store import QueueFullError

log = logging.getLogger("aigve.server")
OPEN_PATHS = ("/", "/healthz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
"""What is told to anybody: that the server lives, and how it is to be asked."""
DOCUMENTATION_FILES = "/documentation-files"
"""Scripts and styles of the pages of documentation."""
UPLOAD_PATH = "/run_upload"
MOST_JSON_BYTES = 1_000_000
DRAINED_BYTES, DRAINED_SECONDS = 64_000_000, 5.0
IDLE_SECONDS = 60.0
"""A body of which nothing comes for so long is not waited for."""
_JOB_ID = re.compile(r"(/jobs/)[^/]+")


class _RefusedError(Exception):
    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class Gate:
    """ASGI middleware in front of everything.

    Args:
        app: What is behind it.
        settings: Who may come in.
        refuse_upload: Raises :class:`QueueFullError` where so many bytes more can't be taken.
        stopping: Set when the server is to end.
    """

    def __init__(
        self,
        app: Any,
        settings: ServerSettings,
        refuse_upload: Callable[[int], None],
        stopping: asyncio.Event,
    ) -> None:
        self._app = app
        self._settings = settings
        self._refuse_upload = refuse_upload
        self._stopping = stopping
        self._uploads: dict[_Body, None] = {}
        """Those that are being received, by this process."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._let_in(scope, receive, sending)
        finally:
            # Never a query, a header or a body; and an id is the key to its job.
            path = ascii(_JOB_ID.sub(r"\1...", scope["path"]))[1:-1][:100]
            seconds = time.monotonic() - start
            # Whoever watches the server asks for its health every few seconds.
            level = logging.DEBUG if path == "/healthz" and status == 200 else logging.INFO
            log.log(level, "%s %s %d %.3f s", scope["method"], path, status, seconds)

    async def _let_in(self, scope: Any, receive: Any, send: Any) -> None:
        headers = _single_headers(scope)
        try:
            most = self._check(scope, headers)
        except _RefusedError as error:
            await _answer(send, error, receive)
            return
        announced = int(headers.get("content-length") or 0)
        body = _Body(receive, most, announced, self._stopping)
        if _is_upload(scope):
            self._uploads[body] = None
            body.on_whole = lambda: self._uploads.pop(body, None)
        sending = body.sending(send)
        try:
            await self._app(scope, body.receive, sending)
        except Exception as error:
            # Here rather than in the server's own handler, which would log what the request said.
            log.error("internal error: %s", type(error).__name__)
            log.debug("", exc_info=error)
            words = f"Internal error: {type(error).__name__}. This is a defect of aigve."
            await sending.instead(_RefusedError(500, words))
        finally:
            self._uploads.pop(body, None)

    def _check(self, scope: Any, headers: dict[str, str | None]) -> int:
        """Refuse who may not come in; else how many bytes the body may have."""
        settings, path = self._settings, scope["path"]
        if settings.token:
            if not _is_open(path) and not has_token(headers, settings):
                raise _RefusedError(
                    401,
                    "This server wants its token, in a header: Authorization: Bearer TOKEN",
                    **{"www-authenticate": "Bearer"},
                )
        elif not settings.insecure:
            self._check_is_local(scope, headers)
        _check_origin(headers)
        most = settings.max_upload_bytes if _is_upload(scope) else MOST_JSON_BYTES
        length = headers.get("content-length", "0")
        if length is None or not length.isascii() or not length.isdecimal() or len(length) > 18:
            raise _RefusedError(400, "Content-Length is not a number.")
        if int(length) > most:
            raise _RefusedError(413, _too_large(most))
        if _is_upload(scope):
            self._check_room(int(length))
        return most

    def _check_room(self, length: int) -> None:
        coming = sum(max(body.received, body.announced) for body in self._uploads)
        try:
            if len(self._uploads) >= most_uploads(self._settings):
                raise QueueFullError(2)
            self._refuse_upload(coming + length)
        except QueueFullError as error:
            after = {"retry-after": str(error.seconds)}
            raise _RefusedError(429, error.words, **after) from error

    def _check_is_local(self, scope: Any, headers: dict[str, str | None]) -> None:
        """Without a token only this machine, and no page that a browser here has opened."""
        address = (scope.get("server") or ("localhost", None))[0]
        if not address.startswith("/") and not is_loopback(address):
            raise _RefusedError(
                403,
                "This server answers other machines only with a token: start it with "
                "AIGVE_API_TOKEN, or with --insecure.",
            )
        name = _host_to_name(headers.get("host") or "")
        if name not in (*LOOPBACK_NAMES, *self._settings.allow_host):
            raise _RefusedError(
                403, "This server is not known by that name: --allow-host NAME allows one."
            )


def most_uploads(settings: ServerSettings) -> int:
    """How many uploads may be received at a time: as many as could wait afterwards."""
    return settings.queue_size + 1


def _too_large(most: int) -> str:
    return (
        f"The body is larger than {most} bytes: send less, or start the server with --max-upload."
    )


def _is_open(path: str) -> bool:
    # One file of that folder, whose names are known: nothing is resolved.
    folder, _, name = path.rpartition("/")
    return path in OPEN_PATHS or (folder == DOCUMENTATION_FILES and ".." not in name)


def _is_upload(scope: Any) -> bool:
    return bool(scope["path"] == UPLOAD_PATH and scope["method"] == "POST")


def _check_origin(headers: dict[str, str | None]) -> None:
    """A page of another site may not send anything, whoever has opened it."""
    if "origin" not in headers:
        return
    try:
        origin = urlsplit(headers["origin"] or "").netloc.lower()
    except ValueError:
        origin = ""
    if not origin or origin != (headers.get("host") or "").lower():
        raise _RefusedError(403, "Requests from pages of other sites are refused.")


def has_token(headers: dict[str, str | None], settings: ServerSettings) -> bool:
    """Whether a request has the server's token; compared in the same time whatever it has."""
    scheme, _, given = (headers.get("authorization") or "").partition(" ")
    matches = hmac.compare_digest(given.strip().encode(), settings.token.encode())
    return scheme.lower() == "bearer" and matches


def _single_headers(scope: Any) -> dict[str, str | None]:
    """Headers by name; None where one that must be single was sent twice."""
    found: dict[str, str | None] = {}
    for raw_name, value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        found[name] = None if name in found else value.decode("latin-1")
    return found


def _host_to_name(host: str) -> str:
    name = host.lower()
    return name if name.endswith("]") else name.rpartition(":")[0] or name


class _Body:
    """Counts what comes, whatever was announced, and ends what does not come."""

    def __init__(self, receive: Any, most: int, announced: int, stopping: asyncio.Event) -> None:
        self.received = 0
        self.announced = announced
        self.on_whole: Callable[[], object] = lambda: None
        self.refused: _RefusedError | None = None
        """What is answered in place of what the application says."""
        self._receive = receive
        self._most = most
        self._stopping = stopping
        self._is_whole = False

    async def receive(self) -> Any:
        if self._is_whole:
            return await self._receive()  # the application waits for its caller to leave
        message = await self._next()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._is_whole = True
                self.on_whole()
            if self.received > self._most:
                self._refuse(413, _too_large(self._most))
        return message

    async def rest(self) -> Any:
        """What still comes, as it comes."""
        return await self._receive()

    def sending(self, send: Any) -> _Sending:
        """In place of ``send``."""
        return _Sending(send, self)

    async def _next(self) -> Any:
        coming = asyncio.ensure_future(self._receive())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait(
                (coming, stopping), timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
        if coming in done:
            return coming.result()
        coming.cancel()
        if done:
            self._refuse(503, "The server is to end.")
        self._refuse(408, f"Nothing came for {IDLE_SECONDS:g} seconds.")

    def _refuse(self, status: int, words: str) -> NoReturn:
        self.refused = _RefusedError(status, words)
        raise self.refused


class _Sending:
    """Sends what the application answers, unless its caller is told something else."""

    def __init__(self, send: Any, body: _Body) -> None:
        self._send = send
        self._body = body
        self._has_begun = False
        self._is_told = False

    async def __call__(self, message: Any) -> None:
        if self._body.refused is not None and not self._has_begun:
            await self.instead(self._body.refused)
        elif not self._is_told:
            self._has_begun = True
            await self._send(message)

    async def instead(self, error: _RefusedError) -> None:
        """Say this, if nothing was said yet."""
        if not self._has_begun and not self._is_told:
            self._is_told = True
            await _answer(self._send, error, self._body.rest)


async def _drain(receive: Any) -> None:
    """Read some of what is still being sent: a connection that is cut loses the answer too."""
    left = DRAINED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAINED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


async def _answer(send: Any, error: _RefusedError, receive: Any) -> None:
    """Say why, and only then end: while something is sent, a client may not read."""
    body = json.dumps({"detail": error.detail}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        # What is still being sent is not read.
        "connection": "close",
        **error.headers,
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await _drain(receive)
    await send({"type": "http.response.body", "body": b""})
