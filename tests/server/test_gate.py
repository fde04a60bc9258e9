"""Who may come in, and with how much: the gate in front of an application that says yes to all."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.server.gate import DOCUMENTATION_FILES, MOST_JSON_BYTES, OPEN_PATHS, Gate
from aigve_cli.server.settings import ServerSettings, is_loopback
from aigve_cli.server.store import QueueFullError

SETTINGS = ServerSettings(Path("/state"), (Path("/root"),), max_upload=0.001)
WITH_TOKEN = replace(SETTINGS, token="secret-token")
LOCAL = [("host", "localhost:2200")]


def ask(
    settings: ServerSettings,
    *,
    path: str = "/run",
    method: str = "POST",
    headers: list[tuple[str, str]] | None = None,
    body: list[bytes] | None = None,
    address: str = "127.0.0.1",
    full: bool = False,
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and content of the answer, and that nothing else was sent."""
    parts = list(body or [b""])
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            more = True
            while more:
                more = (await receive()).get("more_body", False)
            status = 200
        except Exception:
            status = 400  # as FastAPI answers whatever goes wrong with a body
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b'"in"'})

    async def receive() -> Any:
        part = parts.pop(0) if parts else b""
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    def refuse(size: int) -> None:
        if full:
            raise QueueFullError(7)

    raw = [
        (name.encode(), value.encode()) for name, value in (LOCAL if headers is None else headers)
    ]
    scope = {"type": "http", "path": path, "method": method, "headers": raw}
    scope["server"] = (address, 2200)

    async def handle() -> None:
        await Gate(application, settings, refuse, asyncio.Event())(scope, receive, send)

    asyncio.run(handle())
    assert [message["type"] for message in sent[:2]] == [
        "http.response.start",
        "http.response.body",
    ]
    # What ends a refusal comes after the rest of the body was read.
    assert all(not message["body"] and not message.get("more_body") for message in sent[2:])
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, json.loads(sent[1]["body"])


def bearer(token: str, *, scheme: str = "Bearer") -> list[tuple[str, str]]:
    return [*LOCAL, ("authorization", f"{scheme} {token}")]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens(scheme: str) -> None:
    assert ask(WITH_TOKEN, headers=bearer("secret-token", scheme=scheme))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        LOCAL,
        bearer(""),
        bearer("secret-toke"),
        bearer("secret-token2"),
        bearer("SECRET-TOKEN"),
        bearer("secret-token", scheme="Basic"),
        bearer("sécret"),
        [*LOCAL, ("authorization", "secret-token")],
        [*bearer("secret-token"), ("authorization", "Bearer secret-token")],
        [*bearer("wrong"), ("Authorization", "Bearer secret-token")],
        [*LOCAL, ("x-authorization", "Bearer secret-token")],
    ],
)
def test_any_other_token_does_not(headers: list[tuple[str, str]]) -> None:
    status, answered, content = ask(WITH_TOKEN, headers=headers)
    assert status == 401
    assert answered["www-authenticate"] == "Bearer"
    assert "secret" not in json.dumps(content)


@pytest.mark.parametrize("path", [*OPEN_PATHS, f"{DOCUMENTATION_FILES}/redoc.standalone.js"])
def test_health_and_documentation_are_open(path: str) -> None:
    assert ask(WITH_TOKEN, path=path, method="GET")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("//healthz", "/healthz/", "/healthz/../run", "/HEALTHZ", "/docs/x", "/run", "/jobs/x"),
        *(f"{DOCUMENTATION_FILES}/{name}" for name in ("../run", "x/run", "..")),
    ],
)
def test_what_only_looks_like_them_is_not(path: str) -> None:
    assert ask(WITH_TOKEN, path=path, method="GET")[0] == 401


@pytest.mark.parametrize("address", ["10.0.0.5", "0.0.0.0", "fe80::1", "example.org"])
def test_without_a_token_other_machines_stay_out(address: str) -> None:
    status, _, content = ask(SETTINGS, address=address)
    assert status == 403
    assert "AIGVE_API_TOKEN" in content["detail"]
    assert ask(replace(SETTINGS, insecure=True), address=address)[0] == 200
    assert ask(WITH_TOKEN, address=address, headers=bearer("secret-token"))[0] == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:2200", "127.0.0.1:9", "[::1]:2200", "[::1]", "LOCALHOST:1"]
)
def test_this_machines_names(host: str) -> None:
    assert ask(SETTINGS, headers=[("host", host)])[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "evil.example")],  # a name that a page's owner has pointed here
        [("host", "evil.example:2200")],
        [("host", "localhost.evil.example")],
        [("host", "")],
        [],
        [*LOCAL, ("host", "evil.example")],
        [("host", "localhost@evil.example")],
    ],
)
def test_names_that_are_not(headers: list[tuple[str, str]]) -> None:
    assert ask(SETTINGS, headers=headers)[0] == 403
    assert (
        ask(replace(SETTINGS, allow_host=("evil.example",)), headers=[("host", "evil.example")])[0]
        == 200
    )


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://[",
        "null",
        "",
        "http://localhost:9",
        "http://localhost:2200.x",
    ],
)
def test_pages_of_other_sites_may_not_ask(origin: str) -> None:
    assert ask(SETTINGS, headers=[*LOCAL, ("origin", origin)])[0] == 403
    assert ask(WITH_TOKEN, headers=[*bearer("secret-token"), ("origin", origin)])[0] == 403


def test_the_servers_own_pages_may() -> None:
    assert ask(SETTINGS, headers=[*LOCAL, ("origin", "http://localhost:2200")])[0] == 200


@pytest.mark.parametrize(
    ("path", "most"),
    [("/run", MOST_JSON_BYTES), ("/jobs", MOST_JSON_BYTES), ("/run_upload", 10**6)],
)
def test_a_body_has_its_bound_whatever_was_announced(path: str, most: int) -> None:
    exact, over = [b"x" * (most // 2)] * 2, [b"x" * (most // 2)] * 2 + [b"y"]
    assert ask(SETTINGS, path=path, body=exact)[0] == 200
    for headers in (LOCAL, [*LOCAL, ("content-length", "10")]):
        status, _, content = ask(SETTINGS, path=path, body=over, headers=headers)
        assert (status, str(most) in content["detail"]) == (413, True)
    announced = [*LOCAL, ("content-length", str(most + 1))]
    assert ask(SETTINGS, path=path, headers=announced)[0] == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "", "١٢", "1, 2"])
def test_a_length_that_is_no_number(length: str) -> None:
    assert ask(SETTINGS, headers=[*LOCAL, ("content-length", length)])[0] == 400


def test_an_upload_is_refused_before_it_is_read() -> None:
    status, answered, _ = ask(SETTINGS, path="/run_upload", full=True)
    assert (status, answered["retry-after"]) == (429, "7")
    assert ask(WITH_TOKEN, path="/run_upload", full=True)[0] == 401
    assert ask(SETTINGS, path="/run", full=True)[0] == 200


def test_the_log_has_no_id_no_query_and_no_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="aigve.server")
    ask(WITH_TOKEN, path="/jobs/the-id/events", method="GET", headers=bearer("secret-token"))
    ask(WITH_TOKEN, path="/run", headers=bearer("wrong-token"))
    ask(WITH_TOKEN, path="/x\nWARNING: forged\x1b[31m", headers=bearer("secret-token"))
    assert "GET /jobs/.../events 200" in caplog.text
    assert "/x\\nWARNING: forged\\x1b[31m" in caplog.text
    assert "POST /run 401" in caplog.text
    assert not any(word in caplog.text for word in ("the-id", "secret", "wrong"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_what_is_this_machine(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
