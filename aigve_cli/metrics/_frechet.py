"""Fréchet distances of one pair, of two sets, and of a set from saved statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from aigve_cli.contract import FeatureSet, OptionValue, Sample, SampleFeatures, Score
from aigve_cli.lazy import np
from aigve_cli.metrics._sets import (
    PAIR_NOTE,
    SAVED_NOTE,
    RowsOf,
    SetMetric,
    Sizes,
    Terms,
    counts,
    pair_too_few,
    sizes_of,
    too_few,
)
from aigve_cli.statistics.frechet import gaussians_to_frechet
from aigve_cli.statistics.frechet_sets import FrechetOfSets, set_to_noise_floor, sets_to_frechet
from aigve_cli.statistics.gaussian import Gaussian, moments_to_gaussian, rows_to_gaussian
from aigve_cli.statistics.intervals import verdict

if TYPE_CHECKING:
    from aigve_cli.contract import Floats

EXACT_DEVIATION = (
    "Exact Fréchet distance by singular values, without a matrix square root or an epsilon."
)


class FrechetMetric(SetMetric):
    """A Fréchet distance: a subclass has a card, a unit, requests and, by option, terms."""

    reads_moments = True
    unit: ClassVar[str]
    """What a row is, and the metric's name for its request: ``frames`` or ``clips``."""

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Distance of one generated video from its reference video."""
        reason = pair_too_few(features, self.unit)
        if reason or features.reference is None:
            return Score.missing(reason or "needs a reference video")
        rows = features.generated[self.unit], features.reference[self.unit]
        ddof = self.terms(options).ddof
        frechet = gaussians_to_frechet(*(rows_to_gaussian([side], ddof=ddof) for side in rows))
        return Score(
            values={self.card.name: frechet.value},
            details={
                "mean_term": frechet.mean_term,
                "trace_term": frechet.trace_term,
                self.unit: {"generated": len(rows[0]), "reference": len(rows[1])},
                "dimensions": int(rows[0].shape[1]),
            },
            notes=(PAIR_NOTE,),
        )

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Distance of the generated set from the reference set, with what it is worth."""
        if reference is None:
            return Score.missing("needs reference videos")
        terms = self.terms(options)
        ours, theirs = (RowsOf(side, self.unit) for side in (generated, reference))
        sizes = {"generated": sizes_of(ours), "reference": sizes_of(theirs)}
        if reason := too_few(self.unit, **sizes):
            return Score.missing(reason)
        result = sets_to_frechet(ours, theirs, ddof=terms.ddof)
        floor = set_to_noise_floor(theirs, ddof=terms.ddof)
        return self._score(result, sizes, floor, terms.remarks(sizes))

    def reference_statistics(
        self, reference: FeatureSet, options: Mapping[str, OptionValue]
    ) -> Mapping[str, Floats]:
        """Mean and covariance of a reference set, its size and its noise floor."""
        return set_to_statistics(self.unit, reference, self.terms(options))

    def compare_with_statistics(
        self,
        generated: FeatureSet,
        statistics: Mapping[str, Floats],
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Distance of the generated set from a set of which only statistics are left."""
        terms = self.terms(options)
        ours = RowsOf(generated, self.unit)
        gaussian, known = read_statistics(statistics)
        sizes = {"generated": sizes_of(ours)}
        if reason := too_few(self.unit, **sizes):
            return Score.missing(reason)
        sizes |= {"reference": known} if known else {}
        floor = float(statistics.get("noise_floor", np.array(np.nan)))
        return self._score(
            sets_to_frechet(ours, gaussian, ddof=terms.ddof),
            sizes,
            None if np.isnan(floor) else floor,
            (*terms.remarks(sizes), SAVED_NOTE),
        )

    def _score(
        self,
        result: FrechetOfSets,
        sizes: Mapping[str, Sizes],
        floor: float | None,
        notes: tuple[str, ...],
    ) -> Score:
        note = verdict(
            result.frechet.value,
            videos=min(size.videos for size in sizes.values()),
            min_videos=self.card.min_videos,
            noise_floor=floor,
            rows=min(size.rows for size in sizes.values()),
            dimensions=sizes["generated"].dimensions,
            unit=self.unit,
        )
        return Score(
            values={self.card.name: result.frechet.value},
            standard_errors={self.card.name: result.standard_error},
            details={
                "mean_term": result.frechet.mean_term,
                "trace_term": result.frechet.trace_term,
                "noise_floor": floor,
                "interval95": list(result.interval),
                **counts(self.unit, **sizes),
            },
            notes=(*notes, *([note] if note else [])),
        )


def set_to_statistics(unit: str, reference: FeatureSet, terms: Terms) -> dict[str, Floats]:
    """Mean and covariance of a reference set, its size and its noise floor.

    Raises:
        ValueError: The set has fewer than two videos with rows.
    """
    videos = RowsOf(reference, unit)
    size = sizes_of(videos)
    if reason := too_few(unit, reference=size):
        raise ValueError(reason)
    gaussian = rows_to_gaussian(videos, ddof=terms.ddof)
    floor = set_to_noise_floor(videos, ddof=terms.ddof)
    return {
        "mu": gaussian.mean,
        "sigma": gaussian.covariance,
        "rows": np.array(size.rows, np.float64),
        "videos": np.array(size.videos, np.float64),
        "noise_floor": np.array(np.nan if floor is None else floor),
    }


def read_statistics(statistics: Mapping[str, Floats]) -> tuple[Gaussian, Sizes | None]:
    """A saved Gaussian, and the size of its set where the file says it."""
    rows, videos = (int(statistics.get(name, np.array(0))) for name in ("rows", "videos"))
    gaussian = moments_to_gaussian(statistics["mu"], statistics["sigma"], rows=rows)
    return gaussian, Sizes(videos, rows, gaussian.dimensions) if rows and videos else None
