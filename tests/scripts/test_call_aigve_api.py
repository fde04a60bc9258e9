"""`scripts/call_aigve_api.py` against a server on loopback that answers as a test says."""

from __future__ import annotations

import ast
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conftest import ROOT, process_environment

SCRIPT = ROOT / "scripts" / "call_aigve_api.py"
CLIENT = runpy.run_path(str(SCRIPT))
TOKEN = "s3cret-token-of-this-server"
HEALTH = {
    **{"status": "ok", "python": "3.12", "torch": "2.9", "cuda_available": False},
    **{"device_count": 0, "torch_error": None, "versions": {"aigve": "1.2.3"}},
    **{"queue": {"length": 2, "size": 10, "running": 1}},
}
RECORD = {
    **{"value_name": "fid-lite0", "value": 31.4159265, "standard_error": 1.9, "better": "lower"},
    **{"videos": {"videos": 4}, "weights": "embedded", "requested": "fid", "reason": None},
    "notes": ["few frames", "few videos"],
}
UNDEFINED = {**RECORD, "value_name": "kvd", "value": None, "standard_error": None}
UNDEFINED["reason"] = "no weights"


def job(state: str = "queued", **facts: Any) -> dict[str, Any]:
    return {"id": "j1", "state": state, "position": 1, "returncode": None, "reason": None, **facts}


def answer(code: int | None = 0, state: str = "done", **facts: Any) -> dict[str, Any]:
    """What ``GET /jobs/j1/results`` says."""
    document = {"results": [RECORD, UNDEFINED]}
    return {
        **{"cmd": ["aigve"], "returncode": code, "stdout": "", "stderr": "", "results": document},
        "artifacts": [{"name": "results.json", "content": document}],
        **{"job": job(state, returncode=code), **facts},
    }


@dataclass(frozen=True)
class Said:
    """An answer: JSON, or a body as it is; ``drop`` breaks the connection off behind it."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def event(kind: str, data: Any, number: int | None = None) -> bytes:
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def stream(*parts: bytes, drop: bool = False) -> Said:
    return Said(b"".join(parts), headers={"Content-Type": "text/event-stream"}, drop=drop)


Told = Said | Callable[[Asked], Said]
FINISHED = stream(event("state", job("done", returncode=0), 9))


class Scripted:
    """The answers of each route in turn, the last one again and again; and what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.told: dict[str, list[Told]] = {}
        self.on("GET /healthz", Said(HEALTH))
        self.on("POST /jobs", Said(job(), 202))
        self.on("POST /run_upload", Said(job(), 202))
        self.on("GET /jobs/j1/events", FINISHED)
        self.on("GET /jobs/j1", Said(job("running")))
        self.on("GET /jobs/j1/results", Said(answer()))

    def on(self, route: str, *told: Told) -> None:
        self.told[route] = list(told)

    def tell(self, asked: Asked) -> Said:
        self.asked.append(asked)
        left = self.told.get(f"{asked.method} {asked.path}")
        if not left:
            return Said({"detail": "Not Found"}, 404)
        told = left.pop(0) if len(left) > 1 else left[0]
        return told if isinstance(told, Said) else told(asked)

    def of(self, route: str) -> list[Asked]:
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == route]


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            said = scripted.tell(Asked(self.command, self.path, headers, body))
            raw = isinstance(said.body, bytes)
            content = said.body if raw else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            # In small pieces: no line arrives as a whole.
            for start in range(0, len(content), 700):
                piece = content[start : start + 700]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if said.drop:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_POST = do_DELETE = do_GET

        def handle(self) -> None:
            # The client leaves a stream whose last event it has seen.
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    httpd = Server(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield scripted
    httpd.shutdown()
    httpd.server_close()
    thread.join(5)


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str
    pauses: list[float]


@pytest.fixture
def client(server, tmp_path, monkeypatch, capfd) -> Callable[..., Ended]:
    """The client in this process; its pauses take no time, but its clock goes on."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, **environment: str) -> Ended:
        now, pauses = [0.0], []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            now[0] += seconds

        code = CLIENT["main"](
            [*map(str, words)],
            {"AIGVE_API_URL": server.url, **environment},
            pause=pause,
            clock=lambda: now[0],
        )
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        return Ended(code, told.out, told.err, pauses)

    return run


def form_of(asked: Asked) -> list[tuple[str, str | None, bytes]]:
    """Name, file name as it was sent, and content of each part."""
    boundary = asked.headers["content-type"].partition("boundary=")[2].encode()
    head, *parts, end = asked.body.split(b"--" + boundary)
    assert (head, end) == (b"", b"--\r\n")
    found = []
    for part in parts:
        assert part.startswith(b"\r\n")
        assert part.endswith(b"\r\n")
        lines, _, content = part[2:-2].partition(b"\r\n\r\n")
        disposition = lines.split(b"\r\n")[0].decode()
        assert disposition.startswith('Content-Disposition: form-data; name="')
        name, _, filename = disposition[38:].partition('"; filename="')
        found.append((name.rstrip('"'), filename.rstrip('"') if filename else None, content))
    return found


# --- a job ------------------------------------------------------------------------------------


def test_as_a_process_from_submission_to_saved_results(server, tmp_path):
    server.on(
        "GET /jobs/j1/events",
        stream(
            b": hello\n\n",
            event("state", job("running"), 1),
            event("note", {"text": "4 generated, 4 paired"}, 2),
            event("progress", {"videos": 3, "total": 4, "frames_per_second": 99.6}, 3),
            event("note", {"text": "Warning: one \x1b[2J video failed"}, 4),
            event("state", job("done", returncode=3), 5),
        ),
    )
    stderr = "4 generated, 4 paired\nWarning: one \x1b[2J video failed\n"
    artifacts = [
        {"name": "results.json", "content": {"results": [RECORD]}},
        {"name": "fid-lite0_results.json", "content": {"FID_Mean_Score": 1.5}},
        {"name": "log.txt", "content": "äöü\udcff\n"},
    ]
    server.on(
        "GET /jobs/j1/results", Said(answer(3, stderr=stderr, stdout="raw", artifacts=artifacts))
    )
    done = subprocess.run(
        [sys.executable, SCRIPT, "--save-dir", "out/r", "--weights", "embedded"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=process_environment({"AIGVE_API_URL": server.url, "AIGVE_API_TOKEN": TOKEN}),
        check=False,
    )
    assert done.returncode == 3, done.stderr
    saved = tmp_path / "out" / "r"
    assert {path.name for path in saved.iterdir()} == {
        *("results.json", "fid-lite0_results.json", "log.txt"),
        *("stdout.txt", "stderr.txt", "response.json"),
    }
    assert json.loads((saved / "fid-lite0_results.json").read_text()) == {"FID_Mean_Score": 1.5}
    assert json.loads((saved / "results.json").read_text()) == {"results": [RECORD]}
    assert (saved / "stderr.txt").read_text() == stderr
    assert (saved / "stdout.txt").read_text() == "raw"
    assert json.loads((saved / "response.json").read_text())["artifacts"] == artifacts
    header, first, second = done.stdout.splitlines()
    assert header.split() == [
        *("METRIC", "VALUE", "±", "SE", "BETTER", "VIDEOS", "WEIGHTS", "FOR", "NOTE"),
    ]
    assert first.split(None, 7) == [
        *("fid-lite0", "31.42", "1.9", "lower", "4", "embedded", "fid"),
        "few frames; few videos",
    ]
    assert second.split(None, 7)[1:3] == ["-", "-"]
    assert second.endswith("no weights")
    # What the run said is there once, and cannot steer the terminal.
    assert done.stderr.count("4 generated, 4 paired") == 1
    assert "Warning: one \\x1b[2J video failed" in done.stderr
    assert f"{server.url}: aigve 1.2.3 on processors alone, jobs waiting: 2" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {TOKEN}"}
    assert server.of("POST /jobs")[0].json == {
        **{"compute": True, "categories": "distribution_based", "weights": "embedded"},
        **{"max_seconds": 8.0, "fps": 25.0},
        **{"input_dir": "/app/data", "stage_dataset": "/app/out/staged"},
    }


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_exit_code_is_that_of_the_run(server, client, code):
    server.on("GET /jobs/j1/results", Said(answer(code)))
    assert client().code == code


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [(None, "cancelled", "by its user"), (-9, "failed", "out of memory"), (None, "failed", None)],
)
def test_job_without_a_usual_end_is_a_failure(server, client, code, state, reason):
    server.on("GET /jobs/j1/events", stream(event("state", job(state, reason=reason), 1)))
    told = answer(code, state, results=None, artifacts=[], job=job(state, reason=reason))
    server.on("GET /jobs/j1/results", Said(told))
    done = client()
    assert done.code == 1
    assert f"Error: Job j1: {state}, {reason or 'exit code None'}" in done.stderr
    assert done.stdout == ""


def test_json_and_quiet(server, client):
    server.on(
        "GET /jobs/j1/events",
        stream(
            event("note", {"text": "a detail"}),
            event("note", {"text": "Warning: heed"}),
            event("state", job("done")),
        ),
    )
    done = client("--format", "json", "--quiet")
    assert json.loads(done.stdout) == [RECORD, UNDEFINED]
    assert done.stderr == "Warning: heed\n"


def test_run_without_results_prints_its_stdout(server, client, tmp_path):
    told = answer(results=None, artifacts=[], stdout="/data/annotations.json\n")
    server.on("GET /jobs/j1/results", Said(told))
    assert client().stdout == "/data/annotations.json\n"
    assert not (tmp_path / "results" / "results.json").exists()


def test_options_are_fields(server, client):
    client(
        *("--metrics", "fid,clipsim", "--prompt", "a cat", "--prompt-from-name", "--cpu"),
        *("--set", "fid.dims=64", "--set", "kid.degree=2", "--extra-arg", "--pad"),
        *("--fps", "native", "--max-seconds", "2", "--generated-suffixes", "fake"),
        *("--prompts", "/srv/prompts.csv", "--use-cdfvd", "--cdfvd-single-flavor", "--no-help"),
        *("--cdfvd-sequence-length", "32"),
        AIGVE_INPUT_DIR="/srv/in",
    )
    assert server.of("POST /jobs")[0].json == {
        **{"compute": True, "metrics": "fid,clipsim", "prompt": "a cat", "prompt_from_name": True},
        **{"use_cpu": True, "set": ["fid.dims=64", "kid.degree=2"], "extra_args": ["--pad"]},
        **{"fps": "native", "max_seconds": 2.0, "generated_suffixes": "fake"},
        **{"prompts": "/srv/prompts.csv", "use_cdfvd": True, "cdfvd_sequence_length": 32},
        **{"cdfvd_all_flavors": False, "cdfvd_model": "i3d"},
        # Who names the folder of videos names the one to gather them in, or wants none.
        "input_dir": "/srv/in",
    }


def test_cdfvd_flags_alone_are_said_to_be_unused(server, client):
    done = client("--cdfvd-resolution", "128")
    assert "not used without --use-cdfvd" in done.stderr
    assert not any("cdfvd" in name for name in server.of("POST /jobs")[0].json)


def test_local_server_gets_absolute_paths(server, client, tmp_path):
    done = client("--local")
    assert (done.code, server.asked) == (2, [])
    assert "There is no folder 'data'" in done.stderr
    (tmp_path / "data").mkdir()
    assert client("--local").code == 0
    sent = server.of("POST /jobs")[0].json
    assert sent["input_dir"] == str(tmp_path / "data")
    assert sent["stage_dataset"] == str(tmp_path / "out" / "staged")


def test_show_help_prints_it_and_stops(server, client):
    server.on("GET /help", Said({"cmd": [], "returncode": 0, "stdout": "Usage: …", "stderr": ""}))
    done = client("--show-help")
    assert (done.code, done.stdout) == (0, "Usage: …\n")
    assert not server.of("POST /jobs")


# --- a stream that breaks ---------------------------------------------------------------------


def test_dropped_stream_goes_on_behind_the_last_event(server, client):
    server.on(
        "GET /jobs/j1/events",
        stream(event("note", {"text": "first"}, 7), b"event: note\ndata: {", drop=True),
        stream(event("note", {"text": "second"}, 8), event("state", job("done"), 9)),
    )
    done = client()
    assert done.code == 0, done.stderr
    first, second = server.of("GET /jobs/j1/events")
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "7"
    assert [line for line in done.stderr.splitlines() if line in ("first", "second")] == [
        "first",
        "second",
    ]


@pytest.mark.parametrize(
    "streams", [stream(b": held\n\n"), stream(drop=True), Said({"detail": "no"}, 406)]
)
def test_without_a_stream_the_job_is_asked_for(server, client, streams):
    server.on("GET /jobs/j1/events", streams)
    running = Said(job("running", progress={"videos": 1, "total": 2, "eta_seconds": 3.2}))
    server.on("GET /jobs/j1", *[running] * 9, Said(job("done")))
    server.on("GET /jobs/j1/results", Said(answer(stderr="Warning: never streamed\n")))
    done = client()
    assert done.code == 0, done.stderr
    assert len(server.of("GET /jobs/j1")) == 10
    # One line in ten seconds of a clock that only pauses move.
    assert done.stderr.count("1/2 videos, about 3 s left") == 1
    assert "Warning: never streamed" in done.stderr


def test_server_that_starts_anew_meanwhile(server, client):
    server.on("GET /jobs/j1/events", stream(drop=True), FINISHED)
    server.on("GET /jobs/j1", Said({"detail": "starting"}, 502), Said(job("running")))
    server.on("GET /jobs/j1/results", Said({"detail": "starting"}, 503), Said(answer()))
    done = client()
    assert done.code == 0, done.stderr


def test_server_that_stays_away(server, client):
    server.on("GET /jobs/j1/events", stream(drop=True))
    server.on("GET /jobs/j1", Said(drop=True, body=b"{"))
    done = client("--retries", "20")
    assert done.code == 4
    assert 20 <= sum(done.pauses) < 30
    assert f"Hint: Job j1 may go on there: {server.url}/jobs/j1" in done.stderr


def test_job_that_was_forgotten_is_a_failure(server, client):
    server.on("GET /jobs/j1/events", Said({"detail": "no such job"}, 404))
    server.on("GET /jobs/j1", Said({"detail": "no such job"}, 404))
    done = client()
    assert done.code == 1
    assert "no such job" in done.stderr


# --- refusals ---------------------------------------------------------------------------------


def test_busy_server_is_asked_again_when_it_says(server, client):
    busy = Said({"detail": "the queue is full"}, 429, {"Retry-After": "7"})
    server.on("POST /jobs", busy, busy, Said(job(), 202))
    done = client()
    assert done.code == 0, done.stderr
    assert done.pauses == [7.0, 7.0]


def test_busy_server_is_not_waited_for_for_ever(server, client):
    server.on("POST /jobs", Said({"detail": "the queue is full"}, 429, {"Retry-After": "7"}))
    done = client("--retries", "30")
    assert done.code == 4
    assert done.pauses == [7.0] * 4
    assert "the queue is full" in done.stderr


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (403, 2), (404, 2), (413, 2), (422, 2), (500, 1), (503, 4), (401, 4)],
)
def test_exit_codes_of_refusals(server, client, status, code):
    server.on("POST /jobs", Said({"detail": "because of this"}, status))
    done = client()
    assert done.code == code
    assert done.stderr.splitlines()[1].startswith("Error: ")
    assert ("because of this" in done.stderr) == (status != 401)
    assert done.pauses == []
    assert server.of("GET /jobs/j1") == []


def test_fields_that_are_wrong_are_named(server, client):
    detail = [
        {"loc": ["body", "metrics"], "msg": "unknown metric 'fdi'", "type": "value_error"},
        {"loc": ["body", "set", 0], "msg": "expected METRIC.OPTION=VALUE", "type": "value_error"},
    ]
    server.on("POST /jobs", Said({"detail": detail}, 422))
    done = client()
    assert "metrics: unknown metric 'fdi'; set.0: expected METRIC.OPTION=VALUE" in done.stderr, (
        done.stderr
    )


@pytest.mark.parametrize("token", ["", TOKEN])
def test_token_that_is_wrong_is_found_before_the_upload(server, client, tmp_path, token):
    (tmp_path / "a.mp4").write_bytes(b"video")
    unknown = {name: None for name in HEALTH if name != "status"}
    server.on("GET /healthz", Said({**unknown, "status": "ok"}))
    server.on("GET /jobs/-", Said({"detail": f"bad token {token}"}, 401))
    done = client("--upload-files", "a.mp4", AIGVE_API_TOKEN=token)
    assert done.code == 4
    assert "AIGVE_API_TOKEN" in done.stderr
    assert ("asks for a token" in done.stderr) == (not token)
    assert not server.of("POST /run_upload")


def test_token_is_shown_nowhere(server, client):
    server.on("GET /jobs/j1/events", stream(event("note", {"text": TOKEN}), *[FINISHED.body]))
    server.on("GET /jobs/j1/results", Said(answer(results=None, stdout=f"it is {TOKEN}")))
    done = client("--token", TOKEN)
    assert done.code == 0
    assert TOKEN not in done.stdout + done.stderr
    assert "***" in done.stdout
    # Nor in the error about a token that a header cannot carry; a line feed at its end is usual.
    bad = client(AIGVE_API_TOKEN=f"two {TOKEN}")
    assert bad.code == 2
    assert TOKEN not in bad.stderr
    assert client(AIGVE_API_TOKEN=f"{TOKEN}\n").code == 0


def test_no_redirect_takes_the_token_elsewhere(server, client):
    server.on("GET /healthz", Said({}, 307, {"Location": f"{server.url}/elsewhere"}))
    done = client("--token", TOKEN)
    assert done.code == 1
    assert "/elsewhere: give that as --base-url" in done.stderr
    assert len(server.asked) == 1


def test_nobody_answers(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = client("--base-url", f"http://user:{TOKEN}@127.0.0.1:{port}/")
    assert done.code == 4
    error, hint = done.stderr.splitlines()
    assert error == f"Error: No answer from http://127.0.0.1:{port}: Connection refused."
    assert hint.startswith("Hint: Is the server running?")


def test_server_that_is_starting_says_so(server, client):
    server.on("GET /healthz", Said({"status": "starting"}, 503))
    done = client()
    assert done.code == 4
    assert "(503): starting" in done.stderr


def test_something_else_answers(server, client):
    server.on("GET /healthz", Said(b"<html>"))
    done = client()
    assert done.code == 1
    assert "Is this an aigve server?" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--upload-dir", "nowhere"),
        ("--upload-dir", "empty"),
        ("--upload-files", "nothing.mp4"),
        ("--upload-files", "a.mp4", "other/a.mp4"),
        ("--upload-files", "a.mp4", "--prompts", "nothing.csv"),
        ("--base-url", "localhost:2200"),
        ("--fps", "0"),
        ("--max-seconds", "nan"),
        ("--no-such-flag",),
        ("--save-dir", "a.mp4"),
    ],
)
def test_refused_here(server, client, tmp_path, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "other").mkdir()
    for name in ("a.mp4", "other/a.mp4"):
        (tmp_path / name).write_bytes(b"video")
    done = client(*words)
    assert done.code == 2
    assert "Error: " in done.stderr
    assert not [asked for asked in server.asked if asked.method == "POST"]


# --- uploads ----------------------------------------------------------------------------------

ODD = [
    "plain.mp4",
    "with space, comma;semi=1_synthetic.MP4",
    'quo"te.mov',
    "line\nfeed\rreturn.mkv",
    "ünïcödé 影片.webm",
    "per%22cent.gif",
    "back\\slash.avi",
]


def test_uploads_arrive_intact(server, client, tmp_path):
    contents = {name: os.urandom(1 + 300_000 * i) for i, name in enumerate(ODD)}
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("no video")
    (tmp_path / "extra.m4v").write_bytes(b"")
    (tmp_path / "prompts.csv").write_text("video,prompt\n")
    busy = Said({"detail": "full"}, 429)
    # Sent twice: the first time the queue is full.
    server.on("POST /run_upload", busy, Said(job(), 202))
    done = client(
        *("--upload-dir", folder, "--upload-files", "extra.m4v", "--prompts", "prompts.csv"),
        *("--metrics", "fid", "--cpu", "--set", "a.b=1", "--set", "c.d=é"),
    )
    assert done.code == 0, done.stderr
    first, second = server.of("POST /run_upload")
    assert first.body == second.body
    assert "transfer-encoding" not in second.headers
    assert int(second.headers["content-length"]) == len(second.body)
    parts = form_of(second)
    assert [(name, value.decode()) for name, filename, value in parts if filename is None] == [
        *[("compute", "true"), ("metrics", "fid"), ("max_seconds", "8.0"), ("fps", "25.0")],
        *[("use_cpu", "true"), ("set", "a.b=1"), ("set", "c.d=é"), ("wait", "false")],
    ]
    files = [(name, filename) for name, filename, _ in parts if filename is not None]
    assert files[0] == ("prompts", "prompts.csv")
    sent = {filename: value for name, filename, value in parts if name == "videos"}

    def escaped(name: str) -> str:
        return name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D")

    assert sent == {"extra.m4v": b"", **{escaped(name): c for name, c in contents.items()}}


def test_upload_is_read_while_it_is_sent(tmp_path):
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(50 * 2**20)
    form = CLIENT["Form"]([], [CLIENT["Upload"]("videos", path)])
    sizes = [len(chunk) for chunk in form]
    assert max(sizes) <= CLIENT["CHUNK_BYTES"]
    assert sum(sizes) == len(form)


def test_form_is_read_by_the_standard_library_too():
    form = CLIENT["Form"]([("prompt", "two\nlines, é"), ("set", "a=b")], [])
    head = f"Content-Type: {form.content_type}\r\n\r\n".encode()
    message = message_from_bytes(head + b"".join(form), policy=HTTP)
    contents = [part.get_payload(decode=True).decode() for part in message.iter_parts()]
    assert contents == ["two\nlines, é", "a=b"]


@pytest.mark.parametrize("content", [b"", b"longer than before"])
def test_file_that_changes_meanwhile_is_no_upload(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")
    form = CLIENT["Form"]([], [CLIENT["Upload"]("videos", path)])
    path.write_bytes(content)
    with pytest.raises(CLIENT["ClientError"], match="changed while it was sent"):
        list(form)


# --- what is saved ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "/etc/x", "a/b", "..", ".", "", "c:x", "a\\b", "x\0", "x\n", " . ", None, 7),
        *("response.json", "x" * 201, "影" * 70, "\udcff", "\ud800"),
    ],
)
def test_artifact_that_would_escape_is_refused(server, client, tmp_path, name):
    artifacts = [{"name": name, "content": "evil"}, {"name": "good.json", "content": {"a": 1}}]
    server.on("GET /jobs/j1/results", Said(answer(artifacts=artifacts)))
    done = client("--save-dir", "deep/results")
    assert done.code == 0
    assert "is not saved, for its name" in done.stderr
    assert json.loads((tmp_path / "deep/results/good.json").read_text()) == {"a": 1}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        *("good.json", "results.json", "response.json", "stdout.txt", "stderr.txt"),
    }
    assert not any(path.read_text() == "evil" for path in files)


def test_saving_goes_through_no_link_and_names_files_of_an_earlier_run(server, client, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (tmp_path / "precious").write_text("mine")
    (folder / "stdout.txt").symlink_to(tmp_path / "precious")
    (folder / "fid_results.json").write_text("{}")
    done = client()
    assert (tmp_path / "precious").read_text() == "mine"
    assert "Of an earlier run in 'results': fid_results.json." in done.stderr


# --- small parts ------------------------------------------------------------------------------


def events_of(chunks: Iterable[bytes]) -> list[tuple[Any, ...]]:
    return [tuple(e) for e in CLIENT["lines_to_events"](CLIENT["chunks_to_lines"](chunks))]


def test_events_whatever_the_pieces():
    body = (
        b': comment\r\n\r\nid: 1\r\nevent: note\r\ndata: {"text":\r\ndata: "\xc3\xa9"}\r\n\r\n'
        b"event:state\ndata:[1]\n\nevent: note\ndata: no json\n\nevent: empty\n\n"
        b"event: note\ndata: 1\n"
    )
    expected = [("1", "note", {"text": "é"}), ("1", "state", [1])]
    assert events_of([body]) == expected
    for size in (1, 2, 3, 7):
        assert events_of(body[i : i + size] for i in range(0, len(body), size)) == expected


def test_table_wraps_its_notes():
    long = {**RECORD, "notes": ["word " * 30]}
    lines = CLIENT["records_to_table"]([long], 100).splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 100
    assert lines[0].index("NOTE") == lines[1].index("word") == lines[2].index("word")


def test_terminal_has_one_line_of_progress(monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    screen = CLIENT["Screen"]()
    screen.progress("sending 1.0 of 2.0 MB, and more")
    screen.note("a line")
    screen.progress("second")
    screen.close()
    assert capfd.readouterr().err == (
        "\rsending 1.0 of 2.0 \x1b[K\r\x1b[Ka line\n\rsecond\x1b[K\r\x1b[K"
    )


def test_readable_by_python_3_9_and_needs_only_requests():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"requests"}
    assert (SCRIPT.parent / "requirements-client.txt").read_text() == "requests>=2.32\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cancels", [True, False], ids=["cancelled", "not cancelled"])
def test_interrupted_client_cancels_its_job(server, tmp_path, number, cancels):
    following, cancelled = threading.Event(), threading.Event()

    def events(_: Asked) -> Said:
        following.set()
        cancelled.wait()
        return stream(drop=True)

    def cancel(_: Asked) -> Said:
        cancelled.set()
        return Said(job("cancelled")) if cancels else Said({"detail": "cannot"}, 500)

    server.on("GET /jobs/j1/events", events)
    server.on("DELETE /jobs/j1", cancel)
    # Tests may have been started in the background, where Ctrl-C is ignored.
    start = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.argv = ['client']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start],
        cwd=tmp_path,
        env=process_environment({"AIGVE_API_URL": server.url}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.wait(60)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        cancelled.set()
        process.kill()
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert ("job j1 is cancelled" if cancels else "Warning: Job j1 may still run") in stderr
    assert len(server.of("DELETE /jobs/j1")) == 1
