"""Precision, recall, density and coverage of generated features among real ones."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    FeatureSet,
    Option,
    OptionValue,
    Request,
    Score,
    Value,
)
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
from aigve_cli.statistics.neighbours import rows_to_neighbours

VALUES = ("precision", "recall", "f-score", "density", "coverage")


class Prdc(SetMetric):
    """Do generated rows lie among real ones (precision, density), and all over (the others)?"""

    card = Card(
        name="prdc",
        title="Precision, recall, density and coverage of frames or clips",
        category="distribution_based",
        values=tuple(
            Value(name, "higher", (0.0, None if name == "density" else 1.0)) for name in VALUES
        ),
        version=1,
        needs=("reference",),
        options=(
            *_features.OPTIONS,
            Option("k-precision", 3, "Neighbours for precision and recall.", minimum=1),
            Option("k-density", 5, "Neighbours for density and coverage.", minimum=1),
        ),
        only_by_name=True,
        min_videos=50,
        cite="Kynkäänniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797",
        source="torch-fidelity 5e211a9 (precision, recall); prdc 82db9ac (density, coverage)",
        deviations=(
            f"At most {MAX_ROWS} rows a side, chosen by hash.",
            "Standard errors take the other set as fixed, so they are too small.",
        ),
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
        """How the sets lie in each other."""
        if reference is None:
            return Score.missing("needs reference videos")
        unit = _features.feature_unit(options)
        sides = [RowsOf(side, "rows") for side in (generated, reference)]
        sizes = {"generated": sizes_of(sides[0]), "reference": sizes_of(sides[1])}
        if reason := too_few(unit, **sizes):
            return Score.missing(reason)
        near, close = int(options["k-precision"]), int(options["k-density"])
        if min(size.rows for size in sizes.values()) <= max(near, close):
            return Score.missing(f"{max(near, close)} neighbours need more {unit} a side")
        samples = [videos_to_kernel_rows(side.labelled()) for side in sides]
        result = rows_to_neighbours(
            *samples,
            precision_neighbours=near,
            density_neighbours=close,
        )
        means = {name: getattr(result, name.replace("-", "_")) for name in VALUES}
        fewest = min(size.videos for size in sizes.values())
        note = verdict(result.precision.value, videos=fewest, min_videos=self.card.min_videos)
        return Score(
            values={name: mean.value for name, mean in means.items()},
            standard_errors={name: mean.standard_error for name, mean in means.items()},
            details={
                "interval95": {name: list(mean.interval) for name, mean in means.items()},
                **counts(unit, **sizes),
            },
            notes=(
                *self.terms(options).remarks(sizes),
                *([note] if note else []),
                *chosen_rows_note(unit, *samples),
            ),
        )
