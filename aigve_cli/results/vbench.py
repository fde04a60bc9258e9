"""VBench's table: Quality, Semantic and Total of its sixteen dimensions, and its files of results.

The arithmetic is that of Vchitect/VBench 45e79ec (Apache-2.0), scripts/cal_final_score.py and
constant.py: each dimension is brought to a scale by a fixed least and greatest value, without being
clipped, and weighted. VBench counts a dimension that is missing as 0 before it is brought to scale;
here there is then no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aigve_cli.dataset.textfiles import read_text, text_to_json
from aigve_cli.errors import UsageError
from aigve_cli.results.files import write_result

PREFIX = "vbench-"
RESULTS = "vbench_results.json"
"""The file in VBench's own layout."""
LARGEST = 2.0
"""No dimension is further from 0: what is may be a percentage."""
QUALITY_SHARE, SEMANTIC_SHARE = 4, 1
"""Of the two scores in the total."""


class Scale(NamedTuple):
    """How a dimension counts."""

    least: float
    greatest: float
    weight: float = 1.0


QUALITY: Mapping[str, Scale] = {
    "subject_consistency": Scale(0.1462, 1.0),
    "background_consistency": Scale(0.2615, 1.0),
    "temporal_flickering": Scale(0.6293, 1.0),
    "motion_smoothness": Scale(0.706, 0.9975),
    "aesthetic_quality": Scale(0.0, 1.0),
    "imaging_quality": Scale(0.0, 1.0),
    "dynamic_degree": Scale(0.0, 1.0, 0.5),
}
SEMANTIC: Mapping[str, Scale] = {
    "object_class": Scale(0.0, 1.0),
    "multiple_objects": Scale(0.0, 1.0),
    "human_action": Scale(0.0, 1.0),
    "color": Scale(0.0, 1.0),
    "spatial_relationship": Scale(0.0, 1.0),
    "scene": Scale(0.0, 0.8222),
    "appearance_style": Scale(0.0009, 0.2855),
    "temporal_style": Scale(0.0, 0.364),
    "overall_consistency": Scale(0.0, 0.364),
}
DIMENSIONS: Mapping[str, Scale] = {**QUALITY, **SEMANTIC}


@dataclass(frozen=True)
class Totals:
    """The three scores, each None where a dimension that it needs is missing."""

    values: Mapping[str, float]
    """Of the dimensions that there are, as they were measured."""
    normalised: Mapping[str, float]
    """The same, brought to scale."""
    quality: float | None
    semantic: float | None
    total: float | None
    missing: tuple[str, ...]
    """Dimensions that there are not."""


def values_to_totals(values: Mapping[str, float]) -> Totals:
    """The scores of dimensions by VBench's names; other names are not read."""
    known = {name: float(values[name]) for name in DIMENSIONS if name in values}
    normalised = {
        name: (value - DIMENSIONS[name].least)
        / (DIMENSIONS[name].greatest - DIMENSIONS[name].least)
        for name, value in known.items()
    }
    quality, semantic = _weighted(normalised, QUALITY), _weighted(normalised, SEMANTIC)
    total = None
    if quality is not None and semantic is not None:
        shares = QUALITY_SHARE + SEMANTIC_SHARE
        total = (QUALITY_SHARE * quality + SEMANTIC_SHARE * semantic) / shares
    missing = tuple(name for name in DIMENSIONS if name not in known)
    return Totals(known, normalised, quality, semantic, total, missing)


def _weighted(normalised: Mapping[str, float], scales: Mapping[str, Scale]) -> float | None:
    if not scales.keys() <= normalised.keys():
        return None
    weighted = sum(normalised[name] * scale.weight for name, scale in scales.items())
    return weighted / sum(scale.weight for scale in scales.values())


def dimension_to_metric(dimension: str) -> str:
    """Our name of a dimension."""
    return PREFIX + dimension.replace("_", "-")


def document_to_values(document: Mapping[str, Any]) -> dict[str, float]:
    """The dimensions in the content of a ``results.json``, by VBench's names."""
    values = {record["value_name"]: record["value"] for record in document["results"]}
    found = {name: values.get(dimension_to_metric(name)) for name in DIMENSIONS}
    return {name: value for name, value in found.items() if value is not None}


def document_to_lines(document: Mapping[str, Any], *, whole: bool) -> list[str]:
    """What people are told of the three scores behind a run with VBench's dimensions.

    Args:
        document: The content of a ``results.json``.
        whole: Whether the videos are those of VBench's suite: else there is nothing to tell.
    """
    values = document_to_values(document)
    if not (whole and values):
        return []
    changed = changed_arithmetic(document)
    more = [f"These are not VBench's own numbers: {', '.join(changed)}."] if changed else []
    return totals_to_lines(values_to_totals(values)) + more


def changed_arithmetic(document: Mapping[str, Any]) -> list[str]:
    """The settings by which dimensions are not VBench's own."""
    found = set()
    for record in document["results"]:
        if str(record["value_name"]).startswith(PREFIX):
            options = record.get("options") or {}
            found |= {f"mode={options['mode']}"} if options.get("mode") == "fixed" else set()
            found |= {f"style={options['style']}"} if options.get("style") else set()
    return sorted(found)


def totals_to_lines(totals: Totals) -> list[str]:
    """The scores in words, and what is missing for those that there are not."""
    scores = (
        ("quality score", totals.quality, QUALITY),
        ("semantic score", totals.semantic, SEMANTIC),
        ("total score", totals.total, DIMENSIONS),
    )
    lines = []
    for name, score, needed in scores:
        if score is not None:
            lines.append(f"VBench's {name}: {score:.4f}")
        else:
            lacking = [dimension for dimension in needed if dimension in totals.missing]
            lines.append(f"VBench has no {name} without {', '.join(lacking)}.")
    return lines


def document_to_vbench(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The content of a ``results.json`` as VBench writes its own: by dimension, score and videos.

    A video's imaging quality is on 0..100 there, and its dynamic degree and human action are true
    or false.
    """
    written: dict[str, list[Any]] = {}
    for name, value in document_to_values(document).items():
        metric = dimension_to_metric(name)
        videos = []
        for video in document["videos"]:
            score = video["scores"].get(metric, {}).get("values", {}).get(metric)
            if score is not None:
                result = _as_vbench(name, score)
                videos.append({"video_path": video["sample"], "video_results": result})
        written[name] = [value, videos]
    return written


def _as_vbench(dimension: str, score: float) -> float | bool:
    if dimension == "imaging_quality":
        return score * 100
    return bool(score) if dimension in ("dynamic_degree", "human_action") else score


def read_values(path: Path) -> dict[str, float]:
    """The dimensions of a file: VBench's results, or a ``results.json`` of ours.

    Raises:
        UsageError: The file is missing, or of another kind.
    """
    content = _read_json(path)
    values = document_to_values(content) if _is_ours(content) else _vbench_to_values(content, path)
    if not values:
        raise UsageError(f"'{path}' has none of VBench's dimensions.")
    return values


def _read_json(path: Path) -> Any:
    return text_to_json(read_text(path, "File of results"), path, "File of results")


def _is_ours(content: Any) -> bool:
    """Whether it is a ``results.json``, as far as it is read here."""
    if not isinstance(content, dict) or "schema_version" not in content:
        return False
    records, videos = content.get("results"), content.get("videos")
    return (
        isinstance(records, list)
        and isinstance(videos, list)
        and all(isinstance(r, dict) and {"value_name", "value"} <= r.keys() for r in records)
        and all(isinstance(v, dict) and isinstance(v.get("scores"), dict) for v in videos)
    )


def write_vbench(files: Sequence[Path], target: Path) -> None:
    """Write one ``results.json`` of ours in VBench's layout.

    Raises:
        UsageError: Several files are named, or one of another kind.
    """
    if any(path.resolve() == target.resolve() for path in files):
        raise UsageError(f"--out-json '{target}' is the file that is read: name another.")
    content = _read_json(files[0])
    if len(files) != 1 or not _is_ours(content):
        raise UsageError(
            "--out-json takes one results.json of aigve: VBench's own are as they are."
        )
    write_result(target, document_to_vbench(content))


def _vbench_to_values(content: Any, path: Path) -> dict[str, float]:
    if not isinstance(content, dict):
        raise UsageError(
            f"'{path}' is no file of results: an object with VBench's dimensions is expected."
        )
    values: dict[str, float] = {}
    for key, entry in content.items():
        name = key.strip().lower().replace(" ", "_")
        if name not in DIMENSIONS:
            continue
        score = entry[0] if isinstance(entry, list) and entry else entry
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise UsageError(f"'{path}': '{key}' has no number as its score.")
        if not abs(score) <= LARGEST:
            raise UsageError(
                f"'{path}': '{key}' is {str(score)[:12]}, where VBench's dimensions are about 0 "
                "to 1."
            )
        if values.get(name, float(score)) != score:
            raise UsageError(f"'{path}' has two scores of {name}.")
        values[name] = float(score)
    return values


def merge_values(files: Sequence[tuple[Path, Mapping[str, float]]]) -> dict[str, float]:
    """The dimensions of several files together.

    Raises:
        UsageError: A dimension is in two of them with different scores.
    """
    merged: dict[str, float] = {}
    origin: dict[str, Path] = {}
    for path, values in files:
        for name, value in values.items():
            if name in merged and merged[name] != value:
                raise UsageError(
                    f"{name} is {merged[name]:g} in '{origin[name]}' and {value:g} in '{path}'.",
                    hint="Name each dimension's file once.",
                )
            merged[name] = value
            origin.setdefault(name, path)
    return merged
