"""The ffmpeg binary: where it is, how a file is handed to it, and what its messages say."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aigve_cli.errors import SetupError

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused before they are allocated: 89 bytes of GIF may claim 16000x16000."""
MAX_ADDRESS_SPACE = 16 * 2**30
KEPT_MESSAGES = 40

_LEVEL = re.compile(r"\[(info|verbose|warning|error|fatal|panic)\] ?(.*)")
_SIZE = re.compile(r"\b(\d{1,5})x(\d{1,5})\b")
_FPS = re.compile(r"([\d.]+)(k?) fps")
_TBR = re.compile(r"([\d.]+)(k?) tbr")
_DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")
_CONTEXT = re.compile(r"@ 0x[0-9a-f]+")


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


def input_arguments(path: Path, *, threads: int = 0) -> list[str]:
    """Arguments that open ``path`` and nothing else: names are never read as options or URLs."""
    arguments = ["-nostdin", "-hide_banner", "-nostats", "-v", "level+info"]
    if threads:
        arguments += ["-threads", str(threads)]
    return [
        *arguments,
        *("-max_pixels", str(MAX_PIXELS)),
        *("-protocol_whitelist", "file,pipe"),
        *("-i", f"file:{path}"),
        *("-map", "0:v:0", "-an", "-sn", "-dn"),
    ]


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
        """The header, once the output's size is known; None if ffmpeg ended or hung before."""
        self._output_known.wait(seconds)
        return self.header if self.header.width else None

    def close(self) -> None:
        """Wait until ffmpeg's last message was read."""
        self._thread.join(timeout=5)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                self._take(raw.decode("utf-8", "replace").rstrip())
        self._output_known.set()

    def _take(self, line: str) -> None:
        found = _LEVEL.search(line)
        level, text = (found[1], found[2]) if found else ("info", line)
        if level in ("error", "fatal", "panic"):
            source = _CONTEXT.sub("", line[: found.start()] if found else "").strip(" []")
            message = f"{source.split('#')[0].strip()}: {text}" if source else text
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
        elif stripped.startswith("Stream #") and ": Audio:" in stripped:
            self._update(has_audio=True)
        elif stripped.startswith("Stream #") and ": Video:" in stripped:
            self._take_video_stream(stripped.partition(": Video:")[2].strip())

    def _take_video_stream(self, description: str) -> None:
        # Pixel format parentheses hold commas and, for some codecs, digits with an x.
        flat = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", description))
        if self._section == "Input" and not self.header.codec:
            rate = _FPS.search(flat) or _TBR.search(flat)
            fps = float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0
            self._update(codec=flat.split(",")[0].split(" ")[0], fps=fps)
        elif self._section == "Output" and (size := _SIZE.search(flat.partition(",")[2])):
            self._update(width=int(size[1]), height=int(size[2]))
            self._output_known.set()

    def _update(self, **facts: object) -> None:
        self.header = Header(**{**self.header.__dict__, **facts})
