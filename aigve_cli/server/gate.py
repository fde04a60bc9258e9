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
from typing import Any
from urllib.parse import urlsplit

from aigve_cli.server.settings import LOOPBACK_NAMES, ServerSettings, is_loopback
from aigve_cli.server.store import QueueFullError

log = logging.getLogger("aigve.server")
OPEN_PATHS = ("/healthz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
"""What is told to anybody: that the server lives, and how it is to be asked."""
UPLOAD_PATH = "/run_upload"
MOST_JSON_BYTES = 1_000_000
DRAINED_BYTES, DRAINED_SECONDS = 64_000_000, 5.0
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
        refuse_upload: Raises :class:`QueueFullError` where nothing more can be taken.
    """

    def __init__(self, app: Any, settings: ServerSettings, refuse_upload: Callable[[], None]):
        self._app = app
        self._settings = settings
        self._refuse_upload = refuse_upload

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
            path = _JOB_ID.sub(r"\1…", scope["path"])
            seconds = time.monotonic() - start
            # Whoever watches the server asks for its health every few seconds.
            level = logging.DEBUG if path == "/healthz" and status == 200 else logging.INFO
            log.log(level, "%s %s %d %.3f s", scope["method"], path, status, seconds)

    async def _let_in(self, scope: Any, receive: Any, send: Any) -> None:
        headers = _single_headers(scope)
        try:
            most = self._check(scope, headers)
        except _RefusedError as error:
            await _answer(send, error)
            await _drain(receive)
            return
        body = _Body(receive, most)
        await self._app(scope, body.receive, body.sending(send))
        if body.is_over:
            await _drain(receive)

    def _check(self, scope: Any, headers: dict[str, str | None]) -> int:
        """Refuse who may not come in; else how many bytes the body may have."""
        settings, path = self._settings, scope["path"]
        if settings.token:
            if path not in OPEN_PATHS and not has_token(headers, settings):
                raise _RefusedError(
                    401,
                    "This server wants its token: Authorization: Bearer …",
                    **{"www-authenticate": "Bearer"},
                )
        elif not settings.insecure:
            self._check_is_local(scope, headers)
        self._check_origin(headers)
        upload = path == UPLOAD_PATH and scope["method"] == "POST"
        most = settings.max_upload_bytes if upload else MOST_JSON_BYTES
        length = headers.get("content-length", "0")
        if length is None or not length.isascii() or not length.isdecimal():
            raise _RefusedError(400, "Content-Length is not a number.")
        if int(length) > most:
            raise _RefusedError(413, f"The body is larger than {most} bytes.")
        if upload:
            try:
                self._refuse_upload()
            except QueueFullError as error:
                raise _RefusedError(429, FULL, **{"retry-after": str(error.seconds)}) from error
        return most

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

    def _check_origin(self, headers: dict[str, str | None]) -> None:
        """A page of another site may not send anything, whoever has opened it."""
        if "origin" not in headers:
            return
        origin = headers["origin"] or ""
        if urlsplit(origin).netloc.lower() != (headers.get("host") or "").lower():
            raise _RefusedError(403, "Requests from pages of other sites are refused.")


FULL = "As many jobs wait as may; try again later."


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
    """Counts what comes, whatever was announced, and answers 413 in place of what follows."""

    def __init__(self, receive: Any, most: int) -> None:
        self._receive = receive
        self._left = most
        self._most = most
        self.is_over = False

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.is_over = True
                raise _RefusedError(413, "too large")
        return message

    def sending(self, send: Any) -> Callable[[Any], Any]:
        answered = False

        async def sending(message: Any) -> None:
            nonlocal answered
            if not self.is_over:
                await send(message)
            elif not answered:
                answered = True
                words = f"The body is larger than {self._most} bytes."
                await _answer(send, _RefusedError(413, words))

        return sending


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


async def _answer(send: Any, error: _RefusedError) -> None:
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
    await send({"type": "http.response.body", "body": body})
