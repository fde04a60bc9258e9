"""A Hugging Face Hub on loopback: as much of its protocol as fetching a model's folder needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40

CONFIG = b'{"model_type": "clip"}'


def safetensors_of(content: bytes) -> bytes:
    """A file with one tensor of bytes."""
    size = len(content)
    facts = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(facts).encode()
    return len(header).to_bytes(8, "little") + header + content


WEIGHTS = safetensors_of(bytes(range(256)) * 800)
"""No checkpoint: nothing here reads more of weights than their beginning and their hash."""
PROCESSOR = {
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"tokenizer_class": "CLIPTokenizer"}',
    "preprocessor_config.json": b'{"size": 32}',
}
MODEL = {"config.json": CONFIG, "model.safetensors": WEIGHTS, **PROCESSOR}
UNREAD = {
    "README.md": b"# A model",
    "tf_model.h5": b"other format",
    "flax_model.msgpack": b"other format",
    "onnx/model.onnx": b"other format",
    "modeling_tiny.py": b"raise SystemExit('this was run')",
    "pytorch_model.bin": b"the same weights again",
}
"""What models are published with beside what is fetched of them."""


@dataclass
class Model:
    """One repository: its files at each commit, and what its names stand for."""

    files: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    licence: object = "mit"
    refused: int = 0
    """Answer everything with this status."""
    error_code: str = ""
    stop_after: dict[str, list[int]] = field(default_factory=dict)
    """By file: close the connection after so many bytes of the body, once for each number."""
    no_such_blob: set[str] = field(default_factory=set)
    """Files that are listed and then answered with 404."""


@dataclass
class Hub:
    """What it serves, and what it was asked."""

    url: str = ""
    models: dict[str, Model] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """``METHOD PATH`` of each request, with the range behind it if one was asked for."""
    hold: threading.Event | None = None
    """If set: the body of a file waits for it."""
    holding: threading.Event = field(default_factory=threading.Event)
    """Set once a body waits."""
    silent: bool = False
    words: bytes | None = None
    """If set: said instead of what is known of a model."""
    closing: threading.Event = field(default_factory=threading.Event)

    def publish(
        self,
        hub_id: str,
        files: dict[str, bytes] | None = None,
        *,
        commit: str = COMMIT,
        refs: tuple[str, ...] = ("main",),
        **facts: object,
    ) -> Model:
        """Add a commit to a model."""
        model = self.models.setdefault(hub_id, Model({}, {}))
        model.files[commit] = dict(MODEL if files is None else files)
        model.refs.update(dict.fromkeys(refs, commit))
        for name, value in facts.items():
            setattr(model, name, value)
        return model

    @property
    def fetched(self) -> list[str]:
        """Names of the files whose bytes were asked for, in order."""
        asked = [line.split()[1] for line in self.asked if line.startswith("GET")]
        return [
            path.split("/resolve/")[1].split("/", 1)[1] for path in asked if "/resolve/" in path
        ]


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub on a free port, closed at the end."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            wanted = self.headers.get("Range")
            hub.asked.append(" ".join(filter(None, (self.command, path, wanted))))
            self.close_connection = True
            if hub.silent:
                hub.closing.wait(5)
            elif path.startswith("/api/models/"):
                hub_id, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                self._describe(hub_id, revision or "main")
            elif "/resolve/" in path:
                hub_id, _, rest = path[1:].partition("/resolve/")
                revision, _, name = rest.partition("/")
                self._give(hub_id, revision, name, wanted, body=body)
            else:
                self._send(404, b"")

        def _model(self, hub_id: str) -> Model | None:
            model = hub.models.get(hub_id)
            if model is None:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif model.refused:
                code = {"X-Error-Code": model.error_code} if model.error_code else {}
                self._send(model.refused, b"", code)
            else:
                return model
            return None

        def _describe(self, hub_id: str, revision: str) -> None:
            model = self._model(hub_id)
            if model is None:
                return
            commit = model.refs.get(revision, revision)
            if commit not in model.files:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            files = model.files[commit]
            if hub.words is not None:
                self._send(200, hub.words)
                return
            siblings = [{"rfilename": name, "size": len(files[name])} for name in files]
            facts = {
                "id": hub_id,
                "sha": commit,
                "siblings": siblings,
                "cardData": {"license": model.licence} if model.licence else {},
            }
            self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})

        def _give(
            self, hub_id: str, revision: str, name: str, wanted: str | None, *, body: bool
        ) -> None:
            model = self._model(hub_id)
            if model is None:
                return
            commit = model.refs.get(revision, revision)
            content = model.files.get(commit, {}).get(name)
            if content is None or name in model.no_such_blob:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            headers = {
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Repo-Commit": commit,
                "Accept-Ranges": "bytes",
            }
            status, start = 200, 0
            if wanted:
                status, start = 206, int(wanted.removeprefix("bytes=").removesuffix("-"))
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            stop = None
            if body and model.stop_after.get(name):
                stop = model.stop_after[name].pop(0)
            if body and hub.hold is not None:
                hub.holding.set()
                hub.hold.wait(10)
            self._send(status, content[start:], headers, body=body, stop=stop)

        def _send(
            self,
            status: int,
            content: bytes,
            headers: dict[str, str] | None = None,
            *,
            body: bool = True,
            stop: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content if stop is None else content[:stop])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    hub.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join(5)


def hub_environment(hub: Hub, home: str) -> dict[str, str]:
    """What makes a process talk to this hub and to no other, with a cache of its own."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": home,
        # It would ask for a list of agents that might be using it.
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "AIGVE_OFFLINE": "0",
    }
