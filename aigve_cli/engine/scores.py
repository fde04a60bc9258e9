"""A metric's scores: made without harm to the rest of a run, and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aigve_cli.contract import Score
from aigve_cli.engine.plan import PlannedMetric
from aigve_cli.errors import AigveError, SetupError


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
        "by_choice": score.by_choice,
        "settled": score.settled,
        "weight": score.weight if score.weight != 1 else None,
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
        by_choice=stored.get("by_choice", False),
        settled=stored.get("settled", False),
        weight=stored.get("weight", 1.0),
    )
