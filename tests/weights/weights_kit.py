"""A file server on loopback that misbehaves as told, and the card of what it serves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aigve_cli.weights import NetworkCard, WeightsEntry

PAYLOAD = bytes(range(256)) * 1000
PAYLOAD_SHA256 = hashlib.sha256(PAYLOAD).hexdigest()


@dataclass
class Answer:
    """What the server does with a path."""

    body: bytes = PAYLOAD
    status: int = 200
    content_type: str = "application/octet-stream"
    ranges: bool = True
    etag: str = '"one"'
    stop_after: int | None = None
    """Close the connection after so many bytes of the body."""
    silent: bool = False
    says_length: bool = True


@dataclass
class Asked:
    """One request, and how much of the answer was sent."""

    path: str
    range: str | None
    if_range: str | None
    sent: int = 0
    status: int = 0


@dataclass
class Server:
    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def serve(self, path: str, **facts: object) -> str:
        """Answer a path in this way; returns its address."""
        self.answers[path] = Answer(**facts)  # type: ignore[arg-type]
        return self.url + path


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port, closed at the end."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = Asked(self.path, self.headers.get("Range"), self.headers.get("If-Range"))
            state.asked.append(asked)
            answer = state.answers.get(self.path, Answer(b"", status=404))
            if answer.silent:
                state.closing.wait(5)
                self.close_connection = True
                return
            start, asked.status = 0, answer.status
            same = asked.if_range in (None, answer.etag)
            if answer.ranges and asked.range and same:
                start = int(asked.range.removeprefix("bytes=").removesuffix("-"))
                asked.status = 206 if start < len(answer.body) else 416
            body = answer.body[start:] if asked.status < 400 else b""
            self.send_response(asked.status)
            self.send_header("Content-Type", answer.content_type)
            if answer.etag:
                self.send_header("ETag", answer.etag)
            if answer.says_length:
                self.send_header("Content-Length", str(len(body)))
            if asked.status == 206:
                end = len(answer.body)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            self.end_headers()
            body = body if answer.stop_after is None else body[: answer.stop_after]
            self.wfile.write(body)
            asked.sent = len(body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join(5)


def entry(*urls: str, **facts: object) -> WeightsEntry:
    """A checkpoint that is PAYLOAD, unless told otherwise."""
    known = {"sha256": PAYLOAD_SHA256, "bytes": len(PAYLOAD), **facts}
    return WeightsEntry(tag="t", file="net.pth", licence="MIT", urls=urls, **known)  # type: ignore[arg-type]


def card(*urls: str, **facts: object) -> NetworkCard:
    """A network with that one checkpoint."""
    return NetworkCard(
        name="net",
        title="A network",
        kind="network",
        outputs={"features": 4},
        default_weights="t",
        weights={"t": entry(*urls, **facts)},
    )
