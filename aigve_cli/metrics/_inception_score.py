"""Inception score of one video and of a set, on any classifier's logits."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    FeatureSet,
    Option,
    OptionValue,
    Sample,
    SampleFeatures,
    Score,
)
from aigve_cli.metrics._sets import RowsOf, SetMetric, are, counts, sizes_of, too_few
from aigve_cli.statistics.inception_score import logits_to_inception_score
from aigve_cli.statistics.intervals import normal_interval, three_digits, verdict

SPLITS = Option("splits", 10, "Parts whose scores are averaged.", minimum=1)


class InceptionScoreMetric(SetMetric):
    """An inception score: a subclass has a card and a request ``frames`` for class logits."""

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Score of one video's frames, in one split."""
        logits = features.generated["frames"]
        if len(logits) < 2:
            return Score.missing(f"needs at least 2 frames; there {are(len(logits))}")
        result = logits_to_inception_score([logits], splits=1)
        return Score(
            values={self.card.name: result.value},
            details={"frames": result.rows, "splits": 1},
            notes=("the score of one video's frames; it is not the score of the set",),
        )

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Score of the set of frames."""
        name, splits = self.card.name, int(options["splits"])
        videos = RowsOf(generated, "frames")
        size = sizes_of(videos)
        if reason := too_few("frames", generated=size):
            return Score.missing(reason)
        if size.rows < splits:
            return Score.missing(
                f"needs at least one frame for each of {splits} splits; there are {size.rows}"
            )
        result = logits_to_inception_score(videos, splits=splits)
        error = result.standard_error
        interval = None if error is None else list(normal_interval(result.value, error, least=1.0))
        note = verdict(result.value, videos=size.videos, min_videos=self.card.min_videos)
        deviation = f"± {three_digits(result.split_deviation)} over {splits} splits"
        return Score(
            values={name: result.value},
            standard_errors={} if error is None else {name: error},
            details={
                "split_deviation": result.split_deviation,
                "splits": splits,
                "interval95": interval,
                **counts("frames", generated=size),
            },
            notes=(*self.terms(options).notes, deviation, *([note] if note else [])),
        )
