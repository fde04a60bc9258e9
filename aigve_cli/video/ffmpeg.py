"""The ffmpeg binary: how it is started and ended, how it is given a file, what its messages say."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import resource
import signal
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from aigve_cli.errors import SetupError, VideoError

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused before they are allocated: 89 bytes of GIF may claim 16000x16000."""
MAX_ADDRESS_SPACE = 16 * 2**30
FORMATS = (
    "asf,avi,flv,gif,h264,hevc,ivf,m4v,matroska,webm,mov,mp4,mpeg,mpegts,mpegvideo,nut,ogg,"
    "webp_anim,yuv4mpegpipe"
)
"""Containers that hold their frames. Playlists are not among them: they open other files."""
KEPT_MESSAGES = 40
MESSAGE_BYTES = 4096
PIPE_BYTES = 1 << 20
STALL_SECONDS = 60.0
"""A decoder that gives nothing for so long is ended and its video recorded as unreadable."""

# From the line's start: a title may hold anything, but its further lines are indented.
_LEVEL = re.compile(
    r"(?:\[[^]]* @ 0x[0-9a-f]+\] ?)*\[(info|verbose|warning|error|fatal|panic)\] ?(.*)"
)
_SIZE = re.compile(r"\b(\d{1,5})x(\d{1,5})\b")
_FPS = re.compile(r"([\d.]+)(k?) fps")
_TBR = re.compile(r"([\d.]+)(k?) tbr")
_DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")
_ROTATION = re.compile(r"rotation of (-?[\d.]+)")
_SOURCE = re.compile(r"\[([^]#@]+) @ 0x[0-9a-f]+\]")


def ffmpeg_binary() -> str:
    """Path of the ffmpeg that imageio-ffmpeg carries, or of ``IMAGEIO_FFMPEG_EXE``.

    Raises:
        SetupError: There is none for this platform.
    """
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise SetupError(
            f"No ffmpeg binary: {error}",
            hint="Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg of your own.",
        ) from error


@cache
def ffmpeg_version() -> str:
    """The first line that the binary says of itself, without its copyright.

    Raises:
        SetupError: The binary cannot be started.
    """
    binary = ffmpeg_binary()
    try:
        done = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise _cannot_start(binary, error) from error
    if done.returncode:
        words = done.stderr.strip() or f"it exits with {done.returncode}"
        raise SetupError(
            f"ffmpeg does not work: {binary}: {words}.",
            hint="Run `aigve doctor`; IMAGEIO_FFMPEG_EXE names another binary.",
        )
    return done.stdout.partition("\n")[0].partition(" Copyright")[0].strip() or "unknown"


def input_arguments(path: Path, *, threads: int = 0) -> list[str]:
    """Arguments that open ``path`` and nothing else: names are never read as options or URLs."""
    arguments = ["-nostdin", "-hide_banner", "-nostats", "-v", "level+info"]
    if threads:
        arguments += ["-threads", str(threads)]
    return [
        *arguments,
        *("-max_pixels", str(MAX_PIXELS)),
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS),
        *("-i", f"file:{path}"),
        # A capital V: a cover picture is no video.
        *("-map", "0:V:0", "-an", "-sn", "-dn"),
    ]


def check_is_file(path: Path) -> None:
    """Refuse what ffmpeg would answer with a riddle.

    Raises:
        VideoError: The path does not exist, is a folder, is empty, or may not be read.
    """
    try:
        if not path.exists():
            raise VideoError("the file does not exist", status="missing")
        if not path.is_file():
            raise VideoError("not a regular file")
        if path.stat().st_size == 0:
            raise VideoError("the file is empty (0 bytes)")
    except OSError as error:  # a folder on the way that may not be searched, a name too long
        raise VideoError(f"cannot be read: {error.strerror}") from error
    if not os.access(path, os.R_OK):
        raise VideoError("no permission to read the file")


def start_ffmpeg(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start ffmpeg with pipes, apart from the terminal's Ctrl-C, with bounded memory.

    Raises:
        SetupError: The binary cannot be started.
    """
    binary = ffmpeg_binary()
    try:
        process = subprocess.Popen(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            # Its messages are parsed: a user's AV_LOG_FORCE_COLOR would put codes between them.
            env={**os.environ, "AV_LOG_FORCE_NOCOLOR": "1"},
        )
    except OSError as error:
        raise _cannot_start(binary, error) from error
    if process.stdout is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    if hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError, ValueError):
            bound = (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE)
            resource.prlimit(process.pid, resource.RLIMIT_AS, bound)
    return process


def _cannot_start(binary: str, error: OSError) -> SetupError:
    return SetupError(
        f"ffmpeg cannot be started: {binary}: {error.strerror}",
        hint="Run `aigve doctor`; IMAGEIO_FFMPEG_EXE names another binary.",
    )


def end_ffmpeg(process: subprocess.Popen[bytes]) -> None:
    """End ffmpeg and, where the binary is a script around it, what the script started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Header:
    """What ffmpeg says of a video before its first frame."""

    codec: str = ""
    width: int = 0
    """Of the frames that come out: rotation is applied."""
    height: int = 0
    fps: float = 0.0
    """Average frame rate; 0.0 where the container states none."""
    seconds: float | None = None
    """Duration of the file; None where the container states none."""
    has_audio: bool = False
    turned: bool = False
    """Whether the file asks players to turn the picture by 90 or 270 degrees."""


class Messages:
    """Reads ffmpeg's stderr in a thread: the header, and a bounded number of complaints."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.header = Header()
        self.complaints: deque[str] = deque(maxlen=KEPT_MESSAGES)
        """Errors and fatal messages, without addresses; the first ones are dropped when many."""
        self.errors = 0
        self.first_error = ""
        self._section = ""
        self._output_known = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def wait_for_header(self, seconds: float) -> Header | None:
        """The header, once the output's size is known; None if ffmpeg ended before.

        Raises:
            VideoError: ffmpeg said nothing of it for so long.
        """
        if not self._output_known.wait(seconds):
            raise stalled(seconds)
        return self.header if self.header.width else None

    def close(self) -> None:
        """Wait until ffmpeg's last message was read."""
        self._thread.join(timeout=5)

    def _read(self, stream: IO[bytes]) -> None:
        # Bounded: something else than ffmpeg may never end its line.
        with stream, io.BufferedReader(stream) as lines:  # type: ignore[type-var]
            while raw := lines.readline(MESSAGE_BYTES):
                self._take(raw.decode("utf-8", "replace").rstrip())
        self._output_known.set()

    def _take(self, line: str) -> None:
        found = _LEVEL.match(line)
        if found is None:
            return  # the rest of a line that a file's name or title broke
        level, text = found[1], found[2]
        if level in ("error", "fatal", "panic"):
            source = _SOURCE.search(line[: found.start(1)])
            text = text.partition(", see the documentation")[0]
            if text.startswith("Format not on whitelist"):
                text = "a playlist, a picture or another file that is no video"
            message = f"{source[1]}: {text}" if source else text
            self.errors += 1
            self.first_error = self.first_error or message
            self.complaints.append(message)
        elif level == "info":
            self._take_header(text)

    def _take_header(self, text: str) -> None:
        stripped = text.strip()
        if stripped.startswith(("Input #", "Output #")):
            self._section = stripped.split(" ")[0]
        elif self._section == "Input" and (found := _DURATION.search(text)):
            hours, minutes, seconds = found.groups()
            self._update(seconds=int(hours) * 3600 + int(minutes) * 60 + float(seconds))
        elif self._section == "Input" and (rotation := _ROTATION.search(text)):
            self._update(turned=float(rotation[1]) % 180 == 90)
        elif stripped.startswith("Stream #") and ": Audio:" in stripped:
            self._update(has_audio=True)
        elif stripped.startswith("Stream #") and ": Video:" in stripped:
            self._take_video_stream(stripped.partition(": Video:")[2].strip())

    def _take_video_stream(self, description: str) -> None:
        # Pixel format parentheses hold commas and, for some codecs, digits with an x.
        flat = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", description))
        if self._section == "Input" and not self.header.codec:
            if "(attached pic)" in description:
                return
            rate = _FPS.search(flat) or _TBR.search(flat)
            fps = float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0
            self._update(codec=flat.split(",")[0].split(" ")[0], fps=fps)
        elif self._section == "Output" and (size := _SIZE.search(flat.partition(",")[2])):
            self._update(width=int(size[1]), height=int(size[2]))
            self._output_known.set()

    def _update(self, **facts: object) -> None:
        self.header = Header(**{**self.header.__dict__, **facts})


def stalled(seconds: float) -> VideoError:
    """The error for a decoder that gives nothing."""
    return VideoError(f"the decoder gave nothing for {seconds:g} s")
