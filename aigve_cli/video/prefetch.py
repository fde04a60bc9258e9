"""Decodes the next videos while the present one is scored, in bounded memory.

Every video has its own thread, its own ffmpeg and its own short queue. Threads do what releases
the interpreter: reading a pipe and resizing.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import View
from aigve_cli.video.decode import Decoded, VideoReader
from aigve_cli.video.views import frame_to_host_view

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_FRAMES = 16
QUEUED_CHUNKS = 2
QUEUED_BYTES = 128 << 20
"""Of all decoders together: queued chunks, the one being filled and the one being read."""


@dataclass(frozen=True)
class HostView:
    """The CPU part of a view, and the frames that are wanted so."""

    steps: View
    frames: Container[int]


@dataclass(frozen=True)
class DecodeJob:
    """A video to decode: how many frames, and what to hand over of them."""

    path: Path
    frames: int
    host_views: tuple[HostView, ...]
    pad: bool = False
    """Give black frames behind the end, up to ``frames``."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive frames of a video: for each host view its pictures [h, w, c] by index."""

    pictures: tuple[Mapping[int, NDArray[Any]], ...]
    decoded: int
    """How many frames were decoded for it, wanted or not."""


class ChunkStream:
    """The chunks of one video as they come; ``decoded`` is known after the last.

    Raises from iteration whatever the decoding thread met, a ``VideoError`` for a bad video.
    """

    def __init__(self, job: DecodeJob, *, threads: int, chunk_bytes: int) -> None:
        self._job = job
        self._chunk_bytes = chunk_bytes
        self._reader = VideoReader(job.path, frames=job.frames, threads=threads)
        self._queue: queue.Queue[Chunk | BaseException | None] = queue.Queue(QUEUED_CHUNKS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def decoded(self) -> Decoded:
        """The facts of the video, once every chunk was taken."""
        return self._reader.decoded

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the decoder and its thread."""
        self._stop.set()
        self._reader.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            with self._reader:
                self._read()
            self._put(None)
        except BaseException as error:  # handed to the consumer, who knows the video
            self._put(error)

    def _read(self) -> None:
        views = self._job.host_views
        pictures: tuple[dict[int, NDArray[Any]], ...] = tuple({} for _ in views)
        decoded = size = 0
        for index, frame in enumerate(self._with_padding(self._reader)):
            if self._stop.is_set():
                return
            for seen, view in zip(pictures, views, strict=True):
                if index in view.frames:
                    seen[index] = frame_to_host_view(frame, view.steps)
                    size += seen[index].nbytes
            decoded += 1
            if decoded == CHUNK_FRAMES or size >= self._chunk_bytes:
                self._put(Chunk(pictures, decoded))
                pictures = tuple({} for _ in views)
                decoded = size = 0
        if decoded:
            self._put(Chunk(pictures, decoded))

    def _with_padding(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        count, last = 0, None
        for count, last in enumerate(frames, start=1):  # noqa: B007
            yield last
        if self._job.pad and last is not None:
            black = last * 0
            for _ in range(count, self._job.frames):
                yield black

    def _put(self, item: Chunk | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return


class Prefetcher:
    """Opens chunk streams ahead of their use.

    Args:
        workers: Videos that are decoded at the same time.
        threads: Threads of each decoder; 0 lets ffmpeg choose.
    """

    def __init__(self, *, workers: int, threads: int) -> None:
        self.workers = workers
        self._threads = threads
        self._chunk_bytes = QUEUED_BYTES // (workers * (QUEUED_CHUNKS + 2))
        self._open: deque[ChunkStream] = deque()

    def open(self, job: DecodeJob) -> ChunkStream:
        """Start to decode ``job``."""
        stream = ChunkStream(job, threads=self._threads, chunk_bytes=self._chunk_bytes)
        self._open.append(stream)
        return stream

    def done(self, stream: ChunkStream) -> None:
        """Forget a stream that was read."""
        stream.close()
        self._open.remove(stream)

    def close(self) -> None:
        """End all decoders."""
        while self._open:
            self._open.popleft().close()
