"""The loop over samples: each is scored and journalled as soon as its videos were looked at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import Sample, SampleFeatures, Score, VideoFeatures
from aigve_cli.engine.journal import Journal, SampleRecord, VideoRecord
from aigve_cli.engine.look import Looked, Looker, VideoWork
from aigve_cli.engine.plan import (
    PlannedMetric,
    for_role,
    gives_records,
    request_frames,
    request_key,
    request_sampling,
    score_key,
    why_unscored,
    with_prompt,
)
from aigve_cli.engine.scores import guarded, json_to_score, score_to_json
from aigve_cli.errors import AigveError
from aigve_cli.output import Progress

if TYPE_CHECKING:
    from aigve_cli.contract import Request
    from aigve_cli.engine.saved_statistics import SavedStatistics

FRAMES_SHOWN = "frames shown"
"""A detail of what judges say: indices of frames, by request and unit."""
HELD = "held at the end: "
"""How the note of a video begins whose last frame or clip was looked at more than once."""


class Run:
    """A run over samples, with a journal.

    Args:
        samples: Sorted by name.
        planned: The metrics.
        weights: sha256 of each network's weights.
        journal: What was done before, and where to write.
        looker: Looks at videos for these metrics.
        statistics: Of a reference set, for the metrics that they are of.
    """

    def __init__(
        self,
        *,
        samples: Sequence[Sample],
        planned: Sequence[PlannedMetric],
        weights: Mapping[str, str],
        journal: Journal,
        looker: Looker,
        statistics: SavedStatistics | None = None,
    ) -> None:
        self.samples = samples
        self.planned = planned
        self.journal = journal
        self.looker = looker
        self.statistics = statistics
        self.records: dict[Path, VideoRecord] = {}
        self._weights = weights
        self._samples_of: dict[Path, list[Sample]] = {}
        for sample in samples:
            if sample.generated:
                self._samples_of.setdefault(sample.generated, []).append(sample)
        self._rows: dict[Path, Looked] = {}
        """Rows that are not on disk, until the last sample of their file is scored."""
        self._scored_with: dict[str, str] = {}
        """A sample that was scored with each content: others with it have the same scores."""

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
        with closing(self.looker.look(self.work(), progress, self._unscored)) as looks:
            for path, looked in looks:
                self.records[path] = looked.record
                if looked.rows:
                    self._rows[path] = looked
                progress.advance(videos=1)
                while pending and self._is_complete(pending[0]):
                    self._score_sample(pending.popleft())

    def _is_complete(self, sample: Sample) -> bool:
        return sample.generated is None or (
            sample.generated in self.records
            and (sample.reference in self.records or not self._looks_at_references(sample))
        )

    def _looks_at_references(self, sample: Sample) -> bool:
        return sample.reference is not None and any(
            planned.roles() & {"reference", "each"} for planned in self.planned
        )

    # --- scores -------------------------------------------------------------------------------

    def _unscored(self, path: Path, content: str) -> Iterator[Request]:
        """What the scores of this file by itself need, as far as its samples do not have them."""
        contents = {"generated": content, "reference": None}
        for planned in self.planned:
            if not planned.metric.scores_videos() or planned.reads_stored_rows:
                continue
            for sample in self._samples_of.get(path, ()):
                mine = planned.metric.annotated(sample, planned.options)
                if (
                    planned.metric.left_out(mine, planned.options)
                    or why_unscored(planned, mine)
                    or self._known_score(planned, mine, contents)
                ):
                    continue
                for request in planned.requests.values():
                    yield with_prompt(request, mine)

    def _known_score(
        self, planned: PlannedMetric, sample: Sample, content: Mapping[str, str | None]
    ) -> Mapping[str, Any] | None:
        """The journalled score of a sample, or of another one with the same content."""
        key = score_key(planned, self._weights, content, sample)
        for name in (sample.name, self._scored_with.get(str(content["generated"]))):
            record = self.journal.sample(name) if name else None
            known = record.scores.get(planned.name) if record else None
            # A reason may have passed: a decoder that hung, a plugin that was mended.
            settled = known and (
                not known.get("reason") or known.get("by_choice") or known.get("settled")
            )
            if known and settled and known["key"] == key:
                return known
        return None

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
            mine = planned.metric.annotated(sample, planned.options)
            # What can no longer be read has no score, whatever an earlier look gave.
            readable = generated.status == "ok"
            known = self._known_score(planned, mine, content) if readable else None
            if known is None:
                key = score_key(planned, self._weights, content, mine)
                score = self._score(planned, mine, generated, reference)
                known = {"key": key, **score_to_json(score)}
            scores[planned.name] = known
        # Those of metrics that this run leaves out are kept for one that does not.
        scores = {**(earlier.scores if earlier else {}), **scores}
        if earlier is None or dict(earlier.scores) != scores:
            self.journal.add_sample(SampleRecord(sample.name, scores))
        self._scored_with.setdefault(generated.content, sample.name)
        users = self._samples_of[sample.generated]
        users.remove(sample)
        if not users:
            self._rows.pop(sample.generated, None)

    def _score(
        self,
        planned: PlannedMetric,
        sample: Sample,
        generated: VideoRecord,
        reference: VideoRecord | None,
    ) -> Score:
        needs = planned.metric.card.needs
        if why := planned.metric.left_out(sample, planned.options):
            return Score(reason=why, by_choice=True)
        if generated.status != "ok":
            return Score.missing(generated.reason or generated.status)
        if "reference" in needs:
            if reference is None:
                return Score.missing("no reference video")
            if reference.status != "ok":
                return Score.missing(f"its reference: {reference.reason}")
        if why := why_unscored(planned, sample):
            return Score.missing(why)
        if why := self.too_short(planned, generated, "generated"):
            return Score.missing(why)

        def compute() -> Score:
            assert generated.facts is not None
            theirs, found = None, {}
            if planned.reads_stored_rows:
                ours = self._features(planned, generated, "generated")
                ours |= self._text_features(planned, sample)
                if reference:
                    theirs = self._features(planned, reference, "reference")
            else:
                fresh = self._fresh(planned, sample)
                told = {name for name, asked in planned.requests.items() if gives_records(asked)}
                ours = {name: rows for name, rows in fresh.items() if name not in told}
                found = {name: fresh[name] for name in told}
            units = {
                name: request_sampling(request).units(generated.facts)
                for name, request in planned.requests.items()
                if for_role(request, "generated")
            }
            features = SampleFeatures(ours, theirs, generated.facts, units, found)
            seen = sample if "prompt" in needs else replace(sample, prompt=None)
            score = planned.metric.score(features, seen, planned.options)
            if found:
                score = replace(score, details={**score.details, **_shown(planned, generated)})
            held = self._held(planned, generated) if score.values else None
            return replace(score, notes=(*score.notes, held)) if held else score

        return guarded(planned, compute)

    @staticmethod
    def _held(planned: PlannedMetric, record: VideoRecord) -> str | None:
        """What was looked at again because it was the last, or None."""
        assert record.facts is not None
        held: dict[str, None] = {}
        for request in planned.requests.values():
            for frames in request_frames(request):
                units = frames.sampling.units(record.facts)
                same = (units == units[-1]).all(axis=1)[::-1]
                again = len(units) - 1 if same.all() else int(same.argmin()) - 1
                if again:
                    what = "frames" if units.shape[1] == 1 else "clips"
                    held[f"{again} of {len(units)} {what}"] = None
        return f"{HELD}{', '.join(held)} are the last again" if held else None

    def _fresh(self, planned: PlannedMetric, sample: Sample) -> dict[str, Any]:
        """What producers gave of a sample's video, by request name."""
        assert sample.generated is not None
        rows = self._rows[sample.generated].rows
        return {
            name: _rows_of(rows, with_prompt(request, sample))
            for name, request in planned.requests.items()
        }

    def _text_features(self, planned: PlannedMetric, sample: Sample) -> dict[str, Any]:
        """The rows of requests that look at no video."""
        return {
            name: self.looker.text_rows(with_prompt(request, sample))
            for name, request in planned.requests.items()
            if not request_frames(request)
        }

    def _features(self, planned: PlannedMetric, record: VideoRecord, role: str) -> dict[str, Any]:
        assert record.facts is not None
        features = {}
        for name, request in planned.requests.items():
            if for_role(request, role):
                key = request_key(request, self._weights)
                if why := record.refused.get(key):
                    raise AigveError(why)
                units = request_sampling(request).units(record.facts)
                features[name] = self.journal.rows(record.content, key, units)
        return features

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
        most = planned.metric.most_videos(planned.options)
        return StoredSet(
            [record for _, _, record in members[:most]],
            lambda record: self._features(planned, record, role),
        )

    def too_short(self, planned: PlannedMetric, record: VideoRecord, role: str) -> str | None:
        """Why a readable video has nothing that a metric could look at, or None."""
        assert record.facts is not None
        for request in planned.requests.values():
            why = record.refused.get(request_key(request, self._weights))
            if why and for_role(request, role) and planned.reads_stored_rows:
                return why
            for frames in request_frames(request):
                looked = frames.role in (role, "each")
                if looked and not len(frames.sampling.units(record.facts)):
                    fps = record.facts.fps
                    rate = "" if fps >= 1 else f" at {fps:g} frames a second"
                    return f"too short: {record.facts.frames} frames{rate} ({frames.sampling})"
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
            return self._no_score(planned), []
        # By content, so that the names of files do not change a bootstrap.
        scored.sort(key=lambda entry: entry[:2])
        scores = [score for _, _, score, _ in scored]
        summary = guarded(planned, lambda: planned.metric.summarise(scores))
        return summary, [record for _, _, _, record in scored]

    def _no_score(self, planned: PlannedMetric) -> Score:
        found = [s for sample in self.samples if (s := self.sample_score(planned, sample))]
        # Those that the metric is not about have no say, unless it is about none.
        scores = [score for score in found if not score.by_choice] or found
        counted = Counter(score.reason for score in scores)
        reason, times = counted.most_common(1)[0] if counted else ("", 0)
        share = f" ({times} of {len(scores)})" if len(counted) > 1 else ""
        common = f"{share}: {reason}" if reason else ""
        if scores and all(score.by_choice for score in scores):
            return scores[0]
        return Score.missing(f"no video could be scored{common}")

    def padded(self, planned: PlannedMetric, record: VideoRecord, role: str) -> int:
        """Frames that a metric has looked at and that the video does not have.

        Black ones behind its end, and of short videos those that were shown again, be it in a clip
        or in a clip that was shown again.
        """
        assert record.facts is not None
        black = repeated = 0
        looks = [frames for r in planned.requests.values() for frames in request_frames(r)]
        for frames in looks:
            if frames.role in (role, "each"):
                units = frames.sampling.units(record.facts)
                last = int(units.max()) if units.size else -1
                black = max(black, last + 1 - record.facts.frames)
                distinct = {tuple(unit) for unit in units.tolist()}
                within = sum(len(unit) - len({*unit}) for unit in distinct)
                again = (len(units) - len(distinct)) * units.shape[1]
                repeated = max(repeated, within + again)
        return max(black, 0) + repeated

    def compare(self, planned: PlannedMetric) -> tuple[Score, StoredSet, StoredSet | None]:
        """The score of the generated set, and the sets that it was made of."""
        generated = self.set_of(planned, "generated")
        reference = None
        saved = self.statistics.of(planned) if self.statistics else None
        if saved is not None and len(generated):
            metric = planned.metric
            score = guarded(
                planned, lambda: metric.compare_with_statistics(generated, saved, planned.options)
            )
            return score, generated, None
        if planned.roles() & {"reference", "each"}:
            reference = self.set_of(planned, "reference")
        if not len(generated):
            some = any(sample.generated for sample in self.samples)
            why = "no generated video could be used" if some else "there are no generated videos"
            score = Score.missing(why)
        elif "reference" in planned.metric.card.needs and not reference:
            path = self.statistics.path if self.statistics else None
            why = f"{path} has no statistics for it" if path else "no reference video could be used"
            score = Score.missing(why)
        else:
            score = guarded(
                planned,
                lambda: planned.metric.compare(generated, reference or None, planned.options),
            )
        return score, generated, reference


def _shown(planned: PlannedMetric, record: VideoRecord) -> dict[str, Any]:
    """The frames that records are about, request by request, for a score's details."""
    assert record.facts is not None
    facts = record.facts
    units = {
        name: request_sampling(request).units(facts).tolist()
        for name, request in planned.requests.items()
        if gives_records(request)
    }
    return {FRAMES_SHOWN: units}


def _rows_of(rows: Mapping[Request, Any], request: Request) -> Any:
    if isinstance(rows[request], AigveError):
        raise rows[request]
    return rows[request]


def reference_statistics(
    run: Run,
) -> tuple[dict[str, tuple[PlannedMetric, Mapping[str, Any]]], list[str]]:
    """The statistics of the reference set by metric, and why some metrics have none."""
    found: dict[str, tuple[PlannedMetric, Mapping[str, Any]]] = {}
    problems = []
    for planned in run.planned:
        metric = planned.metric
        if metric.saves_statistics() and planned.name not in found:
            try:
                reference = run.set_of(planned, "reference")
                statistics = metric.reference_statistics(reference, planned.options)
                found[planned.name] = planned, statistics
            except ValueError as error:
                problems.append(f"{planned.name} {error}.")
    return found, problems


def without_statistics(run: Run) -> list[str]:
    """Metrics that compare with a reference set, and have no statistics of it to save."""
    return [
        planned.name
        for planned in run.planned
        if "reference" in planned.metric.card.needs and not planned.metric.saves_statistics()
    ]


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
