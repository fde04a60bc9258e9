"""Fréchet distances extrapolated to unlimited generated videos, of sets or saved statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from aigve_cli.contract import FeatureSet, Option, OptionValue, Score
from aigve_cli.metrics._frechet import read_statistics, set_to_statistics
from aigve_cli.metrics._sets import (
    SAVED_NOTE,
    RowsOf,
    SetMetric,
    Sizes,
    chosen_rows_note,
    counts,
    sizes_of,
    too_few,
)
from aigve_cli.statistics.infinity import MAX_ROWS, rows_to_frechet_infinity
from aigve_cli.statistics.intervals import three_digits, verdict
from aigve_cli.statistics.kernel import videos_to_kernel_rows

if TYPE_CHECKING:
    from aigve_cli.contract import Floats
    from aigve_cli.statistics.gaussian import Gaussian

OPTIONS = (
    Option("min-size", 0, "Videos of the smallest subset; 0 is 5,000, or half of them.", minimum=0),
    Option("points", 15, "Subsets, from the smallest to all videos.", minimum=2),
)
DEVIATIONS = (
    "Subsets take whole videos rather than single frames, which would hide most of the bias.",
    "Small sets begin with half of their videos instead of 5,000.",
)
CITE = "Chong and Forsyth 2020, Effectively Unbiased FID and Inception Score, arXiv:1911.07023"
SOURCE = "mchong6/FID_IS_infinity (sizes, shuffles, line)"


class FrechetInfinityMetric(SetMetric):
    """An extrapolated distance: a subclass has a card, a unit, requests and, by option, terms."""

    reads_moments = True
    unit: ClassVar[str]
    """What a row is, and the metric's name for its request: ``frames`` or ``clips``."""

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Extrapolated distance of the generated set from the reference set."""
        if reference is None:
            return Score.missing("needs reference videos")
        theirs = RowsOf(reference, self.unit)
        size = sizes_of(theirs)
        if reason := too_few(self.unit, reference=size):
            return Score.missing(reason)
        return self._extrapolate(generated, theirs, size, options)

    def reference_statistics(
        self, reference: FeatureSet, options: Mapping[str, OptionValue]
    ) -> Mapping[str, Floats]:
        """Mean and covariance of a reference set."""
        return set_to_statistics(self.unit, reference, self.terms(options))

    def compare_with_statistics(
        self,
        generated: FeatureSet,
        statistics: Mapping[str, Floats],
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Extrapolated distance of the generated set from saved statistics."""
        gaussian, size = read_statistics(statistics)
        return self._extrapolate(generated, gaussian, size, options)

    def _extrapolate(
        self,
        generated: FeatureSet,
        reference: RowsOf | Gaussian,
        reference_size: Sizes | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        terms = self.terms(options)
        videos = RowsOf(generated, self.unit)
        size = sizes_of(videos)
        if size.videos < 4:
            return Score.missing(f"needs at least 4 generated videos; there are {size.videos}")
        least = int(options["min-size"])
        if least and not 2 <= least < size.videos:
            return Score.missing(
                f"min-size={least} must lie from 2 to {size.videos - 1}, below the number of "
                "generated videos"
            )
        sample = videos_to_kernel_rows(videos.labelled(), max_rows=MAX_ROWS)
        result = rows_to_frechet_infinity(
            sample,
            reference,
            min_size=least or None,
            points=int(options["points"]),
            ddof=terms.ddof,
        )
        sizes = {"generated": size} | ({"reference": reference_size} if reference_size else {})
        note = verdict(
            result.value,
            videos=size.videos,
            min_videos=self.card.min_videos,
            # Below two rows a dimension the extrapolation is a guess, not only biased.
            rows=size.rows // 2,
            dimensions=size.dimensions,
            unit=self.unit,
        )
        notes = [*terms.remarks(sizes), f"measured {three_digits(result.distances[-1])}"]
        if reference_size:
            left = three_digits(result.slope / reference_size.videos)
            notes.append(f"the reference's own bias, about {left}, stays")
        notes += [] if result.reference_counts else [SAVED_NOTE]
        name = self.card.name
        return Score(
            values={name: result.value},
            standard_errors={name: result.standard_error},
            details={
                "interval95": list(result.interval),
                "slope": result.slope,
                "subset_videos": list(result.sizes),
                "subset_distances": list(result.distances),
                **counts(self.unit, **sizes),
            },
            notes=(*notes, *([note] if note else []), *chosen_rows_note(self.unit, sample)),
        )
