"""From the scores of single videos to the score of a run."""

from __future__ import annotations

from collections.abc import Sequence

from aigve_cli.contract import Score
from aigve_cli.statistics.intervals import bootstrap_mean


def scores_to_mean(scores: Sequence[Score]) -> Score:
    """The weighted mean of each value over videos, with a bootstrap interval over videos.

    What was noted of every video is noted of their mean.
    """
    numbers: dict[str, list[float]] = {}
    weights: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.values.items():
            numbers.setdefault(name, []).append(value)
            weights.setdefault(name, []).append(score.weight)
    single = {name: values[0] for name, values in numbers.items() if len(values) == 1}
    means = {
        name: bootstrap_mean(values, weights[name])
        for name, values in numbers.items()
        if len(values) > 1
    }
    details: dict[str, object] = {}
    if len({score.weight for score in scores}) > 1:
        details["sum of weights"] = sum(score.weight for score in scores)
    return Score(
        values={name: mean.value for name, mean in means.items()} | single,
        standard_errors={name: mean.standard_error for name, mean in means.items()},
        details={
            **details,
            "interval95": {name: list(mean.interval) for name, mean in means.items()},
        },
        notes=(*(("one video: no interval",) if single else ()), *_common_notes(scores)),
    )


def _common_notes(scores: Sequence[Score]) -> list[str]:
    return [note for note in scores[0].notes if all(note in score.notes for score in scores)]
