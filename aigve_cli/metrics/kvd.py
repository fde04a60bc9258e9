"""KVD: kernel distance of I3D logits of clips, set against set; unbiased, unlike FVD."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, OptionValue, Request, Value
from aigve_cli.metrics import _clips, _i3d
from aigve_cli.metrics._kernel import ALL_PAIRS_DEVIATION, ESTIMATOR_OPTIONS, KernelMetric
from aigve_cli.metrics._sets import Terms


class Kvd(KernelMetric):
    """Squared maximum mean discrepancy between all generated and all reference clips."""

    card = Card(
        name="kvd",
        title="Kernel video distance of clips, I3D",
        category="distribution_based",
        values=(Value("kvd", "lower"),),
        version=1,
        needs=("reference",),
        options=(*_i3d.OPTIONS, *ESTIMATOR_OPTIONS),
        min_videos=50,
        cite="Unterthiner et al. 2018, Towards Accurate Generative Models of Video, "
        "arXiv:1812.01717",
        source="torch-fidelity 5e211a9 (kernel and subsets); clips and views as fvd",
        deviations=(ALL_PAIRS_DEVIATION, _clips.SETS_DEVIATION),
        licence=_i3d.LICENCE,
    )

    unit = "clips"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """I3D logits of both sides' clips: the same request as fvd's."""
        return {"clips": _i3d.i3d_request(self.card.name, options, extent)}

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """The convention and the protocol's number of videos."""
        return _i3d.i3d_terms(options)
