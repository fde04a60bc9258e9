"""An OpenAI-compatible endpoint on loopback whose answers a test writes, and which counts.

It says what its script tells it to, remembers every request, and can break off, stall or refuse.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

Request = dict[str, Any]
"""The body of a request, parsed."""


@dataclass(frozen=True)
class Said:
    """A completion of which more than the text is told."""

    text: str | None
    finish: str = "stop"
    first: Sequence[tuple[str, Mapping[str, float]]] | None = None
    """Log-probabilities: each token of the answer, and the likeliest ones in its place."""
    refusal: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True)
class BreakOff:
    """The connection is closed, before a reply or in the middle of its body."""

    after: int | None = None
    """So many bytes of the body are sent first; None: not even a status."""


Told = str | Said | BreakOff | tuple[int, Mapping[str, str], str | bytes | Mapping[str, Any]]
Script = Callable[[Request], Told]


@dataclass
class Endpoint:
    """What it was asked, and what it offers."""

    url: str = ""
    """With ``/v1`` behind it."""
    requests: list[Request] = field(default_factory=list)
    """Bodies of all requests for a completion, as they arrived."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of the same requests, with names in lower case."""
    asked: list[str] = field(default_factory=list)
    """``METHOD PATH`` of every request of any kind."""
    models: list[str] | None = None
    """What ``GET /models`` lists; None answers 404."""
    busy: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """How many completions were asked for."""
        return len(self.requests)


def question_of(request: Request) -> str:
    """The last text of the last message."""
    return texts_of(request)[-1]


def texts_of(request: Request) -> list[str]:
    """All texts of the last message in order."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if part["type"] == "text"]


def pictures_of(request: Request) -> list[np.ndarray]:
    """Every picture of all messages in order, decoded: uint8 [h, w, 3], RGB."""
    contents = [message["content"] for message in request["messages"]]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [np.asarray(Image.open(io.BytesIO(data_of(url))).convert("RGB")) for url in urls]


def data_of(url: str) -> bytes:
    """The bytes that a ``data:`` address holds."""
    head, _, content = url.partition(",")
    assert head.startswith("data:"), head
    assert head.endswith(";base64"), head
    return base64.b64decode(content, validate=True)


def completion(said: Said, model: str = "scripted") -> dict[str, Any]:
    """The body of a reply."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.refusal is not None:
        message["refusal"] = said.refusal
    if said.reasoning is not None:
        message["reasoning_content"] = said.reasoning
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "finish_reason": said.finish,
        "logprobs": None,
    }
    if said.first is not None:
        choice["logprobs"] = {
            "content": [
                {
                    "token": token,
                    "logprob": likely.get(token, -9.0),
                    "bytes": list(token.encode()),
                    "top_logprobs": [
                        {"token": other, "logprob": number, "bytes": list(other.encode())}
                        for other, number in likely.items()
                    ],
                }
                for token, likely in said.first
            ]
        }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }


def refused(status: int, message: str, **facts: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    """An error as these servers word it; ``code``, ``param`` and ``type`` may be told."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return status, {}, {"error": {**error, **facts}}


def at_once(status: int, message: str, **facts: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    """An error after which a client may try again without waiting."""
    told, _, body = refused(status, message, **facts)
    return told, {"retry-after-ms": "1"}, body


@contextmanager
def scripted_endpoint(answer: Script | str, port: int = 0) -> Iterator[Endpoint]:
    """An endpoint on a free port, or on this one, closed at the end.

    Args:
        answer: From a request to what is said: a text, :class:`Said`, ``(status, headers, body)``
            or :class:`BreakOff`. Called in a thread a request, several at a time. What it raises
            is told to the client as status 418, which no client tries again.
        port: 0 is a free one.
    """
    endpoint = Endpoint()
    connections: set[socket.socket] = set()

    class Handler(BaseHTTPRequestHandler):
        # As real servers: a connection is used again.
        protocol_version = "HTTP/1.1"
        # Without it the headers and the body of a small reply may wait for each other 40 ms.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            endpoint.asked.append(f"GET {self.path}")
            if self.path != "/v1/models" or endpoint.models is None:
                self._send(404, {}, {"error": {"message": "not found"}})
                return
            listed = [{"id": name, "object": "model", "created": 1} for name in endpoint.models]
            self._send(200, {}, {"object": "list", "data": listed})

        def do_POST(self) -> None:
            endpoint.asked.append(f"POST {self.path}")
            length = int(self.headers["Content-Length"])
            content = self.rfile.read(length)
            if len(content) < length:
                raise ConnectionError("the client has gone away")
            if self.path != "/v1/chat/completions":
                self._send(404, {}, {"error": {"message": f"no such path: {self.path}"}})
                return
            request = json.loads(content)
            with endpoint.lock:
                endpoint.requests.append(request)
                endpoint.headers.append({k.lower(): v for k, v in self.headers.items()})
                endpoint.busy += 1
                endpoint.most_at_once = max(endpoint.most_at_once, endpoint.busy)
            try:
                told = answer if isinstance(answer, str) else answer(request)
            except Exception as error:
                told = refused(418, f"the script failed: {error!r}")
            finally:
                with endpoint.lock:
                    endpoint.busy -= 1
            self._tell(told, str(request.get("model")))

        def _tell(self, told: Told, model: str) -> None:
            stop = None
            if isinstance(told, BreakOff):
                if told.after is None:
                    self.close_connection = True
                    return
                stop, told = told.after, Said("this is never read to its end")
            if isinstance(told, str):
                told = Said(told)
            if isinstance(told, Said):
                told = (200, {}, completion(told, model))
            self._send(*told, stop=stop)

        def _send(
            self,
            status: int,
            headers: Mapping[str, str],
            body: str | bytes | Mapping[str, Any],
            *,
            stop: int | None = None,
        ) -> None:
            if isinstance(body, Mapping):
                body = json.dumps(body)
                headers = {"Content-Type": "application/json", **headers}
            content = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:stop])
            self.close_connection = self.close_connection or stop is not None

        def handle(self) -> None:
            # A client may go away while its answer is thought of: that is what tests do.
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # More than the default five may knock at the same moment.
        request_queue_size = 128

        def process_request(self, request: Any, client_address: Any) -> None:
            connections.add(request)
            super().process_request(request, client_address)

    httpd = Server(("127.0.0.1", port), Handler)
    endpoint.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join(5)
        # As when a process ends: what is connected is cut off.
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
