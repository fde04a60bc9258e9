"""Kernel distances of one pair, of two sets, and of a set from the saved rows of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from aigve_cli.contract import (
    FeatureSet,
    Option,
    OptionValue,
    Sample,
    SampleFeatures,
    Score,
)
from aigve_cli.lazy import np
from aigve_cli.metrics._sets import (
    PAIR_NOTE,
    RowsOf,
    SetMetric,
    Sizes,
    chosen_rows_note,
    counts,
    pair_too_few,
    sizes_of,
    too_few,
)
from aigve_cli.statistics.intervals import verdict
from aigve_cli.statistics.kernel import (
    MAX_ROWS,
    KernelRows,
    rows_to_kernel_distance,
    rows_to_kernel_subsets,
    rows_to_unbiased_mmd,
    videos_to_kernel_rows,
)

if TYPE_CHECKING:
    from aigve_cli.contract import Floats

ALL_PAIRS_DEVIATION = (
    f"All pairs of rows, up to {MAX_ROWS} a side chosen by hash, instead of random subsets: "
    "deterministic, and less variance. estimator=subsets gives the published form."
)
ESTIMATOR_OPTIONS = (
    Option(
        "estimator",
        "all-pairs",
        "all-pairs is exact and unbiased; subsets averages random subsets, as torch-fidelity does, "
        "of at most 10,000 rows a side.",
        choices=("all-pairs", "subsets"),
    ),
    Option("subsets", 100, "Number of subsets (estimator=subsets).", minimum=1),
    Option("subset-size", 1000, "Rows in each (estimator=subsets).", minimum=2),
)


class KernelMetric(SetMetric):
    """A kernel distance: a subclass has a card, a unit, requests and, by option, terms."""

    unit: ClassVar[str]
    """What a row is, and the metric's name for its request: ``frames`` or ``clips``."""

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Distance of one generated video from its reference video, over all pairs of rows."""
        reason = pair_too_few(features, self.unit)
        if reason or features.reference is None:
            return Score.missing(reason or "needs a reference video")
        rows = features.generated[self.unit], features.reference[self.unit]
        return Score(
            values={self.card.name: rows_to_unbiased_mmd(*rows)},
            details={
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
        theirs = RowsOf(reference, self.unit)
        size = sizes_of(theirs)
        if reason := too_few(self.unit, reference=size):
            return Score.missing(reason)
        sample = videos_to_kernel_rows(theirs.labelled())
        return self._compare(generated, sample, size, _noise_floor(theirs), options)

    def reference_statistics(
        self, reference: FeatureSet, options: Mapping[str, OptionValue]
    ) -> Mapping[str, Floats]:
        """The rows of a reference set that its distances use, and its noise floor.

        Raises:
            ValueError: The set has fewer than two videos with rows.
        """
        videos = RowsOf(reference, self.unit)
        size = sizes_of(videos)
        if reason := too_few(self.unit, reference=size):
            raise ValueError(reason)
        sample, floor = videos_to_kernel_rows(videos.labelled()), _noise_floor(videos)
        return {
            "rows": sample.rows,
            "video": sample.video.astype(np.float64),
            "total": np.array(sample.total, np.float64),
            "videos": np.array(size.videos, np.float64),
            "noise_floor": np.array(np.nan if floor is None else floor),
        }

    def compare_with_statistics(
        self,
        generated: FeatureSet,
        statistics: Mapping[str, Floats],
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Distance of the generated set from a set of which chosen rows are left."""
        rows, total = statistics["rows"], int(statistics["total"])
        sample = KernelRows(rows, statistics["video"].astype(np.int64), total)
        floor = float(statistics["noise_floor"])
        size = Sizes(int(statistics["videos"]), total, rows.shape[1])
        return self._compare(generated, sample, size, None if np.isnan(floor) else floor, options)

    def _compare(
        self,
        generated: FeatureSet,
        theirs: KernelRows,
        their_size: Sizes,
        floor: float | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        terms = self.terms(options)
        videos = RowsOf(generated, self.unit)
        sizes = {"generated": sizes_of(videos), "reference": their_size}
        if reason := too_few(self.unit, **sizes):
            return Score.missing(reason)
        ours = videos_to_kernel_rows(videos.labelled())
        result = rows_to_kernel_distance(ours, theirs)
        value, notes = result.value, [*terms.remarks(sizes)]
        details = {
            "between_videos": result.between_videos,
            "noise_floor": floor,
            "interval95": list(result.interval),
            **counts(self.unit, **sizes),
        }
        if options.get("estimator") == "subsets":
            count, drawn = int(options["subsets"]), int(options["subset-size"])
            if drawn > min(len(ours.rows), len(theirs.rows)):
                return Score.missing(
                    f"subsets of {drawn} {self.unit} need as many a side; there are "
                    f"{len(ours.rows)} generated and {len(theirs.rows)} reference {self.unit} "
                    f"(--set {self.card.name}.subset-size=N, or estimator=all-pairs)"
                )
            value, deviation = rows_to_kernel_subsets(
                ours.rows, theirs.rows, subsets=count, size=drawn
            )
            details |= {"all_pairs": result.value, "subset_deviation": deviation}
            # As wide as that of all pairs, to first order.
            details["interval95"] = [
                bound - result.value + value
                for bound in (result.interval.low, result.interval.high)
            ]
            notes.append(f"± {deviation:.3g} over {count} subsets of {drawn}")
        note = verdict(
            value,
            videos=min(size.videos for size in sizes.values()),
            min_videos=self.card.min_videos,
            noise_floor=floor,
        )
        notes += [note] if note else []
        notes += chosen_rows_note(self.unit, ours, theirs)
        return Score(
            values={self.card.name: value},
            standard_errors={self.card.name: result.standard_error},
            details=details,
            notes=tuple(notes),
        )


def _noise_floor(videos: RowsOf) -> float | None:
    """Kernel distance of a set's even-numbered videos from its odd-numbered ones, if it has two."""
    halves = [
        videos_to_kernel_rows(v for i, v in enumerate(videos.labelled()) if i % 2 == half)
        for half in (0, 1)
    ]
    if min(len(half.rows) for half in halves) < 2:
        return None
    return rows_to_unbiased_mmd(halves[0].rows, halves[1].rows)
