"""From files to stored rows: each content decoded once, each network run once a frame."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aigve_cli.contract import Frames, Request, VideoFacts
from aigve_cli.engine.journal import Journal, VideoRecord
from aigve_cli.engine.plan import (
    Leaf,
    PlannedMetric,
    for_role,
    request_frames,
    request_key,
    request_leaves,
    request_sampling,
    takes_clips,
)
from aigve_cli.engine.produce import Producers, VideoRows, host_views
from aigve_cli.errors import VideoError
from aigve_cli.lazy import np
from aigve_cli.output import Progress
from aigve_cli.video.ffmpeg import check_is_file
from aigve_cli.video.prefetch import ChunkStream, DecodeJob, Prefetcher
from aigve_cli.video.probe import probe

if TYPE_CHECKING:
    from aigve_cli.contract import Indices

LOOK_AHEAD = 8
"""Files whose content is read ahead of their turn."""
READ_BYTES = 1 << 20


@dataclass
class Counts:
    """What a run did, for its results."""

    decodes: int = 0
    reused: int = 0
    """Videos whose rows an earlier run had stored."""
    frames: int = 0
    passes: int = 1
    """2 where a video's frame count was wrong and it was decoded once more."""


@dataclass
class VideoWork:
    """One file and the roles in which its content is looked at."""

    path: Path
    roles: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Inspected:
    """What is known of a file before it is decoded."""

    content: str
    facts: VideoFacts | None = None
    problem: VideoError | None = None


@dataclass(frozen=True)
class Wanted:
    """What a content must be decoded for."""

    requests: Mapping[str, Request]
    """By feature key."""
    units: Mapping[str, Indices]
    """By feature key, as far as is known before decoding."""
    pad: bool
    """Whether some of the units may lie behind the last frame."""


class _MiscountedError(Exception):
    """A scan has counted other frames than the decoder gives, and clips depend on the number."""

    def __init__(self, facts: VideoFacts) -> None:
        super().__init__(facts.frames)
        self.facts = facts


class Looker:
    """Looks at videos in order, and stores what the metrics want of them.

    Args:
        planned: The metrics.
        weights: sha256 of each network's weights.
        journal: What was done before, and where to write.
        load: Loads the producers; called only if there is something to decode.
        workers: Videos decoded at the same time.
        threads: Threads of each decoder; 0 lets ffmpeg choose.
    """

    def __init__(
        self,
        *,
        planned: Sequence[PlannedMetric],
        weights: Mapping[str, str],
        journal: Journal,
        load: Callable[[], Producers],
        workers: int,
        threads: int,
    ) -> None:
        self.counts = Counts()
        self._planned = planned
        self._weights = weights
        self._journal = journal
        self._load = load
        self._producers: Producers | None = None
        self._recounted: set[str] = set()
        self._prefetcher = Prefetcher(workers=workers, threads=threads)

    def look(
        self, works: Sequence[VideoWork], progress: Progress
    ) -> Generator[tuple[Path, VideoRecord], None, None]:
        """Each file with what became of it, in order; the next ones are decoded meanwhile."""
        try:
            for work, inspected, stream in self._ahead(works):
                yield work.path, self._look(work, inspected, stream, progress)
        finally:
            self._prefetcher.close()

    def _ahead(
        self, works: Sequence[VideoWork]
    ) -> Iterator[tuple[VideoWork, Inspected, ChunkStream | None]]:
        """Works in order; files are read, and decoders started, ahead of their turn."""
        probing = any(
            frames.sampling.limit is None
            for planned in self._planned
            for request in planned.requests.values()
            for frames in request_frames(request)
        )
        inspecting: deque[tuple[VideoWork, Future[Inspected]]] = deque()
        opened: deque[tuple[VideoWork, Inspected, ChunkStream | None]] = deque()
        claimed: set[str] = set()
        left = iter(works)
        stop = threading.Event()
        reader = ThreadPoolExecutor(max_workers=1)
        try:
            while True:
                while len(inspecting) < LOOK_AHEAD and (work := next(left, None)):
                    inspecting.append((work, reader.submit(inspect, work.path, probing, stop)))
                streams = sum(stream is not None for _, _, stream in opened)
                while inspecting and streams < self._prefetcher.workers and len(opened) < 64:
                    work, future = inspecting.popleft()
                    inspected = future.result()
                    stream = self._open(work, inspected, claimed)
                    streams += stream is not None
                    opened.append((work, inspected, stream))
                if not opened:
                    return
                yield opened.popleft()
        finally:
            # A Ctrl-C should not last as long as the reading of a large file.
            stop.set()
            reader.shutdown(wait=False, cancel_futures=True)

    def _open(self, work: VideoWork, inspected: Inspected, claimed: set[str]) -> ChunkStream | None:
        if inspected.problem:
            return None
        if inspected.content in claimed:
            return None  # the same content is being decoded under another name
        claimed.add(inspected.content)
        if self._is_stored(work, inspected):
            self.counts.reused += self._journal.videos[inspected.content].status == "ok"
            return None
        return self._prefetcher.open(self._job(work.path, self.wanted(work.roles, inspected.facts)))

    def _is_stored(self, work: VideoWork, inspected: Inspected) -> bool:
        stored = self._journal.videos.get(inspected.content)
        if stored is None or stored.status != "ok":
            return stored is not None
        # A decoder may give fewer frames than a scan has counted packets: it knows better.
        facts = stored.facts if stored.whole else inspected.facts
        return self._journal.has_rows(stored, self.wanted(work.roles, facts).units)

    def _job(self, path: Path, wanted: Wanted) -> DecodeJob:
        last = max((int(units.max()) for units in wanted.units.values() if units.size), default=0)
        return DecodeJob(
            path=path,
            frames=last + 1,
            host_views=host_views(self._leaves(wanted)),
            pad=wanted.pad,
        )

    def wanted(self, roles: set[str], facts: VideoFacts | None) -> Wanted:
        """The rows that the metrics want of a video in these roles.

        Without facts, samplings are taken at their limit; the decoder then stops at the end.
        """
        requests: dict[str, Request] = {}
        units: dict[str, Indices] = {}
        pad = False
        for planned in self._planned:
            for request in planned.requests.values():
                if not any(for_role(request, role) for role in roles):
                    continue
                sampling = request_sampling(request)
                pad |= sampling.pads
                known = facts or VideoFacts(0, 0, 0.0, sampling.limit or 0)
                key = request_key(request, self._weights)
                more = kept_units(request, sampling.units(known))
                requests[key] = request
                units[key] = (
                    np.unique(np.concatenate([units[key], more]), axis=0) if key in units else more
                )
        return Wanted(requests, units, pad)

    def _leaves(self, wanted: Wanted) -> dict[Leaf, set[str]]:
        leaves: dict[Leaf, set[str]] = {}
        for request in wanted.requests.values():
            for leaf, outputs in request_leaves(request).items():
                leaves.setdefault(leaf, set()).update(outputs)
        return leaves

    # --- one video ----------------------------------------------------------------------------

    def _look(
        self,
        work: VideoWork,
        inspected: Inspected,
        stream: ChunkStream | None,
        progress: Progress,
    ) -> VideoRecord:
        if inspected.problem:
            problem = inspected.problem
            return VideoRecord(inspected.content, status=problem.status, reason=problem.message)
        if stream is None:
            if self._is_stored(work, inspected):
                return self._journal.videos[inspected.content]
            # Another file with this content was looked at, in another role only.
            wanted = self.wanted(work.roles, inspected.facts)
            stream = self._prefetcher.open(self._job(work.path, wanted))
        try:
            try:
                return self._decode(work, inspected, stream, progress)
            finally:
                self._prefetcher.done(stream)
        except _MiscountedError as error:
            return self._look_again(work, replace(inspected, facts=error.facts), progress)
        except VideoError as error:
            record = VideoRecord(inspected.content, status=error.status, reason=error.message)
            return self._journal.add_video(record, {})

    def _look_again(self, work: VideoWork, inspected: Inspected, progress: Progress) -> VideoRecord:
        """Decode a second time, now that the number of frames is known."""
        if inspected.content in self._recounted:
            problem = VideoError("gives another number of frames each time it is decoded")
            return self._look(work, replace(inspected, problem=problem), None, progress)
        self.counts.passes = 2
        self._recounted.add(inspected.content)
        stream = self._prefetcher.open(
            self._job(work.path, self.wanted(work.roles, inspected.facts))
        )
        return self._look(work, inspected, stream, progress)

    def _decode(
        self, work: VideoWork, inspected: Inspected, stream: ChunkStream, progress: Progress
    ) -> VideoRecord:
        if self._producers is None:
            self._producers = self._load()
        wanted = self.wanted(work.roles, inspected.facts)
        self.counts.decodes += 1
        units: dict[Leaf, set[tuple[int, ...]]] = {}
        for key, request in wanted.requests.items():
            for leaf in request_leaves(request):
                units.setdefault(leaf, set()).update(leaf_units(leaf, wanted.units[key]))
        rows = VideoRows(self._producers, self._leaves(wanted), units)
        for chunk in stream:
            rows.feed(chunk)
            progress.advance(frames=len(chunk))
        rows.finish()
        decoded = stream.decoded
        self.counts.frames += decoded.frames
        asked = 1 + max(
            (max(unit) for wanted_units in units.values() for unit in wanted_units), default=-1
        )
        facts, whole = decoded.facts, decoded.frames < asked
        if inspected.facts and not whole:
            # Only the frames that were asked for were decoded: the scan knows the rest.
            facts, whole = replace(facts, frames=inspected.facts.frames), True
        earlier = self._journal.videos.get(inspected.content)
        if earlier and earlier.facts and not whole:
            # A shorter look at the same content, for another metric, knows no better.
            known = earlier.whole or earlier.facts.frames > facts.frames
            facts, whole = (earlier.facts, earlier.whole) if known else (facts, whole)
        found = self.wanted(work.roles, facts)
        for key, request in found.requests.items():
            for leaf in request_leaves(request):
                if not units[leaf].issuperset(leaf_units(leaf, found.units[key])):
                    raise _MiscountedError(facts)
        gathered = {
            key: (found.units[key], rows.gather(request, found.units[key]))
            for key, request in found.requests.items()
        }
        record = VideoRecord(inspected.content, facts=facts, whole=whole, codec=decoded.codec)
        return self._journal.add_video(record, gathered)


def kept_units(request: Request, units: Indices) -> Indices:
    """The units that are kept on disk: single frames of a network over frames, else the units."""
    if isinstance(request.sources[0], Frames) and not takes_clips(request.producer):
        return np.unique(units)[:, None]
    return units


def leaf_units(leaf: Leaf, units: Indices) -> Iterator[tuple[int, ...]]:
    """What a network runs on for these units: the units, or each of their frames."""
    kept = units if leaf.takes_clips else units.reshape(-1, 1)
    return map(tuple, kept.tolist())


def inspect(path: Path, probing: bool, stop: threading.Event) -> Inspected:
    """The sha256 of a file's content and, where a sampling asks for them, its exact facts."""
    digest = hashlib.sha256()
    try:
        check_is_file(path)
        with path.open("rb") as file:
            while (block := file.read(READ_BYTES)) and not stop.is_set():
                digest.update(block)
    except VideoError as error:
        return Inspected(f"path:{path}", problem=error)
    except OSError as error:
        problem = VideoError(f"cannot be read: {error.strerror}")
        return Inspected(f"path:{path}", problem=problem)
    content = digest.hexdigest()
    if not probing or stop.is_set():
        return Inspected(content)
    try:
        return Inspected(content, facts=probe(path))
    except VideoError as error:
        return Inspected(content, problem=error)
