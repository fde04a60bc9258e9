"""From a finished run to its document, its files, its exit code and its last words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aigve_cli.engine.memory import Fit
from aigve_cli.engine.run import Run
from aigve_cli.engine.setup import Plan
from aigve_cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL
from aigve_cli.judges.settings import Judges
from aigve_cli.output import Output
from aigve_cli.results import files, records, vbench
from aigve_cli.weights import Located

FAILURES_SHOWN = 10


def run_to_document(
    fit: Fit,
    run: Run,
    located: Mapping[str, Located],
    judges: Judges | None,
    device: str,
    precision: str,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """What ``results.json`` holds; set metrics are computed here, from what was stored."""
    plan, dataset = fit.plan, fit.plan.dataset
    entries = records.video_entries(run, dataset.video_dir)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for planned in plan.metrics:
        if planned.name not in by_name:
            own = fit.precision_of(planned, precision)
            made = records.metric_records(run, planned, located, judges, plan.extent, own)
            by_name[planned.name] = made
    return {
        "schema_version": records.SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": records.environment(device, precision),
        "dataset": {
            "video_dir": str(dataset.video_dir),
            "prompt_dir": dataset.prompt_dir,
            "generated": len(dataset.generated),
            "references": len(dataset.references),
            "pairs": len(dataset.pairs),
            "left_out": [
                {"path": str(left.path), "reason": left.reason} for left in dataset.left_out
            ],
        },
        "counts": {**asdict(run.looker.counts), "failed": len(records.failures(entries))},
        "results": [
            {**record, "requested": planned.requested}
            for planned in plan.metrics
            for record in by_name[planned.name]
        ],
        "substitutions": [
            {
                "requested": planned.requested,
                "metric": planned.name,
                "why": planned.why,
            }
            for planned in plan.metrics
            if planned.substituted
        ],
        "videos": entries,
        "warnings": [*dataset.notes, *warnings],
    }


def write_document(plan: Plan, document: Mapping[str, Any], folder: Path) -> None:
    """Write ``results.json`` and the files that today's readers know."""
    # Without generated videos there is nothing that today's readers could read.
    for planned in plan.computed if document["dataset"]["generated"] else ():
        own = [r for r in document["results"] if r["metric"] == planned.name]
        files.write_historical(folder, planned, own, document["videos"])
    table = vbench.document_to_vbench(document) if plan.dataset.suite is not None else {}
    if table and not vbench.changed_arithmetic(document):
        files.write_result(folder / vbench.RESULTS, table)
    else:
        # That of an earlier run would stand for this one.
        (folder / vbench.RESULTS).unlink(missing_ok=True)
    files.write_result(folder / files.RESULTS, document)


def document_to_exit_code(document: Mapping[str, Any], *, strict: bool) -> int:
    """0 all done, 1 nothing could be scored (or ``strict``), 3 partial."""
    numbers = [record["value"] for record in document["results"] if not record["by_choice"]]
    if not document["dataset"]["generated"]:
        # Only the statistics of a reference set were wanted.
        return EXIT_PARTIAL if document["counts"]["failed"] else EXIT_DONE
    if numbers and all(value is None for value in numbers):
        return EXIT_FAILED
    complete = (
        None not in numbers
        and not document["counts"]["failed"]
        and not any(entry["excluded"] for entry in document["videos"])
    )
    if complete:
        return EXIT_DONE
    return EXIT_FAILED if strict else EXIT_PARTIAL


def report_failures(document: Mapping[str, Any], output: Output) -> None:
    """Say which videos failed, or were of no use to a metric, and why."""
    failed = records.failures(document["videos"])
    if failed:
        output.warn(f"{len(failed)} video{'s' * (len(failed) > 1)} failed:")
        for path, reason in failed[:FAILURES_SHOWN]:
            output.warn(f"  {path}: {reason}")
        if len(failed) > FAILURES_SHOWN:
            output.warn(f"  and {len(failed) - FAILURES_SHOWN} more, all in results.json")
    unused: dict[str, list[tuple[str, str]]] = {}
    for entry in document["videos"]:
        if any(file and file.get("reason") for file in (entry["generated"], entry["reference"])):
            continue  # said above
        for metric, why in entry["excluded"].items():
            unused.setdefault(metric, []).append((entry["sample"], why))
    for metric, videos in unused.items():
        name, why = videos[0]
        output.warn(
            f"{metric}: {len(videos)} video{'s' * (len(videos) > 1)} not used, first: {name}: {why}"
        )
    for path in document["dataset"]["left_out"]:
        output.detail(f"left out: {path['path']}: {path['reason']}")
