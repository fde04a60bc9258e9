"""KID as published: kernel distance of 2015-Inception features, set against set."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, OptionValue, Request, Value
from aigve_cli.metrics import _inception
from aigve_cli.metrics._kernel import ALL_PAIRS_DEVIATION, ESTIMATOR_OPTIONS, KernelMetric


class Kid(KernelMetric):
    """Squared maximum mean discrepancy between all generated and all reference frames."""

    card = Card(
        name="kid",
        title="Kernel inception distance of frames",
        category="distribution_based",
        values=(Value("kid", "lower"),),
        version=1,
        needs=("reference",),
        options=(_inception.CONVENTION, *ESTIMATOR_OPTIONS),
        min_videos=20,
        cite="Bińkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401",
        source="torch-fidelity 5e211a9 (kernel and subsets); views as fid",
        deviations=(ALL_PAIRS_DEVIATION, _inception.SETS_DEVIATION),
        licence=_inception.LICENCE,
    )

    unit = "frames"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Features of both sides' frames: the same request as fid's."""
        return {
            "frames": _inception.inception_request(options, extent, output="features", role="each")
        }
