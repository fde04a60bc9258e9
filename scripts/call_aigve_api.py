#!/usr/bin/env python3
"""Score videos on an aigve server: name a folder there or send files, wait, keep the results.

One file for machines that have no aigve: Python 3.9 or newer and `requests`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import secrets
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

import requests

EXIT_FAILED, EXIT_USAGE, EXIT_ENVIRONMENT, EXIT_INTERRUPTED = 1, 2, 4, 130
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".gif")
FINISHED = ("done", "failed", "cancelled")
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
UPLOAD_SECONDS = 600.0
"""How long a server may think after the last byte of an upload."""
SILENCE_SECONDS = 60.0
"""A stream of events without even a comment for so long has been lost on the way."""
PLAIN_PROGRESS_SECONDS = 10.0
POLL_SECONDS = 2.0
RETRY_SECONDS = 5.0
"""Before another try where the server does not say when."""
FRUITLESS_STREAMS = 3
"""Streams without one event, after which the job is asked for instead: a proxy may hold them."""
CHUNK_BYTES = 2**18
SECRET_LENGTH = 8
"""A shorter token is not looked for in what is shown: it would be found in numbers."""
OWN_FILES = ("response.json", "stdout.txt", "stderr.txt")
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that set the direction of text."""


class ClientError(Exception):
    """What a user reads: what went wrong, what to do, and the exit code."""

    def __init__(self, message: str, *, hint: str = "", code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


class UnreachableError(ClientError):
    """The server did not answer, or broke off."""


class RefusedError(ClientError):
    """The server answered with an error.

    Attributes:
        status: The HTTP status.
        wait: Seconds after which it may be asked again; None where it does not say.
    """

    def __init__(
        self, message: str, *, status: int, wait: float | None, hint: str, code: int
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status, self.wait = status, wait

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status == 429 or (self.status == 503 and self.wait is not None)


# --- what is shown ----------------------------------------------------------------------------


class Screen:
    """Results to stdout; everything else to stderr, where the progress is one line.

    Args:
        quiet: Only results, warnings and errors.
        secret: A text that is never shown.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, quiet: bool = False, secret: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet, self.secret, self._clock = quiet, secret, clock
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._open = False
        self._last = clock()

    def note(self, text: str) -> None:
        """A line that people like to know."""
        if not self.quiet:
            self._line(text)

    def relay(self, text: str) -> None:
        """A line of the run on the server."""
        if not self.quiet or text.startswith(("Warning:", "Error:", "Hint:")):
            self._line(text)

    def warn(self, text: str) -> None:
        """A line that people should know."""
        self._line(f"Warning: {text}")

    def error(self, message: str, hint: str = "") -> None:
        """What went wrong, and what to do."""
        self._line(f"Error: {message}")
        if hint:
            self._line(f"Hint: {hint}")

    def progress(self, text: str) -> None:
        """How far it is: rewrites its line on a terminal, elsewhere a line every ten seconds."""
        if self.quiet:
            return
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{self._safe(text)[:width]}\x1b[K")
            sys.stderr.flush()
            self._open = True
        elif self._clock() - self._last >= PLAIN_PROGRESS_SECONDS:
            self._last = self._clock()
            self._line(text)

    def result(self, text: str) -> None:
        """What was asked for."""
        self.close()
        if text:
            sys.stdout.write(self._safe(text.rstrip("\n")) + "\n")
            sys.stdout.flush()

    def close(self) -> None:
        """Take the progress away."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            self._open = False

    def _line(self, text: str) -> None:
        self.close()
        sys.stderr.write(self._safe(text) + "\n")
        sys.stderr.flush()

    def _safe(self, text: str) -> str:
        """Without the secret, and with signs that would steer a terminal as escapes."""
        if len(self.secret) >= SECRET_LENGTH:
            text = text.replace(self.secret, "***")
        return _STEERING.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def progress_to_text(progress: Mapping[str, Any]) -> str:
    """``163/200 videos, 812 frames/s, about 4 s left``."""
    parts = [f"{progress.get('videos') or 0}/{progress.get('total') or '?'} videos"]
    if progress.get("frames_per_second"):
        parts.append(f"{progress['frames_per_second']:.0f} frames/s")
    if progress.get("requests"):
        parts.append(f"{progress['requests']} requests")
    if progress.get("eta_seconds") is not None:
        parts.append(f"about {progress['eta_seconds']:.0f} s left")
    return ", ".join(parts)


def records_to_table(records: Sequence[Mapping[str, Any]], width: int) -> str:
    """Records of ``results.json`` as aigve shows them; notes go on in the next line."""
    titles = ("METRIC", "VALUE", "± SE", "BETTER", "VIDEOS", "WEIGHTS", "FOR", "NOTE")
    rows = [
        (
            _cell(record.get("value_name")),
            _cell(record.get("value"), record.get("standard_error")),
            _cell(record.get("standard_error")),
            _cell(record.get("better")),
            _cell((record.get("videos") or {}).get("videos")),
            _cell(record.get("weights")),
            _cell(record.get("requested")),
            record.get("reason") or "; ".join(record.get("notes") or []),
        )
        for record in records
    ]
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    right = (1, 2, 4)
    lines = []
    for row in [titles, *rows]:
        start = "".join(
            (row[i].rjust(widths[i]) if i in right else row[i].ljust(widths[i])) + "  "
            for i in range(len(titles) - 1)
        )
        room = max(width - len(start), 24)
        note = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
        lines += [start + note[0], *(" " * len(start) + more for more in note[1:])]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any, error: Any = None) -> str:
    """A number with four digits, or as many as show the first two of its standard error."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    digits = 4
    if isinstance(error, float) and error > 0 and value:
        shown = math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + 2
        digits = min(max(shown, 4), 8)
    return f"{value:.{digits}g}"


# --- what is sent -----------------------------------------------------------------------------


class Upload(NamedTuple):
    """A file of a form: its field, and where it lies."""

    field: str
    path: Path


class Form:
    """A ``multipart/form-data`` body of known length, read from disk while it is sent.

    May be sent again: each iteration opens the files anew.

    Args:
        fields: Names and texts.
        files: What is sent after them.
        sent: Called with the bytes that are sent and all bytes.
    """

    def __init__(
        self,
        fields: Sequence[tuple[str, str]],
        files: Sequence[Upload],
        sent: Callable[[int, int], None] = lambda sent, total: None,
    ) -> None:
        self._boundary = f"aigve-{secrets.token_hex(16)}"
        self._sent = sent
        self._texts = b"".join(
            self._head(name) + b"\r\n" + text.encode("utf-8", "surrogateescape") + b"\r\n"
            for name, text in fields
        )
        self._parts = [
            (self._head(file.field, file.path.name), file.path, file.path.stat().st_size)
            for file in files
        ]
        self._end = f"--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The header that tells where parts begin."""
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        files = sum(len(head) + 2 + size + 2 for head, _, size in self._parts)
        return len(self._texts) + files + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        total, done = len(self), 0
        for chunk in self._chunks():
            yield chunk
            done += len(chunk)
            self._sent(done, total)

    def _chunks(self) -> Iterator[bytes]:
        if self._texts:
            yield self._texts
        for head, path, size in self._parts:
            yield head + b"\r\n"
            left = size
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
            if left:
                # The length that was announced cannot be kept.
                raise ClientError(f"'{path}' changed while it was sent.")
            yield b"\r\n"
        yield self._end

    def _head(self, name: str, filename: str | None = None) -> bytes:
        """The lines before a part's content; names are escaped as browsers do it."""
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"'
        if filename is not None:
            head += f'; filename="{_escaped(filename)}"\r\nContent-Type: application/octet-stream'
        return head.encode("utf-8", "surrogateescape") + b"\r\n"


def _escaped(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def fields_to_texts(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options as fields of a form: a list is the field repeated."""
    texts = []
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            texts.append((name, json.dumps(item) if isinstance(item, bool) else str(item)))
    return texts


# --- the server -------------------------------------------------------------------------------


class Event(NamedTuple):
    """An event of a stream; ``number`` is its ``id``, to go on from there."""

    number: str | None
    kind: str
    data: Any


class Bearer(requests.auth.AuthBase):
    """The token of every request. As a header of the session, one of a .netrc would win."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Server:
    """An aigve server.

    Args:
        url: Where it is.
        token: What it lets in; empty where it asks for none.
        patience: Seconds to go on trying while it is busy or away.
        pause: Waits so many seconds.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        self._url, self.patience, self.pause, self.clock = url, patience, pause, clock
        self._token = token
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._session = requests.Session()
        if token:
            self._session.auth = Bearer(token)
        if parts.hostname in ("localhost", "127.0.0.1", "::1"):
            # No proxy is the way to this machine.
            self._session.trust_env = False
            self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True

    def ask(
        self, method: str, path: str, *, seconds: float = ANSWER_SECONDS, **facts: Any
    ) -> dict[str, Any]:
        """The JSON object that is answered.

        Raises:
            UnreachableError: There is no answer.
            RefusedError: It is an error.
            ClientError: It is something else.
        """
        with self._open(method, path, seconds, **facts) as response:
            try:
                found = response.json()
            except requests.exceptions.JSONDecodeError:
                found = None
        if not isinstance(found, dict):
            raise ClientError(
                f"The answer of {self.shown} to {method} {path} is no JSON object.",
                hint="Is this an aigve server? --base-url names another.",
            )
        return found

    def ask_patiently(self, path: str) -> dict[str, Any]:
        """GET, again and again while the server is away: it may be starting anew."""
        end = self.clock() + self.patience
        while True:
            try:
                return self.ask("GET", path)
            except ClientError as error:
                away = isinstance(error, UnreachableError) or (
                    isinstance(error, RefusedError) and (error.passes or error.status >= 500)
                )
                if not away or self.clock() >= end:
                    raise
                self.pause(getattr(error, "wait", None) or RETRY_SECONDS)

    def events(self, path: str, last: str | None) -> Iterator[Event]:
        """Events of a stream, those after ``last``; ends when the stream does."""
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if last is not None:
            headers["Last-Event-ID"] = last
        with self._open("GET", path, SILENCE_SECONDS, headers=headers, stream=True) as response:
            # Chunks as they come; a body without chunks would be waited for to its end.
            size = None if getattr(response.raw, "chunked", False) else 1
            try:
                yield from lines_to_events(chunks_to_lines(response.iter_content(size)))
            except requests.RequestException as error:
                raise self._unreachable(error) from error

    def _open(self, method: str, path: str, seconds: float, **facts: Any) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self._url + path,
                timeout=(CONNECT_SECONDS, seconds),
                # A token is for this server, and not for the one that it points to.
                allow_redirects=False,
                **facts,
            )
        except requests.RequestException as error:
            raise self._unreachable(error) from error
        if response.ok and not response.is_redirect:
            return response
        with response:
            raise self._refused(response, method, path)

    def _unreachable(self, error: requests.RequestException) -> ClientError:
        return UnreachableError(
            f"No answer from {self.shown}: {_why(error)}.",
            hint="Is the server running? --base-url or AIGVE_API_URL names another.",
            code=EXIT_ENVIRONMENT,
        )

    def _refused(self, response: requests.Response, method: str, path: str) -> ClientError:
        status, hint = response.status_code, ""
        try:
            body = response.json()
            said = detail_to_text(body["detail"] if "detail" in body else body["status"])
        except (requests.RequestException, KeyError, TypeError):
            said = response.reason or "no reason given"
        code = EXIT_USAGE if status in (400, 403, 404, 413, 415, 422) else EXIT_FAILED
        if status == 401:
            code = EXIT_ENVIRONMENT
            wrong = "does not accept this token" if self._token else "asks for a token"
            said = f"{self.shown} {wrong}."
            hint = "Set AIGVE_API_TOKEN in the environment to the token of this server."
        elif status in (429, 503):
            code = EXIT_ENVIRONMENT
            hint = "Try again later; --retries SECONDS tries for longer."
        elif response.is_redirect:
            hint = f"It points to {response.headers['Location']}: give that as --base-url."
        elif status in (404, 405) and method == "POST":
            hint = "This server does not know such jobs: is it older than this client?"
        wait = response.headers.get("Retry-After", "")
        prefix = "" if status == 401 else f"The server refuses {method} {path} ({status}): "
        return RefusedError(
            prefix + said,
            status=status,
            wait=float(wait) if wait.isdecimal() else None,
            hint=hint,
            code=code,
        )


def detail_to_text(detail: Any) -> str:
    """Why a request was refused: a sentence, or the fields that are wrong."""
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return json.dumps(detail, ensure_ascii=False)
    lines = []
    for item in detail:
        place = ".".join(str(part) for part in item.get("loc", ()) if part not in ("body", "query"))
        words = str(item.get("msg"))
        lines.append(words if not place or words.startswith(f"{place}: ") else f"{place}: {words}")
    return "; ".join(lines)


def _why(error: BaseException) -> str:
    """The reason that the system gives, below the layers that pass it on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and isinstance(cause.strerror, str):
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "it takes too long" if isinstance(error, requests.Timeout) else "the connection broke"


def chunks_to_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines of a body, ended by LF or CR LF; what is unfinished at its end is left out."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode("utf-8", "replace")


def lines_to_events(lines: Iterable[str]) -> Iterator[Event]:
    """Events of ``text/event-stream``; comments, and data that is no JSON, are left out."""
    number: str | None = None
    kind, data = "", []
    for line in lines:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "id":
            number = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif not line:
            try:
                event = Event(number, kind, json.loads("\n".join(data))) if data else None
            except ValueError:
                event = None
            kind, data = "", []
            if event is not None:
                yield event


# --- a job ------------------------------------------------------------------------------------


def submit(server: Server, send: Callable[[], dict[str, Any]], screen: Screen) -> dict[str, Any]:
    """A job that the server has taken, after some tries where its queue is full."""
    end = server.clock() + server.patience
    while True:
        try:
            job = send()
            break
        except RefusedError as error:
            wait = max(1.0, RETRY_SECONDS if error.wait is None else error.wait)
            if not error.passes or server.clock() + wait > end:
                raise
            screen.progress(f"the server is busy: trying again in {wait:.0f} s")
            server.pause(wait)
    if not isinstance(job.get("id"), str):
        raise ClientError(
            "The server's answer is no job.", hint="Is it an aigve server of this version?"
        )
    return job


class Watch:
    """A job until it is finished, and what of its run was shown."""

    def __init__(self, server: Server, job: dict[str, Any], screen: Screen) -> None:
        self._server, self._screen = server, screen
        self.job, self.path = job, f"/jobs/{quote(job['id'], safe='')}"
        self.lines: list[str] = []
        self._last: str | None = None
        self._fruitless = 0

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.job.get("state") in FINISHED

    def follow(self) -> None:
        """Show what happens, until nothing more will."""
        self._show()
        while not self.finished:
            streaming = self._fruitless < FRUITLESS_STREAMS
            if streaming:
                self._stream()
            if not self.finished:
                self._server.pause(1.0 if streaming else POLL_SECONDS)
                self._ask()

    def _stream(self) -> None:
        """Events until the stream ends, by itself or not; the next one goes on behind the last."""
        self._fruitless += 1
        try:
            for event in self._server.events(f"{self.path}/events", self._last):
                self._fruitless = 0
                self._last = event.number if event.number is not None else self._last
                self._take(event)
                if self.finished:
                    return
        except UnreachableError:
            pass
        except RefusedError:
            self._fruitless = FRUITLESS_STREAMS

    def _take(self, event: Event) -> None:
        if event.kind == "state" and isinstance(event.data, dict):
            self.job = {**self.job, **event.data}
            self._show()
        elif event.kind == "progress" and isinstance(event.data, dict):
            self._screen.progress(progress_to_text(event.data))
        elif event.kind == "note" and isinstance(event.data, dict):
            self.lines.append(str(event.data.get("text", "")))
            self._screen.relay(self.lines[-1])

    def _ask(self) -> None:
        self.job = {**self.job, **self._server.ask_patiently(self.path)}
        self._show()

    def _show(self) -> None:
        if self.job.get("state") == "queued":
            before = self.job.get("position")
            self._screen.progress("queued" + (f", {before} before it" if before else ""))
        elif self.job.get("progress"):
            self._screen.progress(progress_to_text(self.job["progress"]))

    def cancel(self) -> None:
        """Tell the server that nobody waits any more."""
        try:
            self._server.ask("DELETE", self.path, seconds=CONNECT_SECONDS)
            self._screen.note(f"Interrupted: job {self.job['id']} is cancelled.")
        except ClientError as error:
            self._screen.warn(f"Job {self.job['id']} may still run: {error.message}")


def save_answer(answer: Mapping[str, Any], folder: Path, screen: Screen) -> list[str]:
    """Write everything that was answered below a folder; gives the names of the files."""
    files = {}
    for artifact in answer.get("artifacts") or []:
        name, content = artifact.get("name"), artifact.get("content")
        if not is_plain_name(name) or name in OWN_FILES:
            screen.warn(f"A file of the server is not saved, for its name: {name!r}.")
        elif content is None:
            screen.warn(f"{name} has no content: {artifact.get('error') or 'no reason given'}.")
        else:
            files[name] = content if isinstance(content, str) else _json(content)
    if answer.get("results") is not None:
        files.setdefault("results.json", _json(answer["results"]))
    files["stdout.txt"] = str(answer.get("stdout") or "")
    files["stderr.txt"] = str(answer.get("stderr") or "")
    files["response.json"] = _json(answer)
    try:
        for name, text in files.items():
            # Never half a file, and never through a link.
            part = folder / f"{name}.part"
            part.unlink(missing_ok=True)
            part.write_bytes(text.encode("utf-8", "backslashreplace"))
            part.replace(folder / name)
        earlier = sorted({path.name for path in folder.glob("*results.json")} - set(files))
    except OSError as error:
        raise ClientError(
            f"Cannot write in '{folder}': {error.strerror or error}.",
            hint="--save-dir names another folder.",
            code=EXIT_ENVIRONMENT,
        ) from error
    if earlier:
        screen.warn(f"Of an earlier run in '{folder}': {', '.join(earlier)}.")
    return list(files)


def is_plain_name(name: Any) -> bool:
    """Whether it names a file in a folder, on any system, and nothing outside."""
    if not isinstance(name, str) or re.search(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]', name):
        return False
    return name.strip(". ") != "" and len(name.encode()) <= 200


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# --- the command line -------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Errors in the form of all others."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ClientError(f"{message}.", hint="--help explains every flag.", code=EXIT_USAGE)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _rate(text: str) -> float | str:
    return text if text == "native" else _positive(text)


def _seconds(text: str) -> float:
    return 0.0 if text == "0" else _positive(text)


_positive.__name__, _rate.__name__, _seconds.__name__ = "number", "rate", "number of seconds"
"""What messages call a value that is none."""


def parser() -> Parser:
    """Every flag."""
    made = Parser(
        description="Score videos on an aigve server and save all results here.",
        epilog="Exit code: that of the run (0 done, 1 failed, 2 usage, 3 some videos or metrics "
        "failed, 4 weights or machine); also 2 where the server refuses the request, 4 where it "
        "does not answer, stays busy or wants a token, 130 after Ctrl-C, which cancels the job.",
        allow_abbrev=False,
    )
    add = made.add_argument_group("server").add_argument
    add("--base-url", metavar="URL", help="Its address [AIGVE_API_URL, http://localhost:2200].")
    add(
        "--token",
        help="Its token. Better in the environment, AIGVE_API_TOKEN: others on this machine can "
        "read command lines.",
    )
    add("--local", action="store_true", help="It runs on this machine: paths are those of here.")
    add(
        "--retries",
        metavar="SECONDS",
        type=_seconds,
        default=300.0,
        help="How long to go on trying while it is busy, or away once the job is there [300].",
    )
    add("--show-help", action="store_true", help="Print the help of its aigve, and stop.")
    add("--no-help", action="store_true", help="Does nothing: help is only shown on demand.")

    add = made.add_argument_group("videos on the server").add_argument
    add(
        "--input-dir",
        metavar="FOLDER",
        help="Their folder there [AIGVE_INPUT_DIR, /app/data; with --local ./data].",
    )
    add(
        "--stage-dataset",
        metavar="FOLDER",
        help="Where they are gathered there [AIGVE_STAGE_DATASET; without --input-dir "
        "/app/out/staged, with --local ./out/staged].",
    )
    add = made.add_argument_group("or videos of this machine").add_argument
    add("--upload-dir", metavar="FOLDER", type=Path, help="Send all videos of this folder.")
    add(
        "--upload-files",
        metavar="FILE",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="Send these.",
    )

    add = made.add_argument_group("what is computed").add_argument
    add("--metrics", metavar="M,...", help="Metrics; `--show-help` explains them.")
    add(
        "--categories",
        metavar="C,...",
        help="Every metric of these. Default, where neither is given: distribution_based.",
    )
    add("--generated-suffixes", metavar="X,Y", help="Name endings of generated videos.")
    add(
        "--prompts",
        metavar="FILE",
        help="Prompts by video: sent with uploads, else a file on the server.",
    )
    add("--prompt", metavar="TEXT", help="One prompt for all videos.")
    add("--prompt-from-name", action="store_true", help="Take prompts from file names.")
    add("--max-seconds", metavar="S", type=_positive, default=8.0, help="Of each video [8].")
    add("--fps", metavar="FPS", type=_rate, default=25.0, help="Frames a second of them [25].")
    add("--cpu", action="store_true", help="Compute without a GPU.")
    add(
        "--weights", choices=("auto", "standard", "embedded"), help="Which checkpoints may be used."
    )
    add(
        "--set",
        metavar="M.O=V",
        dest="settings",
        action="append",
        default=[],
        help="An option of a metric; may be repeated.",
    )
    add(
        "--extra-arg",
        metavar="TOKEN",
        dest="extra_args",
        action="append",
        default=[],
        help="Another word for the command line of aigve, where the server allows it; may be "
        "repeated.",
    )
    add("--use-cdfvd", action="store_true", help="Also FVD as content-debiased-fvd has it, with:")
    add("--cdfvd-resolution", metavar="PIXELS", type=int, help="Default: the server's.")
    add("--cdfvd-sequence-length", metavar="FRAMES", type=int, help="Default: the server's.")
    add("--cdfvd-single-flavor", action="store_true", help="Of its models I3D alone.")

    add = made.add_argument_group("results").add_argument
    add(
        "--save-dir",
        metavar="FOLDER",
        type=Path,
        default=Path("results"),
        help="Where all files go [./results].",
    )
    add("--format", choices=("table", "json"), default="table", help="Results on stdout [table].")
    add("--quiet", "-q", action="store_true", help="Only results, warnings and errors.")
    return made


def join_extra_args(words: Sequence[str]) -> list[str]:
    """``--extra-arg --pad`` as ``--extra-arg=--pad``: the parser takes the second for a flag."""
    rest, joined = iter(words), []
    for word in rest:
        following = next(rest, None) if word == "--extra-arg" else None
        joined.append(word if following is None else f"{word}={following}")
    return joined


def server_address(text: str) -> str:
    """An address without a slash at its end.

    Raises:
        ClientError: It is none.
    """
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ClientError(
            f"'{text}' is no address of a server.",
            hint="--base-url http://HOST:2200, or AIGVE_API_URL in the environment.",
            code=EXIT_USAGE,
        )
    return text.rstrip("/")


def checked_token(text: str) -> str:
    """A token that a header can carry; it is not shown in the error.

    Raises:
        ClientError: It has signs that no token has.
    """
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ClientError(
            "The token has spaces or other signs that a token cannot have.",
            hint="AIGVE_API_TOKEN is the token alone, without quotes or a name before it.",
            code=EXIT_USAGE,
        )
    return token


def options_to_uploads(options: argparse.Namespace) -> list[Upload]:
    """The videos to send, and the file of prompts first; none without ``--upload-...``.

    Raises:
        ClientError: One is not there, or two have one name.
    """
    videos = list(options.upload_files)
    if options.upload_dir is not None:
        if not options.upload_dir.is_dir():
            raise ClientError(f"There is no folder '{options.upload_dir}'.", code=EXIT_USAGE)
        found = sorted(path for path in options.upload_dir.iterdir() if is_video(path))
        if not found:
            raise ClientError(
                f"No videos in '{options.upload_dir}': looked for {' '.join(VIDEOS)}.",
                code=EXIT_USAGE,
            )
        videos += found
    prompts = [Path(options.prompts)] if videos and options.prompts else []
    names: dict[str, Path] = {}
    for path in [*prompts, *videos]:
        if not path.is_file():
            raise ClientError(f"There is no file '{path}'.", code=EXIT_USAGE)
        if path in videos and (other := names.setdefault(path.name, path)) is not path:
            raise ClientError(
                f"'{other}' and '{path}' have the same name.",
                hint="Videos are told apart by their names: rename one.",
                code=EXIT_USAGE,
            )
    return [*(Upload("prompts", path) for path in prompts), *(Upload("videos", p) for p in videos)]


def is_video(path: Path) -> bool:
    """Whether aigve would take it for a video."""
    visible = not path.name.startswith(".")
    return visible and path.suffix.lower() in VIDEOS and path.is_file()


def options_to_fields(options: argparse.Namespace) -> dict[str, Any]:
    """What is asked for, wherever the videos are: only what says something."""
    categories = options.categories
    if not options.metrics and not categories:
        categories = "distribution_based"
    fields = {
        "compute": True,
        "metrics": options.metrics,
        "categories": categories,
        "generated_suffixes": options.generated_suffixes,
        "prompt": options.prompt,
        "prompt_from_name": options.prompt_from_name,
        "max_seconds": options.max_seconds,
        "fps": options.fps,
        "use_cpu": options.cpu,
        "weights": options.weights,
        "set": options.settings,
        "extra_args": options.extra_args,
    }
    said = {name: value for name, value in fields.items() if value not in (None, "", False, [])}
    if options.use_cdfvd:
        said["use_cdfvd"] = True
        if options.cdfvd_resolution:
            said["cdfvd_resolution"] = options.cdfvd_resolution
        if options.cdfvd_sequence_length:
            said["cdfvd_sequence_length"] = options.cdfvd_sequence_length
        said["cdfvd_all_flavors"] = not options.cdfvd_single_flavor
        if options.cdfvd_single_flavor:
            # The server's default is a model that it may not have.
            said["cdfvd_model"] = "i3d"
    return said


def options_to_places(
    options: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, str]:
    """Where things are on the server.

    Raises:
        ClientError: With --local: they are not there.
    """
    named = options.input_dir or environment.get("AIGVE_INPUT_DIR")
    places = {"input_dir": named or ("data" if options.local else "/app/data")}
    stage = options.stage_dataset or environment.get("AIGVE_STAGE_DATASET")
    if not stage and not named:
        # Where the videos are is known, and where they are gathered with it.
        stage = "out/staged" if options.local else "/app/out/staged"
    if stage:
        places["stage_dataset"] = stage
    if options.prompts:
        places["prompts"] = options.prompts
    if not options.local:
        return places
    if not Path(places["input_dir"]).is_dir():
        raise ClientError(
            f"There is no folder '{places['input_dir']}'.",
            hint="--input-dir names the folder of videos.",
            code=EXIT_USAGE,
        )
    # The server's current folder is another.
    return {name: os.path.abspath(place) for name, place in places.items()}


def health_to_text(health: Mapping[str, Any]) -> str:
    """``aigve 0.1.0 on cuda, 2 jobs are waiting``."""
    version = (health.get("versions") or {}).get("aigve")
    text = f"aigve {version}" if version else "ready"
    if health.get("cuda_available") is not None:
        count = health.get("device_count") or 1
        gpus = "a GPU" if count == 1 else f"{count} GPUs"
        text += f" on {gpus if health['cuda_available'] else 'processors alone'}"
    waiting = (health.get("queue") or {}).get("length")
    return text + (f", jobs waiting: {waiting}" if waiting else "")


def greet(server: Server, screen: Screen) -> None:
    """Say which server answers, before anything is sent to it.

    Raises:
        ClientError: None does, or it wants another token.
    """
    health = server.ask("GET", "/healthz")
    if health.get("python") is None:
        # It tells strangers nothing: find out now, not after an upload.
        try:
            server.ask("GET", "/jobs/-")
        except RefusedError as error:
            if error.status == 401:
                raise
    screen.note(f"{server.shown}: {health_to_text(health)}")
    if health.get("torch_error"):
        screen.warn(f"The server has trouble with torch: {health['torch_error']}")


def call(
    options: argparse.Namespace, server: Server, screen: Screen, environment: Mapping[str, str]
) -> int:
    """Run a job on the server; gives the exit code.

    Raises:
        ClientError: It cannot be run, or its results cannot be had.
    """
    if options.show_help:
        page = server.ask("GET", "/help")
        screen.result(str(page.get("stdout") or page.get("stderr") or ""))
        return _exit_code(page.get("returncode"))
    uploads = options_to_uploads(options)
    fields = options_to_fields(options)
    if uploads and options.stage_dataset:
        fields["stage_dataset"] = options.stage_dataset
    elif not uploads:
        fields.update(options_to_places(options, environment))
    given = (options.cdfvd_resolution, options.cdfvd_sequence_length, options.cdfvd_single_flavor)
    if any(given) and not options.use_cdfvd:
        screen.note("--cdfvd-... flags are not used without --use-cdfvd.")
    greet(server, screen)
    make_folder(options.save_dir)
    watch = Watch(server, submit(server, sender(server, fields, uploads, screen), screen), screen)
    screen.note(f"Job {watch.job['id']}")
    try:
        watch.follow()
        answer = server.ask_patiently(f"{watch.path}/results")
    except KeyboardInterrupt:
        if not watch.finished:
            watch.cancel()
        raise
    except UnreachableError as error:
        error.hint = f"Job {watch.job['id']} may go on there: {server.shown}{watch.path}"
        raise
    except RefusedError as error:
        # The job had been taken: this is not for the command line.
        error.code = EXIT_FAILED if error.code == EXIT_USAGE else error.code
        raise
    return finish(answer, watch, options, screen)


def make_folder(folder: Path) -> None:
    """Before anything is computed: there is a folder that can be written.

    Raises:
        ClientError: There is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "it is read-only"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ClientError(f"--save-dir '{folder}' cannot be used: {reason}.", code=EXIT_USAGE)


def sender(
    server: Server, fields: Mapping[str, Any], uploads: Sequence[Upload], screen: Screen
) -> Callable[[], dict[str, Any]]:
    """A request for a job, that can be sent more than once."""
    if not uploads:
        return lambda: server.ask("POST", "/jobs", json=fields)
    texts = [*fields_to_texts(fields), ("wait", "false")]

    def sent(done: int, total: int) -> None:
        screen.progress(f"sending {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    form = Form(texts, uploads, sent)
    headers = {"Content-Type": form.content_type}

    def send() -> dict[str, Any]:
        try:
            return server.ask(
                "POST", "/run_upload", seconds=UPLOAD_SECONDS, data=form, headers=headers
            )
        except UnreachableError as error:
            error.hint = "Perhaps the upload is larger than the server, or a proxy, allows."
            raise

    return send


def finish(
    answer: Mapping[str, Any], watch: Watch, options: argparse.Namespace, screen: Screen
) -> int:
    """Save and show what came of a job; gives the exit code."""
    stderr = str(answer.get("stderr") or "").splitlines()
    shown = watch.lines
    for line in stderr[len(shown) :] if stderr[: len(shown)] == shown else stderr:
        screen.relay(line)
    saved = save_answer(answer, options.save_dir, screen)
    results = answer.get("results")
    records = results.get("results") if isinstance(results, dict) else None
    if records is None:
        screen.result(str(answer.get("stdout") or ""))
    elif options.format == "json":
        screen.result(_json(records))
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        screen.result(records_to_table(records, width))
    screen.note(f"{len(saved)} files in {options.save_dir}")
    job = {**watch.job, **(answer.get("job") or {})}
    code = answer.get("returncode")
    if job.get("state") != "done" or not isinstance(code, int):
        reason = job.get("reason") or f"exit code {code}"
        screen.error(f"Job {job['id']}: {job.get('state')}, {reason}")
    return _exit_code(code)


def _exit_code(code: Any) -> int:
    """What a process can end with: no code, or that of a killed one, is a failure."""
    return code if isinstance(code, int) and 0 <= code < 256 else EXIT_FAILED


def main(
    words: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run the command line and return its exit code."""
    screen = Screen(clock=clock)
    try:
        options = parser().parse_args(join_extra_args(sys.argv[1:] if words is None else words))
        screen.quiet = options.quiet
        token = checked_token(options.token or environment.get("AIGVE_API_TOKEN") or "")
        screen.secret = token
        url = options.base_url or environment.get("AIGVE_API_URL") or "http://localhost:2200"
        server = Server(
            server_address(url), token, patience=options.retries, pause=pause, clock=clock
        )
        return call(options, server, screen, environment)
    except ClientError as error:
        screen.error(error.message, error.hint)
        return error.code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left: Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    finally:
        screen.close()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
