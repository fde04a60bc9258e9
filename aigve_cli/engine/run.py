"""The loop: every video decoded once, every network run once, every sample journalled at once."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import (
    Frames,
    Request,
    Sample,
    SampleFeatures,
    Score,
    VideoFacts,
    VideoFeatures,
)
from aigve_cli.engine.journal import Journal, SampleRecord, VideoRecord
from aigve_cli.engine.plan import (
    Leaf,
    PlannedMetric,
    for_role,
    request_frames,
    request_key,
    request_leaves,
    request_sampling,
    score_key,
)
from aigve_cli.engine.produce import Producers, VideoRows, host_views
from aigve_cli.errors import AigveError, SetupError, VideoError
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


class Run:
    """A run over samples, with a journal.

    Args:
        samples: Sorted by name.
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
        samples: Sequence[Sample],
        planned: Sequence[PlannedMetric],
        weights: Mapping[str, str],
        journal: Journal,
        load: Callable[[], Producers],
        workers: int,
        threads: int,
    ) -> None:
        self.samples = samples
        self.planned = planned
        self.journal = journal
        self.counts = Counts()
        self.records: dict[Path, VideoRecord] = {}
        self._weights = weights
        self._load = load
        self._producers: Producers | None = None
        self._prefetcher = Prefetcher(workers=workers, threads=threads)

    # --- videos and samples -------------------------------------------------------------------

    def work(self) -> list[VideoWork]:
        """Every file to look at, in the order of the samples, each once."""
        roles = set().union(*(planned.roles() for planned in self.planned))
        with_references = bool(roles & {"reference", "each"})
        by_path: dict[Path, VideoWork] = {}
        for sample in self.samples:
            if sample.generated:
                work = by_path.setdefault(sample.generated, VideoWork(sample.generated))
                work.roles.add("generated")
            if sample.reference and with_references:
                work = by_path.setdefault(sample.reference, VideoWork(sample.reference))
                work.roles.add("reference")
        return list(by_path.values())

    def score_samples(self, progress: Progress) -> None:
        """Decode what is not stored yet, and journal every sample as soon as it is complete."""
        pending = deque(self.samples)
        try:
            for work, inspected, stream in self._ahead(self.work()):
                self.records[work.path] = self._look(work, inspected, stream, progress)
                progress.advance(videos=1)
                while pending and self._is_complete(pending[0]):
                    self._score_sample(pending.popleft())
        finally:
            self._prefetcher.close()

    def _is_complete(self, sample: Sample) -> bool:
        return sample.generated is None or (
            sample.generated in self.records
            and (sample.reference in self.records or not self._looks_at_references(sample))
        )

    def _looks_at_references(self, sample: Sample) -> bool:
        return sample.reference is not None and any(
            planned.roles() & {"reference", "each"} for planned in self.planned
        )

    def _ahead(
        self, works: Sequence[VideoWork]
    ) -> Iterator[tuple[VideoWork, Inspected, ChunkStream | None]]:
        """Works in order; files are read, and decoders started, ahead of their turn."""
        probing = any(
            frames.sampling.limit is None
            for planned in self.planned
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
            self.counts.reused += self.journal.videos[inspected.content].status == "ok"
            return None
        return self._prefetcher.open(self._job(work.path, self.wanted(work.roles, inspected.facts)))

    def _is_stored(self, work: VideoWork, inspected: Inspected) -> bool:
        stored = self.journal.videos.get(inspected.content)
        if stored is None or stored.status != "ok":
            return stored is not None
        # A decoder may give fewer frames than a scan has counted packets: it knows better.
        facts = stored.facts if stored.whole else inspected.facts
        return self.journal.has_rows(stored, self.wanted(work.roles, facts).units)

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
        for planned in self.planned:
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
                return self.journal.videos[inspected.content]
            # Another file with this content was looked at, in another role only.
            wanted = self.wanted(work.roles, inspected.facts)
            stream = self._prefetcher.open(self._job(work.path, wanted))
        try:
            return self._decode(work, inspected, stream, progress)
        except VideoError as error:
            record = VideoRecord(inspected.content, status=error.status, reason=error.message)
            return self.journal.add_video(record, {})
        finally:
            self._prefetcher.done(stream)

    def _decode(
        self, work: VideoWork, inspected: Inspected, stream: ChunkStream, progress: Progress
    ) -> VideoRecord:
        if self._producers is None:
            self._producers = self._load()
        wanted = self.wanted(work.roles, inspected.facts)
        self.counts.decodes += 1
        frames: dict[Leaf, set[int]] = {}
        for key, request in wanted.requests.items():
            for leaf in request_leaves(request):
                frames.setdefault(leaf, set()).update(wanted.units[key].ravel().tolist())
        rows = VideoRows(self._producers, self._leaves(wanted), frames)
        for chunk in stream:
            rows.feed(chunk)
            progress.advance(frames=len(chunk))
        rows.finish()
        decoded = stream.decoded
        self.counts.frames += decoded.frames
        asked = max(max(indices, default=-1) for indices in frames.values()) + 1
        facts, whole = decoded.facts, decoded.frames < asked
        if inspected.facts and not whole:
            # Only the frames that were asked for were decoded: the scan knows the rest.
            facts, whole = replace(facts, frames=inspected.facts.frames), True
        earlier = self.journal.videos.get(inspected.content)
        if earlier and earlier.facts and not whole:
            # A shorter look at the same content, for another metric, knows no better.
            known = earlier.whole or earlier.facts.frames > facts.frames
            facts, whole = (earlier.facts, earlier.whole) if known else (facts, whole)
        found = self.wanted(work.roles, facts)
        gathered = {
            key: (found.units[key], rows.gather(request, found.units[key]))
            for key, request in found.requests.items()
        }
        record = VideoRecord(inspected.content, facts=facts, whole=whole, codec=decoded.codec)
        return self.journal.add_video(record, gathered)

    # --- scores -------------------------------------------------------------------------------

    def _score_sample(self, sample: Sample) -> None:
        if sample.generated is None:
            return
        scores: dict[str, Mapping[str, Any]] = {}
        earlier = self.journal.sample(sample.name)
        generated = self.records[sample.generated]
        reference = self.records.get(sample.reference) if sample.reference else None
        content = {
            "generated": generated.content,
            "reference": reference.content if reference else None,
        }
        for planned in self.planned:
            if not planned.metric.scores_videos() or planned.name in scores:
                continue
            key = score_key(planned, self._weights, content, sample.prompt)
            known = earlier.scores.get(planned.name) if earlier else None
            # A reason may have passed: a decoder that hung, a plugin that was mended.
            if known and known["key"] == key and not known.get("reason"):
                scores[planned.name] = known
            else:
                score = self._score(planned, sample, generated, reference)
                scores[planned.name] = {"key": key, **score_to_json(score)}
        if earlier is None or dict(earlier.scores) != scores:
            self.journal.add_sample(SampleRecord(sample.name, scores))

    def _score(
        self,
        planned: PlannedMetric,
        sample: Sample,
        generated: VideoRecord,
        reference: VideoRecord | None,
    ) -> Score:
        needs = planned.metric.card.needs
        if generated.status != "ok":
            return Score.missing(generated.reason or generated.status)
        if "reference" in needs:
            if reference is None:
                return Score.missing("no reference video")
            if reference.status != "ok":
                return Score.missing(f"its reference: {reference.reason}")
        if "prompt" in needs and not sample.prompt:
            return Score.missing("no prompt")
        features = SampleFeatures(
            self._features(planned, generated, "generated"),
            self._features(planned, reference, "reference") if reference else None,
        )
        return guarded(planned, lambda: planned.metric.score(features, sample, planned.options))

    def _features(self, planned: PlannedMetric, record: VideoRecord, role: str) -> dict[str, Any]:
        assert record.facts is not None
        return {
            name: self.journal.rows(
                record.content,
                request_key(request, self._weights),
                request_sampling(request).units(record.facts),
            )
            for name, request in planned.requests.items()
            if for_role(request, role)
        }

    def set_of(self, planned: PlannedMetric, role: str) -> StoredSet:
        """The members of a set that a metric can use: readable, and long enough for its units."""
        members: list[tuple[str, str, VideoRecord]] = []
        seen: set[Path] = set()
        for sample in self.samples:
            path = sample.generated if role == "generated" else sample.reference
            if path is None or path not in self.records:
                continue
            if path in seen:
                continue  # a reference that many share, or a video with two prompts: once
            seen.add(path)
            record = self.records[path]
            if record.status == "ok" and self.too_short(planned, record, role) is None:
                members.append((record.content, sample.name, record))
        members.sort(key=lambda member: member[:2])
        return StoredSet(
            [record for _, _, record in members],
            lambda record: self._features(planned, record, role),
        )

    def too_short(self, planned: PlannedMetric, record: VideoRecord, role: str) -> str | None:
        """Why a readable video has nothing that a metric could look at, or None."""
        assert record.facts is not None
        for request in planned.requests.values():
            sampling = request_sampling(request)
            if for_role(request, role) and not len(sampling.units(record.facts)):
                return f"too short: {record.facts.frames} frames ({sampling})"
        return None

    def sample_score(self, planned: PlannedMetric, sample: Sample) -> Score | None:
        """The journalled score of a sample, None if this metric does not score videos."""
        record = self.journal.sample(sample.name)
        stored = record.scores.get(planned.name) if record else None
        return json_to_score(stored) if stored else None

    def summarise(self, planned: PlannedMetric) -> tuple[Score, list[VideoRecord]]:
        """The score of a run from those of its videos, and the videos that have one."""
        scored: list[tuple[str, str, Score, VideoRecord]] = []
        for sample in self.samples:
            score = self.sample_score(planned, sample) if sample.generated else None
            if sample.generated and score and score.values:
                record = self.records[sample.generated]
                scored.append((record.content, sample.name, score, record))
        if not scored:
            return Score.missing("no video could be scored"), []
        # By content, so that the names of files do not change a bootstrap.
        scored.sort(key=lambda entry: entry[:2])
        scores = [score for _, _, score, _ in scored]
        summary = guarded(planned, lambda: planned.metric.summarise(scores))
        return summary, [record for _, _, _, record in scored]

    def padded(self, planned: PlannedMetric, record: VideoRecord, role: str) -> int:
        """Black frames behind the end of a video that a metric has looked at."""
        assert record.facts is not None
        last = -1
        for request in planned.requests.values():
            if for_role(request, role):
                units = request_sampling(request).units(record.facts)
                last = max(last, int(units.max()) if units.size else -1)
        return max(0, last + 1 - record.facts.frames)

    def compare(self, planned: PlannedMetric) -> tuple[Score, StoredSet, StoredSet | None]:
        """The score of the generated set, and the sets that it was made of."""
        generated = self.set_of(planned, "generated")
        reference = None
        if planned.roles() & {"reference", "each"}:
            reference = self.set_of(planned, "reference")
        if not len(generated):
            score = Score.missing("no generated video could be used")
        elif "reference" in planned.metric.card.needs and not reference:
            score = Score.missing("no reference video could be used")
        else:
            score = guarded(
                planned,
                lambda: planned.metric.compare(generated, reference or None, planned.options),
            )
        return score, generated, reference


def kept_units(request: Request, units: Indices) -> Indices:
    """The units that are kept on disk: single frames of a network over frames, else the units."""
    if isinstance(request.sources[0], Frames):
        return np.unique(units)[:, None]
    return units


class StoredSet:
    """A set whose rows are read from the feature files as it is iterated."""

    def __init__(
        self, records: list[VideoRecord], read: Callable[[VideoRecord], dict[str, Any]]
    ) -> None:
        self.records = records
        self._read = read

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[VideoFeatures]:
        for record in self.records:
            yield VideoFeatures(record.content, self._read(record))


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


def guarded(planned: PlannedMetric, compute: Callable[[], Score]) -> Score:
    """A metric's score; a metric that fails gives its reason and stops nothing else."""
    try:
        score = compute()
        json.dumps(score_to_json(score), allow_nan=False)  # else the journal could not keep it
        return score
    except SetupError:
        raise
    except AigveError as error:
        return Score.missing(error.message)
    except Exception as error:  # a metric, perhaps a plugin's, may fail in any way
        return Score.missing(f"{planned.name} failed: {type(error).__name__}: {error}")


def score_to_json(score: Score) -> dict[str, Any]:
    """A score as the journal and the results keep it."""
    fields = {
        "values": dict(score.values),
        "standard_errors": dict(score.standard_errors),
        "curve": {name: list(curve) for name, curve in score.curve.items()},
        "details": dict(score.details),
        "notes": list(score.notes),
        "reason": score.reason,
    }
    return {name: value for name, value in fields.items() if value}


def json_to_score(stored: Mapping[str, Any]) -> Score:
    """The score that :func:`score_to_json` wrote."""
    return Score(
        values=stored.get("values", {}),
        standard_errors=stored.get("standard_errors", {}),
        curve=stored.get("curve", {}),
        details=stored.get("details", {}),
        notes=tuple(stored.get("notes", ())),
        reason=stored.get("reason"),
    )
