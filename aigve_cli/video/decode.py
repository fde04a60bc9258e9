"""From a file to RGB frames, one ffmpeg process a video.

Frames come at native size through swscale's default flags: measured equal to OpenCV's
``BGR2RGB`` to the last bit. Frame timing is passed through: no frame is doubled or dropped to
reach a constant rate. Rotation is applied.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import VideoFacts
from aigve_cli.errors import SetupError, VideoError
from aigve_cli.lazy import np
from aigve_cli.video.ffmpeg import (
    MAX_ADDRESS_SPACE,
    Header,
    Messages,
    ffmpeg_binary,
    input_arguments,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

STALL_SECONDS = 60.0
"""A decoder that gives nothing for so long is ended and its video recorded as unreadable."""
PIPE_BYTES = 1 << 20
MISSING_SHARE = 0.1
"""A file that gives this share of its stated duration less than it should was cut."""


@dataclass(frozen=True)
class Decoded:
    """What a finished decode knows of its video."""

    frames: int
    width: int
    height: int
    fps: float
    codec: str

    @property
    def facts(self) -> VideoFacts:
        """The facts that a sampling asks for."""
        return VideoFacts(width=self.width, height=self.height, fps=self.fps, frames=self.frames)


class VideoReader:
    """Decodes the first frames of one video.

    Args:
        path: The file. Its name may hold anything a file name can.
        frames: Stop after this many; None decodes to the end.
        threads: Decoder threads; 0 lets ffmpeg choose.
        stall_seconds: End a decoder that gives nothing for so long.

    Use as a context manager; iterate once; then ask for ``decoded``.
    """

    def __init__(
        self,
        path: Path,
        *,
        frames: int | None = None,
        threads: int = 0,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.path = path
        self._wanted = frames
        self._threads = threads
        self._stall_seconds = stall_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._decoded: Decoded | None = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def decoded(self) -> Decoded:
        """The facts of the video, once every frame was read."""
        if self._decoded is None:
            raise RuntimeError("the video was not read to its end")
        return self._decoded

    def close(self) -> None:
        """End ffmpeg if it still runs. May be called from another thread."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Frames: uint8 [H, W, 3], RGB, 0..255, each its own array.

        Raises:
            VideoError: The file cannot be read, has no video, is damaged, or ends early.
        """
        check_is_file(self.path)
        limit = ["-frames:v", str(self._wanted)] if self._wanted is not None else []
        process = start_ffmpeg(
            [
                *input_arguments(self.path, threads=self._threads),
                *("-fps_mode", "passthrough", *limit),
                *("-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"),
            ]
        )
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        messages = Messages(process.stderr)
        count = 0
        try:
            header = messages.wait_for_header(self._stall_seconds)
            if header is not None:
                for frame in self._frames(process.stdout, header):
                    count += 1
                    yield frame
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
        finally:
            self.close()
            process.wait()
            process.stdout.close()
            messages.close()
        self._decoded = self._judge(count, process.returncode, messages)

    def _frames(self, stream: Any, header: Header) -> Iterator[NDArray[np.uint8]]:
        shape = (header.height, header.width, 3)
        while True:
            frame = np.empty(shape, dtype=np.uint8)
            if not _read_exactly(stream.fileno(), frame.data.cast("B"), self._stall_seconds):
                return
            yield frame

    def _judge(self, count: int, returncode: int, messages: Messages) -> Decoded:
        header, error = messages.header, messages.first_error
        if "matches no streams" in " ".join(messages.complaints):
            raise VideoError("the file holds no video stream", status="no_video")
        if count == 0:
            raise VideoError(error or f"ffmpeg gave no frame (exit code {returncode})")
        expected = self._expected(header)
        short = expected is not None and count < expected
        if returncode != 0 or messages.errors:
            frames = f"{count} of about {expected} frames" if short else f"{count} frames"
            what = "is cut or damaged" if short else "is damaged"
            raise VideoError(
                f"the file {what}: {frames}, {messages.errors} decoding errors, first: {error}",
                status="partial",
            )
        if (
            short
            and expected is not None
            and not header.has_audio
            and count < expected * (1 - MISSING_SHARE) - 1
        ):
            raise VideoError(
                f"the file is cut: {count} frames where its header states about {expected}",
                status="partial",
            )
        return Decoded(count, header.width, header.height, header.fps, header.codec)

    def _expected(self, header: Header) -> int | None:
        if not header.seconds or not header.fps:
            return self._wanted
        stated = round(header.seconds * header.fps)
        return stated if self._wanted is None else min(stated, self._wanted)


def check_is_file(path: Path) -> None:
    """Refuse what ffmpeg would answer with a riddle.

    Raises:
        VideoError: The path does not exist, is a folder, is empty, or may not be read.
    """
    if not path.exists():
        raise VideoError("the file does not exist", status="missing")
    if not path.is_file():
        raise VideoError("not a regular file")
    if path.stat().st_size == 0:
        raise VideoError("the file is empty (0 bytes)")
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
        )
    except OSError as error:
        raise SetupError(
            f"ffmpeg cannot be started: {binary}: {error.strerror}",
            hint="Run `aigve doctor`; IMAGEIO_FFMPEG_EXE names another binary.",
        ) from error
    if process.stdout is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    if hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError, ValueError):
            bound = (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE)
            resource.prlimit(process.pid, resource.RLIMIT_AS, bound)
    return process


def _read_exactly(fd: int, buffer: memoryview, stall_seconds: float) -> bool:
    waiter = select.poll()  # `select.select` fails beyond 1,024 open files
    waiter.register(fd, select.POLLIN | select.POLLHUP)
    filled = 0
    while filled < len(buffer):
        if not waiter.poll(stall_seconds * 1000):
            raise VideoError(f"the decoder gave nothing for {stall_seconds:g} s")
        count = os.readv(fd, [buffer[filled:]])
        if count == 0:
            return False
        filled += count
    return True
