"""Results as rows for people and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aigve_cli.output import Column

RESULT_COLUMNS = (
    Column("metric", "METRIC"),
    Column("value", "VALUE", right=True, error="standard_error"),
    Column("standard_error", "± SE", right=True),
    Column("better", "BETTER"),
    Column("videos", "VIDEOS", right=True),
    Column("weights", "WEIGHTS"),
    Column("requested", "FOR"),
    Column("note", "NOTE", wrap=True),
)

PLAN_COLUMNS = (
    Column("metric", "METRIC"),
    Column("requested", "FOR"),
    Column("producers", "PRODUCERS", wrap=True),
    Column("sampling", "SAMPLING", wrap=True),
    Column("view", "VIEW", wrap=True),
    Column("options", "OPTIONS", wrap=True),
)


def records_to_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a value; the note is why there is no number, or what a reader should know of it."""
    return [
        {
            "metric": record["value_name"],
            "value": record["value"],
            "standard_error": record["standard_error"],
            "better": record["better"],
            "videos": record["videos"]["videos"],
            "weights": record["weights"],
            "requested": record["requested"],
            "note": record["reason"] or "; ".join(record["notes"]),
        }
        for record in records
    ]
