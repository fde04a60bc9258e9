"""From scores to the records of ``results.json``: every number says where it comes from."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aigve_cli import __version__
from aigve_cli.contract import Extent, Sample, Score
from aigve_cli.engine.journal import VideoRecord
from aigve_cli.engine.plan import (
    PlannedMetric,
    request_frames,
    request_producers,
    request_sampling,
)
from aigve_cli.engine.run import Run, StoredSet, json_to_score
from aigve_cli.statistics.intervals import bootstrap_mean
from aigve_cli.video.views import view_to_text
from aigve_cli.weights import Located

SCHEMA_VERSION = 1
PACKAGES = ("torch", "torchvision", "timm", "transformers", "numpy", "scipy", "imageio-ffmpeg")


def environment(device: str, precision: str) -> dict[str, Any]:
    """Versions, platform and device: what else decides the last digits."""
    facts: dict[str, Any] = {
        "aigve": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "precision": precision,
        "packages": {name: _version(name) for name in PACKAGES},
    }
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def metric_records(
    run: Run,
    planned: PlannedMetric,
    weights: Mapping[str, Located],
    extent: Extent,
) -> list[dict[str, Any]]:
    """One record a named value of a metric, over all videos of a run."""
    if planned.metric.compares_sets():
        score, generated, reference = run.compare(planned)
        used = {
            "videos": _side(generated.records),
            "references": _side(reference.records) if isinstance(reference, StoredSet) else None,
        }
    else:
        score, records = _mean_over_videos(run, planned)
        used = {"videos": _side(records), "references": None}
    return [
        {
            **_identity(planned, weights, extent),
            "value_name": value.name,
            "value": score.values.get(value.name),
            "standard_error": score.standard_errors.get(value.name),
            "interval95": _interval(score, value.name),
            "better": value.better,
            "range": list(value.range),
            "unit": value.unit,
            **used,
            "notes": list(score.notes),
            "details": {k: v for k, v in score.details.items() if k != "interval95"},
            "reason": score.reason if value.name not in score.values else None,
        }
        for value in planned.metric.card.values
    ]


def _interval(score: Score, name: str) -> list[float] | None:
    found = score.details.get("interval95")
    if isinstance(found, Mapping):
        found = found.get(name)
    return list(found) if found else None


def _side(records: Sequence[VideoRecord]) -> dict[str, int]:
    return {
        "videos": len(records),
        "padded_videos": sum(record.padded > 0 for record in records),
        "padded_frames": sum(record.padded for record in records),
    }


def _identity(
    planned: PlannedMetric, weights: Mapping[str, Located], extent: Extent
) -> dict[str, Any]:
    card = planned.metric.card
    names = sorted(set().union(*(request_producers(r) for r in planned.requests.values())))
    networks = [
        {
            "name": name,
            "weights": weights[name].origin,
            "tag": weights[name].tag,
            "sha256": weights[name].sha256,
            "verified": weights[name].verified,
            "licence": weights[name].licence,
        }
        for name in names
        if name in weights
    ]
    origins: set[str] = {weights[name].origin for name in names if name in weights}
    first = next(iter(planned.requests.values()))
    return {
        "requested": planned.requested,
        "metric": card.name,
        "version": card.version,
        "category": card.category,
        "title": card.title,
        "weights": _one_origin(origins),
        "networks": networks,
        "producers": names,
        "view": view_to_text(request_frames(first)[0].view),
        "sampling": str(request_sampling(first)),
        "extent": asdict(extent),
        "options": dict(planned.options),
        "source": card.source,
        "cite": card.cite,
        "deviations": list(card.deviations),
        "licence": card.licence,
    }


def _one_origin(origins: set[str]) -> str:
    for origin in ("custom", "standard", "embedded"):
        if origin in origins:
            return origin
    return "none"


def _mean_over_videos(run: Run, planned: PlannedMetric) -> tuple[Score, list[VideoRecord]]:
    """Default summary of a metric that scores videos: means, with bootstrap intervals."""
    values: dict[str, list[float]] = {}
    records: list[VideoRecord] = []
    for sample in run.samples:
        score = sample_score(run, planned, sample)
        if sample.generated is None or score is None or score.reason:
            continue
        records.append(run.records[sample.generated])
        for name, value in score.values.items():
            values.setdefault(name, []).append(value)
    if not records:
        return Score.missing("no video could be scored"), []
    if len(records) == 1:
        only = {name: numbers[0] for name, numbers in values.items()}
        return Score(values=only, notes=("one video: no interval",)), records
    means = {name: bootstrap_mean(numbers) for name, numbers in values.items()}
    summary = Score(
        values={name: mean.value for name, mean in means.items()},
        standard_errors={name: mean.standard_error for name, mean in means.items()},
        details={"interval95": {name: list(mean.interval) for name, mean in means.items()}},
    )
    return summary, records


def sample_score(run: Run, planned: PlannedMetric, sample: Sample) -> Score | None:
    """The journalled score of a sample, None if this metric does not score videos."""
    record = run.journal.samples.get(sample.name)
    stored = record.scores.get(planned.name) if record else None
    return json_to_score(stored) if stored else None


def video_entries(run: Run, base: Path) -> list[dict[str, Any]]:
    """One entry a sample: its files, what became of them, and its scores."""
    entries = []
    for sample in run.samples:
        entry: dict[str, Any] = {
            "sample": sample.name,
            "generated": _file_entry(run, sample.generated, base),
            "reference": _file_entry(run, sample.reference, base),
            "prompt": sample.prompt,
            "scores": {},
        }
        for planned in run.planned:
            if score := sample_score(run, planned, sample):
                entry["scores"][planned.name] = {
                    "values": dict(score.values),
                    "reason": score.reason,
                    "notes": list(score.notes),
                    "details": dict(score.details),
                }
        entry["excluded"] = {
            planned.name: why for planned in run.planned if (why := _excluded(run, planned, sample))
        }
        entries.append(entry)
    return entries


def _file_entry(run: Run, path: Path | None, base: Path) -> dict[str, Any] | None:
    if path is None:
        return None
    record = run.records.get(path)
    entry: dict[str, Any] = {"path": path_to_text(path, base)}
    if record is None:
        return {**entry, "status": "not needed", "reason": None, "sha256": None}
    entry["status"] = record.status
    entry["reason"] = record.reason
    entry["sha256"] = None if record.content.startswith("path:") else record.content
    if record.facts:
        entry |= asdict(record.facts)
        entry["whole"] = record.whole
        entry["codec"] = record.codec
        entry["padded"] = record.padded
    return entry


def _excluded(run: Run, planned: PlannedMetric, sample: Sample) -> str | None:
    """Why a sample's videos are not in what a metric computed over all videos."""
    reasons = []
    for role, path in (("generated", sample.generated), ("reference", sample.reference)):
        record = run.records.get(path) if path else None
        if record is None:
            continue
        if not planned.roles() & {role, "each"}:
            continue
        if record.status != "ok":
            reasons.append(f"{role}: {record.reason}")
        elif why := run.too_short(planned, record, role):
            reasons.append(f"{role}: {why}")
    if not planned.metric.compares_sets() and not reasons:
        score = sample_score(run, planned, sample)
        reasons += [score.reason] if score and score.reason else []
    return "; ".join(reasons) or None


def path_to_text(path: Path, base: Path) -> str:
    """Relative to the data set's folder where that is possible."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def failures(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each file that could not be used, and why, in order, once."""
    found: dict[str, str] = {}
    for entry in entries:
        for role in ("generated", "reference"):
            file = entry[role]
            if file and file.get("reason"):
                found.setdefault(file["path"], file["reason"])
    return list(found.items())
