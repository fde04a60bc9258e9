"""From a file to RGB frames, one ffmpeg process a video.

Frames come at native size through swscale's default flags: measured equal to OpenCV's
``BGR2RGB`` to the last bit. Frame timing is passed through: no frame is doubled or dropped to
reach a constant rate. Rotation is applied.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import VideoFacts
from aigve_cli.errors import VideoError
from aigve_cli.lazy import np
from aigve_cli.video.ffmpeg import (
    STALL_SECONDS,
    Header,
    Messages,
    check_is_file,
    end_ffmpeg,
    input_arguments,
    stalled,
    start_ffmpeg,
)
from aigve_cli.video.probe import scan_packets

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        self._closed = False
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
        self._closed = True
        if self._process is not None:
            end_ffmpeg(self._process)

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
            if self._closed:  # by another thread, while ffmpeg was being started
                return
            header = messages.wait_for_header(self._stall_seconds)
            if header is not None:
                for frame in self._frames(process.stdout, header):
                    count += 1
                    yield frame
            process.wait(timeout=self._stall_seconds)
        except subprocess.TimeoutExpired:
            raise stalled(self._stall_seconds) from None
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
        frames = f"{count} frame{'s' * (count != 1)}"
        if returncode < 0:
            raise VideoError(
                f"ffmpeg was ended by signal {-returncode} after {frames}",
                status="partial" if count else "unreadable",
            )
        if count == 0:
            raise VideoError(error or f"ffmpeg gave no frame (exit code {returncode})")
        expected = self._expected(header)
        short = expected is not None and count < expected
        if returncode != 0 or messages.errors:
            what = f"cut or damaged: {count} of about {expected} frames" if short else "damaged"
            raise VideoError(
                f"the file is {what}; decoding errors: {messages.errors}, "
                f"first: {error or f'exit code {returncode}'}",
                status="partial",
            )
        if (
            expected is not None
            and count < expected * (1 - MISSING_SHARE) - 1
            and self._ends_early(header)
        ):
            raise VideoError(
                f"the file is cut: {frames} where its header states about {expected}",
                status="partial",
            )
        return Decoded(count, header.width, header.height, header.fps, header.codec)

    def _expected(self, header: Header) -> int | None:
        if not header.seconds or not header.fps:
            return None
        stated = round(header.seconds * header.fps)
        return stated if self._wanted is None else min(stated, self._wanted)

    def _ends_early(self, header: Header) -> bool:
        """Whether the last packet ends before the stated duration.

        Fewer frames than rate and duration promise may just be a variable rate, which Matroska
        does not state. Audio may last longer than the video: then nothing is known.
        """
        if header.seconds is None or header.has_audio:
            return False
        return scan_packets(self.path).end < header.seconds * (1 - MISSING_SHARE)


def _read_exactly(fd: int, buffer: memoryview, stall_seconds: float) -> bool:
    waiter = select.poll()  # `select.select` fails beyond 1,024 open files
    waiter.register(fd, select.POLLIN | select.POLLHUP)
    filled = 0
    while filled < len(buffer):
        if not waiter.poll(stall_seconds * 1000):
            raise stalled(stall_seconds)
        count = os.readv(fd, [buffer[filled:]])
        if count == 0:
            return False
        filled += count
    return True
