"""MIND: sliced distance between sets of features, for few samples."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, OptionValue, Score, Value
from aigve_cli.metrics import _features
from aigve_cli.statistics.kernel import MAX_ROWS, KernelRows
from aigve_cli.statistics.sliced import rows_to_sliced_distance


class Mind(_features.FeatureMetric):
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

    def measure(
        self, generated: KernelRows, reference: KernelRows, options: Mapping[str, OptionValue]
    ) -> Score:
        """Distance of the sets of rows."""
        result = rows_to_sliced_distance(generated, reference)
        return Score(
            values={self.card.name: result.value},
            standard_errors={self.card.name: result.standard_error},
            details={"interval95": list(result.interval), "compared_rows": result.rows},
        )
