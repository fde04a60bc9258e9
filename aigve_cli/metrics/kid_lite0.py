"""Kernel distance of frame features on the network that installs with the package."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    OptionValue,
    Request,
    Value,
)
from aigve_cli.metrics import _lite0
from aigve_cli.metrics._kernel import ALL_PAIRS_DEVIATION, ESTIMATOR_OPTIONS, KernelMetric


class KidLite0(KernelMetric):
    """Squared maximum mean discrepancy between all generated and all reference frames."""

    card = Card(
        name="kid-lite0",
        title="Kernel distance of frames, EfficientNet-Lite0",
        category="distribution_based",
        values=(Value("kid-lite0", "lower"),),
        version=1,
        needs=("reference",),
        options=ESTIMATOR_OPTIONS,
        stands_in_for="kid",
        min_videos=20,
        cite="Bińkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401",
        source="aigve: kid on the embedded network",
        deviations=(
            _lite0.NETWORK_DEVIATION,
            ALL_PAIRS_DEVIATION,
        ),
        licence=_lite0.LICENCE,
    )

    unit = "frames"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Features of both sides' frames: the same request as fid-lite0's."""
        return {"frames": _lite0.feature_frames(extent)}
