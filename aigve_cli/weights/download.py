"""One file from the first of several addresses that gives the right one, resumed where it stopped.

`requests` does the transfer. What it, `huggingface_hub` (Hub addresses only, five retries a host)
and `pooch` (no resume, no mirrors) leave to us is here: which address, from which byte, and is it
the right file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aigve_cli.weights.cards import UNKNOWN_SHA256, WeightsEntry
from aigve_cli.weights.check import file_problem, file_to_sha256, head_problem

if TYPE_CHECKING:
    from requests import Response

Announce = Callable[[str], None]
ProgressHook = Callable[[int, int | None], None]
"""Called with the bytes here and the bytes in all (None where nobody says)."""
CHUNK_BYTES = 2**16
"""Also the most that is lost when a connection breaks: a chunk arrives whole or not at all."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds without an answer after which a host is given up."""

    connect: float = 5.0
    read: float = 30.0


class DownloadError(Exception):
    """No address gave the file.

    Attributes:
        failures: One line for each address.
    """

    def __init__(self, failures: list[str]) -> None:
        super().__init__("\n".join(failures))
        self.failures = failures


class _AddressError(Exception):
    """Why one address did not give the file."""


def download(
    entry: WeightsEntry,
    target: Path,
    *,
    announce: Announce,
    progress: ProgressHook,
    timeouts: Timeouts,
) -> None:
    """Fetch a checkpoint into ``target``, which appears only when complete and checked.

    What has arrived stays in ``target.part`` through failures and Ctrl-C, and the next attempt
    goes on from there.

    Raises:
        DownloadError: Each address was tried once and failed.
        OSError: The disk is full or the folder cannot be written.
    """
    part = _Part(target, entry)
    failures = []
    for url in entry.urls:
        announce(f"Fetching {url}")
        try:
            resumed = _transfer(url, part, progress, timeouts)
            problem = part.problem()
            if problem and resumed:
                # The bytes of the earlier attempt may be the wrong ones: this host gets a
                # chance to show all of its own.
                part.clear()
                _transfer(url, part, progress, timeouts)
                problem = part.problem()
            if problem:
                part.clear()
                raise _AddressError(problem)
        except _AddressError as error:
            failures.append(f"{url}: {error}")
            announce(f"  {error}")
        else:
            part.path.replace(target)
            part.clear()
            return
    raise DownloadError(failures)


@contextmanager
def one_process_a_file(target: Path, announce: Announce) -> Iterator[None]:
    """Wait until no other process fetches the same file."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        announce(f"Another process is fetching {target.name}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def announced_progress(
    announce: Announce, name: str, *, every_seconds: float = 10.0
) -> ProgressHook:
    """A hook that says how far a download is, one line every ten seconds."""
    last = time.monotonic()

    def hook(here: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_seconds:
            last = now
            announce(
                f"  {name}: {here / 1e6:.0f} of {total / 1e6:.0f} MB"
                if total
                else f"  {name}: {here / 1e6:.0f} MB"
            )

    return hook


class _Part:
    """The unfinished file, and which version of which address its bytes came from."""

    def __init__(self, target: Path, entry: WeightsEntry) -> None:
        self.path = target.with_name(target.name + ".part")
        self.entry = entry
        self._source = target.with_name(target.name + ".part.source")

    def size(self) -> int:
        """Bytes that can be built upon: a file longer than the whole is thrown away."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if self.entry.bytes is not None and size > self.entry.bytes:
            self.clear()
            return 0
        return size

    def validator(self, url: str) -> str:
        """The ETag under which this address gave the bytes that are here; empty if it did not."""
        if not self._source.exists():
            return ""
        source, _, etag = self._source.read_text(encoding="utf-8").partition("\n")
        return etag if source == url else ""

    def remember(self, url: str, etag: str) -> None:
        """Note where the bytes come from. Weak ETags do not promise equal bytes."""
        self._source.write_text(f"{url}\n{'' if etag.startswith('W/') else etag}", encoding="utf-8")

    def problem(self) -> str | None:
        """What is wrong with the bytes that are here, once all of them should be."""
        if not self.path.exists():
            return "the answer was empty"
        return file_problem(self.path, self.entry, sha256=file_to_sha256(self.path))

    def clear(self) -> None:
        """Throw it away."""
        self.path.unlink(missing_ok=True)
        self._source.unlink(missing_ok=True)


def _transfer(url: str, part: _Part, progress: ProgressHook, timeouts: Timeouts) -> bool:
    """Bring ``part`` to its full length from one address; True if earlier bytes were kept.

    Raises:
        _AddressError: The host did not answer, or with something else than the file.
    """
    import requests

    start = part.size()
    if start and start == part.entry.bytes:
        return True
    validator = part.validator(url)
    # Bytes of another address, or of a version that may have changed since, can only be built
    # upon if a hash will tell.
    if not validator and part.entry.sha256 == UNKNOWN_SHA256:
        start = 0
    # A compressed answer would make byte positions meaningless.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=(timeouts.connect, timeouts.read)
        ) as response:
            if start and response.status_code == 416:
                part.clear()
            else:
                return _receive(response, url, part, start, progress)
    except requests.RequestException as error:
        raise _AddressError(_reason(error, url, timeouts)) from error
    return _transfer(url, part, progress, timeouts)


def _receive(response: Response, url: str, part: _Part, start: int, progress: ProgressHook) -> bool:
    if response.status_code not in (200, 206):
        raise _AddressError(f"HTTP {response.status_code} {response.reason}".rstrip())
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _AddressError("the answer is a web page (HTML), not a checkpoint")
    if response.status_code == 200:
        start = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _AddressError(f"asked from byte {start}, answered another range")
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else part.entry.bytes
    if part.entry.bytes is not None and total != part.entry.bytes:
        raise _AddressError(f"it has {total:,} bytes, the card says {part.entry.bytes:,}")
    chunks = response.iter_content(CHUNK_BYTES)
    # Looked at before the file is opened, so that a web page does not wipe what is already here.
    chunk = next(chunks, b"")
    problem = head_problem(chunk[:512]) if start == 0 else None
    if problem:
        raise _AddressError(problem)
    here = start
    with part.path.open("ab" if start else "wb") as file:
        part.remember(url, response.headers.get("ETag", ""))
        while chunk:
            file.write(chunk)
            here += len(chunk)
            progress(here, total)
            chunk = next(chunks, b"")
    if total is not None and here < total:
        raise _AddressError(f"the connection closed after {here:,} of {total:,} bytes")
    return start > 0


def _reason(error: Exception, url: str, timeouts: Timeouts) -> str:
    import requests

    host = urlsplit(url).netloc
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection to {host} within {timeouts.connect:g} s"
    if isinstance(error, requests.ReadTimeout) or "Read timed out" in str(error):
        return f"{host} was silent for {timeouts.read:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"{host} closed the connection before the end"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {host}"
    return f"{type(error).__name__}: {error}"
