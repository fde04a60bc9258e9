"""From scores to the records of ``results.json``: every number says where it comes from."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aigve_cli import __version__
from aigve_cli.contract import SHOWN, Extent, OptionValue, Request, Sample, Score
from aigve_cli.engine.journal import VideoRecord
from aigve_cli.engine.plan import (
    PlannedMetric,
    is_judged,
    request_frames,
    request_producers,
    request_sampling,
    unit_length,
)
from aigve_cli.engine.run import HELD, Run
from aigve_cli.judges.settings import Judges
from aigve_cli.judges.task import JudgeTask
from aigve_cli.video.ffmpeg import ffmpeg_version
from aigve_cli.video.views import view_to_text
from aigve_cli.weights import JUDGE, LOCAL_JUDGE, Located, network_card

SCHEMA_VERSION = 1
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "openai",
    "numpy",
    "scipy",
    "imageio-ffmpeg",
    "pillow",
)


def environment(device: str, precision: str) -> dict[str, Any]:
    """Versions, platform and device: what else decides the last digits."""
    facts: dict[str, Any] = {
        "ffmpeg": ffmpeg_version(),
        "aigve": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "precision": precision,
        "packages": {name: package_version(name) for name in PACKAGES},
    }
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
    return facts


def package_version(package: str) -> str | None:
    """The version of an installed distribution, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def metric_records(
    run: Run,
    planned: PlannedMetric,
    weights: Mapping[str, Located],
    judges: Judges | None,
    extent: Extent,
    precision: str,
) -> list[dict[str, Any]]:
    """One record a named value of a metric, over all videos of a run."""
    theirs: dict[str, int] | None = None
    if planned.missing:
        score, ours = Score.missing(planned.missing), _side(run, planned, "generated", [])
    elif planned.metric.compares_sets():
        score, generated, reference = run.compare(planned)
        ours = _side(run, planned, "generated", generated.records)
        if reference is not None:
            theirs = _side(run, planned, "reference", reference.records)
    else:
        score, records = run.summarise(planned)
        ours = _side(run, planned, "generated", records)
    sides = [] if any(note.startswith(HELD) for note in score.notes) else [ours, theirs]
    identity = {
        **_identity(planned, weights, extent),
        "judge": _judge_facts(planned, judges),
    }
    notes = [
        *score.notes,
        *_said_of_all(planned, precision, *sides),
        *_said_of_models(planned, weights),
        *_said_of_judges(planned, judges),
    ]
    return [
        {
            **identity,
            # A judge's arithmetic is its own.
            "precision": None if planned.asks else precision,
            "value_name": value.name,
            "value": score.values.get(value.name),
            "standard_error": score.standard_errors.get(value.name),
            "interval95": _interval(score, value.name),
            "better": value.better,
            "range": list(value.range),
            "unit": value.unit,
            "videos": ours,
            "references": theirs,
            "reference_statistics": _saved(run, planned),
            "notes": notes,
            "details": {k: v for k, v in score.details.items() if k != "interval95"},
            "reason": _reason(score, value.name),
            "by_choice": score.by_choice,
        }
        for value in planned.metric.values(planned.options)
    ]


SAID_ELSEWHERE = ("convention", "protocol", "splits", "subsets", "subset-size", "estimator")
"""Options that metrics say in notes of their own."""


def _said_of_all(
    planned: PlannedMetric, precision: str, *sides: Mapping[str, int] | None
) -> list[str]:
    """What makes a number another one than its name promises, whatever the metric."""
    if planned.missing:
        return []
    notes = (
        [] if precision == "fp32" or _states_own_numbers(planned) else [f"precision {precision}"]
    )
    notes += [
        f"{option.name}={_short(planned.options[option.name])}"
        for option in planned.metric.card.options
        if planned.options[option.name] != option.default and option.name not in SAID_ELSEWHERE
    ]
    filled = sum(side["padded_videos"] for side in sides if side)
    videos = "1 video" if filled == 1 else f"{filled} videos"
    return [*notes, f"{videos} filled up with frames"] if filled else notes


def _states_own_numbers(planned: PlannedMetric) -> bool:
    """Whether its arithmetic is a judge's, or that in which its large model was published."""
    producers = set().union(*map(request_producers, planned.requests.values()))
    return any(p.name == JUDGE.name or network_card(p.name).numbers for p in producers)


def _said_of_models(planned: PlannedMetric, weights: Mapping[str, Located]) -> list[str]:
    """Whose numbers they are, where the options do not say it."""
    notes = []
    for producer in sorted(set().union(*map(request_producers, planned.requests.values()))):
        card, here = network_card(producer.name), weights.get(producer.checkpoint)
        if here is None or card.layout == "file" or producer.weights:
            continue
        entry = card.entry()
        if here.origin == "custom":
            notes.append(f"--model {card.name}={_short(here.tag)}")
        elif not here.verified and here.published != f"{entry.hub_id}@{entry.hub_revision}":
            notes.append(f"not verified to be {entry.hub_id}")
    return list(dict.fromkeys(notes))


def _said_of_judges(planned: PlannedMetric, judges: Judges | None) -> list[str]:
    """Whose opinion it is."""
    if judges is None or not planned.asks:
        return []
    shown = judges.shown or judges.text
    notes = [f"judge {shown['model']}"]
    if dict(judges.text) != dict(shown):
        notes.append(f"texts {judges.text['model']}")
    if any("temperature" in how["asked"] for how in judges.answered):
        notes.append("the judge takes no temperature: another run may be answered otherwise")
    return notes


def _short(value: OptionValue) -> OptionValue:
    """A folder by its last name: its whole path is among the record's options."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _saved(run: Run, planned: PlannedMetric) -> dict[str, str] | None:
    """The file that a metric was compared with instead of videos."""
    if planned.missing or run.statistics is None or run.statistics.of(planned) is None:
        return None
    return {"path": str(run.statistics.path), "sha256": run.statistics.sha256}


def _reason(score: Score, name: str) -> str | None:
    if name in score.values:
        return None
    return score.reason or "the metric gives no such value for these videos"


def _interval(score: Score, name: str) -> list[float] | None:
    found = score.details.get("interval95")
    if isinstance(found, Mapping):
        found = found.get(name)
    return list(found) if found else None


def _side(
    run: Run, planned: PlannedMetric, role: str, records: Sequence[VideoRecord]
) -> dict[str, int]:
    padded = [run.padded(planned, record, role) for record in records]
    return {
        "videos": len(records),
        "padded_videos": sum(frames > 0 for frames in padded),
        "padded_frames": sum(padded),
    }


def _identity(
    planned: PlannedMetric, weights: Mapping[str, Located], extent: Extent
) -> dict[str, Any]:
    card = planned.metric.card
    producers = set().union(*(request_producers(r) for r in planned.requests.values()))
    loaded = {p.name: weights[p.checkpoint] for p in producers if p.checkpoint in weights}
    if planned.asks:
        loaded |= {
            name: here for name, here in weights.items() if name.partition(":")[0] == LOCAL_JUDGE
        }
    networks = [
        {
            "name": name.partition(":")[0],
            "weights": here.origin,
            "tag": here.tag,
            "sha256": here.sha256,
            "verified": here.verified,
            "licence": here.licence,
            "published": here.published,
            "processor": here.processor_published or str(here.processor or ""),
        }
        for name, here in sorted(loaded.items())
    ]
    return {
        "requested": planned.requested,
        "metric": card.name,
        "version": card.version,
        "category": card.category,
        "title": card.title,
        "weights": "judge" if planned.asks else _one_origin({h.origin for h in loaded.values()}),
        "networks": networks,
        "inputs": [i for name, r in planned.requests.items() for i in _inputs(name, r)],
        "extent": asdict(extent),
        "options": dict(planned.options),
        "source": card.source,
        "cite": card.cite,
        "deviations": list(card.deviations),
        "licence": card.licence,
    }


def _judge_facts(planned: PlannedMetric, judges: Judges | None) -> dict[str, Any] | None:
    """Who was asked, in which words, and how frames were shown; None where nobody was."""
    if judges is None or not planned.asks:
        return None
    asked = [request for request in planned.requests.values() if is_judged(request)]
    tasks = [s for request in asked for s in request.sources if isinstance(s, JudgeTask)]
    return {
        "shown": judges.shown,
        "text": dict(judges.text),
        "frames": ", ".join(sorted(set(map(_shown_how, asked)))),
        "prompt_versions": sorted({task.prompt_version for task in tasks}),
        "answered": judges.answered,
    }


def _shown_how(request: Request) -> str:
    single = unit_length(request_sampling(request)) == 1
    return "one frame in each request" if single else SHOWN[request.variant]


def _inputs(name: str, request: Request) -> list[dict[str, str]]:
    """What a metric has looked at, under its own name for it: one entry a look at frames."""
    producers = ", ".join(sorted(str(producer) for producer in request_producers(request)))
    return [
        {
            "name": name,
            "output": request.output,
            "producers": producers,
            "videos": frames.role,
            "view": view_to_text(frames.view),
            "sampling": str(frames.sampling),
        }
        for frames in dict.fromkeys(request_frames(request))
    ]


def _one_origin(origins: Collection[str]) -> str:
    for origin in ("custom", "standard", "embedded"):
        if origin in origins:
            return origin
    return "none"


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
            if score := run.sample_score(planned, sample):
                entry["scores"][planned.name] = {
                    "values": dict(score.values),
                    "standard_errors": dict(score.standard_errors),
                    "curve": dict(score.curve),
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
        score = run.sample_score(planned, sample)
        reasons += [score.reason] if score and score.reason and not score.by_choice else []
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
