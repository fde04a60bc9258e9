"""From files to rows: each content decoded once, each network run once a frame."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aigve_cli.contract import Frames, Request, Sampling, VideoFacts
from aigve_cli.engine.journal import Journal, VideoRecord
from aigve_cli.engine.plan import (
    Leaf,
    PlannedMetric,
    for_role,
    gives_records,
    is_head,
    request_frames,
    request_key,
    request_looks,
    request_sampling,
    takes_clips,
)
from aigve_cli.engine.produce import VideoRows, Wish, host_views
from aigve_cli.engine.producers import Producers
from aigve_cli.errors import AigveError, SetupError, VideoError
from aigve_cli.lazy import np
from aigve_cli.output import Progress
from aigve_cli.video.ffmpeg import check_is_file
from aigve_cli.video.prefetch import ChunkStream, DecodeJob, Prefetcher
from aigve_cli.video.probe import probe

if TYPE_CHECKING:
    from aigve_cli.contract import Floats, Indices
    from aigve_cli.judges.task import Record

LOOK_AHEAD = 8
"""Files whose content is read ahead of their turn."""
READ_BYTES = 1 << 20
IN_FLIGHT = 64
"""Videos that may wait for the batches that their last frames are in, or for judges."""
WAITING_BYTES = 256 << 20
"""Pictures of all these that may wait for judges."""


@dataclass
class Counts:
    """What a run did, for its results."""

    decodes: int = 0
    reused: int = 0
    """Videos whose rows an earlier run had stored."""
    frames: int = 0
    passes: int = 1
    """As many as models that do not fit together need, and one more where a video's frame count was
    wrong and it was decoded again."""
    looked: dict[str, int] = field(default_factory=dict)
    """Frames, clips or tiles that each network has looked at."""
    read: dict[str, int] = field(default_factory=dict)
    """Texts that each network has read by themselves."""
    judge: Mapping[str, int] | None = None
    """What judges were asked, where there are any."""


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
class Looked:
    """What became of a file."""

    record: VideoRecord
    rows: Mapping[Request, Floats | tuple[Record, ...] | AigveError] = field(default_factory=dict)
    """What only this video's scores need: rows, records, or why there are none; not on disk."""


@dataclass
class _Flight:
    """A file on its way, until the batches that its last frames wait in are run."""

    path: Path
    content: str
    land: Callable[[], Looked]
    rows: VideoRows | None = None

    @property
    def complete(self) -> bool:
        return self.rows is None or self.rows.complete

    @property
    def waiting_bytes(self) -> int:
        return self.rows.waiting_bytes if self.rows else 0


Unscored = Callable[[Path, str], Iterable[Request]]
"""By file and content: what scores of this video by itself still need, prompts put in."""


@dataclass(frozen=True)
class Wanted:
    """What a content must be decoded for."""

    stored: Mapping[str, tuple[Request, Indices]]
    """Rows for the disk: by feature key, with their units as far as those are known."""
    fresh: tuple[Request, ...]
    """Rows for scores that are made at once."""
    wishes: Mapping[Leaf, Wish]
    """What producers over frames must look at for all of these."""
    pad: bool
    """Whether some of the units may lie behind the last frame."""

    @property
    def nothing(self) -> bool:
        """Whether everything is there already."""
        return not (self.stored or self.fresh)


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
        keep_features: Store the rows of single videos too.
        counts: What earlier passes of the run did, counted on.
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
        keep_features: bool = False,
        counts: Counts | None = None,
    ) -> None:
        self.counts = counts or Counts()
        self._planned = planned
        self._weights = weights
        self._journal = journal
        self._load = load
        self._keep_features = keep_features
        self._unscored: Unscored = lambda _path, _content: ()
        self._producers: Producers | None = None
        self._recounted: set[str] = set()
        self._prefetcher = Prefetcher(workers=workers, threads=threads)

    def look(
        self, works: Sequence[VideoWork], progress: Progress, unscored: Unscored
    ) -> Generator[tuple[Path, Looked], None, None]:
        """Each file with what became of it, in order; the next ones are decoded meanwhile."""
        self._unscored = unscored
        self._progress = progress
        flights: deque[_Flight] = deque()
        try:
            for work, inspected, stream in self._ahead(works):
                if any(flight.content == inspected.content for flight in flights):
                    # The same content under another name: what it gives is there first.
                    yield from self._landed(flights, most=0)
                flights.append(self._look(work, inspected, stream, progress))
                yield from self._landed(flights, most=IN_FLIGHT)
            yield from self._landed(flights, most=0)
        finally:
            self._prefetcher.close()
            if self._producers and (desk := self._producers.desk):
                self.counts.judge = asdict(desk.counts)
                desk.on_progress = lambda requests, cached: None
            # What is loaded for the next pass needs the room, and a desk outlives this one.
            self._producers = None

    def _landed(
        self, flights: deque[_Flight], *, most: int
    ) -> Generator[tuple[Path, Looked], None, None]:
        """Files in order as far as their rows are complete, so that at most so many are left."""
        while flights and (
            flights[0].complete
            or len(flights) > most
            or sum(flight.waiting_bytes for flight in flights) > WAITING_BYTES
        ):
            flight = flights.popleft()
            yield flight.path, flight.land()

    def text_rows(self, request: Request) -> Floats:
        """What a network gives of a request of texts, prompts put in."""
        return self._loaded().text_rows(request)

    def _loaded(self) -> Producers:
        if self._producers is None:
            self._producers = self._load()
            self._producers.looked.update(self.counts.looked)
            self._producers.read.update(self.counts.read)
            self.counts.looked = self._producers.looked
            self.counts.read = self._producers.read
            if desk := self._producers.desk:
                desk.on_progress = self._report
        return self._producers

    def _report(self, requests: int, cached: int) -> None:
        self._progress.advance(requests=requests, cached=cached)

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
        inspected = self._known(inspected)
        if stored := self._stored(work, inspected):
            self.counts.reused += stored.status == "ok"
            return None
        return self._prefetcher.open(self._job(work.path, self.wanted(work, inspected)))

    def _stored(self, work: VideoWork, inspected: Inspected) -> VideoRecord | None:
        """What an earlier look at this content gave, if nothing else is wanted of it."""
        stored = self._journal.videos.get(inspected.content)
        if stored is None or stored.status != "ok":
            return stored
        return stored if self.wanted(work, inspected).nothing else None

    def _known(self, inspected: Inspected) -> Inspected:
        """With what an earlier look has found: a decoder counts better than a scan of packets."""
        stored = self._journal.videos.get(inspected.content)
        if not (stored and stored.whole and stored.facts):
            return inspected
        return replace(inspected, facts=_with_rate_of(inspected.facts, stored.facts))

    def _job(self, path: Path, wanted: Wanted) -> DecodeJob:
        frames = (max(unit) for wish in wanted.wishes.values() for unit in wish.units)
        return DecodeJob(
            path=path,
            frames=max(frames, default=0) + 1,
            host_views=host_views(wanted.wishes),
            pad=wanted.pad,
        )

    def wanted(self, work: VideoWork, inspected: Inspected) -> Wanted:
        """The rows that the metrics want of a video, and that are not stored yet.

        Without facts, samplings are taken at their limit; the decoder then stops at the end.
        """
        stored = self._wanted_on_disk(work.roles, inspected)
        fresh = dict.fromkeys(self._unscored(work.path, inspected.content))
        wishes: dict[Leaf, Wish] = {}
        pad = False
        for request in [*(request for request, _ in stored.values()), *fresh]:
            for look in request_looks(request):
                sampling = look.frames.sampling
                pad |= sampling.pads
                units = _units(sampling, inspected.facts)
                enough = None
                if request in fresh and request.enough and inspected.facts:
                    enough = partial(request.enough, units=len(units), facts=inspected.facts)
                wish = wishes.setdefault(look.leaf, Wish())
                wish.add(look.output, leaf_units(look.leaf, units), enough)
        for request, units in stored.values():
            for look in request_looks(request):
                wishes[look.leaf].units.update(leaf_units(look.leaf, units))
        return Wanted(stored, tuple(fresh), wishes, pad)

    def _wanted_on_disk(
        self, roles: set[str], inspected: Inspected
    ) -> dict[str, tuple[Request, Indices]]:
        wanted: dict[str, tuple[Request, Indices]] = {}
        for planned in self._planned:
            for request in planned.stored_requests(keep=self._keep_features):
                if any(for_role(request, role) for role in roles):
                    key = request_key(request, self._weights)
                    units = kept_units(request, _units(request_sampling(request), inspected.facts))
                    if key in wanted:
                        units = np.unique(np.concatenate([wanted[key][1], units]), axis=0)
                    wanted[key] = request, units
        known = self._journal.videos.get(inspected.content)
        if known is None:
            return wanted
        return {
            key: (request, units)
            for key, (request, units) in wanted.items()
            if not self._journal.has_rows(known, {key: units})
        }

    # --- one video ----------------------------------------------------------------------------

    def _look(
        self,
        work: VideoWork,
        inspected: Inspected,
        stream: ChunkStream | None,
        progress: Progress,
    ) -> _Flight:
        def landed(record: VideoRecord) -> _Flight:
            return _Flight(work.path, inspected.content, lambda: Looked(record))

        if problem := inspected.problem:
            status, reason = problem.status, problem.message
            return landed(VideoRecord(inspected.content, status=status, reason=reason))
        inspected = self._known(inspected)
        if stream is None:
            if stored := self._stored(work, inspected):
                return landed(stored)
            # Another file with this content was looked at, in another role or for other scores.
            stream = self._prefetcher.open(self._job(work.path, self.wanted(work, inspected)))
        try:
            try:
                return self._decode(work, inspected, stream, progress)
            finally:
                self._prefetcher.done(stream)
        except _MiscountedError as error:
            return self._look_again(work, replace(inspected, facts=error.facts), progress)
        except VideoError as error:
            record = VideoRecord(inspected.content, status=error.status, reason=error.message)
            return landed(self._journal.add_video(record, {}))

    def _look_again(self, work: VideoWork, inspected: Inspected, progress: Progress) -> _Flight:
        """Decode a second time, now that the number of frames is known."""
        if inspected.content in self._recounted:
            problem = VideoError("gives another number of frames each time it is decoded")
            return self._look(work, replace(inspected, problem=problem), None, progress)
        self.counts.passes += not self._recounted
        self._recounted.add(inspected.content)
        stream = self._prefetcher.open(self._job(work.path, self.wanted(work, inspected)))
        return self._look(work, inspected, stream, progress)

    def _decode(
        self, work: VideoWork, inspected: Inspected, stream: ChunkStream, progress: Progress
    ) -> _Flight:
        wanted = self.wanted(work, inspected)
        self.counts.decodes += 1
        rows = VideoRows(self._loaded(), wanted.wishes)
        for chunk in stream:
            rows.feed(chunk)
            progress.advance(frames=chunk.decoded)
        rows.finish()
        decoded = stream.decoded
        self.counts.frames += decoded.frames
        asked = self._job(work.path, wanted).frames
        whole = decoded.frames < asked
        facts = _with_rate_of(inspected.facts, decoded.facts)
        if inspected.facts and not whole:
            # Only the frames that were asked for were decoded: the scan knows the rest.
            facts, whole = replace(facts, frames=inspected.facts.frames), True
        earlier = self._journal.videos.get(inspected.content)
        if earlier and earlier.facts and not whole:
            # A shorter look at the same content, for another metric, knows no better.
            known = earlier.whole or earlier.facts.frames > facts.frames
            facts, whole = (earlier.facts, earlier.whole) if known else (facts, whole)
        found = self.wanted(work, replace(inspected, facts=facts))
        for leaf, wish in found.wishes.items():
            if leaf not in wanted.wishes or not wanted.wishes[leaf].units.issuperset(wish.units):
                raise _MiscountedError(facts)
        rows.ask(facts.fps)
        record = VideoRecord(inspected.content, facts=facts, whole=whole, codec=decoded.codec)
        land = partial(self._keep, record, rows, found)
        return _Flight(work.path, inspected.content, land, rows)

    def _keep(self, record: VideoRecord, rows: VideoRows, found: Wanted) -> Looked:
        """Store what is for the disk, once every row is there, and hand over the rest."""
        assert record.facts is not None
        stored: dict[str, tuple[Indices, Floats]] = {}
        refused: dict[str, str] = {}
        for key, (request, units) in found.stored.items():
            own = None if is_head(request) else units
            gathered = _gathered(rows, request, own, record.facts)
            if isinstance(gathered, AigveError):
                refused[key] = gathered.message
            else:
                assert not isinstance(gathered, tuple), "records are not stored"
                stored[key] = units, gathered
        fresh = {request: _gathered(rows, request, None, record.facts) for request in found.fresh}
        record = replace(record, refused=refused)
        return Looked(self._journal.add_video(record, stored), fresh)


def _gathered(
    rows: VideoRows, request: Request, units: Indices | None, facts: VideoFacts
) -> Floats | tuple[Record, ...] | AigveError:
    """The rows or records of a request, or why a network cannot take this video.

    That costs no other metric.

    Args:
        rows: What the networks gave.
        request: What is wanted of it.
        units: Of which units; None takes those of each look's own sampling.
        facts: Of the video.
    """

    def units_of(frames: Frames) -> Indices:
        return frames.sampling.units(facts) if units is None else units

    try:
        if gives_records(request):
            return rows.records(request, units_of)
        return rows.gather(request, units_of)
    except SetupError:
        raise
    except AigveError as error:
        return error


def _units(sampling: Sampling, facts: VideoFacts | None) -> Indices:
    return sampling.units(facts or VideoFacts(0, 0, 0.0, sampling.limit or 0))


def kept_units(request: Request, units: Indices) -> Indices:
    """The units that are kept on disk: single frames of a network over frames, else the units."""
    if isinstance(request.sources[0], Frames) and not takes_clips(request.producer):
        return np.unique(units)[:, None]
    return units


def leaf_units(leaf: Leaf, units: Indices) -> Iterator[tuple[int, ...]]:
    """What a network runs on for these units: the units, or each of their frames."""
    kept = units if leaf.takes_clips else units.reshape(-1, 1)
    return map(tuple, kept.tolist())


def _with_rate_of(scanned: VideoFacts | None, facts: VideoFacts) -> VideoFacts:
    """Facts with the frame rate of a scan, which knows more decimals than a decoder."""
    return replace(facts, fps=scanned.fps) if scanned else facts


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
