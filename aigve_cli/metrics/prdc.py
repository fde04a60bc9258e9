"""Precision, recall, density and coverage of generated features among real ones."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Option, OptionValue, Score, Value
from aigve_cli.metrics import _features
from aigve_cli.statistics.kernel import MAX_ROWS, KernelRows
from aigve_cli.statistics.neighbours import rows_to_neighbours

CROWD_NOTE = (
    "rows of one video are each other's neighbours, so balls are small: with one row a video "
    "(--max-len 1, or features=i3d) numbers tell more"
)
VALUES = ("precision", "recall", "f-score", "density", "coverage")


class Prdc(_features.FeatureMetric):
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

    def measure(
        self, generated: KernelRows, reference: KernelRows, options: Mapping[str, OptionValue]
    ) -> Score:
        """How the rows lie in each other."""
        near, close = int(options["k-precision"]), int(options["k-density"])
        fewest = min(len(generated.rows), len(reference.rows))
        if fewest <= max(near, close):
            return Score.missing(f"{max(near, close)} neighbours need more rows than {fewest}")
        result = rows_to_neighbours(
            generated, reference, precision_neighbours=near, density_neighbours=close
        )
        means = {name: getattr(result, name.replace("-", "_")) for name in VALUES}
        crowded = any(len(s.rows) > s.video[-1] + 1 for s in (generated, reference))
        return Score(
            values={name: mean.value for name, mean in means.items()},
            standard_errors={name: mean.standard_error for name, mean in means.items()},
            details={"interval95": {name: list(mean.interval) for name, mean in means.items()}},
            notes=(CROWD_NOTE,) if crowded else (),
        )
