"""MIND: sliced distance between sets of features, for few samples."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, FeatureSet, OptionValue, Request, Score, Value
from aigve_cli.metrics import _features
from aigve_cli.metrics._sets import (
    RowsOf,
    SetMetric,
    Terms,
    chosen_rows_note,
    counts,
    sizes_of,
    too_few,
)
from aigve_cli.statistics.intervals import verdict
from aigve_cli.statistics.kernel import MAX_ROWS, videos_to_kernel_rows
from aigve_cli.statistics.sliced import rows_to_sliced_distance


class Mind(SetMetric):
    """How far generated rows must move to become the reference rows, over 1,000 directions."""

    card = Card(
        name="mind",
        title="Monge inception distance of frames or clips",
        category="distribution_based",
        values=(Value("mind", "lower", (0.0, None)),),
        version=1,
        needs=("reference",),
        options=_features.OPTIONS,
        only_by_name=True,
        min_videos=50,
        cite="Berthet et al., arXiv:2605.06797",
        source="torch-fidelity 5e211a9 (metric_mind)",
        deviations=(f"At most {MAX_ROWS} rows a side, chosen by hash.",),
        licence=_features.LICENCE,
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Rows of both sides, as fid or fvd sees them."""
        return {"rows": _features.feature_request(self.card.name, options, extent)}

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """The protocol's number of videos, and network and convention behind every number."""
        return _features.feature_terms(options)

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Distance of the sets."""
        if reference is None:
            return Score.missing("needs reference videos")
        unit, name = _features.feature_unit(options), self.card.name
        sides = [RowsOf(side, "rows") for side in (generated, reference)]
        sizes = {"generated": sizes_of(sides[0]), "reference": sizes_of(sides[1])}
        if reason := too_few(unit, **sizes):
            return Score.missing(reason)
        samples = [videos_to_kernel_rows(side.labelled()) for side in sides]
        result = rows_to_sliced_distance(*samples)
        fewest = min(size.videos for size in sizes.values())
        note = verdict(result.value, videos=fewest, min_videos=self.card.min_videos)
        return Score(
            values={name: result.value},
            standard_errors={name: result.standard_error},
            details={
                "interval95": list(result.interval),
                "compared_rows": result.rows,
                **counts(unit, **sizes),
            },
            notes=(
                *self.terms(options).remarks(sizes),
                *([note] if note else []),
                *chosen_rows_note(unit, *samples),
            ),
        )
