"""Result files: ``results.json``, and the files that today's readers know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from aigve_cli.contract import Historical
from aigve_cli.dataset.textfiles import write_json
from aigve_cli.engine.plan import PlannedMetric
from aigve_cli.errors import SetupError

RESULTS = "results.json"
PAIR_NOTE = (
    "video_results holds distances between one generated video and its reference; "
    "the distance of the whole sets stands under the metric's own name"
)

VIDEO_NOTE = (
    "video_results holds scores of single videos; the score of the whole set stands under the "
    "metric's own name"
)


def results_schema() -> dict[str, Any]:
    """The JSON schema that every ``results.json`` validates against."""
    text = files("aigve_cli.results").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def write_result(path: Path, document: Any) -> None:
    """Write a result file whole or not at all.

    Raises:
        SetupError: The file cannot be written.
    """
    try:
        write_json(path, document)
    except OSError as error:
        raise SetupError(
            f"Cannot write {path}: {error.strerror}.",
            hint="The journal is kept: mend that and run the same command again.",
        ) from error


def write_historical(
    folder: Path,
    planned: PlannedMetric,
    records: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
) -> Path | None:
    """Today's result file of a metric, where it has one; the path written."""
    historical = planned.metric.card.historical
    if historical is None:
        return None
    path = folder / historical.file
    write_result(path, historical_document(historical, planned, records, entries))
    return path


def historical_document(
    historical: Historical,
    planned: PlannedMetric,
    records: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """``video_results``, today's mean, and the set's own value beside them."""
    value_name = planned.metric.card.values[0].name
    rows: list[dict[str, Any]] = []
    for entry in entries:
        if entry["generated"] is None:
            continue
        score = entry["scores"].get(planned.name, {})
        row = {historical.generated_key: entry["generated"]["path"]}
        if historical.reference_key:
            reference = entry["reference"]
            row = {historical.reference_key: reference["path"] if reference else None, **row}
        row[historical.score_key] = score.get("values", {}).get(value_name)
        if score.get("reason"):
            row["reason"] = score["reason"]
        rows.append(row)
    numbers = [row[historical.score_key] for row in rows if row[historical.score_key] is not None]
    document: dict[str, Any] = {
        "video_results": rows,
        historical.mean_key: sum(numbers) / len(numbers) if numbers else None,
    }
    if not numbers:
        document["reason"] = "no video has a score of its own"
    if planned.metric.compares_sets():
        record = next(record for record in records if record["value_name"] == value_name)
        document["note"] = PAIR_NOTE if historical.reference_key else VIDEO_NOTE
        document[value_name] = {
            key: record[key]
            for key in ("value", "standard_error", "interval95", "weights", "notes", "reason")
        }
    return document
